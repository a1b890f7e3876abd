//! Background jobs of the daemon.
//!
//! - [`cluster_snapshots`]: stores snapshots of a cluster on its servers.
//! - [`load_control`]: reduces the training share while learning cannot keep up.
//! - [`maintenance`]: backups and compactions, one at a time.
//! - [`removal`]: erases users and purges origins on request, and removes entries past their
//!   [`retention`].
//! - [`scrub`]: reads the journal in the background, to find damage.
//! - [`watchdog`]: rolls the model back if its loss or quality gets worse.

pub mod cluster_snapshots;
pub mod load_control;
pub mod maintenance;
pub mod removal;
pub mod retention;
pub mod scrub;
pub mod watchdog;
