//! `gateway tail`: logs in as a client over TCP and prints what arrives, a line each.
//!
//! It ends when the gateway closes the connection (exit code 1, with the reason), after `--count`
//! messages, or by Ctrl-C.

use super::outcome::{with_config, wrong};
use super::settings::{Settings, mid};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use gateway_config::Config;
use gateway_control::output::complain;
use gateway_control::rfc3339;
use gateway_core::listener::Framing;
use gateway_proto::auth::{Accepts, AuthRequest};
use gateway_proto::body::{Closed, Deliver, Error, Join, JoinReply, Name, Reconnect, RoomKey, Target};
use gateway_proto::frame::{HEADER_SIZE, Header, Operation, Peek};
use serde_json::{Value, json};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};

/// How often it beats: goim's clients beat every 240 s, and some balancers close what is quiet for
/// a minute.
const BEAT_INTERVAL: Duration = Duration::from_secs(30);
/// How long the connect and the login may take.
const LOGIN_MAX: Duration = Duration::from_secs(10);
/// The largest frame body that is read, in bytes: what limits.frame_body_size_max may be at most.
const BODY_SIZE_MAX: u32 = 16 << 20;

#[derive(Args, Clone, Debug)]
pub(super) struct Tail {
    /// Address of a TCP listener; without it, the configuration's first one.
    #[arg(long, value_name = "ADDRESS")]
    server: Option<SocketAddr>,
    /// Log in as the user with this number.
    #[arg(long, allow_negative_numbers = true, value_parser = mid)]
    mid: Option<i64>,
    /// Log in as the user with this name.
    #[arg(long, conflicts_with = "mid")]
    uid: Option<String>,
    /// Be in this room, such as live://1. May be repeated.
    #[arg(long)]
    room: Vec<String>,
    /// Take pushes of this operation; without it 1000, and application.default_push_operation. May
    /// be repeated.
    #[arg(long, value_name = "OPERATION")]
    accept: Vec<i32>,
    /// Key of the connection, by which it can be pushed to.
    #[arg(long)]
    key: Option<String>,
    /// File with the token to bring (`gateway token` signs one); a token in an argument is seen by
    /// every user.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// A JSON object a line.
    #[arg(long)]
    json: bool,
    /// End after so many messages.
    #[arg(long, value_name = "COUNT")]
    count: Option<u64>,
}

/// `gateway tail`.
pub(super) fn tail(settings: &Settings, order: &Tail) -> ExitCode {
    with_config(settings, |config| {
        let ended = listener(&config, order).map_err(End::Usage).and_then(|address| {
            let login = login(&config, order).map_err(End::Usage)?;
            let mut client = Client::connect(address).map_err(|error| End::Broken(address, error))?;
            let printer = Printer { json: order.json, has_token: order.token_file.is_some() };
            client.run(&login, order, &printer).map_err(|end| end.at(address))
        });
        match ended {
            Ok(()) => ExitCode::SUCCESS,
            Err(End::Usage(why)) => wrong(why),
            Err(End::Output) => ExitCode::FAILURE, // the reader has gone
            Err(end) => {
                complain(format_args!("{end}"));
                ExitCode::FAILURE
            }
        }
    })
}

/// Why it ends early.
#[derive(Debug)]
enum End {
    Usage(String),
    Broken(SocketAddr, io::Error),
    Io(io::Error),
    Output,
    Closed(String),
}

impl End {
    fn at(self, address: SocketAddr) -> End {
        if let End::Io(error) = self { End::Broken(address, error) } else { self }
    }
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            End::Usage(why) | End::Closed(why) => f.write_str(why),
            End::Output => f.write_str("the output was closed"),
            End::Io(error) => write!(f, "{error}"),
            End::Broken(address, error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                write!(
                    f,
                    "{address}: nothing listens there; start the gateway, or name its address (--server)"
                )
            }
            End::Broken(address, error) => write!(f, "{address}: {error}"),
        }
    }
}

/// Where to connect.
fn listener(config: &Config, order: &Tail) -> Result<SocketAddr, String> {
    let first = config.listeners.iter().find(|one| one.serves_goim_over(Framing::Tcp));
    let address = order.server.or(first.map(|one| one.socket.address)).ok_or(
        "the configuration has no TCP listener, and tail speaks no WebSocket: name a TCP listener's address with --server",
    )?;
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    Ok(SocketAddr::new(ip, address.port()))
}

