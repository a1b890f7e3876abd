//! Runs the commands of the README and of docs/ as they are written.

mod pages;
mod tutorial;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::daemon::{DaemonHome, report_skipped, wait_for};

fn project_root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A file of the repository.
fn read_file(name: &str) -> String {
    fs::read_to_string(project_root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The README and the pages of docs/ in the order of its summary, by name.
fn documentation_pages() -> Vec<(String, String)> {
    let summary = read_file("docs/SUMMARY.md");
    let listed = summary.split("](").skip(1).map(|rest| format!("docs/{}", rest.split(')').next().unwrap()));
    std::iter::once("README.md".to_owned()).chain(listed).map(|name| (name.clone(), read_file(&name))).collect()
}

/// The contents of a page's fenced code blocks in `language`.
fn fenced_blocks<'p>(page: &'p str, language: &str) -> Vec<&'p str> {
    page.split(&format!("```{language}\n")).skip(1).map(|rest| rest.split("```").next().unwrap()).collect()
}

/// The shell blocks of all pages, with the name of the page.
/// [`tutorial`] runs those of its page.
fn shell_blocks() -> Vec<(String, String)> {
    let all = documentation_pages();
    let blocks = all
        .iter()
        .filter(|(name, _)| name != tutorial::PAGE)
        .flat_map(|(name, text)| fenced_blocks(text, "sh").into_iter().map(|block| (name.clone(), block.to_owned())));
    blocks.collect()
}

#[test]
fn curl_blocks_do_what_they_promise() {
    if Command::new("curl").arg("--version").output().is_err() {
        report_skipped("documented commands: curl is not installed");
        return;
    }
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    let curls: Vec<_> = shell_blocks().into_iter().filter(|(_, block)| block.contains("curl")).collect();
    assert_eq!(
        curls.len(),
        26,
        "README, getting started; one event, Segment, a merge; the item and placement of a widget; recommendations, a filter, a user's attributes, a given list, its relevance, predicted values, \
         similar items; declared features; six placements and rules; two of attribution; the catalog, its free attributes and vectors; a user's data"
    );
    for (page, block) in curls {
        let output =
            Command::new("sh").args(["-ec", &block.replace("localhost:8080", daemon.api_url())]).output().unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{page}: {block}\n{printed}");
        let requests_list = block.contains("recommendations");
        assert!(
            !requests_list || printed.contains(r#""recommendation_id""#) && printed.contains(r#""item_id":"teapot""#),
            "{page}: {block}\n{printed}"
        );
        assert!(!printed.contains("/problems/"), "{page}: {printed}");
    }
    daemon.wait_until_learned(1);
    assert_eq!(daemon.status()["catalog"]["items"], 3);
}

/// The first block of this language after a heading.
fn first_block_after<'p>(page: &'p str, heading: &str, language: &str) -> &'p str {
    let after_heading =
        page.split_once(&format!("# {heading}\n")).unwrap_or_else(|| panic!("no heading `{heading}`")).1;
    after_heading.split_once(&format!("```{language}\n")).unwrap().1.split("```").next().unwrap()
}

/// The script for web pages; `tests/browser/readme.mjs` puts the script into a page.
pub(crate) fn page_with_beacon() -> String {
    first_block_after(&read_file("docs/sending-events.md"), "From a web page", "html").to_owned()
}

/// A shell in which the commands of a page run the binary under test against the test's daemon.
struct Shell<'h> {
    home: &'h DaemonHome,
}

impl<'h> Shell<'h> {
    /// A shell in the home's directory, with the daemon at this address.
    fn new(home: &'h DaemonHome, api: &str) -> Self {
        use std::os::unix::fs::PermissionsExt;
        let port = api.rsplit(':').next().unwrap();
        fs::write(home.dir().join(".curlrc"), format!("connect-to = localhost:8080:127.0.0.1:{port}\n")).unwrap();
        // A command without a data directory gets the daemon's address.
        let (cargo, binary) = (home.dir().join("cargo"), env!("CARGO_BIN_EXE_sequor"));
        let script = format!(
            "#!/bin/sh\n[ \"$1 $2 $3\" = 'run --release --' ] || exit 9\nshift 3\n\
             case \"$*\" in *--data-dir*) ;; *) set -- \"$@\" --url {api} ;; esac\nexec {binary} \"$@\"\n"
        );
        fs::write(&cargo, script).unwrap();
        fs::set_permissions(&cargo, fs::Permissions::from_mode(0o755)).unwrap();
        Self { home }
    }

    fn shell_command(&self, line: &str) -> Command {
        let (path, home) = (std::env::var("PATH").unwrap(), self.home.dir());
        let mut command = Command::new("sh");
        command
            .args(["-ec", line])
            .current_dir(home)
            .env("PATH", format!("{}:{path}", home.display()))
            .env("CURL_HOME", home);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("SEQUOR_")) {
            command.env_remove(name);
        }
        command.stdin(Stdio::null());
        command
    }

    /// Runs lines until they exit.
    fn run_lines(&self, lines: &str) -> String {
        let output = self.shell_command(lines).output().unwrap();
        let stdout = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{lines}\n{stdout}\n{}", String::from_utf8_lossy(&output.stderr));
        stdout
    }
}

