//! Every key there is: its type, its default, whether a reload applies it, and what it is for.
//!
//! The table is the one place that a key is declared in. Reading, checking, suggesting, printing
//! and reloading all go through it.

use super::value::Kind;

/// A key of the configuration.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Section and name, e.g. `io.backend`; for listeners the name alone.
    pub path: &'static str,
    /// What may be written.
    pub kind: Kind,
    /// What holds when nothing is written, as in a flag.
    pub default: &'static str,
    /// When a change takes effect.
    pub change: Change,
    /// What it is for.
    pub help: &'static str,
}

/// When a changed value takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// At the next start.
    Restart,
    /// At a reload (SIGHUP).
    Reload,
    /// At a reload; never shown, never accepted on a command line.
    SecretReload,
}

const fn key(
    path: &'static str,
    kind: Kind,
    default: &'static str,
    change: Change,
    help: &'static str,
) -> Key {
    Key { path, kind, default, change, help }
}

use Change::{Reload, Restart, SecretReload};
use Kind::{Address, Bool, Choice, Integer, Text, Texts};

const DROP_OR_CLOSE: Kind = Choice(&["drop", "close"]);
const MAX: i64 = i64::MAX;
/// A week, in milliseconds.
const WEEK_MS: i64 = 7 * 24 * 3_600_000;

