//! Notifications of the service's state to systemd (sd_notify(3)): datagrams to the socket that
//! `NOTIFY_SOCKET` names.
//!
//! ```text
//!   READY=1        all ports are open              RELOADING=1    a reload begins; READY=1 ends it
//!   STOPPING=1     the drain begins                WATCHDOG=1     every worker turns
//!   EXTEND_TIMEOUT_USEC   a port is waited for, so the start takes longer than the unit says
//! ```
//!
//! Without the variable nothing is sent. A datagram that finds the socket full or gone is dropped:
//! the service goes on whether it is watched or not.

use rustix::time::{ClockId, clock_gettime};
use std::env;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// One wake-up per interval; systemd.service(5) advises half of the watchdog's time.
const WATCHDOG_SHARE: u32 = 2;

/// Shortest interval, however short the watchdog's time is: the control thread has other work.
const INTERVAL_MIN: Duration = Duration::from_millis(10);

/// The way to the service manager, if there is one.
#[derive(Debug, Default)]
pub struct Notifier {
    manager: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
}

impl Notifier {
    /// The one that the environment names.
    pub fn from_environment() -> Notifier {
        let socket = env::var("NOTIFY_SOCKET").ok();
        let number = |name: &str| env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
        let own = |pid: u64| pid == u64::from(std::process::id());
        // sd_watchdog_enabled(3): without WATCHDOG_PID it is meant for any process that reads it.
        let watched = number("WATCHDOG_USEC").filter(|_| number("WATCHDOG_PID").is_none_or(own));
        let notifier = Notifier::new(socket.as_deref(), watched);
        if let Some(name) = env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty())
            && notifier.manager.is_none()
        {
            tracing::warn!(
                "NOTIFY_SOCKET = {name:?} is no socket for notifications: an absolute path, or @ and a name; the service manager receives none, and with Type=notify fails the start"
            );
        }
        notifier
    }

    fn new(socket: Option<&str>, watchdog_us: Option<u64>) -> Notifier {
        let address = socket.and_then(|name| match name.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name).ok().filter(|_| !name.is_empty()),
            None => SocketAddr::from_pathname(name).ok().filter(|_| name.starts_with('/')),
        });
        let manager = address.and_then(|address| {
            let socket = UnixDatagram::unbound().ok()?;
            socket.set_nonblocking(true).ok()?;
            Some((socket, address))
        });
        let watchdog = watchdog_us.filter(|us| *us > 0 && manager.is_some()).map(Duration::from_micros);
        Notifier { manager, watchdog }
    }

    /// All ports are open, or a reload is over; `status` is what `systemctl status` shows.
    pub fn ready(&self, status: &str) {
        self.send(&format!("READY=1\nSTATUS={status}"));
    }

    /// A reload begins. The time lets systemd distinguish it from one that it asked for later.
    pub fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let us = now.tv_sec * 1_000_000 + now.tv_nsec / 1000;
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={us}\nSTATUS=reloading"));
    }

    /// The drain begins.
    pub fn stopping(&self, status: &str) {
        self.send(&format!("STOPPING=1\nSTATUS={status}"));
    }

    /// The start takes longer: `timeout` from now on before it counts as failed.
    pub fn extend_start(&self, timeout: Duration, status: &str) {
        self.send(&format!("EXTEND_TIMEOUT_USEC={}\nSTATUS={status}", timeout.as_micros()));
    }

    /// The service is alive and well.
    pub fn alive(&self) {
        if self.watchdog.is_some() {
            self.send("WATCHDOG=1");
        }
    }

    /// Longest time between two calls of [`Notifier::alive`]; `None`: the service is not watched.
    pub fn interval(&self) -> Option<Duration> {
        self.watchdog.map(|timeout| (timeout / WATCHDOG_SHARE).max(INTERVAL_MIN))
    }

    fn send(&self, what: &str) {
        if let Some((socket, address)) = &self.manager {
            let _ = socket.send_to_addr(what.as_bytes(), address); // see above
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_are_what_systemd_reads() {
        let name = format!("gateway-notify-test-{}", std::process::id());
        let manager = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        let notifier = Notifier::new(Some(&format!("@{name}")), Some(30_000_000));
        assert_eq!(notifier.interval(), Some(Duration::from_secs(15)));
        let heard = || {
            let mut bytes = [0; 256];
            let size = manager.recv(&mut bytes).unwrap();
            String::from_utf8_lossy(&bytes[..size]).into_owned()
        };
        notifier.ready("serving");
        assert_eq!(heard(), "READY=1\nSTATUS=serving");
        notifier.reloading();
        let said = heard();
        let us = said.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").and_then(|rest| rest.split('\n').next());
        assert!(us.unwrap().parse::<u64>().unwrap() > 0, "{said}");
        notifier.stopping("draining");
        assert_eq!(heard(), "STOPPING=1\nSTATUS=draining");
        notifier.extend_start(Duration::from_secs(2), "waiting");
        assert_eq!(heard(), "EXTEND_TIMEOUT_USEC=2000000\nSTATUS=waiting");
        notifier.alive();
        assert_eq!(heard(), "WATCHDOG=1");
    }

    #[test]
    fn odd_values_are_no_manager_and_no_busy_loop() {
        for odd in ["", "@", "relative", "vsock:2:1234", &"/x".repeat(200)] {
            let heard = Notifier::new(Some(odd), Some(1)).manager.is_some();
            assert!(!heard, "{odd}");
        }
        let name = format!("@gateway-notify-odd-{}", std::process::id());
        assert_eq!(Notifier::new(Some(&name), Some(1)).interval(), Some(Duration::from_millis(10)));
    }

    #[test]
    fn without_a_manager_nothing_is_sent_and_nothing_fails() {
        for notifier in [Notifier::default(), Notifier::new(Some("/nonexistent/notify"), None)] {
            notifier.ready("serving");
            notifier.alive();
            assert_eq!(notifier.interval(), None);
        }
    }
}
