//! The floor of completion: multishot accepts and receives, direct descriptors, sends without completions.

use super::ring::{Event, Lent, Ring, with_ring};
use super::{Work, listen};
use std::collections::VecDeque;
use std::io;

struct Floor<'r> {
    ring: Ring<'r>,
    work: Work,
    /// Slots with a connection, where everything goes to everybody.
    members: Vec<u32>,
    /// Receives that the kernel ended for want of a buffer.
    rearm: VecDeque<u32>,
}

/// Serves until killed; `announce` is told the port. What a client writes at once, `size` bytes, finds room in one buffer:
/// in smaller ones it would be echoed in several sends.
///
/// # Errors
/// What the system says to io_uring or the listener.
pub fn serve(work: Work, size: usize, announce: impl FnOnce(u16)) -> io::Result<()> {
    let (listener, port) = listen(false)?;
    with_ring(&listener, size, |ring| {
        announce(port);
        let mut floor = Floor { ring, work, members: Vec::with_capacity(8192), rearm: VecDeque::new() };
        floor.ring.accept()?;
        loop {
            floor.ring.enter_and_wait()?;
            while let Some(event) = floor.ring.reap() {
                floor.handle(event)?;
            }
            for _ in 0..floor.rearm.len() {
                let Some(slot) = floor.rearm.pop_front() else { break };
                floor.ring.receive(slot)?;
            }
        }
    })
}

impl Floor<'_> {
    fn handle(&mut self, event: Event) -> io::Result<()> {
        match event {
            Event::Accepted { slot, more } => {
                if let Ok(slot) = slot {
                    self.ring.receive(slot)?;
                    if self.work == Work::FanOut {
                        self.members.push(slot);
                    }
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
                for slot in &self.members {
                    if *slot != from {
                        self.ring.send_message(*slot)?;
                    }
                }
                Ok(())
            }
        }
    }

    fn drop_connection(&mut self, slot: u32) -> io::Result<()> {
        if self.work == Work::FanOut {
            self.members.retain(|member| *member != slot);
        }
        self.ring.close(slot)
    }
}
