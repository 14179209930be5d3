//! `/api/v1`: publishing, kicking, statistics.

use super::control::Control;
use super::kick::Many;
use super::publish::Target;
use super::reply::{ApiError, Json};
use super::tickets::{Reached, Ticket};
use axum::extract::State;
use axum::http::{HeaderMap, header};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use gateway_core::address::{Address, WORKERS_MAX, mid_from_text};
use gateway_core::message::{KickTarget, Message as WorkerMessage, MessageClass, Origin};
use gateway_proto::body::{REASON_SIZE_MAX, Reason};
use gateway_proto::codes::CloseCode;
use gateway_proto::frame::{HEADER_SIZE, Operation};
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, Error as DeError, MapAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use tokio::sync::SemaphorePermit;

/// Names are at most this long, in bytes, as on the wire.
const NAME_SIZE_MAX: usize = 255;

/// Messages of one request at most.
const BATCH_MESSAGES_MAX: usize = 1000;

/// Bytes of a request to kick at most.
const KICK_SIZE_MAX: usize = 16 << 10;

/// Bytes of a list of messages at most, unless one message may have more.
const BATCH_SIZE_MAX: usize = 1 << 20;

/// `PublishRequest` of the OpenAPI document.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PublishRequest {
    target: Object<TargetRequest>,
    operation: i32,
    payload: Option<String>,
    payload_base64: Option<String>,
    #[serde(default)]
    essential: bool,
}

/// `BroadcastRequest` of the OpenAPI document.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BroadcastRequest {
    operation: i32,
    payload: Option<String>,
    payload_base64: Option<String>,
    #[serde(default)]
    essential: bool,
    #[serde(default)]
    deliveries_per_second_max: u32,
}

/// `KickRequest` of the OpenAPI document.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KickRequest {
    connection: Option<String>,
    key: Option<String>,
    mid: Option<Mid>,
    uid: Option<String>,
    all: Option<bool>,
    kid: Option<String>,
    issued_before: Option<u32>,
    code: Option<u16>,
    reason: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct TargetRequest {
    mid: Option<Mid>,
    uid: Option<String>,
    key: Option<String>,
    room: Option<String>,
}

/// What must be written as `{…}`. Serde by itself takes an array for a structure too, its values
/// for the fields in their order.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Object<T>, D::Error> {
        struct OfMap<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for OfMap<T> {
            type Value = Object<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object, {…}")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }
        deserializer.deserialize_map(OfMap(PhantomData))
    }
}

/// A 64-bit number, also as text: JavaScript's numbers end at 2^53.
#[derive(Clone, Copy)]
struct Mid(i64);

impl<'de> Deserialize<'de> for Mid {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Mid, D::Error> {
        struct OfNumber;
        impl Visitor<'_> for OfNumber {
            type Value = Mid;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("mid as a whole number of 64 bits, such as 7, or the same as text, such as \"7\", without zeros in front")
            }
            fn visit_i64<E: DeError>(self, mid: i64) -> Result<Mid, E> {
                Ok(Mid(mid))
            }
            fn visit_u64<E: DeError>(self, mid: u64) -> Result<Mid, E> {
                i64::try_from(mid).map(Mid).map_err(|_| E::invalid_value(Unexpected::Unsigned(mid), &self))
            }
            fn visit_str<E: DeError>(self, text: &str) -> Result<Mid, E> {
                mid_from_text(text).map(Mid).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(OfNumber)
    }
}

/// Reads a JSON body of bounded size.
fn read_json<T: DeserializeOwned>(headers: &HeaderMap, body: &Bytes, size_max: usize) -> Result<T, ApiError> {
    parse_json::<Object<T>>(json_body(headers, body, size_max)?).map(|Object(value)| value)
}

