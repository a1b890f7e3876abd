//! CPU time of the process by the role of its threads, from the operating system.

use std::ffi::CStr;
use std::fmt::Write;
use std::fs;

/// What a thread of the daemon does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ThreadRole {
    /// Serves the API: parses requests, ranks items and writes responses.
    Api,
    /// Serves the admin endpoint.
    Admin,
    /// Keeps the sessions of a part of the users.
    Shard,
    /// Writes the journal.
    Committer,
    /// Learns from events.
    Learner,
    /// Trains the network.
    Training,
    /// Clusters the items.
    Clustering,
    /// Writes checkpoints.
    Checkpoints,
    /// Publishes and follows the log of a cluster.
    Cluster,
    /// Any other thread, such as the threads of the store.
    Other,
}

impl ThreadRole {
    /// All roles.
    pub const ALL: [Self; 10] = [
        Self::Api,
        Self::Admin,
        Self::Shard,
        Self::Committer,
        Self::Learner,
        Self::Training,
        Self::Clustering,
        Self::Checkpoints,
        Self::Cluster,
        Self::Other,
    ];

    /// The name of the role, which is also the name of its threads.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.thread_name().to_str().unwrap_or_default()
    }

    fn thread_name(self) -> &'static CStr {
        match self {
            Self::Api => c"api",
            Self::Admin => c"admin",
            Self::Shard => c"shard",
            Self::Committer => c"committer",
            Self::Learner => c"learner",
            Self::Training => c"training",
            Self::Clustering => c"clustering",
            Self::Checkpoints => c"checkpoints",
            Self::Cluster => c"cluster",
            Self::Other => c"other",
        }
    }

    /// Names the calling thread by the role. If the system refuses the name, the thread counts as
    /// [`ThreadRole::Other`].
    pub fn name_current_thread(self) {
        let _ = rustix::thread::set_name(self.thread_name());
    }
}

/// Name of the metric.
pub(super) const NAME: &str = "sequor_thread_cpu_seconds_total";
/// Help text of the metric.
pub(super) const HELP: &str =
    "CPU time of the threads of a role, user and system. Threads that have ended do not count.";

/// Reads the CPU time of each role, in seconds, from `/proc`; `None` if `/proc` is not available.
fn read_cpu_seconds() -> Option<[f64; ThreadRole::ALL.len()]> {
    let mut seconds = [0.0; ThreadRole::ALL.len()];
    for task in fs::read_dir("/proc/self/task").ok()?.flatten() {
        let read = |file: &str| fs::read_to_string(task.path().join(file)).ok();
        // A thread may end while the directory is read.
        let (Some(name), Some(usage)) = (read("comm"), read("schedstat")) else { continue };
        // The first field is the time on a processor, in nanoseconds.
        let Some(nanoseconds) = usage.split_ascii_whitespace().next().and_then(|field| field.parse::<f64>().ok())
        else {
            continue;
        };
        let role = ThreadRole::ALL.iter().position(|role| role.as_str() == name.trim_end());
        if let Some(sum) = seconds.get_mut(role.unwrap_or(ThreadRole::ALL.len() - 1)) {
            *sum += nanoseconds / 1e9;
        }
    }
    Some(seconds)
}

/// Appends the metric to `text` in Prometheus' text format.
pub(super) fn render(text: &mut String) {
    let Some(seconds) = read_cpu_seconds() else { return };
    // Writing to a string cannot fail.
    let _ = writeln!(text, "# HELP {NAME} {HELP}\n# TYPE {NAME} counter");
    for (role, seconds) in ThreadRole::ALL.iter().zip(seconds) {
        let _ = writeln!(text, "{NAME}{{role=\"{}\"}} {seconds}", role.as_str());
    }
    text.push('\n');
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_counts_for_the_role_of_its_thread() {
        let (busy, end) = (std::sync::Barrier::new(2), std::sync::Barrier::new(2));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                ThreadRole::Clustering.name_current_thread();
                let mut sum = 0_u64;
                while read_cpu_seconds().unwrap()[6] == 0.0 {
                    sum = sum.wrapping_add(std::hint::black_box(1));
                }
                busy.wait();
                end.wait();
            });
            busy.wait();
            let mut text = String::new();
            render(&mut text);
            let line = format!("{NAME}{{role=\"clustering\"}} ");
            let value = text.lines().find_map(|text| text.strip_prefix(&line)).unwrap().parse::<f64>().unwrap();
            assert!(value > 0.0, "{text}");
            end.wait();
        });
    }
}
