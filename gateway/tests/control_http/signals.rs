//! Signals need a process of their own: this test program, called again with one test that only it
//! asks for.

use super::fake::{Behaviour, Gateway};
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

#[test]
#[ignore = "is run by the tests below, in a process of its own"]
fn child() {
    let stays = std::env::var_os("GATEWAY_TEST_STAYS").is_some();
    let clean = Gateway::obey_signals(Behaviour { stays, ..Behaviour::default() });
    std::process::exit(if clean { 0 } else { 1 });
}

struct Program {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Program {
    fn start(stays: bool) -> Program {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "signals::child", "--ignored", "--nocapture"]).stdout(Stdio::piped());
        if stays {
            command.env("GATEWAY_TEST_STAYS", "1");
        }
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut program = Program { child, lines };
        let address = program.line("address ");
        let url = format!("http://{address}/readyz");
        let start = Instant::now();
        while !ureq::get(&url).call().is_ok_and(|answer| answer.status() == 200) {
            assert!(start.elapsed() < Duration::from_secs(60));
            std::thread::sleep(Duration::from_millis(10));
        }
        program
    }

    fn line(&mut self, prefix: &str) -> String {
        let found = self
            .lines
            .by_ref()
            .map(Result::unwrap)
            .find_map(|line| line.find(prefix).map(|at| line[at + prefix.len()..].to_owned()));
        found.unwrap_or_else(|| panic!("no line {prefix:?}"))
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    fn code(mut self) -> Option<i32> {
        let start = Instant::now();
        loop {
            match self.child.try_wait().unwrap() {
                Some(status) => return status.code(),
                None if start.elapsed() > Duration::from_secs(60) => {
                    self.child.kill().unwrap();
                    panic!("does not end");
                }
                None => std::thread::sleep(Duration::from_millis(10)),
            }
        }
    }
}

#[test]
fn one_signal_drains_and_ends_with_0() {
    for signal in ["-TERM", "-INT"] {
        let program = Program::start(false);
        program.signal(signal);
        assert_eq!(program.code(), Some(0), "{signal}");
    }
}

#[test]
fn a_second_signal_ends_at_once_with_its_number() {
    for (signal, code) in [("-TERM", 143), ("-INT", 130)] {
        let program = Program::start(true);
        program.signal("-TERM");
        std::thread::sleep(Duration::from_millis(300));
        program.signal(signal);
        assert_eq!(program.code(), Some(code), "{signal}");
    }
}

#[test]
fn a_hangup_reloads() {
    let mut program = Program::start(false);
    program.signal("-HUP");
    program.line("reloads");
    assert_eq!(program.line("level "), "DEBUG");
    program.signal("-TERM");
    assert_eq!(program.code(), Some(0));
}

#[test]
fn signals_without_a_meaning_are_ignored() {
    let mut program = Program::start(false);
    for signal in ["-USR1", "-USR2"] {
        program.signal(signal);
    }
    program.signal("-HUP");
    program.line("reloads");
    program.signal("-TERM");
    assert_eq!(program.code(), Some(0), "drained, not ended by a signal");
}
