//! Operations 12, 13 and 104–107: rooms.

use super::{BodyError, Position, RoomKey, end, need, read_code, write_code};
use crate::bytes::{Reader, Writer};
use crate::codes::ErrorCode;

const JOIN_HEAD_SIZE: usize = 16;
const JOIN_REPLY_HEAD_SIZE: usize = 24;
const LEAVE_REPLY_HEAD_SIZE: usize = 4;
const FLAG_SINCE: u16 = 1;
const FLAG_RECOVERED: u16 = 1;

/// Operations 12 and 13: the connection's (first) room (goim `internal/comet/operation.go`,
/// `Operate`).
///
/// The whole body is the room key; an empty one leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChangeRoom<'a> {
    /// The room to be in, `None` to be in none.
    pub room: Option<RoomKey<'a>>,
}

impl<'a> ChangeRoom<'a> {
    /// Parses the body of operation 12 or 13.
    ///
    /// # Errors
    /// [`BodyError::IdSize`], [`BodyError::Text`].
    pub fn parse(body: &'a [u8]) -> Result<Self, BodyError> {
        if body.is_empty() {
            return Ok(Self { room: None });
        }
        RoomKey::parse(body).map(|room| Self { room: Some(room) })
    }

    /// Size of the body, in bytes: 0 to 255.
    #[must_use]
    pub fn encoded_size(&self) -> usize {
        self.room.map_or(0, |room| room.as_bytes().len())
    }

    /// Writes the body; `None` if it does not fit.
    pub fn emit(&self, out: &mut [u8]) -> Option<usize> {
        let mut writer = Writer::new(out);
        writer.put(self.room.map_or(&[], RoomKey::as_bytes))?;
        Some(writer.size())
    }
}

/// Operation 104: join a further room, and optionally recover missed messages.
///
/// ```text
///  0 u16 flags (bit 0: recover since) · 2 u16 n · 4 u32 epoch · 8 u64 offset · 16 room[n]
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Join<'a> {
    /// The room.
    pub room: RoomKey<'a>,
    /// The last place the client holds; `None` is zeros on the wire and asks for nothing old.
    pub since: Option<Position>,
}

impl<'a> Join<'a> {
    /// Parses the body of operation 104.
    ///
    /// # Errors
    /// Any [`BodyError`] of its fields; [`BodyError::Reserved`] for a position without its flag.
    pub fn parse(body: &'a [u8]) -> Result<Self, BodyError> {
        let mut reader = Reader::new(body);
        let (flags, room_size) = (need(reader.u16())?, need(reader.u16())?);
        let position = Position::read(&mut reader)?;
        if flags & !FLAG_SINCE != 0 {
            return Err(BodyError::Flags);
        }
        let since = (flags & FLAG_SINCE != 0).then_some(position);
        if since.is_none() && position != Position::default() {
            return Err(BodyError::Reserved);
        }
        let room = read_room(&mut reader, room_size)?;
        end(reader)?;
        Ok(Self { room, since })
    }

    /// Size of the body, in bytes: 17 to 271.
    #[must_use]
    pub const fn encoded_size(&self) -> usize {
        JOIN_HEAD_SIZE + self.room.as_bytes().len()
    }

    /// Writes the body; `None` if it does not fit.
    pub fn emit(&self, out: &mut [u8]) -> Option<usize> {
        let mut writer = Writer::new(out);
        writer.u16(if self.since.is_some() { FLAG_SINCE } else { 0 })?;
        writer.u16(u16::try_from(self.room.as_bytes().len()).ok()?)?;
        self.since.unwrap_or_default().write(&mut writer)?;
        writer.put(self.room.as_bytes())?;
        Some(writer.size())
    }
}

/// Operation 105: what became of a [`Join`].
///
/// ```text
///  0 i32 code · 4 u16 flags (bit 0: recovered) · 6 u16 n · 8 u32 epoch · 12 u64 offset
///  · 20 u32 members · 24 room[n]
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JoinReply<'a> {
    /// Whether the connection is in the room now, or why not.
    pub result: Result<(), ErrorCode>,
    /// Everything since the client's position follows, or has been sent. Never true with a hole.
    pub recovered: bool,
    /// The room's latest place; zeros without history.
    pub position: Position,
    /// Connections in the room, as far as the answering server knows.
    pub members: u32,
    /// The room.
    pub room: RoomKey<'a>,
}