#[test]
fn documented_ways_to_send_events_work() {
    if Command::new("curl").arg("--version").output().is_err() {
        return report_skipped("documented ways to send events: curl is not installed");
    }
    let page = read_file("docs/sending-events.md");
    let [http, segment, tail, import] = [
        ("Sending events", "sh"),
        ("From Segment's libraries", "sh"),
        ("Follow a web server's log", "sh"),
        ("Import a file", "sh"),
    ]
    .map(|(heading, language)| first_block_after(&page, heading, language));
    for lines in [http, segment, tail, import, &page_with_beacon()] {
        assert!(lines.lines().count() <= 5, "more than five lines:\n{lines}");
    }
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    let shell = Shell::new(&home, daemon.api_url());
    let write = |name: &str, bytes: &[u8]| fs::write(home.dir().join(name), bytes).unwrap();
    // The journalled events as user, type and item.
    let journalled = || -> Vec<String> {
        let lines = daemon.get_admin("/admin/journal?only=event").body;
        let events = lines.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let text = |event: &serde_json::Value, name: &str| event[name].as_str().unwrap_or_default().to_owned();
        events
            .map(|event| format!("{} {} {}", text(&event, "user_id"), text(&event, "type"), text(&event, "item_id")))
            .collect()
    };
    assert!(shell.run_lines(http).contains(r#""accepted":1"#));
    assert_eq!(journalled(), ["ann view tea"]);
    assert!(shell.run_lines(segment).contains(r#""success":true"#));
    assert_eq!(journalled()[1..], ["ann cart cup"]);

    let request = |number: usize| {
        format!(
            "192.0.2.7 - - [10/Oct/2020:13:55:{number:02} +0000] \"GET /product/p{number} HTTP/1.1\" 200 12 \"-\" \"Firefox\" \"uid=eve\"\n"
        )
    };
    let [follow, once] = tail.lines().collect::<Vec<_>>()[..] else {
        panic!("expected one command that follows a log, and one that reads logs once:\n{tail}")
    };
    write("access.log", (0..3).map(request).collect::<String>().as_bytes());
    // The command follows the log until it is killed. `exec` replaces the shell, so that the kill
    // reaches it.
    let mut follower = shell.shell_command(&format!("exec {follow}")).stdout(Stdio::null()).spawn().unwrap();
    wait_for("the log's lines", || (journalled().len() == 5).then_some(()));
    follower.kill().unwrap();
    follower.wait().unwrap();
    assert_eq!(journalled()[2..], ["eve view p0", "eve view p1", "eve view p2"]);
    // Rotated logs, compressed or not, and new lines.
    let mut compressed = GzEncoder::new(Vec::new(), Compression::fast());
    compressed.write_all(request(10).as_bytes()).unwrap();
    write("access.log.2.gz", &compressed.finish().unwrap());
    write("access.log.1", request(11).as_bytes());
    write("access.log", (0..4).map(request).collect::<String>().as_bytes());
    write("rules.toml", b"user = 'cookie:uid'\nrules = ['view=^/product/(?P<item>[^/?]+)']\n");
    shell.run_lines(once);
    assert_eq!(journalled()[5..], ["eve view p10", "eve view p11", "eve view p3"]);

    let events = "visitorid,itemid,timestamp,event\nbob,pot,1600000000000,view\nbob,cup,1600000001000,cart\n";
    write("events.csv.zst", &zstd::encode_all(events.as_bytes(), 1).unwrap());
    write("catalog.csv", b"sku,categories,price\npot,kitchen,9.5\n");
    write("events.csv", b"user,item,timestamp\neve,tea,1600000000\n");
    shell.run_lines(import);
    assert_eq!(journalled()[8..], ["bob view pot", "bob cart cup"]);
    assert_eq!(daemon.get("/v1/items/pot").json()["price"], 9.5);
    let offline_journal = crate::journal_dump::JournalDump::read_from_copy(&home.dir().join("sequor-data"));
    assert_eq!(offline_journal.entries.len(), 1, "one event in the directory that no daemon serves");
}

/// Checks a line of a shell block that needs no daemon.
fn check_command(page: &str, line: &str) {
    let Some(command) = line.strip_prefix("cargo run --release -- ") else {
        let manifest = read_file("Cargo.toml");
        match line {
            "bash tests/run" => assert!(project_root().join("tests/run").exists()),
            "cargo build --release --features otel" => assert!(manifest.contains("\notel = ")),
            "cargo build --release --features parquet" => assert!(manifest.contains("\nparquet = [")),
            "git clone REPOSITORY sequor && cd sequor" => assert!(manifest.contains("name = \"sequor\"")),
            _ => {
                let name_after = |prefix: &str| line.strip_prefix(prefix)?.split(' ').next().map(str::to_owned);
                let bench = name_after("cargo bench --bench ");
                let example = name_after("cargo run --release --example ");
                let is_known = bench.is_some_and(|name| manifest.contains(&format!("[[bench]]\nname = \"{name}\"")))
                    || example.is_some_and(|name| project_root().join(format!("examples/{name}.rs")).exists());
                assert!(is_known, "{page}: the test does not know the command `{line}`");
            }
        }
        return;
    };
    let (flags, words): (Vec<_>, Vec<_>) = command.split_whitespace().partition(|word| word.starts_with("--"));
    let named = if words[0] == "admin" { &words[..2] } else { &words[..1] };
    let output = crate::daemon::run_sequor(&[named, &["--help"]].concat());
    let help = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && flags.iter().all(|flag| help.contains(flag)), "{page}: {line}");
}

#[test]
fn other_commands_exist() {
    for (page, block) in shell_blocks().into_iter().filter(|(_, block)| !block.contains("curl")) {
        for line in block.lines().map(|line| line.split(" #").next().unwrap().trim()).filter(|line| !line.is_empty()) {
            check_command(&page, line);
        }
    }
    // Commands in tables: `cargo test … --test integration NAME` runs an existing test file.
    for (page, text) in documentation_pages() {
        for rest in text.split("--test integration ").skip(1) {
            let name: String =
                rest.chars().take_while(|letter| letter.is_ascii_lowercase() || *letter == '_').collect();
            assert!(
                project_root().join(format!("tests/integration/{name}.rs")).exists(),
                "{page} runs the test {name}"
            );
        }
    }
}

#[test]
fn documented_flags_exist() {
    let page: String = documentation_pages().into_iter().map(|(_, text)| text).collect();
    let help = |command: &str| String::from_utf8(crate::daemon::run_sequor(&[command, "--help"]).stdout).unwrap();
    for flag in ["--config", "--set", "--listen", "--admin-listen", "--data-dir"] {
        assert!(help("serve").contains(flag) && page.contains(flag), "{flag}");
    }
    for flag in ["--checkpoint", "--json", "--plot", "--test", "--validation", "--patience", "--epochs", "--resume"] {
        assert!(help("train").contains(flag) && page.contains(flag), "{flag}");
    }
    for (command, flags) in [
        (
            "demo",
            &["--for", "--json", "--seed", "--rate", "--items", "--file", "--speed", "--open", "--shop-listen"][..],
        ),
        (
            "bench",
            &[
                "--mix",
                "--rate",
                "--duration",
                "--batch",
                "--connections",
                "--users",
                "--items",
                "--history",
                "--warm-up",
                "--url",
                "--admin-url",
                "--plot",
            ],
        ),
        ("health", &["--alive", "--url"]),
        ("backup", &["--url", "--data-dir"]),
        ("compact", &["--url", "--data-dir"]),
        ("restore", &["--data-dir"]),
        ("verify", &["--json", "--data-dir"]),
        ("export", &["--from", "--to", "--only", "--url"]),
        ("rebuild", &["--accept-loss", "--json", "--set"]),
        ("migrate", &["--data-dir"]),
    ] {
        assert!(flags.iter().all(|flag| help(command).contains(flag) && page.contains(flag)), "{command}: {flags:?}");
    }
    assert!(help("evaluate").contains("--checkpoint") && help("serve").contains("--checkpoint"));
    for flag in ["--json", "--plot", "--evaluate-from", "--idle-gap", "--data-dir"] {
        assert!(help("replay").contains(flag) && page.contains(flag), "{flag}");
    }
}

/// The commands that a help text lists.
pub(crate) fn listed_subcommands(help: &str) -> Vec<String> {
    let listed = help.split_once("Commands:\n").map_or("", |(_, rest)| rest.split("\n\n").next().unwrap());
    let names = listed.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    names.map(|line| line.split_whitespace().next().unwrap().to_owned()).filter(|name| name != "help").collect()
}

#[test]
fn every_flag_in_the_text_exists() {
    let help =
        |words: &[&str]| String::from_utf8(crate::daemon::run_sequor(&[words, &["--help"]].concat()).stdout).unwrap();
    let mut all_help = help(&[]);
    for command in listed_subcommands(&all_help.clone()) {
        let of_command = help(&[&command]);
        all_help += &of_command;
        listed_subcommands(&of_command).iter().for_each(|name| all_help += &help(&[&command, name]));
    }
    for (page, text) in documentation_pages() {
        for span in pages::code_spans(&text).iter().filter(|span| span.starts_with("--") || span.starts_with("sequor "))
        {
            for flag in span.split_whitespace().filter(|word| word.starts_with("--")) {
                assert!(all_help.contains(flag.split('=').next().unwrap()), "{page} names {flag} in `{span}`");
            }
        }
    }
}
