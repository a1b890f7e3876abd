//! A thread for jobs that run beside the fold.

use actix::{Actor, Addr, Handler, Message, SyncArbiter, SyncContext};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Instant;

use metrics::Histogram;

use crate::learning::{Background, Job, Lost};

/// One job at a time, on a thread of its own.
#[derive(Debug)]
struct Worker;

impl Actor for Worker {
    type Context = SyncContext<Self>;
}

#[derive(Message)]
#[rtype(result = "()")]
struct Run(Box<dyn FnOnce() + Send>);

impl Handler<Run> for Worker {
    type Result = ();

    fn handle(&mut self, Run(job): Run, _: &mut Self::Context) {
        // A job that panics drops its sender with it, which the waiting side sees; the thread goes on.
        if catch_unwind(AssertUnwindSafe(job)).is_err() {
            tracing::error!("a background job panicked");
        }
    }
}

/// Hands jobs to a thread of its own and takes their results back at the border. The recall actor is one of these, which clusters; the trainer is another.
#[derive(Debug)]
pub struct Beside<T> {
    worker: Addr<Worker>,
    seconds: Histogram,
    running: Option<Receiver<T>>,
}

impl<T: Send + 'static> Beside<T> {
    /// Starts the thread, which records how long each job takes. Must be called within an actix system.
    #[must_use]
    pub fn start(seconds: Histogram) -> Self {
        Self { worker: SyncArbiter::start(1, || Worker), seconds, running: None }
    }
}

impl<T: Send + 'static> Background<T> for Beside<T> {
    fn start(&mut self, job: Job<T>) {
        let (result, running) = sync_channel(1);
        self.running = Some(running);
        // At most one job is ever under way, so the mailbox holds at most one.
        let seconds = self.seconds.clone();
        self.worker.do_send(Run(Box::new(move || {
            let began = Instant::now();
            let _ = result.send(job());
            seconds.record(began.elapsed());
        })));
    }

    fn finish(&mut self) -> Result<T, Lost> {
        self.running.take().ok_or(Lost)?.recv().map_err(|_| Lost)
    }
}
