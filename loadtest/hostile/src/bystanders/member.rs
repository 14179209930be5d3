//! One long-lived bystander: heartbeats, messages to itself, to its peer and to its room, each
//! reply matched.

use super::flows::{Stamp, Verdict, Way};
use super::ledger::{LATE, Window};
use super::link::{Link, ending};
use super::{Shared, person};
use crate::wire::{Frame, Item, To, op, send_body};
use serde_json::json;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::time::{sleep, sleep_until, timeout};

/// The push operation of services, which clients may not use.
pub(crate) const SERVICE_PUSH: i32 = 2000;
/// A receiver that has been open for this long has to be found.
const SETTLED: Duration = Duration::from_secs(1);

/// A request that waits for its reply.
struct Pending {
    sequence: i32,
    reply: i32,
    sent_at: Instant,
    /// The message that it answers.
    message: Option<SentMessage>,
}

/// What a member sent: the flow, its number, and the receiver that it has to reach.
#[derive(Clone, Copy)]
struct SentMessage {
    way: Way,
    to: u32,
    number: u64,
}

impl SentMessage {
    /// The flow's receiver: rooms have none of their own.
    fn flow_to(self) -> u32 {
        if self.way == Way::Room { 0 } else { self.to }
    }
}

/// One connection of a member.
struct Session<'a> {
    shared: &'a Shared,
    index: u32,
    generation: u32,
    link: Link,
    pending: Vec<Pending>,
    sequence: i32,
    turn: u32,
    closed: Option<i32>,
}

/// Lives until the population leaves; each connection that ends before that is noticed, and
/// replaced.
pub(crate) async fn live(shared: Rc<Shared>, index: u32) {
    let mut generation = 0;
    while !shared.leaves() {
        match timeout(2 * LATE, Session::open(&shared, index, generation)).await {
            Ok(Ok(session)) => {
                if let Some(why) = session.run().await {
                    let mut window = shared.ledger.lock();
                    window.counts.closed += 1;
                    window.note(format!("closed: {why}"));
                }
            }
            failed => {
                let why =
                    failed.map_or_else(|_| "no answer".to_owned(), |opened| opened.err().unwrap_or_default());
                let mut window = shared.ledger.lock();
                window.counts.logins_failed += 1;
                window.note(format!("a member's login: {why}"));
            }
        }
        shared.is_closed(index);
        generation += 1;
        sleep(Duration::from_millis(200)).await;
    }
}

impl<'a> Session<'a> {
    async fn open(shared: &'a Shared, index: u32, generation: u32) -> Result<Session<'a>, String> {
        let websocket = person::is_websocket(index);
        let opened = Link::open(person::source(index), shared.listener(websocket), websocket).await;
        let mut link = opened.map_err(|error| format!("connect: {}", ending(&error)))?;
        let body = shared.auth(
            person::mid(index),
            &[person::room(index)],
            &json!({ "key": person::key(index), "room_id": person::room(index), "accepts": [1000, SERVICE_PUSH] }),
        );
        link.login(&body).await?;
        shared.is_open(index, generation > 0);
        let (pending, closed) = (vec![], None);
        Ok(Session { shared, index, generation, link, pending, sequence: 1, turn: index, closed })
    }

    /// Why the connection ended; `None`: the population leaves.
    async fn run(mut self) -> Option<String> {
        // Spread over the interval, so that not all act at the same moment.
        let offset = self.shared.interval * (self.index % 97) / 97;
        let mut due = Instant::now() + offset;
        loop {
            if self.shared.leaves() {
                self.link.leave().await;
                return None;
            }
            let done = tokio::select! {
                biased;
                received = self.link.wait() => match received {
                    Ok(()) => self.receive().await,
                    Err(error) => Err(error),
                },
                () = sleep_until(due.into()) => {
                    due = (due + self.shared.interval).max(Instant::now());
                    self.act().await
                }
            };
            if let Err(error) = done {
                return Some(self.closed.map_or_else(|| ending(&error), |code| format!("with {code}")));
            }
        }
    }

    async fn act(&mut self) -> io::Result<()> {
        self.check_pending();
        if !self.shared.sends() {
            return Ok(());
        }
        self.turn += 1;
        match self.turn % 10 {
            0 => self.message(Way::Room).await,
            1 | 5 => self.request(op::HEARTBEAT, &[], None).await,
            2 | 4 | 6 | 8 => self.message(Way::Peer).await,
            _ => self.message(Way::Own).await,
        }
    }

    async fn message(&mut self, way: Way) -> io::Result<()> {
        let to = match way {
            Way::Peer => person::peer(self.index, self.shared.count),
            _ => self.index,
        };
        let mut message = SentMessage { way, to, number: 0 };
        // A receiver that is not there, or has just come, would rightly not be found.
        if !self.shared.is_settled(to, SETTLED) {
            return Ok(());
        }
        let flow_to = message.flow_to();
        message.number = self.shared.flows.borrow_mut().number(way, self.index, flow_to, self.generation);
        let number = message.number;
        let (from, generation, sent_at) = (self.index, self.generation, self.shared.since.elapsed());
        let payload = Stamp { way, from, generation, number, sent_at }.payload();
        let room = person::room(self.index);
        let target = if way == Way::Room { To::Room(&room) } else { To::Mid(person::mid(to)) };
        self.request(op::SEND, &send_body(target, 0, 0, &payload), Some(message)).await
    }

    async fn request(&mut self, operation: i32, body: &[u8], message: Option<SentMessage>) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let (sequence, reply, sent_at) = (self.sequence, operation + 1, Instant::now());
        self.pending.push(Pending { sequence, reply, sent_at, message });
        self.shared.ledger.lock().counts.sent += 1;
        self.link.send(operation, sequence, body).await
    }

