//! Receivers that read little or nothing, or less than they ask for: what waits for them must not
//! be taken from others.

use super::answers::{BUSY, FAULTY, OVERLOAD, RATED, SLOW, TAKEN, answers};
use super::{Abuse, Needs, On, abuse};
use crate::client::{Flood, Peer};
use crate::outcome::Outcome;
use crate::target::Target;
use crate::wire::{QUIET, To, frame, join_body, op, send_body};
use serde_json::json;
use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

pub(super) const ABUSES: &[Abuse] = &[
    abuse(
        "room_never_reads",
        On::Tcp,
        Needs::Nothing,
        room_never_reads,
        "Twenty users in one room never read; another one sends small messages to it without a pause.",
        (
            "Pushes to them are dropped or they are closed by class policy; no other connection is.",
            answers(&[], &[RATED, BUSY, SLOW, &["answered 404"]]),
        ),
    ),
    abuse(
        "users_never_read",
        On::Tcp,
        Needs::Nothing,
        users_never_read,
        "Fifty users never read; another one sends small messages to each without a pause.",
        (
            "They are closed with 3008 when they make no progress; no other connection is.",
            answers(&[], &[RATED, BUSY, SLOW, &["answered 404"]]),
        ),
    ),
    abuse(
        "large_messages_never_read",
        On::Tcp,
        Needs::Nothing,
        large_messages_never_read,
        "Fifty users never read; another one sends messages of 60 KiB to each without a pause.",
        (
            "What waits is bounded in all; they are closed when they make no progress.",
            answers(&[], &[RATED, BUSY, SLOW, &["answered 404"]]),
        ),
    ),
    abuse(
        "many_hold_little",
        On::Tcp,
        Needs::Nothing,
        many_hold_little,
        "Four hundred users never read; messages of 200 B go to each in turn, so that each holds little and all hold much.",
        (
            "Connections that hold most and make no progress go; no other connection does.",
            answers(&[], &[RATED, BUSY, SLOW, &["answered 404"]]),
        ),
    ),
    abuse(
        "replies_never_read",
        On::Tcp,
        Needs::Nothing,
        replies_never_read,
        "A hundred users ask for replies without a pause and never read one.",
        (
            "They are not read from, then closed with 3008.",
            answers(&["taken", "reset", "closed 3008"], &[RATED, SLOW]),
        ),
    ),
    abuse(
        "errors_never_read",
        On::WebSocket,
        Needs::Nothing,
        errors_never_read,
        "A hundred users send operations that do not exist without a pause and never read an error.",
        (
            "They are not read from, then closed.",
            answers(&["error 501", "reset", "closed 3008"], &[RATED, SLOW, FAULTY]),
        ),
    ),
    abuse(
        "joins_never_read",
        On::Tcp,
        Needs::Nothing,
        joins_never_read,
        "A hundred users join and leave rooms without a pause and never read a reply.",
        (
            "They are not read from, then closed.",
            answers(
                &["taken", "reset", "closed 3008"],
                &[RATED, SLOW, BUSY, &["answered 404", "answered 409"]],
            ),
        ),
    ),
    abuse(
        "large_echoes_never_read",
        On::WebSocket,
        Needs::Development,
        large_echoes_never_read,
        "A hundred users have application frames of 60 KiB sent back and never read.",
        (
            "What waits is bounded in all; they are not read from, then closed.",
            answers(&[], &[TAKEN, RATED, SLOW, OVERLOAD]),
        ),
    ),
    abuse(
        "one_byte_a_while",
        On::Both,
        Needs::Nothing,
        one_byte_a_while,
        "Forty users with a tiny receive window read one byte each 50 ms while messages come for them.",
        (
            "They keep what their class allows; no other connection waits.",
            answers(&[], &[RATED, BUSY, SLOW, &["answered 404"]]),
        ),
    ),
    abuse(
        "messages_among_deaf_users",
        On::Both,
        Needs::Nothing,
        messages_among_deaf_users,
        "Sixty users send messages to one of them without a pause and never read.",
        (
            "They are not read from, then closed with 3008.",
            answers(&[], &[TAKEN, RATED, BUSY, SLOW, &["answered 404"]]),
        ),
    ),
    abuse(
        "pushes_of_senders_that_never_read",
        On::Tcp,
        Needs::Nothing,
        pushes_of_senders_that_never_read,
        "Thirty users send messages of 700 B to one another within their rates, and never read. One that is closed comes back.",
        (
            "What waits for them keeps no receive buffer from others; they are closed with 3008.",
            answers(&[], &[TAKEN, RATED, BUSY, SLOW, OVERLOAD, &["answered 404"]]),
        ),
    ),
    abuse(
        "echoes_of_senders_that_never_read",
        On::Tcp,
        Needs::Development,
        echoes_of_senders_that_never_read,
        "Eight users have frames of 200 B sent back within their rates, and never read. One that is closed comes back.",
        (
            "They are left unread, then closed with 3008; receive buffers are left for others.",
            answers(&[], &[TAKEN, RATED, SLOW, OVERLOAD]),
        ),
    ),
    abuse(
        "burst_of_own_answers",
        On::Tcp,
        Needs::Development,
        burst_of_own_answers,
        "Four users write 1.6 MB of application frames at once, again and again, and read what is sent back.",
        (
            "Each frame comes back; a sender is left unread while its answers wait, and is not closed.",
            answers(&["taken"], &[]),
        ),
    ),
];

