//! Decompression of request bodies within the body limit.
//!
//! The framework's decoder expands each chunk without a bound and accepts a truncated zstd
//! stream. This decoder holds the compressed and the decompressed body in memory, each of
//! them up to the body limit. It rejects a truncated stream.

use actix_web::HttpMessage;
use actix_web::dev::{Payload, ServiceRequest};
use actix_web::error::PayloadError;
use actix_web::http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use actix_web::web::{Bytes, BytesMut};
use flate2::read::MultiGzDecoder;
use flate2::{Decompress, FlushDecompress, Status};
use futures_util::{StreamExt, stream};
use std::io::{self, Read};

/// The longest accepted body, in bytes. The limit applies to the compressed body and to the
/// decompressed body.
#[derive(Debug, Clone, Copy)]
pub(in crate::http) struct MaxBodyBytes(pub(in crate::http) usize);

/// The largest accepted zstd window, as a power of two: 8 MiB. RFC 9659 requires HTTP decoders to
/// support this size.
const MAX_ZSTD_WINDOW_LOG: u32 = 23;
/// Number of bytes that a decoder reads or writes at once.
const DECODER_CHUNK_BYTES: usize = 64 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Gzip,
    /// A zlib stream (RFC 9110, 8.4.1.2).
    Deflate,
    Zstd,
}

impl Encoding {
    fn of_request(request: &ServiceRequest) -> Option<Self> {
        let name = request.headers().get(CONTENT_ENCODING)?.to_str().ok()?.trim().to_ascii_lowercase();
        match name.as_str() {
            "gzip" => Some(Self::Gzip),
            "deflate" => Some(Self::Deflate),
            "zstd" => Some(Self::Zstd),
            _ => None,
        }
    }

    /// Decompresses a complete stream of at most `limit` decompressed bytes.
    ///
    /// # Errors
    /// [`PayloadError::Overflow`] beyond the limit, [`PayloadError::EncodingCorrupted`] if the
    /// stream is damaged or incomplete.
    fn decompress(self, body: &[u8], limit: usize) -> Result<Bytes, PayloadError> {
        let decompressed = match self {
            Self::Gzip => read_up_to_limit(MultiGzDecoder::new(body), limit),
            Self::Deflate => inflate_up_to_limit(body, limit),
            Self::Zstd => zstd::stream::read::Decoder::with_buffer(body).and_then(|mut decoder| {
                decoder.window_log_max(MAX_ZSTD_WINDOW_LOG)?;
                read_up_to_limit(decoder, limit)
            }),
        };
        let decompressed = decompressed.map_err(|_| PayloadError::EncodingCorrupted)?;
        if decompressed.len() > limit { Err(PayloadError::Overflow) } else { Ok(decompressed.into()) }
    }
}

/// Decompresses up to `limit` + 1 bytes. The extra byte tells the caller that the content exceeds
/// the limit.
fn read_up_to_limit(decoder: impl Read, limit: usize) -> io::Result<Vec<u8>> {
    let mut decompressed = Vec::new();
    decoder.take(limit as u64 + 1).read_to_end(&mut decompressed)?;
    Ok(decompressed)
}

/// Like [`read_up_to_limit`], but for a zlib stream. It does not use the zlib reader of `flate2`,
/// which accepts a truncated stream.
fn inflate_up_to_limit(body: &[u8], limit: usize) -> io::Result<Vec<u8>> {
    let (mut inflater, mut decompressed) = (Decompress::new(true), Vec::new());
    loop {
        decompressed.reserve(DECODER_CHUNK_BYTES);
        let (read, written) = (inflater.total_in(), decompressed.len());
        let rest = body.get(usize::try_from(read).unwrap_or(usize::MAX)..).unwrap_or_default();
        let status = inflater.decompress_vec(rest, &mut decompressed, FlushDecompress::None)?;
        if status == Status::StreamEnd || decompressed.len() > limit {
            return Ok(decompressed);
        }
        if inflater.total_in() == read && decompressed.len() == written {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// Collects a body of at most `limit` bytes.
async fn collect_body(mut body: Payload, limit: usize) -> Result<BytesMut, PayloadError> {
    let mut collected = BytesMut::new();
    while let Some(chunk) = body.next().await {
        let chunk = chunk?;
        if collected.len().saturating_add(chunk.len()) > limit {
            return Err(PayloadError::Overflow);
        }
        collected.extend_from_slice(&chunk);
    }
    Ok(collected)
}

/// Replaces a compressed request body by its decompressed content. The body is not decompressed
/// until a handler reads the content.
pub(in crate::http) fn decompress_body(request: &mut ServiceRequest) {
    let Some(MaxBodyBytes(limit)) = request.app_data::<MaxBodyBytes>().copied() else { return };
    let Some(encoding) = Encoding::of_request(request) else { return };
    let headers = request.headers_mut();
    headers.remove(CONTENT_ENCODING);
    headers.remove(CONTENT_LENGTH);
    let body = request.take_payload();
    let content = async move { encoding.decompress(&collect_body(body, limit).await?, limit) };
    request.set_payload(Payload::Stream { payload: Box::pin(stream::once(content)) });
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::{GzEncoder, ZlibEncoder};
    use std::io::Write;

    fn compress(encoding: Encoding, content: &[u8]) -> Vec<u8> {
        match encoding {
            Encoding::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
                encoder.write_all(content).unwrap();
                encoder.finish().unwrap()
            }
            Encoding::Deflate => {
                let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
                encoder.write_all(content).unwrap();
                encoder.finish().unwrap()
            }
            Encoding::Zstd => zstd::encode_all(content, 1).unwrap(),
        }
    }

    const ALL_ENCODINGS: [Encoding; 3] = [Encoding::Gzip, Encoding::Deflate, Encoding::Zstd];

    fn sample_text() -> Vec<u8> {
        (0..3000).flat_map(|number| format!("event {number}, ").into_bytes()).collect()
    }

    #[test]
    fn complete_streams_decompress_up_to_the_limit() {
        for encoding in ALL_ENCODINGS {
            for content in [Vec::new(), b"x".to_vec(), sample_text()] {
                let compressed = compress(encoding, &content);
                assert_eq!(encoding.decompress(&compressed, content.len()).unwrap(), content, "{encoding:?}");
                if !content.is_empty() {
                    let error = encoding.decompress(&compressed, content.len() - 1).unwrap_err();
                    assert!(matches!(error, PayloadError::Overflow), "{encoding:?}: {error}");
                }
            }
        }
    }

    #[test]
    fn streams_truncated_at_any_byte_are_rejected() {
        for encoding in ALL_ENCODINGS {
            let compressed = compress(encoding, &sample_text());
            for end in 1..compressed.len() {
                let error = encoding.decompress(&compressed[..end], 1 << 20).unwrap_err();
                assert!(matches!(error, PayloadError::EncodingCorrupted), "{encoding:?} cut after {end}: {error}");
            }
        }
    }

    #[test]
    fn a_decompression_bomb_is_rejected_at_the_limit() {
        for encoding in ALL_ENCODINGS {
            let bomb = compress(encoding, &vec![0; 50 << 20]);
            assert!(matches!(encoding.decompress(&bomb, 1 << 20), Err(PayloadError::Overflow)), "{encoding:?}");
        }
    }
}
