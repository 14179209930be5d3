//! The gateway under test: its configuration, its start, its end.

use crate::budget::Budget;
use crate::orders::GatewayBackend;
use loadtest::RunError;
use loadtest::settings::Transport;
use std::fs::{self, DirBuilder};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The address of its control plane.
pub(crate) const CONTROL: &str = "127.0.0.1:23111";
/// How long it may take to become ready, and to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// Receive buffers of a gateway past the kernel: frames that its connections may hold between two
/// turns. 8 MB.
const FRAMES_HELD: u32 = 4096;

/// The address that its clients connect to.
pub(crate) fn clients(backend: GatewayBackend) -> &'static str {
    match backend {
        GatewayBackend::Dpdk => "10.77.0.2:23101",
        _ => "127.0.0.1:23101",
    }
}

/// The folder of its files, removed with it. Its name is fresh, so no other program can have made
/// it before.
fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let name = format!("loadtest-million-{}-{:x}", std::process::id(), since.as_nanos());
        std::env::temp_dir().join(name)
    })
}

/// One end of the link between gateway and generator, where there is no kernel between them.
pub(crate) fn link(role: &str) -> String {
    let socket = folder().join("memif.sock");
    format!("net_memif0,role={role},id=0,socket={},socket-abstract=no", socket.display())
}

/// A gateway's configuration for so many mostly quiet connections: small receive buffers that all
/// connections of a worker share, and connections demoted to the cheaper wait after ten seconds;
/// past the kernel, one queue and plain pages.
pub(crate) fn config(backend: GatewayBackend, transport: Transport, budget: &Budget) -> String {
    let (kind, path) = match transport {
        Transport::Tcp => ("tcp", ""),
        Transport::Ws => ("websocket", "path = \"/sub\"\n"),
    };
    let (workers, connections) = (budget.workers, budget.connections.max(1000));
    let (name, buffers) = (backend.name(), if backend.is_past() { FRAMES_HELD } else { 128 });
    let dpdk = format!(
        "[dpdk]\ndevices = [\"{}\"]\naddresses = [\"10.77.0.2/16\"]\nhuge_pages = false\ndetect_duplicates = false\n\
         idle_sleep_max_us = 50\n\n",
        link("server")
    );
    let dpdk = if backend.is_past() { dpdk } else { String::new() };
    // A delivery past the kernel takes a tenth of the time, so a turn has ten times as many
    // (docs/decisions/0013).
    let slice = if backend.is_past() { "fanout_deliveries_per_turn_max = 256\n" } else { "" };
    let clients = clients(backend);
    let waiting = match backend {
        GatewayBackend::Dpdk => String::new(),
        GatewayBackend::Epoll => "idle_demote_ms = 10000\n".to_owned(),
        GatewayBackend::IoUring => format!("idle_demote_ms = 10000\nthreads = {}\n", threads()),
    };
    format!(
        "[io]\nbackend = \"{name}\"\nworkers = {workers}\npin_workers = false\nscheduling = \"batch\"\n{waiting}\n{dpdk}\
         [limits]\nconnections_max = {connections}\nmailbox_messages_max = 1024\n{slice}\n\
         [rate]\nmessages_per_second_max = 0\nuser_messages_per_second_max = 0\nbytes_per_second_max = 0\n\
         user_bytes_per_second_max = 0\n\n\
         [memory]\nreceive_buffer_size_bytes = 4096\nreceive_buffers_per_worker = {buffers}\nhuge_pages = false\n\n\
         [drain]\ndrain_ms = 2000\n\n\
         [control]\naddress = \"{CONTROL}\"\n\n\
         [[listener]]\nname = \"clients\"\nkind = \"{kind}\"\naddress = \"{clients}\"\n{path}backlog = 4096\n"
    )
}

/// Threads of a gateway that shares the processors with its load: half of them, at least one. Rings
/// beyond that take turns, and fewer threads are woken less often (docs/decisions/0017).
fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, |count| count.get() / 2).max(1)
}

/// A script that waits for a line. When its input ends without one, this program was killed: then
/// it ends the gateway, and removes its folder.
const KEEPER: &str =
    "trap '' INT TERM HUP; read -r word; [ \"$word\" = ended ] && exit; kill -TERM \"$1\"; rm -rf \"$2\"";

/// A running gateway. It is killed when dropped, unless it was stopped; it also ends when this
/// program is killed.
pub(crate) struct Gateway {
    child: Child,
    keeper: Option<Child>,
}

