//! The system calls of a daemon, traced by `strace`. The trace preserves cause and effect, because
//! `strace` writes the end of a call before the caller continues.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::daemon::wait_for;

/// The wrapper command that traces a daemon. The tracer runs in the background, so killing the
/// started process kills the daemon. Paths and data are in hexadecimal.
pub(crate) fn strace_command(file: &Path) -> Vec<String> {
    const TRACED_CALLS: &str = "trace=pwrite64,ftruncate,fdatasync,fsync,recvfrom,read,write,writev,sendto,sendmsg";
    let fixed = ["strace", "-D", "-f", "-q", "-xx", "-y", "-s", "16777216", "-e", TRACED_CALLS, "-o"];
    fixed.into_iter().map(str::to_owned).chain([file.to_str().unwrap().to_owned()]).collect()
}

/// Whether `strace` works here; reports a skipped check if not.
pub(crate) fn is_strace_available() -> bool {
    let mut trial = Command::new("strace");
    let traced =
        trial.args(["-D", "-f", "-o", "/dev/null", "true"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    let is_available = traced.is_ok_and(|status| status.success());
    if !is_available {
        eprintln!(
            "SKIPPED: order of syncs and responses: strace is not installed or not permitted (Debian: apt-get install strace)"
        );
    }
    is_available
}

/// One system call.
#[derive(Debug)]
pub(crate) struct SystemCall {
    pub(crate) name: String,
    /// The path of the call's first argument; empty if the argument is not a file.
    pub(crate) path: String,
    /// The transferred bytes.
    pub(crate) data: Vec<u8>,
    /// The call's last argument, if the argument is a number: a file position.
    pub(crate) offset: u64,
    /// The result; -1 for a call that did not return.
    pub(crate) result: i64,
    /// Line numbers of the call's start and end in the trace.
    pub(crate) start_line: usize,
    pub(crate) end_line: usize,
}

impl SystemCall {
    /// Whether the call synced a file.
    pub(crate) fn is_sync_of(&self, file: &str) -> bool {
        matches!(self.name.as_str(), "fdatasync" | "fsync") && self.result == 0 && self.path.ends_with(file)
    }

    pub(crate) fn is_write_to(&self, file: &str) -> bool {
        self.name == "pwrite64" && self.path.ends_with(file)
    }

    /// The journal offset in the receipt, if the call sent one.
    pub(crate) fn acknowledged_offset(&self) -> Option<u64> {
        let text = self.data.starts_with(b"HTTP/1.1 200").then(|| String::from_utf8_lossy(&self.data))?;
        let (_, after) = text.split_once("\"offset\":")?;
        after.split(|other: char| !other.is_ascii_digit()).next()?.parse().ok()
    }

    pub(crate) fn data_contains(&self, bytes: &str) -> bool {
        self.data.windows(bytes.len()).any(|window| window == bytes.as_bytes())
    }
}

/// Reads the calls of a process, in the order in which they ended.
pub(crate) fn read_trace(file: &Path, process: u32) -> Vec<SystemCall> {
    let process = process.to_string();
    let text = wait_for("the end of the trace", || {
        let text = fs::read_to_string(file).ok()?;
        let ends = |line: &str| {
            line.split_once(' ').is_some_and(|(thread, text)| thread == process && text.trim_start().starts_with("+++"))
        };
        text.lines().any(ends).then_some(text)
    });
    let mut pending: HashMap<&str, (usize, &str)> = HashMap::new();
    let mut calls = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let Some((thread, text)) = line.split_once(' ') else { continue };
        let text = text.trim_start();
        if let Some(half) = text.strip_suffix("<unfinished ...>") {
            pending.insert(thread, (number, half));
        } else if let Some((_, rest)) = text.strip_prefix("<... ").and_then(|rest| rest.split_once(" resumed>")) {
            let Some((began, half)) = pending.remove(thread) else { continue };
            calls.extend(parse_call(&format!("{half}{rest}"), began, number));
        } else {
            calls.extend(parse_call(text, number, number));
        }
    }
    // Calls that were pending when the process was killed.
    calls.extend(
        pending.into_values().filter_map(|(began, half)| parse_call(&format!("{half}) = -1"), began, usize::MAX)),
    );
    calls
}

/// `name(number<path>, "data", …, place) = result`.
fn parse_call(text: &str, began: usize, ended: usize) -> Option<SystemCall> {
    let (call, result) = text.rsplit_once(" = ")?;
    let (name, arguments) = call.trim_end().strip_suffix(')')?.split_once('(')?;
    let path = arguments.split_once('<').filter(|(number, _)| number.parse::<u32>().is_ok());
    let path = path.and_then(|(_, rest)| rest.split_once('>')).map(|(path, _)| path).unwrap_or_default();
    let data = arguments.split('"').skip(1).step_by(2).flat_map(from_hexadecimal).collect();
    let position =
        arguments.rsplit_once(", ").and_then(|(_, position)| position.trim().parse().ok()).unwrap_or_default();
    // The result `?` means that the thread ended during the call.
    let (result, ended) = match result.split(' ').next()? {
        "?" => (-1, usize::MAX),
        number => (number.parse().ok()?, ended),
    };
    let path = String::from_utf8_lossy(&from_hexadecimal(path)).into_owned();
    Some(SystemCall { name: name.to_owned(), path, data, offset: position, result, start_line: began, end_line: ended })
}

/// The bytes of `\x2f\x74`.
fn from_hexadecimal(text: &str) -> Vec<u8> {
    text.split("\\x").filter_map(|digits| u8::from_str_radix(digits.get(..2)?, 16).ok()).collect()
}

#[test]
fn split_trace_lines_are_joined() {
    let call = parse_call(r#"pwrite64(9<\x2f\x64\x62>, "\x61\x62", 2, 512) = 2"#, 1, 2).unwrap();
    assert_eq!(
        (call.name.as_str(), call.path.as_str(), call.data.as_slice(), call.offset, call.result),
        ("pwrite64", "/db", &b"ab"[..], 512, 2)
    );
    assert!(parse_call("fdatasync(9<\\x2f\\x64\\x62>)     = 0", 1, 2).is_some_and(|call| call.is_sync_of("/db")));
    assert!(parse_call("+++ exited with 0 +++", 1, 2).is_none());
}
