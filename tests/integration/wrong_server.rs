//! Commands whose address is that of another server, or of a daemon that hangs.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use crate::daemon::{DaemonHome, run_sequor, sequor_command};
use crate::messages::stderr_text;

/// Starts a server that passes each connection to `answer` on a thread. Returns its address. The
/// server runs until the tests end.
fn start_server(answer: fn(TcpStream)) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for connection in listener.incoming() {
            let connection = connection.unwrap();
            thread::spawn(move || answer(connection));
        }
    });
    address
}

/// Reads the request of a command, which arrives as one piece.
fn read_request(connection: &mut TcpStream) {
    assert!(connection.read(&mut [0; 4096]).unwrap() > 0);
}

/// Reads a request and answers 200, like a web server that has a page for every path.
fn answer_with_a_page(mut connection: TcpStream) {
    read_request(&mut connection);
    let page = "<html>Welcome</html>";
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: {}\r\n\r\n", page.len());
    connection.write_all(format!("{head}{page}").as_bytes()).unwrap();
}

/// Answers 501, like a web server without POST.
fn answer_not_implemented(mut connection: TcpStream) {
    read_request(&mut connection);
    connection.write_all(b"HTTP/1.1 501 Not Implemented\r\ncontent-length: 0\r\n\r\n").unwrap();
}

/// Answers 200 with an empty JSON object.
fn answer_with_an_empty_object(mut connection: TcpStream) {
    read_request(&mut connection);
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n";
    connection.write_all(format!("{head}{{}}").as_bytes()).unwrap();
}

/// Answers with a redirect, like a reverse proxy.
fn answer_with_a_redirect(mut connection: TcpStream) {
    read_request(&mut connection);
    let head = "HTTP/1.1 301 Moved Permanently\r\nlocation: https://recs.example.com/\r\ncontent-length: 0\r\n\r\n";
    connection.write_all(head.as_bytes()).unwrap();
}

/// Answers 500 with control characters that a terminal obeys.
fn answer_with_control_characters(mut connection: TcpStream) {
    read_request(&mut connection);
    connection.write_all(b"HTTP/1.1 500 Error\r\ncontent-length: 8\r\n\r\na\x1b[2Jb\x07\n").unwrap();
}

/// Answers 204, like a server that accepts everything.
fn answer_without_content(mut connection: TcpStream) {
    read_request(&mut connection);
    connection.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
}

/// Answers with a body that never ends, a byte after the other.
fn answer_slowly(mut connection: TcpStream) {
    read_request(&mut connection);
    let head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1000000\r\n\r\n";
    let mut sent = connection.write_all(head);
    while sent.is_ok() {
        thread::sleep(Duration::from_millis(50));
        sent = connection.write_all(b" ");
    }
}

/// Answers with lines of JSON, of which the last one is cut off.
fn answer_with_half_a_line(mut connection: TcpStream) {
    read_request(&mut connection);
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\nconnection: close\r\n\r\n";
    connection.write_all(format!("{head}{{\"offset\":1}}\n{{\"offset\":").as_bytes()).unwrap();
}

/// Answers with a line that is no JSON.
fn answer_with_another_line(mut connection: TcpStream) {
    read_request(&mut connection);
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\ncontent-length: 8\r\n\r\n";
    connection.write_all(format!("{head}<html>\r\n").as_bytes()).unwrap();
}

/// Refuses requests for a long time.
fn answer_with_a_long_delay(mut connection: TcpStream) {
    read_request(&mut connection);
    let head = "HTTP/1.1 429 Too Many Requests\r\nretry-after: 3000\r\ncontent-length: 0\r\n\r\n";
    connection.write_all(head.as_bytes()).unwrap();
}

/// Reads requests and never answers.
fn never_answer(mut connection: TcpStream) {
    let mut request = [0; 4096];
    while connection.read(&mut request).is_ok_and(|bytes| bytes > 0) {}
}

/// Answers a request like a server with TLS: with an alert.
fn answer_with_a_tls_alert(mut connection: TcpStream) {
    read_request(&mut connection);
    connection.write_all(&[21, 3, 3, 0, 2, 2, 10]).unwrap();
}

