//! A JSON scanner (RFC 8259): no heap, no recursion, nothing accepted that is not JSON.
//!
//! serde-json-core was weighed first and does not fit: it skips unknown values by recursion without
//! a depth limit, so a body of `[` bytes overflows the stack; it refuses surrogate pairs, which
//! every JSON encoder that escapes emoji writes; it lets what is not JSON pass inside ignored
//! values; and its unescape buffer is overwritten by the next string, so that unescaped strings
//! cannot be kept.

use super::{AuthError, Field};

/// The deepest nesting of arrays and objects; the request's own object is the first level.
pub const DEPTH_MAX: u32 = 16;

/// A string between its quotes, known to be valid.
#[derive(Clone, Copy)]
pub(super) struct Text<'a> {
    raw: &'a str,
    escaped: bool,
}

impl<'a> Text<'a> {
    /// The string, if it is written without escapes.
    pub(super) fn plain(self) -> Option<&'a str> {
        (!self.escaped).then_some(self.raw)
    }

    /// Its characters, unescaped.
    pub(super) fn chars(self) -> impl Iterator<Item = char> + 'a {
        Unescape { rest: self.raw }.map_while(Result::ok)
    }
}

/// Characters of a string with escapes.
struct Unescape<'a> {
    rest: &'a str,
}

impl Unescape<'_> {
    fn advance(&mut self, size: usize) {
        self.rest = self.rest.get(size..).unwrap_or_default();
    }

    /// Four hex digits at an offset (RFC 8259 §7).
    fn unit(&self, offset: usize) -> Option<u32> {
        let digits = self.rest.get(offset..offset.checked_add(4)?)?;
        digits.bytes().try_fold(0, |unit, digit| Some(unit << 4 | char::from(digit).to_digit(16)?))
    }

    /// `\uXXXX`, or the two of a surrogate pair. Half a pair is JSON, and no character (RFC 8259
    /// §8.2).
    fn unicode(&mut self) -> Result<char, AuthError> {
        let high = self.unit(2).ok_or(AuthError::Syntax)?;
        if !matches!(high, 0xd800..=0xdbff) {
            self.advance(6);
            return char::from_u32(high).ok_or(AuthError::HalfPair);
        }
        if self.rest.get(6..8) != Some("\\u") {
            return Err(AuthError::HalfPair);
        }
        let low = self.unit(8).ok_or(AuthError::Syntax)?;
        if !matches!(low, 0xdc00..=0xdfff) {
            return Err(AuthError::HalfPair);
        }
        self.advance(12);
        char::from_u32(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00)).ok_or(AuthError::HalfPair)
    }

    fn escape(&mut self) -> Result<char, AuthError> {
        let plain = match self.rest.as_bytes().get(1).ok_or(AuthError::Syntax)? {
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return self.unicode(),
            _ => return Err(AuthError::Syntax),
        };
        self.advance(2);
        Ok(plain)
    }
}

impl Iterator for Unescape<'_> {
    type Item = Result<char, AuthError>;

    fn next(&mut self) -> Option<Self::Item> {
        let character = self.rest.chars().next()?;
        if character == '\\' {
            return Some(self.escape());
        }
        self.advance(character.len_utf8());
        Some(Ok(character))
    }
}

