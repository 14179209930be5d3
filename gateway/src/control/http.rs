//! The HTTP/1.1 server: bounded connections, bounded headers, bounded time.
//!
//! A connection holds a permit from accept to close; with none free, new ones wait in the kernel's backlog. One that
//! sends its header too slowly, is idle between requests for as long, or lives longer than [`LIFETIME_MAX`], is closed,
//! so that slow peers give their permits back.

use super::Control;
use super::pushes::{self, PushRoute};
use super::routes::router;
use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
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
    let permits = Arc::new(Semaphore::new(config.control.connections_max));
    let router = router(&control);
    loop {
        // The semaphore is never closed, so this can't fail.
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                pause_after(&error).await;
                continue;
            }
        };
        let (control, router) = (Arc::clone(&control), router.clone());
        let header_timeout = config.control.header_timeout;
        tokio::spawn(async move {
            let _counted = Counted::new(&control);
            connection(stream, Caller(peer), control, router, header_timeout).await;
            drop(permit);
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
) {
    // Only costs latency when it fails.
    let _ = stream.set_nodelay(true);
    let service = hyper::service::service_fn(move |mut request: hyper::Request<Incoming>| {
        let (control, router) = (Arc::clone(&control), router.clone());
        async move {
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
    let mut served = pin!(builder.serve_connection(TokioIo::new(stream), service));
    // Errors are the peer's: half requests, resets, timeouts. The request counters know the rest.
    if tokio::time::timeout(LIFETIME_MAX, served.as_mut()).await.is_err() {
        served.as_mut().graceful_shutdown();
        let _ = tokio::time::timeout(GOODBYE_MAX, served).await;
    }
}
