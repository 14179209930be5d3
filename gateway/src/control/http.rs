//! The HTTP/1.1 server: bounded connections, bounded headers, bounded time.
//!
//! A connection holds a [seat](super::seats) from accept to close; with none free, the one that has stood still for longest
//! goes. One that sends its header too slowly, is idle between requests for as long, or lives longer than
//! [`LIFETIME_MAX`], is closed too, so that slow peers give their seats back.

use super::Control;
use super::pushes::{self, PushRoute};
use super::reply::ApiError;
use super::routes::{is_open, router};
use super::seats::{Room, Seat};
use axum::Router;
use axum::body::Body;
use axum::response::IntoResponse;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tower::ServiceExt;

/// A connection is ended gently after this long; clients open another.
const LIFETIME_MAX: Duration = Duration::from_secs(120);
/// What a connection gets to finish its last request and to read the answer.
const GOODBYE_MAX: Duration = Duration::from_secs(20);
/// Header bytes of a request at most (hyper's least is 8 KiB).
const HEADER_SIZE_MAX: usize = 16 << 10;
/// Header fields of a request at most.
const HEADERS_MAX: usize = 64;

/// Where a request comes from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caller(SocketAddr);

impl Caller {
    pub(super) fn text(self) -> String {
        self.0.to_string()
    }
}

/// An open connection in the metrics, however its task ends.
struct Counted(Arc<Control>);

impl Counted {
    fn new(control: &Arc<Control>) -> Counted {
        control.metrics.connections.fetch_add(1, Ordering::Relaxed);
        Counted(Arc::clone(control))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.metrics.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Accepts for ever.
pub(super) async fn serve(listener: TcpListener, control: Arc<Control>) {
    let config = control.config();
    let room = Room::new(config.control.connections_max);
    let router = router(&control);
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                pause_after(&error).await;
                continue;
            }
        };
        let (taken, evicted) = loop {
            match room.take() {
                Some(taken) => break taken,
                // All spare seats are being answered this very moment.
                None => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        };
        control.metrics.evictions.fetch_add(u64::from(evicted), Ordering::Relaxed);
        let (control, router) = (Arc::clone(&control), router.clone());
        let header_timeout = config.control.header_timeout;
        tokio::spawn(async move {
            let _counted = Counted::new(&control);
            let seat = Arc::clone(&taken.0);
            tokio::select! {
                () = connection(stream, Caller(peer), control, router, header_timeout, &seat) => {}
                () = seat.evicted() => {}
            }
            drop(taken);
        });
    }
}

/// Without descriptors or memory there is no point in trying again at once.
async fn pause_after(error: &io::Error) {
    let of_peer = matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    );
    if !of_peer {
        tracing::warn!(%error, "the control port can't accept; trying again in 100 ms");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn connection(
    stream: TcpStream,
    caller: Caller,
    control: Arc<Control>,
    router: Router,
    header_timeout: Duration,
    seat: &Arc<Seat>,
) {
    // Only costs latency when it fails.
    let _ = stream.set_nodelay(true);
    let service = hyper::service::service_fn(move |mut request: hyper::Request<Incoming>| {
        let (control, router, seat) = (Arc::clone(&control), router.clone(), Arc::clone(seat));
        async move {
            let _answering = seat.answer();
            if seat.is_spare && !is_open(request.uri().path()) {
                return Ok(ApiError::busy().into_response());
            }
            if let Some(route) = PushRoute::of(&request) {
                return Ok(pushes::serve(&control, route, caller, request.map(Body::new)).await);
            }
            request.extensions_mut().insert(caller);
            router.oneshot(request.map(Body::new)).await
        }
    });
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        // Answers to pipelined requests leave together.
        .pipeline_flush(true)
        .header_read_timeout(header_timeout)
        .max_buf_size(HEADER_SIZE_MAX)
        .max_headers(HEADERS_MAX);
    let watched = Watched { stream, seat: Arc::clone(seat) };
    let mut served = pin!(builder.serve_connection(TokioIo::new(watched), service));
    // Errors are the peer's: half requests, resets, timeouts. The request counters know the rest.
    if tokio::time::timeout(LIFETIME_MAX, served.as_mut()).await.is_err() {
        served.as_mut().graceful_shutdown();
        let _ = tokio::time::timeout(GOODBYE_MAX, served).await;
    }
}

/// A connection whose seat knows whether the peer takes what it is sent.
struct Watched {
    stream: TcpStream,
    seat: Arc<Seat>,
}

impl Watched {
    fn note<T>(&self, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        self.seat.wrote(written.is_ready());
        written
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.note(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, pieces);
        self.note(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
