//! `sequor import` and `sequor export` of Parquet files with the real binary, and with libraries that
//! read the files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use crate::daemon::run_sequor;

fn sample(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/integration/parquet_samples").join(name)
}

fn texts(output: &Output) -> (String, String) {
    (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[cfg(not(feature = "parquet"))]
mod without_feature {
    use super::*;

    #[test]
    fn a_build_without_parquet_says_how_to_get_one_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let how = "this program was built without Parquet; build it with `cargo build --release --features parquet`";
        // The content decides, whatever the name.
        let renamed = folder.path().join("events.csv");
        fs::copy(sample("pandas.parquet"), &renamed).unwrap();
        for file in [sample("pandas.parquet"), renamed] {
            for command in [&["import", "--dry-run"][..], &["replay"]] {
                let (_, stderr) = texts(&run_sequor(&[command, &[file.to_str().unwrap()]].concat()));
                assert!(stderr.contains(how), "{command:?}: {stderr}");
            }
        }
        let output = folder.path().join("events.parquet");
        let data = folder.path().join("data");
        let arguments = ["export", output.to_str().unwrap(), "--data-dir", data.to_str().unwrap()];
        let (_, stderr) = texts(&run_sequor(&arguments));
        assert!(stderr.contains(how) && stderr.contains("or write an .ndjson file"), "{stderr}");
        assert!(!output.exists() && !data.exists());
    }
}

#[cfg(feature = "parquet")]
mod with_feature {
    use super::*;
    use crate::daemon::{Daemon, DaemonHome, report_skipped, sequor_command};
    use parquet::file::metadata::ParquetMetaDataReader;
    use serde_json::{Value, json};
    use std::fs::File;
    use std::process::{Command, Stdio};

    fn expect_success(output: Output) -> String {
        let (stdout, stderr) = texts(&output);
        assert!(output.status.success(), "{stdout}{stderr}");
        stdout
    }

    /// Imports a file with times in UTC. Returns the summary.
    fn import(file: &Path, arguments: &[&str]) -> Value {
        let all = [&["import", file.to_str().unwrap(), "--json", "--time-zone", "UTC"], arguments].concat();
        serde_json::from_str(&expect_success(run_sequor(&all))).unwrap()
    }

    fn exported(daemon: &Daemon) -> Vec<Value> {
        let lines = expect_success(run_sequor(&["export", "--url", daemon.admin_url(), "--only", "event"]));
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn each_row_is_imported_once_and_a_grown_file_is_continued() {
        let home = DaemonHome::new();
        let daemon = home.start(&[]);
        let (file, url) = (home.dir().join("events.parquet"), ["--url", daemon.api_url()]);
        fs::copy(sample("pandas.parquet"), &file).unwrap();
        let first = import(&file, &url);
        assert_eq!((&first["taken"], &first["faulty"]), (&40.into(), &0.into()), "{first}");
        let again = import(&file, &url);
        assert_eq!((&again["taken"], &again["skipped"]), (&0.into(), &40.into()), "{again}");
        // Another library writes the same rows with other pages, so the content is the same.
        fs::copy(sample("duckdb.parquet"), &file).unwrap();
        let rewritten = import(&file, &url);
        assert_eq!((&rewritten["taken"], &rewritten["skipped"]), (&0.into(), &40.into()), "{rewritten}");
        let events = exported(&daemon);
        assert_eq!((&events[0]["user_id"], &events[0]["item_id"]), (&"1000".into(), &"9007199254740993".into()));
        assert!(events[0]["event_id"].as_str().unwrap().ends_with("-1"), "{}", events[0]);

        let items = home.dir().join("items.parquet");
        fs::copy(sample("items.parquet"), &items).unwrap();
        assert_eq!(import(&items, &[&url[..], &["--items", "--map", "item=sku"]].concat())["taken"], 3);
        assert_eq!(daemon.get("/v1/items/1").json()["price"], 4.5);
    }

    #[test]
    fn rows_are_shown_and_rejected_by_number() {
        let file = sample("pandas.parquet");
        let output = run_sequor(&["import", file.to_str().unwrap(), "--dry-run", "--rows", "2", "--time-zone", "UTC"]);
        let (stdout, _) = texts(&output);
        let lines: Vec<_> = stdout.lines().collect();
        assert!(lines[1].starts_with("1     purchase  1000     9007199254740993  "), "{stdout}");
        assert_eq!(lines[3], "  converted                               40", "{stdout}");
        let output = run_sequor(&["import", file.to_str().unwrap(), "--dry-run"]);
        let (_, stderr) = texts(&output);
        assert_eq!((output.status.code(), stderr.matches("name a --time-zone").count()), (Some(2), 40), "{stderr}");
        assert!(stderr.contains("pandas.parquet:40: "), "{stderr}");
        let stdin = sequor_command().args(["import", "-", "--dry-run"]).stdin(File::open(&file).unwrap()).output();
        let (_, stderr) = texts(&stdin.unwrap());
        assert!(stderr.contains("Parquet cannot be read from the standard input") && stderr.contains("name a file"));
        // A pipe has no positions.
        let mut pipe = Command::new("cat").arg(&file).stdout(Stdio::piped()).spawn().unwrap();
        let output = sequor_command().args(["import", "-", "--dry-run"]).stdin(pipe.stdout.take().unwrap()).output();
        assert!(texts(&output.unwrap()).1.contains("name a file"));
        pipe.wait().unwrap();
    }

    #[test]
    fn a_damaged_file_is_refused_before_anything_is_imported() {
        let home = DaemonHome::new();
        let daemon = home.start(&[]);
        let file = home.dir().join("events.parquet");
        let whole = fs::read(sample("pandas.parquet")).unwrap();
        let import = |bytes: &[u8]| {
            fs::write(&file, bytes).unwrap();
            let arguments = ["import", file.to_str().unwrap(), "--time-zone", "UTC", "--url", daemon.api_url()];
            let output = run_sequor(&arguments);
            (output.status.code(), texts(&output).1)
        };
        let (code, stderr) = import(&whole[..whole.len() - 1]);
        assert!(code == Some(1) && stderr.contains("nothing was imported"), "{stderr}");
        assert!(stderr.contains("does not end with PAR1: the file is truncated"), "{stderr}");
        let metadata = ParquetMetaDataReader::new().parse_and_finish(&File::open(sample("pandas.parquet")).unwrap());
        let page = metadata.unwrap().row_group(1).column(0).data_page_offset() as usize;
        let mut damaged = whole.clone();
        damaged[page..page + 8].fill(0xFF);
        let (code, stderr) = import(&damaged);
        assert!(code == Some(1) && stderr.contains("nothing was imported"), "{stderr}");
        assert!(stderr.contains("events.parquet:17: cannot be read: row group 2 of 3: "), "{stderr}");
        assert_eq!(exported(&daemon).len(), 0);
        assert_eq!(import(&whole).0, Some(0));
        assert_eq!(exported(&daemon).len(), 40);
    }

    /// Sends events with all fields, also with less consent. Returns their number.
    fn send_events(daemon: &Daemon) -> usize {
        let event = |number: u64, more: Value| {
            let mut event = json!({ "user_id": format!("u{}", number % 7), "type": "view", "item_id": format!("i{number}"), "timestamp": 1_700_000_000_000 + number * 1000 });
            event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            event
        };
        let mut events: Vec<_> =
            (0..60).map(|number| event(number, json!({ "event_id": format!("e{number}") }))).collect();
        events.push(event(
            60,
            json!({ "type": "purchase", "value": 0.1, "currency": "EUR", "quantity": 3, "recommendation_id": "r1",
            "session_id": "s", "properties": { "a": [1.50, "\n\"ü\""] }, "context": { "device": "phone", "n": 2.5 } }),
        ));
        events.push(event(61, json!({ "consent": "session" })));
        events.push(json!({ "user_id": "u", "type": "search", "timestamp": "1970-01-01T00:00:01.5Z" }));
        events.chunks(40).for_each(|batch| drop(daemon.send_events(batch)));
        assert_eq!(daemon.post("/v1/items", r#"{"item_id":"i1","price":2}"#).status, 200);
        events.len()
    }

    #[test]
    fn an_export_is_imported_into_the_same_journal() {
        let home = DaemonHome::new();
        let daemon = home.start(&[]);
        let count = send_events(&daemon);
        let (online, offline) = (home.dir().join("online.parquet"), home.dir().join("offline.pq"));
        fs::write(&online, "an older file").unwrap();
        expect_success(run_sequor(&["export", online.to_str().unwrap(), "--url", daemon.admin_url()]));
        let events = exported(&daemon);
        assert_eq!(events.len(), count);
        assert!(daemon.terminate().success());
        let data = home.data_dir();
        let arguments =
            ["export", offline.to_str().unwrap(), "--format", "parquet", "--data-dir", data.to_str().unwrap()];
        expect_success(run_sequor(&arguments));
        assert!(fs::read(&online).unwrap() == fs::read(&offline).unwrap(), "online and offline exports are equal");

        let other = DaemonHome::new();
        let fresh = other.start(&[]);
        // `--window 0s` keeps the order of the file.
        let summary = import(&online, &["--window", "0s", "--id-from", "columns", "--url", fresh.api_url()]);
        assert_eq!((&summary["taken"], &summary["faulty"]), (&count.into(), &0.into()), "{summary}");
        let without_added_ids = |mut event: Value, original: &Value| {
            let object = event.as_object_mut().unwrap();
            // An import gives an id to events without one.
            if original.get("event_id").is_none() {
                object.remove("event_id");
            }
            event
        };
        let found: Vec<_> = exported(&fresh)
            .into_iter()
            .zip(&events)
            .map(|(event, original)| without_added_ids(event, original))
            .collect();
        assert_eq!(found, events);
        let range = home.dir().join("range.parquet");
        let arguments = ["--from", "2", "--to", "5", "--url", fresh.admin_url()];
        expect_success(run_sequor(&[&["export", range.to_str().unwrap()], &arguments[..]].concat()));
        let shown = expect_success(run_sequor(&["import", range.to_str().unwrap(), "--dry-run"]));
        assert!(shown.contains("converted                                3"), "{shown}");
    }

    #[test]
    fn an_export_that_cannot_be_a_table_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        for (arguments, message) in [
            (&["--format", "parquet"][..], "cannot be written to standard output; name a file"),
            (&["-", "--format", "parquet"], "cannot be written to standard output; name a file"),
            (&["a.parquet", "--only", "item"], "a Parquet file holds events; omit --only"),
            (&["a.parquet.gz", "--format", "parquet"], "omit .gz"),
        ] {
            let (_, stderr) =
                texts(&run_sequor(&[&["export", "--data-dir", data.to_str().unwrap()], arguments].concat()));
            assert!(stderr.contains(message), "{arguments:?}: {stderr}");
        }
        assert!(!data.exists());
    }

    #[test]
    fn pandas_and_pyarrow_read_an_export() {
        let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/parquet/bin/python");
        if !Command::new(&python).args(["-c", "import pandas, pyarrow"]).status().is_ok_and(|status| status.success()) {
            report_skipped("Parquet files in pandas: it is not installed (run tests/run)");
            return;
        }
        let home = DaemonHome::new();
        let daemon = home.start(&[]);
        let count = send_events(&daemon);
        let file = home.dir().join("events.parquet");
        expect_success(run_sequor(&["export", file.to_str().unwrap(), "--url", daemon.admin_url()]));
        let script = "import sys, json, pandas; \
            frame = pandas.read_parquet(sys.argv[1]); row = frame.iloc[60]; \
            print(json.dumps([len(frame), str(frame['timestamp'].dt.tz), row['timestamp'].isoformat(), round(float(row['value']), 6), \
            int(row['quantity']), json.loads(row['properties']), json.loads(row['context']), frame['consent'].dropna().tolist(), \
            list(frame.columns)]))";
        let output = Command::new(&python).args(["-c", script]).arg(&file).output().unwrap();
        let found: Value = serde_json::from_str(&expect_success(output)).unwrap();
        let columns = [
            "offset",
            "event_id",
            "user_id",
            "session_id",
            "type",
            "item_id",
            "value",
            "timestamp",
            "consent",
            "recommendation_id",
            "currency",
            "quantity",
            "properties",
            "context",
        ];
        assert_eq!(
            found,
            json!([
                count, "UTC", "2023-11-14T22:14:20+00:00", 0.1, 3, { "a": [1.5, "\n\"ü\""] },
                { "device": "phone", "n": 2.5 }, ["session"], columns
            ])
        );
    }
}
