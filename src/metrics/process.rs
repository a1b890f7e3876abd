//! Resource usage of the process, from the operating system.

use std::fmt::Write;
use std::fs;

/// Clock ticks per second in `/proc`: 100 on every Linux, independent of the kernel's timer
/// frequency.
const TICKS_PER_SECOND: f64 = 100.0;

/// Resource usage of the process. Linux only.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ProcessStats {
    /// Resident memory, in bytes.
    pub resident_bytes: u64,
    /// Peak resident memory, in bytes.
    pub peak_resident_bytes: u64,
    /// CPU time, user and system, in seconds.
    pub cpu_seconds: f64,
    /// Start time, in seconds since 1970.
    pub start_seconds: f64,
    /// Open file descriptors.
    pub open_fds: u64,
    /// Limit of open file descriptors.
    pub max_fds: u64,
    /// Number of threads.
    pub threads: u64,
}

/// Name, type and help text of each process metric. Prometheus' client libraries use the same
/// names.
pub(super) const PROCESS_METRICS: [(&str, &str, &str); 7] = [
    ("process_resident_memory_bytes", "gauge", "Resident memory of the process."),
    ("process_peak_resident_memory_bytes", "gauge", "Peak resident memory of the process."),
    ("process_cpu_seconds_total", "counter", "CPU time of the process, user and system."),
    ("process_start_time_seconds", "gauge", "Start time of the process, since 1970."),
    ("process_open_fds", "gauge", "Open file descriptors of the process."),
    ("process_max_fds", "gauge", "Limit of open file descriptors of the process."),
    ("process_threads", "gauge", "Threads of the process."),
];

impl ProcessStats {
    /// Reads the usage from `/proc`; `None` if `/proc` is not available.
    #[must_use]
    pub fn read_proc() -> Option<Self> {
        let status = fs::read_to_string("/proc/self/status").ok()?;
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        let system = fs::read_to_string("/proc/stat").ok()?;
        let limits = fs::read_to_string("/proc/self/limits").ok()?;
        Some(Self {
            resident_bytes: number_after(&status, "VmRSS:")? * 1024,
            peak_resident_bytes: number_after(&status, "VmHWM:")? * 1024,
            cpu_seconds: cpu_seconds_in_stat(&stat)?,
            #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 are far below 2^53")]
            start_seconds: number_after(&system, "btime")? as f64 + stat_field(&stat, 22)? / TICKS_PER_SECOND,
            // One of the counted descriptors is the one with which `read_dir` reads the directory.
            open_fds: (fs::read_dir("/proc/self/fd").ok()?.count() as u64).saturating_sub(1),
            // The file says `unlimited` if there is no limit.
            max_fds: number_after(&limits, "Max open files").unwrap_or(u64::MAX),
            threads: number_after(&status, "Threads:")?,
        })
    }

    /// Reads the CPU time, user and system, of another process in seconds; `None` if there is no
    /// such process or `/proc` is not available.
    #[must_use]
    pub fn read_cpu_seconds_of(process_id: u32) -> Option<f64> {
        cpu_seconds_in_stat(&fs::read_to_string(format!("/proc/{process_id}/stat")).ok()?)
    }

    /// Appends the process metrics to `text` in Prometheus' text format.
    pub(super) fn render(&self, text: &mut String) {
        #[expect(clippy::cast_precision_loss, reason = "exact below 2^53 bytes")]
        let values = [
            self.resident_bytes as f64,
            self.peak_resident_bytes as f64,
            self.cpu_seconds,
            self.start_seconds,
            self.open_fds as f64,
            self.max_fds as f64,
            self.threads as f64,
        ];
        for ((name, kind, help), value) in PROCESS_METRICS.into_iter().zip(values) {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n");
        }
    }
}

/// The field with this number in the file `stat` of a process [proc(5)].
fn stat_field(stat: &str, number: usize) -> Option<f64> {
    // The second field, the process name, is in parentheses. It can contain any character, so the
    // last `)` ends it. The next field has the number 3.
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(number.checked_sub(3)?)?.parse().ok()
}

fn cpu_seconds_in_stat(stat: &str) -> Option<f64> {
    Some((stat_field(stat, 14)? + stat_field(stat, 15)?) / TICKS_PER_SECOND)
}

/// The number after `name` in the line that begins with `name`.
fn number_after(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name))?.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn reads_values_of_this_process() {
        let ballast = vec![1_u8; 32 << 20];
        let process = ProcessStats::read_proc().unwrap();
        assert!(process.resident_bytes > ballast.len() as u64, "{process:?}");
        assert!(process.peak_resident_bytes >= process.resident_bytes);
        assert!(process.start_seconds > 1.7e9, "{process:?}");
        assert!(process.open_fds >= 3 && process.max_fds >= process.open_fds && process.threads >= 1);
        assert!(process.cpu_seconds >= 0.0 && process.cpu_seconds < 1e6);
    }

    #[test]
    fn renders_prometheus_text() {
        let process = ProcessStats {
            resident_bytes: 1024,
            peak_resident_bytes: 2048,
            cpu_seconds: 1.25,
            start_seconds: 1.7e9,
            open_fds: 4,
            max_fds: 1024,
            threads: 2,
        };
        let mut text = String::new();
        process.render(&mut text);
        assert!(text.contains("# TYPE process_cpu_seconds_total counter\nprocess_cpu_seconds_total 1.25\n"), "{text}");
        assert!(text.contains("process_start_time_seconds 1700000000\n"), "{text}");
    }
}
