//! The program, as an operator starts it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// On free ports of this machine.
const PORTS: [&str; 3] = [
    "listener.tcp.address=127.0.0.1:0",
    "listener.websocket.address=127.0.0.1:0",
    "control.address=127.0.0.1:0",
];

pub fn gateway(order: &str, sets: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gateway"));
    command.arg(order).env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    PORTS.iter().chain(&["limits.connections_max=100"]).chain(sets).for_each(|set| {
        command.args(["--set", set]);
    });
    command
}

/// What `gateway check` says on stderr; it must succeed.
pub fn check(sets: &[&str]) -> String {
    let output = gateway("check", sets).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    said
}

/// What `gateway check` says on stderr where a start would fail.
#[allow(dead_code)] // each test program uses its part
pub fn refused(sets: &[&str]) -> String {
    let output = gateway("check", sets).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    said
}

/// A folder of its own, removed at the end.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("gateway-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A running gateway, killed at the end.
pub struct Running {
    pub child: Child,
    /// What it said up to the line that says what it serves.
    pub said: String,
    pub serving: String,
    /// Its stderr, where that is not read any more.
    unread: Option<Box<dyn std::any::Any>>,
}

impl Running {
    pub fn start(sets: &[&str]) -> Running {
        Running::of(&mut gateway("run", sets))
    }

    /// By an order of the caller's, whose stderr is its own.
    pub fn of(order: &mut Command) -> Running {
        let mut child = order.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut running = Running { child, said: String::new(), serving: String::new(), unread: None };
        while let Some(Ok(line)) = lines.next() {
            if line.contains("serving ") {
                running.serving = line;
                // Whatever comes later must not fill the pipe.
                std::thread::spawn(move || lines.for_each(drop));
                return running;
            }
            running.said += &format!("{line}\n");
        }
        panic!("it never served:\n{}", running.said);
    }

    /// As [`Running::of`]; behind that line its stderr is held open, and not read.
    pub fn unread(order: &mut Command) -> Running {
        let mut child = order.spawn().unwrap();
        let mut lines = BufReader::with_capacity(1, child.stderr.take().unwrap()).lines();
        let mut running = Running { child, said: String::new(), serving: String::new(), unread: None };
        while let Some(Ok(line)) = lines.next() {
            if line.contains("serving ") {
                running.serving = line;
                running.unread = Some(Box::new(lines));
                return running;
            }
            running.said += &format!("{line}\n");
        }
        panic!("it never served:\n{}", running.said);
    }

    /// The address behind `what` in the line.
    pub fn address(&self, what: &str) -> String {
        let rest = self.serving.split_once(what).unwrap_or_else(|| panic!("{what} in {}", self.serving)).1;
        rest.chars().take_while(|one| one.is_ascii_digit() || matches!(one, '.' | ':')).collect()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
