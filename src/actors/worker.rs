//! A thread for jobs that run beside the fold.

use actix::{Actor, Addr, Handler, Message, SyncArbiter, SyncContext};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::time::Instant;

use metrics::{Counter, Histogram};
use tracing::Span;

use crate::learner::{Background, Job, Lost};

/// One job at a time, on a thread of its own.
#[derive(Debug)]
struct Worker;

impl Actor for Worker {
    type Context = SyncContext<Self>;
}

#[derive(Message)]
#[rtype(result = "()")]
struct Run(Box<dyn FnOnce() + Send>, Counter);

impl Handler<Run> for Worker {
    type Result = ();

    fn handle(&mut self, Run(job, panics): Run, _: &mut Self::Context) {
        // A job that panics drops its sender with it, which the waiting side sees; the thread goes on.
        if catch_unwind(AssertUnwindSafe(job)).is_err() {
            panics.increment(1);
            tracing::error!("a background job panicked");
        }
    }
}

/// Hands jobs to a thread of its own and takes their results back at the border. The recall actor is one of these, which clusters; the trainer is another.
#[derive(Debug)]
pub struct Beside<T> {
    worker: Addr<Worker>,
    span: fn() -> Span,
    seconds: Histogram,
    panics: Counter,
    running: Option<Receiver<T>>,
}

impl<T: Send + 'static> Beside<T> {
    /// Starts the thread, which does each job in a `span` and records how long it takes and how many panicked. Must be called within an actix system.
    #[must_use]
    pub fn start(span: fn() -> Span, seconds: Histogram, panics: Counter) -> Self {
        Self { worker: SyncArbiter::start(1, || Worker), span, seconds, panics, running: None }
    }

    /// Another master for the same thread, where the one before is gone; its job, if one is under way, is waited for.
    #[must_use]
    pub fn another(&self) -> Self {
        let (worker, seconds, panics) = (self.worker.clone(), self.seconds.clone(), self.panics.clone());
        Self { worker, span: self.span, seconds, panics, running: None }
    }
}

impl<T: Send + 'static> Beside<T> {
    /// Whether a job is under way, or its result not yet taken.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.running.is_some()
    }

    /// The result of the job begun last, if there is one already.
    pub fn finished(&mut self) -> Option<Result<T, Lost>> {
        let outcome = match self.running.as_ref()?.try_recv() {
            Ok(result) => Ok(result),
            Err(TryRecvError::Empty) => return None,
            Err(TryRecvError::Disconnected) => Err(Lost),
        };
        self.running = None;
        Some(outcome)
    }
}

impl<T: Send + 'static> Background<T> for Beside<T> {
    fn start(&mut self, job: Job<T>) {
        let (result, running) = sync_channel(1);
        self.running = Some(running);
        // At most one job is ever under way, so the mailbox holds at most one.
        let (span, seconds) = (self.span, self.seconds.clone());
        let run = move || {
            let began = Instant::now();
            let _ = result.send(span().in_scope(job));
            seconds.record(began.elapsed());
        };
        self.worker.do_send(Run(Box::new(run), self.panics.clone()));
    }

    fn finish(&mut self) -> Result<T, Lost> {
        self.running.take().ok_or(Lost)?.recv().map_err(|_| Lost)
    }
}
