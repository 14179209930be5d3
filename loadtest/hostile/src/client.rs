//! Blocking clients for abuses: one that speaks frames or anything else, floods over many of them,
//! and plain HTTP.

use crate::answer_word::{AnswerWord, Responses, Tally};
use crate::wire::{Frame, Item, Reader, frame, upgrade_request, ws, ws_frame};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// How long a write may wait for the gateway to read.
const WRITE_PATIENCE: Duration = Duration::from_millis(500);

/// Connects from an address of the caller.
///
/// # Errors
/// The system's.
pub(crate) fn connect(from: IpAddr, to: SocketAddr, patience: Duration) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
    socket.bind(&SocketAddr::new(from, 0).into())?;
    socket.connect_timeout(&to.into(), patience)?;
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(WRITE_PATIENCE))?;
    Ok(stream)
}

/// A connection to a client listener, or to the control port.
pub(crate) struct Peer {
    stream: TcpStream,
    reader: Reader,
    /// How a flood reads it, where it speaks HTTP.
    responses: Option<Responses>,
    websocket: bool,
    /// A flood has read the last word.
    has_last_word: bool,
}

impl Peer {
    pub(crate) fn tcp(stream: TcpStream) -> Peer {
        Peer { stream, reader: Reader::new(false), responses: None, websocket: false, has_last_word: false }
    }

    /// A connection that is answered in HTTP.
    pub(crate) fn http(stream: TcpStream) -> Peer {
        Peer { responses: Some(Responses::default()), ..Peer::tcp(stream) }
    }

    /// Upgrades the connection.
    ///
    /// # Errors
    /// Any answer but 101.
    pub(crate) fn websocket(stream: TcpStream) -> io::Result<Peer> {
        Peer::websocket_on(stream, "/sub")
    }

    /// The same on another path.
    ///
    /// # Errors
    /// Any answer but 101.
    pub(crate) fn websocket_on(mut stream: TcpStream, path: &str) -> io::Result<Peer> {
        let request = upgrade_request("localhost").replacen("/sub", path, 1);
        stream.write_all(request.as_bytes())?;
        let (head, rest) = read_head(&mut stream, Duration::from_secs(5))?;
        if !head.starts_with("HTTP/1.1 101 ") {
            return Err(io::Error::other(head.lines().next().unwrap_or_default().to_owned()));
        }
        let mut reader = Reader::new(true);
        reader.push(&rest);
        Ok(Peer { stream, reader, responses: None, websocket: true, has_last_word: false })
    }

    /// Frames as this listener takes them: as they are, or in one binary message.
    pub(crate) fn wrap(&self, frames: &[u8]) -> Vec<u8> {
        if self.websocket { ws_frame(ws::BINARY, true, frames) } else { frames.to_vec() }
    }

    pub(crate) fn send(&mut self, operation: i32, sequence: i32, body: &[u8]) -> io::Result<()> {
        let bytes = self.wrap(&frame(operation, sequence, body));
        self.write(&bytes)
    }

