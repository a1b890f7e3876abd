//! Background threads for jobs that run in parallel to the learner.

use actix::{Actor, Addr, Handler, Message, SyncArbiter, SyncContext};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError, sync_channel};
use std::time::{Duration, Instant};

use metrics::{Counter, Histogram};
use tracing::Span;

use crate::learner::{BackgroundJob, BackgroundJobs, JobLost};
use crate::metrics::ThreadRole;

/// Lowers the scheduling priority of the calling thread, so that learning yields to requests when
/// the processors are busy. On an idle machine, the priority has no effect. If the system refuses
/// the change, the priority stays as it is.
pub(super) fn lower_thread_priority() {
    const NICENESS: i32 = 5;
    let _ = rustix::process::nice(NICENESS);
}

/// Runs one job at a time on its own thread.
#[derive(Debug)]
struct WorkerActor;

impl Actor for WorkerActor {
    type Context = SyncContext<Self>;
}

#[derive(Message)]
#[rtype(result = "()")]
struct RunJob(Box<dyn FnOnce() + Send>);

impl Handler<RunJob> for WorkerActor {
    type Result = ();

    fn handle(&mut self, RunJob(job): RunJob, _: &mut Self::Context) {
        job();
    }
}

/// Runs jobs on a background thread, one at a time, and returns their results. Training, clustering
/// and the checkpoint writer each have their own worker.
#[derive(Debug)]
pub struct BackgroundWorker<T> {
    worker: Addr<WorkerActor>,
    span: fn() -> Span,
    seconds: Histogram,
    panics: Counter,
    running: Option<Receiver<Result<T, JobLost>>>,
    /// The result of a finished job that was not taken yet.
    finished: Option<Result<T, JobLost>>,
}

impl<T: Send + 'static> BackgroundWorker<T> {
    /// Starts the thread. The thread runs each job in a new `span`, and records the duration of
    /// each job and the number of panics. The caller must be within an actix system.
    #[must_use]
    pub fn start_thread(role: ThreadRole, span: fn() -> Span, seconds: Histogram, panics: Counter) -> Self {
        Self {
            worker: SyncArbiter::start(1, move || {
                role.name_current_thread();
                lower_thread_priority();
                WorkerActor
            }),
            span,
            seconds,
            panics,
            running: None,
            finished: None,
        }
    }

    /// Returns a new handle to the same thread, for a new learner. If a job of the old handle is
    /// still running, the first job of the new handle waits until it has finished.
    #[must_use]
    pub fn new_replacement(&self) -> Self {
        let (worker, seconds, panics) = (self.worker.clone(), self.seconds.clone(), self.panics.clone());
        Self { worker, span: self.span, seconds, panics, running: None, finished: None }
    }
}

impl<T: Send + 'static> BackgroundWorker<T> {
    /// Whether a job is running, or its result has not been taken yet.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.running.is_some() || self.finished.is_some()
    }

    /// Takes the result of the last job. Returns `None` if the job is still running, if its result
    /// was already taken, or if no job was started.
    pub fn poll_result(&mut self) -> Option<Result<T, JobLost>> {
        if let Some(running) = &self.running {
            match running.try_recv() {
                Ok(result) => self.record_finished(result),
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => self.record_finished(Err(JobLost::WorkerStopped)),
            }
        }
        self.finished.take()
    }

    fn record_finished(&mut self, result: Result<T, JobLost>) {
        (self.running, self.finished) = (None, Some(result));
    }
}

impl<T: Send + 'static> BackgroundJobs<T> for BackgroundWorker<T> {
    fn start(&mut self, job: BackgroundJob<T>) {
        let (sender, running) = sync_channel(1);
        self.running = Some(running);
        // This handle has at most one outstanding job, so the unbounded mailbox cannot accumulate
        // jobs.
        let (span, seconds, panics) = (self.span, self.seconds.clone(), self.panics.clone());
        let run = move || {
            let began = Instant::now();
            // After a panic, the thread continues with the next job.
            let outcome = catch_unwind(AssertUnwindSafe(|| span().in_scope(job)));
            if outcome.is_err() {
                panics.increment(1);
                tracing::error!("a background job panicked");
            }
            let _ = sender.send(outcome.map_err(|_| JobLost::Panicked));
            seconds.record(began.elapsed());
        };
        self.worker.do_send(RunJob(Box::new(run)));
    }

    fn wait(&mut self, longest: Duration) -> bool {
        let Some(running) = &self.running else { return true };
        match running.recv_timeout(longest) {
            Ok(result) => self.record_finished(result),
            Err(RecvTimeoutError::Timeout) => return false,
            Err(RecvTimeoutError::Disconnected) => self.record_finished(Err(JobLost::WorkerStopped)),
        }
        true
    }

    fn take_result(&mut self) -> Result<T, JobLost> {
        if let Some(finished) = self.finished.take() {
            return finished;
        }
        // If the worker stops, it drops the job together with the sender.
        self.running.take().ok_or(JobLost::NotStarted)?.recv().map_err(|_| JobLost::WorkerStopped)?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start_worker() -> BackgroundWorker<u32> {
        BackgroundWorker::start_thread(ThreadRole::Other, Span::none, Histogram::noop(), Counter::noop())
    }

    /// Regression test: if a program ended during a training, the log said that the training had
    /// panicked.
    #[test]
    fn a_stopped_worker_differs_from_a_panic() {
        let system = actix::System::new();
        let mut worker = system.block_on(async { start_worker() });
        assert_eq!(worker.take_result(), Err(JobLost::NotStarted));
        let run = |worker: &mut BackgroundWorker<u32>, job: BackgroundJob<u32>| {
            worker.start(job);
            system.block_on(async {
                loop {
                    match worker.poll_result() {
                        Some(outcome) => return outcome,
                        None => tokio::time::sleep(std::time::Duration::from_millis(1)).await,
                    }
                }
            })
        };
        assert_eq!(run(&mut worker, Box::new(|| panic!("for a test"))), Err(JobLost::Panicked));
        assert_eq!(run(&mut worker, Box::new(|| 7)), Ok(7), "the thread survives a panic");
        assert!(worker.wait(Duration::ZERO), "no job is running");
        let (release, released) = sync_channel::<()>(1);
        worker.start(Box::new(move || released.recv().map_or(0, |()| 9)));
        system.block_on(async { tokio::time::sleep(Duration::from_millis(1)).await });
        assert!(!worker.wait(Duration::from_millis(1)), "the job waits for its release");
        release.send(()).unwrap();
        assert!(worker.wait(Duration::from_secs(60)));
        assert!(worker.is_busy(), "the result was not taken yet");
        assert!(worker.wait(Duration::ZERO), "a second call does not lose the result");
        assert_eq!(worker.take_result(), Ok(9));
        assert!(!worker.is_busy());
        // The system delivers no message any more, and drops this one.
        worker.start(Box::new(|| 8));
        drop(system);
        assert_eq!(worker.take_result(), Err(JobLost::WorkerStopped));
    }
}
