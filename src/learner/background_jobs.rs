//! Work that runs beside the fold and comes back at a set border.

/// A job: everything it needs moved in, its result handed out.
pub type BackgroundJob<T> = Box<dyn FnOnce() -> T + Send>;

/// Runs one job at a time. Whether it runs on a thread of its own or at once makes no difference to
/// what is learned: the fold takes the result at a set offset, neither earlier nor later.
pub trait BackgroundJobs<T>: Send {
    /// Begins a job. The one before must have been finished.
    fn start(&mut self, job: BackgroundJob<T>);

    /// The result of the job begun last, waiting for it if need be.
    ///
    /// # Errors
    /// [`JobLost`] if no job was begun, or if it died.
    fn finish(&mut self) -> Result<T, JobLost>;
}

/// A background job gave no result: it panicked, or was never begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a background job gave no result")]
pub struct JobLost;

/// Runs each job at once, on the caller's thread.
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
