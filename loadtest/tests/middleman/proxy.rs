//! The man in the middle: a TCP proxy in the test's process, between the generator and its server.
//! It reads the server's frames and HTTP answers one by one, plants a fault in some of one class,
//! and counts what it did.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

/// The kind of unit that a fault is planted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    Auth,
    Beat,
    Echo,
    Reply,
    Push,
    Http,
}

/// What is done to a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Drop,
    Duplicate,
    /// It comes behind the next one of its kind and sender on its connection.
    Reorder,
    /// A payload's last byte changes; a short body loses its last byte.
    Corrupt,
    WrongSequence,
    WrongVersion,
    WrongOperation,
    /// Nothing more comes on its connection.
    Silence,
    /// Its first half comes, and nothing more on its connection.
    HalfFrame,
    /// It comes on another connection.
    Misdeliver,
}

pub const FAULTS: [Fault; 10] = [
    Fault::Drop,
    Fault::Duplicate,
    Fault::Reorder,
    Fault::Corrupt,
    Fault::WrongSequence,
    Fault::WrongVersion,
    Fault::WrongOperation,
    Fault::Silence,
    Fault::HalfFrame,
    Fault::Misdeliver,
];

/// What was done.
#[derive(Clone, Copy, Debug, Default)]
pub struct Planted {
    /// Units with a fault.
    pub faults: u64,
    /// Units of each class that a silenced connection kept, that of the fault among them.
    pub kept: [u64; 6],
}

impl Planted {
    pub fn kept(&self, class: Class) -> u64 {
        self.kept[class as usize]
    }
}

/// Which units get a fault.
#[derive(Clone, Copy, Debug)]
pub struct Order {
    pub class: Class,
    pub fault: Fault,
    /// So many units of the class are left alone first.
    pub after: u64,
    /// Then one in so many has it.
    pub every: u64,
    pub faults_max: u64,
}

impl Order {
    /// A few faults.
    pub fn few(class: Class, fault: Fault) -> Order {
        Order { class, fault, after: 0, every: 7, faults_max: 4 }
    }

    /// All units after so many have it.
    pub fn all(class: Class, fault: Fault, after: u64) -> Order {
        Order { class, fault, after, every: 1, faults_max: u64::MAX }
    }
}

struct Orders {
    order: Option<Order>,
    seen: u64,
    /// Frames and answers of the classes.
    passed: u64,
    passing: Arc<Condvar>,
    planted: Planted,
    /// Where frames to clients go, by user.
    outlets: Vec<(i64, Arc<Mutex<TcpStream>>)>,
    /// Users from this one on get no fault.
    users_end: i64,
    /// Units that got one: two that swap their copies of a message would have what they should.
    faulty: Vec<Vec<u8>>,
}

/// A running proxy; it ends when dropped.
pub struct Middleman {
    pub tcp: SocketAddr,
    pub http: SocketAddr,
    orders: Arc<Mutex<Orders>>,
    stop: Arc<AtomicBool>,
}

impl Middleman {
    /// Stands before a server's ports, and plants `order`.
    /// Users from `users_end` on get no fault.
    pub fn before((tcp, http): (SocketAddr, SocketAddr), order: Option<Order>, users_end: i64) -> Middleman {
        let orders = Orders {
            order,
            seen: 0,
            passed: 0,
            passing: Arc::default(),
            planted: Planted::default(),
            outlets: Vec::new(),
            users_end,
            faulty: Vec::new(),
        };
        let (orders, stop) = (Arc::new(Mutex::new(orders)), Arc::new(AtomicBool::new(false)));
        let front = |server: SocketAddr, is_http: bool| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let (orders, stop) = (orders.clone(), stop.clone());
            thread::spawn(move || {
                for client in listener.incoming() {
                    if stop.load(Relaxed) {
                        return;
                    }
                    let (Ok(client), Ok(server)) = (client, TcpStream::connect(server)) else { continue };
                    serve(client, server, is_http, &orders);
                }
            });
            address
        };
        Middleman { tcp: front(tcp, false), http: front(http, true), orders, stop }
    }

    /// Returns when so many frames and answers have gone through.
    pub fn until_passed(&self, units: u64) {
        let orders = self.orders.lock().unwrap();
        let passing = orders.passing.clone();
        drop(passing.wait_while(orders, |orders| orders.passed < units).unwrap());
    }

    /// Lets nothing through for so long.
    pub fn pause(&self, time: Duration) {
        let _all = self.orders.lock().unwrap();
        thread::sleep(time);
    }

    pub fn planted(&self) -> Planted {
        self.orders.lock().unwrap().planted
    }
}

