//! A minimal HTTP/1.1 client for goim's push routes, on the same backend as everything else:
//! keep-alive, pipelined, without an allocation per request.

use crate::client::{Progress, Violation};
use crate::plan::Route;
use netpoll::{Buffer, ConnectionId};
use std::collections::VecDeque;
use std::io::Write;

/// A connection without a request for this long is replaced, in ns: a server may close an idle one
/// at any moment (many do after 5 s), and a request on its way just then would be lost. It is not a
/// multiple of a usual interval between requests, or each request would meet its connection while
/// it is replaced.
const IDLE_MAX: u64 = 2_300_000_000;

/// A request without an answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pending {
    pub(crate) flow: u8,
    pub(crate) audience: u32,
    pub(crate) intended: u64,
}

/// One keep-alive connection.
#[derive(Debug)]
pub(crate) struct Pusher {
    pub(crate) id: Option<ConnectionId>,
    pub(crate) ready: bool,
    pub(crate) partial: Option<Buffer>,
    pub(crate) pending: VecDeque<Pending>,
    /// When it was opened, or a request left, or an answer came.
    pub(crate) used_at: u64,
}

impl Pusher {
    /// A connection that keeps at most `pipeline` requests under way.
    pub(crate) fn new(pipeline: usize) -> Pusher {
        Pusher {
            id: None,
            ready: false,
            partial: None,
            pending: VecDeque::with_capacity(pipeline),
            used_at: 0,
        }
    }

    /// Whether it has been idle for longer than servers reliably keep it open.
    pub(crate) fn is_stale(&self, now: u64) -> bool {
        self.ready && self.pending.is_empty() && now.saturating_sub(self.used_at) >= IDLE_MAX
    }

    /// Whether one more request may be sent.
    pub(crate) fn has_room(&self) -> bool {
        self.pending.len() < self.pending.capacity()
    }
}

/// The subject of a push request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request<'a> {
    pub(crate) route: Route,
    pub(crate) host: &'a str,
    pub(crate) operation: i32,
    pub(crate) room_type: &'a str,
    pub(crate) run: u32,
    pub(crate) first_mid: i64,
    /// First receiver (users), or room number.
    pub(crate) first: u32,
    /// Receivers (users).
    pub(crate) count: u32,
}

impl Request<'_> {
    /// At most so many bytes are in the head.
    pub(crate) fn head_size_max(&self) -> usize {
        200 + self.host.len() + self.room_type.len() + 26 * self.count as usize
    }

    /// Writes the head before a body of `size` bytes. Returns its size; `None` if it does not fit.
    pub(crate) fn write_head(&self, size: usize, out: &mut [u8]) -> Option<usize> {
        let room = out.len();
        let mut rest: &mut [u8] = out;
        let operation = self.operation;
        match self.route {
            // goim binds lists from repeated parameters (gin), not from commas.
            Route::Mids => {
                write!(rest, "POST /goim/push/mids?operation={operation}").ok()?;
                for number in 0..self.count {
                    write!(rest, "&mids={}", self.first_mid + i64::from(self.first + number)).ok()?;
                }
            }
            Route::Keys => {
                write!(rest, "POST /goim/push/keys?operation={operation}").ok()?;
                for number in 0..self.count {
                    write!(rest, "&keys={:08x}-{}", self.run, self.first + number).ok()?;
                }
            }
            Route::Room => {
                let (kind, room) = (self.room_type, self.first);
                write!(rest, "POST /goim/push/room?operation={operation}&type={kind}&room={room:08}").ok()?;
            }
            Route::All => write!(rest, "POST /goim/push/all?operation={operation}&speed=0").ok()?,
        }
        write!(rest, " HTTP/1.1\r\nHost: {}\r\nContent-Length: {size}\r\n\r\n", self.host).ok()?;
        Some(room - rest.len())
    }
}

