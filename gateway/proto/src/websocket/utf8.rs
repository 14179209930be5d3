//! UTF-8 over pieces that may cut a character (RFC 6455 §8.1).

use core::str::from_utf8;

/// What the end of the last piece left open. Default is a character boundary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Utf8State {
    /// The bytes of the unfinished character; those from `size` on are 0.
    pending: [u8; 3],
    /// How many: 0 to 3.
    size: u8,
}

impl Utf8State {
    /// Takes the next piece; `None` where the text so far cannot be the front of any UTF-8.
    pub(super) fn push(self, mut bytes: &[u8]) -> Option<Self> {
        let mut state = self;
        while state.size != 0 {
            let Some((&byte, rest)) = bytes.split_first() else {
                return Some(state);
            };
            state = state.push_byte(byte)?;
            bytes = rest;
        }
        match from_utf8(bytes) {
            Ok(_) => Some(Self::default()),
            Err(error) if error.error_len().is_none() => Self::open(bytes.get(error.valid_up_to()..)?),
            Err(_) => None,
        }
    }

    /// Whether the text may end here.
    pub(super) fn is_boundary(self) -> bool {
        self.size == 0
    }

    fn push_byte(self, byte: u8) -> Option<Self> {
        let size = usize::from(self.size);
        let mut character = [0; 4];
        character[..3].copy_from_slice(&self.pending);
        *character.get_mut(size)? = byte;
        let character = character.get(..=size)?;
        match from_utf8(character) {
            Ok(_) => Some(Self::default()),
            Err(error) if error.error_len().is_none() => Self::open(character),
            Err(_) => None,
        }
    }

    fn open(bytes: &[u8]) -> Option<Self> {
        let mut pending = [0; 3];
        pending.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(Self { pending, size: u8::try_from(bytes.len()).ok()? })
    }
}