/// Users that do not read, with a small window so that the kernel holds little.
fn hogs(target: &Target, count: u32, more: impl Fn(u32) -> serde_json::Value) -> Vec<(Peer, i64)> {
    let hogs = target.users(count, more);
    hogs.iter().for_each(|(peer, _)| peer.small_window());
    hogs
}

/// One sender floods with `bytes` and reads what comes back to it; `hogs` stay open.
fn against(target: &Target, sender: Peer, bytes: &[u8], hogs: Vec<(Peer, i64)>, messages: u64) -> Outcome {
    let flood = target.flood(vec![sender], bytes, true);
    let mut outcome = Outcome::of("messages").did(flood.copies * messages);
    outcome.flooded(flood);
    outcome.held(hogs.into_iter().map(|hog| hog.0).collect());
    outcome
}

fn room_never_reads(target: &Target) -> io::Result<Outcome> {
    let room = target.room("lazy");
    let lazy = hogs(target, 20, |_| json!({ "room_id": room }));
    let (sender, _) = target.user(&json!({ "room_id": room }))?;
    let bytes = frame(op::SEND, 2, &send_body(To::Room(&room), QUIET, 0, &[1; 32])).repeat(100);
    Ok(against(target, sender, &bytes, lazy, 100))
}

/// One message to each of the hogs in turn.
fn to_each(target: &Target, count: u32, size: usize) -> io::Result<Outcome> {
    let lazy = hogs(target, count, |_| json!(null));
    let (sender, _) = target.user(&json!(null))?;
    let payload = vec![1; size];
    let bytes: Vec<u8> = lazy
        .iter()
        .flat_map(|(_, mid)| frame(op::SEND, 2, &send_body(To::Mid(*mid), QUIET, 0, &payload)))
        .collect();
    let messages = lazy.len() as u64;
    Ok(against(target, sender, &bytes, lazy, messages))
}

fn users_never_read(target: &Target) -> io::Result<Outcome> {
    to_each(target, 50, 32)
}

fn large_messages_never_read(target: &Target) -> io::Result<Outcome> {
    to_each(target, 50, 60_000)
}

fn many_hold_little(target: &Target) -> io::Result<Outcome> {
    to_each(target, 400, 200)
}

/// Users flood with `bytes` and do not read.
fn deaf(target: &Target, peers: Vec<Peer>, bytes: &[u8]) -> Outcome {
    peers.iter().for_each(Peer::small_window);
    let flood = target.flood(peers, bytes, false);
    let mut outcome = Outcome::of("KiB of requests").did(flood.bytes_out >> 10);
    outcome.flooded(flood);
    outcome
}