/// Reads whole responses off `input`; `each` gets goim's code of each (0: accepted).
///
/// # Errors
/// Bytes that are no HTTP response, or a response without Content-Length.
pub(crate) fn read_responses(input: &[u8], mut each: impl FnMut(i32)) -> Result<Progress, Violation> {
    let mut at = 0;
    while at < input.len() {
        let rest = &input[at..];
        let mut fields = [httparse::EMPTY_HEADER; 32];
        let mut response = httparse::Response::new(&mut fields);
        let head = match response.parse(rest) {
            Ok(httparse::Status::Complete(size)) => size,
            Ok(httparse::Status::Partial) if rest.len() > 16 << 10 => {
                return Err(Violation("http_head_too_large"));
            }
            Ok(httparse::Status::Partial) => return Ok(Progress { consumed: at, needed: rest.len() + 1 }),
            Err(_) => return Err(Violation("http_malformed")),
        };
        let length = response.headers.iter().find(|field| field.name.eq_ignore_ascii_case("content-length"));
        let length =
            length.and_then(|field| std::str::from_utf8(field.value).ok()?.trim().parse::<usize>().ok());
        let Some(length) = length.filter(|length| *length <= 1 << 20) else {
            return Err(Violation("http_without_content_length"));
        };
        let Some(body) = rest.get(head..head + length) else {
            return Ok(Progress { consumed: at, needed: head + length });
        };
        each(if response.code == Some(200) { result_code(body) } else { -1 });
        at += head + length;
    }
    Ok(Progress { consumed: at, needed: 0 })
}

/// The number behind `"code":`; -1 without one.
fn result_code(body: &[u8]) -> i32 {
    const NAME: &[u8] = b"\"code\":";
    let Some(at) = body.windows(NAME.len()).position(|window| window == NAME) else { return -1 };
    let rest = body[at + NAME.len()..].trim_ascii_start();
    let end = rest.iter().position(|byte| !(byte.is_ascii_digit() || *byte == b'-')).unwrap_or(rest.len());
    std::str::from_utf8(&rest[..end]).ok().and_then(|text| text.parse().ok()).unwrap_or(-1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pipelined_answers_are_read_wherever_they_are_cut() {
        let one = |body: &str| {
            let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\ncontent-length: ";
            format!("{head}{}\r\n\r\n{body}", body.len())
        };
        let stream = one("{\"code\":0,\"message\":\"\"}") + &one("{\"code\": -400}") + &one("{}");
        for cut in 0..=stream.len() {
            let mut codes = Vec::new();
            let first = read_responses(&stream.as_bytes()[..cut], |code| codes.push(code)).unwrap();
            read_responses(&stream.as_bytes()[first.consumed..], |code| codes.push(code)).unwrap();
            assert_eq!(codes, [0, -400, -1], "cut at {cut}");
        }
        assert!(read_responses(b"SSH-2.0-x\r\n\r\n", |_| {}).is_err());
    }

    #[test]
    fn heads_are_goims() {
        let mut request = Request {
            route: Route::Mids,
            host: "h:1",
            operation: 1000,
            room_type: "test",
            run: 255,
            first_mid: 100,
            first: 5,
            count: 2,
        };
        let line = |request: Request<'_>| {
            let mut out = [0; 512];
            let size = request.write_head(3, &mut out).unwrap();
            assert!(size <= request.head_size_max());
            assert!(out[..size].ends_with(b" HTTP/1.1\r\nHost: h:1\r\nContent-Length: 3\r\n\r\n"));
            String::from_utf8_lossy(&out[..size]).split(' ').nth(1).unwrap_or_default().to_owned()
        };
        assert_eq!(line(request), "/goim/push/mids?operation=1000&mids=105&mids=106");
        request.route = Route::Keys;
        assert_eq!(line(request), "/goim/push/keys?operation=1000&keys=000000ff-5&keys=000000ff-6");
        request.route = Route::Room;
        assert_eq!(line(request), "/goim/push/room?operation=1000&type=test&room=00000005");
        request.route = Route::All;
        assert_eq!(line(request), "/goim/push/all?operation=1000&speed=0");
    }
}
