//! Divides the bytes of an HTTP/1.1 connection into the heads and bodies of requests.

use super::request_body::RequestBody;

/// The beginning of scanned bytes that belongs to one head or one body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ScannedPart {
    pub(super) length: usize,
    /// Whether the part ends with the end of a head.
    pub(super) completes_head: bool,
}

/// Finds the ends of heads and bodies in the bytes of an HTTP/1.1 connection.
///
/// The scanner does not parse heads. The HTTP library does, and the request then tells how its body
/// ends ([`RequestScanner::begin_body`]).
#[derive(Debug, Default)]
pub(super) struct RequestScanner {
    head: HeadScanner,
    /// The rest of the latest request's body.
    body: RequestBody,
}

impl RequestScanner {
    /// Expects the body of a request whose head is complete.
    pub(super) fn begin_body(&mut self, body: RequestBody) {
        *self = Self { head: HeadScanner::default(), body };
    }

    pub(super) fn is_body_complete(&self) -> bool {
        self.body.is_complete()
    }

    /// Scans the next bytes, up to the end of the current body or else of the next head.
    pub(super) fn scan(&mut self, bytes: &[u8]) -> ScannedPart {
        if self.body.is_complete() {
            self.head.scan(bytes)
        } else {
            ScannedPart { length: self.body.scan(bytes), completes_head: false }
        }
    }
}

/// Finds the blank line that ends a head.
///
/// The scanner takes every line of one byte for a blank line, so it may find an end too early but
/// never too late. The only effect of an early end is that the connection delivers the head in
/// smaller parts.
#[derive(Debug, Default)]
struct HeadScanner {
    /// Number of bytes read so far of the current line.
    line: usize,
    /// Whether the head has a line that is not blank. Blank lines before the first such line do not
    /// end the head.
    has_text: bool,
}

impl HeadScanner {
    fn scan(&mut self, bytes: &[u8]) -> ScannedPart {
        let mut line_start = 0;
        for line_end in memchr::memchr_iter(b'\n', bytes) {
            // `length` does not include the line feed. A blank line therefore has length 0, or 1 if
            // it has a carriage return.
            let length = self.line + (line_end - line_start);
            self.line = 0;
            line_start = line_end + 1;
            if length > 1 {
                self.has_text = true;
            } else if self.has_text {
                self.has_text = false;
                return ScannedPart { length: line_start, completes_head: true };
            }
        }
        self.line += bytes.len() - line_start;
        ScannedPart { length: bytes.len(), completes_head: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GET_REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

    /// The positions in `text` at which heads end. The text arrives in pieces of `size` bytes.
    fn scan_pieces(text: &[u8], size: usize) -> Vec<usize> {
        let (mut scanner, mut ends, mut position) = (RequestScanner::default(), Vec::new(), 0);
        for mut piece in text.chunks(size) {
            while !piece.is_empty() {
                let part = scanner.scan(piece);
                assert!(part.length > 0);
                position += part.length;
                piece = &piece[part.length..];
                if part.completes_head {
                    ends.push(position);
                }
            }
        }
        ends
    }

    #[test]
    fn heads_end_at_a_blank_line_whatever_the_size_of_the_pieces() {
        let text = [GET_REQUEST, b"\r\n\n", GET_REQUEST, b"A / HTTP/1.1\n\n", b"GET / HT"].concat();
        let ends = [27, 57, 71];
        for size in 1..=text.len() {
            assert_eq!(scan_pieces(&text, size), ends, "pieces of {size}");
        }
    }

    #[test]
    fn a_body_ends_before_the_next_head() {
        let mut scanner = RequestScanner::default();
        scanner.begin_body(RequestBody::with_length(6));
        let text = [b"\r\n\r\n\r\n", GET_REQUEST].concat();
        assert_eq!(scanner.scan(&text), ScannedPart { length: 6, completes_head: false });
        assert!(scanner.is_body_complete());
        assert_eq!(scanner.scan(&text[6..]), ScannedPart { length: GET_REQUEST.len(), completes_head: true });
    }
}
