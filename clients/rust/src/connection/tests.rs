//! Addresses, keys, certificates and lines of a stream.

use super::*;
use std::io::{BufReader, Write};
use std::net::TcpListener;
use std::{iter, thread};

#[test]
fn an_address_must_be_a_url_with_a_host() {
    let ports = ["http://a:", "http://a:x", "http://a:0", "http://a:99999", "http://a:-1", "http://[::1]:x"];
    let others = ["localhost:8080", "ftp://example.com", "http://", "http://a b", "", "http://a?x=1", "http://a/#f"];
    for address in ports.into_iter().chain(others) {
        let error = Connection::new(address, &ConnectionOptions::default()).unwrap_err().to_string();
        assert_eq!(error, format!("the address is `{address}`; it must be http://HOST:PORT or https://HOST:PORT"));
    }
    let connection = Connection::new("http://localhost:8080/shop/", &ConnectionOptions::default()).unwrap();
    assert_eq!(connection.base_url(), "http://localhost:8080/shop");
    for address in ["http://[::1]:65535", "https://a", "http://a:1/"] {
        Connection::new(address, &ConnectionOptions::default()).unwrap();
    }
    for address in ["http://ann:secret@a", "http://secret@a:80"] {
        let error = Connection::new(address, &ConnectionOptions::default()).unwrap_err().to_string();
        assert!(error.contains("API key") && !error.contains("secret"), "{error}");
    }
}

#[test]
fn a_key_that_a_header_cannot_have_is_refused_without_naming_it() {
    let options = ConnectionOptions { key: Some("secret\n".to_owned()), ..ConnectionOptions::default() };
    let error = Connection::new("http://localhost", &options).unwrap_err().to_string();
    assert!(error.starts_with("the key has a character") && !error.contains("secret"), "{error}");
    assert!(!format!("{options:?}").contains("secret"));
}

#[test]
fn the_key_is_sent_as_a_bearer_token() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = thread::spawn(move || {
        [(); 2].map(|()| {
            let (stream, _) = listener.accept().unwrap();
            let mut stream = BufReader::new(stream);
            let head: Vec<_> =
                iter::from_fn(|| read_line(&mut stream).unwrap().filter(|line| !line.is_empty())).collect();
            stream.get_mut().write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n").unwrap();
            head.into_iter().find_map(|line| Some(line.strip_prefix("authorization: ")?.to_owned()))
        })
    });
    for key in [Some("secret".to_owned()), None] {
        let options = ConnectionOptions { key, ..ConnectionOptions::default() };
        let response = Connection::new(&url, &options).unwrap().send(&HttpRequest::get("/v1/trending")).unwrap();
        assert_eq!(response.status(), StatusCode::NO_CONTENT);
    }
    assert_eq!(server.join().unwrap(), [Some("Bearer secret".to_owned()), None]);
}

#[test]
fn a_server_on_this_machine_needs_no_proxy() {
    for host in ["localhost", "LocalHost", "127.0.0.1", "127.3.2.1", "[::1]"] {
        assert!(is_this_machine(host), "{host}");
    }
    for host in ["10.0.0.1", "localhost.example.com", "[::2]", "sequor"] {
        assert!(!is_this_machine(host), "{host}");
    }
}

#[test]
fn certificates_are_read_from_pem() {
    let message = |pem: &[u8]| TrustedCertificates::from_pem(pem).unwrap_err().to_string();
    assert_eq!(message(b"no PEM"), "the PEM text contains no certificate");
    assert!(message(b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n").contains("not valid PEM"));
    let pem = b"-----BEGIN CERTIFICATE-----\nMAMCAQE=\n-----END CERTIFICATE-----\n";
    assert_eq!(TrustedCertificates::from_pem(pem).unwrap().der().collect::<Vec<_>>(), [[48, 3, 2, 1, 1]]);
}

#[test]
fn a_refused_connection_was_not_sent() {
    // No daemon listens on port 1.
    let connection = Connection::new("http://127.0.0.1:1", &ConnectionOptions::default()).unwrap();
    let error = connection.send(&HttpRequest::get("/")).unwrap_err();
    assert!(error.was_not_sent());
    assert!(error.to_string().starts_with("Connection refused"), "{error}");
    assert!(!ConnectionError::STREAM_ENDED.was_not_sent());
}

#[test]
fn lines_of_a_stream_end_with_a_line_break() {
    let mut stream: &[u8] = b"id: 7\r\ndata\n\nrest";
    let lines: Vec<_> = iter::from_fn(|| read_line(&mut stream).unwrap()).collect();
    assert_eq!(lines, ["id: 7", "data", ""]);
}