/// All keys outside of listeners, by section.
#[rustfmt::skip]
pub const KEYS: &[Key] = &[
    key("io.backend", Choice(&["auto", "io_uring", "epoll", "dpdk"]), "auto", Restart,
        "How bytes move. auto: io_uring where the system allows it, else epoll. dpdk: past the kernel; see [dpdk]."),
    key("io.workers", Integer(0, 255), "0", Restart,
        "Workers. 0: one a core, or as many as the descriptors demand."),
    key("io.threads", Integer(0, 255), "0", Restart,
        "io_uring: threads that run the workers. 0: as many as cores. Workers beyond that share threads."),
    key("io.pin_workers", Bool, "false", Restart, "Pin worker threads to cores, in turn."),
    key("io.scheduling", Choice(&["normal", "batch"]), "normal", Restart,
        "Policy of the threads, see sched(7). batch: a woken thread waits for the one that runs on its processor. Fewer switches."),
    key("io.helper_nice", Integer(0, 19), "10", Restart,
        "Added to the nice value of the threads that are no workers (control, verifiers): established connections go first where processors are short."),
    key("io.idle_demote_ms", Integer(0, WEEK_MS), "0", Restart,
        "io_uring: connections quiet for this long wait in a cheaper way; new ones begin so. 0: never."),
    key("io.bind_wait_ms", Integer(0, 3_600_000), "120000", Restart,
        "How long a start waits for a port that no living process has: after kill -9 the kernel frees it connection by connection."),
    key("io.completions_per_turn_max", Integer(16, 65_536), "256", Restart,
        "Completions that a worker handles in one turn."),

    key("dpdk.devices", Texts(8), "", Restart,
        "Devices that DPDK takes: PCI addresses, and virtual ones with their arguments. Must be given with io.backend = \"dpdk\"."),
    key("dpdk.port", Text(64), "", Restart, "The device to serve on, a queue a worker. Empty: the first."),
    key("dpdk.addresses", Texts(16), "", Restart,
        "Own addresses with the length of their link's prefix, such as 10.77.0.2/24. Must be given with io.backend = \"dpdk\"."),
    key("dpdk.gateway_v4", Text(15), "", Restart, "The router for other IPv4 links. Empty: none is reached."),
    key("dpdk.gateway_v6", Text(45), "", Restart, "The router for other IPv6 links. Empty: none is reached."),
    key("dpdk.mac", Text(17), "", Restart, "Own hardware address. Empty: the card's."),
    key("dpdk.mtu", Integer(1280, 9000), "1500", Restart, "Bytes of the largest IP packet."),
    key("dpdk.huge_pages", Bool, "true", Restart,
        "Packet buffers in huge pages, without files. false: plain pages, for virtual devices only."),
    key("dpdk.memory_mb", Integer(0, 1 << 20), "0", Restart, "MiB that DPDK takes. 0: what its pools need."),
    key("dpdk.receive_descriptors", Integer(64, 16_384), "1024", Restart, "Receive descriptors of a queue."),
    key("dpdk.transmit_descriptors", Integer(64, 16_384), "1024", Restart, "Transmit descriptors of a queue."),
    key("dpdk.offloads", Choice(&["all", "checksums", "none"]), "all", Restart,
        "What is left to the card, as far as it can: checksums and cutting into segments, checksums, nothing."),
    key("dpdk.detect_duplicates", Bool, "true", Restart,
        "Ask the link for a second whether another host has an address, before using it."),
    key("dpdk.idle_sleep_max_us", Integer(0, 1000), "500", Restart,
        "An idle worker sleeps up to so long at a time, in steps that grow. 0: it polls without end."),
    key("dpdk.eal_args", Texts(32), "", Restart, "Further arguments of DPDK's environment layer."),
    key("dpdk.capture_frames", Integer(0, 1 << 20), "0", Restart,
        "Keep the last so many frames of each queue; `gateway dpdk-capture` writes them as a pcap file. 0: none."),
    key("dpdk.capture_frame_bytes", Integer(64, 9216), "128", Restart,
        "Bytes of each captured frame: 128 are its headers and what a small message begins with."),

    key("limits.connections_max", Integer(0, 64_000_000), "0", Restart,
        "Connections to hold. 0: 10 000, or fewer where the descriptors allow no more."),
    key("limits.connections_per_address_max", Integer(0, 64_000_000), "0", Restart,
        "Connections of one client address, or of one /64 of IPv6, over all workers. 0: any number, as behind a load balancer."),
    key("limits.frame_body_size_max", Integer(1024, 16 << 20), "65536", Restart,
        "Body of a frame or of a push, in bytes."),
    key("limits.auth_body_size_max", Integer(1024, 24 << 10), "12288", Restart,
        "Body of a frame before the login, in bytes: of the Auth frame with its token."),
    key("limits.rooms_per_connection_max", Integer(1, 255), "32", Restart, "Rooms that one connection may be in."),
    key("limits.rooms_per_worker_max", Integer(0, 16 << 20), "0", Restart,
        "Rooms with a member on a worker or with their home there. 0: two for each connection, whatever others hold, and some to share."),
    key("limits.memberships_per_worker_max", Integer(0, 64 << 20), "0", Restart,
        "Memberships of a worker's connections. 0: four a connection, two of them whatever others hold, and 1024."),
    key("limits.text_bytes_per_worker_max", Integer(0, 1 << 34), "0", Restart,
        "Text of a worker's keys, user ids and rooms, each in cells of 36 bytes. 0: a cell for each of those, and one a connection for longer ones."),
    key("limits.send_queue_bytes_max", Integer(4096, 1 << 30), "1048576", Restart,
        "Bytes that may wait for one receiver: half of it for messages that may be dropped, three quarters for all messages, the rest \
         for replies."),
    key("limits.send_pieces_per_worker_max", Integer(0, 256 << 20), "0", Restart,
        "Messages that may wait on a worker beside one for each connection, 24 bytes each; a connection may have a quarter of what is \
         free. 0: two a connection, 65536 at least."),
    key("limits.mailbox_messages_max", Integer(64, 1 << 20), "4096", Restart,
        "Messages that may wait in a worker's mailbox."),
    key("limits.fanout_deliveries_per_turn_max", Integer(16, 1 << 20), "32", Restart,
        "Deliveries of room pushes and broadcasts in one turn of a thread, 5 to 20 us each; a quarter while others speak."),

    key("rate.messages_per_second_max", Integer(0, 10_000_000), "1000", Reload,
        "Messages of a connection; some requests count as several (docs/protocol.md). 0: no limit. Services have none."),
    key("rate.messages_burst_max", Integer(1, 10_000_000), "2000", Reload, "Messages that a connection may send at once."),
    key("rate.bytes_per_second_max", Integer(0, 1 << 31), "1048576", Reload, "Bytes of a connection. 0: no limit."),
    key("rate.bytes_burst_max", Integer(1024, 1 << 31), "1048576", Reload, "Bytes that a connection may send at once."),
    key("rate.user_messages_per_second_max", Integer(0, 10_000_000), "2000", Reload,
        "Messages of all connections of a user, which share them evenly. 0: no limit."),
    key("rate.user_bytes_per_second_max", Integer(0, 1 << 31), "2097152", Reload,
        "Bytes of all connections of a user, which share them evenly. 0: no limit."),
    key("rate.refuse_after_ms", Integer(0, 600_000), "5000", Reload,
        "A connection above its rate is read no faster; after this time what is above is refused with 429. 0: never."),
    key("rate.close_after_ms", Integer(0, 600_000), "15000", Reload,
        "After this time above its rate a connection is closed with 3004. 0: never."),
    key("rate.frames_before_login_max", Integer(0, 250), "16", Reload,
        "Frames before the login that are no login, WebSocket pings included; one more closes with 3500. 0: no limit."),
    key("rate.faulty_requests_max", Integer(0, 250), "100", Reload,
        "Malformed, unknown and forbidden requests; one more closes with 3500, each second forgets one. 0: no limit."),

    key("memory.receive_buffer_size_bytes", Integer(512, 1 << 20), "16384", Restart, "Size of a receive buffer."),
    key("memory.receive_buffers_per_worker", Integer(0, 1 << 20), "0", Restart,
        "Receive buffers of a worker. 0: one for 64 connections, 128 to 4096."),
    key("memory.huge_pages", Bool, "false", Restart, "Ask for transparent huge pages for the pools."),
    key("memory.copy_break_bytes", Integer(0, 65_536), "512", Restart,
        "Waiting pieces up to this size are copied out of a larger buffer."),
    key("memory.memory_max_bytes", Integer(0, MAX), "0", Restart,
        "What the gateway may take, with the kernel's 4 KiB for each connection. 0: what the container or the machine has."),
    key("memory.refuse_at_percent", Integer(10, 100), "90", Reload,
        "Memory used, in percent of the limit, from which new connections are refused."),
    key("memory.shed_at_percent", Integer(10, 100), "95", Reload,
        "… from which messages that may be dropped are dropped for receivers that have not taken earlier ones."),
    key("memory.close_at_percent", Integer(10, 100), "98", Reload, "… from which the slowest receivers are closed."),
    key("memory.refuse_at_stall_percent", Integer(0, 100), "20", Reload,
        "Share of ten seconds in which tasks wait for memory (PSI) that refuses new connections, too: of the cgroup, or of a \
         machine with less than a tenth available. 0: never."),

    key("session.auth_timeout_ms", Integer(100, 600_000), "8000", Reload, "How long a connection may take to log in."),
    key("session.idle_timeout_ms", Integer(1000, WEEK_MS), "540000", Reload,
        "How long a session may be silent. goim's clients beat every 240 s."),
    key("session.frame_timeout_ms", Integer(1000, WEEK_MS), "30000", Reload,
        "How long a frame that has begun, or a WebSocket message in fragments, may take to come whole."),
    key("session.slow_consumer_timeout_ms", Integer(100, 600_000), "2000", Reload,
        "How long a receiver whose queue is full may take nothing before slow_consumer closes it; until then what finds no room is \
         refused and its sender learns of it."),
    key("session.device_policy", Choice(&["allow", "per-platform"]), "allow", Reload,
        "allow: devices_per_user_max connections a user. per-platform: one for each platform, the newest wins."),
    key("session.devices_per_user_max", Integer(0, 65_536), "16", Reload,
        "Connections of one user; one more closes the oldest. 0: any number."),

    key("auth.mode", Choice(&["none", "jwt"]), "none", Restart,
        "none: clients are not authenticated (development only). jwt: they bring a JSON Web Token."),
    key("auth.algorithms", Texts(4), "", Reload, "Algorithms to accept: HS256, RS256, ES256, EdDSA. Empty: those of the keys."),
    key("auth.key_file", Text(4096), "", Reload, "PEM file with the public key; read again at every reload."),
    key("auth.jwks_file", Text(4096), "", Reload, "File with a JWK set; read again at every reload."),
    key("auth.secret", Text(4096), "", SecretReload, "Shared secret for HS256, at least 32 bytes."),
    key("auth.audience", Texts(16), "", Restart, "Accepted values of the aud claim. Empty: aud is not checked."),
    key("auth.issuer", Text(1024), "", Restart, "Required value of the iss claim. Empty: iss is not checked."),
    key("auth.leeway_s", Integer(0, 3600), "30", Restart, "How far clocks may differ, for exp and nbf."),
    key("auth.user_claim", Text(128), "sub", Restart, "The claim that names the user."),
    key("auth.user_kind", Choice(&["auto", "mid", "uid"]), "auto", Restart,
        "What that claim holds. auto: a number is a mid, a text is a uid."),
    key("auth.service_scope", Text(128), "", Restart,
        "A token whose scope claim has this word is a service's, which may send to all users and rooms. Empty: none is."),
    key("auth.key_claim", Text(128), "", Restart,
        "The claim with the only connection key that the token's bearer may use. Empty: any that no other user has."),
    key("auth.rooms_claim", Text(128), "rooms", Restart,
        "The claim that lists the rooms, or prefixes with * behind them, that application.room_access leaves to a claim."),
    key("auth.verifier_threads", Integer(1, 64), "1", Restart, "Threads that check tokens."),
    key("auth.queue_requests_max", Integer(16, 1 << 20), "4096", Restart,
        "Logins that may wait for the verifier; beyond that they are refused as overload."),

    key("slow_consumer.user", DROP_OR_CLOSE, "close", Reload,
        "A message to a user or a connection that a receiver has no room for. drop: it is lost. close: the receiver is closed when it \
         takes nothing for session.slow_consumer_timeout_ms. Replies beyond the bound always close it."),
    key("slow_consumer.room", DROP_OR_CLOSE, "drop", Reload, "The same for a message to a room."),
    key("slow_consumer.broadcast", DROP_OR_CLOSE, "drop", Reload, "The same for a broadcast."),

    key("application.bus", Choice(&["acknowledge", "echo"]), "acknowledge", Restart,
        "What application operations get: an empty reply, or their own body."),
    key("application.client_send", Bool, "true", Reload, "Whether clients may send messages to users and rooms."),
    key("application.room_send", Choice(&["members", "anyone"]), "members", Reload, "Which clients may send to a room: its members, or all."),
    key("application.room_access", Texts(32), "* = open", Reload,
        "Which clients may enter a room, by its key; the first rule that fits decides. \"private://* = claim\": those whose token \
         lists it; open: all, as in goim; closed: services only."),
    key("application.client_push_operations", Texts(32), "1000", Reload,
        "Push operations, and ranges such as \"2000-2999\", that clients may name. Services may name any."),
    key("application.default_push_operation", Integer(1000, i32::MAX as i64), "1000", Restart,
        "Push operation of a client's message that names none."),

    key("drain.drain_ms", Integer(0, 3_600_000), "30000", Restart, "How long a stop waits for clients to leave."),
    key("drain.reconnect_delay_min_ms", Integer(0, 3_600_000), "500", Reload, "Clients come back after a delay from here …"),
    key("drain.reconnect_delay_max_ms", Integer(0, 3_600_000), "10000", Reload, "… to here."),
    key("drain.reconnect_address", Text(255), "", Reload, "Where departing clients are sent. Empty: to the same address."),

    key("control.address", Address, "127.0.0.1:3111", Restart, "Where push API, admin API and metrics listen."),
    key("control.api_key", Text(1024), "", SecretReload, "Key for /api/v1, as bearer token or X-API-Key."),
    key("control.api_key_file", Text(4096), "", Reload, "File with that key."),
    key("control.goim_api_key", Text(1024), "", SecretReload, "Key for /goim/push too. Empty: open, as goim is."),
    key("control.cpu", Integer(-1, 1023), "-1", Restart, "Core for the control thread. -1: any."),
    key("control.hosts", Texts(64), "", Restart,
        "Further names of this gateway, as callers write them into Host. Needed where no API key is set: pages of other names are refused."),
    key("control.node_host", Text(255), "", Restart,
        "Host name that /goim/nodes gives to clients as where they find this node. Empty: the machine's name, which clients elsewhere may not resolve."),
    key("control.connections_max", Integer(4, 65_536), "512", Restart,
        "HTTP connections at a time; for one more, one that has been idle for a second is closed."),
    key("control.requests_max", Integer(1, 65_536), "128", Restart, "HTTP requests under way at a time."),
    key("control.header_timeout_ms", Integer(100, 600_000), "5000", Restart,
        "How long the head of a request may take, and a new connection's first byte."),
    key("control.body_timeout_ms", Integer(100, 600_000), "10000", Restart, "How long the body of a request may take."),
    key("control.idle_timeout_ms", Integer(1000, 3_600_000), "75000", Restart,
        "How long a connection may be idle between two requests. Answers announce it (Keep-Alive); pools of callers should be shorter."),
    key("control.request_timeout_ms", Integer(100, 600_000), "15000", Restart,
        "How long the handling of a request may take once its body is there."),

    key("journal.enabled", Bool, "false", Restart, "Write the audit journal."),
    key("journal.directory", Text(4096), "journal", Restart, "Where its files are."),
    key("journal.size_max_bytes", Integer(4096, 1 << 40), "67108864", Restart, "Size at which a new file is begun."),
    key("journal.files_max", Integer(1, 10_000), "8", Restart, "Files to keep; the oldest goes."),

    key("log.level", Choice(&["error", "warn", "info", "debug", "trace"]), "info", Reload, "Least level to log. debug, from the start on: every login and every end, too."),
    key("log.format", Choice(&["text", "json"]), "text", Restart, "Shape of log lines."),
];

