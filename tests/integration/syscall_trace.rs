//! The system calls of a daemon, as `strace` saw them, in an order that no cause contradicts: a
//! call's end is noted before the caller goes on.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::daemon::wait_for;

/// The command that traces what follows it, in the background of it: who kills the process that was
/// started kills the daemon. Paths and data are in hexadecimal.
pub(crate) fn strace_command(file: &Path) -> Vec<String> {
    const CALLS: &str = "trace=pwrite64,ftruncate,fdatasync,fsync,recvfrom,read,write,writev,sendto,sendmsg";
    let fixed = ["strace", "-D", "-f", "-q", "-xx", "-y", "-s", "16777216", "-e", CALLS, "-o"];
    fixed.into_iter().map(str::to_owned).chain([file.to_str().unwrap().to_owned()]).collect()
}

/// Whether processes can be traced here; says so if not.
pub(crate) fn is_strace_available() -> bool {
    let mut trial = Command::new("strace");
    let traced = trial.args(["-D", "-f", "-o", "/dev/null", "true"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    let can = traced.is_ok_and(|status| status.success());
    if !can {
        eprintln!(
            "LEFT OUT: strace is missing or may not trace (Debian: apt-get install strace), so the order of syncs and answers is not looked at"
        );
    }
    can
}

/// One system call.
#[derive(Debug)]
pub(crate) struct SystemCall {
    pub(crate) name: String,
    /// What its first argument is open on; empty for what is no file.
    pub(crate) path: String,
    /// The bytes that it moved.
    pub(crate) data: Vec<u8>,
    /// Its last argument, where that is a number: a place in the file.
    pub(crate) offset: u64,
    /// -1 too for a call that never ended.
    pub(crate) result: i64,
    /// Lines of the trace: where it was begun and where its end was seen.
    pub(crate) start_line: usize,
    pub(crate) end_line: usize,
}

impl SystemCall {
    /// Whether it made what was written to a file durable.
    pub(crate) fn syncs(&self, file: &str) -> bool {
        matches!(self.name.as_str(), "fdatasync" | "fsync") && self.result == 0 && self.path.ends_with(file)
    }

    pub(crate) fn is_write_to(&self, file: &str) -> bool {
        self.name == "pwrite64" && self.path.ends_with(file)
    }

    /// Whether it sent the receipt of a request: its events are in the journal, which then ends at
    /// `offset`.
    pub(crate) fn acknowledged_offset(&self) -> Option<u64> {
        let text = self.data.starts_with(b"HTTP/1.1 200").then(|| String::from_utf8_lossy(&self.data))?;
        let (_, after) = text.split_once("\"offset\":")?;
        after.split(|other: char| !other.is_ascii_digit()).next()?.parse().ok()
    }

    pub(crate) fn contains(&self, bytes: &str) -> bool {
        self.data.windows(bytes.len()).any(|window| window == bytes.as_bytes())
    }
}

/// What a daemon did, in the order in which its calls ended.
pub(crate) fn read_trace(file: &Path, process: u32) -> Vec<SystemCall> {
    let process = process.to_string();
    let text = wait_for("the end of the trace", || {
        let text = fs::read_to_string(file).ok()?;
        let ends =
            |line: &str| line.split_once(' ').is_some_and(|(thread, said)| thread == process && said.trim_start().starts_with("+++"));
        text.lines().any(ends).then_some(text)
    });
    let mut begun: HashMap<&str, (usize, &str)> = HashMap::new();
    let mut calls = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let Some((thread, said)) = line.split_once(' ') else { continue };
        let said = said.trim_start();
        if let Some(half) = said.strip_suffix("<unfinished ...>") {
            begun.insert(thread, (number, half));
        } else if let Some((_, rest)) = said.strip_prefix("<... ").and_then(|rest| rest.split_once(" resumed>")) {
            let Some((began, half)) = begun.remove(thread) else { continue };
            calls.extend(parse(&format!("{half}{rest}"), began, number));
        } else {
            calls.extend(parse(said, number, number));
        }
    }
    // What was under way when the process was killed: begun, whatever came of it.
    calls.extend(begun.into_values().filter_map(|(began, half)| parse(&format!("{half}) = -1"), began, usize::MAX)));
    calls
}

/// `name(number<path>, "data", …, place) = result`.
fn parse(text: &str, began: usize, ended: usize) -> Option<SystemCall> {
    let (call, result) = text.rsplit_once(" = ")?;
    let (name, arguments) = call.trim_end().strip_suffix(')')?.split_once('(')?;
    let path = arguments.split_once('<').filter(|(number, _)| number.parse::<u32>().is_ok());
    let path = path.and_then(|(_, rest)| rest.split_once('>')).map(|(path, _)| path).unwrap_or_default();
    let data = arguments.split('"').skip(1).step_by(2).flat_map(from_hexadecimal).collect();
    let place = arguments.rsplit_once(", ").and_then(|(_, place)| place.trim().parse().ok()).unwrap_or_default();
    // `?` is the result of a call that its thread did not outlive.
    let (result, ended) = match result.split(' ').next()? {
        "?" => (-1, usize::MAX),
        number => (number.parse().ok()?, ended),
    };
    let path = String::from_utf8_lossy(&from_hexadecimal(path)).into_owned();
    Some(SystemCall { name: name.to_owned(), path, data, offset: place, result, start_line: began, end_line: ended })
}

/// The bytes of `\x2f\x74`.
fn from_hexadecimal(text: &str) -> Vec<u8> {
    text.split("\\x").filter_map(|digits| u8::from_str_radix(digits.get(..2)?, 16).ok()).collect()
}

#[test]
fn calls_are_put_together_from_their_halves() {
    let call = parse(r#"pwrite64(9<\x2f\x64\x62>, "\x61\x62", 2, 512) = 2"#, 1, 2).unwrap();
    assert_eq!(
        (call.name.as_str(), call.path.as_str(), call.data.as_slice(), call.offset, call.result),
        ("pwrite64", "/db", &b"ab"[..], 512, 2)
    );
    assert!(parse("fdatasync(9<\\x2f\\x64\\x62>)     = 0", 1, 2).is_some_and(|call| call.syncs("/db")));
    assert!(parse("+++ exited with 0 +++", 1, 2).is_none());
}