impl Gateway {
    /// Starts `program` with this configuration; returns when it is ready.
    ///
    /// # Errors
    /// Its log, when it does not become ready.
    pub(crate) fn start(program: &str, config: &str, listening: &str) -> Result<Gateway, RunError> {
        let failed = |error: std::io::Error| {
            RunError::new(
                format!("cannot start {program}: {error}"),
                "build it: cargo build --release -p gateway, and name it with --gateway",
            )
        };
        // Without a namespace of one's own another gateway may be there, which must not be taken
        // for this one.
        [CONTROL, listening].into_iter().try_for_each(check_free)?;
        let folder = folder();
        DirBuilder::new().mode(0o700).create(folder).map_err(failed)?;
        let path = folder.join("gateway.toml");
        fs::write(&path, config).map_err(failed)?;
        let log = fs::File::create(folder.join("gateway.log")).map_err(failed)?;
        let errors = log.try_clone().map_err(failed)?;
        let child = Command::new(program)
            .args(["run", "--config"])
            .arg(&path)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            // A terminal's Ctrl-C goes to this program, which then ends the gateway.
            .process_group(0)
            .spawn();
        let child = child.inspect_err(|_| drop(fs::remove_dir_all(folder))).map_err(failed)?;
        let keeper = keeper(child.id(), folder);
        let mut gateway = Gateway { child, keeper };
        let since = Instant::now();
        while since.elapsed() < PATIENCE {
            if let Ok(Some(status)) = gateway.child.try_wait() {
                return Err(gateway.complain(&format!("the gateway ended at its start: {status}")));
            }
            if is_ready() {
                return Ok(gateway);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Err(gateway.complain("the gateway did not become ready"))
    }

    pub(crate) fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    /// Sends SIGTERM; the gateway must end by itself, with exit code 0.
    ///
    /// # Errors
    /// It does not.
    pub(crate) fn stop(mut self) -> Result<(), RunError> {
        if let Some(pid) = rustix::process::Pid::from_raw(self.pid()) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let since = Instant::now();
        while since.elapsed() < PATIENCE {
            match self.child.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => return Err(self.complain(&format!("the gateway ended badly: {status}"))),
                _ => std::thread::sleep(Duration::from_millis(50)),
            }
        }
        Err(self.complain("the gateway did not end within a minute of SIGTERM"))
    }

    fn complain(&self, what: &str) -> RunError {
        let log = fs::read_to_string(folder().join("gateway.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let last = lines[lines.len().saturating_sub(12)..].join("\n  ");
        RunError::new(format!("{what}; its log ends:\n  {last}"), "see above")
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        let _ = fs::remove_dir_all(folder());
        if let Some(keeper) = &mut self.keeper {
            let _ = keeper.stdin.take().map(|mut stdin| stdin.write_all(b"ended\n"));
            let _ = keeper.wait();
        }
    }
}

/// Starts the process that ends `gateway` when this program is killed; `None` without a shell.
fn keeper(gateway: u32, folder: &Path) -> Option<Child> {
    let mut keeper = Command::new("sh");
    keeper.args(["-c", KEEPER, "sh", &gateway.to_string()]).arg(folder);
    keeper.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()
}

/// Checks that an address is free.
///
/// # Errors
/// A socket listens there.
fn check_free(address: &str) -> Result<(), RunError> {
    let address: SocketAddr = address.parse().map_err(|_| RunError::new(address, "no address"))?;
    match TcpStream::connect_timeout(&address, Duration::from_secs(1)) {
        Ok(_) => Err(RunError::new(
            format!("another socket listens on {address} already"),
            format!(
                "end it (ss -ltnp 'sport = :{}'), or run as root: then there is a network namespace of one's own",
                address.port()
            ),
        )),
        Err(_) => Ok(()),
    }
}

fn is_ready() -> bool {
    let ask = || -> Option<String> {
        let mut stream = TcpStream::connect_timeout(&CONTROL.parse().ok()?, Duration::from_secs(1)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(1))).ok()?;
        stream.write_all(b"GET /readyz HTTP/1.0\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    };
    ask().is_some_and(|answer| answer.split(' ').nth(1) == Some("200"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn whoever_listens_already_is_not_taken_for_the_gateway() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        assert!(check_free(&address).unwrap_err().to_string().contains("listens on"));
        drop(listener);
        check_free(&address).unwrap();
    }

    #[test]
    fn the_keeper_ends_the_gateway_when_its_input_ends_and_nothing_was_said() {
        for (said, ended) in [("", true), ("ended\n", false)] {
            let name = format!("loadtest-keeper-{}-{}", std::process::id(), said.len());
            let folder = std::env::temp_dir().join(name);
            fs::create_dir_all(&folder).unwrap();
            let mut stands_for_it = Command::new("sleep").arg("60").spawn().unwrap();
            let mut keeper = keeper(stands_for_it.id(), &folder).unwrap();
            keeper.stdin.take().unwrap().write_all(said.as_bytes()).unwrap();
            keeper.wait().unwrap();
            assert_eq!(folder.exists(), !ended);
            if !ended {
                assert!(stands_for_it.try_wait().unwrap().is_none());
                stands_for_it.kill().unwrap();
                fs::remove_dir(&folder).unwrap();
            }
            assert!(!stands_for_it.wait().unwrap().success());
        }
    }
}
