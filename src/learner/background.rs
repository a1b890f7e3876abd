//! Work that runs beside the fold and comes back at a set border.

/// A job: everything it needs moved in, its result handed out.
pub type Job<T> = Box<dyn FnOnce() -> T + Send>;

/// Runs one job at a time. Whether it runs on a thread of its own or at once makes no difference to what is learned: the fold takes the result at a set
/// offset, neither earlier nor later.
pub trait Background<T>: Send {
    /// Begins a job. The one before must have been finished.
    fn start(&mut self, job: Job<T>);

    /// The result of the job begun last, waiting for it if need be.
    ///
    /// # Errors
    /// [`Lost`] if no job was begun, or if it died.
    fn finish(&mut self) -> Result<T, Lost>;
}

/// A background job gave no result: it panicked, or was never begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a background job gave no result")]
pub struct Lost;

/// Runs each job at once, on the caller's thread.
#[derive(Debug)]
pub struct Inline<T>(Option<T>);

impl<T> Default for Inline<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: Send> Background<T> for Inline<T> {
    fn start(&mut self, job: Job<T>) {
        self.0 = Some(job());
    }

    fn finish(&mut self) -> Result<T, Lost> {
        self.0.take().ok_or(Lost)
    }
}
