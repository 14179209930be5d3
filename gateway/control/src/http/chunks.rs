//! Reader of the chunked transfer coding, from pieces that are cut anywhere (RFC 9112 §7.1).

use super::input::Input;
use bytes::Bytes;

/// Bytes of a chunk's first line at most, extensions included.
const LINE_SIZE_MAX: usize = 256;
/// Bytes of the trailer section at most. Trailers are ignored (RFC 9110 §6.5.1 allows that).
const TRAILERS_SIZE_MAX: usize = 4 << 10;

/// Digits of a chunk's size at most: those of 64 bits.
const SIZE_DIGITS_MAX: usize = 16;

/// Why a body in chunks is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChunkError {
    /// The coding is broken: where the next request begins is not known.
    Malformed,
    /// The body exceeds its bound, or a chunk announces that it will.
    TooLarge,
}

/// Where in a body the reader is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Size,
    Data(usize),
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

    /// Moves what can be decoded from `input` to `body`; true when the body is whole.
    ///
    /// # Errors
    /// [`ChunkError`]; a chunk that would make `body` exceed `size_max` is refused before its first
    /// byte is read.
    pub(super) fn decode(
        &mut self,
        input: &mut Input,
        body: &mut Vec<u8>,
        size_max: usize,
    ) -> Result<bool, ChunkError> {
        loop {
            match self.at {
                At::Size => {
                    let Some(line) = take_line(input, LINE_SIZE_MAX)? else { return Ok(false) };
                    let size = chunk_size(&line)?;
                    if size > (size_max - body.len().min(size_max)) as u64 {
                        return Err(ChunkError::TooLarge);
                    }
                    self.at = if size == 0 { At::Trailers(0) } else { At::Data(size as usize) };
                }
                At::Data(left) => {
                    if input.is_empty() {
                        return Ok(false);
                    }
                    let some = left.min(input.len());
                    body.extend_from_slice(&input[..some]);
                    input.advance(some);
                    self.at = if left == some { At::DataEnd } else { At::Data(left - some) };
                }
                At::DataEnd => match (input.first(), input.get(1)) {
                    (Some(b'\r'), Some(b'\n')) => {
                        input.advance(2);
                        self.at = At::Size;
                    }
                    (None, _) | (Some(b'\r'), None) => return Ok(false),
                    _ => return Err(ChunkError::Malformed),
                },
                At::Trailers(size) => {
                    let Some(line) = take_line(input, TRAILERS_SIZE_MAX.saturating_sub(size))? else {
                        return Ok(false);
                    };
                    self.at =
                        if line.is_empty() { At::End } else { At::Trailers(size + trailer_size(&line)?) };
                }
                At::End => return Ok(true),
            }
        }
    }
}

/// A line without its CRLF, once it is whole. A bare CR or LF ends none (RFC 9112 §2.2 leaves a
/// bare LF to the recipient; a proxy in front may read it otherwise).
fn take_line(input: &mut Input, size_max: usize) -> Result<Option<Bytes>, ChunkError> {
    let Some(end) = input.iter().position(|&byte| byte == b'\n') else {
        return if input.len() > size_max { Err(ChunkError::Malformed) } else { Ok(None) };
    };
    if end > size_max || end == 0 || input[end - 1] != b'\r' {
        return Err(ChunkError::Malformed);
    }
    let (mut line, _) = input.take(end + 1);
    line.truncate(end - 1);
    Ok(Some(line))
}

/// Of `chunk-size [ chunk-ext ]`: `1*HEXDIG`, then nothing, or what a semicolon begins. Extensions
/// are ignored (RFC 9112 §7.1.1).
fn chunk_size(line: &[u8]) -> Result<u64, ChunkError> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let (size, extensions) = line.split_at(digits);
    let begins_well = extensions.is_empty() || extensions.trim_ascii_start().first() == Some(&b';');
    if digits == 0 || !begins_well || !extensions.iter().all(|&byte| is_field_byte(byte)) {
        return Err(ChunkError::Malformed);
    }
    if digits > SIZE_DIGITS_MAX {
        return Err(ChunkError::TooLarge);
    }
    Ok(size.iter().fold(0, |size, &digit| size << 4 | u64::from(hex_value(digit))))
}

