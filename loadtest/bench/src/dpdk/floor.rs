//! The floor of poll mode: what a port costs by itself.
//!
//! A burst of frames arrives, and each goes back to its sender, or to every other address that has
//! joined. What is left is DPDK's queue, our packet buffers, and the copy into a transmit buffer,
//! which the gateway's stack pays for, too.

use super::wire::{Kind, SERVER, transmit};
use super::{IDLE_SLEEP_MAX, LISTENER, RECEIVE_BUFFERS, serving};
use crate::floor::Work;
use crate::servers::announce::announce;
use crate::tally::Tally;
use crate::tally::tally_server::TallyServer;
use dpdk_backend::backend::{Clock, SystemClock};
use dpdk_backend::device::{Device, Received};
use dpdk_backend::ffi::Queue;
use dpdk_backend::wire::Mac;
use netpoll::{BackendConfig, Buffer, BufferPools, Timestamp, Waker};
use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::time::Duration;

/// Frames taken from the port at once.
const BURST: usize = 32;

/// A frame on its way out.
struct Leaving {
    frame: Buffer,
    kind: Kind,
    /// The address that it came from, which gets no copy of a fan-out.
    from: Mac,
    /// The number of members that have been sent to.
    done: usize,
}

struct Floor {
    queue: Queue,
    pools: BufferPools,
    frames: Vec<Received>,
    leaving: VecDeque<Leaving>,
    members: Vec<Mac>,
    work: Work,
}

/// Serves on the link at `socket` until killed.
///
/// # Errors
/// DPDK's errors.
pub fn serve(socket: &Path, work: Work) -> io::Result<()> {
    let mut sizes = BackendConfig::small(1);
    sizes.pools.receive.count = RECEIVE_BUFFERS;
    let host = serving(socket, &sizes)?;
    let _known_to_dpdk = host.enter()?;
    let none = |what: &str| io::Error::other(format!("the port has no {what}"));
    let mut queue = host.queue(0).ok_or_else(|| none("queue"))?;
    let memory = queue.receive_memory().ok_or_else(|| none("memory"))?;
    let mut floor = Floor {
        queue,
        pools: BufferPools::over(&sizes.pools, memory)?,
        frames: Vec::with_capacity(BURST),
        leaving: VecDeque::with_capacity(BURST),
        members: Vec::with_capacity(8192),
        work,
    };
    let tally_server = TallyServer::start()?;
    announce(&[LISTENER]);
    floor.run(&tally_server)
}

impl Floor {
    fn run(&mut self, tally_server: &TallyServer) -> ! {
        let mut clock = SystemClock::sleeping_at_most(IDLE_SLEEP_MAX);
        let waker = Waker::flag();
        let mut tally = Tally { busy: Duration::ZERO, frames: 0, resent: None };
        loop {
            let start = clock.now();
            let moved = self.turn(start);
            if moved == 0 {
                clock.idle(Duration::ZERO, &waker);
                continue;
            }
            clock.busy();
            tally.busy += clock.now().since(start);
            tally.frames += moved;
            tally_server.publish(tally);
        }
    }

    /// Takes a burst, when the last one has left, and sends what the port takes; frames moved.
    fn turn(&mut self, now: Timestamp) -> u64 {
        let mut moved = 0;
        if self.leaving.is_empty() {
            self.queue.receive_burst(now, &mut self.pools, &mut self.frames);
            moved += self.frames.len() as u64;
            for received in self.frames.drain(..) {
                self.leaving.extend(Leaving::of(received.buffer));
            }
        }
        while let Some(one) = self.leaving.front_mut() {
            if one.kind == Kind::Join && one.done == 0 {
                self.members.push(one.from);
                one.done = 1;
            }
            let (sent, all) = match (one.kind, self.work) {
                (Kind::Message, Work::FanOut) => one.send_to_others(&mut self.queue, now, &self.members),
                _ => one.back(&mut self.queue, now),
            };
            moved += sent;
            if !all {
                break; // the port is full; nothing overtakes
            }
            self.leaving.pop_front();
        }
        self.queue.transmit_burst(now);
        moved
    }
}

impl Leaving {
    fn of(mut frame: Buffer) -> Option<Leaving> {
        let kind = Kind::of(frame.as_slice())?;
        let from = Mac(*frame.as_slice()[6..].first_chunk()?);
        let head = frame.as_mut_slice();
        head[..6].copy_from_slice(&from.0);
        head[6..12].copy_from_slice(&SERVER.0);
        Some(Leaving { frame, kind, from, done: 0 })
    }

    /// Sends the frame back to its sender; returns the frames sent, and whether that is all.
    fn back(&mut self, queue: &mut Queue, now: Timestamp) -> (u64, bool) {
        let sent = transmit(queue, now, self.frame.as_slice());
        (u64::from(sent), sent)
    }

    /// Sends the frame to all others, as far as the port takes it.
    fn send_to_others(&mut self, queue: &mut Queue, now: Timestamp, members: &[Mac]) -> (u64, bool) {
        let mut sent = 0;
        for member in &members[self.done..] {
            if *member != self.from {
                self.frame.as_mut_slice()[..6].copy_from_slice(&member.0);
                if !transmit(queue, now, self.frame.as_slice()) {
                    return (sent, false);
                }
                sent += 1;
            }
            self.done += 1;
        }
        (sent, true)
    }
}
