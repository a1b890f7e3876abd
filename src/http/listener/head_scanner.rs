//! Counts the heads of pipelined HTTP/1.1 requests.

/// The length of the shortest head: `A / HTTP/1.1` and two line feeds.
const MIN_HEAD_BYTES: usize = 14;

/// Counts blank lines, each of which may end the head of a request.
///
/// The scanner does not know where bodies begin and end, so it may count too many heads but never
/// too few. The only effect of counting too many is that the connection reads a body in smaller
/// parts.
#[derive(Debug, Default)]
pub(super) struct HeadScanner {
    /// Number of bytes since the end of the last head.
    since_head: usize,
    /// Number of bytes read so far of the current line.
    line: usize,
}

impl HeadScanner {
    /// Scans the next bytes up to the end of the `max`-th head. Returns the number of scanned bytes
    /// and the number of heads that end in them.
    pub(super) fn scan(&mut self, bytes: &[u8], max: usize) -> (usize, usize) {
        let (mut heads, mut line_start) = (0, 0);
        for line_end in memchr::memchr_iter(b'\n', bytes) {
            let length = self.line + (line_end - line_start);
            self.since_head += line_end + 1 - line_start;
            self.line = 0;
            line_start = line_end + 1;
            // `length` does not include the line feed. A blank line therefore has length 0, or 1 if
            // it has a carriage return.
            if length <= 1 && self.since_head >= MIN_HEAD_BYTES {
                self.since_head = 0;
                heads += 1;
                if heads == max {
                    return (line_start, heads);
                }
            }
        }
        self.line += bytes.len() - line_start;
        self.since_head += bytes.len() - line_start;
        (bytes.len(), heads)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GET_REQUEST: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

    #[test]
    fn stops_after_the_last_head() {
        let text = format!("{}GET / HT", GET_REQUEST.repeat(5));
        assert_eq!(HeadScanner::default().scan(text.as_bytes(), 3), (3 * GET_REQUEST.len(), 3));
        assert_eq!(HeadScanner::default().scan(text.as_bytes(), 16), (text.len(), 5));
        let short = "A / HTTP/1.1\n\n".repeat(4);
        assert_eq!(HeadScanner::default().scan(short.as_bytes(), 16), (short.len(), 4));
    }

    #[test]
    fn counts_the_same_in_parts_of_any_size() {
        let text = GET_REQUEST.repeat(4);
        for size in 1..text.len() {
            let mut scanner = HeadScanner::default();
            let heads: usize = text.as_bytes().chunks(size).map(|part| scanner.scan(part, 100).1).sum();
            assert_eq!(heads, 4, "parts of {size}");
        }
    }

    #[test]
    fn blank_lines_of_a_body_end_a_head_only_at_its_shortest_length() {
        let (read, heads) = HeadScanner::default().scan(&[b'\n'; 1400], 1000);
        assert_eq!((read, heads), (1400, 100));
        assert_eq!(HeadScanner::default().scan(br#"{"a":1}{"b":2}{"c":3}"#, 16).1, 0);
    }
}
