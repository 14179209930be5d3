//! A small HTTP/1.1 client that keeps its connection, as services' pools do.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long a connection is kept for the next request: less than the second after which the gateway
/// may give the place of an idle one to another, because a POST could meet its end.
const KEPT_MAX: Duration = Duration::from_millis(500);

/// One connection, made when it is needed.
pub(crate) struct Http {
    to: SocketAddr,
    /// The connection that is kept, and the moment since when it is idle.
    stream: Option<(TcpStream, Instant)>,
}

/// An answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

impl Http {
    pub(crate) fn new(to: SocketAddr) -> Http {
        Http { to, stream: None }
    }

    /// Sends one request. `head` is the request line's method and target, and further header lines.
    ///
    /// # Errors
    /// The system's, and answers that are no HTTP. A GET on a kept connection that turns out to be
    /// closed is sent again once, as clients do; a POST is not: it may have taken effect.
    pub(crate) async fn request(
        &mut self,
        method: &str,
        target: &str,
        head: &str,
        body: &[u8],
    ) -> io::Result<Answer> {
        let kept = self.stream.is_some();
        match self.once(method, target, head, body).await {
            Err(_) if kept && method == "GET" => self.once(method, target, head, body).await,
            other => other,
        }
    }

    async fn once(&mut self, method: &str, target: &str, head: &str, body: &[u8]) -> io::Result<Answer> {
        let mut stream = match self.stream.take().filter(|(_, since)| since.elapsed() < KEPT_MAX) {
            Some((stream, _)) => stream,
            None => TcpStream::connect(self.to).await?,
        };
        stream.set_nodelay(true)?;
        let size =
            if method == "GET" { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        let mut request =
            format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n{head}{size}\r\n").into_bytes();
        request.extend_from_slice(body);
        stream.write_all(&request).await?;
        let (answer, keeps) = read_answer(&mut stream).await?;
        self.stream = keeps.then(|| (stream, Instant::now()));
        Ok(answer)
    }
}

async fn read_answer(stream: &mut TcpStream) -> io::Result<(Answer, bool)> {
    let mut input = vec![];
    let head_end = loop {
        if let Some(at) = input.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(&mut input).await? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
    };
    let head = String::from_utf8_lossy(&input[..head_end]).to_ascii_lowercase();
    let field =
        |name: &str| head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim);
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| io::Error::new(ErrorKind::InvalidData, "no status"))?;
    let size: usize = field("content-length").and_then(|size| size.parse().ok()).unwrap_or(0);
    while input.len() < head_end + size {
        if stream.read_buf(&mut input).await? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
    }
    let keeps = field("connection") != Some("close");
    Ok((Answer { status, body: input[head_end..].to_vec() }, keeps))
}
