//! A bounded queue of events and the thread that sends them.

use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};
use std::time::Duration;

use crate::error::SequorError;
use crate::event::Event;
use crate::receipts::Receipt;

/// What [`track`](crate::SequorClient::track) does if the queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    /// Waits for space. In `on_lost`, drops the event and counts it, because `on_lost` runs in the
    /// thread that makes space.
    Block,
    /// Drops the event and counts it.
    Drop,
}

/// A function that gets events that are lost, and the reason. The thread that sends events calls it,
/// so it should return soon. It can track events and close the client.
pub type OnLost = Arc<dyn Fn(&[Event], &SequorError) + Send + Sync>;

/// How events are queued and sent.
#[derive(Clone)]
pub struct BufferOptions {
    /// The buffer sends a batch when this many events are queued: 1 to `capacity`.
    pub max_batch: usize,
    /// The buffer sends an incomplete batch after this time.
    pub flush_interval: Duration,
    /// The largest number of queued events.
    pub capacity: usize,
    /// What `track` does if the queue is full.
    pub when_full: WhenFull,
    /// How long `close` and the drop of the client wait for the queue.
    pub close_timeout: Duration,
    /// Gets every event that is lost: rejected, refused, or unsent at the close. If a request is
    /// without a response at the close, its events can be stored: the error is
    /// [`SequorError::UnknownOutcome`]. The default logs an error with the crate `log`.
    pub on_lost: OnLost,
}

impl Default for BufferOptions {
    /// 500 events, 1 s, 10,000 events, `Block`, 10 s.
    fn default() -> Self {
        Self {
            max_batch: 500,
            flush_interval: Duration::from_secs(1),
            capacity: 10_000,
            when_full: WhenFull::Block,
            close_timeout: Duration::from_secs(10),
            on_lost: Arc::new(log_lost_events),
        }
    }
}

impl fmt::Debug for BufferOptions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("BufferOptions")
            .field("max_batch", &self.max_batch)
            .field("flush_interval", &self.flush_interval)
            .field("capacity", &self.capacity)
            .field("when_full", &self.when_full)
            .field("close_timeout", &self.close_timeout)
            .finish_non_exhaustive()
    }
}

fn log_lost_events(events: &[Event], error: &SequorError) {
    log::error!("{} events failed: {error}", events.len());
}

/// Numbers of events. Every event that was tracked is in exactly one of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct BufferStats {
    /// Events that are not acknowledged yet.
    pub queued: u64,
    /// Events that the daemon has stored.
    pub accepted: u64,
    /// Events that were stored by an earlier attempt whose response was lost.
    pub duplicates: u64,
    /// Events that were not stored, because their users have not given consent.
    pub withheld: u64,
    /// Invalid events.
    pub rejected: u64,
    /// Events that the full queue did not take.
    pub dropped: u64,
    /// Events that the daemon refused, or that had no response at the close.
    pub failed: u64,
}

/// Sends a batch until the daemon has stored or refused it. The second argument waits before a
/// retry; it returns false if the buffer has given the batch up.
pub(crate) type SendBatch = dyn Fn(&[Event], &dyn Fn(Duration) -> bool) -> Result<Receipt, SequorError> + Send + Sync;

/// Sends events from a thread, in the order in which they were added.
///
/// A batch counts as queued until the daemon has stored or refused it. The thread starts with the
/// first event.
pub(crate) struct EventBuffer {
    shared: Arc<SharedBuffer>,
}

struct SharedBuffer {
    options: BufferOptions,
    send: Box<SendBatch>,
    state: Mutex<BufferState>,
    changed: Condvar,
}

#[derive(Default)]
struct BufferState {
    queue: VecDeque<Event>,
    /// The batch that is being sent.
    in_flight: Arc<Vec<Event>>,
    stats: BufferStats,
    /// Number of events that were added to the queue.
    added: u64,
    /// Number of events that left the queue, including their report to `on_lost`.
    done: u64,
    pending_flushes: usize,
    /// The thread that sends events.
    thread: Option<ThreadId>,
    /// Whether the thread has ended.
    has_finished: bool,
    is_closed: bool,
    /// Whether the queue was given up.
    is_abandoned: bool,
}

