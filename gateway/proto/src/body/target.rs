//! Targets of messages.

use super::{BodyError, Name, RoomKey, size_u8};
use crate::bytes::{Reader, Writer};

/// The target of a message, or the stream that it belongs to: a kind byte and an id of 1 to 255
/// bytes.
///
/// | kind | id |
/// |---|---|
/// | 1 | user by number: int64, 8 bytes |
/// | 2 | user by name |
/// | 3 | room key |
/// | 4 | connection key |
/// | 5 | stream, reserved for history |
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Target<'a> {
    /// Kind 1: every connection of the user with this number (goim's `mid`).
    Mid(i64),
    /// Kind 2: every connection of the user with this name.
    Uid(Name<'a>),
    /// Kind 3: every member of the room.
    Room(RoomKey<'a>),
    /// Kind 4: the connection with this key.
    Connection(Name<'a>),
    /// Kind 5: a stream; reserved for history.
    Stream(Name<'a>),
}

impl<'a> Target<'a> {
    /// The target of a kind byte and the whole of `id`.
    ///
    /// # Errors
    /// [`BodyError::TargetKind`] for an unknown kind; [`BodyError::IdSize`] and [`BodyError::Text`]
    /// for a bad id.
    pub fn from_parts(kind: u8, id: &'a [u8]) -> Result<Self, BodyError> {
        match kind {
            1 => id.try_into().map(|id| Self::Mid(i64::from_be_bytes(id))).map_err(|_| BodyError::IdSize),
            2 => Name::parse(id).map(Self::Uid),
            3 => RoomKey::parse(id).map(Self::Room),
            4 => Name::parse(id).map(Self::Connection),
            5 => Name::parse(id).map(Self::Stream),
            _ => Err(BodyError::TargetKind),
        }
    }

    /// The kind byte.
    #[must_use]
    pub const fn kind(&self) -> u8 {
        match self {
            Self::Mid(_) => 1,
            Self::Uid(_) => 2,
            Self::Room(_) => 3,
            Self::Connection(_) => 4,
            Self::Stream(_) => 5,
        }
    }

    /// Size of the id, in bytes: 1 to 255.
    #[must_use]
    pub const fn id_size(&self) -> usize {
        match self {
            Self::Mid(_) => 8,
            Self::Uid(name) | Self::Connection(name) | Self::Stream(name) => name.as_bytes().len(),
            Self::Room(room) => room.as_bytes().len(),
        }
    }

    /// The metric label.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Mid(_) => "mid",
            Self::Uid(_) => "uid",
            Self::Room(_) => "room",
            Self::Connection(_) => "connection",
            Self::Stream(_) => "stream",
        }
    }

    pub(super) fn read(reader: &mut Reader<'a>, kind: u8, id_size: u8) -> Result<Self, BodyError> {
        let id = reader.take(usize::from(id_size)).ok_or(BodyError::Truncated)?;
        Self::from_parts(kind, id)
    }

    /// Writes the kind and the size of the id, the first two bytes of every body that has a target.
    pub(super) fn write_head(&self, writer: &mut Writer<'_>) -> Option<()> {
        writer.u8(self.kind())?;
        writer.u8(size_u8(self.id_size())?)
    }

    pub(super) fn write_id(&self, writer: &mut Writer<'_>) -> Option<()> {
        match self {
            Self::Mid(mid) => writer.put(&mid.to_be_bytes()),
            Self::Uid(name) | Self::Connection(name) | Self::Stream(name) => writer.put(name.as_bytes()),
            Self::Room(room) => writer.put(room.as_bytes()),
        }
    }
}
