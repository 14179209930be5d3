//! Builds a configuration of consistent parts from values that fit their keys.

use super::backend::BackendKind;
use super::collide::collide;
use super::config::{
    ApplicationConfig, Config, ConfigSource, ControlConfig, IoConfig, JournalConfig, LimitsConfig, LogConfig,
    MemoryConfig, Secret,
};
use super::pools::largest_block;
use super::problem::{Origin, Problems};
use super::source::FILE_SIZE_MAX;
use super::values::Values;
use gateway_auth::{KeySet, TokenAlgorithm, TokenPolicy, UserKind};
use gateway_core::CoarseInstant;
use gateway_core::listener::{Application, Framing, Security};
use gateway_core::memory::Thresholds;
use gateway_core::metrics::LISTENERS_MAX;
use gateway_core::settings::{
    BusMode, DevicePolicy, ListenerSettings, RateLimits, ReconnectHint, Reloadable, SlowConsumer,
};
use gateway_proto::frame::HEADER_SIZE;
use netpoll::ListenerConfig;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// Reads a file that the configuration names.
pub(super) type ReadFile<'a> = dyn Fn(&str) -> io::Result<Vec<u8>> + 'a;

/// Largest message of an echo listener with `message_size_max` 0, in bytes.
const ECHO_MESSAGE_SIZE: u64 = 1 << 20;
/// The least `message_size_max` besides 0.
const MESSAGE_SIZE_LEAST: usize = 1024;

/// Below this, goim's clients (a beat every 240 s) are taken for dead.
const IDLE_TIMEOUT_GOIM_MS: i64 = 240_000;

/// Builds the configuration. A wrong value is added to `problems` and takes its default.
pub(super) fn config(
    values: Values,
    file: Option<String>,
    read: &ReadFile<'_>,
    problems: &mut Problems,
) -> Config {
    let mut builder = Builder { values: &values, read, problems, warnings: Vec::new() };
    let auth = builder.auth();
    let listeners = builder.listeners();
    let control = builder.control();
    let reloadable = builder.reloadable();
    builder.ports(&listeners, &control);
    builder.look_for_dubious(&listeners, &control, auth.as_deref());
    let dpdk = builder.dpdk(&listeners);
    let limits = builder.limits();
    let (io, memory) = (builder.io(), builder.memory());
    let (application, journal, log) = (builder.application(), builder.journal(), builder.log());
    let drain = builder.milliseconds("drain.drain_ms");
    let warnings = builder.warnings;
    let source = ConfigSource { values, warnings, file };
    Config {
        io,
        dpdk,
        limits,
        memory,
        listeners,
        auth,
        application,
        drain,
        control,
        journal,
        log,
        reloadable,
        source,
    }
}

pub(super) struct Builder<'a> {
    pub(super) values: &'a Values,
    read: &'a ReadFile<'a>,
    problems: &'a mut Problems,
    pub(super) warnings: Vec<String>,
}

