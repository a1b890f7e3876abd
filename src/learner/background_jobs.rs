//! Background jobs whose results are applied at fixed offsets.

/// A job. It owns its inputs and returns its result.
pub type BackgroundJob<T> = Box<dyn FnOnce() -> T + Send>;

/// Runs one job at a time, either inline or on a separate thread. The learned state is the same in
/// both cases, because the learner takes the result at a fixed offset.
pub trait BackgroundJobs<T>: Send {
    /// Starts a job. The previous job must have been finished.
    fn start(&mut self, job: BackgroundJob<T>);

    /// Returns the result of the last job, and waits for it if necessary.
    ///
    /// # Errors
    /// [`JobLost`] if no job was started, or if the job panicked.
    fn finish(&mut self) -> Result<T, JobLost>;
}

/// A background job returned no result: it panicked, or no job was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the background job returned no result: it panicked or was never started")]
pub struct JobLost;

/// Runs each job inline, on the caller's thread.
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

    fn finish(&mut self) -> Result<T, JobLost> {
        self.0.take().ok_or(JobLost)
    }
}
