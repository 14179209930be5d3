//! The floor of completion: multishot accepts and receives, direct descriptors, sends without
//! completions.

use super::ring::{Event, Lent, Ring, with_rings};
use super::{Work, listen};
use std::collections::VecDeque;
use std::io;
use std::time::Duration;

/// Connections of a floor with one ring.
const SLOTS: u32 = 16 << 10;
/// How long a floor with several rings sleeps when none has anything: long enough that polling all
/// of them costs nothing.
const NAP: Duration = Duration::from_millis(10);

struct Floor<'r> {
    ring: Ring<'r>,
    work: Work,
    /// Slots with a connection, for messages that go to all.
    members: Vec<u32>,
    /// Receives that the kernel ended for lack of a buffer.
    rearm: VecDeque<u32>,
    /// A message for all arrived, and the connections of other rings do not have it yet.
    news: bool,
}

/// Serves until killed; passes the port to `announce`. What a client writes at once, `size` bytes,
/// fits one buffer: in smaller ones it would be echoed in several sends.
///
/// # Errors
/// The system's errors from io_uring or the listener.
pub fn serve(work: Work, size: usize, announce: impl FnOnce(u16)) -> io::Result<()> {
    let (listener, port) = listen(false, 0)?;
    with_rings(&[listener], SLOTS, size, |rings| {
        announce(port);
        let mut floors = begin(rings, work)?;
        loop {
            for floor in &mut floors {
                floor.turn(1)?; // the only one
            }
        }
    })
}

/// Fans out message after message, over `rings` rings on one thread with up to `slots` connections
/// each: a ring holds as many as RLIMIT_NOFILE has descriptors. They share a port; the kernel
/// spreads connections between the listeners by hash. Passes the port to `announce`. Serves until
/// killed.
///
/// # Errors
/// The system's errors from io_uring or a listener.
pub fn serve_many(rings: usize, slots: u32, size: usize, announce: impl FnOnce(u16)) -> io::Result<()> {
    let (first, port) = listen(false, 0)?;
    let mut listeners = vec![first];
    for _ in 1..rings {
        listeners.push(listen(false, port)?.0);
    }
    with_rings(&listeners, slots, size, |rings| {
        announce(port);
        let mut floors = begin(rings, Work::FanOut)?;
        loop {
            let mut idle = true;
            for number in 0..floors.len() {
                idle &= !floors[number].turn(0)?;
                if std::mem::take(&mut floors[number].news) {
                    tell_others(&mut floors, number)?;
                }
            }
            if idle {
                std::thread::sleep(NAP);
            }
        }
    })
}

fn begin<'r>(rings: Vec<Ring<'r>>, work: Work) -> io::Result<Vec<Floor<'r>>> {
    let floor = |mut ring: Ring<'r>| {
        ring.accept()?;
        Ok(Floor { ring, work, members: Vec::with_capacity(8192), rearm: VecDeque::new(), news: false })
    };
    rings.into_iter().map(floor).collect()
}

/// Sends the message of floor `number`, which has sent it to its own connections, to those of all
/// others.
fn tell_others(floors: &mut [Floor<'_>], number: usize) -> io::Result<()> {
    let (before, rest) = floors.split_at_mut(number);
    let Some((source, after)) = rest.split_first_mut() else { return Ok(()) };
    for floor in before.iter_mut().chain(after) {
        floor.ring.share_message(&source.ring)?;
        floor.send_to_all(None)?;
    }
    Ok(())
}

impl Floor<'_> {
    /// Submits, waits for `wanted` completions, and handles them; false when there was none.
    fn turn(&mut self, wanted: usize) -> io::Result<bool> {
        self.ring.enter(wanted)?;
        let mut busy = false;
        while let Some(event) = self.ring.reap() {
            busy = true;
            self.handle(event)?;
        }
        for _ in 0..self.rearm.len() {
            let Some(slot) = self.rearm.pop_front() else { break };
            self.ring.receive(slot)?;
        }
        Ok(busy)
    }

    fn handle(&mut self, event: Event) -> io::Result<()> {
        match event {
            Event::Accepted { slot, more } => {
                match slot {
                    Ok(slot) => {
                        self.ring.receive(slot)?;
                        if self.work == Work::FanOut {
                            self.members.push(slot);
                        }
                    }
                    Err(error) => crate::note!(
                        "a connection is lost: {}; a ring has RLIMIT_NOFILE places, so more rings may help",
                        io::Error::from_raw_os_error(-error)
                    ),
                }
                if !more {
                    self.ring.accept()?;
                }
                Ok(())
            }
            Event::Received { slot, bytes, more } => {
                self.pass_on(slot, bytes)?;
                if !more {
                    self.rearm.push_back(slot);
                }
                Ok(())
            }
            Event::Starved { slot } => {
                self.rearm.push_back(slot);
                Ok(())
            }
            Event::Ended { slot } => self.drop_connection(slot),
            // A peer that does not take what it is sent: its receive ends with the shutdown.
            Event::NotSent { slot } => self.ring.shutdown(slot),
        }
    }

    fn pass_on(&mut self, from: u32, bytes: Lent) -> io::Result<()> {
        match self.work {
            Work::Echo => self.ring.send_back(from, bytes),
            Work::FanOut => {
                self.ring.set_message(bytes)?;
                self.news = true;
                self.send_to_all(Some(from))
            }
        }
    }

    fn send_to_all(&mut self, but: Option<u32>) -> io::Result<()> {
        for slot in &self.members {
            if Some(*slot) != but {
                self.ring.send_message(*slot)?;
            }
        }
        Ok(())
    }

    fn drop_connection(&mut self, slot: u32) -> io::Result<()> {
        if self.work == Work::FanOut {
            self.members.retain(|member| *member != slot);
        }
        self.ring.close(slot)
    }
}
