//! What a command shows at a daemon's doors.

use clap::Args;

/// Flags of every command that speaks to a daemon.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct Knock {
    /// The key that the daemon asks for, where it does (`sequor key create`); better set in the environment, where other users of the machine do not see it.
    #[arg(long, value_name = "KEY", env = "SEQUOR_KEY", hide_env_values = true, global = true)]
    pub(super) key: Option<String>,
}

impl Knock {
    /// What is sent as `Authorization`, if anything.
    pub(super) fn authorization(&self) -> Option<String> {
        self.key.as_ref().map(|key| format!("Bearer {key}"))
    }
}