#[test]
fn another_server_is_not_taken_for_a_daemon() {
    let url = start_server(answer_with_a_page);
    let home = DaemonHome::new();
    let file = home.dir().join("export.ndjson");
    let file = file.to_str().unwrap();
    for command in [
        &["health"][..],
        &["health", "--alive"],
        &["health", "--journal"],
        &["erasures"],
        &["export"],
        &["export", file],
        &["cluster", "status"],
        &["admin", "status"],
    ] {
        let output = run_sequor(&[command, &["--url", &url]].concat());
        let said = stderr_text(&output);
        assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(1), &b""[..]), "{command:?}: {said}");
        assert!(said.contains("is not the admin endpoint of a Sequor daemon"), "{command:?}: {said}");
    }
    assert_eq!(std::fs::read_dir(home.dir()).unwrap().count(), 0, "an export leaves no file behind");
}

#[test]
fn a_server_that_never_answers_ends_the_command() {
    let url = start_server(never_answer);
    let home = DaemonHome::new();
    let file = home.dir().join("events.ndjson");
    std::fs::write(&file, r#"{"user_id":"ann","type":"view","item_id":"tea","timestamp":1700000000000}"#).unwrap();
    let import = ["import", file.to_str().unwrap(), "--give-up-after", "1s", "--url", &url];
    for command in [&import[..], &["health", "--timeout", "1", "--url", &url]] {
        let output = run_sequor(command);
        let said = stderr_text(&output);
        assert_eq!(output.status.code(), Some(1), "{command:?}: {said}");
        assert!(said.trim_end().ends_with("no response within the time limit"), "{command:?}: {said}");
    }
}

#[test]
fn a_server_with_tls_needs_another_address() {
    let url = start_server(answer_with_a_tls_alert);
    let home = DaemonHome::new();
    let (users, lists) = (home.dir().join("users.txt"), home.dir().join("lists.csv"));
    std::fs::write(&users, "ann\n").unwrap();
    let recommend = ["recommend", "--users", users.to_str().unwrap(), "--output", lists.to_str().unwrap()];
    for command in [&["health"][..], &recommend] {
        let output = run_sequor(&[command, &["--url", &url]].concat());
        let said = stderr_text(&output);
        assert_eq!(output.status.code(), Some(1), "{command:?}: {said}");
        assert!(said.contains("a server with TLS has an address with https://"), "{command:?}: {said}");
    }
    assert_eq!(std::fs::read_dir(home.dir()).unwrap().count(), 1, "no file is left behind");
}

#[test]
fn the_answer_of_another_server_is_explained() {
    for (answer, reason) in [
        (answer_with_a_redirect as fn(TcpStream), "redirects to https://recs.example.com/ (301 Moved Permanently)"),
        (answer_without_content, "is not the admin endpoint of a Sequor daemon"),
        (answer_with_control_characters, r"a\u{1b}[2Jb\u{7}"),
    ] {
        let output = run_sequor(&["admin", "status", "--url", &start_server(answer)]);
        let said = stderr_text(&output);
        assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(1), &b""[..]), "{said}");
        assert!(said.contains(reason), "{said}");
    }
    let output = run_sequor(&["health", "--timeout", "1s", "--url", &start_server(answer_slowly)]);
    let said = stderr_text(&output);
    assert!(output.status.code() == Some(1) && said.contains("within the time limit"), "{said}");
}

#[test]
fn lines_that_are_cut_off_or_no_json_are_no_export() {
    let home = DaemonHome::new();
    let file = home.dir().join("export.ndjson");
    for (answer, reason) in [
        (answer_with_half_a_line as fn(TcpStream), "is cut off in the middle of a line"),
        (answer_with_another_line, "has a line that is no JSON object"),
    ] {
        let url = start_server(answer);
        for command in [&["export", file.to_str().unwrap()][..], &["erasures"]] {
            let output = run_sequor(&[command, &["--url", &url]].concat());
            let said = stderr_text(&output);
            assert_eq!(output.status.code(), Some(1), "{command:?}: {said}");
            assert!(said.contains(reason) && said.contains(&url), "{command:?}: {said}");
        }
    }
    assert_eq!(std::fs::read_dir(home.dir()).unwrap().count(), 0);
}

