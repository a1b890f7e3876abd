//! Tests of the waits for background jobs.

use super::*;
use crate::candidates::ClusterSettings;
use std::sync::atomic::{AtomicBool, Ordering};

/// Runs jobs inline, and fails a test that takes a result without having waited for it.
struct AwaitedJobs<T> {
    jobs: InlineJobs<T>,
    was_awaited: bool,
    /// Whether the job takes longer than a caller waits.
    is_slow: Arc<AtomicBool>,
}

impl<T> AwaitedJobs<T> {
    fn new(is_slow: &Arc<AtomicBool>) -> Self {
        Self { jobs: InlineJobs::default(), was_awaited: false, is_slow: Arc::clone(is_slow) }
    }
}

impl<T: Send> BackgroundJobs<T> for AwaitedJobs<T> {
    fn start(&mut self, job: crate::learner::BackgroundJob<T>) {
        self.was_awaited = false;
        self.jobs.start(job);
    }

    fn wait(&mut self, _: Duration) -> bool {
        self.was_awaited = !self.is_slow.load(Ordering::Relaxed);
        self.was_awaited
    }

    fn take_result(&mut self) -> Result<T, JobLost> {
        assert!(self.was_awaited, "the learner waits for a job without bound");
        self.jobs.take_result()
    }
}

/// An actor that applies entries only after [`Learner::wait_for_due_jobs`] never waits for longer
/// than it has asked for.
#[test]
fn no_entry_waits_for_a_job_after_the_due_jobs_were_awaited() {
    let clusters = ClusterSettings { every: 24, lag: 7, most: 4, ..ClusterSettings::default() };
    let settings = LearnerConfig { clusters, ..small_settings() };
    let mut fixture = LearnerFixture::new(settings.clone(), Arc::default(), None);
    let is_slow = Arc::new(AtomicBool::new(false));
    fixture.learner.training = Box::new(AwaitedJobs::new(&is_slow));
    fixture.learner.clustering = Box::new(AwaitedJobs::new(&is_slow));
    let longest = Duration::from_millis(20);
    let mut waits = Vec::new();
    for (offset, entry) in (0..).zip(ring_journal(200)) {
        if let Entry::Event(Event { item_id: Some(item), .. }) = &entry {
            fixture.dictionary.intern(item);
        }
        is_slow.store(true, Ordering::Relaxed);
        if !fixture.learner.wait_for_due_jobs(longest) {
            waits.push(offset + 1);
        }
        is_slow.store(false, Ordering::Relaxed);
        assert!(fixture.learner.wait_for_due_jobs(longest));
        fixture.learner.apply(offset, &entry).unwrap();
    }
    let training = settings.learning.interval;
    // The first weights come into use at offset 32, so the first clustering starts at offset 48.
    let is_due = |next: u64| next.is_multiple_of(training) || next > 48 && next % 24 == 7;
    assert_eq!(waits, (1..=200).filter(|next| is_due(*next)).collect::<Vec<_>>());
    is_slow.store(true, Ordering::Relaxed);
    assert!(!fixture.learner.wait_for_all_jobs(longest));
    is_slow.store(false, Ordering::Relaxed);
    assert!(fixture.learner.wait_for_all_jobs(longest));
    fixture.learner.state().unwrap();
}
