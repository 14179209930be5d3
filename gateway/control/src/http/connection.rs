//! One connection: requests one after the other, each with a whole body before it is handled,
//! answers in their order.
//!
//! ```text
//!   head whole ─► may it be called? ─► body whole ─► handler ─► answer ─┐
//!      ▲   nothing whole has come: send what waits, then wait           │
//!      └────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Answers to pipelined requests leave together, up to [`OUTPUT_OWN`] bytes; a larger one is taken
//! by the peer before the next request is looked at. So a connection holds one answer, whatever its
//! peer has asked for.

use super::admission::{Doing, Taken};
use super::answer::{SharedBody, Then, write_head};
use super::budget::OUTPUT_OWN;
use super::caller::Caller;
use super::chunks::{ChunkError, Chunks};
use super::end::End;
use super::head::{self, BodyFraming, Head, HeadError, HeadScan};
use super::input::Input;
use super::wire::{Gone, Wire};
use crate::control::Control;
use crate::gate;
use crate::lifecycle::Stage;
use crate::paths::{self, PushRoute};
use crate::pushes;
use crate::reply::ApiError;
use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, Response, header};
use axum::response::IntoResponse;
use bytes::Bytes;
use http_body_util::BodyExt;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tower::ServiceExt;

/// An idle connection ends this long after the time that was announced: a request that was sent in
/// time is still taken.
const IDLE_GRACE: Duration = Duration::from_secs(2);
/// Pipelined requests that are handled before other tasks have their turn.
const REQUESTS_IN_A_ROW: u32 = 16;

/// What handlers need of a connection.
#[derive(Clone)]
pub(super) struct Service {
    pub(super) control: Arc<Control>,
    pub(super) router: Router,
}

/// Serves until the connection ends. Returns the reason.
pub(super) async fn serve(stream: TcpStream, caller: Caller, service: Service, taken: &Taken) -> End {
    let place = Arc::clone(&taken.0);
    let control = &service.control;
    let wire = Wire::new(stream, place, Arc::clone(&control.admission), &control.input_budget);
    let mut connection = Connection { wire, caller, service, served: 0 };
    let end = loop {
        match connection.next().await {
            Ok(()) => {}
            Err(end) => break end,
        }
    };
    connection.finish(end).await;
    end
}

struct Connection {
    wire: Wire,
    caller: Caller,
    service: Service,
    /// Requests answered.
    served: u32,
}

impl From<Gone> for End {
    fn from(gone: Gone) -> End {
        match gone {
            Gone::Peer => End::Peer,
            Gone::TimedOut => End::HeadTimeout,
            Gone::Unread => End::Unread,
            Gone::Evicted => End::Evicted,
            Gone::Busy => End::Busy,
        }
    }
}

