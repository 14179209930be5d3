//! The HTTP/1.1 server: bounded connections, heads, bodies, answers and times.
//!
//! ```text
//!   listener ─► admission: a place ─► connection: head ─► gate ─► body ─► handler ─► answer
//!                                        wire: socket and buffers    budget: what all share
//! ```
//!
//! The loop is not hyper's: hyper reads on while answers wait (without a bound where they have no
//! body), takes targets of at most 64 KiB, and closes without a response where a status is
//! expected. `docs/decisions/0019` has the measurements.

mod admission;
mod answer;
mod budget;
mod caller;
mod chunks;
mod connection;
mod end;
mod head;
mod input;
mod wire;

pub(super) use admission::{Admission, SPARE_PLACES, Serves};
pub(super) use answer::SharedBody;
pub(super) use budget::{ANSWERS_MAX, Budget, Counted, INPUT_OWN, OUTPUT_OWN};
pub(super) use caller::Caller;
pub use end::End;
pub(super) use head::{HEAD_SIZE_MAX, Head, HeadError};
pub(super) use wire::STEP_MAX;

use super::control::Control;
use super::routes::router;
use super::seldom::Seldom;
use connection::{Service, serve as serve_connection};
use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_send_buffer_size};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;

/// SO_SNDBUF and SO_RCVBUF of a connection, in bytes (the kernel doubles them): what a peer that
/// does not read, or is not read from, makes the kernel hold.
const SOCKET_BUFFER: usize = 64 << 10;
/// The control port accepts again this long after it could not.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Bytes of a connection's task besides its buffers. A test measures it.
const TASK_SIZE: usize = 6 << 10;

/// Bytes that one connection takes of its own.
pub(super) const CONNECTION_SIZE: usize = TASK_SIZE + INPUT_OWN + OUTPUT_OWN;

/// An open connection in the metrics, however its task ends.
struct Open(Arc<Control>);

impl Open {
    fn new(control: &Arc<Control>) -> Open {
        control.metrics.connections.fetch_add(1, Ordering::Relaxed);
        Open(Arc::clone(control))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.metrics.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Accepts connections, forever.
pub(super) async fn serve(listener: TcpListener, control: Arc<Control>) {
    // Accepted sockets inherit them. A kernel that refuses has bounds of its own.
    let _ = set_socket_send_buffer_size(&listener, SOCKET_BUFFER);
    let _ = set_socket_recv_buffer_size(&listener, SOCKET_BUFFER);
    let service = Service { router: router(&control), control };
    let mut failures = Seldom::default();
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                accept_failed(&service.control, &error, &mut failures).await;
                continue;
            }
        };
        let (taken, evicted) = loop {
            match service.control.admission.take() {
                Some(taken) => break taken,
                // All spare places are in use at this moment; this connection waits, and others in
                // the backlog.
                None => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        };
        let metrics = &service.control.metrics;
        metrics.evictions.fetch_add(u64::from(evicted), Ordering::Relaxed);
        let service = service.clone();
        tokio::spawn(async move {
            let open = Open::new(&service.control);
            let end = serve_connection(stream, Caller(peer), service, &taken).await;
            open.0.metrics.count_end(end);
            drop(taken);
        });
    }
}

/// Handles a failed accept: for lack of descriptors or memory it waits before the next try, and
/// logs once in a while.
async fn accept_failed(control: &Control, error: &io::Error, failures: &mut Seldom) {
    let of_peer = matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    );
    if of_peer {
        return;
    }
    control.metrics.accept_errors.fetch_add(1, Ordering::Relaxed);
    if let Some(times) = failures.due(1, Instant::now()) {
        tracing::warn!(
            %error,
            times,
            "the control port can't accept connections; it tries again every 100 ms. Raise RLIMIT_NOFILE, or close what holds descriptors"
        );
    }
    tokio::time::sleep(ACCEPT_PAUSE).await;
}
