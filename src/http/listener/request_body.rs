//! Finds the end of a request's body.

use actix_http::{HttpMessage as _, Request};
use actix_web::http::Method;
use actix_web::http::header::{CONTENT_LENGTH, TRANSFER_ENCODING, UPGRADE};

/// The rest of the body of an HTTP/1.1 request, as far as it has not been scanned.
///
/// The HTTP library decodes the body and rejects an invalid one. For a valid body, both agree on
/// the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum RequestBody {
    #[default]
    Complete,
    /// The number of bytes that the body still has, which is not 0.
    Length(u64),
    /// A body with the chunked transfer coding [RFC 9112, section 7.1].
    Chunked(ChunkedPosition),
    /// The body ends when the client closes the connection.
    UntilClose,
}

/// The position in a chunked body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ChunkedPosition {
    /// In the digits of a chunk's size, whose value so far is given.
    Size(u64),
    /// In the extensions after a chunk's size.
    Extension(u64),
    /// In the data of a chunk or in the line break after it. So many bytes follow.
    Data(u64),
    /// At the beginning of a line after the last chunk. A blank line ends the body.
    LineStart,
    /// Before the line feed of the blank line that ends the body.
    LastLineFeed,
    /// In a trailer field.
    Trailer,
    /// Before the line feed of a trailer field.
    TrailerLineFeed,
}

impl RequestBody {
    /// The body of an HTTP/1.1 request whose head the HTTP library has parsed.
    pub(super) fn of_request(request: &Request) -> Self {
        let headers = request.headers();
        let is_websocket =
            || headers.get_all(UPGRADE).any(|value| value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"websocket"));
        // The HTTP library accepts no other transfer coding.
        if headers.contains_key(TRANSFER_ENCODING) {
            Self::chunked()
        } else if is_websocket() {
            Self::UntilClose
        } else if let Some(length) = headers.get(CONTENT_LENGTH) {
            let length = length.to_str().ok().and_then(|length| length.trim().parse().ok());
            length.map_or(Self::UntilClose, Self::with_length)
        } else if *request.method() == Method::CONNECT {
            Self::UntilClose
        } else {
            Self::Complete
        }
    }

    pub(super) fn with_length(length: u64) -> Self {
        if length == 0 { Self::Complete } else { Self::Length(length) }
    }

    pub(super) fn chunked() -> Self {
        Self::Chunked(ChunkedPosition::Size(0))
    }

    pub(super) fn is_complete(&self) -> bool {
        *self == Self::Complete
    }

    /// Scans the next bytes up to the end of the body. Returns the number of scanned bytes.
    pub(super) fn scan(&mut self, bytes: &[u8]) -> usize {
        match *self {
            Self::Complete => 0,
            Self::UntilClose => bytes.len(),
            Self::Length(left) => {
                let length = bounded_length(bytes, left);
                *self = Self::with_length(left.saturating_sub(length as u64));
                length
            }
            Self::Chunked(position) => self.scan_chunks(position, bytes),
        }
    }

    fn scan_chunks(&mut self, mut position: ChunkedPosition, bytes: &[u8]) -> usize {
        let mut scanned = 0;
        while let Some(rest @ [byte, ..]) = bytes.get(scanned..) {
            if let ChunkedPosition::Data(left) = position {
                let length = bounded_length(rest, left);
                let left = left.saturating_sub(length as u64);
                position = if left == 0 { ChunkedPosition::Size(0) } else { ChunkedPosition::Data(left) };
                scanned += length;
                continue;
            }
            scanned += 1;
            match position.after(*byte) {
                Some(next) => position = next,
                None => {
                    *self = Self::Complete;
                    return scanned;
                }
            }
        }
        *self = Self::Chunked(position);
        scanned
    }
}

/// The number of the next bytes, or `limit` if it is smaller.
fn bounded_length(bytes: &[u8], limit: u64) -> usize {
    usize::try_from(limit).map_or(bytes.len(), |limit| limit.min(bytes.len()))
}