impl Connection {
    /// One request and its answer.
    async fn next(&mut self) -> Result<(), End> {
        let mut head = self.head().await?;
        self.wire.place.begins(Doing::Receiving);
        let (control, place) = (&self.service.control, &self.wire.place);
        let checked = gate::check(control, &head, self.caller, place.serves);
        let has_body = head.framing != BodyFraming::Length(0);
        let body = match checked {
            // The body of a request that is refused is not read, so what follows it can't be.
            Err(error) => return self.answer(&head, error.into_response(), !has_body).await,
            // RFC 9110 §10.1.1: the final answer instead of 100, where it does not need the body.
            Ok(_) if head.expects_continue && has_body && !paths::leads_somewhere(&head) => {
                let (response, _) = self.handle(&mut head, Bytes::new()).await?;
                return self.answer(&head, response, false).await;
            }
            Ok(size_max) => match self.body(&head, size_max).await? {
                Ok(body) => body,
                Err(error) => return self.answer(&head, error.into_response(), false).await,
            },
        };
        let (response, at_once) = self.handle(&mut head, body).await?;
        self.answer(&head, response, true).await?;
        self.wire.end_request();
        self.served = self.served.wrapping_add(1);
        if !at_once || self.served.is_multiple_of(REQUESTS_IN_A_ROW) {
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    // --- the request ---------------------------------------------------------------------------

    /// The next head. RFC 9112 §2.2: empty lines before it are ignored.
    async fn head(&mut self) -> Result<Head, End> {
        let config = self.service.control.config();
        let is_first = self.served == 0;
        // Empty lines prolong nothing.
        let first = config.control.header_timeout;
        let idle = Instant::now() + if is_first { first } else { config.control.idle_timeout + IDLE_GRACE };
        self.wire.place.begins(if is_first { Doing::Receiving } else { Doing::Idle });
        loop {
            if head::is_proxy_v2(&self.wire.input) {
                return self.refuse(HeadError::Proxy);
            }
            self.wire.input.advance(head::empty_lines(&self.wire.input));
            if !self.wire.input.is_empty() {
                return self.head_that_began(Instant::now() + config.control.header_timeout).await;
            }
            self.receive(idle).await.map_err(|gone| match gone {
                Gone::TimedOut => End::Idle,
                gone => gone.into(),
            })?;
        }
    }

    /// Reads the rest of a head after its first bytes.
    async fn head_that_began(&mut self, until: Instant) -> Result<Head, End> {
        self.wire.place.begins(Doing::Receiving);
        let mut scan = HeadScan::default();
        loop {
            match scan.whole(&self.wire.input) {
                Ok(Some(size)) => {
                    let (bytes, held) = self.wire.input.take(size);
                    let head = match head::parse(&bytes, held) {
                        Ok(head) => head,
                        Err(error) => return self.refuse(error),
                    };
                    drop(bytes);
                    self.wire.hold_beside(head.held).await.map_err(|gone| self.head_failed(gone))?;
                    return Ok(head);
                }
                Ok(None) => {}
                Err(error) => return self.refuse(error),
            }
            self.receive(until).await.map_err(|gone| self.head_failed(gone))?;
        }
    }

    /// Answers why an incomplete head is not waited for any longer, where the peer may still read
    /// it.
    fn head_failed(&mut self, gone: Gone) -> End {
        match gone {
            Gone::TimedOut => {
                let why = "the request's head did not come in time (control.header_timeout_ms)";
                self.last_word(ApiError::request_timeout(why).into_response());
            }
            Gone::Busy => self.last_word(ApiError::bodies_busy().into_response()),
            Gone::Peer | Gone::Unread | Gone::Evicted => {}
        }
        gone.into()
    }

    /// Sends what waits, then waits for more.
    async fn receive(&mut self, until: Instant) -> Result<(), Gone> {
        if !self.wire.output.is_empty() {
            let doing = self.wire.place.doing();
            self.wire.flush().await?;
            self.wire.place.begins(doing);
        }
        self.wire.fill(until, 0).await
    }

    /// The whole body, or the answer to one that is refused.
    async fn body(&mut self, head: &Head, size_max: usize) -> Result<Result<Bytes, ApiError>, End> {
        let mut reader = match head.framing {
            BodyFraming::Length(size) => match usize::try_from(size).ok().filter(|size| *size <= size_max) {
                Some(size) => BodyReader::Sized(size),
                None => return Ok(Err(too_large(size_max))),
            },
            BodyFraming::Chunked => BodyReader::Chunked(Chunks::new(), Vec::new()),
        };
        let until = Instant::now() + self.service.control.config().control.body_timeout;
        let mut may_continue = head.expects_continue;
        loop {
            let body = match reader.take(&mut self.wire.input, size_max) {
                Ok(body) => body,
                Err(error) => return Ok(Err(error)),
            };
            let held = body.as_ref().map_or_else(|| reader.joined(), |(_, held)| *held);
            match (self.wire.hold_beside(head.held + held).await, body) {
                (Ok(()), Some((body, _))) => return Ok(Ok(body)),
                (Ok(()), None) => {}
                (Err(Gone::Busy), _) => return Ok(Err(ApiError::bodies_busy())),
                (Err(gone), _) => return Err(gone.into()),
            }
            if std::mem::take(&mut may_continue) {
                self.wire.output.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
            }
            if !self.wire.output.is_empty() {
                self.wire.flush().await?;
                self.wire.place.begins(Doing::Receiving);
            }
            match self.wire.fill(until, reader.joined()).await {
                Ok(()) => {}
                Err(Gone::TimedOut) => {
                    let why = "the request's body did not come in time (control.body_timeout_ms)";
                    self.last_word(ApiError::request_timeout(why).into_response());
                    return Err(End::BodyTimeout);
                }
                Err(Gone::Busy) => return Ok(Err(ApiError::bodies_busy())),
                Err(Gone::Peer) => return Ok(Err(ApiError::bad_request("the body ended early"))),
                Err(gone) => return Err(gone.into()),
            }
        }
    }

    // --- the answer ----------------------------------------------------------------------------

    /// Calls the handler; also says whether it answered at once. While it waits, earlier answers
    /// leave.
    async fn handle(&mut self, head: &mut Head, body: Bytes) -> Result<(Response<Body>, bool), End> {
        self.wire.place.begins(Doing::Handling);
        let mut answer = pin!(dispatch(&self.service, self.caller, head, body));
        if let Some(response) = at_once(answer.as_mut()).await {
            return Ok((response, true));
        }
        if self.wire.output.is_empty() {
            return Ok((answer.await, false));
        }
        let (response, flushed) = tokio::join!(answer, self.wire.flush());
        flushed?;
        Ok((response, false))
    }

    /// Sends a response, or leaves it to be sent with those that follow. `is_read`: whether the
    /// request was read to its end.
    async fn answer(&mut self, head: &Head, response: Response<Body>, is_read: bool) -> Result<(), End> {
        let (mut parts, body) = response.into_parts();
        let mut body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        if head.method == Method::HEAD {
            body = Bytes::new();
        }
        let mut held = None;
        if body.len() > OUTPUT_OWN && parts.extensions.get::<SharedBody>().is_none() {
            let budget = &self.service.control.answer_budget;
            held = budget.claim(body.len());
            if held.is_none() {
                self.service.control.admission.relieve();
                let busy = ApiError::answers_busy().into_response();
                let (busy, text) = busy.into_parts();
                parts = busy;
                body = text.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
            }
        }
        let then = self.then(head, is_read);
        let response = Response::from_parts(parts, ());
        write_head(&mut self.wire.output, Some(&head.method), &response, body.len(), then);
        if self.wire.output.len() + body.len() <= OUTPUT_OWN {
            self.wire.output.extend_from_slice(&body);
        } else {
            self.wire.place.holds(self.wire.held() + held.as_ref().map_or(0, |held| held.bytes()));
            self.wire.send(body).await?;
        }
        if then == Then::Close { Err(if is_read { End::Answered } else { End::Refused }) } else { Ok(()) }
    }

    /// What becomes of the connection after this answer.
    fn then(&self, head: &Head, is_read: bool) -> Then {
        let control = &self.service.control;
        let ends = !head.keeps_alive
            || !is_read
            || self.wire.place.is_spare()
            || self.wire.place.is_evicted()
            || control.lifecycle.stage() >= Stage::Draining;
        if ends { Then::Close } else { Then::Keep(control.config().control.idle_timeout) }
    }

    /// Answers a head that makes no sense. Where the next request begins is not known, so it is the
    /// last answer.
    fn refuse<T>(&mut self, error: HeadError) -> Result<T, End> {
        let control = &self.service.control;
        control.metrics.count_bad_head(error);
        tracing::debug!(caller = self.caller.text(), "bad request: {}", error.message());
        let mut response = ApiError::of_head(error).into_response();
        if error == HeadError::Version {
            // RFC 9110 §15.6.6 asks for what is spoken; §7.8 says how.
            response.headers_mut().insert(header::UPGRADE, header::HeaderValue::from_static("HTTP/1.1"));
        }
        self.last_word(response);
        Err(End::Refused)
    }

    /// Leaves the answer to a request that could not be read; the connection ends behind it.
    fn last_word(&mut self, response: Response<Body>) {
        let (parts, body) = response.into_parts();
        // Short, and made in one piece: it is there at once.
        let body = pin!(body.collect());
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        let Poll::Ready(Ok(body)) = body.poll(&mut context) else { return };
        let body = body.to_bytes();
        let status = parts.status.as_u16();
        self.service.control.metrics.count("other", "other", status, Duration::ZERO);
        write_head(&mut self.wire.output, None, &Response::from_parts(parts, ()), body.len(), Then::Close);
        self.wire.output.extend_from_slice(&body);
    }

    /// Ends the connection; the last answer can still be read.
    async fn finish(mut self, end: End) {
        match end {
            End::Peer | End::Unread => {}
            End::Evicted => {
                if self.wire.output.is_empty() && !self.wire.input.is_empty() {
                    self.last_word(ApiError::too_slow().into_response());
                }
                self.wire.send_at_once();
            }
            _ => {
                if self.wire.flush().await.is_ok() {
                    self.wire.linger().await;
                }
            }
        }
    }
}

/// A body as it comes.
enum BodyReader {
    /// Of so many bytes.
    Sized(usize),
    /// In chunks, with what they were joined to.
    Chunked(Chunks, Vec<u8>),
}

impl BodyReader {
    /// The body, once it is whole, and the memory that it holds.
    fn take(&mut self, input: &mut Input, size_max: usize) -> Result<Option<(Bytes, usize)>, ApiError> {
        match self {
            BodyReader::Sized(size) => Ok((input.len() >= *size).then(|| input.take(*size))),
            BodyReader::Chunked(chunks, joined) => match chunks.decode(input, joined, size_max) {
                Ok(true) => {
                    let held = joined.capacity();
                    Ok(Some((Bytes::from(std::mem::take(joined)), held)))
                }
                Ok(false) => Ok(None),
                Err(ChunkError::TooLarge) => Err(too_large(size_max)),
                Err(ChunkError::Malformed) => {
                    Err(ApiError::bad_request("a chunk of the body is malformed (RFC 9112 §7.1)"))
                }
            },
        }
    }

    /// Bytes of memory beside the connection's buffer.
    fn joined(&self) -> usize {
        match self {
            BodyReader::Sized(_) => 0,
            BodyReader::Chunked(_, joined) => joined.capacity(),
        }
    }
}

/// To the routes that carry messages, or to the router, which takes the fields.
async fn dispatch(service: &Service, caller: Caller, head: &mut Head, body: Bytes) -> Response<Body> {
    let control = &service.control;
    if let Some(route) = PushRoute::of(&head.method, head.path()) {
        return pushes::serve(control, route, head.query(), &head.fields, body).await;
    }
    if head.path() == "*" {
        return crate::health::options(control).into_response();
    }
    let uri = match head.uri() {
        Ok(uri) => uri,
        Err(error) => {
            control.metrics.count_bad_head(error);
            return ApiError::of_head(error).into_response();
        }
    };
    let mut request = Request::new(Body::from(body));
    *request.method_mut() = head.method.clone();
    *request.uri_mut() = uri;
    *request.version_mut() = head.version;
    *request.headers_mut() = std::mem::take(&mut head.fields);
    request.extensions_mut().insert(caller);
    service.router.clone().oneshot(request).await.unwrap_or_else(|never| match never {})
}

/// What the future answers when it is asked once.
async fn at_once<F: Future>(mut future: Pin<&mut F>) -> Option<F::Output> {
    poll_fn(|context| {
        Poll::Ready(match future.as_mut().poll(context) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        })
    })
    .await
}

fn too_large(size_max: usize) -> ApiError {
    ApiError::too_large(size_max, "six times limits.frame_body_size_max and 16 KiB, 1 MiB at least")
}
