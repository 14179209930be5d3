//! Two WebSocket libraries of this language as echo servers, each as an expert would run it: what
//! one read brings is answered by one write. tokio-tungstenite's own example does that; for
//! fastwebsockets, which writes each frame by itself, its stream gathers them ([`Gathered`]).
//!
//! One thread: a server has one core here, and a runtime of several threads only adds hand-overs to
//! it.

use super::announce::announce;
use fastwebsockets::{FragmentCollector, OpCode, Role, WebSocket, WebSocketError};
use futures_util::{StreamExt, TryStreamExt, future};
use gateway_proto::websocket::handshake::{HandshakeParse, HandshakeRules, Request, accept_response};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::{self, protocol::WebSocketConfig};

/// Bytes of a receive buffer: what fastwebsockets begins with.
const READ_BUFFER_SIZE: usize = 8 << 10;

#[derive(Clone, Copy, Debug)]
pub(super) enum Library {
    Tungstenite,
    Fastwebsockets,
}

pub(super) fn serve(library: Library) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        // A backlog of 1024 is tokio's own, which the generator respects.
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        announce(&[listener.local_addr()?.port()]);
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            // The generator notices the end of a connection, of whatever kind.
            match library {
                Library::Tungstenite => drop(tokio::spawn(async { drop(tungstenite(stream).await) })),
                Library::Fastwebsockets => drop(tokio::spawn(async { drop(fastwebsockets(stream).await) })),
            }
        }
    })
}

/// As in its `examples/echo-server.rs`: `forward` flushes when no further message is there, so that
/// a batch of requests is answered by one write. With its own size of 128 KiB the buffer, which it
/// zeroes before each read, would cost half as much again as all the rest.
async fn tungstenite(stream: TcpStream) -> Result<(), tungstenite::Error> {
    let config = WebSocketConfig::default().read_buffer_size(READ_BUFFER_SIZE);
    let (write, read) = tokio_tungstenite::accept_async_with_config(stream, Some(config)).await?.split();
    read.try_filter(|message| future::ready(message.is_text() || message.is_binary())).forward(write).await
}

/// As in its `examples/echo_server.rs`, without the detour over an HTTP server, on a stream that
/// gathers what is written. Payloads of all sizes go through the library's one write buffer: its
/// vectored writes save a copy and cost a system call a frame.
async fn fastwebsockets(mut stream: TcpStream) -> Result<(), WebSocketError> {
    upgrade(&mut stream).await?;
    let mut socket = WebSocket::after_handshake(Gathered::new(stream), Role::Server);
    socket.set_writev(false);
    let mut socket = FragmentCollector::new(socket);
    loop {
        let frame = socket.read_frame().await?;
        match frame.opcode {
            OpCode::Close => return Ok(()),
            OpCode::Text | OpCode::Binary => socket.write_frame(frame).await?,
            _ => {}
        }
    }
}

/// A stream that keeps what is written until more is to be read: that is when the library has
/// handled all frames of the last read.
struct Gathered {
    stream: TcpStream,
    /// Written, and not yet passed on.
    output: Vec<u8>,
    /// Bytes of `output` that the socket has taken.
    sent: usize,
}

impl Gathered {
    fn new(stream: TcpStream) -> Gathered {
        Gathered { stream, output: Vec::with_capacity(READ_BUFFER_SIZE), sent: 0 }
    }

    /// Passes on what was written.
    fn pass_on(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.output.len() {
            let stream = Pin::new(&mut self.stream);
            match ready!(stream.poll_write(context, &self.output[self.sent..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.sent += count,
            }
        }
        self.output.clear();
        self.sent = 0;
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Gathered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.pass_on(context))?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Gathered {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.output.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(())) // the next read does
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.pass_on(context))?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

async fn upgrade(stream: &mut TcpStream) -> io::Result<()> {
    let rules = HandshakeRules {
        path: "/sub",
        origins: &[],
        protocols: &[],
        head_size_max: gateway_proto::websocket::handshake::HEAD_SIZE_MAX,
    };
    let mut head = Vec::with_capacity(1024);
    loop {
        if stream.read_buf(&mut head).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match Request::parse(&head, &rules) {
            Ok(HandshakeParse::Incomplete) => {}
            Ok(HandshakeParse::Upgrade { request, .. }) => {
                let mut response = [0; 512];
                let size = accept_response(request.key, None, &mut response).unwrap_or(0);
                return stream.write_all(&response[..size]).await;
            }
            _ => return Err(io::ErrorKind::InvalidData.into()),
        }
    }
}
