//! Background jobs of the daemon, each a loop with a pure core.
//!
//! - [`erasure`]: removes users whose erasure was requested.
//! - [`maintenance`]: backups and compactions, one at a time.
//! - [`retention`]: removes events that are older than their kind may be kept.
//! - [`watchdog`]: rolls the model back if its loss or quality gets worse.

pub mod erasure;
pub mod maintenance;
pub mod retention;
pub mod watchdog;
