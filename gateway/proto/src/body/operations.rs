//! Operations 14 and 16: a list of push operations as text.

use super::BodyError;
use crate::bytes::Writer;
use crate::frame::Operation;
use core::fmt::Write;

/// The most operations one list may name, unless the caller allows fewer.
pub const OPERATIONS_MAX: usize = 64;

/// The body of operations 14 and 16: decimal 32-bit integers between commas (goim `pkg/strings`,
/// `SplitInt32s`). Spaces around a number are tolerated, and so is an empty body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OperationList<'a> {
    /// Every element between commas parses; empty for none.
    text: &'a str,
    count: usize,
}

impl<'a> OperationList<'a> {
    /// Parses the body; at most `count_max` operations, and never more than [`OPERATIONS_MAX`].
    ///
    /// # Errors
    /// [`BodyError::Number`] for an element that is no 32-bit integer, [`BodyError::TooMany`].
    pub fn parse(body: &'a [u8], count_max: usize) -> Result<Self, BodyError> {
        let text = core::str::from_utf8(body).map_err(|_| BodyError::Number)?.trim_matches(' ');
        if text.is_empty() {
            return Ok(Self { text, count: 0 });
        }
        let mut count = 0;
        for element in text.split(',') {
            if count == count_max.min(OPERATIONS_MAX) {
                return Err(BodyError::TooMany);
            }
            number(element).ok_or(BodyError::Number)?;
            count += 1;
        }
        Ok(Self { text, count })
    }

    /// The operations, in order; repetitions are kept.
    #[must_use]
    pub fn iter(&self) -> Operations<'a> {
        Operations { elements: self.text.split(','), left: self.count }
    }

    /// How many there are.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.count
    }

    /// Writes `operations` as a body: no spaces, no plus signs. `None` if it does not fit.
    pub fn emit(operations: impl IntoIterator<Item = Operation>, out: &mut [u8]) -> Option<usize> {
        let mut writer = Writer::new(out);
        for (index, operation) in operations.into_iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(writer, "{comma}{}", operation.0).ok()?;
        }
        Some(writer.size())
    }
}

/// The operations of an [`OperationList`].
#[derive(Clone, Debug)]
pub struct Operations<'a> {
    elements: core::str::Split<'a, char>,
    left: usize,
}

impl Iterator for Operations<'_> {
    type Item = Operation;

    fn next(&mut self) -> Option<Operation> {
        self.left = self.left.checked_sub(1)?;
        number(self.elements.next()?)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

fn number(element: &str) -> Option<Operation> {
    element.trim_matches(' ').parse().ok().map(Operation)
}