impl BufferState {
    fn queued(&self) -> usize {
        self.queue.len() + self.in_flight.len()
    }

    /// Whether the caller is `on_lost`, in the thread that sends events. It must not wait for itself.
    fn is_sending_thread(&self) -> bool {
        self.thread == Some(thread::current().id())
    }
}

impl EventBuffer {
    /// # Errors
    /// [`SequorError::InvalidArgument`] if `max_batch` is not 1 to `capacity`.
    pub(crate) fn new(options: BufferOptions, send: Box<SendBatch>) -> Result<Self, SequorError> {
        let BufferOptions { max_batch, capacity, .. } = options;
        if !(1..=capacity).contains(&max_batch) {
            return Err(SequorError::invalid(format!(
                "max_batch is {max_batch}; it must be 1 to capacity ({capacity})"
            )));
        }
        let shared = SharedBuffer { options, send, state: Mutex::default(), changed: Condvar::new() };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The numbers of events so far.
    pub(crate) fn stats(&self) -> BufferStats {
        let state = self.shared.lock();
        BufferStats { queued: state.queued() as u64, ..state.stats }
    }

    /// Queues an event. Returns false if it was dropped, because the queue is full.
    pub(crate) fn add(&self, event: Event) -> Result<bool, SequorError> {
        let shared = &self.shared;
        let mut state = shared.lock();
        loop {
            if state.is_closed {
                return Err(SequorError::Closed);
            }
            if state.queued() < shared.options.capacity {
                break;
            }
            if shared.options.when_full == WhenFull::Drop || state.is_sending_thread() {
                state.stats.dropped += 1;
                return Ok(false);
            }
            state = shared.wait(state);
        }
        if state.thread.is_none() {
            let shared = Arc::clone(shared);
            let run = move || shared.run();
            let spawned = thread::Builder::new().name("sequor-events".to_owned()).spawn(run);
            state.thread = Some(spawned.map_err(SequorError::NoThread)?.thread().id());
        }
        state.queue.push_back(event);
        state.added += 1;
        if state.queue.len() == 1 || state.queue.len() == shared.options.max_batch {
            shared.changed.notify_all();
        }
        Ok(true)
    }

    /// Sends the events that were added so far. Returns false after `timeout` or, in `on_lost`, at
    /// once.
    pub(crate) fn flush(&self, timeout: Duration) -> bool {
        let mut state = self.shared.lock();
        let target = state.added;
        if state.is_sending_thread() {
            return state.done >= target;
        }
        state.pending_flushes += 1;
        self.shared.changed.notify_all();
        let mut state = self.shared.wait_while(state, timeout, |state| state.done < target);
        state.pending_flushes -= 1;
        state.done >= target
    }

    /// Sends all queued events, for at most `close_timeout`. Reports the rest to `on_lost`. In
    /// `on_lost`, returns at once.
    pub(crate) fn close(&self) {
        let mut state = self.shared.lock();
        let was_closed = std::mem::replace(&mut state.is_closed, true);
        let is_sending_thread = state.is_sending_thread();
        drop(state);
        self.shared.changed.notify_all();
        if !is_sending_thread {
            self.shared.finish();
        } else if !was_closed {
            // This thread must send the rest, so another one limits the time.
            let shared = Arc::clone(&self.shared);
            let spawned = thread::Builder::new().name("sequor-close".to_owned()).spawn(move || shared.finish());
            if let Err(error) = spawned {
                log::error!("cannot start the thread that limits the time of close: {error}");
            }
        }
    }
}

impl Drop for EventBuffer {
    fn drop(&mut self) {
        self.close();
    }
}

impl SharedBuffer {
    fn lock(&self) -> MutexGuard<'_, BufferState> {
        // No code panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'s>(&self, state: MutexGuard<'s, BufferState>) -> MutexGuard<'s, BufferState> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_while<'s>(
        &self,
        state: MutexGuard<'s, BufferState>,
        timeout: Duration,
        condition: impl FnMut(&mut BufferState) -> bool,
    ) -> MutexGuard<'s, BufferState> {
        self.changed.wait_timeout_while(state, timeout, condition).unwrap_or_else(PoisonError::into_inner).0
    }

    /// Waits for the end of the closed buffer, for at most `close_timeout`. Then gives up the rest.
    fn finish(&self) {
        let timeout = self.options.close_timeout;
        let mut state = self.wait_while(self.lock(), timeout, |state| {
            state.thread.is_some() && !state.has_finished && !state.is_abandoned
        });
        state.is_abandoned = true;
        let in_flight = std::mem::take(&mut state.in_flight);
        let unsent: Vec<_> = state.queue.drain(..).collect();
        let count = (in_flight.len() + unsent.len()) as u64;
        state.stats.failed += count;
        state.done += count;
        drop(state);
        self.changed.notify_all();
        self.report(&in_flight, &SequorError::UnknownOutcome(timeout));
        self.report(&unsent, &SequorError::NotSent(timeout));
    }

    /// Sends batches until the buffer is closed.
    fn run(&self) {
        while let Some(batch) = self.next_batch() {
            let sent = catch_unwind(AssertUnwindSafe(|| (self.send)(&batch, &|delay| self.sleep(delay))));
            let result =
                sent.unwrap_or_else(|_| Err(SequorError::invalid("a panic prevented the sending of the batch")));
            if !self.count_batch(&batch, result.as_ref().ok()) {
                break;
            }
            match result {
                Ok(receipt) => {
                    let invalid = receipt.rejected.iter().filter_map(|entry| batch.get(entry.index).cloned());
                    self.report(&invalid.collect::<Vec<_>>(), &SequorError::Rejected(receipt.rejected));
                }
                Err(error) => self.report(&batch, &error),
            }
            // After the report, so that `flush` returns after `on_lost`.
            self.lock().done += batch.len() as u64;
            self.changed.notify_all();
        }
        self.lock().has_finished = true;
        self.changed.notify_all();
    }

    /// Waits for a batch and takes it from the queue. `None` after the close.
    fn next_batch(&self) -> Option<Arc<Vec<Event>>> {
        let BufferOptions { max_batch, flush_interval, .. } = self.options;
        let mut state = self.lock();
        while state.queue.is_empty() && !state.is_closed {
            state = self.wait(state);
        }
        let mut state = self.wait_while(state, flush_interval, |state| {
            state.queue.len() < max_batch && !state.is_closed && state.pending_flushes == 0
        });
        if state.is_abandoned || state.queue.is_empty() {
            return None;
        }
        let count = state.queue.len().min(max_batch);
        state.in_flight = Arc::new(state.queue.drain(..count).collect());
        Some(Arc::clone(&state.in_flight))
    }

    /// Counts a batch that was sent. Without a receipt, its events are lost. Returns false if the
    /// buffer has given the batch up.
    fn count_batch(&self, batch: &[Event], receipt: Option<&Receipt>) -> bool {
        let mut state = self.lock();
        if state.is_abandoned {
            return false;
        }
        state.in_flight = Arc::default();
        let stats = &mut state.stats;
        match receipt {
            None => stats.failed += batch.len() as u64,
            Some(receipt) => {
                stats.accepted += receipt.accepted;
                stats.duplicates += receipt.duplicates;
                stats.withheld += receipt.withheld;
                stats.rejected += receipt.rejected.len() as u64;
            }
        }
        self.changed.notify_all();
        true
    }

    /// Waits before a retry. Returns false, at once, when the buffer gives the batch up.
    fn sleep(&self, delay: Duration) -> bool {
        let state = self.lock();
        !self.wait_while(state, delay, |state| !state.is_abandoned).is_abandoned
    }

    /// Calls `on_lost` if there are events. A panic in it does not end the thread.
    fn report(&self, events: &[Event], error: &SequorError) {
        if events.is_empty() {
            return;
        }
        if catch_unwind(AssertUnwindSafe(|| (self.options.on_lost)(events, error))).is_err() {
            log::error!("on_lost panicked; {} events failed: {error}", events.len());
        }
    }
}

#[cfg(test)]
mod tests;
