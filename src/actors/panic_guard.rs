//! Catches panics of actors, so that the actors can recover. Also injects faults for tests.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::metrics::{ActorKind, Metrics};

/// A caught panic, with its message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("panicked: {0}")]
pub struct CaughtPanic(pub String);

/// Runs a part of an actor's work and catches panics. After a panic, the caller must discard all
/// state that `work` can change, because the state may be inconsistent.
///
/// # Errors
/// [`CaughtPanic`] if the work panicked.
pub fn catch_panic<T>(metrics: &Metrics, worker: ActorKind, work: impl FnOnce() -> T) -> Result<T, CaughtPanic> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|payload| {
        metrics.panics.with_label(worker).increment(1);
        let panic = CaughtPanic(panic_message(payload.as_ref()));
        tracing::error!(?worker, error = %panic, "an actor panicked and recovers");
        panic
    })
}

fn panic_message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().map(String::as_str).or_else(|| payload.downcast_ref::<&str>().copied());
    text.unwrap_or("no panic message").to_owned()
}

/// Injects a fault, for tests of recovery. Without debug assertions, the function does nothing.
///
/// The environment variable `SEQUOR_FAULT` names the place in the code and the id of an item. The
/// fault occurs if this place processes an entry of this item:
///
/// - `model:poison`: the learner panics at every entry of the item `poison`.
/// - `model:poison:1`: it panics the first time only.
/// - `model:poison:stall`: it blocks forever.
pub(super) fn inject_fault<S: AsRef<str>>(place: &str, item: impl FnOnce() -> Option<S>) {
    #[cfg(debug_assertions)]
    fault::trigger_if_configured(place, item().as_ref().map(AsRef::as_ref));
    #[cfg(not(debug_assertions))]
    let _ = (place, item);
}

#[cfg(debug_assertions)]
mod fault {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    struct InjectedFault {
        place: String,
        item: String,
        remaining: AtomicU64,
        stalls: bool,
    }

    static CONFIGURED_FAULT: LazyLock<Option<InjectedFault>> = LazyLock::new(|| {
        let text = std::env::var("SEQUOR_FAULT").ok()?;
        let mut parts = text.split(':');
        let (place, item) = (parts.next()?.to_owned(), parts.next()?.to_owned());
        let times = parts.next();
        let remaining = times.and_then(|times| times.parse().ok()).unwrap_or(u64::MAX);
        Some(InjectedFault { place, item, remaining: AtomicU64::new(remaining), stalls: times == Some("stall") })
    });

    #[expect(clippy::panic, reason = "a test requested the panic")]
    pub(super) fn trigger_if_configured(place: &str, item: Option<&str>) {
        let Some(fault) = CONFIGURED_FAULT.as_ref() else { return };
        let matches = fault.place == place && item == Some(fault.item.as_str());
        if matches
            && fault
                .remaining
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |remaining| remaining.checked_sub(1))
                .is_ok()
        {
            if fault.stalls {
                loop {
                    std::thread::sleep(std::time::Duration::from_secs(60));
                }
            }
            panic!("injected fault at item `{}`", fault.item);
        }
    }
}