/// The text of a JSON body, without a byte order mark (RFC 8259 §8.1 lets a parser ignore it).
fn json_body<'b>(headers: &HeaderMap, body: &'b Bytes, size_max: usize) -> Result<&'b [u8], ApiError> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if !kind.trim_start().to_ascii_lowercase().starts_with("application/json") {
        return Err(ApiError::unsupported_media_type());
    }
    if body.len() > size_max {
        return Err(too_large(size_max));
    }
    Ok(body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body))
}

fn too_large(size_max: usize) -> ApiError {
    ApiError::too_large(
        size_max,
        "six times limits.frame_body_size_max and 16 KiB; of a batch at least 1 MiB",
    )
}

fn parse_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(bytes).map_err(|error| {
        ApiError::bad_request(format!(
            "the body does not fit; GET /api/v1/openapi.json describes it: {error}"
        ))
    })
}

fn name(field: &str, text: String) -> Result<String, ApiError> {
    if text.is_empty() || text.len() > NAME_SIZE_MAX || text.chars().any(char::is_control) {
        let message = format!("{field} must have 1 to {NAME_SIZE_MAX} bytes and no control characters");
        return Err(ApiError::bad_request(message));
    }
    Ok(text)
}

impl TargetRequest {
    fn parse(self) -> Result<Target, ApiError> {
        let TargetRequest { mid, uid, key, room } = self;
        match (mid, uid, key, room) {
            (Some(Mid(mid)), None, None, None) => Ok(Target::Mid(mid)),
            (None, Some(uid), None, None) => name("uid", uid).map(Target::Uid),
            (None, None, Some(key), None) => name("key", key).map(Target::Key),
            (None, None, None, Some(room)) => name("room", room).map(Target::Room),
            _ => Err(ApiError::bad_request("target must have exactly one of mid, uid, key and room")),
        }
    }
}

fn payload(text: Option<String>, base64: Option<String>) -> Result<Vec<u8>, ApiError> {
    match (text, base64) {
        (Some(text), None) => Ok(text.into_bytes()),
        (None, Some(base64)) => STANDARD.decode(base64).map_err(|error| {
            ApiError::bad_request(format!("payload_base64 is no base64 (RFC 4648 §4): {error}"))
        }),
        _ => Err(ApiError::bad_request("give exactly one of payload and payload_base64")),
    }
}

impl Control {
    /// Bytes of a JSON body with one payload: each byte may be written as `\u0434`, six of them.
    fn json_size_max(&self) -> usize {
        json_size_max(self.config().limits.frame_body_size_max)
    }

    /// Bytes of any request's body.
    pub(super) fn body_size_max(&self) -> usize {
        body_size_max(self.config().limits.frame_body_size_max)
    }

    /// Sends a message and waits until the workers say how many connections got it.
    async fn publish(&self, message: &Message) -> Result<u64, ApiError> {
        let ticket = self.hand_over(std::slice::from_ref(message))?;
        Ok(ticket.receivers().await?)
    }

    /// Hands messages to one target (at least one) to the workers, as one push.
    fn hand_over(&self, messages: &[Message]) -> Result<Ticket<'_, Reached>, ApiError> {
        let first = &messages[0];
        let class = if first.essential { MessageClass::User } else { first.target.class() };
        let size_max = self.config().limits.frame_body_size_max as usize;
        let bodies: Vec<&[u8]> = messages.iter().map(|message| message.body.as_slice()).collect();
        let push = self.encode(class, first.operation, &bodies);
        let push = push.map_err(|error| ApiError::encode(error, size_max))?;
        let ticket = self.tickets.outcomes(self.outcomes(&first.target))?;
        self.send(&first.target, push, Origin::Control { ticket: ticket.number() })?;
        Ok(ticket)
    }

    /// Sends messages in their order; neighbors to one target leave as one push. Each has a result
    /// of its own. Lists of messages may hold
    /// [`LIST_TICKETS_MAX`](super::tickets::LIST_TICKETS_MAX) tickets together: one that finds none
    /// waits for its own oldest, or for others.
    async fn publish_batch(&self, messages: &[Message]) -> Vec<Value> {
        let size_max = self.config().limits.frame_body_size_max as usize;
        let mut sent = VecDeque::new();
        let mut results = Vec::with_capacity(messages.len());
        let mut rest = messages;
        while !rest.is_empty() {
            let permit = loop {
                match self.list_tickets.try_acquire() {
                    Ok(permit) => break Some(permit),
                    Err(_) => match sent.pop_front() {
                        Some(oldest) => push_result(&mut results, oldest).await,
                        // Closed is never: the semaphore lives as long as this.
                        None => break self.list_tickets.acquire().await.ok(),
                    },
                }
            };
            let (run, others) = rest.split_at(run_length(rest, size_max));
            sent.push_back((run.len(), self.hand_over(run), permit));
            rest = others;
        }
        for one in sent {
            push_result(&mut results, one).await;
        }
        results
    }
}

