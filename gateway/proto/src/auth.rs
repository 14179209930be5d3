//! The body of operation 7, the first frame of a connection: the client's identity, as JSON (goim
//! `internal/logic/conn.go`, `Connect`).
//!
//! ```json
//! {"mid":123,"key":"","room_id":"live://1000","platform":"web","accepts":[1000,1001],
//!  "token":"…","uid":"…","resume":{}}
//! ```
//!
//! Every field may be missing; `null`, an empty string and 0 mean the same as missing. Unknown
//! fields are ignored, whatever valid JSON they hold. A field given twice is refused: parsers
//! disagree on which one counts, and what authenticates must not depend on that. Bytes after the
//! object are refused.
//!
//! Nothing is allocated: a string without escapes is borrowed from the body, one with escapes is
//! unescaped into the caller's scratch buffer.

mod emit;
mod error;
mod json;
#[cfg(test)]
mod tests;

pub use error::{AuthError, Field};
pub use json::DEPTH_MAX;

use crate::body::{Name, RoomKey};
use crate::frame::Operation;
use json::{Scanner, Text};

/// The longest connection key, in bytes.
pub const KEY_SIZE_MAX: usize = 128;
/// The longest user name, in bytes.
pub const UID_SIZE_MAX: usize = 128;
/// The longest platform name, in bytes.
pub const PLATFORM_SIZE_MAX: usize = 32;
/// The longest room key, in bytes.
pub const ROOM_SIZE_MAX: usize = 255;
/// The longest token, in bytes.
pub const TOKEN_SIZE_MAX: usize = 8 * 1024;
/// The longest resume value, in bytes of JSON.
pub const RESUME_SIZE_MAX: usize = 8 * 1024;
/// The most accepted operations.
pub const ACCEPTS_MAX: usize = 64;

/// A scratch buffer of this size, in bytes, is never too small.
pub const SCRATCH_SIZE_MAX: usize =
    KEY_SIZE_MAX + UID_SIZE_MAX + PLATFORM_SIZE_MAX + ROOM_SIZE_MAX + TOKEN_SIZE_MAX;

/// What a client says about itself; nothing of it is verified yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AuthRequest<'a> {
    /// The user's number; 0 for none.
    pub mid: i64,
    /// The connection's key, at most [`KEY_SIZE_MAX`] bytes; `None` lets the server choose one.
    pub key: Option<Name<'a>>,
    /// The room to be in, at most [`ROOM_SIZE_MAX`] bytes.
    pub room: Option<RoomKey<'a>>,
    /// The kind of client, such as `web`, at most [`PLATFORM_SIZE_MAX`] bytes.
    pub platform: Option<Name<'a>>,
    /// The push operations to accept.
    pub accepts: Accepts,
    /// The credential, at most [`TOKEN_SIZE_MAX`] bytes without control characters; empty for none.
    pub token: &'a str,
    /// The user's name, where a number will not do, at most [`UID_SIZE_MAX`] bytes.
    pub uid: Option<Name<'a>>,
    /// What to resume: any JSON value as it was written, at most [`RESUME_SIZE_MAX`] bytes. Valid
    /// JSON.
    pub resume: Option<&'a str>,
}

/// The push operations that a connection accepts: at most [`ACCEPTS_MAX`], in order, repetitions
/// kept.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Accepts {
    /// Those from `count` on are 0.
    operations: [Operation; ACCEPTS_MAX],
    /// At most `ACCEPTS_MAX`.
    count: u8,
}

impl Accepts {
    /// The operations.
    #[must_use]
    pub fn as_slice(&self) -> &[Operation] {
        self.operations.get(..usize::from(self.count)).unwrap_or_default()
    }

    /// Adds one.
    ///
    /// # Errors
    /// [`AuthError::TooManyAccepts`] if there are [`ACCEPTS_MAX`].
    pub fn push(&mut self, operation: Operation) -> Result<(), AuthError> {
        let slot = self.operations.get_mut(usize::from(self.count)).ok_or(AuthError::TooManyAccepts)?;
        *slot = operation;
        self.count += 1;
        Ok(())
    }
}

impl Default for Accepts {
    fn default() -> Self {
        Self { operations: [Operation(0); ACCEPTS_MAX], count: 0 }
    }
}

impl core::fmt::Debug for Accepts {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_list().entries(self.as_slice()).finish()
    }
}

impl<'a> AuthRequest<'a> {
    /// Parses the body of operation 7.
    ///
    /// Strings with escapes are unescaped into `scratch`; [`SCRATCH_SIZE_MAX`] bytes are always
    /// enough, and a client that escapes nothing needs none.
    ///
    /// # Errors
    /// Any [`AuthError`].
    pub fn parse(body: &'a [u8], scratch: &'a mut [u8]) -> Result<Self, AuthError> {
        let text = core::str::from_utf8(body).map_err(|_| AuthError::NotUtf8)?;
        // RFC 8259 §8.1: a parser may ignore a byte order mark.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut parser =
            Parser { scanner: Scanner::new(text), scratch, request: Self::default(), seen: [false; 8] };
        parser.object()?;
        Ok(parser.request)
    }
}

