//! Users of connections.

use super::text::TextId;

/// The user of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum User {
    /// No user: the connection is reached by key and rooms only.
    Anonymous,
    /// goim's integer id.
    Mid(i64),
    /// A string id, in the text store.
    Uid(TextId),
}

/// A [`User`] without the padding of its number: which kind it is, and the number's bytes or the
/// text's.
#[derive(Clone, Copy, Debug)]
pub(super) struct PackedUser {
    kind: u8,
    bytes: [u8; 8],
}

impl PackedUser {
    pub(super) const ANONYMOUS: PackedUser = PackedUser { kind: 0, bytes: [0; 8] };

    pub(super) fn pack(user: User) -> PackedUser {
        match user {
            User::Anonymous => PackedUser::ANONYMOUS,
            User::Mid(mid) => PackedUser { kind: 1, bytes: mid.to_le_bytes() },
            User::Uid(uid) => {
                let [head, size] = uid.pack().map(u64::from);
                PackedUser { kind: 2, bytes: (head | size << 32).to_le_bytes() }
            }
        }
    }

    pub(super) fn unpack(self) -> User {
        let number = u64::from_le_bytes(self.bytes);
        match self.kind {
            0 => User::Anonymous,
            1 => User::Mid(number.cast_signed()),
            _ => User::Uid(TextId::unpack([number as u32, (number >> 32) as u32])),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::text::{TextStore, TextUse};
    use super::*;

    #[test]
    fn a_user_is_the_same_after_it_was_packed() {
        let mut texts = TextStore::with_capacity(70_000, 0, 0);
        let mut users = vec![User::Anonymous];
        users.extend([i64::MIN, -1, 0, 1, 7 << 40, i64::MAX].map(User::Mid));
        for text in [&b"a"[..], &[b'u'; 36], &[b'u'; 2000]] {
            users.push(User::Uid(texts.insert(text, TextUse::Login).unwrap()));
        }
        // A text with a first cell of a number of more than sixteen bits.
        while texts.used_cells() < 68_000 {
            texts.insert(&[b'x'; 36_000], TextUse::Login).unwrap();
        }
        users.push(User::Uid(texts.insert(b"late", TextUse::Login).unwrap()));
        for user in users {
            assert_eq!(PackedUser::pack(user).unpack(), user);
        }
    }
}
