use super::fake::{Behaviour, Gateway};
use gateway_control::Command;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process;
use std::time::{Duration, Instant};

#[test]
fn a_drain_fails_readiness_first_then_waits_then_stops() {
    let gateway = Gateway::start("[drain]\ndrain_ms = 600000\n");
    let start = Instant::now();
    gateway.command(Command::Terminate);
    gateway.until(|gateway| gateway.saw("drain 450000") == 2);
    let ready = gateway.get("/readyz");
    assert_eq!((ready.status, ready.text.as_str()), (503, "draining: clients are being sent away\n"));
    assert_eq!(gateway.get("/healthz").status, 200, "draining is no reason to be killed");
    let seen = std::sync::Arc::clone(&gateway.seen);
    assert!(gateway.end());
    assert!(
        start.elapsed() < Duration::from_secs(60),
        "ends when the last client is gone, not at the deadline"
    );
    let words: Vec<String> = seen.lock().unwrap().iter().map(|(_, word)| word.clone()).collect();
    assert_eq!(words, ["drain 450000", "drain 450000", "stop", "stop"]);
}

#[test]
fn clients_that_stay_are_not_waited_for_longer_than_configured() {
    let gateway =
        Gateway::start_with("[drain]\ndrain_ms = 300\n", Behaviour { stays: true, ..Behaviour::default() });
    let start = Instant::now();
    assert!(gateway.end());
    assert!((Duration::from_millis(300)..Duration::from_secs(60)).contains(&start.elapsed()));
}

#[test]
fn a_second_order_does_not_wait_for_clients() {
    let gateway = Gateway::start_with(
        "[drain]\ndrain_ms = 600000\n",
        Behaviour { stays: true, ..Behaviour::default() },
    );
    let start = Instant::now();
    gateway.command(Command::Terminate);
    assert!(gateway.end());
    assert!(start.elapsed() < Duration::from_secs(60));
}

#[test]
fn a_worker_that_dies_ends_the_process_and_not_cleanly() {
    let mut gateway =
        Gateway::start_with("[drain]\ndrain_ms = 100\n", Behaviour { dies: true, ..Behaviour::default() });
    gateway.post("/goim/push/all?operation=1000", b"x");
    assert!(!gateway.running.take().unwrap().join().unwrap());
}

#[test]
fn a_reload_applies_what_it_may_and_leaves_the_rest() {
    let gateway = Gateway::start("api_key = \"one\"\n");
    assert_eq!(gateway.call("GET", "/api/v1/stats", &[("x-api-key", "one")], b"").status, 200);
    gateway.reload("api_key = \"two\"\nrequests_max = 7\n[session]\nidle_timeout_ms = 300000\n[log]\nlevel = \"debug\"\n");
    gateway.until(|gateway| gateway.saw("reload 300") == 2);
    gateway.until(|gateway| gateway.call("GET", "/api/v1/stats", &[("x-api-key", "two")], b"").status == 200);
    assert_eq!(gateway.call("GET", "/api/v1/stats", &[("x-api-key", "one")], b"").status, 403);
    assert_eq!(gateway.log_levels.lock().unwrap().as_slice(), ["DEBUG"]);
    let text = gateway.get("/metrics").text;
    assert!(text.contains("gateway_config_reloads_total{result=\"applied\"} 1"));

    gateway.reload("api_key = \"three\"\n[session]\nidle_timeout = 1\n");
    gateway.until(|gateway| gateway.get("/metrics").text.contains("\ngateway_config_reload_success 0\n"));
    assert_eq!(gateway.call("GET", "/api/v1/stats", &[("x-api-key", "two")], b"").status, 200);
    assert_eq!(gateway.saw("reload 300"), 2, "a bad file changes nothing");

    gateway.reload("api_key = \"two\"\n[session]\nidle_timeout_ms = 540000\n");
    gateway.until(|gateway| gateway.saw("reload 540") == 2);
    assert!(gateway.get("/metrics").text.contains("\ngateway_config_reload_success 1\n"));
}

