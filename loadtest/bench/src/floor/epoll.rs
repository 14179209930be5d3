//! The floor of readiness: edge-triggered epoll, `recv` into one buffer that stays in the cache, `send` at once.

use super::{Work, listen};
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags};
use slab::Slab;
use std::io;
use std::os::fd::OwnedFd;

const EVENTS_MAX: usize = 1024;
const BUFFER_SIZE: usize = 64 << 10;
const LISTENER: u64 = u64::MAX;

struct Floor {
    epoll: OwnedFd,
    listener: OwnedFd,
    connections: Slab<OwnedFd>,
    buffer: Vec<u8>,
    work: Work,
}

/// Serves until killed; `announce` is told the port.
///
/// # Errors
/// What the system says to epoll or the listener.
pub fn serve(work: Work, announce: impl FnOnce(u16)) -> io::Result<()> {
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    let (listener, port) = listen(true)?;
    epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
    announce(port);
    let mut floor =
        Floor { epoll, listener, connections: Slab::with_capacity(8192), buffer: vec![0; BUFFER_SIZE], work };
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

    /// A receive that does not fill the buffer has emptied the socket: the next bytes make a new edge.
    fn readable(&mut self, key: usize) {
        loop {
            let Some(socket) = self.connections.get(key) else { return };
            let alive = match rustix::net::recv(socket, &mut self.buffer[..], RecvFlags::DONTWAIT) {
                Ok((0, _)) => false,
                Ok((count, _)) => {
                    let alive = self.pass_on(key, count);
                    if alive && count < BUFFER_SIZE {
                        return;
                    }
                    alive
                }
                Err(Errno::AGAIN) => return,
                Err(_) => false,
            };
            if !alive {
                self.connections.try_remove(key);
                return;
            }
        }
    }

    fn pass_on(&mut self, from: usize, count: usize) -> bool {
        let bytes = &self.buffer[..count];
        match self.work {
            Work::Echo => send(&self.connections[from], bytes),
            Work::FanOut => {
                self.connections.retain(|key, socket| key == from || send(socket, bytes));
                true
            }
        }
    }
}

/// Whether the socket took everything.
fn send(socket: &OwnedFd, bytes: &[u8]) -> bool {
    let sent = rustix::net::send(socket, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
    sent == Ok(bytes.len())
}