#[test]
fn a_long_wait_is_announced() {
    let home = DaemonHome::new();
    let file = home.dir().join("events.ndjson");
    std::fs::write(&file, r#"{"user_id":"ann","type":"view","item_id":"tea","timestamp":1700000000000}"#).unwrap();
    let mut command = sequor_command();
    command.args(["import", file.to_str().unwrap(), "--url", &start_server(answer_with_a_long_delay)]);
    let mut import = command.stderr(std::process::Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(import.stderr.take().unwrap()).read_line(&mut line).unwrap();
    import.kill().unwrap();
    import.wait().unwrap();
    assert!(line.contains("refuses requests for 3000 s (429 Too Many Requests); waiting"), "{line}");
}

#[test]
fn invalid_keys_and_addresses_are_refused_by_every_command() {
    let home = DaemonHome::new();
    let (users, lists) = (home.dir().join("users.txt"), home.dir().join("lists.csv"));
    std::fs::write(&users, "ann\n").unwrap();
    let recommend = ["recommend", "--users", users.to_str().unwrap(), "--output", lists.to_str().unwrap()];
    for command in [&recommend[..], &["bench", "--duration", "1s"], &["health"], &["import", users.to_str().unwrap()]] {
        let run = |url: &str, key: &str| {
            let mut run = sequor_command();
            let output = run.args(command).args(["--url", url]).env("SEQUOR_KEY", key).output().unwrap();
            let said = stderr_text(&output);
            assert!(matches!(output.status.code(), Some(1 | 2)), "{command:?}: {said}");
            assert!(!said.contains("secret"), "{command:?}: {said}");
            said
        };
        for key in ["secret\r", "secret-ключ"] {
            let said = run("http://127.0.0.1:1", key);
            assert!(said.contains("the key has a character that a header cannot have"), "{command:?}: {said}");
        }
        let said = run("http://ann:secret@127.0.0.1:1", "sq_1");
        assert!(said.contains("has a user name or a password"), "{command:?}: {said}");
    }
    assert_eq!(std::fs::read_dir(home.dir()).unwrap().count(), 1, "no file is left behind");
}

#[test]
fn an_import_gives_up_on_another_server() {
    let home = DaemonHome::new();
    let file = home.dir().join("events.ndjson");
    std::fs::write(&file, r#"{"user_id":"ann","type":"view","item_id":"tea","timestamp":1700000000000}"#).unwrap();
    for (answer, reason) in [
        (answer_not_implemented as fn(TcpStream), "gave up after 1s (--give-up-after)"),
        (answer_with_an_empty_object, "is not the API of a Sequor daemon"),
        (answer_with_a_redirect, "redirects to https://recs.example.com/ (301 Moved Permanently)"),
    ] {
        let url = start_server(answer);
        let output = run_sequor(&["import", file.to_str().unwrap(), "--give-up-after", "1s", "--url", &url]);
        let said = stderr_text(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(reason) && said.contains(&url), "{said}");
    }
    let output = run_sequor(&["cluster", "status", "--url", &start_server(answer_with_an_empty_object)]);
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn an_api_port_is_not_an_admin_port() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    let output = run_sequor(&["health", "--url", daemon.api_url()]);
    let said = stderr_text(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("and not of the API"), "{said}");
}

#[test]
fn a_result_that_cannot_be_printed_is_an_error_and_a_closed_pipe_is_none() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    let backup = home.dir().join("backup");
    for command in [&["health"][..], &["backup", backup.to_str().unwrap()]] {
        let run = |output: std::process::Stdio| {
            let _ = std::fs::remove_dir_all(&backup);
            let mut process = sequor_command();
            process.args(command).args(["--url", daemon.admin_url()]).stdout(output).output().unwrap()
        };
        let full = run(std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap().into());
        assert_eq!(full.status.code(), Some(1), "{command:?}: {}", stderr_text(&full));
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let closed = run(writer.into());
        assert_eq!(closed.status.code(), Some(0), "{command:?}: {}", stderr_text(&closed));
    }
}