/// The body of the Auth frame.
fn login(config: &Config, order: &Tail) -> Result<Vec<u8>, String> {
    let token = match &order.token_file {
        None => String::new(),
        Some(file) => {
            gateway_config::files::read_text(file).map_err(|error| format!("{}: {error}", file.display()))?
        }
    };
    let (uid, key) = (name("uid", order.uid.as_deref())?, name("key", order.key.as_deref())?);
    let room = order.room.first().map(|room| self::room(room)).transpose()?;
    let mut accepts = Accepts::default();
    let default = [1000, config.application.default_push_operation];
    let wanted = if order.accept.is_empty() { &default[..] } else { &order.accept };
    for operation in wanted {
        accepts.push(Operation(*operation)).map_err(|error| format!("--accept: {error}"))?;
    }
    let platform = Name::parse(b"gateway-tail").ok();
    let request = AuthRequest {
        mid: order.mid.unwrap_or(0),
        key,
        room,
        platform,
        accepts,
        token: token.trim(),
        uid,
        resume: None,
    };
    let mut body = vec![0; 64 << 10];
    let size = request.emit(&mut body).ok_or("the login does not fit a frame; the token is too long")?;
    body.truncate(size);
    Ok(body)
}

fn name<'a>(flag: &str, text: Option<&'a str>) -> Result<Option<Name<'a>>, String> {
    text.map(|text| Name::parse(text.as_bytes())).transpose().map_err(|error| format!("--{flag}: {error}"))
}

fn room(text: &str) -> Result<RoomKey<'_>, String> {
    RoomKey::parse(text.as_bytes()).map_err(|error| format!("--room {text}: {error}"))
}

/// A connection to a gateway.
struct Client {
    stream: TcpStream,
    received: Vec<u8>,
    sequence: i32,
}

impl Client {
    fn connect(address: SocketAddr) -> io::Result<Client> {
        let stream = TcpStream::connect_timeout(&address, LOGIN_MAX)?;
        stream.set_nodelay(true)?;
        Ok(Client { stream, received: Vec::new(), sequence: 0 })
    }

    fn send(&mut self, operation: Operation, body: &[u8]) -> Result<(), End> {
        self.sequence += 1;
        let header = Header::new(operation, self.sequence, body.len() as u32);
        self.stream.write_all(&[&header.to_bytes()[..], body].concat()).map_err(End::Io)
    }

