//! The bits of a control block: one word with three kinds of bits that can not be mixed.
//!
//! ```text
//!   bit 0 ──────────── 15 ─────── 22 ────── 25 ────────────── 32
//!       │ Facts        │ Lists    │ Todos   │ clock of the last answer
//! ```
//!
//! * [`Facts`]: the state of the connection.
//! * [`Lists`]: the lists that have an entry of the block.
//! * [`Todos`]: the segments that the next output sends.

use crate::time::Now;

/// A set of bits of one kind.
pub(crate) trait Mark: Copy {
    fn bits(self) -> u32;
}

macro_rules! kind {
    ($(#[$text:meta])* $name:ident, $bits:expr) => {
        $(#[$text])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) struct $name(u32);

        impl $name {
            const BITS: std::ops::Range<u32> = $bits;

            const fn nth(number: u32) -> $name {
                assert!(number < $name::BITS.end - $name::BITS.start);
                $name(1 << ($name::BITS.start + number))
            }

            /// Both sets.
            pub(crate) const fn or(self, other: $name) -> $name {
                $name(self.0 | other.0)
            }
        }

        impl Mark for $name {
            #[inline]
            fn bits(self) -> u32 {
                self.0
            }
        }
    };
}

kind!(
    /// The state of a connection, as bits.
    Facts, 0..15
);
kind!(
    /// Lists that have an entry of the block.
    Lists, 15..22
);
kind!(
    /// The segments that the next output sends.
    Todos, 22..25
);

const _: () = assert!(Facts::BITS.end == Lists::BITS.start && Lists::BITS.end == Todos::BITS.start);
const _: () = assert!(Todos::BITS.end == Marks::ANSWERED_SHIFT);

impl Facts {
    /// Timestamps were agreed on (RFC 7323).
    pub(crate) const TIMESTAMPS: Facts = Facts::nth(0);
    /// Selective acknowledgements were agreed on (RFC 2018).
    pub(crate) const SACK: Facts = Facts::nth(1);
    /// The round-trip time has been measured.
    pub(crate) const HAS_RTT: Facts = Facts::nth(2);
    /// A SYN was sent more than once (RFC 6298, 5.7; RFC 5681, 3.1).
    pub(crate) const SYN_RETRANSMITTED: Facts = Facts::nth(3);
    /// Without SACK: `snd_una` is where the last recovery ended (RFC 6582: recover).
    pub(crate) const RECOVERED: Facts = Facts::nth(4);
    /// A FIN follows the queue.
    pub(crate) const FIN_QUEUED: Facts = Facts::nth(5);
    /// The FIN has been sent.
    pub(crate) const FIN_SENT: Facts = Facts::nth(6);
    /// The peer's FIN came ahead of a gap; the active block says where it stands.
    pub(crate) const FIN_AHEAD: Facts = Facts::nth(7);
    /// The owner has called `finish`: payload that comes in is discarded.
    pub(crate) const DISCARD: Facts = Facts::nth(8);
    /// The owner has stopped receiving: the window is shut, whatever buffers are free.
    pub(crate) const STOPPED: Facts = Facts::nth(9);
    /// The queue had to wait; `Sent` is reported when it is empty.
    pub(crate) const WAITED: Facts = Facts::nth(10);
    /// Payload was refused for want of buffers, and none has been accepted since.
    pub(crate) const PAYLOAD_REFUSED: Facts = Facts::nth(11);
    /// The end has been reported to the owner; the block completes the exchange with the peer.
    pub(crate) const ORPHAN: Facts = Facts::nth(12);
    /// The end has been reported to the owner; the block is freed when its reset has been sent.
    pub(crate) const REPORTED: Facts = Facts::nth(13);
    /// The peer's FIN was received; its report waits behind those of payloads.
    pub(crate) const FIN_UNREPORTED: Facts = Facts::nth(14);
}

impl Lists {
    /// Blocks with something to send.
    pub(crate) const DIRTY: Lists = Lists::nth(0);
    /// Acknowledgements that are delayed.
    pub(crate) const DELAYED: Lists = Lists::nth(1);
    /// Windows that are shut, or nearly, for want of buffers.
    pub(crate) const STARVED: Lists = Lists::nth(2);
    /// Blocks with an unresolved neighbor.
    pub(crate) const UNRESOLVED: Lists = Lists::nth(3);
    /// Blocks that found a store of descriptors full.
    pub(crate) const SHORT: Lists = Lists::nth(4);
    /// `Sent` is about to be reported.
    pub(crate) const SENT: Lists = Lists::nth(5);
    /// Payloads that the owner has returned and that were not delivered again since.
    pub(crate) const UNREAD: Lists = Lists::nth(6);
    /// The lists of a turn. An entry in one of them may outlive the connection that it was made
    /// for.
    pub(crate) const OF_TURN: Lists =
        Lists::DIRTY.or(Lists::DELAYED).or(Lists::STARVED).or(Lists::UNRESOLVED).or(Lists::SHORT);
}

impl Todos {
    /// An acknowledgement leaves with the next output. While connecting: the SYN.
    pub(crate) const ACK_NOW: Todos = Todos::nth(0);
    /// An acknowledgement may be delayed (RFC 9293, 3.8.6.3).
    pub(crate) const ACK_LATER: Todos = Todos::nth(1);
    /// The connection is over; the peer learns it by a reset.
    pub(crate) const RESET: Todos = Todos::nth(2);
}

/// All bits of a block.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Marks(u32);

impl Marks {
    const ANSWERED_SHIFT: u32 = 25;

    /// No bit but the clock's: the last answer left long before `now`.
    pub(crate) fn unanswered(now: Now) -> Marks {
        Marks((Marks::tick(now) ^ 0x40) << Marks::ANSWERED_SHIFT)
    }

    #[inline]
    pub(crate) fn has(self, marks: impl Mark) -> bool {
        self.0 & marks.bits() != 0
    }

    #[inline]
    pub(crate) fn set(&mut self, marks: impl Mark) {
        self.0 |= marks.bits();
    }

    #[inline]
    pub(crate) fn clear(&mut self, marks: impl Mark) {
        self.0 &= !marks.bits();
    }

    /// The bits that are set both here and in `marks`, for [`Marks::or`].
    pub(crate) fn only(self, marks: impl Mark) -> Marks {
        Marks(self.0 & marks.bits())
    }

    /// Both.
    pub(crate) fn or(self, other: Marks) -> Marks {
        Marks(self.0 | other.0)
    }

    /// Notes an answer at `now`. Returns whether the last one was in another 512 ms.
    pub(crate) fn note_answer(&mut self, now: Now) -> bool {
        let tick = Marks::tick(now);
        let is_new = self.0 >> Marks::ANSWERED_SHIFT != tick;
        self.0 = self.0 & ((1 << Marks::ANSWERED_SHIFT) - 1) | tick << Marks::ANSWERED_SHIFT;
        is_new
    }

    /// The clock of answers: 7 bits of 512 ms.
    fn tick(now: Now) -> u32 {
        now.ms >> 9 & 0x7f
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_do_not_touch_one_another() {
        let mut marks = Marks::unanswered(Now { ms: 0, us: 0 });
        marks.set(Facts::REPORTED);
        marks.set(Lists::OF_TURN.or(Lists::SENT));
        marks.set(Todos::RESET);
        marks.clear(Lists::OF_TURN);
        assert!(marks.has(Facts::REPORTED) && marks.has(Lists::SENT) && marks.has(Todos::RESET));
        assert!(!marks.has(Lists::DIRTY) && !marks.has(Facts::TIMESTAMPS) && !marks.has(Todos::ACK_NOW));
        let kept = marks.only(Facts::REPORTED).or(marks.only(Todos::RESET));
        assert!(kept.has(Facts::REPORTED) && kept.has(Todos::RESET) && !kept.has(Lists::SENT));
    }

    #[test]
    fn one_answer_in_each_512_ms() {
        let at = |ms| Now { ms, us: 0 };
        let mut marks = Marks::unanswered(at(1000));
        assert!(marks.note_answer(at(1000)));
        assert!(!marks.note_answer(at(1023)));
        assert!(marks.note_answer(at(1024)));
        assert!(!marks.has(Facts::TIMESTAMPS) && !marks.has(Todos::RESET));
    }
}
