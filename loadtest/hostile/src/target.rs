//! What an abuse works with: the gateway's addresses, identities to use, and its bounds.

use crate::abuse::Abuse;
use crate::abuse::answers::is_of_a_crowd;
use crate::answer_word::AnswerWord;
use crate::bystanders::person;
use crate::client::{Flood, Peer};
use crate::tokens::Signer;
use crate::wire::op;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Time for opening connections.
const SETUP: Duration = Duration::from_secs(3);
/// Time after the budget for the least that has to be done.
const OVERTIME: Duration = Duration::from_secs(8);

/// Connections from one address, one after the other, before the next address.
const PER_ADDRESS: usize = 100;
const ADDRESSES: usize = 64;

/// An order to the attacker's process, as JSON on its standard input.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) names: Vec<String>,
    pub(crate) production: bool,
    pub(crate) tcp: SocketAddr,
    pub(crate) websocket: SocketAddr,
    pub(crate) echo: Option<SocketAddr>,
    pub(crate) control: SocketAddr,
    pub(crate) pid: i32,
    /// The login service's key pair.
    pub(crate) key: String,
    pub(crate) bystanders: u32,
    pub(crate) connections_max: u32,
    /// Time of each abuse.
    pub(crate) budget_ms: u64,
    /// The attacker's niceness.
    pub(crate) nice: i32,
    /// Connections that one abuse may have at a time.
    pub(crate) crowd_max: u32,
    /// Many abuses run at once.
    pub(crate) crowded: bool,
}

/// One abuse's view of the gateway.
pub(crate) struct Target {
    order: Order,
    /// Number of the abuse in the table: its own users, rooms and source address.
    number: u32,
    signer: Signer,
    /// It comes from the address of bystanders.
    behind_nat: bool,
    /// Some answer has to come.
    expects: bool,
    /// The address that it comes from.
    turn: Cell<u8>,
    /// Logins that were refused, by the answer.
    refusals: RefCell<BTreeMap<String, u64>>,
    /// End of the budget; it is set anew when connections have been opened.
    until: Cell<Instant>,
    next_user: Cell<u32>,
}

impl Target {
    pub(crate) fn new(order: &Order, number: u32, abuse: &Abuse, signer: Signer) -> Target {
        let until = Cell::new(Instant::now() + Duration::from_millis(order.budget_ms));
        let (order, refusals, next_user) = (order.clone(), RefCell::default(), Cell::new(0));
        let (behind_nat, expects) = (abuse.behind_nat, !abuse.answers.must.is_empty());
        Target { order, number, signer, behind_nat, expects, turn: Cell::new(0), refusals, until, next_user }
    }

    /// Logins that were refused so far, by the answer.
    pub(crate) fn take_refusals(&self) -> BTreeMap<String, u64> {
        self.refusals.take()
    }

    /// Whether `answer` is right because many abuses run at once.
    pub(crate) fn excuses(&self, answer: &str) -> bool {
        self.order.crowded && is_of_a_crowd(answer)
    }

    pub(crate) fn is_production(&self) -> bool {
        self.order.production
    }

    pub(crate) fn pid(&self) -> i32 {
        self.order.pid
    }

    pub(crate) fn signer(&self) -> &Signer {
        &self.signer
    }

    pub(crate) fn bystanders(&self) -> u32 {
        self.order.bystanders
    }

    /// Connections that the gateway is configured for.
    pub(crate) fn connections_max(&self) -> u32 {
        self.order.connections_max
    }

    /// `count`, or fewer where abuses run side by side or in short runs.
    pub(crate) fn crowd(&self, count: u32) -> u32 {
        count.min(self.order.crowd_max)
    }

    pub(crate) fn is_over(&self) -> bool {
        Instant::now() >= self.until.get()
    }

    /// The same, but not before `least` things have been done: on a loaded machine an abuse takes
    /// longer, and is tried in full. Over at [`OVERTIME`] after the end, whatever was done. After
    /// each [`PER_ADDRESS`] the abuse goes on from another address: what it does one after the
    /// other must not be refused for the connections of its address, of which closed ones linger
    /// for a moment.
    pub(crate) fn is_over_after(&self, done: usize, least: usize) -> bool {
        self.turn.set((done / PER_ADDRESS % ADDRESSES) as u8);
        let late = Instant::now().saturating_duration_since(self.until.get());
        if done < least { late > OVERTIME } else { self.is_over() }
    }

    pub(crate) fn until(&self) -> Instant {
        self.until.get()
    }

    /// Runs `open`, which opens many connections, in time of its own, at most [`SETUP`]; the budget
    /// begins after it.
    fn set_up<T>(&self, open: impl FnOnce(Instant) -> T) -> T {
        let opened = open(Instant::now() + SETUP);
        self.until.set(Instant::now() + Duration::from_millis(self.order.budget_ms));
        opened
    }

    /// Sleeps, but not beyond the end.
    pub(crate) fn pause(&self, time: Duration) {
        std::thread::sleep(time.min(self.until.get().saturating_duration_since(Instant::now())));
    }

    /// Sleeps until the end: connections that are open stay so.
    pub(crate) fn hold(&self) {
        self.pause(Duration::from_secs(3600));
    }

    /// This abuse's own address: one of 127.66.0.0/16, apart from those of bystanders; or that of
    /// the first of them.
    pub(crate) fn source(&self) -> Ipv4Addr {
        match self.behind_nat {
            true => person::source(0),
            false => Ipv4Addr::new(127, 66, self.turn.get(), 1 + (self.number % 250) as u8),
        }
    }

    /// One of many addresses, as a botnet has.
    pub(crate) fn source_of_many(&self, number: u32) -> Ipv4Addr {
        Ipv4Addr::new(127, 67, (number / 250 % 250) as u8, 1 + (number % 250) as u8)
    }

