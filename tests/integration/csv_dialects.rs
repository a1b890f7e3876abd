//! Event and catalog files in the dialects of other systems, with the real binary.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Output, Stdio};

use serde_json::{Value, json};

use crate::daemon::{Daemon, DaemonHome, run_sequor, sequor_command};

fn write_file(home: &DaemonHome, name: &str, text: &str) -> PathBuf {
    let file = home.dir().join(name);
    fs::write(&file, text).unwrap();
    file
}

/// Imports a file, or standard input, into a daemon. Returns the exit code and standard error.
fn run_import(daemon: &Daemon, file: &str, input: &[u8], arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = sequor_command();
    command.args(["import", file, "--url", daemon.api_url()]).args(arguments);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    // The command may end before it has read everything.
    let _ = child.stdin.take().unwrap().write_all(input);
    let Output { status, stderr, .. } = child.wait_with_output().unwrap();
    (status.code(), String::from_utf8(stderr).unwrap())
}

/// User, kind, item and value of each event in the journal.
fn journal_events(daemon: &Daemon) -> Vec<[String; 3]> {
    let output = run_sequor(&["export", "--url", daemon.admin_url(), "--only", "event"]);
    let lines = String::from_utf8(output.stdout).unwrap();
    let fields = |line: &str| {
        let event = serde_json::from_str::<Value>(line).unwrap();
        ["user_id", "type", "item_id"].map(|name| event[name].as_str().unwrap_or_default().to_owned())
    };
    lines.lines().map(fields).collect()
}

fn to_owned_rows(rows: &[[&str; 3]]) -> Vec<[String; 3]> {
    rows.iter().map(|row| row.map(str::to_owned)).collect()
}

/// Regression test: a line of quoted text that looks like a row was imported as a row.
#[test]
fn quoted_fields_may_contain_line_ends() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    let rows = "user,item,event,timestamp,comment\nann,tea,view,1600000000,\"first\r\nbob,cup,view,1600000001,x\n\n\"\"quoted\"\"\"\n\
                eve,pot,view,1600000002,\"never closed\ndan,urn,view,1600000003,y\n";
    let file = write_file(&home, "comments.csv", rows);
    let (code, error) = run_import(&daemon, file.to_str().unwrap(), b"", &[]);
    assert_eq!(code, Some(2), "{error}");
    assert!(error.contains("comments.csv:6: a quote is never closed"), "{error}");
    assert_eq!(journal_events(&daemon), to_owned_rows(&[["ann", "view", "tea"], ["dan", "view", "urn"]]));
    // The product export of a shop: descriptions of several lines, and a row for each variant.
    let catalog = "Handle,Title,Body (HTML),Vendor,Variant Price\nshirt,Shirt,\"<p>Blue,\n\n\"\"soft\"\"</p>\",Leaf,4.5\nshirt,,,,5\nshirt,,,,5.5\nhat,Hat,<p>,Sun,3\n";
    let file = write_file(&home, "products.csv", catalog);
    let arguments = ["--items", "--map", "item=Handle,brand=Vendor,price=Variant Price"];
    let (code, error) = run_import(&daemon, file.to_str().unwrap(), b"", &arguments);
    assert_eq!(code, Some(0), "{error}");
    let item = daemon.get("/v1/items/shirt").json();
    assert_eq!((&item["brand"], &item["price"]), (&json!("Leaf"), &json!(5.5)));
}

#[test]
fn the_separator_is_detected_or_named() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    for (number, (separator, arguments)) in
        [("\t", &[][..]), (";", &[]), ("|", &[]), ("\t", &["--delimiter", "tab"]), ("^", &["--delimiter", "^"])]
            .into_iter()
            .enumerate()
    {
        let item = format!("i{number}");
        let line = |fields: [&str; 5]| fields.join(separator) + "\n";
        let text = line(["user", "item", "event", "timestamp", "note"]) + &line(["u", &item, "view", "1600000000", ""]);
        let file = write_file(&home, &format!("{item}.csv"), &text);
        let (code, error) = run_import(&daemon, file.to_str().unwrap(), b"", arguments);
        assert_eq!((code, daemon.next_offset()), (Some(0), number as u64 + 1), "{separator}: {error}");
    }
    let file = write_file(&home, "wrong.csv", "user;item;event;at\nu;i;view;1600000000\n");
    let (code, error) = run_import(&daemon, file.to_str().unwrap(), b"", &[]);
    assert!(code == Some(1) && error.contains("lacks the column `timestamp`"), "{error}");
}

