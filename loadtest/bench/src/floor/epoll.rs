//! The floor of readiness: edge-triggered epoll; `recv` from all that are ready, side by side into
//! one buffer that stays in the cache, then `send` to all. Two separate loops run better than one
//! that alternates.

use super::{Work, listen};
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags};
use slab::Slab;
use std::io;
use std::os::fd::OwnedFd;

const EVENTS_MAX: usize = 1024;
const RECEIVE_MAX: usize = 64 << 10;
/// Room for two receives, so that what waits to be sent stays in the cache: at most half of it is
/// used before it is sent.
const BUFFER_SIZE: usize = 2 * RECEIVE_MAX;
const LISTENER: u64 = u64::MAX;

struct Floor {
    epoll: OwnedFd,
    listener: OwnedFd,
    connections: Slab<OwnedFd>,
    buffer: Vec<u8>,
    /// Bytes of the buffer that are in use.
    filled: usize,
    /// The content of the buffer: sender, position and size of each piece.
    received: Vec<(usize, usize, usize)>,
    work: Work,
}

/// Serves until killed; passes the port to `announce`.
///
/// # Errors
/// The system's errors from epoll or the listener.
pub fn serve(work: Work, announce: impl FnOnce(u16)) -> io::Result<()> {
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    let (listener, port) = listen(true, 0)?;
    epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
    announce(port);
    let mut floor = Floor {
        epoll,
        listener,
        connections: Slab::with_capacity(8192),
        buffer: vec![0; BUFFER_SIZE],
        filled: 0,
        received: Vec::with_capacity(EVENTS_MAX),
        work,
    };
    let mut events = Vec::with_capacity(EVENTS_MAX);
    loop {
        events.clear();
        match epoll::wait(&floor.epoll, spare_capacity(&mut events), None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in &events {
            match event.data.u64() {
                LISTENER => floor.accept()?,
                key => floor.readable(key as usize),
            }
        }
        floor.pass_all_on();
    }
}

impl Floor {
    fn accept(&mut self) -> io::Result<()> {
        loop {
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            let socket = match rustix::net::accept_with(&self.listener, flags) {
                Ok(socket) => socket,
                Err(Errno::AGAIN) => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            let entry = self.connections.vacant_entry();
            let data = EventData::new_u64(entry.key() as u64);
            epoll::add(&self.epoll, &socket, data, EventFlags::IN | EventFlags::ET)?;
            entry.insert(socket);
        }
    }

    /// Receives until the socket is empty: a receive that does not fill its room has emptied it,
    /// and the next bytes make a new edge.
    fn readable(&mut self, key: usize) {
        loop {
            if self.buffer.len() - self.filled < RECEIVE_MAX {
                self.pass_all_on();
            }
            let Some(socket) = self.connections.get(key) else { return };
            let room = &mut self.buffer[self.filled..][..RECEIVE_MAX];
            match rustix::net::recv(socket, room, RecvFlags::DONTWAIT) {
                Ok((count, _)) if count > 0 => {
                    self.received.push((key, self.filled, count));
                    self.filled += count.next_multiple_of(64);
                    if count < RECEIVE_MAX {
                        return;
                    }
                }
                Err(Errno::AGAIN) => return,
                Ok(_) | Err(_) => {
                    self.connections.try_remove(key);
                    return;
                }
            }
        }
    }

    /// Sends what was received.
    fn pass_all_on(&mut self) {
        for (from, start, count) in self.received.drain(..) {
            let bytes = &self.buffer[start..start + count];
            match self.work {
                Work::Echo => {
                    if self.connections.get(from).is_some_and(|socket| !send(socket, bytes)) {
                        self.connections.remove(from);
                    }
                }
                Work::FanOut => self.connections.retain(|key, socket| key == from || send(socket, bytes)),
            }
        }
        self.filled = 0;
    }
}

/// Whether the socket took everything.
fn send(socket: &OwnedFd, bytes: &[u8]) -> bool {
    let sent = rustix::net::send(socket, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
    sent == Ok(bytes.len())
}