    pub(crate) fn tcp_address(&self) -> SocketAddr {
        self.order.tcp
    }

    pub(crate) fn websocket_address(&self) -> SocketAddr {
        self.order.websocket
    }

    pub(crate) fn control_address(&self) -> SocketAddr {
        self.order.control
    }

    pub(crate) fn connect(&self, to: SocketAddr) -> io::Result<TcpStream> {
        self.connect_from(self.source(), to)
    }

    pub(crate) fn connect_from(&self, from: Ipv4Addr, to: SocketAddr) -> io::Result<TcpStream> {
        crate::client::connect(IpAddr::V4(from), to, Duration::from_secs(2))
    }

    /// A connection to the TCP listener, not logged in.
    pub(crate) fn tcp(&self) -> io::Result<Peer> {
        Ok(Peer::tcp(self.connect(self.order.tcp)?))
    }

    /// A connection to the WebSocket listener, upgraded, not logged in.
    pub(crate) fn websocket(&self) -> io::Result<Peer> {
        Peer::websocket(self.connect(self.order.websocket)?)
    }

    /// A connection to the echo listener, upgraded; development only.
    pub(crate) fn echo(&self) -> io::Result<Peer> {
        let at = self.order.echo.ok_or_else(|| io::Error::other("this profile has no echo listener"))?;
        Peer::websocket_on(self.connect(at)?, "/")
    }

    pub(crate) fn control(&self) -> io::Result<TcpStream> {
        self.connect(self.order.control)
    }

    /// The first of this abuse's users.
    pub(crate) fn first_mid(&self) -> i64 {
        1_000_000 + i64::from(self.number) * 100_000
    }

    /// A user that nothing else uses.
    pub(crate) fn new_mid(&self) -> i64 {
        let next = self.next_user.get();
        self.next_user.set(next + 1);
        self.first_mid() + i64::from(next)
    }

    /// A room that no other abuse uses.
    pub(crate) fn room(&self, name: impl std::fmt::Display) -> String {
        format!("abuse://{}-{name}", self.number)
    }

    /// The Auth body of a user, with a good token where tokens are asked for.
    pub(crate) fn auth(&self, mid: i64, more: &Value) -> Vec<u8> {
        let mut body = json!({ "mid": mid, "accepts": [1000, 1001] });
        if self.is_production() {
            body["token"] = json!(self.signer.user(&json!(mid), &["abuse://*".into()]));
        }
        if let Some(more) = more.as_object() {
            more.iter().for_each(|(key, value)| body[key] = value.clone());
        }
        body.to_string().into_bytes()
    }

    /// Logs `peer` in as a user of this abuse; returns the user.
    ///
    /// # Errors
    /// What was answered instead of success.
    pub(crate) fn login_as(&self, peer: &mut Peer, mid: i64, more: &Value) -> io::Result<()> {
        let body = self.auth(mid, more);
        peer.send(op::AUTH, 1, &body)?;
        let how = match peer.reply_to(1, Duration::from_secs(5)) {
            Ok(Some(frame)) if frame.operation == op::AUTH_REPLY => return Ok(()),
            Ok(Some(frame)) => AnswerWord::of_frame(&frame).unwrap_or(AnswerWord::Taken).to_string(),
            Ok(None) => "not answered".into(),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => AnswerWord::Ended.to_string(),
            Err(_) => AnswerWord::Reset.to_string(),
        };
        let how = format!("login {how}");
        *self.refusals.borrow_mut().entry(how.clone()).or_insert(0) += 1;
        Err(io::Error::other(how))
    }

    /// A logged-in user over TCP.
    pub(crate) fn user(&self, more: &Value) -> io::Result<(Peer, i64)> {
        let mut peer = self.tcp()?;
        let mid = self.new_mid();
        self.login_as(&mut peer, mid, more)?;
        Ok((peer, mid))
    }

    /// A logged-in user over WebSocket.
    pub(crate) fn ws_user(&self, more: &Value) -> io::Result<(Peer, i64)> {
        let mut peer = self.websocket()?;
        let mid = self.new_mid();
        self.login_as(&mut peer, mid, more)?;
        Ok((peer, mid))
    }

    /// So many users over TCP, or as many as get in within [`SETUP`]; `more` is given each one's
    /// number.
    pub(crate) fn users(&self, count: u32, more: impl Fn(u32) -> Value) -> Vec<(Peer, i64)> {
        self.open_each(count, |number| self.user(&more(number)))
    }

    /// Connections from `open`, so many, or as many as come about within [`SETUP`].
    pub(crate) fn open_many(&self, count: u32, open: impl Fn(u32) -> io::Result<Peer>) -> Vec<Peer> {
        self.open_each(count, open)
    }

    /// The same of anything that can be opened.
    pub(crate) fn open_each<T>(&self, count: u32, open: impl Fn(u32) -> io::Result<T>) -> Vec<T> {
        self.set_up(|until| {
            let numbers = (0..self.crowd(count)).take_while(|_| Instant::now() < until);
            numbers.filter_map(|number| open(number).ok()).collect()
        })
    }

    /// A flood that has not begun.
    pub(crate) fn flood_of(&self, peers: Vec<Peer>, reads: bool) -> Flood {
        let mut flood = Flood::new(peers, reads);
        flood.expects = self.expects;
        flood
    }

    /// Writes `bytes` again and again to each peer until the time is over.
    pub(crate) fn flood(&self, peers: Vec<Peer>, bytes: &[u8], reads: bool) -> Flood {
        let mut flood = self.flood_of(peers, reads);
        flood.run(bytes, self.until.get());
        flood
    }
}
