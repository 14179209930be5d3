//! Writing an auth request, for clients.

use super::AuthRequest;
use crate::body::{Name, RoomKey};
use crate::bytes::Writer;
use core::fmt::Write;

impl AuthRequest<'_> {
    /// Writes the request as JSON to the front of `out`; what is empty is left out.
    ///
    /// Returns the bytes written, `None` where they do not fit.
    pub fn emit(&self, out: &mut [u8]) -> Option<usize> {
        let mut writer = Writer::new(out);
        write!(writer, "{{\"mid\":{}", self.mid).ok()?;
        string(&mut writer, "key", self.key.map_or("", Name::as_str))?;
        string(&mut writer, "room_id", self.room.map_or("", RoomKey::as_str))?;
        string(&mut writer, "platform", self.platform.map_or("", Name::as_str))?;
        string(&mut writer, "token", self.token)?;
        string(&mut writer, "uid", self.uid.map_or("", Name::as_str))?;
        for (index, operation) in self.accepts.as_slice().iter().enumerate() {
            let before = if index == 0 { ",\"accepts\":[" } else { "," };
            write!(writer, "{before}{}", operation.0).ok()?;
        }
        if !self.accepts.as_slice().is_empty() {
            writer.put(b"]")?;
        }
        if let Some(resume) = self.resume {
            write!(writer, ",\"resume\":{resume}").ok()?;
        }
        writer.put(b"}")?;
        Some(writer.size())
    }
}

fn string(writer: &mut Writer<'_>, name: &str, value: &str) -> Option<()> {
    if value.is_empty() {
        return Some(());
    }
    write!(writer, ",\"{name}\":\"").ok()?;
    for character in value.chars() {
        match character {
            '"' | '\\' => write!(writer, "\\{character}").ok()?,
            '\0'..='\x1f' => write!(writer, "\\u{:04x}", u32::from(character)).ok()?,
            _ => writer.write_char(character).ok()?,
        }
    }
    writer.put(b"\"")
}