/// Regression test: an import of the README's example lost its cart and purchase events.
#[test]
fn kinds_are_mapped() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    let rows = "timestamp,visitorid,event,itemid,transactionid\n1433221332117,257597,view,355908,\n1433224214164,992329,addtocart,248676,\n\
                1433222276276,599528,transaction,356475,4000\n";
    let file = write_file(&home, "events.csv", rows);
    let mapping = ["--map", "user=visitorid,item=itemid,type=event", "--kind", "addtocart=cart,transaction=purchase"];
    let (code, error) = run_import(&daemon, file.to_str().unwrap(), b"", &mapping);
    assert_eq!(code, Some(0), "{error}");
    let expected =
        to_owned_rows(&[["257597", "view", "355908"], ["599528", "purchase", "356475"], ["992329", "cart", "248676"]]);
    assert_eq!(journal_events(&daemon), expected);
    for command in ["replay", "train"] {
        // Enough sessions to train on.
        let more: String = (0..400)
            .map(|row| format!("{},{},addtocart,{},\n", 1_433_300_000_000_u64 + row * 1000, row / 4, row % 9))
            .collect();
        let file = write_file(&home, "more.csv", &format!("{rows}{more}"));
        let mut arguments = vec![command, file.to_str().unwrap(), "--set", "network.hidden=8"];
        arguments.extend(mapping);
        if command == "train" {
            arguments.extend(["--epochs", "1"]);
        }
        let output = run_sequor(&arguments);
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
        let report = String::from_utf8(output.stdout).unwrap();
        assert!(command == "train" || report.contains("403   (0 rejected)"), "{report}");
    }
}

#[test]
fn files_without_a_header_and_standard_input_are_read() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    let rows = "196\t242\t3\t881250949\n186\t302\t4\t891717742\n";
    let columns = ["--columns", "user,item,value,timestamp", "--type", "rate"];
    let file = write_file(&home, "u.data", rows);
    let (code, error) = run_import(&daemon, file.to_str().unwrap(), b"", &columns);
    assert_eq!((code, daemon.next_offset()), (Some(0), 2), "{error}");
    assert_eq!(journal_events(&daemon)[0], ["196", "rate", "242"].map(str::to_owned));
    // The import reads standard input, compressed or not. Rows that were sent before are
    // recognised.
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(rows.as_bytes()).unwrap();
    let zstd = zstd::encode_all(rows.as_bytes(), 1).unwrap();
    for input in [rows.as_bytes(), &gzip.finish().unwrap(), &zstd] {
        let (code, error) = run_import(&daemon, "-", input, &columns);
        assert_eq!((code, daemon.next_offset()), (Some(0), 4), "{error}");
    }
    let (code, error) = run_import(&daemon, "-", &zstd[..zstd.len() - 3], &columns);
    assert!(code == Some(1) && error.contains("the file is truncated"), "{error}");
    let json = "{\"user\":{\"id\":\"ann\"},\"item\":\"tea\",\"at\":1600000000}\n";
    let mapping = ["--map", "user=user.id,item=item,time=at", "--type", "view"];
    let (code, error) = run_import(&daemon, "-", json.as_bytes(), &mapping);
    assert_eq!((code, daemon.next_offset()), (Some(0), 5), "{error}");
    assert_eq!(journal_events(&daemon)[4], ["ann", "view", "tea"].map(str::to_owned));
    assert!(!home.dir().join("-.import").exists());
    let (code, error) = run_import(&daemon, "-", b"", &["--id-from", "content"]);
    assert!(code == Some(1) && error.contains("use --id-from row or columns"), "{error}");
}
