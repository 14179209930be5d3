//! The chunked transfer coding, read from pieces that are cut anywhere (RFC 9112 §7.1).

use bytes::{Buf, BytesMut};

/// Bytes of a chunk's first line at most, extensions included.
const LINE_SIZE_MAX: usize = 256;
/// Bytes of the trailer section at most. Trailers are ignored (RFC 9110 §6.5.1 allows that).
const TRAILERS_SIZE_MAX: usize = 4 << 10;

/// The coding is broken: where the next request begins is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BadChunk;

/// Where in a body the reader is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Size,
    Data(u64),
    DataEnd,
    Trailers(usize),
    End,
}

/// A body that is read chunk by chunk.
#[derive(Debug)]
pub(super) struct Chunks {
    at: At,
}

impl Chunks {
    pub(super) fn new() -> Chunks {
        Chunks { at: At::Size }
    }

    /// Moves what can be decoded from `input` to `body`; true when the body is whole. Stops as soon as `body` exceeds
    /// `size_max`.
    ///
    /// # Errors
    /// [`BadChunk`].
    pub(super) fn decode(
        &mut self,
        input: &mut BytesMut,
        body: &mut BytesMut,
        size_max: usize,
    ) -> Result<bool, BadChunk> {
        while body.len() <= size_max {
            match self.at {
                At::Size => match httparse::parse_chunk_size(input).map_err(|_| BadChunk)? {
                    httparse::Status::Complete((line, size)) => {
                        input.advance(line);
                        self.at = if size == 0 { At::Trailers(0) } else { At::Data(size) };
                    }
                    httparse::Status::Partial if input.len() > LINE_SIZE_MAX => return Err(BadChunk),
                    httparse::Status::Partial => return Ok(false),
                },
                At::Data(left) => {
                    if input.is_empty() {
                        return Ok(false);
                    }
                    let left_here = usize::try_from(left).unwrap_or(usize::MAX);
                    let some = left_here.min(input.len()).min(size_max + 1 - body.len());
                    body.extend_from_slice(&input[..some]);
                    input.advance(some);
                    let left = left - some as u64;
                    self.at = if left == 0 { At::DataEnd } else { At::Data(left) };
                }
                At::DataEnd => match (input.first(), input.get(1)) {
                    (Some(b'\r'), Some(b'\n')) => {
                        input.advance(2);
                        self.at = At::Size;
                    }
                    (None, _) | (Some(b'\r'), None) => return Ok(false),
                    _ => return Err(BadChunk),
                },
                At::Trailers(size) => {
                    let Some(end) = input.iter().position(|&byte| byte == b'\n') else {
                        return if size + input.len() > TRAILERS_SIZE_MAX {
                            Err(BadChunk)
                        } else {
                            Ok(false)
                        };
                    };
                    let is_empty = input[..end].trim_ascii().is_empty();
                    input.advance(end + 1);
                    let size = size + end + 1;
                    if size > TRAILERS_SIZE_MAX {
                        return Err(BadChunk);
                    }
                    self.at = if is_empty { At::End } else { At::Trailers(size) };
                }
                At::End => return Ok(true),
            }
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(text: &str, step: usize) -> Result<(bool, Vec<u8>, usize), BadChunk> {
        let (mut chunks, mut input, mut body) = (Chunks::new(), BytesMut::new(), BytesMut::new());
        let mut done = false;
        for piece in text.as_bytes().chunks(step) {
            input.extend_from_slice(piece);
            done = chunks.decode(&mut input, &mut body, 1000)?;
        }
        Ok((done, body.to_vec(), input.len()))
    }

    #[test]
    fn chunks_are_joined_wherever_they_are_cut() {
        let text = "5;name=value\r\nhello\r\n1\r\n,\r\nA\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n";
        for step in 1..text.len() {
            assert_eq!(decode(text, step), Ok((true, b"hello,0123456789".to_vec(), 0)), "step {step}");
        }
        assert_eq!(decode("0\r\n\r\nGET", 99), Ok((true, vec![], 3)), "what follows stays");
        assert!(!decode("5\r\nhel", 99).unwrap().0);
    }

    #[test]
    fn what_is_no_chunk_is_refused() {
        for bad in ["zz\r\n", "5\r\nhelloX\r\n", "ffffffffffffffffff\r\n", "-1\r\n\r\n"] {
            assert_eq!(decode(bad, 99), Err(BadChunk), "{bad:?}");
        }
        assert_eq!(decode(&format!("5;{}", "x".repeat(300)), 400), Err(BadChunk));
        assert_eq!(decode(&format!("0\r\n{}", "a: b\r\n".repeat(1000)), 99), Err(BadChunk));
    }

    #[test]
    fn a_body_ends_right_behind_its_bound() {
        let (mut chunks, mut body) = (Chunks::new(), BytesMut::new());
        let mut input = BytesMut::from(&b"ff\r\n"[..]);
        input.extend_from_slice(&[b'x'; 255]);
        assert_eq!(chunks.decode(&mut input, &mut body, 100), Ok(false));
        assert_eq!(body.len(), 101);
    }
}