/// Walks a JSON text from token to token.
pub(super) struct Scanner<'a> {
    text: &'a str,
    /// A character boundary of `text`.
    offset: usize,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, offset: 0 }
    }

    fn rest(&self) -> &'a [u8] {
        self.text.as_bytes().get(self.offset..).unwrap_or_default()
    }

    /// The next byte that is no space, which stays.
    pub(super) fn peek(&mut self) -> Option<u8> {
        let spaces = self.rest().iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r'));
        self.offset += spaces.count();
        self.rest().first().copied()
    }

    pub(super) fn next_byte(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.offset += 1;
        Some(byte)
    }

    pub(super) fn expect(&mut self, byte: u8) -> Result<(), AuthError> {
        if self.skip_if(byte) { Ok(()) } else { Err(AuthError::Syntax) }
    }

    pub(super) fn skip_if(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.offset += usize::from(found);
        found
    }

    /// After an element: whether another follows, or the container ends.
    pub(super) fn next_element(&mut self, close: u8) -> Result<bool, AuthError> {
        if self.skip_if(b',') {
            return Ok(true);
        }
        self.expect(close).map(|()| false)
    }

    pub(super) fn string(&mut self) -> Result<Text<'a>, AuthError> {
        self.expect(b'"')?;
        let start = self.offset;
        let mut escaped = false;
        loop {
            match self.rest() {
                [b'"', ..] => break,
                [b'\\', _, ..] => {
                    escaped = true;
                    self.offset += 2;
                }
                [0..=0x1f, ..] | [b'\\'] | [] => return Err(AuthError::Syntax),
                _ => self.offset += 1,
            }
        }
        let raw = self.text.get(start..self.offset).ok_or(AuthError::Syntax)?;
        self.offset += 1;
        if escaped {
            Unescape { rest: raw }.try_for_each(|character| character.map(|_| ()))?;
        }
        Ok(Text { raw, escaped })
    }

    /// A number without fraction and exponent, within 64 bits.
    pub(super) fn integer(&mut self, field: Field) -> Result<i64, AuthError> {
        if !matches!(self.peek(), Some(b'-' | b'0'..=b'9')) {
            return Err(self.mismatch(field));
        }
        let number = self.number()?;
        number.parse().map_err(|_| match number.contains(['.', 'e', 'E']) {
            true => AuthError::NotWhole(field),
            false => AuthError::OutOfRange(field),
        })
    }

    /// What stands here is no value of the field's type: is it a value at all?
    pub(super) fn mismatch(&mut self, field: Field) -> AuthError {
        match self.peek() {
            Some(b'{' | b'[' | b'"' | b't' | b'f' | b'n' | b'-' | b'0'..=b'9') => AuthError::WrongType(field),
            _ => AuthError::Syntax,
        }
    }

    /// RFC 8259 §6.
    fn number(&mut self) -> Result<&'a str, AuthError> {
        let start = self.offset;
        self.offset += usize::from(self.rest().first() == Some(&b'-'));
        let leading_zero = self.rest().first() == Some(&b'0');
        let whole = self.digits()?;
        if leading_zero && whole > 1 {
            return Err(AuthError::Syntax);
        }
        if self.rest().first() == Some(&b'.') {
            self.offset += 1;
            self.digits()?;
        }
        if matches!(self.rest().first(), Some(b'e' | b'E')) {
            self.offset += 1;
            self.offset += usize::from(matches!(self.rest().first(), Some(b'+' | b'-')));
            self.digits()?;
        }
        self.text.get(start..self.offset).ok_or(AuthError::Syntax)
    }

    fn digits(&mut self) -> Result<usize, AuthError> {
        let count = self.rest().iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.offset += count;
        if count == 0 { Err(AuthError::Syntax) } else { Ok(count) }
    }

    fn literal(&mut self, word: &str) -> Result<(), AuthError> {
        if !self.rest().starts_with(word.as_bytes()) {
            return Err(AuthError::Syntax);
        }
        self.offset += word.len();
        Ok(())
    }

    pub(super) fn skip_null(&mut self) -> Result<bool, AuthError> {
        if self.peek() != Some(b'n') {
            return Ok(false);
        }
        self.literal("null").map(|()| true)
    }

    /// Skips a value, and gives it as it is written.
    pub(super) fn raw_value(&mut self, depth: u32) -> Result<&'a str, AuthError> {
        self.peek();
        let start = self.offset;
        self.skip_value(depth)?;
        self.text.get(start..self.offset).ok_or(AuthError::Syntax)
    }

    /// Skips any value. `depth` is how many containers are open around it.
    pub(super) fn skip_value(&mut self, depth: u32) -> Result<(), AuthError> {
        // A bit a level, the innermost lowest: 1 for an object. At most DEPTH_MAX levels fit.
        let mut objects = 0_u32;
        let mut level = 0;
        loop {
            let opened = match self.peek() {
                Some(b'{') => Some(true),
                Some(b'[') => Some(false),
                _ => None,
            };
            match opened {
                Some(object) => {
                    self.offset += 1;
                    level += 1;
                    if depth + level > DEPTH_MAX {
                        return Err(AuthError::TooDeep);
                    }
                    objects = objects << 1 | u32::from(object);
                    if !self.skip_if(close_byte(objects)) {
                        self.member(objects)?;
                        continue;
                    }
                    objects >>= 1;
                    level -= 1;
                }
                None => self.skip_scalar()?,
            }
            // A value has ended; so do the containers that end with it.
            loop {
                if level == 0 {
                    return Ok(());
                }
                if self.next_element(close_byte(objects))? {
                    self.member(objects)?;
                    break;
                }
                objects >>= 1;
                level -= 1;
            }
        }
    }

    /// What precedes a value in its container: in an object, the name.
    fn member(&mut self, objects: u32) -> Result<(), AuthError> {
        if objects & 1 == 0 {
            return Ok(());
        }
        self.string()?;
        self.expect(b':')
    }

    fn skip_scalar(&mut self) -> Result<(), AuthError> {
        match self.peek() {
            Some(b'"') => self.string().map(|_| ()),
            Some(b'-' | b'0'..=b'9') => self.number().map(|_| ()),
            Some(b't') => self.literal("true"),
            Some(b'f') => self.literal("false"),
            Some(b'n') => self.literal("null"),
            _ => Err(AuthError::Syntax),
        }
    }
}

/// How the innermost open container ends.
fn close_byte(objects: u32) -> u8 {
    if objects & 1 == 1 { b'}' } else { b']' }
}

const _: () = assert!(DEPTH_MAX <= u32::BITS);
