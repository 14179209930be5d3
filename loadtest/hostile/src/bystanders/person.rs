//! The identities of bystanders: known to abuses too, which aim at them.

use std::net::Ipv4Addr;

/// Bystanders of one room.
const ROOM_SIZE: u32 = 10;

/// User number of bystander `index`.
pub(crate) fn mid(index: u32) -> i64 {
    1 + i64::from(index)
}

/// Key of its connection.
pub(crate) fn key(index: u32) -> String {
    format!("bystander-{index}")
}

/// Its room.
pub(crate) fn room(index: u32) -> String {
    format!("live://{}", index / ROOM_SIZE)
}

/// The bystander that it writes to, over the other transport.
pub(crate) fn peer(index: u32, count: u32) -> u32 {
    if index ^ 1 < count { index ^ 1 } else { index }
}

/// The bystander, of so many, that floods aim at: one over TCP. Its queue is full until it has read
/// what a flood brought, and a full queue refuses further messages with 503: no other answer to its
/// senders is excused.
pub(crate) fn flooded(count: u32) -> u32 {
    (count / 2) & !1
}

/// Its address: fifty share one, as clients behind one router do.
pub(crate) fn source(index: u32) -> Ipv4Addr {
    Ipv4Addr::new(127, 1, (index / 50 / 250) as u8, 1 + (index / 50 % 250) as u8)
}

/// Even ones speak TCP, odd ones WebSocket.
pub(crate) fn is_websocket(index: u32) -> bool {
    index % 2 == 1
}
