//! The audit journal's folder beside other gateways, and under the hands of others.

mod common;

use common::program::{Folder, Running, gateway, refused};
use serde_json::Value;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// Bounds a hang, not a time.
const PATIENCE: Duration = Duration::from_secs(60);

fn sets(folder: &Folder) -> [String; 2] {
    ["journal.enabled=true".into(), format!("journal.directory={}", folder.0.display())]
}

fn start(folder: &Folder, more: &[&str]) -> Running {
    let sets = sets(folder);
    let all: Vec<&str> = sets.iter().map(String::as_str).chain(more.iter().copied()).collect();
    Running::start(&all)
}

fn file(folder: &Folder, number: u64) -> std::path::PathBuf {
    folder.0.join(format!("audit-{number:08}.jsonl"))
}

/// The records of a file, once they are `enough`; each line must be one.
fn records(path: &Path, enough: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let since = Instant::now();
    loop {
        let text = fs::read_to_string(path).unwrap_or_default();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let read: Result<Vec<Value>, _> = whole.lines().map(serde_json::from_str).collect();
        let records = read.unwrap_or_else(|error| panic!("{error} in {}: {text:?}", path.display()));
        if enough(&records) {
            return records;
        }
        assert!(since.elapsed() < PATIENCE, "{}: {text}", path.display());
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn has(event: &'static str) -> impl Fn(&[Value]) -> bool {
    move |records| records.iter().any(|record| record["event"] == event)
}

fn terminate(child: &Child) {
    assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
}

fn metric(running: &Running, name: &str) -> f64 {
    let mut stream = TcpStream::connect(running.address("control=")).unwrap();
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let line = answer.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name}")).trim().parse().unwrap()
}

#[test]
fn a_second_gateway_in_a_folder_is_refused_with_the_first_ones_number() {
    let folder = Folder::new("journal-twice");
    let mut first = start(&folder, &[]);
    let sets = sets(&folder);
    let sets = sets.each_ref().map(String::as_str);
    let expected = format!(
        "journal.directory = \"{}\" is written by process {} (gateway)",
        folder.0.display(),
        first.child.id()
    );
    let said = refused(&sets);
    assert!(said.contains(&expected), "{said}");
    let second = gateway("run", &sets).output().unwrap();
    let said = String::from_utf8(second.stderr).unwrap();
    assert_eq!(second.status.code(), Some(1), "{said}");
    assert!(said.contains(&expected), "{said}");
    // The kernel gives the lock of a killed one back.
    first.child.kill().unwrap();
    first.child.wait().unwrap();
    let third = start(&folder, &[]);
    let all = records(&file(&folder, 1), |records| records.len() == 2);
    assert!(all.iter().all(|record| record["event"] == "ready"), "{all:?}");
    drop(third);
}

/// A client that has logged in.
fn login(address: &str) -> TcpStream {
    let mut client = TcpStream::connect(address).unwrap();
    let body = br#"{"mid":7}"#;
    let mut frame = (16 + body.len() as u32).to_be_bytes().to_vec();
    frame.extend([0, 16, 0, 1, 0, 0, 0, 7, 0, 0, 0, 1]);
    frame.extend(body);
    client.write_all(&frame).unwrap();
    client.read_exact(&mut [0; 16]).unwrap();
    client
}

#[test]
fn a_successor_has_the_folder_while_its_predecessor_drains_into_its_own_file() {
    for backend in ["auto", "epoll"] {
        let folder = Folder::new(&format!("journal-successor-{backend}"));
        let backend = format!("io.backend={backend}");
        let mut old = start(&folder, &[&backend, "drain.drain_ms=1200000"]);
        // One after another they are sent away, the last of so many minutes later.
        let clients: Vec<TcpStream> = (0..50).map(|_| login(&old.address("tcp on "))).collect();
        terminate(&old.child);
        records(&file(&folder, 1), has("draining"));
        let new = start(&folder, &[&backend]);
        records(&file(&folder, 2), has("ready"));
        drop(clients);
        assert!(old.child.wait().unwrap().success());
        let all = records(&file(&folder, 1), has("stopped"));
        let count = |event: &str| all.iter().filter(|record| record["event"] == event).count();
        assert_eq!((count("connected"), count("ready"), count("stopped")), (50, 1, 1));
        assert_eq!(records(&file(&folder, 2), |_| true).len(), 1);
        drop(new);
    }
}

#[test]
fn what_is_done_to_a_file_while_it_is_written_is_said_counted_and_recorded() {
    for backend in ["auto", "epoll"] {
        let folder = Folder::new(&format!("journal-hands-{backend}"));
        let running = start(&folder, &[&format!("io.backend={backend}")]);
        let damaged = |number: u64, what: &str| {
            let all = records(&file(&folder, number), has("journal_damaged"));
            let found = all.iter().find(|record| record["event"] == "journal_damaged").unwrap();
            assert_eq!(found["file"], format!("audit-{:08}.jsonl", number - 1));
            assert!(found["what"].as_str().unwrap().contains(what), "{found}");
        };
        records(&file(&folder, 1), has("ready"));
        fs::remove_file(file(&folder, 1)).unwrap();
        damaged(2, "removed");
        fs::OpenOptions::new().write(true).open(file(&folder, 2)).unwrap().set_len(5).unwrap();
        damaged(3, "cut short");
        assert_eq!(fs::metadata(file(&folder, 2)).unwrap().len(), 5, "what is left stays");
        fs::OpenOptions::new().append(true).open(file(&folder, 3)).unwrap().write_all(b"note\n").unwrap();
        damaged(4, "something else writes");
        assert!(fs::read_to_string(file(&folder, 3)).unwrap().ends_with("note\n"));
        fs::remove_dir_all(&folder.0).unwrap();
        damaged(5, "removed");
        assert_eq!(metric(&running, "gateway_journal_damages_total"), 4.0);
        // The lock went with the folder, and is there again.
        let since = Instant::now();
        while !folder.0.join("audit.lock").exists() {
            assert!(since.elapsed() < PATIENCE);
            std::thread::sleep(Duration::from_millis(20));
        }
        let sets = sets(&folder);
        assert!(refused(&sets.each_ref().map(String::as_str)).contains("is written by process"));
    }
}

#[test]
fn damage_from_before_the_start_is_recorded_in_a_new_file() {
    let folder = Folder::new("journal-hole");
    let text = "{\"event\":\"old\"}\n\0\0\0\0\0\0\0\0{\"event\":\"old\"}\n";
    fs::write(file(&folder, 1), text).unwrap();
    let running = start(&folder, &[]);
    let all = records(&file(&folder, 2), has("ready"));
    assert_eq!((&all[0]["event"], &all[0]["lines"]), (&"journal_damaged".into(), &1.into()));
    assert_eq!(fs::read_to_string(file(&folder, 1)).unwrap(), text, "it stays as it is");
    assert_eq!(metric(&running, "gateway_journal_damages_total"), 1.0);
}

#[test]
fn a_start_waits_for_no_fifo() {
    let folder = Folder::new("journal-fifo");
    assert!(Command::new("mkfifo").arg(file(&folder, 1)).status().unwrap().success());
    let sets = sets(&folder);
    let output = gateway("run", &sets.each_ref().map(String::as_str)).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("audit-00000001.jsonl can't be written, for it is no regular file: move it away"),
        "{said}"
    );
}
