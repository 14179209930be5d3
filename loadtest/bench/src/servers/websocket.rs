//! Two WebSocket libraries of this language as echo servers, each used as its own example uses it.
//!
//! One thread: a server has one core here, and a runtime of several threads only adds hand-overs to
//! it.

use super::announce;
use fastwebsockets::{FragmentCollector, OpCode, Role, WebSocket, WebSocketError};
use futures_util::{StreamExt, TryStreamExt, future};
use gateway_proto::websocket::handshake::{HandshakeParse, HandshakeRules, Request, accept_response};
use std::io;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
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

/// As in its `examples/echo_server.rs`, without the detour over an HTTP server: it speaks to the
/// socket directly. It writes each frame by itself.
async fn fastwebsockets(mut stream: TcpStream) -> Result<(), WebSocketError> {
    upgrade(&mut stream).await?;
    let mut socket = FragmentCollector::new(WebSocket::after_handshake(stream, Role::Server));
    loop {
        let frame = socket.read_frame().await?;
        match frame.opcode {
            OpCode::Close => return Ok(()),
            OpCode::Text | OpCode::Binary => socket.write_frame(frame).await?,
            _ => {}
        }
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