/// Messages that left as one push, what they wait for, and the place that this takes.
type Sent<'c> = (usize, Result<Ticket<'c, Reached>, ApiError>, Option<SemaphorePermit<'c>>);

/// Waits for the outcome of messages that left as one push: each has it as its result.
async fn push_result(results: &mut Vec<Value>, (count, ticket, permit): Sent<'_>) {
    let receivers = match ticket {
        Ok(ticket) => ticket.receivers().await.map_err(ApiError::from),
        Err(error) => Err(error),
    };
    drop(permit);
    let result = match receivers {
        Ok(receivers) => json!({ "receivers": receivers }),
        Err(error) => error.json(),
    };
    results.extend(std::iter::repeat_n(result, count));
}

fn json_size_max(frame_body_size_max: u32) -> usize {
    6 * frame_body_size_max as usize + (16 << 10)
}

/// Bytes of any request's body at most.
pub(super) fn body_size_max(frame_body_size_max: u32) -> usize {
    json_size_max(frame_body_size_max).max(BATCH_SIZE_MAX)
}

/// How many messages from the first on go to the same target alike and fit one envelope; at least
/// one.
fn run_length(messages: &[Message], size_max: usize) -> usize {
    let first = &messages[0];
    let mut size = HEADER_SIZE + first.body.len();
    let fits = |message: &&Message| {
        size += HEADER_SIZE + message.body.len();
        let alike = message.operation == first.operation && message.essential == first.essential;
        alike && message.target == first.target && size <= size_max
    };
    1 + messages[1..].iter().take_while(fits).count()
}

/// A message as it was asked for, checked.
struct Message {
    target: Target,
    operation: i32,
    essential: bool,
    body: Vec<u8>,
}

impl PublishRequest {
    fn parse(self) -> Result<Message, ApiError> {
        let (target, operation) = (self.target.0.parse()?, push_operation(self.operation)?);
        let body = payload(self.payload, self.payload_base64)?;
        Ok(Message { target, operation, essential: self.essential, body })
    }
}

fn push_operation(operation: i32) -> Result<i32, ApiError> {
    let why = "operation must be at least 1000: lower ones have meanings of their own";
    if Operation(operation).is_push() { Ok(operation) } else { Err(ApiError::bad_request(why)) }
}

/// One message, or a list of them.
pub(super) async fn publish(control: &Control, headers: &HeaderMap, body: Bytes) -> Result<Json, ApiError> {
    let size_max = control.json_size_max();
    let bytes = json_body(headers, &body, control.body_size_max())?;
    if bytes.trim_ascii_start().first() == Some(&b'[') {
        let requests: Vec<Object<PublishRequest>> = parse_json(bytes)?;
        if requests.is_empty() || requests.len() > BATCH_MESSAGES_MAX {
            let why = format!("a list has 1 to {BATCH_MESSAGES_MAX} messages; see GET /api/v1/openapi.json");
            return Err(ApiError::bad_request(why));
        }
        let named = |(index, Object(request)): (usize, Object<PublishRequest>)| {
            request
                .parse()
                .map_err(|error| ApiError { message: format!("[{index}]: {}", error.message), ..error })
        };
        let messages: Vec<Message> = requests.into_iter().enumerate().map(named).collect::<Result<_, _>>()?;
        return Ok(Json(Value::Array(control.publish_batch(&messages).await)));
    }
    if bytes.len() > size_max {
        return Err(too_large(size_max));
    }
    let message = parse_json::<Object<PublishRequest>>(bytes)?.0.parse()?;
    Ok(Json(json!({ "receivers": control.publish(&message).await? })))
}