    /// The next whole frame; `None`: it did not come in time.
    fn next(&mut self, deadline: Instant) -> Result<Option<(Header, Vec<u8>)>, End> {
        loop {
            match Header::peek(&self.received, BODY_SIZE_MAX) {
                Ok(Peek::Frame(header)) => {
                    let rest = self.received.split_off(header.frame_size());
                    let frame = std::mem::replace(&mut self.received, rest);
                    return Ok(Some((header, frame[HEADER_SIZE..].to_vec())));
                }
                Ok(Peek::Incomplete { .. }) => {}
                Err(_) if self.received.starts_with(b"HTTP/") => {
                    return Err(End::Closed(
                        "an HTTP server answers there: name a TCP listener's address with --server".into(),
                    ));
                }
                Err(error) => {
                    return Err(End::Closed(format!(
                        "what arrives are no frames of goim ({error}): is this a TCP listener?"
                    )));
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.stream.set_read_timeout(Some(left)).map_err(End::Io)?;
            let mut bytes = [0; 16 << 10];
            match self.stream.read(&mut bytes) {
                Ok(0) => return Err(End::Closed("the gateway closed the connection".into())),
                Ok(size) => self.received.extend_from_slice(&bytes[..size]),
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(End::Io(error)),
            }
        }
    }

    fn run(&mut self, login: &[u8], order: &Tail, printer: &Printer) -> Result<(), End> {
        self.send(Operation::AUTH, login)?;
        let deadline = Instant::now() + LOGIN_MAX;
        loop {
            match self.next(deadline)? {
                None => {
                    return Err(End::Closed(format!("no answer to the login in {} s", LOGIN_MAX.as_secs())));
                }
                Some((header, _)) if header.operation == Operation::AUTH_REPLY => break,
                Some((header, body)) => drop(printer.frame(&header, &body)?),
            }
        }
        for text in order.room.iter().skip(1) {
            let mut body = vec![0; 512];
            let join = Join { room: room(text).map_err(End::Usage)?, since: None };
            let size = join.emit(&mut body).unwrap_or_default();
            self.send(Operation::JOIN, &body[..size])?;
        }
        complain(format_args!("logged in; messages follow, Ctrl-C ends"));
        let (mut left, mut beat) = (order.count.unwrap_or(u64::MAX), Instant::now() + BEAT_INTERVAL);
        while left > 0 {
            match self.next(beat)? {
                None => {
                    self.send(Operation::HEARTBEAT, &[])?;
                    beat = Instant::now() + BEAT_INTERVAL;
                }
                Some((header, body)) => left -= u64::from(printer.frame(&header, &body)?),
            }
        }
        Ok(())
    }
}

struct Printer {
    json: bool,
    /// Whether the login brought one.
    has_token: bool,
}

impl Printer {
    /// Prints what a frame says; true for a message, that is, a push or a Deliver.
    fn frame(&self, header: &Header, body: &[u8]) -> Result<bool, End> {
        match header.operation {
            Operation::HEARTBEAT_REPLY => return Ok(false),
            Operation::CLOSED => return Err(closed(body, self.has_token)),
            Operation::RAW => return self.batch(body),
            Operation::DELIVER => self.deliver(body)?,
            operation if operation.0 >= 1000 => self.push(operation, body)?,
            _ => {
                self.notice(header, body)?;
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn batch(&self, body: &[u8]) -> Result<bool, End> {
        let mut any = false;
        for frame in gateway_proto::frame::Frames::new(body, BODY_SIZE_MAX) {
            let Ok((header, body)) = frame else { break };
            any |= self.frame(&header, body)?;
        }
        Ok(any)
    }

    fn push(&self, operation: Operation, payload: &[u8]) -> Result<(), End> {
        let fields = [("event", json!("push")), ("operation", json!(operation.0))];
        self.line(&format!("push {}", operation.0), &fields, payload)
    }

    fn deliver(&self, body: &[u8]) -> Result<(), End> {
        let deliver = Deliver::parse(body)
            .map_err(|error| End::Closed(format!("a Deliver that can't be read: {error}")))?;
        let (sender, target) =
            (deliver.prefix.sender.map_or("", Name::as_str), target_text(&deliver.prefix.stream));
        let fields = [
            ("event", json!("deliver")),
            ("sender", json!(sender)),
            ("target", json!(target)),
            ("sent_ms", json!(deliver.prefix.server_time_ms)),
        ];
        self.line(&format!("{sender} to {target}"), &fields, deliver.payload)
    }

    /// Prints a frame that is no message: a refusal, a join, a request to reconnect later.
    fn notice(&self, header: &Header, body: &[u8]) -> Result<(), End> {
        let text = match header.operation {
            Operation::ERROR => Error::parse(body).map_or("refused".into(), |error| {
                format!(
                    "refused: operation {}, {}: {}",
                    error.operation.0,
                    error.code.get(),
                    error.reason.as_str()
                )
            }),
            Operation::RECONNECT => Reconnect::parse(body).map_or("the gateway drains".into(), |reconnect| {
                let address =
                    reconnect.address().map_or(String::new(), |address| format!(" to {}", address.as_str()));
                format!(
                    "the gateway drains: come back{address} after {} to {} ms",
                    reconnect.delay_min_ms(),
                    reconnect.delay_max_ms()
                )
            }),
            Operation::JOIN_REPLY => match JoinReply::parse(body) {
                Ok(JoinReply { result: Ok(()), room, members, .. }) => {
                    format!("joined {}: {members} members", room.as_str())
                }
                Ok(JoinReply { result: Err(code), room, .. }) => {
                    format!("{} was not joined: {} {}", room.as_str(), code.get(), code.label())
                }
                Err(error) => format!("an answer to a join that can't be read: {error}"),
            },
            operation => format!("operation {}, {} bytes", operation.0, body.len()),
        };
        match self.json {
            true => self.line(
                "",
                &[("event", json!("notice")), ("operation", json!(header.operation.0))],
                text.as_bytes(),
            ),
            false => self.line("notice", &[], text.as_bytes()),
        }
    }

    fn line(&self, label: &str, fields: &[(&str, Value)], payload: &[u8]) -> Result<(), End> {
        let time = rfc3339(SystemTime::now());
        let text = if self.json {
            let mut line = serde_json::Map::from_iter([("time".to_owned(), json!(time))]);
            line.extend(fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
            match str::from_utf8(payload) {
                Ok(text) => line.insert("payload".into(), text.into()),
                Err(_) => line.insert("payload_base64".into(), STANDARD.encode(payload).into()),
            };
            Value::Object(line).to_string()
        } else {
            // A payload must not move the terminal's cursor.
            let shown: String = String::from_utf8_lossy(payload)
                .chars()
                .map(|one| if one.is_control() && one != '\t' { '\u{fffd}' } else { one })
                .collect();
            format!("{time}  {label}  {shown}")
        };
        let mut out = io::stdout().lock();
        writeln!(out, "{text}").and_then(|()| out.flush()).map_err(|_| End::Output)
    }
}

fn closed(body: &[u8], has_token: bool) -> End {
    End::Closed(Closed::parse(body).map_or("the gateway closed the connection".into(), |closed| {
        let again = if closed.code.reconnect() {
            "it may come back later"
        } else {
            "change something before it comes back"
        };
        let hint = match closed.code.get() {
            3501 if has_token => {
                "; is the token still valid, and its user the one of --mid or --uid? Without these it is the token's"
            }
            3501 => "; does it need a token (--token-file)?",
            _ => "",
        };
        format!(
            "closed: {} {} {}; {again}{hint}",
            closed.code.get(),
            closed.code.label(),
            closed.reason.as_str()
        )
    }))
}

fn target_text(target: &Target<'_>) -> String {
    match target {
        Target::Mid(mid) => format!("mid:{mid}"),
        Target::Uid(uid) => format!("uid:{}", uid.as_str()),
        Target::Room(room) => format!("room:{}", room.as_str()),
        Target::Connection(key) => format!("key:{}", key.as_str()),
        Target::Stream(stream) => format!("stream:{}", stream.as_str()),
    }
}
