//! What may go wrong, and how often.

use super::Rng;
use std::time::Duration;

/// Probabilities of everything that a network or a kernel may do to a program and still be correct,
/// and of a few faults that end connections. Each `f64` is the probability, in `0.0..=1.0`, of one
/// occasion.
#[derive(Clone, Debug, PartialEq)]
pub struct FaultConfig {
    /// The least time that a segment is under way.
    pub latency: Duration,
    /// Extra time, drawn for each segment. Order within a connection holds all the same: TCP is a
    /// stream.
    pub jitter: Duration,
    /// Upper bound of every delay below.
    pub delay_max: Duration,
    /// Bytes that one direction of a connection holds unread, least and most; drawn for each
    /// connection. A listener's `send_buffer` takes their place for what it accepts.
    pub window: (usize, usize),
    /// A receive brings only a part of what is there, at least one byte.
    pub short_read: f64,
    /// A write takes only a part of what would fit, at least one byte; the rest has to wait.
    pub partial_write: f64,
    /// A receive or a write says EAGAIN although it need not have; readiness is announced again
    /// later.
    pub spurious_again: f64,
    /// A connection reaches its listener's backlog late.
    pub accept_delay: f64,
    /// The receive pool looks empty for one poll.
    pub empty_pool: f64,
    /// A wake-up arrives late. It is never lost.
    pub wake_delay: f64,
    /// A poll reports nothing, whatever is there.
    pub idle_poll: f64,
    /// A poll reports less than is there, so that it comes in a later batch.
    pub small_batch: f64,
    /// Connections are looked at out of turn.
    pub shuffle: f64,
    /// A FIN takes longer than the bytes before it.
    pub fin_delay: f64,
    /// A backend that has nothing to do is given a turn all the same.
    pub stray_turn: f64,
    /// A write resets the connection, on both sides, and loses what was under way.
    pub reset: f64,
    /// A connect is refused although a listener is there.
    pub refuse: f64,
    /// A connect ends in a time-out.
    pub connect_timeout: f64,
}

impl FaultConfig {
    /// A network of 10 µs without faults.
    pub const fn calm() -> FaultConfig {
        FaultConfig {
            latency: Duration::from_micros(10),
            jitter: Duration::ZERO,
            delay_max: Duration::from_millis(5),
            window: (64 << 10, 64 << 10),
            short_read: 0.0,
            partial_write: 0.0,
            spurious_again: 0.0,
            accept_delay: 0.0,
            empty_pool: 0.0,
            wake_delay: 0.0,
            idle_poll: 0.0,
            small_batch: 0.0,
            shuffle: 0.0,
            fin_delay: 0.0,
            stray_turn: 0.0,
            reset: 0.0,
            refuse: 0.0,
            connect_timeout: 0.0,
        }
    }

    /// Everything that a correct program must not notice: nothing is lost, no connection breaks.
    pub const fn rough() -> FaultConfig {
        FaultConfig {
            jitter: Duration::from_micros(200),
            window: (1 << 10, 64 << 10),
            short_read: 0.2,
            partial_write: 0.2,
            spurious_again: 0.1,
            accept_delay: 0.2,
            empty_pool: 0.05,
            wake_delay: 0.2,
            idle_poll: 0.05,
            small_batch: 0.2,
            shuffle: 0.2,
            fin_delay: 0.2,
            stray_turn: 0.02,
            ..FaultConfig::calm()
        }
    }

    /// `rough`, and connections that break or never come about.
    pub const fn hostile() -> FaultConfig {
        FaultConfig { reset: 0.005, refuse: 0.02, connect_timeout: 0.02, ..FaultConfig::rough() }
    }

    /// A mix drawn from `rng`: each fault of `hostile` is off, as it is there, or three times as
    /// likely. Runs that leave some faults out reach states that runs with all of them never do
    /// (Groce et al., "Swarm testing", 2012).
    pub fn drawn(rng: &mut Rng) -> FaultConfig {
        let mut config = FaultConfig::hostile();
        for probability in config.probabilities() {
            *probability *= [0.0, 1.0, 3.0][rng.below(3)];
        }
        config.jitter *= [0, 1, 10][rng.below(3)];
        config.window.0 = 16 << rng.below(9); // byte by byte would be all that a run does
        config.window.1 = config.window.0 << rng.below(5);
        config
    }

    /// The same without the faults that end connections.
    #[must_use]
    pub fn lossless(self) -> FaultConfig {
        FaultConfig { reset: 0.0, refuse: 0.0, connect_timeout: 0.0, ..self }
    }

    fn probabilities(&mut self) -> [&mut f64; 14] {
        [
            &mut self.short_read,
            &mut self.partial_write,
            &mut self.spurious_again,
            &mut self.accept_delay,
            &mut self.empty_pool,
            &mut self.wake_delay,
            &mut self.idle_poll,
            &mut self.small_batch,
            &mut self.shuffle,
            &mut self.fin_delay,
            &mut self.stray_turn,
            &mut self.reset,
            &mut self.refuse,
            &mut self.connect_timeout,
        ]
    }
}

/// A bug put in on purpose, so that tests can check that the checkers find it.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// Two pieces of a queue leave in the wrong order.
    ReorderTwoSends,
    /// A byte goes over the wire twice.
    DuplicateBytes,
    /// A receive buffer never returns to its pool.
    LeakBuffer,
    /// A readiness event gets lost.
    LoseWakeup,
    /// `Closed` is reported twice.
    CloseTwice,
    /// A connection's `Closed` never comes.
    ForgetClose,
}
