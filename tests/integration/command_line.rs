//! Shell completions and manual pages, which come from the definition of the command line.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::daemon::{report_skipped, run_sequor};
use crate::readme::listed_subcommands;

fn help(words: &[&str]) -> String {
    String::from_utf8(run_sequor(&[words, &["--help"]].concat()).stdout).unwrap()
}

/// The words of every command that the help lists below a command, such as `["admin", "status"]`.
fn commands_below(words: &[&str]) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for name in listed_subcommands(&help(words)) {
        let words = [words, &[name.as_str()]].concat();
        found.push(words.iter().map(|word| (*word).to_owned()).collect());
        found.extend(commands_below(&words));
    }
    found
}

#[test]
fn completions_contain_every_command_and_bash_accepts_them() {
    let folder = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = run_sequor(&["completions", shell]);
        assert!(output.status.success(), "{shell}");
        let script = String::from_utf8(output.stdout).unwrap();
        for word in commands_below(&[]).into_iter().flatten() {
            assert!(script.contains(&word), "the script of {shell} lacks {word}");
        }
        fs::write(folder.path().join(shell), script).unwrap();
    }
    // After `sequor co`, bash proposes the commands that begin so.
    let complete =
        "source \"$0\"; COMP_WORDS=(sequor co); COMP_CWORD=1; _sequor sequor co sequor; echo \"${COMPREPLY[@]}\"";
    match Command::new("bash").args(["--norc", "-c", complete]).arg(folder.path().join("bash")).output() {
        Ok(output) => assert_eq!(String::from_utf8_lossy(&output.stdout), "consume compact completions\n"),
        Err(_) => report_skipped("completion of bash: bash is not installed"),
    }
}

#[test]
fn every_command_has_a_manual_page() {
    let folder = tempfile::tempdir().unwrap();
    assert!(run_sequor(&["man", "--dir", folder.path().to_str().unwrap()]).status.success());
    let mut expected: BTreeSet<_> =
        commands_below(&[]).iter().map(|words| format!("sequor-{}.1", words.join("-"))).collect();
    expected.insert("sequor.1".to_owned());
    let files: BTreeSet<_> =
        fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(files, expected);
    let page = fs::read_to_string(folder.path().join("sequor-serve.1")).unwrap();
    assert!(page.contains(".SH NOTES\n") && page.contains("\\-\\-data\\-dir"), "{page}");

    let pages: Vec<PathBuf> = files.iter().map(|name| folder.path().join(name)).collect();
    match Command::new("groff").args(["-Kutf8", "-man", "-Tutf8", "-ww", "-z"]).args(&pages).output() {
        Ok(output) => assert_eq!(String::from_utf8_lossy(&output.stderr), ""),
        Err(_) => report_skipped("manual pages: groff is not installed"),
    }
}

#[test]
fn manual_pages_need_an_existing_folder() {
    let output = run_sequor(&["man", "--dir", "/nonexistent/pages"]);
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && message.contains("cannot write /nonexistent/pages/sequor"), "{message}");
}