    /// Writes bytes as they are.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// The next item; `None` where nothing comes in time.
    ///
    /// # Errors
    /// The end of the stream is `UnexpectedEof`; malformed bytes are `InvalidData`.
    pub(crate) fn read(&mut self, patience: Duration) -> io::Result<Option<Item>> {
        let until = Instant::now() + patience;
        loop {
            let next = self.reader.next().map_err(|error| io::Error::new(ErrorKind::InvalidData, error.0))?;
            if next.is_some() {
                return Ok(next);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.stream.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
            let mut chunk = [0; 16_384];
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(size) => self.reader.push(&chunk[..size]),
                Err(error) if is_timeout(&error) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }

    /// The frame with this sequence, skipping others; `None` where it does not arrive in time. A
    /// Closed frame counts, too.
    pub(crate) fn reply_to(&mut self, sequence: i32, patience: Duration) -> io::Result<Option<Frame>> {
        let until = Instant::now() + patience;
        loop {
            match self.read(until.saturating_duration_since(Instant::now()))? {
                Some(Item::Frame(frame)) if frame.sequence == sequence || frame.operation == 111 => {
                    return Ok(Some(frame));
                }
                Some(_) => {}
                None => return Ok(None),
            }
        }
    }

    /// Sends a request and reads its reply.
    ///
    /// # Errors
    /// Also where no reply comes within five seconds.
    pub(crate) fn ask(&mut self, operation: i32, sequence: i32, body: &[u8]) -> io::Result<Frame> {
        self.send(operation, sequence, body)?;
        let reply = self.reply_to(sequence, Duration::from_secs(5))?;
        reply.ok_or_else(|| io::Error::other(format!("operation {operation} was not answered within 5 s")))
    }

    /// How the connection ends, in words: the code of a Closed or close frame, `ended`, `reset`, or
    /// `open`.
    pub(crate) fn ending(&mut self, patience: Duration) -> String {
        let until = Instant::now() + patience;
        let mut code = None;
        loop {
            match self.read(until.saturating_duration_since(Instant::now())) {
                Ok(Some(Item::Frame(frame))) if frame.operation == 111 => code = Some(frame.code()),
                Ok(Some(Item::Close(number))) => {
                    code = code.or(Some(i32::from(number)));
                    // The gateway waits for it before it ends (RFC 6455 §7.1.2).
                    let _ = self.write(&ws_frame(ws::CLOSE, true, &number.to_be_bytes()));
                }
                Ok(Some(_)) => {}
                Ok(None) => return code.map_or("open".into(), |code| format!("closed {code}, not ended")),
                Err(error) => {
                    let how = if error.kind() == ErrorKind::UnexpectedEof { "ended" } else { "reset" };
                    return code.map_or_else(|| how.to_owned(), |code| format!("closed {code}"));
                }
            }
        }
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    pub(crate) fn into_stream(self) -> TcpStream {
        self.stream
    }

    /// Counts the answers in `bytes`, which were read from the stream; false when they are
    /// malformed.
    fn handle_bytes(&mut self, bytes: &[u8], tally: &mut Tally) -> bool {
        if let Some(responses) = &mut self.responses {
            responses.push(bytes, tally);
            return true;
        }
        self.reader.push(bytes);
        loop {
            match self.reader.next() {
                Ok(Some(item)) => {
                    let word = AnswerWord::of(&item);
                    // Over WebSocket a close comes twice: in a frame, and in the close frame.
                    if !(self.has_last_word && matches!(word, Some(AnswerWord::Closed(_)))) {
                        word.into_iter().for_each(|word| tally.add(word));
                    }
                    self.has_last_word |= matches!(word, Some(AnswerWord::Closed(_)));
                }
                Ok(None) => return true,
                Err(_) => return false,
            }
        }
    }

    /// Sets the connection to be reset when it is closed.
    pub(crate) fn reset_at_end(&self) {
        let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }

    /// Makes the kernel hold few bytes for this end.
    pub(crate) fn small_window(&self) {
        let _ = SockRef::from(&self.stream).set_recv_buffer_size(2048);
    }
}

/// Whether an error means that nothing came in time.
pub(crate) fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

/// Writes over many connections at once, as fast as each takes it.
pub(crate) struct Flood {
    peers: Vec<(Peer, usize)>,
    reads: bool,
    /// Some answer has to come.
    pub(crate) expects: bool,
    /// Connections that it began with.
    pub(crate) opened: u64,
    /// Whole copies of the bytes that were taken.
    pub(crate) copies: u64,
    /// Bytes that were taken.
    pub(crate) bytes_out: u64,
    /// Bytes that came back, where they were read.
    pub(crate) bytes_back: u64,
    /// Connections that the gateway ended.
    pub(crate) ended: u64,
    /// The answers, as far as they were read.
    pub(crate) answers: Tally,
}

/// How long the last answers of connections without reads are waited for, and how much of each is
/// read.
const LAST_WORDS_PATIENCE: Duration = Duration::from_millis(500);
const LAST_WORDS_SIZE: usize = 1 << 20;
/// How long the first answer is waited for, where one has to come: a loaded machine may have no
/// time for the gateway.
const FIRST_WORD_PATIENCE: Duration = Duration::from_secs(15);

impl Flood {
    pub(crate) fn new(peers: Vec<Peer>, reads: bool) -> Flood {
        peers.iter().for_each(|peer| drop(peer.stream.set_nonblocking(true)));
        let opened = peers.len() as u64;
        let peers = peers.into_iter().map(|peer| (peer, 0)).collect();
        let answers = Tally::default();
        Flood {
            peers,
            reads,
            expects: false,
            opened,
            copies: 0,
            bytes_out: 0,
            bytes_back: 0,
            ended: 0,
            answers,
        }
    }

    /// Runs until the moment, or until no connection is left; at least one round. Without bytes it
    /// only reads.
    pub(crate) fn run(&mut self, bytes: &[u8], until: Instant) {
        while !self.peers.is_empty() {
            let moved = self.round(bytes);
            if Instant::now() >= until {
                break;
            }
            if !moved {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }

    /// Reads the answers of connections that were not read, their ends included.
    pub(crate) fn last_words(&mut self) {
        self.reads = true;
        let (since, before) = (Instant::now(), self.bytes_back);
        let enough = (self.peers.len() * LAST_WORDS_SIZE) as u64;
        while !self.peers.is_empty() {
            let moved = self.round(&[]);
            let waits = self.expects && self.answers.is_empty() && since.elapsed() < FIRST_WORD_PATIENCE;
            let goes_on = moved && since.elapsed() < LAST_WORDS_PATIENCE && self.bytes_back - before < enough;
            if !waits && !goes_on {
                return;
            }
            if !moved {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }

    /// One write and one read of each; whether any byte moved.
    fn round(&mut self, bytes: &[u8]) -> bool {
        let (mut moved, mut chunk) = (false, [0; 65_536]);
        let Flood { peers, reads, copies, bytes_out, bytes_back, ended, answers, .. } = self;
        peers.retain_mut(|(peer, at)| {
            // The last round has nothing more to write, wherever each one is.
            let written = match peer.stream.write(bytes.get(*at..).unwrap_or_default()) {
                // Nothing to write: this one only reads.
                Ok(0) => Ok(()),
                Ok(size) => {
                    moved = true;
                    *at += size;
                    *bytes_out += size as u64;
                    if *at == bytes.len() {
                        (*copies, *at) = (*copies + 1, 0);
                    }
                    Ok(())
                }
                Err(error) if is_timeout(&error) => Ok(()),
                Err(_) => Err(AnswerWord::Reset),
            };
            // Bytes that arrived before a reset may still be readable.
            let read =
                if !*reads { Ok(()) } else { read_some(peer, &mut chunk, answers, &mut moved, bytes_back) };
            let alive = read.and(written);
            if let Err(end) = alive {
                *ended += 1;
                if !peer.has_last_word {
                    answers.add(end);
                }
            }
            alive.is_ok()
        });
        moved
    }
}

/// Reads once from a connection.
///
/// # Errors
/// How it has ended.
fn read_some(
    peer: &mut Peer,
    chunk: &mut [u8],
    answers: &mut Tally,
    moved: &mut bool,
    bytes_back: &mut u64,
) -> Result<(), AnswerWord> {
    match peer.stream.read(chunk) {
        Ok(0) => Err(AnswerWord::Ended),
        Ok(size) => {
            *moved = true;
            *bytes_back += size as u64;
            if peer.handle_bytes(&chunk[..size], answers) { Ok(()) } else { Err(AnswerWord::Malformed) }
        }
        Err(error) if is_timeout(&error) => Ok(()),
        Err(_) => Err(AnswerWord::Reset),
    }
}

/// A response's head, and what came behind it.
///
/// # Errors
/// The end of the stream, or no whole head in time.
pub(crate) fn read_head(stream: &mut TcpStream, patience: Duration) -> io::Result<(String, Vec<u8>)> {
    let until = Instant::now() + patience;
    let mut input = vec![];
    loop {
        if let Some(at) = input.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&input[..at + 4]).into_owned();
            return Ok((head, input[at + 4..].to_vec()));
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() || input.len() > 1 << 20 {
            return Err(ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
        let mut chunk = [0; 4096];
        match stream.read(&mut chunk) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(size) => input.extend_from_slice(&chunk[..size]),
            Err(error) => return Err(error),
        }
    }
}

/// The status of the answer to what was written, or how the connection ended instead.
pub(crate) fn status(stream: &mut TcpStream, patience: Duration) -> String {
    match read_head(stream, patience) {
        Ok((head, _)) => head.split(' ').nth(1).unwrap_or("no status").to_owned(),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => "closed without a byte".into(),
        Err(error) if is_timeout(&error) => "no answer".into(),
        Err(_) => "reset".into(),
    }
}

/// The body of a GET that is answered 200 in time.
pub(crate) fn http_get(to: SocketAddr, path: &str, patience: Duration) -> Option<String> {
    let mut stream = TcpStream::connect_timeout(&to, patience).ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let (head, mut body) = read_head(&mut stream, patience).ok()?;
    stream.read_to_end(&mut body).ok()?;
    head.starts_with("HTTP/1.1 200 ").then(|| String::from_utf8_lossy(&body).into_owned())
}