#[test]
fn a_reload_does_not_open_what_was_closed() {
    let closed = "api_key = \"one\"\ngoim_api_key = \"two\"\n[application]\nclient_send = false\nroom_access = [\"private://* = closed\", \"* = open\"]\n[session]\ndevices_per_user_max = 2\n";
    let gateway = Gateway::start(closed);
    let refused = std::cell::Cell::new(0);
    let still_closed = || {
        refused.set(refused.get() + 1);
        let expected = format!("gateway_config_reloads_total{{result=\"refused\"}} {}\n", refused.get());
        gateway.until(|gateway| gateway.get("/metrics").text.contains(&expected));
        assert_eq!(gateway.get("/api/v1/stats").status, 401);
        assert_eq!(gateway.post("/goim/push/all?operation=1000", b"x").status, 401);
    };
    // As a file is while it is written, which is no problem for a start on loopback.
    gateway.reload_whole("");
    still_closed();
    gateway.reload_whole("[control]\naddress = \"127.0.0.1:0\"\n");
    still_closed();
    for left_out in [
        "api_key = \"one\"\n",
        "goim_api_key = \"two\"\n",
        "client_send = false\n",
        "room_access = [\"private://* = closed\", \"* = open\"]\n",
        "devices_per_user_max = 2\n",
    ] {
        gateway.reload(&closed.replace(left_out, ""));
        still_closed();
    }
    gateway.reload(&closed.replace("\"one\"", "\"\""));
    still_closed();
    // Another key, and what is written down, are what was asked for.
    gateway.reload("api_key = \"three\"\ngoim_api_key = \"two\"\n[application]\nclient_send = true\nroom_access = [\"* = open\"]\n[session]\ndevices_per_user_max = 0\n");
    gateway
        .until(|gateway| gateway.call("GET", "/api/v1/stats", &[("x-api-key", "three")], b"").status == 200);
    assert!(gateway.get("/metrics").text.contains("gateway_config_reloads_total{result=\"applied\"} 1\n"));
}

/// A folder of its own, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("gateway-{name}-{}", process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn files(&self) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> =
            fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn journal_config(folder: &Path, more: &str) -> String {
    format!("[journal]\nenabled = true\ndirectory = \"{}\"\n{more}", folder.display())
}