fn tcp_users(target: &Target, count: u32) -> Vec<Peer> {
    target.users(count, |_| json!(null)).into_iter().map(|user| user.0).collect()
}

fn ws_users(target: &Target, count: u32) -> Vec<Peer> {
    target.open_many(count, |_| Ok(target.ws_user(&json!(null))?.0))
}

fn replies_never_read(target: &Target) -> io::Result<Outcome> {
    Ok(deaf(target, tcp_users(target, 100), &frame(op::HEARTBEAT, 2, &[]).repeat(200)))
}

fn errors_never_read(target: &Target) -> io::Result<Outcome> {
    let peers = ws_users(target, 100);
    let bytes = peers.first().map(|peer| peer.wrap(&frame(-7, 2, &[]).repeat(200))).unwrap_or_default();
    Ok(deaf(target, peers, &bytes))
}

fn joins_never_read(target: &Target) -> io::Result<Outcome> {
    let room = target.room("joined-and-left");
    let mut bytes = frame(op::JOIN, 2, &join_body(&room));
    bytes.extend(frame(op::LEAVE, 3, room.as_bytes()));
    Ok(deaf(target, tcp_users(target, 100), &bytes.repeat(50)))
}

fn large_echoes_never_read(target: &Target) -> io::Result<Outcome> {
    let peers = ws_users(target, 100);
    let bytes =
        peers.first().map(|peer| peer.wrap(&frame(op::APPLICATION, 2, &[3; 60_000]))).unwrap_or_default();
    Ok(deaf(target, peers, &bytes))
}

fn one_byte_a_while(target: &Target) -> io::Result<Outcome> {
    let mut slow = hogs(target, 20, |_| json!(null));
    for _ in 0..target.crowd(20) {
        let Ok((peer, mid)) = target.ws_user(&json!(null)) else { continue };
        peer.small_window();
        slow.push((peer, mid));
    }
    let (sender, _) = target.user(&json!(null))?;
    let bytes: Vec<u8> = slow
        .iter()
        .flat_map(|(_, mid)| frame(op::SEND, 2, &send_body(To::Mid(*mid), QUIET, 0, &[1; 500])))
        .collect();
    let mut flood = Flood::new(vec![sender], true);
    let mut outcome = Outcome::of("bytes read");
    while !target.is_over() {
        flood.run(&bytes, Instant::now() + Duration::from_millis(50));
        for (peer, _) in &slow {
            let _ = peer.stream().set_nonblocking(true);
            outcome.add(u64::from(peer.stream().read(&mut [0]).is_ok()));
        }
        target.pause(Duration::from_millis(1));
    }
    outcome.flooded(flood);
    Ok(outcome)
}

fn messages_among_deaf_users(target: &Target) -> io::Result<Outcome> {
    let users = target.users(60, |_| json!(null));
    // All to one of them: its queue fills from sixty sides.
    let mid = users.first().map_or(1, |user| user.1);
    let bytes = frame(op::SEND, 2, &send_body(To::Mid(mid), 0, 0, &[1; 64])).repeat(100);
    Ok(deaf(target, users.into_iter().map(|user| user.0).collect(), &bytes))
}

/// How often senders write. They may send 1000 messages a second, and twice as many at once.
const TICK: Duration = Duration::from_millis(20);
const MESSAGES_PER_TICK: usize = 19;

/// A user that writes and never reads, under the same name each time that it comes back.
struct Silent {
    mid: i64,
    peer: Option<Peer>,
    /// As many copies of its message as it may send at once.
    burst: Vec<u8>,
    message_size: usize,
    /// Bytes of the message at hand that were written.
    at: usize,
    /// Bytes that it may write.
    allowed: usize,
}

impl Silent {
    fn new(mid: i64, message: &[u8], burst: usize) -> Silent {
        let (burst, message_size) = (message.repeat(burst), message.len());
        Silent { mid, peer: None, burst, message_size, at: 0, allowed: 0 }
    }