impl Builder<'_> {
    fn milliseconds(&self, path: &str) -> Duration {
        Duration::from_millis(self.values.integer(path).unsigned_abs())
    }

    /// 0 stands for "not given".
    fn some(&self, path: &str) -> Option<usize> {
        Some(self.values.size(path)).filter(|number| *number > 0)
    }

    pub(super) fn complain(&mut self, path: &str, advice: impl Into<String>) {
        self.values.complain(self.problems, path, advice);
    }

    fn io(&self) -> IoConfig {
        let demote = self.milliseconds("io.idle_demote_ms");
        IoConfig {
            backend: match self.values.text("io.backend").as_str() {
                "io_uring" => Some(BackendKind::IoUring),
                "epoll" => Some(BackendKind::Epoll),
                "dpdk" => Some(BackendKind::Dpdk),
                _ => None,
            },
            workers: self.some("io.workers"),
            threads: self.some("io.threads"),
            pin_workers: self.values.flag("io.pin_workers"),
            batch_scheduling: self.values.text("io.scheduling") == "batch",
            helper_nice: self.values.size("io.helper_nice") as u8,
            bind_wait: self.milliseconds("io.bind_wait_ms"),
            idle_demote: Some(demote).filter(|demote| !demote.is_zero()),
            completions_per_turn_max: self.values.size("io.completions_per_turn_max"),
        }
    }

    fn limits(&mut self) -> LimitsConfig {
        // A frame as it is queued: both headers, and what a Deliver says besides its payload.
        let one_frame = largest_block(self.values.size("limits.frame_body_size_max") as u32) as usize;
        if self.values.size("limits.send_queue_bytes_max") < one_frame {
            let body = self.values.size("limits.frame_body_size_max");
            let advice = format!(
                "one frame of limits.frame_body_size_max = {body} needs {one_frame} with its headers, so none could be sent; \
                 write {one_frame} or more, or lower limits.frame_body_size_max"
            );
            self.complain("limits.send_queue_bytes_max", advice);
        }
        let size = |name: &str| self.values.size(&format!("limits.{name}"));
        LimitsConfig {
            connections_max: self.some("limits.connections_max"),
            connections_per_address_max: self
                .some("limits.connections_per_address_max")
                .map(|max| max as u32),
            frame_body_size_max: size("frame_body_size_max") as u32,
            auth_body_size_max: size("auth_body_size_max") as u32,
            rooms_per_connection_max: size("rooms_per_connection_max") as u8,
            rooms: self.some("limits.rooms_per_worker_max"),
            memberships: self.some("limits.memberships_per_worker_max"),
            text_bytes: self.some("limits.text_bytes_per_worker_max"),
            send_queue_bytes_max: size("send_queue_bytes_max"),
            send_pieces: self.some("limits.send_pieces_per_worker_max"),
            mailbox_messages_max: size("mailbox_messages_max"),
            fanout_deliveries_per_turn_max: size("fanout_deliveries_per_turn_max"),
        }
    }

    fn memory(&mut self) -> MemoryConfig {
        MemoryConfig {
            receive_buffer_size: self.values.size("memory.receive_buffer_size_bytes") as u32,
            receive_buffers: self.some("memory.receive_buffers_per_worker").map(|count| count as u32),
            huge_pages: self.values.flag("memory.huge_pages"),
            copy_break: self.values.size("memory.copy_break_bytes"),
            memory_max: self.some("memory.memory_max_bytes").map(|bytes| bytes as u64),
            thresholds: self.thresholds(),
        }
    }

    fn thresholds(&mut self) -> Thresholds {
        let percent = |name: &str| self.values.size(&format!("memory.{name}_percent")) as u8;
        let thresholds = Thresholds {
            refuse_percent: percent("refuse_at"),
            shed_percent: percent("shed_at"),
            close_percent: percent("close_at"),
            stall_percent: percent("refuse_at_stall"),
        };
        let (refuse, shed) = (thresholds.refuse_percent, thresholds.shed_percent);
        if shed < refuse {
            let advice =
                format!("expected at least memory.refuse_at_percent = {refuse}: refusing comes first");
            self.complain("memory.shed_at_percent", advice);
        }
        if thresholds.close_percent < shed {
            let advice = format!("expected at least memory.shed_at_percent = {shed}: closing comes last");
            self.complain("memory.close_at_percent", advice);
        }
        thresholds
    }

    fn application(&self) -> ApplicationConfig {
        ApplicationConfig {
            bus: if self.values.text("application.bus") == "echo" {
                BusMode::Echo
            } else {
                BusMode::Acknowledge
            },
            default_push_operation: self.values.integer("application.default_push_operation") as i32,
        }
    }

    fn journal(&self) -> Option<JournalConfig> {
        self.values.flag("journal.enabled").then(|| JournalConfig {
            directory: self.values.text("journal.directory").into(),
            size_max: self.values.size("journal.size_max_bytes") as u64,
            files_max: self.values.size("journal.files_max"),
        })
    }

    fn log(&self) -> LogConfig {
        let level = self.values.text("log.level").parse().unwrap_or(tracing::Level::INFO);
        LogConfig { level, json: self.values.text("log.format") == "json" }
    }

    fn reloadable(&mut self) -> Reloadable {
        let policy = |class| match self.values.text(&format!("slow_consumer.{class}")).as_str() {
            "drop" => SlowConsumer::Drop,
            _ => SlowConsumer::Close,
        };
        let slow_consumer = [SlowConsumer::Close, policy("user"), policy("room"), policy("broadcast")];
        let delay = ["min", "max"].map(|end| self.milliseconds(&format!("drain.reconnect_delay_{end}_ms")));
        if delay[0] > delay[1] {
            let advice = format!("expected at least drain.reconnect_delay_min_ms = {}", delay[0].as_millis());
            self.complain("drain.reconnect_delay_max_ms", advice);
        }
        if self.values.integer("session.idle_timeout_ms") <= IDLE_TIMEOUT_GOIM_MS {
            self.warnings.push("session.idle_timeout_ms is at most 240000: goim's clients beat every 240 s and are closed as idle".into());
        }
        Reloadable {
            auth_timeout: self.milliseconds("session.auth_timeout_ms"),
            idle_timeout: self.milliseconds("session.idle_timeout_ms"),
            slow_consumer_timeout: self.milliseconds("session.slow_consumer_timeout_ms"),
            frame_timeout: self.milliseconds("session.frame_timeout_ms"),
            device_policy: match self.values.text("session.device_policy").as_str() {
                "per-platform" => DevicePolicy::PerPlatform,
                _ => DevicePolicy::Allow(self.values.size("session.devices_per_user_max") as u32),
            },
            slow_consumer,
            reconnect: ReconnectHint {
                delay: (delay[0], delay[1]),
                address: self.values.text("drain.reconnect_address"),
            },
            rate: self.rate(),
            room_members_only: self.values.text("application.room_send") == "members",
            client_send: self.values.flag("application.client_send"),
            client_push_operations: self.client_push_operations(),
            room_access: self.room_access(),
        }
    }

    fn rate(&mut self) -> RateLimits {
        let number = |name: &str| self.values.size(&format!("rate.{name}"));
        let ticks = |name: &str| (number(name) as u32 * CoarseInstant::PER_SECOND).div_ceil(1000);
        let limits = RateLimits {
            messages_per_second: number("messages_per_second_max") as u32,
            messages_burst: number("messages_burst_max") as u32,
            bytes_per_second: number("bytes_per_second_max") as u32,
            bytes_burst: number("bytes_burst_max") as u32,
            user_messages_per_second: number("user_messages_per_second_max") as u32,
            user_bytes_per_second: number("user_bytes_per_second_max") as u32,
            refuse_after_ticks: ticks("refuse_after_ms"),
            close_after_ticks: ticks("close_after_ms"),
            frames_before_login: number("frames_before_login_max") as u8,
            faulty_requests: number("faulty_requests_max") as u8,
        };
        let (refuse, close) = (number("refuse_after_ms"), number("close_after_ms"));
        if close > 0 && (refuse == 0 || close < refuse) {
            let advice = "expected rate.refuse_after_ms above 0 and at most as long: a client is refused before it is closed";
            self.complain("rate.close_after_ms", advice);
        }
        self.check_frame_time();
        limits
    }

    /// Checks that a frame of the largest size can arrive in time at the configured rate.
    fn check_frame_time(&mut self) {
        let frame = self.values.size("limits.frame_body_size_max") + HEADER_SIZE;
        let timeout_ms = self.values.size("session.frame_timeout_ms");
        for path in ["rate.bytes_per_second_max", "rate.user_bytes_per_second_max"] {
            let rate = self.values.size(path);
            if rate > 0 && rate.saturating_mul(timeout_ms) / 1000 < frame {
                let least = (frame * 1000).div_ceil(timeout_ms.max(1));
                let advice = format!(
                    "a frame of limits.frame_body_size_max takes longer than session.frame_timeout_ms = {timeout_ms} at this rate; \
                     write {least} or more, or 0 for no limit"
                );
                self.complain(path, advice);
            }
        }
    }

    fn listeners(&mut self) -> Vec<ListenerSettings> {
        let names = self.values.listeners().to_vec();
        if names.len() > LISTENERS_MAX {
            let (name, origin) = &names[LISTENERS_MAX];
            let advice = format!("at most {LISTENERS_MAX} listeners are served; remove the rest");
            self.problems.push(origin, format!("listener.name = \"{name}\""), advice);
        }
        names.iter().take(LISTENERS_MAX).map(|(name, origin)| self.listener(name, origin)).collect()
    }

    fn listener(&mut self, name: &str, origin: &Origin) -> ListenerSettings {
        let path = |key: &str| format!("listener.{name}.{key}");
        let (framing, application) = match self.values.text(&path("kind")).as_str() {
            "websocket" => (Framing::WebSocket, Application::Goim),
            "websocket-echo" => (Framing::WebSocket, Application::Echo),
            _ => (Framing::Tcp, Application::Goim),
        };
        let address = self.values.text(&path("address")).parse().ok();
        if self.values.is_missing(&path("address")) {
            let advice = "needs an address, such as address = \"0.0.0.0:3101\"";
            self.problems.push(origin, format!("listener.{name}"), advice);
        }
        let url_path = self.values.text(&path("path"));
        if !url_path.starts_with('/') || url_path.bytes().any(|byte| matches!(byte, b' ' | b'?' | b'#')) {
            self.complain(&path("path"), "expected a path that begins with /, without ?, # and spaces");
        }
        let origins = self.values.texts(&path("origins"));
        if origins.iter().any(|origin| !origin.contains("://") || origin.ends_with('/')) {
            self.complain(
                &path("origins"),
                "expected origins as browsers send them, such as \"https://example.org\"",
            );
        }
        let protocols = self.values.texts(&path("protocols"));
        if protocols.iter().any(|protocol| !is_subprotocol(protocol)) {
            self.complain(
                &path("protocols"),
                "expected names of subprotocols, such as \"goim.v1\": 1 to 128 letters, digits and -._+ (RFC 6455 §4.1)",
            );
        }
        let head_size_max = self.head_size_max(&path("head_size_max"));
        ListenerSettings {
            name: name.to_owned(),
            framing,
            security: Security::None,
            application,
            socket: self.socket(name, address.unwrap_or(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))),
            path: url_path,
            origins,
            protocols,
            head_size_max,
            message_size_max: self.message_size_max(&path("message_size_max"), framing, application),
            fragments_max: self.values.size(&path("fragments_max")) as u32,
            demo_page: self.values.flag(&path("demo_page")),
        }
    }

    /// A head that comes in pieces is put together in one block.
    fn head_size_max(&mut self, path: &str) -> usize {
        let (written, frame) = (self.values.size(path), self.values.size("limits.frame_body_size_max"));
        let block = largest_block(frame as u32) as usize;
        if written > block && self.values.origin(path) != Origin::Default {
            let advice = format!(
                "a head is put together in one block of {block} bytes (limits.frame_body_size_max = {frame} + headers); write {block} \
                 or less, or raise limits.frame_body_size_max"
            );
            self.complain(path, advice);
        }
        written.min(block)
    }

    /// A WebSocket message is put together in one block; the echo answers as it reads and needs
    /// none.
    fn message_size_max(&mut self, path: &str, framing: Framing, application: Application) -> u64 {
        let (written, frame) = (self.values.size(path), self.values.size("limits.frame_body_size_max"));
        let block = largest_block(frame as u32) as usize;
        let bound = gateway_core::handler::message_size_bound(block);
        if application == Application::Echo {
            return if written == 0 { ECHO_MESSAGE_SIZE } else { written as u64 };
        }
        if framing == Framing::WebSocket && written > bound {
            let advice = format!(
                "a message is put together in one block of {block} bytes (limits.frame_body_size_max = {frame} + headers, \
                 rounded up to 4096), which holds {bound}; write {bound} or less, or raise limits.frame_body_size_max to {}",
                written - HEADER_SIZE
            );
            self.complain(path, advice);
        }
        if written > 0 && written < MESSAGE_SIZE_LEAST {
            self.complain(
                path,
                format!("expected at least {MESSAGE_SIZE_LEAST}, or 0 for what a block holds"),
            );
        }
        if written == 0 { bound as u64 } else { written as u64 }
    }

    fn socket(&self, name: &str, address: SocketAddr) -> ListenerConfig {
        let some = |key: &str| self.some(&format!("listener.{name}.{key}"));
        ListenerConfig {
            address,
            backlog: some("backlog").unwrap_or(1) as u32,
            send_buffer: some("send_buffer_bytes"),
            receive_buffer: some("receive_buffer_bytes"),
            not_sent_low_water: some("not_sent_low_water_bytes").map(|bytes| bytes as u32),
            user_timeout: some("user_timeout_ms").map(|ms| Duration::from_millis(ms as u64)),
        }
    }

    fn control(&mut self) -> ControlConfig {
        let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 3111));
        let address: SocketAddr = self.values.text("control.address").parse().unwrap_or(loopback);
        let api_key = self.api_key();
        let key_given = api_key.is_some() || !self.values.text("control.api_key_file").is_empty();
        if !address.ip().is_loopback() && !key_given {
            self.complain(
                "control.address",
                "the admin API would be open to the network; set GATEWAY_CONTROL__API_KEY or control.api_key_file, \
                 or listen on 127.0.0.1",
            );
        }
        let goim_api_key = Secret::new(&self.values.text("control.goim_api_key"));
        if !address.ip().is_loopback() && goim_api_key.is_none() {
            self.warnings.push(format!("/goim/push on {address} takes messages from anyone, as goim does; control.goim_api_key closes it"));
        }
        let hosts = self.values.texts("control.hosts");
        if hosts.iter().any(|host| host.is_empty() || host.bytes().any(|byte| !is_of_host(byte))) {
            self.complain(
                "control.hosts",
                "expected names as callers write them into Host, such as \"gateway.internal\", without http:// and paths",
            );
        }
        ControlConfig {
            address,
            api_key,
            goim_api_key,
            cpu: usize::try_from(self.values.integer("control.cpu")).ok(),
            hosts,
            node_host: self.values.text("control.node_host"),
            connections_max: self.values.size("control.connections_max"),
            requests_max: self.values.size("control.requests_max"),
            header_timeout: self.milliseconds("control.header_timeout_ms"),
            body_timeout: self.milliseconds("control.body_timeout_ms"),
            idle_timeout: self.milliseconds("control.idle_timeout_ms"),
            request_timeout: self.milliseconds("control.request_timeout_ms"),
        }
    }

    fn api_key(&mut self) -> Option<Secret> {
        let (inline, file) = (self.values.text("control.api_key"), self.values.text("control.api_key_file"));
        if file.is_empty() {
            return Secret::new(&inline);
        }
        if !inline.is_empty() {
            self.complain("control.api_key_file", "control.api_key is given too; remove one of the two");
        }
        let text = self.file("control.api_key_file", &file)?;
        let text = String::from_utf8_lossy(&text);
        let key = Secret::new(text.trim());
        if key.is_none() {
            self.complain("control.api_key_file", "the file is empty; write the key into it");
        }
        if !text.trim().bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') {
            // No client could send it in a header.
            self.complain("control.api_key_file", "expected one line of printable ASCII");
        }
        key
    }

    fn file(&mut self, path: &str, file: &str) -> Option<Vec<u8>> {
        match (self.read)(file) {
            Ok(content) if content.len() <= FILE_SIZE_MAX => Some(content),
            Ok(content) => {
                self.complain(
                    path,
                    format!("the file is {} bytes; at most {FILE_SIZE_MAX} are read", content.len()),
                );
                None
            }
            Err(error) => {
                self.complain(path, format!("can't be read: {error}"));
                None
            }
        }
    }

    /// The word by which services are known, if any is.
    fn service_scope(&mut self) -> Option<String> {
        let scope = self.values.text("auth.service_scope");
        if scope.contains([' ', '"', '\\']) || scope.contains(char::is_control) {
            self.complain(
                "auth.service_scope",
                "expected one word, without spaces, quotes and backslashes, as scope claims have several with a space between them",
            );
        }
        Some(scope).filter(|scope| !scope.is_empty())
    }

    fn auth(&mut self) -> Option<Arc<TokenPolicy>> {
        let service_scope = self.service_scope();
        let sources = ["auth.secret", "auth.key_file", "auth.jwks_file"];
        let given: Vec<&str> =
            sources.into_iter().filter(|path| !self.values.text(path).is_empty()).collect();
        if self.values.text("auth.mode") == "none" {
            let open = "auth.mode = \"none\": clients are not authenticated; for development only";
            self.warnings.push(open.into());
            if service_scope.is_some() {
                let idle = "auth.service_scope does nothing with auth.mode = \"none\": no token is checked";
                self.warnings.push(idle.into());
            }
            if let [path, ..] = given[..] {
                self.complain(
                    path,
                    "auth.mode is \"none\", so no key is used; write auth.mode = \"jwt\" or remove the key",
                );
            }
            return None;
        }
        let [path] = given[..] else {
            self.complain(
                "auth.mode",
                "needs one of auth.key_file, auth.jwks_file and GATEWAY_AUTH__SECRET, and only one",
            );
            return None;
        };
        let algorithms = self.algorithms();
        let keys = self.keys(path, &algorithms)?;
        let values = self.values;
        Some(Arc::new(TokenPolicy {
            keys,
            audience: values.texts("auth.audience"),
            issuer: Some(values.text("auth.issuer")).filter(|issuer| !issuer.is_empty()),
            leeway_s: values.size("auth.leeway_s") as u64,
            user_claim: values.text("auth.user_claim"),
            user_kind: match values.text("auth.user_kind").as_str() {
                "mid" => UserKind::Mid,
                "uid" => UserKind::Uid,
                _ => UserKind::Auto,
            },
            service_scope,
            key_claim: Some(values.text("auth.key_claim")).filter(|claim| !claim.is_empty()),
            rooms_claim: values.text("auth.rooms_claim"),
            threads: values.size("auth.verifier_threads"),
            queue_requests_max: values.size("auth.queue_requests_max"),
        }))
    }

    fn algorithms(&mut self) -> Vec<TokenAlgorithm> {
        let mut algorithms = Vec::new();
        for name in self.values.texts("auth.algorithms") {
            match TokenAlgorithm::ALL.into_iter().find(|one| one.label() == name) {
                Some(algorithm) => algorithms.push(algorithm),
                None => self.complain(
                    "auth.algorithms",
                    "expected some of \"HS256\", \"RS256\", \"ES256\", \"EdDSA\"",
                ),
            }
        }
        algorithms
    }

    fn keys(&mut self, path: &str, algorithms: &[TokenAlgorithm]) -> Option<KeySet> {
        let text = self.values.text(path);
        let parsed = match path {
            "auth.secret" => KeySet::from_secret(text.as_bytes()),
            "auth.key_file" => KeySet::from_pem(&self.file(path, &text)?),
            _ => KeySet::from_jwks(&self.file(path, &text)?),
        };
        match parsed.and_then(|keys| keys.restricted(algorithms)) {
            Ok(keys) => {
                self.warnings
                    .extend(keys.left_out().iter().map(|key| format!("{path}: {key}; it is not used")));
                Some(keys)
            }
            Err(advice) => {
                self.complain(path, advice);
                None
            }
        }
    }

    /// No two sockets on one address.
    fn ports(&mut self, listeners: &[ListenerSettings], control: &ControlConfig) {
        let mut taken = vec![("control.address".to_owned(), control.address)];
        for listener in listeners {
            let path = format!("listener.{}.address", listener.name);
            let address = listener.socket.address;
            if let Some((other, _)) = taken.iter().find(|(_, other)| collide(*other, address)) {
                let advice = format!("{other} has this port already; give each listener a port of its own");
                self.complain(&path, advice);
            }
            taken.push((path, address));
        }
    }
}

/// What names and addresses are made of, with a port (RFC 3986 §3.2.2), as far as they are used.
fn is_of_host(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte)
}

/// RFC 6455 §4.1: a token (RFC 9110 §5.6.2), of a length that the answer has room for.
fn is_subprotocol(name: &str) -> bool {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    (1..=gateway_core::handler::PROTOCOL_SIZE_MAX).contains(&name.len()) && name.bytes().all(is_token)
}