impl<'a> JoinReply<'a> {
    /// Parses the body of operation 105.
    ///
    /// # Errors
    /// Any [`BodyError`] of its fields.
    pub fn parse(body: &'a [u8]) -> Result<Self, BodyError> {
        let mut reader = Reader::new(body);
        let result = read_code(&mut reader)?;
        let (flags, room_size) = (need(reader.u16())?, need(reader.u16())?);
        let position = Position::read(&mut reader)?;
        let members = need(reader.u32())?;
        if flags & !FLAG_RECOVERED != 0 {
            return Err(BodyError::Flags);
        }
        let room = read_room(&mut reader, room_size)?;
        end(reader)?;
        Ok(Self { result, recovered: flags & FLAG_RECOVERED != 0, position, members, room })
    }

    /// Size of the body, in bytes: 25 to 279.
    #[must_use]
    pub const fn encoded_size(&self) -> usize {
        JOIN_REPLY_HEAD_SIZE + self.room.as_bytes().len()
    }

    /// Writes the body; `None` if it does not fit.
    pub fn emit(&self, out: &mut [u8]) -> Option<usize> {
        let mut writer = Writer::new(out);
        write_code(&mut writer, self.result)?;
        writer.u16(if self.recovered { FLAG_RECOVERED } else { 0 })?;
        writer.u16(u16::try_from(self.room.as_bytes().len()).ok()?)?;
        self.position.write(&mut writer)?;
        writer.u32(self.members)?;
        writer.put(self.room.as_bytes())?;
        Some(writer.size())
    }
}

/// Operation 106: leave a joined room. The whole body is the room key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leave<'a> {
    /// The room.
    pub room: RoomKey<'a>,
}

impl<'a> Leave<'a> {
    /// Parses the body of operation 106.
    ///
    /// # Errors
    /// [`BodyError::IdSize`], [`BodyError::Text`].
    pub fn parse(body: &'a [u8]) -> Result<Self, BodyError> {
        RoomKey::parse(body).map(|room| Self { room })
    }

    /// Size of the body, in bytes: 1 to 255.
    #[must_use]
    pub const fn encoded_size(&self) -> usize {
        self.room.as_bytes().len()
    }

    /// Writes the body; `None` if it does not fit.
    pub fn emit(&self, out: &mut [u8]) -> Option<usize> {
        let mut writer = Writer::new(out);
        writer.put(self.room.as_bytes())?;
        Some(writer.size())
    }
}

/// Operation 107: what became of a [`Leave`].
///
/// ```text
///  0 i32 code · 4 room to the end
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaveReply<'a> {
    /// Whether the connection has left the room, or why not.
    pub result: Result<(), ErrorCode>,
    /// The room.
    pub room: RoomKey<'a>,
}

impl<'a> LeaveReply<'a> {
    /// Parses the body of operation 107.
    ///
    /// # Errors
    /// Any [`BodyError`] of its fields.
    pub fn parse(body: &'a [u8]) -> Result<Self, BodyError> {
        let mut reader = Reader::new(body);
        let result = read_code(&mut reader)?;
        Ok(Self { result, room: RoomKey::parse(reader.rest())? })
    }

    /// Size of the body, in bytes: 5 to 259.
    #[must_use]
    pub const fn encoded_size(&self) -> usize {
        LEAVE_REPLY_HEAD_SIZE + self.room.as_bytes().len()
    }

    /// Writes the body; `None` if it does not fit.
    pub fn emit(&self, out: &mut [u8]) -> Option<usize> {
        let mut writer = Writer::new(out);
        write_code(&mut writer, self.result)?;
        writer.put(self.room.as_bytes())?;
        Some(writer.size())
    }
}

/// A room of an announced size, which is refused over 255 before it is looked for.
fn read_room<'a>(reader: &mut Reader<'a>, size: u16) -> Result<RoomKey<'a>, BodyError> {
    if size == 0 || usize::from(size) > super::NAME_SIZE_MAX {
        return Err(BodyError::IdSize);
    }
    RoomKey::parse(need(reader.take(usize::from(size)))?)
}
