//! Warnings about settings that are allowed and rarely meant: those that open more than intended,
//! and those without effect.

use super::build::Builder;
use super::config::{ControlConfig, Secret};
use super::schema;
use gateway_auth::TokenPolicy;
use gateway_core::listener::{Application, Framing};
use gateway_core::settings::ListenerSettings;

/// A key of fewer bytes can be guessed.
const KEY_SIZE_LEAST: usize = 16;

impl Builder<'_> {
    /// Adds a warning for each, and a problem where it can't work.
    pub(super) fn look_for_dubious(
        &mut self,
        listeners: &[ListenerSettings],
        control: &ControlConfig,
        auth: Option<&TokenPolicy>,
    ) {
        for listener in listeners {
            self.open_listener(listener, auth.is_some());
            self.keys_of_another_kind(listener);
        }
        if let Some(policy) = auth {
            self.unchecked_claims(policy);
        }
        self.short_key("control.api_key", control.api_key.as_ref());
        self.short_key("control.goim_api_key", control.goim_api_key.as_ref());
        self.without_effect(auth.is_some());
    }

    fn warn(&mut self, what: String) {
        self.warnings.push(what);
    }

    /// Warns about what is reachable from other machines.
    fn open_listener(&mut self, listener: &ListenerSettings, checks_tokens: bool) {
        let (name, address) = (&listener.name, listener.socket.address);
        if address.ip().is_loopback() {
            return;
        }
        if listener.application == Application::Echo {
            return self.warn(format!(
                "listener.{name} on {address} echoes whatever any machine sends, without a login: it is for tests; remove it, or \
                 listen on 127.0.0.1"
            ));
        }
        if !checks_tokens {
            self.warn(format!(
                "listener.{name} on {address} takes clients of other machines, and with auth.mode = \"none\" each of them can \
                 log in as any user; write auth.mode = \"jwt\" (`gateway init` makes keys), or listen on 127.0.0.1"
            ));
        }
        if listener.framing == Framing::WebSocket && listener.origins.is_empty() {
            self.warn(format!(
                "listener.{name}.origins is empty: pages of any web site may connect from a visitor's browser; list yours, such \
                 as origins = [\"https://chat.example.org\"]"
            ));
        }
        if listener.demo_page {
            self.warn(format!(
                "listener.{name}.demo_page = true on {address}: every machine that reaches it is served the demo page"
            ));
        }
    }

    /// Keys that are written for a listener that does not use them.
    fn keys_of_another_kind(&mut self, listener: &ListenerSettings) {
        if listener.framing != Framing::Tcp {
            return;
        }
        let path = |key: &str| format!("listener.{}.{key}", listener.name);
        if listener.demo_page {
            let advice = "a tcp listener serves no page; write kind = \"websocket\", or remove it";
            self.complain(&path("demo_page"), advice);
        }
        for key in ["path", "origins", "message_size_max", "fragments_max"] {
            if self.is_changed(&path(key), key) {
                self.warn(format!(
                    "{} does nothing on a tcp listener; remove it, or write kind = \"websocket\"",
                    path(key)
                ));
            }
        }
    }

    fn unchecked_claims(&mut self, policy: &TokenPolicy) {
        if policy.audience.is_empty() {
            self.warn(
                "auth.audience is empty: tokens that the login service made for other applications are taken, too; list the \
                 aud of this one, such as audience = [\"chat\"]"
                    .into(),
            );
        }
        if policy.issuer.is_none() {
            self.warn(
                "auth.issuer is empty: any other signer with such a key is taken for the login service; write the iss of its \
                 tokens"
                    .into(),
            );
        }
    }

    fn short_key(&mut self, path: &str, key: Option<&Secret>) {
        let Some(size) = key.map(|key| key.as_bytes().len()).filter(|size| *size < KEY_SIZE_LEAST) else {
            return;
        };
        let bytes = if size == 1 { "byte" } else { "bytes" };
        self.warn(format!(
            "{path} has {size} {bytes} and can be guessed: at least {KEY_SIZE_LEAST} random ones, such as of `openssl rand -hex 32`"
        ));
    }

    /// Settings that another one makes idle.
    fn without_effect(&mut self, checks_tokens: bool) {
        let is = |path: &str, value: &str| self.values.text(path) == value;
        let without_journal = !self.values.flag("journal.enabled");
        let idle: [(&str, bool, &str); 10] = [
            ("io.threads", is("io.backend", "epoll"), "io.backend = \"epoll\": each worker is a thread"),
            ("io.idle_demote_ms", is("io.backend", "epoll"), "io.backend = \"epoll\""),
            (
                "session.devices_per_user_max",
                is("session.device_policy", "per-platform"),
                "session.device_policy = \"per-platform\"",
            ),
            (
                "application.room_send",
                !self.values.flag("application.client_send"),
                "application.client_send = false",
            ),
            ("journal.directory", without_journal, "journal.enabled = false"),
            ("journal.size_max_bytes", without_journal, "journal.enabled = false"),
            ("journal.files_max", without_journal, "journal.enabled = false"),
            ("auth.audience", !checks_tokens, "auth.mode = \"none\""),
            ("auth.issuer", !checks_tokens, "auth.mode = \"none\""),
            ("auth.algorithms", !checks_tokens, "auth.mode = \"none\""),
        ];
        // With a mode that was refused, nothing is known of what it would have checked.
        let none = is("auth.mode", "none");
        let idle: Vec<String> = idle
            .iter()
            .filter(|(path, idle, _)| {
                *idle && self.is_changed(path, path) && (none || !path.starts_with("auth."))
            })
            .map(|(path, _, why)| format!("{path} does nothing with {why}"))
            .collect();
        self.warnings.extend(idle);
    }

    /// Whether something else than the default was written.
    fn is_changed(&self, path: &str, key: &str) -> bool {
        let known = schema::KEYS.iter().chain(schema::LISTENER_KEYS).find(|one| one.path == key);
        known.is_some_and(|known| known.kind.parse(known.default).ok() != Some(self.values.get(path)))
    }
}
