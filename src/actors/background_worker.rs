//! A thread for jobs that run beside the fold.

use actix::{Actor, Addr, Handler, Message, SyncArbiter, SyncContext};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::time::Instant;

use metrics::{Counter, Histogram};
use tracing::Span;

use crate::learner::{BackgroundJob, BackgroundJobs, JobLost};

/// One job at a time, on a thread of its own.
#[derive(Debug)]
struct WorkerActor;

impl Actor for WorkerActor {
    type Context = SyncContext<Self>;
}

#[derive(Message)]
#[rtype(result = "()")]
struct RunJob(Box<dyn FnOnce() + Send>, Counter);

impl Handler<RunJob> for WorkerActor {
    type Result = ();

    fn handle(&mut self, RunJob(job, panics): RunJob, _: &mut Self::Context) {
        // A job that panics drops its sender with it, which the waiting side sees; the thread goes
        // on.
        if catch_unwind(AssertUnwindSafe(job)).is_err() {
            panics.increment(1);
            tracing::error!("a background job panicked");
        }
    }
}

/// Hands jobs to a thread of its own and takes their results back at the border. The recall actor
/// is one of these, which clusters; the trainer is another.
#[derive(Debug)]
pub struct BackgroundWorker<T> {
    worker: Addr<WorkerActor>,
    span: fn() -> Span,
    seconds: Histogram,
    panics: Counter,
    running: Option<Receiver<T>>,
}

impl<T: Send + 'static> BackgroundWorker<T> {
    /// Starts the thread, which does each job in a `span` and records how long it takes and how
    /// many panicked. Must be called within an actix system.
    #[must_use]
    pub fn start(span: fn() -> Span, seconds: Histogram, panics: Counter) -> Self {
        Self { worker: SyncArbiter::start(1, || WorkerActor), span, seconds, panics, running: None }
    }

    /// Another master for the same thread, where the one before is gone; its job, if one is under
    /// way, is waited for.
    #[must_use]
    pub fn new_replacement(&self) -> Self {
        let (worker, seconds, panics) = (self.worker.clone(), self.seconds.clone(), self.panics.clone());
        Self { worker, span: self.span, seconds, panics, running: None }
    }
}

impl<T: Send + 'static> BackgroundWorker<T> {
    /// Whether a job is under way, or its result not yet taken.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.running.is_some()
    }

    /// The result of the job begun last, if there is one already.
    pub fn poll_result(&mut self) -> Option<Result<T, JobLost>> {
        let outcome = match self.running.as_ref()?.try_recv() {
            Ok(result) => Ok(result),
            Err(TryRecvError::Empty) => return None,
            Err(TryRecvError::Disconnected) => Err(JobLost),
        };
        self.running = None;
        Some(outcome)
    }
}

impl<T: Send + 'static> BackgroundJobs<T> for BackgroundWorker<T> {
    fn start(&mut self, job: BackgroundJob<T>) {
        let (result, running) = sync_channel(1);
        self.running = Some(running);
        // At most one job is ever under way, so the mailbox holds at most one.
        let (span, seconds) = (self.span, self.seconds.clone());
        let run = move || {
            let began = Instant::now();
            let _ = result.send(span().in_scope(job));
            seconds.record(began.elapsed());
        };
        self.worker.do_send(RunJob(Box::new(run), self.panics.clone()));
    }

    fn finish(&mut self) -> Result<T, JobLost> {
        self.running.take().ok_or(JobLost)?.recv().map_err(|_| JobLost)
    }
}