/// Keys of one `[[listener]]`.
#[rustfmt::skip]
pub const LISTENER_KEYS: &[Key] = &[
    key("kind", Choice(&["tcp", "websocket", "websocket-echo"]), "tcp", Restart, "What it speaks."),
    key("address", Address, "", Restart, "Where it listens. Must be given."),
    key("path", Text(255), "/sub", Restart, "WebSocket: path of the upgrade request."),
    key("origins", Texts(64), "", Restart, "WebSocket: origins that may connect. Empty: any."),
    key("protocols", Texts(16), "", Restart,
        "WebSocket: subprotocols that are spoken; the first that a client offers is chosen. Empty: none, and browsers that offer one give up."),
    key("head_size_max", Integer(1024, 65_536), "16384", Restart,
        "WebSocket: bytes of an upgrade request's head, cookies included; no more than limits.frame_body_size_max lets a block hold."),
    key("message_size_max", Integer(0, 1 << 30), "0", Restart,
        "WebSocket: size of a message, in bytes. 0: what a block holds, a frame of limits.frame_body_size_max or a little more."),
    key("fragments_max", Integer(1, 1 << 20), "1024", Restart, "WebSocket: fragments of a message."),
    key("backlog", Integer(1, 65_535), "4096", Restart, "Connections that may wait to be accepted."),
    key("send_buffer_bytes", Integer(0, 1 << 30), "0", Restart, "SO_SNDBUF. 0: the kernel's own tuning."),
    key("receive_buffer_bytes", Integer(0, 1 << 30), "0", Restart, "SO_RCVBUF. 0: the kernel's own tuning."),
    key("not_sent_low_water_bytes", Integer(0, 1 << 30), "131072", Restart,
        "Unsent bytes that may hide in the kernel. 0: no bound."),
    key("user_timeout_ms", Integer(0, 3_600_000), "30000", Restart,
        "How long sent bytes may stay unacknowledged. 0: the kernel's own limit."),
    key("demo_page", Bool, "false", Restart, "WebSocket: serve the demo page on GET /. True for the listener that is there when none is written."),
];

