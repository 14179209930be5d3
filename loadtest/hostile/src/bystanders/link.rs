//! An asynchronous connection to a client listener.

use crate::wire::{Item, Reader, frame, op, upgrade_request, ws, ws_frame};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

/// A connection, upgraded where it has to be.
pub(crate) struct Link {
    stream: TcpStream,
    reader: Reader,
    websocket: bool,
}

impl Link {
    /// Connects from `from`; upgrades on a WebSocket listener.
    ///
    /// # Errors
    /// The system's, and any answer to the upgrade but 101.
    pub(crate) async fn open(from: Ipv4Addr, to: SocketAddr, websocket: bool) -> io::Result<Link> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::new(IpAddr::V4(from), 0))?;
        let stream = socket.connect(to).await?;
        stream.set_nodelay(true)?;
        let mut link = Link { stream, reader: Reader::new(websocket), websocket };
        if websocket {
            link.upgrade().await?;
        }
        Ok(link)
    }

    async fn upgrade(&mut self) -> io::Result<()> {
        self.stream.write_all(upgrade_request("localhost").as_bytes()).await?;
        let mut input = vec![];
        loop {
            if let Some(at) = input.windows(4).position(|four| four == b"\r\n\r\n") {
                if !input.starts_with(b"HTTP/1.1 101 ") {
                    let head = String::from_utf8_lossy(&input[..at]).into_owned();
                    return Err(io::Error::other(head.lines().next().unwrap_or_default().to_owned()));
                }
                self.reader.push(&input[at + 4..]);
                return Ok(());
            }
            if self.stream.read_buf(&mut input).await? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
    }

    pub(crate) async fn send(&mut self, operation: i32, sequence: i32, body: &[u8]) -> io::Result<()> {
        let bytes = frame(operation, sequence, body);
        let bytes = if self.websocket { ws_frame(ws::BINARY, true, &bytes) } else { bytes };
        self.write(&bytes).await
    }

    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match timeout(super::ledger::LATE, self.stream.write_all(bytes)).await {
            Ok(written) => written,
            Err(_) => Err(io::Error::other("the gateway does not read")),
        }
    }

    /// Waits for bytes; an item may be there then. Safe to cancel.
    ///
    /// # Errors
    /// The end of the stream is `UnexpectedEof`.
    pub(crate) async fn wait(&mut self) -> io::Result<()> {
        let mut chunk = [0; 4096];
        match self.stream.read(&mut chunk).await? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            size => {
                self.reader.push(&chunk[..size]);
                Ok(())
            }
        }
    }

    /// The next item that is there; pings are answered.
    ///
    /// # Errors
    /// Bytes that no gateway may send.
    pub(crate) async fn next(&mut self) -> io::Result<Option<Item>> {
        loop {
            match self.reader.next().map_err(|error| io::Error::new(ErrorKind::InvalidData, error.0))? {
                Some(Item::Ping(payload)) => self.write(&ws_frame(ws::PONG, true, &payload)).await?,
                other => return Ok(other),
            }
        }
    }

    /// Logs in.
    ///
    /// # Errors
    /// What was answered instead, in words.
    pub(crate) async fn login(&mut self, body: &[u8]) -> Result<(), String> {
        self.send(op::AUTH, 1, body).await.map_err(|error| format!("login not sent: {error}"))?;
        loop {
            while let Some(item) = self.next().await.map_err(|error| error.to_string())? {
                match item {
                    Item::Frame(frame) if frame.operation == op::AUTH_REPLY => return Ok(()),
                    Item::Frame(frame) => {
                        return Err(format!("login answered {} with code {}", frame.operation, frame.code()));
                    }
                    Item::Close(code) => return Err(format!("login closed with {code}")),
                    _ => {}
                }
            }
            self.wait().await.map_err(|error| format!("login cut off: {}", ending(&error)))?;
        }
    }

    /// Leaves in order: a Close over WebSocket, then the end.
    pub(crate) async fn leave(mut self) {
        if self.websocket {
            let _ = self.write(&ws_frame(ws::CLOSE, true, &1000_u16.to_be_bytes())).await;
        }
        let _ = self.stream.shutdown().await;
        let _ = timeout(Duration::from_secs(3), async { while self.wait().await.is_ok() {} }).await;
    }
}

/// How a connection ended, in a word.
pub(crate) fn ending(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::UnexpectedEof => "ended without a word".into(),
        ErrorKind::ConnectionReset => "reset".into(),
        _ => error.to_string(),
    }
}
