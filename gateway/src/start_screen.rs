//! The start screen: what runs, with what, where, and what is dubious about it.

use crate::start::Prepared;
use gateway_config::{MemoryEntry, bytes_text};
use gateway_core::listener::{Application, Framing};
use std::fmt::Write as _;
use std::net::SocketAddr;

/// ANSI colors, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paint {
    /// Whether escape sequences are written.
    pub colours: bool,
}

impl Paint {
    fn wrap(self, code: &str, text: &str) -> String {
        if self.colours { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn title(self, text: &str) -> String {
        self.wrap("1", text)
    }

    fn faint(self, text: &str) -> String {
        self.wrap("2", text)
    }

    fn loud(self, text: &str) -> String {
        self.wrap("1;33", text)
    }
}

struct Screen {
    paint: Paint,
    text: String,
}

impl Screen {
    /// A line `label   value`; without a label, the value goes under the one before.
    fn line(&mut self, label: &str, value: &str) {
        let label = format!("  {label:<12}");
        let _ = writeln!(self.text, "{}{value}", self.paint.faint(&label));
    }

    fn lines(&mut self, label: &str, values: impl IntoIterator<Item = String>) {
        for (index, value) in values.into_iter().enumerate() {
            self.line(if index == 0 { label } else { "" }, &value);
        }
    }
}

/// The screen. `addresses` are those that the listeners got, and `control` the control port's.
pub fn render(prepared: &Prepared, addresses: &[SocketAddr], control: SocketAddr, paint: Paint) -> String {
    let Prepared { config, plan, system } = prepared;
    let mut screen = Screen { paint, text: String::new() };
    let _ = writeln!(screen.text, "\n{}", paint.title(&format!("gateway {}", crate::cli::version::SHORT)));
    screen.line("config", config.source.file.as_deref().unwrap_or("none: defaults, environment and flags"));
    screen.line("backend", &format!("{} ({})", plan.backend.label(), plan.backend_reason));
    let cores = if system.cores == 1 { "core" } else { "cores" };
    let quota = system.cpu_quota.as_ref().map_or(String::new(), |quota| format!(": {quota}"));
    screen.line("system", &format!("Linux {}, {} {cores}{quota}", system.kernel, system.cores));
    screen.line("capacity", &plan.room_text());
    memory(&mut screen, prepared);
    listeners(&mut screen, prepared, addresses);
    screen.line("control", &format!("http://{control}/  push, admin, /metrics, /healthz, /readyz"));
    screen.line("auth", &auth(prepared, paint));
    if let Some(journal) = &config.journal {
        screen.line("journal", &journal.directory.display().to_string());
    }
    // The line above says this one.
    let warnings = config.source.warnings.iter().filter(|warning| !warning.starts_with("auth.mode"));
    screen.lines("warning", warnings.map(|warning| paint.loud(warning)));
    screen.text.push('\n');
    screen.text
}

/// The sum, then its addends, two a line.
fn memory(screen: &mut Screen, prepared: &Prepared) {
    let memory = &prepared.plan.memory;
    let left =
        prepared.system.memory_left().map(|(bytes, source)| format!(" of {} ({source})", bytes_text(bytes)));
    let total =
        format!("{} reserved{}, used as it is needed", bytes_text(memory.total()), left.unwrap_or_default(),);
    let column = |entry: &MemoryEntry| format!("{:>10}  {:<20}", bytes_text(entry.bytes), entry.owner);
    let pairs = memory
        .entries
        .chunks(2)
        .map(|pair| pair.iter().map(column).collect::<String>().trim_end().to_owned());
    let lines: Vec<String> = std::iter::once(total).chain(pairs).collect();
    screen.lines("memory", lines);
}

fn listeners(screen: &mut Screen, prepared: &Prepared, addresses: &[SocketAddr]) {
    let lines = prepared.config.listeners.iter().enumerate().map(|(index, listener)| {
        let address = addresses.get(index).copied().unwrap_or(listener.socket.address);
        let speaks = match (listener.application, listener.framing) {
            (Application::Goim, Framing::Tcp) => "goim over TCP".to_owned(),
            (Application::Goim, Framing::WebSocket) if listener.demo_page => {
                format!("goim over WebSocket on {}, demo page on /", listener.path)
            }
            (Application::Goim, Framing::WebSocket) => format!("goim over WebSocket on {}", listener.path),
            (Application::Echo, _) => format!("WebSocket echo on {}", listener.path),
        };
        format!("{:<21} {:<10} {speaks}", address.to_string(), listener.name)
    });
    let lines: Vec<String> = lines.collect();
    screen.lines("listen", lines);
}

fn auth(prepared: &Prepared, paint: Paint) -> String {
    match &prepared.config.auth {
        None => {
            paint.loud("NONE: clients are not authenticated. For development only; set auth.mode = \"jwt\"")
        }
        Some(policy) => {
            // The one that is not empty: where a value comes from says nothing, an empty one may be
            // written down too.
            let path = ["auth.jwks_file", "auth.key_file", "auth.secret"]
                .into_iter()
                .find(|path| !prepared.config.source.values.text(path).is_empty());
            let services = policy.service_scope.as_ref();
            format!(
                "JSON Web Tokens, {} from {}{}",
                policy.keys.algorithms().join(", "),
                path.unwrap_or("auth"),
                services.map_or(String::new(), |scope| format!("; services by scope {scope}"))
            )
        }
    }
}
