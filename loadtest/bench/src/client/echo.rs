//! Echo: every connection writes D messages at once and waits for all D of them.

use super::fleet::{Arrival, Fleet};
use super::window::{Measured, Watch};
use super::{Line, Probe, Problem, Protocol, Window};
use netpoll::{ConnectionId, SharedBuffer};
use std::time::{Duration, Instant};

/// How long the first messages may wait for blocks.
const BLOCKS_WITHIN: Duration = Duration::from_secs(5);
/// How long the last answers may take at the end.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// One connection's loop.
struct Loop {
    /// Bytes of the present round that have arrived.
    offset: u32,
    rounds: u32,
    sent_at: Instant,
}

struct Echo {
    loops: Vec<Loop>,
    request: SharedBuffer,
    reply: Vec<u8>,
    /// The first round's replies, by connection.
    first_replies: Vec<Vec<u8>>,
    depth: u64,
    stopping: bool,
    /// Connections with a round under way.
    waiting: usize,
    watch: Watch,
}

/// Measures `depth` messages of `size` bytes at a time over all connections of the fleet.
///
/// # Errors
/// [`Problem`], for example an answer that differs from what was sent.
pub fn echo<L: Line>(
    fleet: &mut Fleet<L>,
    protocol: Protocol,
    (depth, size): (usize, usize),
    window: Window,
    probe: Probe,
) -> Result<Measured, Problem> {
    let (request, reply) = round(protocol, depth, size, usize::MAX);
    let request = fleet.prepare(&request)?;
    let count = fleet.ids.len();
    let mut echo = Echo {
        loops: Vec::with_capacity(count),
        request,
        reply,
        first_replies: (0..count).map(|number| round(protocol, depth, size, number).1).collect(),
        depth: depth as u64,
        stopping: false,
        waiting: 0,
        watch: Watch::new(probe)?,
    };
    for number in 0..count {
        let (request, _) = round(protocol, depth, size, number);
        echo.first_round(fleet, number, &request)?;
    }
    echo.watch.arm(window);
    let measured = loop {
        fleet.turn(Duration::from_millis(100), |line, ids, arrival| echo.arrived(line, ids, arrival))?;
        if let Some(measured) = echo.watch.tick(&mut fleet.line)? {
            break measured;
        }
    };
    echo.stopping = true;
    let deadline = Instant::now() + LAST_WORDS;
    while echo.waiting > 0 {
        if Instant::now() > deadline {
            return Err(Problem(format!("{} connections wait for an answer in vain", echo.waiting)));
        }
        fleet.turn(Duration::from_millis(100), |line, ids, arrival| echo.arrived(line, ids, arrival))?;
    }
    match echo.loops.iter().position(|one| one.rounds == 0) {
        Some(number) => Err(Problem(format!("connection {number} got no answer"))),
        None => Ok(measured),
    }
}

/// Describes how received bytes differ from the expected ones.
pub(super) fn difference(expected: &[u8], got: &[u8]) -> String {
    let same = expected.iter().zip(got).take_while(|(one, other)| one == other).count();
    let part = |bytes: &[u8]| format!("{:02x?}", &bytes[same.min(bytes.len())..bytes.len().min(same + 24)]);
    let (expected, came) = (part(expected), part(got));
    format!("{same} of {} bytes are right, then {came} came and not {expected}", got.len())
}

/// The bytes of one round: `depth` messages that name `number` at their front, and their echoes.
fn round(protocol: Protocol, depth: usize, size: usize, number: usize) -> (Vec<u8>, Vec<u8>) {
    let (mut request, mut reply) = (vec![], vec![]);
    for index in 0..depth {
        let mut payload: Vec<u8> = (0..size).map(|at| (at + index) as u8).collect();
        payload[..8].copy_from_slice(&(number as u64).to_be_bytes());
        let (there, back) = protocol.echo(&payload);
        request.extend(there);
        reply.extend(back);
    }
    (request, reply)
}

impl Echo {
    fn first_round<L: Line>(
        &mut self,
        fleet: &mut Fleet<L>,
        number: usize,
        request: &[u8],
    ) -> Result<(), Problem> {
        self.loops.push(Loop { offset: 0, rounds: 0, sent_at: Instant::now() });
        self.waiting += 1;
        // There are fewer blocks than connections: turns in between set some free, past the kernel
        // when they are acknowledged.
        let since = Instant::now();
        let request = loop {
            match fleet.prepare(request) {
                Ok(request) => break request,
                Err(problem) if since.elapsed() > BLOCKS_WITHIN => return Err(problem),
                Err(_) => {
                    fleet.turn(Duration::ZERO, |line, ids, arrival| self.arrived(line, ids, arrival))?
                }
            }
        };
        fleet.send(number, request)
    }

    fn arrived<L: Line>(
        &mut self,
        line: &mut L,
        ids: &[ConnectionId],
        arrival: Arrival,
    ) -> Result<(), Problem> {
        let Arrival { number, at, buffer } = arrival;
        let one = &mut self.loops[number];
        let expected = if one.rounds == 0 { &self.first_replies[number] } else { &self.reply };
        let bytes = buffer.as_slice();
        let begin = one.offset as usize;
        let end = begin + bytes.len();
        if expected.get(begin..end) != Some(bytes) {
            let problem = difference(&expected[begin.min(expected.len())..], bytes);
            return Err(Problem(format!(
                "connection {number}, round {}, byte {begin}: {problem}",
                one.rounds
            )));
        }
        one.offset = end as u32;
        if end < expected.len() {
            return Ok(());
        }
        one.offset = 0;
        one.rounds += 1;
        self.watch.record(self.depth, at - one.sent_at);
        if self.stopping {
            self.waiting -= 1;
            return Ok(());
        }
        one.sent_at = at;
        let sent = line.send(ids[number], self.request.clone());
        sent.map_err(|error| Problem(format!("send: {error:?}")))
    }
}