fn lines(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'));
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

#[test]
fn the_journal_tells_who_did_what() {
    for plain_files in [false, true] {
        journal_tells(plain_files);
    }
}

fn journal_tells(plain_files: bool) {
    let folder = Folder::new("journal");
    let more = format!("api_key = \"k\"\n{}", journal_config(&folder.0, ""));
    let gateway = Gateway::start_with(&more, Behaviour { plain_files, ..Behaviour::default() });
    gateway.call(
        "POST",
        "/api/v1/kick",
        &[("content-type", "application/json"), ("x-api-key", "k")],
        br#"{"mid":7,"reason":"spam"}"#,
    );
    gateway.call("POST", "/api/v1/kick", &[("x-api-key", "wrong")], b"{}");
    assert!(gateway.end());
    let lines = lines(&folder.files()[0]);
    let find =
        |event: &str| lines.iter().find(|line| line["event"] == event).unwrap_or_else(|| panic!("{event}"));
    assert_eq!(find("kick")["target"]["mid"], 7);
    assert_eq!((&find("kick")["reason"], &find("kick")["outcome"]), (&json!("spam"), &json!("1")));
    assert!(find("admin_call")["caller"].as_str().unwrap().starts_with("127.0.0.1:"));
    assert_eq!(find("admin_call")["status"], 200);
    assert_eq!(find("admin_refused")["code"], "forbidden");
    assert_eq!((&find("kicked")["code"], &find("kicked")["mid"]), (&json!(3503), &json!("7")));
    let order: Vec<&str> = lines.iter().map(|line| line["event"].as_str().unwrap()).collect();
    assert_eq!((order.first(), order.last()), (Some(&"ready"), Some(&"stopped")));
    assert_eq!(find("ready")["io_uring"], !plain_files);
    assert!(lines.iter().all(|line| line["time"].as_str().unwrap().ends_with('Z')));
}

#[test]
fn refused_calls_do_not_fill_the_journal() {
    let folder = Folder::new("flood");
    let gateway = Gateway::start(&format!("api_key = \"k\"\n{}", journal_config(&folder.0, "")));
    let path = format!("/api/v1/rooms/{}", "A".repeat(15_000));
    for _ in 0..300 {
        assert_eq!(gateway.get(&path).status, 401);
    }
    // The next second has one line for those that were not written.
    std::thread::sleep(Duration::from_millis(2500));
    let key = "x".repeat(15_000);
    let body = json!({ "key": key }).to_string();
    let headers = [("content-type", "application/json"), ("x-api-key", "k")];
    assert_eq!(gateway.call("POST", "/api/v1/kick", &headers, body.as_bytes()).status, 400);
    assert!(gateway.end());
    let lines = lines(&folder.files()[0]);
    let count = |event: &str| lines.iter().filter(|line| line["event"] == event).count();
    let one_by_one = count("admin_refused");
    let summed: u64 = lines
        .iter()
        .filter(|line| line["event"] == "admin_refused_more")
        .map(|line| line["count"].as_u64().unwrap())
        .sum();
    assert_eq!(one_by_one as u64 + summed, 300, "each is accounted for");
    assert!(lines.iter().all(|line| line.to_string().len() < 1000));
    let refused = lines.iter().find(|line| line["event"] == "admin_refused").unwrap();
    assert_eq!(refused["path"].as_str().unwrap().len(), 200);
    assert_eq!(
        lines.iter().find(|line| line["event"] == "kick").unwrap()["target"]["key"].as_str().unwrap().len(),
        200
    );
}

#[test]
fn the_journal_begins_new_files_and_removes_the_oldest() {
    let folder = Folder::new("rotation");
    fs::write(folder.0.join("audit-00000007.jsonl"), "{\"event\":\"old\"}\n{\"torn").unwrap();
    fs::write(folder.0.join("notes.txt"), "not ours").unwrap();
    let gateway = Gateway::start(&journal_config(&folder.0, "size_max_bytes = 4096\nfiles_max = 3\n"));
    for _ in 0..200 {
        gateway.post("/api/v1/kick", br#"{"mid":8}"#);
    }
    assert!(gateway.end());
    let names: Vec<String> =
        folder.files().iter().map(|file| file.file_name().unwrap().to_string_lossy().into_owned()).collect();
    assert_eq!(names.iter().filter(|name| name.starts_with("audit-")).count(), 3, "{names:?}");
    assert!(names.contains(&"notes.txt".into()));
    for file in folder.files().iter().filter(|file| file.extension().is_some_and(|kind| kind == "jsonl")) {
        assert!(fs::metadata(file).unwrap().len() <= 4096);
        lines(file);
    }
}

#[test]
fn a_torn_last_line_is_cut_off() {
    let folder = Folder::new("torn");
    let file = folder.0.join("audit-00000007.jsonl");
    fs::write(&file, "{\"event\":\"old\"}\n{\"torn").unwrap();
    assert!(Gateway::start(&journal_config(&folder.0, "")).end());
    let lines = lines(&file);
    assert_eq!((&lines[0]["event"], &lines[1]["event"]), (&json!("old"), &json!("ready")));
}

#[test]
fn a_full_disk_costs_lines_and_nothing_else() {
    let folder = Folder::new("full");
    let mounted = process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"])
        .arg(&folder.0)
        .output()
        .is_ok_and(|output| output.status.success());
    if !mounted {
        eprintln!("skipped: a small tmpfs can't be mounted here (needs root)");
        return;
    }
    let gateway = Gateway::start(&journal_config(&folder.0, ""));
    gateway.until(|gateway| {
        (0..50).for_each(|_| assert_eq!(gateway.post("/api/v1/kick", br#"{"mid":8}"#).status, 404));
        !gateway.get("/metrics").text.contains("\ngateway_journal_dropped_lines_total 0\n")
    });
    assert_eq!(gateway.get("/healthz").status, 200);
    let clean = gateway.end();
    let files = folder.files();
    let whole = fs::read_to_string(&files[0]).unwrap();
    let _ = process::Command::new("umount").arg(&folder.0).status();
    assert!(clean && whole.len() > 30_000);
}