pub(super) async fn broadcast(
    State(control): State<Arc<Control>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json, ApiError> {
    let request: BroadcastRequest = read_json(&headers, &body, control.json_size_max())?;
    let target = Target::All { rate: request.deliveries_per_second_max };
    let (operation, essential) = (push_operation(request.operation)?, request.essential);
    let body = payload(request.payload, request.payload_base64)?;
    let message = Message { target, operation, essential, body };
    let receivers = control.publish(&message).await;
    let outcome = receivers.as_ref().map_or_else(|error| error.code.into(), u64::to_string);
    let fields = json!({ "operation": operation, "bytes": message.body.len(), "outcome": outcome });
    control.journal.record("broadcast", fields);
    Ok(Json(json!({ "receivers": receivers? })))
}

pub(super) async fn kick(
    State(control): State<Arc<Control>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json, ApiError> {
    let request: KickRequest = read_json(&headers, &body, KICK_SIZE_MAX)?;
    let code = match request.code {
        None => CloseCode::KICKED,
        Some(code) => CloseCode::new(code).filter(|code| code.get() >= 3000).ok_or_else(|| {
            ApiError::bad_request(
                "code must be 3000 to 4999; 3000–3499 and 4000–4499 tell clients to come back",
            )
        })?,
    };
    let reason = request.reason.clone().unwrap_or_default();
    if Reason::parse(reason.as_bytes()).is_err() {
        let why = format!("reason must have at most {REASON_SIZE_MAX} bytes and no control characters");
        return Err(ApiError::bad_request(why));
    }
    let target = request.describe();
    let closed = kick_target(&control, request, code).await;
    let outcome = closed.as_ref().map_or_else(|error| error.code.into(), u64::to_string);
    control.journal.record(
        "kick",
        json!({ "target": target, "code": code.get(), "reason": reason, "outcome": outcome }),
    );
    match closed? {
        0 => Err(ApiError::not_found("no connection has that name")),
        closed => Ok(Json(json!({ "closed": closed }))),
    }
}

async fn kick_target(control: &Arc<Control>, request: KickRequest, code: CloseCode) -> Result<u64, ApiError> {
    if let Some(many) = request.many()? {
        return many.kick(control, code, request.reason.as_deref()).await;
    }
    let names = control.workers.names();
    let reason = request.reason.clone();
    let (worker, target) = match request {
        KickRequest { connection: Some(id), key: None, mid: None, uid: None, .. } => {
            let address = parse_address(control, &id)?;
            (address.worker(), KickTarget::Connection(address.connection()))
        }
        KickRequest { connection: None, key, mid, uid, .. } => {
            let target = TargetRequest { mid, uid, key, room: None }.parse();
            let name = match &target {
                Ok(Target::Mid(mid)) => names.mid(*mid),
                Ok(Target::Uid(uid)) => names.uid(uid),
                Ok(Target::Key(key)) => names.key(key),
                Ok(_) | Err(_) => return Err(ApiError::bad_request(KICK_TARGETS)),
            };
            match target.ok().and_then(|target| target.made_key(names)) {
                Some(address) => (address.worker(), KickTarget::MadeKey(address.connection(), name)),
                None => (control.workers.home(name), KickTarget::Name(name)),
            }
        }
        _ => return Err(ApiError::bad_request(KICK_TARGETS)),
    };
    let reason = reason.filter(|reason| !reason.is_empty()).map(|reason| control.text(&reason));
    let reason = reason.transpose().map_err(|error| ApiError::encode(error, REASON_SIZE_MAX))?;
    let ticket = control.tickets.outcomes(1)?;
    control.workers.send(worker, WorkerMessage::Kick { target, code, reason, ticket: ticket.number() })?;
    Ok(ticket.receivers().await?)
}

const KICK_TARGETS: &str = "give exactly one of these: connection, key, mid, uid or kid (1 to 255 bytes each), issued_before, all: true";

impl KickRequest {
    fn describe(&self) -> Value {
        // Names that are too long are refused later, and must not fill the journal before.
        let cut = |name: &Option<String>| name.as_deref().map(|name| super::refusals::cut(name).to_owned());
        let mid = self.mid.map(|Mid(mid)| mid);
        let many = self.many().ok().flatten().map(|many| super::refusals::cut(&many.describe()).to_owned());
        let (connection, key, uid) = (cut(&self.connection), cut(&self.key), cut(&self.uid));
        json!({ "connection": connection, "key": key, "mid": mid, "uid": uid, "many": many })
    }

    /// The connections that it means, if it means many.
    fn many(&self) -> Result<Option<Many>, ApiError> {
        let several = [self.all.map(|_| Many::All), self.kid.clone().map(Many::KeyId)];
        let mut given = several.into_iter().flatten().chain(self.issued_before.map(Many::IssuedBefore));
        let many = given.next();
        let names_one =
            self.connection.is_some() || self.key.is_some() || self.mid.is_some() || self.uid.is_some();
        let is_one = given.next().is_none() && !(names_one && many.is_some());
        if is_one && self.all != Some(false) { Ok(many) } else { Err(ApiError::bad_request(KICK_TARGETS)) }
    }
}

/// A connection's id is its address as 16 hexadecimal digits.
pub(super) fn parse_address(control: &Control, id: &str) -> Result<Address, ApiError> {
    let digits = id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    let bits = u64::from_str_radix(id, 16).ok().filter(|_| digits);
    let address = bits.map(Address::from_bits).ok_or_else(|| {
        ApiError::bad_request(
            "a connection's id has 16 hexadecimal digits; GET /api/v1/connections lists them",
        )
    })?;
    debug_assert!(control.workers.count() <= WORKERS_MAX);
    if address.worker().index() >= control.workers.count() {
        return Err(ApiError::not_found("no such connection"));
    }
    Ok(address)
}

pub(super) fn address_text(address: Address) -> String {
    format!("{:016x}", address.to_bits())
}

pub(super) async fn stats(State(control): State<Arc<Control>>) -> Json {
    let all = control.workers.metrics();
    let sum = |of: &dyn Fn(&gateway_core::metrics::WorkerMetrics) -> u64| {
        all.iter().map(|metrics| of(metrics)).sum::<u64>()
    };
    let by_class = |of: &dyn Fn(&gateway_core::metrics::WorkerMetrics, usize) -> u64| {
        let classes = MessageClass::ALL.iter();
        classes
            .map(|class| (class.label().to_owned(), json!(sum(&|one| of(one, *class as usize)))))
            .collect::<serde_json::Map<_, _>>()
    };
    let plan = &control.facts.plan;
    Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "stage": format!("{:?}", control.lifecycle.stage()).to_lowercase(),
        "uptime_s": control.facts.started.elapsed().as_secs(),
        "backend": plan.backend.label(),
        "workers": control.workers.count(),
        "connections_max": plan.backend_config.connections_max * plan.workers,
        "connections": control.workers.connections(),
        "sessions": control.workers.sessions(),
        "memberships": sum(&|one| one.memberships.get()),
        "received_frames": sum(&|one| one.received.iter().map(|traffic| traffic.frames.get()).sum()),
        "sent_frames": sum(&|one| one.sent.iter().map(|traffic| traffic.frames.get()).sum()),
        "deliveries": by_class(&|one, class| one.deliveries[class].get()),
        "drops": by_class(&|one, class| one.drops[class].get()),
        "losses": by_class(&|one, class| one.losses[class].get()),
    }))
}