fn hex_value(digit: u8) -> u8 {
    (digit as char).to_digit(16).map_or(0, |value| value as u8)
}

/// Bytes that a trailer field takes of [`TRAILERS_SIZE_MAX`]: `field-name ":" field-value` (RFC
/// 9112 §5).
fn trailer_size(line: &[u8]) -> Result<usize, ChunkError> {
    let colon = line.iter().position(|&byte| byte == b':').ok_or(ChunkError::Malformed)?;
    let has_name = colon > 0 && line[..colon].iter().all(|byte| byte.is_ascii_graphic());
    if !has_name || !line[colon..].iter().all(|&byte| is_field_byte(byte)) {
        return Err(ChunkError::Malformed);
    }
    Ok(line.len() + 2)
}

/// Of a field's value: printable, a space or a tab, or beyond ASCII (RFC 9110 §5.5).
fn is_field_byte(byte: u8) -> bool {
    byte == b'\t' || byte >= b' ' && byte != 0x7f
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(text: &str, step: usize) -> Result<(bool, Vec<u8>, usize), ChunkError> {
        let (mut chunks, mut input, mut body) = (Chunks::new(), Input::default(), Vec::new());
        let mut done = false;
        for piece in text.as_bytes().chunks(step) {
            input.end().extend_from_slice(piece);
            done = chunks.decode(&mut input, &mut body, 1000)?;
        }
        Ok((done, body, input.len()))
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
        let bad = [
            "zz\r\n",
            "5\r\nhelloX\r\n",
            "-1\r\n\r\n",
            "0x5\r\nhello\r\n",
            "+5\r\nhello\r\n",
            "5 5\r\nhello\r\n",
            "5\nhello\r\n",
            // A size has a digit (`1*HEXDIG`): none of these is the last chunk.
            "\r\n\r\n",
            ";x\r\n\r\n",
            " \r\n\r\n",
            "\t\r\n\r\n",
            ";\r\n\r\n",
            " 0\r\n\r\n",
            "\n\n",
            "5\r\nhello\r\n\r\n\r\n",
            "5;a\0b\r\n",
            "0\r\na: \0\r\n\r\n",
            "0\r\nno field\r\n\r\n",
            "0\r\n: b\r\n\r\n",
            "0\r\n\n",
        ];
        for bad in bad {
            assert_eq!(decode(bad, 99), Err(ChunkError::Malformed), "{bad:?}");
            assert_eq!(decode(bad, 1), Err(ChunkError::Malformed), "{bad:?} by single bytes");
        }
        assert_eq!(decode(&format!("5;{}", "x".repeat(300)), 400), Err(ChunkError::Malformed));
        assert_eq!(decode(&format!("0\r\n{}", "a: b\r\n".repeat(1000)), 99), Err(ChunkError::Malformed));
    }

    #[test]
    fn trailers_end_at_their_bound_whatever_the_last_line_leaves_of_it() {
        let with =
            |size: usize, more: &str| decode(&format!("0\r\na:{}\r\n{more}\r\n", "x".repeat(size)), 9999);
        for size in TRAILERS_SIZE_MAX - 16..TRAILERS_SIZE_MAX + 16 {
            // The line, and the place of the last CRLF behind it.
            let fits = 2 + size + 2 < TRAILERS_SIZE_MAX;
            assert_eq!(with(size, "").is_ok(), fits, "{size}");
            assert_eq!(with(size, &"b: c\r\n".repeat(100)), Err(ChunkError::Malformed), "{size}, and more");
        }
    }

    #[test]
    fn a_body_beyond_its_bound_is_refused_when_it_is_announced() {
        for large in ["3e9\r\n", "FFFFFFFFFFFFFFFF\r\n", "ffffffffffffffffff\r\n", "3e8\r\n"] {
            let whole = format!("1\r\nx\r\n{large}");
            assert_eq!(decode(&whole, 99), Err(ChunkError::TooLarge), "{large:?}");
        }
        assert_eq!(
            decode("1\r\nx\r\n3e7\r\n", 99).map(|(done, ..)| done),
            Ok(false),
            "1 000 bytes are its bound"
        );
    }
}