struct Parser<'a> {
    scanner: Scanner<'a>,
    /// What is left of the caller's scratch buffer.
    scratch: &'a mut [u8],
    request: AuthRequest<'a>,
    /// By field: whether it was there.
    seen: [bool; Field::ALL.len()],
}

impl<'a> Parser<'a> {
    fn object(&mut self) -> Result<(), AuthError> {
        if self.scanner.next_byte() != Some(b'{') {
            return Err(AuthError::Syntax);
        }
        let mut more = !self.scanner.skip_if(b'}');
        while more {
            let name = self.scanner.string()?;
            self.scanner.expect(b':')?;
            match Field::ALL.into_iter().find(|field| name.chars().eq(field.name().chars())) {
                Some(field) => self.field(field)?,
                None => self.scanner.skip_value(1)?,
            }
            more = self.scanner.next_element(b'}')?;
        }
        if self.scanner.peek().is_some() { Err(AuthError::TrailingBytes) } else { Ok(()) }
    }

    fn field(&mut self, field: Field) -> Result<(), AuthError> {
        let seen = self.seen.get_mut(field as usize).ok_or(AuthError::Duplicate(field))?;
        if core::mem::replace(seen, true) {
            return Err(AuthError::Duplicate(field));
        }
        if self.scanner.skip_null()? {
            return Ok(());
        }
        match field {
            Field::Mid => self.request.mid = self.scanner.integer(field)?,
            Field::Key => self.request.key = self.name(field, KEY_SIZE_MAX)?,
            Field::Platform => self.request.platform = self.name(field, PLATFORM_SIZE_MAX)?,
            Field::Uid => self.request.uid = self.name(field, UID_SIZE_MAX)?,
            Field::Token => self.request.token = self.text(field, TOKEN_SIZE_MAX)?,
            Field::RoomId => {
                let text = self.text(field, ROOM_SIZE_MAX)?;
                self.request.room = RoomKey::parse(text.as_bytes()).ok();
            }
            Field::Accepts => self.accepts()?,
            Field::Resume => {
                let value = self.scanner.raw_value(1)?;
                if value.len() > RESUME_SIZE_MAX {
                    return Err(AuthError::TooLong(field));
                }
                self.request.resume = Some(value);
            }
        }
        Ok(())
    }

    fn accepts(&mut self) -> Result<(), AuthError> {
        if self.scanner.peek() != Some(b'[') {
            return Err(self.scanner.mismatch(Field::Accepts));
        }
        self.scanner.expect(b'[')?;
        let mut more = !self.scanner.skip_if(b']');
        while more {
            let operation = self.scanner.integer(Field::Accepts)?;
            let operation = i32::try_from(operation).map_err(|_| AuthError::OutOfRange(Field::Accepts))?;
            self.request.accepts.push(Operation(operation))?;
            more = self.scanner.next_element(b']')?;
        }
        Ok(())
    }

    /// A printable string within its limit; empty for none. A limit is at most 255.
    fn name(&mut self, field: Field, size_max: usize) -> Result<Option<Name<'a>>, AuthError> {
        let text = self.text(field, size_max)?;
        Ok(Name::parse(text.as_bytes()).ok())
    }

    fn text(&mut self, field: Field, size_max: usize) -> Result<&'a str, AuthError> {
        if self.scanner.peek() != Some(b'"') {
            return Err(self.scanner.mismatch(field));
        }
        let text = self.scanner.string()?;
        if text.chars().map(char::len_utf8).sum::<usize>() > size_max {
            return Err(AuthError::TooLong(field));
        }
        if text.chars().any(char::is_control) {
            return Err(AuthError::NotPrintable(field));
        }
        self.unescape(text)
    }

    fn unescape(&mut self, text: Text<'a>) -> Result<&'a str, AuthError> {
        if let Some(plain) = text.plain() {
            return Ok(plain);
        }
        let scratch = core::mem::take(&mut self.scratch);
        let mut size = 0;
        for character in text.chars() {
            let end = size + character.len_utf8();
            let slot = scratch.get_mut(size..end).ok_or(AuthError::ScratchFull)?;
            character.encode_utf8(slot);
            size = end;
        }
        let (used, rest) = scratch.split_at_mut_checked(size).ok_or(AuthError::ScratchFull)?;
        self.scratch = rest;
        core::str::from_utf8(used).map_err(|_| AuthError::NotUtf8)
    }
}