/// The listeners when the file names none: name, kind, address, demo page. They are open to this
/// machine only, for clients are not authenticated unless `auth.mode` says so. A gateway for other
/// machines needs listeners that are written down.
pub const DEFAULT_LISTENERS: &[(&str, &str, &str, bool)] =
    &[("tcp", "tcp", "127.0.0.1:3101", false), ("websocket", "websocket", "127.0.0.1:3102", true)];

/// The key at `path`; for a listener, `listener.<name>.<key>`.
pub fn find(path: &str) -> Option<&'static Key> {
    match listener_path(path) {
        Some((_, name)) => LISTENER_KEYS.iter().find(|key| key.path == name),
        None => KEYS.iter().find(|key| key.path == path),
    }
}

/// Name of the listener and of its key, if `path` is one of a listener.
pub fn listener_path(path: &str) -> Option<(&str, &str)> {
    path.strip_prefix("listener.")?.split_once('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_a_valid_value_and_every_key_is_explained() {
        for key in KEYS.iter().chain(LISTENER_KEYS) {
            let may_be_missing = key.path == "address";
            assert!(may_be_missing || key.kind.parse(key.default).is_ok(), "{}", key.path);
            assert!(key.help.ends_with(['.', '…']), "{}", key.path);
            assert_eq!(find(key.path).is_some(), key.path.contains('.'), "{}", key.path);
        }
    }
}
