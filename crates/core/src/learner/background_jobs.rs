//! Background jobs. The learner applies the result of a job at a journal offset that is fixed in
//! advance, however long the job takes.

use std::time::Duration;

/// A background job: a closure that owns its inputs and returns its result.
pub type BackgroundJob<T> = Box<dyn FnOnce() -> T + Send>;

/// Runs one job at a time, either inline or on a separate thread. The learned state is the same in
/// both cases, because the learner applies the result at a fixed journal offset.
pub trait BackgroundJobs<T>: Send {
    /// Starts a job. The caller must have taken the result of the previous job.
    fn start(&mut self, job: BackgroundJob<T>);

    /// Waits at most `longest` for the started job to end. Returns whether no job is running any more;
    /// [`BackgroundJobs::take_result`] then does not wait.
    fn wait(&mut self, longest: Duration) -> bool;

    /// Waits for the started job to end and returns its result.
    ///
    /// # Errors
    /// [`JobLost`] if there is no result.
    fn take_result(&mut self) -> Result<T, JobLost>;
}

/// The reason why a background job returned no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JobLost {
    /// The job panicked.
    #[error("the background job panicked")]
    Panicked,
    /// No job was started.
    #[error("no background job was started")]
    NotStarted,
    /// The worker ended before it could run the job, because the program ends.
    #[error("the background worker has stopped")]
    WorkerStopped,
}

/// Runs each job on the thread of the caller.
#[derive(Debug)]
pub struct InlineJobs<T>(Option<T>);

impl<T> Default for InlineJobs<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: Send> BackgroundJobs<T> for InlineJobs<T> {
    fn start(&mut self, job: BackgroundJob<T>) {
        self.0 = Some(job());
    }

    fn wait(&mut self, _: Duration) -> bool {
        true
    }

    fn take_result(&mut self) -> Result<T, JobLost> {
        self.0.take().ok_or(JobLost::NotStarted)
    }
}