    /// Requests whose reply is overdue are counted once.
    fn check_pending(&mut self) {
        let before = self.pending.len();
        self.pending.retain(|one| one.sent_at.elapsed() < LATE);
        let overdue = (before - self.pending.len()) as u64;
        if overdue > 0 {
            let mut window = self.shared.ledger.lock();
            window.counts.unanswered += overdue;
            window.note("a request was not answered");
        }
    }

    async fn receive(&mut self) -> io::Result<()> {
        while let Some(item) = self.link.next().await? {
            match item {
                Item::Frame(frame) => self.handle(&frame),
                Item::Close(code) => self.closed = self.closed.or(Some(i32::from(code))),
                Item::Ping(_) | Item::Pong => {}
            }
        }
        Ok(())
    }

    fn handle(&mut self, frame: &Frame) {
        match frame.operation {
            op::CLOSED => self.closed = Some(frame.code()),
            op::RECONNECT => {}
            op::HEARTBEAT_REPLY | op::SEND_REPLY => self.reply(frame),
            op::ERROR => {
                let found = self.pending.iter().position(|one| one.sequence == frame.sequence);
                if let Some(message) = found.and_then(|found| self.pending.swap_remove(found).message) {
                    self.excuse(message);
                }
                let mut window = self.shared.ledger.lock();
                window.counts.refused += 1;
                window.note(format!("error {} to operation {}", frame.code(), frame.word(4)));
            }
            _ => self.pushed(frame),
        }
    }

    fn reply(&mut self, frame: &Frame) {
        let found = self
            .pending
            .iter()
            .position(|one| (one.sequence, one.reply) == (frame.sequence, frame.operation));
        let mut window = self.shared.ledger.lock();
        let Some(found) = found else {
            window.counts.forged += 1;
            return window.note(format!("operation {} replies to nothing", frame.operation));
        };
        let asked = self.pending.swap_remove(found);
        let Some(message) = asked.message else { return };
        // 0 receivers: to a user, none of its connections took it. Of a room that is not known.
        if frame.code() != 0 || (frame.word(4) == 0 && message.way != Way::Room) {
            self.excuse(message);
        }
        let there = self.shared.is_settled(message.to, asked.sent_at.elapsed() + SETTLED);
        let is_full = frame.code() == 503 && message.to == person::flooded(self.shared.count);
        if there && !is_full && (frame.code() != 0 || frame.word(4) == 0) {
            window.counts.refused += 1;
            let (way, to) = (message.way, message.to);
            let how = format!("answered {} with {} receivers", frame.code(), frame.word(4));
            window.note(format!("{way:?} message for member {to} {how}"));
        }
    }

    /// A message that was refused is not lost.
    fn excuse(&self, message: SentMessage) {
        self.shared.flows.borrow_mut().refused(message.way, self.index, message.flow_to(), message.number);
    }

    fn pushed(&self, frame: &Frame) {
        let mut window = self.shared.ledger.lock();
        match Stamp::parse(&frame.body) {
            Some(Some(stamp)) => self.stamped(&stamp, &mut window),
            Some(None) => {
                window.counts.forged += 1;
                window.note("a message was damaged");
            }
            None if matches!(frame.operation, op::PUSH | 1001 | op::DELIVER) || !self.shared.production => {
                window.counts.noise += 1;
            }
            None => {
                window.counts.forged += 1;
                window.note(format!("a client pushed operation {}", frame.operation));
            }
        }
    }

    fn stamped(&self, stamp: &Stamp, window: &mut Window) {
        window.counts.received += 1;
        match self.shared.flows.borrow_mut().receive(stamp, self.index) {
            Verdict::InOrder => {}
            Verdict::Gap(missing) => {
                window.counts.lost += missing;
                window.note(format!("{:?} messages lost on the way to member {}", stamp.way, self.index));
            }
            Verdict::Again => {
                window.counts.misordered += 1;
                window.note(format!("{:?} message doubled or reordered", stamp.way));
            }
        }
        let took = self.shared.since.elapsed().saturating_sub(stamp.sent_at);
        if took > LATE {
            window.counts.late += 1;
            window.note(format!("{:?} message late", stamp.way));
        }
        if matches!(stamp.way, Way::Own | Way::Peer) {
            Window::record(&mut window.messages, took);
        }
    }
}