impl ChunkedPosition {
    /// The position after a byte that is not data. `None` if the byte ends the body.
    fn after(self, byte: u8) -> Option<Self> {
        Some(match (self, byte) {
            (Self::Size(0) | Self::Extension(0), b'\n') => Self::LineStart,
            // A line break of two bytes follows the data.
            (Self::Size(size) | Self::Extension(size), b'\n') => Self::Data(size.saturating_add(2)),
            (Self::Size(size), _) => match char::from(byte).to_digit(16) {
                Some(digit) => Self::Size(size.saturating_mul(16).saturating_add(u64::from(digit))),
                None => Self::Extension(size),
            },
            (Self::LineStart, b'\r') => Self::LastLineFeed,
            (Self::LastLineFeed, _) => return None,
            (Self::Trailer, b'\r') => Self::TrailerLineFeed,
            (Self::LineStart | Self::Trailer, _) => Self::Trailer,
            (Self::TrailerLineFeed, _) => Self::LineStart,
            (Self::Extension(_) | Self::Data(_), _) => self,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_http::test::TestRequest;

    /// Scans bytes that arrive in pieces of `size` bytes. Returns the length of the body, or `None`
    /// if the body has not ended.
    fn find_end(mut body: RequestBody, bytes: &[u8], size: usize) -> Option<usize> {
        let mut scanned = 0;
        for piece in bytes.chunks(size) {
            scanned += body.scan(piece);
            if body.is_complete() {
                return Some(scanned);
            }
        }
        None
    }

    #[test]
    fn chunked_bodies_end_after_the_last_chunk_and_its_trailers() {
        let bodies: [&[u8]; 5] = [
            b"0\r\n\r\n",
            b"5\r\nhello\r\n0\r\n\r\n",
            b"00a;name=\"v\"\r\n\r\n\r\n0\r\n\r\n!\r\n1 \r\nx\r\n000;last\r\n\r\n",
            b"0\r\nDigest: a\r\nb: c\r\n\r\n",
            b"1\r\n\n\r\n0\r\n\nstill a trailer\r\n\r\n",
        ];
        let chunked = RequestBody::chunked();
        for body in bodies {
            let text = [body, b"0\r\n\r\nGET / HTTP/1.1\r\n\r\n"].concat();
            for size in 1..=text.len() {
                assert_eq!(find_end(chunked, &text, size), Some(body.len()), "{body:?} in pieces of {size}");
            }
            assert_eq!(find_end(chunked, &body[..body.len() - 1], 3), None);
        }
        // Sizes beyond the largest number are not smaller chunks.
        assert_eq!(find_end(chunked, b"10000000000000000\r\n\r\n0\r\n\r\n0\r\n\r\n", 3), None);
    }

    #[test]
    fn other_bodies_end_after_their_length_or_never() {
        for size in 1..10 {
            assert_eq!(find_end(RequestBody::with_length(7), &[b'\n'; 20], size), Some(7));
        }
        assert_eq!(find_end(RequestBody::UntilClose, &[b'\n'; 20], 3), None);
        assert!(RequestBody::with_length(0).is_complete());
    }

    #[test]
    fn the_head_tells_how_the_body_ends() {
        let body = |headers: &[(&str, &str)]| {
            let mut request = TestRequest::default();
            for header in headers {
                request.append_header(*header);
            }
            RequestBody::of_request(&request.finish())
        };
        assert_eq!(body(&[]), RequestBody::Complete);
        assert_eq!(body(&[("content-length", "0")]), RequestBody::Complete);
        assert_eq!(body(&[("content-length", " 12 ")]), RequestBody::Length(12));
        assert_eq!(body(&[("transfer-encoding", "Chunked")]), RequestBody::chunked());
        assert_eq!(body(&[("upgrade", "WebSocket"), ("content-length", "3")]), RequestBody::UntilClose);
        let connect = TestRequest::default().method(Method::CONNECT).finish();
        assert_eq!(RequestBody::of_request(&connect), RequestBody::UntilClose);
    }
}