    /// Connects if it is not connected, and writes what time has allowed; returns the bytes.
    fn write(&mut self, target: &Target) -> usize {
        self.allowed = self.burst.len().min(self.allowed + MESSAGES_PER_TICK * self.message_size);
        if self.peer.is_none() {
            (self.peer, self.at, self.allowed) = (self.login(target).ok(), 0, self.burst.len());
        }
        let Some(peer) = &self.peer else { return 0 };
        let end = self.burst.len().min(self.at + self.allowed);
        match peer.stream().write(&self.burst[self.at..end]) {
            Ok(size) => {
                self.allowed -= size;
                self.at = (self.at + size) % self.message_size;
                size
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(_) => {
                self.peer = None;
                0
            }
        }
    }

    fn login(&self, target: &Target) -> io::Result<Peer> {
        let mut peer = target.tcp()?;
        peer.small_window();
        target.login_as(&mut peer, self.mid, &json!(null))?;
        peer.stream().set_nonblocking(true)?;
        Ok(peer)
    }
}

/// Users that send within their rates until the time is over.
fn silent(target: &Target, mut senders: Vec<Silent>) -> Outcome {
    let (mut bytes, mut outcome) = (0, Outcome::of("KiB of requests"));
    while !target.is_over() {
        let began = Instant::now();
        bytes += senders.iter_mut().map(|sender| sender.write(target)).sum::<usize>();
        target.pause(TICK.saturating_sub(began.elapsed()));
    }
    outcome.add(bytes as u64 >> 10);
    outcome.held(senders.into_iter().filter_map(|sender| sender.peer).collect());
    outcome
}

fn pushes_of_senders_that_never_read(target: &Target) -> io::Result<Outcome> {
    let mids: Vec<i64> = (0..target.crowd(30)).map(|_| target.new_mid()).collect();
    let next = mids.iter().cycle().skip(1);
    let sender = |(mid, to): (&i64, &i64)| {
        Silent::new(*mid, &frame(op::SEND, 2, &send_body(To::Mid(*to), 0, 0, &[1; 700])), 1300)
    };
    Ok(silent(target, mids.iter().zip(next).map(sender).collect()))
}

fn echoes_of_senders_that_never_read(target: &Target) -> io::Result<Outcome> {
    let message = frame(op::APPLICATION, 2, &[3; 200]);
    let sender = |_| Silent::new(target.new_mid(), &message, 1900);
    Ok(silent(target, (0..target.crowd(8)).map(sender).collect()))
}

/// Bytes of the frames that are written at once, and of one frame: as many as the rate allows.
const BURST: usize = 1_600_000;
const FRAME: usize = 1000;
/// How long all answers may take: what exceeds the burst of the rate comes at the rate.
const BURST_PATIENCE: Duration = Duration::from_secs(20);

/// Writes all of `bytes` and reads as many; whether they came back.
fn write_and_read(flood: &mut Flood, bytes: &[u8]) -> bool {
    let (until, copies) = (Instant::now() + BURST_PATIENCE, flood.copies + 1);
    while flood.ended == 0 && Instant::now() < until {
        let rest = if flood.copies < copies { bytes } else { &[] };
        flood.run(rest, Instant::now());
        if flood.bytes_back >= copies * bytes.len() as u64 {
            return true;
        }
        if flood.copies == copies {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    false
}

fn burst_of_own_answers(target: &Target) -> io::Result<Outcome> {
    let bytes = frame(op::APPLICATION, 2, &[3; FRAME - 16]).repeat(BURST / FRAME);
    let peers = target.users(4, |_| json!(null)).into_iter().map(|user| user.0);
    let mut floods: Vec<Flood> = peers.map(|peer: Peer| target.flood_of(vec![peer], true)).collect();
    let mut outcome = Outcome::of("bursts");
    loop {
        for flood in &mut floods {
            let is_whole = write_and_read(flood, &bytes);
            outcome.expect(is_whole, "a burst that did not come back");
            outcome.add(u64::from(is_whole));
        }
        if target.is_over() || floods.iter().all(|flood| flood.ended > 0) {
            break;
        }
    }
    floods.into_iter().for_each(|flood| outcome.flooded(flood));
    Ok(outcome)
}
