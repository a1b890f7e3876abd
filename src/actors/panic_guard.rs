//! What keeps a panic from spreading: it is counted and told, and the actor that was struck heals
//! itself.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::metrics::{ActorKind, Metrics};

/// A piece of work that ended in a panic, with what the panic said.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a panic: {0}")]
pub struct CaughtPanic(pub String);

/// Runs a piece of an actor's work and catches its panic. After a panic, the caller must not trust
/// state that the work may have left half changed.
///
/// # Errors
/// [`CaughtPanic`] if it panicked.
pub fn catch_panic<T>(metrics: &Metrics, worker: ActorKind, work: impl FnOnce() -> T) -> Result<T, CaughtPanic> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        metrics.panics.with_label(worker).increment(1);
        let struck = CaughtPanic(said(panic.as_ref()));
        tracing::error!(?worker, error = %struck, "an actor was struck and heals itself");
        struck
    })
}

fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("no reason given").to_owned()
}

/// Where a fault can be asked for by the variable `SEQUOR_FAULT`, in builds with debug assertions
/// alone: so that the tests see it healed. It names where and at which item, as `model:poison`;
/// with a number, as `model:poison:1`, it strikes so many times only, and `model:poison:stall` is
/// no panic: the actor is stuck from there on.
pub(super) fn inject_fault<S: AsRef<str>>(place: &str, item: impl FnOnce() -> Option<S>) {
    #[cfg(debug_assertions)]
    fault::strike(place, item().as_ref().map(AsRef::as_ref));
    #[cfg(not(debug_assertions))]
    let _ = (place, item);
}

#[cfg(debug_assertions)]
mod fault {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    struct InjectedPanic {
        place: String,
        item: String,
        left: AtomicU64,
        stalls: bool,
    }

    static FAULT: LazyLock<Option<InjectedPanic>> = LazyLock::new(|| {
        let text = std::env::var("SEQUOR_FAULT").ok()?;
        let mut parts = text.split(':');
        let (place, item) = (parts.next()?.to_owned(), parts.next()?.to_owned());
        let times = parts.next();
        let left = times.and_then(|times| times.parse().ok()).unwrap_or(u64::MAX);
        Some(InjectedPanic { place, item, left: AtomicU64::new(left), stalls: times == Some("stall") })
    });

    #[expect(clippy::panic, reason = "it is asked for")]
    pub(super) fn strike(place: &str, item: Option<&str>) {
        let Some(fault) = FAULT.as_ref() else { return };
        let asked = fault.place == place && item == Some(fault.item.as_str());
        if asked && fault.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok() {
            if fault.stalls {
                loop {
                    std::thread::sleep(std::time::Duration::from_secs(60));
                }
            }
            panic!("a fault was asked for at {}", fault.item);
        }
    }
}
