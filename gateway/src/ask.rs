//! One request to the control port of a running gateway.

use gateway_config::Secret;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of an answer's head, and of a refusal's body, at most.
const HEAD_SIZE_MAX: u64 = 16 << 10;

/// A request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Question<'a> {
    path: &'a str,
    /// JSON; with one it is a POST.
    body: Option<&'a str>,
    key: Option<&'a Secret>,
}

impl<'a> Question<'a> {
    pub(crate) const fn get(path: &'a str, key: Option<&'a Secret>) -> Question<'a> {
        Question { path, body: None, key }
    }

    pub(crate) const fn post(path: &'a str, body: &'a str, key: Option<&'a Secret>) -> Question<'a> {
        Question { path, body: Some(body), key }
    }
}

/// Copies the body of the answer from the control port at `address` to `out`; returns its size.
///
/// # Errors
/// What the system says, what another status than 200 says, or an answer that ends early.
pub(crate) fn ask(address: SocketAddr, question: Question<'_>, out: &mut impl Write) -> io::Result<u64> {
    exchange(address, question, out).map_err(|error| match error.kind() {
        // A read beyond its time limit is either of the two (socket(7), SO_RCVTIMEO).
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            io::Error::new(io::ErrorKind::TimedOut, format!("no answer in {} s", TIMEOUT.as_secs()))
        }
        _ => error,
    })
}

fn exchange(address: SocketAddr, question: Question<'_>, out: &mut impl Write) -> io::Result<u64> {
    let Question { path, body, key } = question;
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    // Where all interfaces are listened on, this machine's own is asked, and named as the host.
    let address = SocketAddr::new(ip, address.port());
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    let method = if body.is_some() { "POST" } else { "GET" };
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n")?;
    if let Some(body) = body {
        write!(stream, "Content-Type: application/json\r\nContent-Length: {}\r\n", body.len())?;
    }
    if let Some(key) = key {
        stream.write_all(b"X-API-Key: ")?;
        stream.write_all(key.as_bytes())?;
        stream.write_all(b"\r\n")?;
    }
    stream.write_all(b"\r\n")?;
    stream.write_all(body.unwrap_or_default().as_bytes())?;
    let mut answer = BufReader::new(stream);
    let (status, size) = head(&mut answer)?;
    if status != 200 {
        let mut text = String::new();
        let _ = answer.take(HEAD_SIZE_MAX).read_to_string(&mut text);
        return Err(io::Error::other(format!("it answers {status}: {}", text.trim())));
    }
    let copied = io::copy(&mut answer.take(size.unwrap_or(u64::MAX)), out)?;
    match size {
        Some(size) if copied < size => Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            format!("the answer ended after {copied} of {size} bytes"),
        )),
        _ => Ok(copied),
    }
}

/// Status, and the body's size where the head has it.
fn head(answer: &mut impl BufRead) -> io::Result<(u16, Option<u64>)> {
    let strange = || io::Error::new(io::ErrorKind::InvalidData, "what answers there speaks no HTTP");
    let mut answer = answer.take(HEAD_SIZE_MAX);
    let mut first = Vec::new();
    // A port of goim clients says why in a frame of its own, and may reset the connection over the
    // request.
    match answer.read_until(b'\n', &mut first) {
        Err(error) if error.kind() != io::ErrorKind::ConnectionReset => return Err(error),
        Ok(_) | Err(_) => {}
    }
    let first = String::from_utf8(first).map_err(|_| strange())?;
    let lines = answer.lines();
    let status = first.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
    let (status, mut size) = (status.ok_or_else(strange)?, None);
    for line in lines {
        let line = line?;
        if line.is_empty() {
            return Ok((status, size));
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            size = value.trim().parse().ok();
        }
    }
    Err(strange())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// What becomes of an answer, and the request that it was given to.
    fn given(answer: &'static str) -> (io::Result<String>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = String::new();
            let mut reader = BufReader::new(&mut stream);
            while !request.ends_with("\r\n\r\n") {
                reader.read_line(&mut request).unwrap();
            }
            stream.write_all(answer.as_bytes()).unwrap();
            request
        });
        let mut body = Vec::new();
        let key = Secret::new("k");
        let asked = ask(address, Question::get("/x", key.as_ref()), &mut body);
        (asked.map(|_| String::from_utf8(body).unwrap()), server.join().unwrap())
    }

    #[test]
    fn the_body_comes_whole_or_not_at_all() {
        let (body, request) = given("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nbody");
        assert_eq!(body.unwrap(), "body");
        assert!(
            request.starts_with("GET /x HTTP/1.1\r\n") && request.contains("X-API-Key: k\r\n"),
            "{request}"
        );
        assert!(given("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nbody").0.is_err());
        let refused = given("HTTP/1.1 404 Not Found\r\n\r\nno frames").0.unwrap_err().to_string();
        assert_eq!(refused, "it answers 404: no frames");
        for other in ["SSH-2.0-x\r\n", "\0\0\0\x10\0\x10\0\x01\0\0\0\x6f\0\0\0\0\u{7f}", ""] {
            let strange = given(other).0.unwrap_err();
            assert_eq!(strange.kind(), io::ErrorKind::InvalidData, "{strange}");
        }
    }
}