impl Drop for Middleman {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        for address in [self.tcp, self.http] {
            drop(TcpStream::connect(address));
        }
    }
}

fn serve(client: TcpStream, server: TcpStream, is_http: bool, orders: &Arc<Mutex<Orders>>) {
    client.set_nodelay(true).unwrap();
    server.set_nodelay(true).unwrap();
    let (mut from_client, mut to_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    let outlet = Arc::new(Mutex::new(client));
    let user = Arc::new(AtomicI64::new(if is_http { 0 } else { i64::MAX }));
    let (known, own, at) = (user.clone(), outlet.clone(), orders.clone());
    thread::spawn(move || {
        // The login is the first thing that a client sends, and goes through whole.
        let mut first = [0; 2048];
        if let Ok(size @ 1..) = from_client.read(&mut first) {
            if let Some(found) = mid(&first[..size]) {
                known.store(found, Relaxed);
                at.lock().unwrap().outlets.push((found, own));
            }
            let _ = to_server.write_all(&first[..size]);
        }
        let _ = std::io::copy(&mut from_client, &mut to_server);
        let _ = to_server.shutdown(Shutdown::Write);
    });
    let orders = orders.clone();
    thread::spawn(move || {
        let mut line = Line { outlet, user, is_http, silent: false, held: None };
        let (mut server, mut input, mut chunk) = (server, Vec::new(), [0; 16 << 10]);
        while let Ok(size @ 1..) = server.read(&mut chunk) {
            input.extend_from_slice(&chunk[..size]);
            while let Some(size) = unit(&input, is_http) {
                let bytes: Vec<u8> = input.drain(..size).collect();
                line.pass(bytes, &orders);
            }
        }
        let _ = line.outlet.lock().unwrap().shutdown(Shutdown::Write);
    });
}

/// The user in a login.
fn mid(login: &[u8]) -> Option<i64> {
    let text = String::from_utf8_lossy(login);
    let digits = text.split_once("\"mid\":")?.1.chars().take_while(char::is_ascii_digit);
    digits.collect::<String>().parse().ok()
}

/// Size of the whole frame or HTTP answer at the front.
fn unit(input: &[u8], is_http: bool) -> Option<usize> {
    let size = if is_http {
        let head = input.windows(4).position(|window| window == b"\r\n\r\n")?;
        let text = String::from_utf8_lossy(&input[..head]).into_owned();
        let body = text.lines().find_map(|line| line.strip_prefix("Content-Length: ")?.parse::<usize>().ok());
        head + 4 + body.unwrap_or(0)
    } else {
        u32::from_be_bytes(*input.first_chunk()?) as usize
    };
    (input.len() >= size).then_some(size)
}

fn class(unit: &[u8], is_http: bool) -> Option<Class> {
    if is_http {
        return unit.windows(6).any(|window| window == b"\"code\"").then_some(Class::Http);
    }
    match i32::from_be_bytes(unit[8..12].try_into().unwrap()) {
        3 => Some(Class::Beat),
        5 => Some(Class::Reply),
        8 => Some(Class::Auth),
        200..1000 => Some(Class::Echo),
        1000.. => Some(Class::Push),
        _ => None,
    }
}

/// One connection, towards its client.
struct Line {
    outlet: Arc<Mutex<TcpStream>>,
    user: Arc<AtomicI64>,
    is_http: bool,
    silent: bool,
    held: Option<(Class, Vec<u8>)>,
}

impl Line {
    fn pass(&mut self, unit: Vec<u8>, orders: &Mutex<Orders>) {
        let class = class(&unit, self.is_http);
        let mut orders = orders.lock().unwrap();
        orders.passed += u64::from(class.is_some());
        orders.passing.notify_all();
        if self.silent {
            if let Some(class) = class {
                orders.planted.kept[class as usize] += 1;
            }
            return;
        }
        let fault = self.due(class, &unit, &mut orders);
        let other = || {
            let others = orders.outlets.iter().rev().filter(|(user, _)| *user < orders.users_end);
            others.map(|(_, other)| other).find(|other| !Arc::ptr_eq(other, &self.outlet)).unwrap().clone()
        };
        match (fault, class) {
            (Some(Fault::Drop), _) => {}
            (Some(Fault::Misdeliver), _) => send(&other(), &unit),
            (Some(Fault::Reorder), Some(class)) => self.held = Some((class, unit)),
            (Some(Fault::Silence), Some(class)) => {
                self.silent = true;
                orders.planted.kept[class as usize] += 1;
            }
            (Some(Fault::HalfFrame), Some(class)) => {
                send(&self.outlet, &unit[..unit.len() / 2]);
                self.silent = true;
                orders.planted.kept[class as usize] += 1;
            }
            (Some(Fault::Duplicate), _) => send(&self.outlet, &[unit.as_slice(), &unit].concat()),
            (Some(fault), _) => send(&self.outlet, &changed(unit, fault, self.is_http)),
            (None, class) => {
                let own = stream(&unit);
                send(&self.outlet, &unit);
                if self.held.as_ref().is_some_and(|(held, late)| Some(*held) == class && stream(late) == own)
                {
                    let (_, late) = self.held.take().unwrap();
                    send(&self.outlet, &late);
                }
            }
        }
    }

    /// The fault that this unit gets. One is planted at a time on a connection, and the first unit
    /// of a connection has none, so that there is another one before it.
    fn due(&self, class: Option<Class>, unit: &[u8], orders: &mut Orders) -> Option<Fault> {
        let Order { class: wanted, fault, after, every, faults_max } = orders.order?;
        let own = self.user.load(Relaxed);
        if class != Some(wanted) || self.held.is_some() || own >= orders.users_end {
            return None;
        }
        orders.seen += 1;
        let number = orders.seen.saturating_sub(after);
        let due = number > 0
            && number.is_multiple_of(every)
            && orders.planted.faults < faults_max
            && !(fault == Fault::Misdeliver && orders.faulty.iter().any(|faulty| faulty == unit));
        if due && fault == Fault::Misdeliver {
            orders.faulty.push(unit.to_vec());
        }
        orders.planted.faults += u64::from(due);
        due.then_some(fault)
    }
}

fn send(outlet: &Mutex<TcpStream>, bytes: &[u8]) {
    let _ = outlet.lock().unwrap().write_all(bytes);
}

/// What order is kept within: audience, slot and flow of a stamped message (`stamp.rs`), or
/// nothing.
fn stream(unit: &[u8]) -> Vec<u8> {
    if unit.len() < 40 { Vec::new() } else { [&unit[20..24], &unit[28..31]].concat() }
}

fn changed(mut unit: Vec<u8>, fault: Fault, is_http: bool) -> Vec<u8> {
    match fault {
        Fault::Corrupt if is_http => {
            let at = unit.windows(7).position(|window| window == b"\"code\":").unwrap() + 7;
            unit[at] = b'7';
        }
        Fault::Corrupt if unit.len() > 32 => *unit.last_mut().unwrap() ^= 1,
        Fault::Corrupt => {
            unit.pop();
            let size = unit.len() as u32;
            unit[..4].copy_from_slice(&size.to_be_bytes());
        }
        Fault::WrongVersion => unit[7] ^= 2,
        // To a neighbor, which is of the same kind; below them are answers of the protocol.
        Fault::WrongOperation if unit[10] > 0 => unit[11] ^= 1,
        Fault::WrongOperation => unit[11] ^= 64,
        Fault::WrongSequence => unit[13] ^= 64,
        other => panic!("{other:?} changes no unit"),
    }
    unit
}
