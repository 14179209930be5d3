//! The commands of somebody's first hour, as they are typed: `init`, `token`, `run`, `tail`,
//! `push`, `health`, and what the program says of itself.

mod common;

use common::program::{Folder, Running};
use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

const GATEWAY: &str = env!("CARGO_BIN_EXE_gateway");

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(GATEWAY);
    command.args(arguments).env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn output(arguments: &[&str]) -> Output {
    command(arguments).output().unwrap()
}

/// What it prints on the standard output; it must succeed.
fn printed(arguments: &[&str]) -> String {
    let output = output(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What it says on stderr, and its exit code.
fn said(arguments: &[&str]) -> (String, i32) {
    let output = output(arguments);
    (String::from_utf8(output.stderr).unwrap(), output.status.code().unwrap())
}

/// A folder that `gateway init` has filled, and its configuration.
fn initialized(folder: &Folder, profile: &str) -> (String, String) {
    let path = folder.0.join(profile).display().to_string();
    let next = printed(&["init", &path, "--profile", profile]);
    assert!(next.contains("gateway run --config"), "{next}");
    let config = format!("{path}/gateway.toml");
    (path, config)
}

#[test]
fn init_writes_what_a_start_needs_for_its_owner_alone_and_overwrites_nothing() {
    let folder = Folder::new("init");
    for profile in ["local", "epoll", "edge-io_uring"] {
        let (path, config) = initialized(&folder, profile);
        let names: BTreeSet<String> = fs::read_dir(&path)
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let name = entry.file_name().into_string().unwrap();
                assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{name}");
                name
            })
            .collect();
        assert_eq!(
            names,
            ["api_key", "gateway.toml", "private.pem", "public.pem", "token"].map(String::from).into()
        );
        let (warnings, code) = said(&["check", "--offline", "--config", &config]);
        assert_eq!(code, 0, "{warnings}");
        assert!(!warnings.contains("audience") && !warnings.contains("guessed"), "{warnings}");
        let effective = printed(&["config", "--config", &config]);
        for part in [format!("\"{path}/public.pem\""), format!("\"{path}/api_key\""), "mode = \"jwt\"".into()]
        {
            assert!(effective.contains(&part), "{part}\n{effective}");
        }
        assert!(!effective.contains("/etc/gateway") && !effective.contains("/run/secrets"), "{effective}");
        // What it signs is what this configuration takes; `token` refuses to print any other.
        assert_eq!(printed(&["token", "--config", &config, "--uid", "alice"]).split('.').count(), 3);
        let before = fs::read(Path::new(&path).join("api_key")).unwrap();
        let (again, code) = said(&["init", &path]);
        assert!(code == 2 && again.contains("nothing is overwritten"), "{again}");
        assert_eq!(fs::read(Path::new(&path).join("api_key")).unwrap(), before);
    }
}

#[test]
fn tokens_have_the_claims_that_were_asked_for_and_fit_the_configuration() {
    let folder = Folder::new("token");
    let (path, config) = initialized(&folder, "local");
    let order = [
        "token",
        "--config",
        &config,
        "--mid",
        "42",
        "--expires",
        "2h",
        "--scope",
        "gateway:send",
        "--scope",
        "x",
    ];
    let token =
        printed(&[&order[..], &["--room", "live://1", "--claim", "level=3", "--claim", "name=Al"]].concat());
    let claims = token.trim().split('.').nth(1).unwrap();
    let claims = base64_url(claims);
    let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
    assert_eq!(claims["sub"], 42);
    assert_eq!(claims["aud"], "chat");
    assert_eq!(claims["iss"], "gateway-init");
    assert_eq!(claims["scope"], "gateway:send x");
    assert_eq!(claims["rooms"], serde_json::json!(["live://1"]));
    assert_eq!((&claims["level"], &claims["name"]), (&3.into(), &"Al".into()));
    assert_eq!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(), 7200);
    // Where the configuration reads them.
    let claim = ["--set", "auth.rooms_claim=https://example.org/rooms", "--room", "team://7/*"];
    let token = printed(&[&order[..], &claim].concat());
    let claims: serde_json::Value =
        serde_json::from_slice(&base64_url(token.trim().split('.').nth(1).unwrap())).unwrap();
    assert_eq!(claims["https://example.org/rooms"], serde_json::json!(["team://7/*"]));
    assert!(claims["rooms"].is_null());
    // Another key than the one that is checked with.
    let (other, _) = initialized(&folder, "epoll");
    let (refused, code) =
        said(&["token", "--config", &config, "--mid", "1", "--key", &format!("{other}/private.pem")]);
    assert!(code == 1 && refused.contains("would refuse it (signature)"), "{refused}");
    let (refused, code) =
        said(&["token", "--config", &config, "--mid", "1", "--key", &format!("{path}/public.pem")]);
    assert!(code == 2 && refused.contains("openssl pkcs8 -topk8"), "{refused}");
    let (refused, code) = said(&["token", "--mid", "1"]);
    assert!(code == 2 && refused.contains("gateway init"), "{refused}");
    assert_eq!(said(&["token", "--config", &config]).1, 2, "whose?");
}

fn base64_url(text: &str) -> Vec<u8> {
    let digit = |byte: u8| match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'-' => 62,
        _ => 63,
    };
    let mut out = Vec::new();
    for group in text.as_bytes().chunks(4) {
        let word = group.iter().fold(0u32, |word, byte| word << 6 | u32::from(digit(*byte)));
        let word = word << (6 * (4 - group.len()));
        out.extend_from_slice(&word.to_be_bytes()[1..group.len()]);
    }
    out
}

/// A gateway of its own on free ports, and the flags that name it to other commands.
fn served(config: &str) -> (Running, Vec<String>) {
    let ports = ["listener.tcp.address", "listener.websocket.address", "control.address"];
    let mut order = command(&["run", "--config", config]);
    for port in ports {
        order.args(["--set", &format!("{port}=127.0.0.1:0")]);
    }
    let running = Running::of(&mut order);
    let (tcp, control) = (running.address("tcp on "), running.address("control="));
    let flags =
        ["--config", config, "--set", &format!("listener.tcp.address={tcp}")].map(String::from).to_vec();
    (running, [flags, ["--set", &format!("control.address={control}")].map(String::from).to_vec()].concat())
}

/// `gateway tail` that has logged in.
fn tail(flags: &[String], more: &[&str]) -> (Child, BufReader<std::process::ChildStdout>) {
    let mut order = command(&["tail"]);
    let mut child = order.args(flags).args(more).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stderr.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains("logged in"), "{line}");
    let out = BufReader::new(child.stdout.take().unwrap());
    (child, out)
}

#[test]
fn a_first_hour_from_init_to_a_message() {
    let folder = Folder::new("hour");
    let (path, config) = initialized(&folder, "local");
    let (running, flags) = served(&config);
    let with = |order: &[&str]| {
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        [order, &flags[..]].concat().iter().map(|one| (*one).to_owned()).collect::<Vec<_>>()
    };
    let run = |order: &[&str]| {
        let words = with(order);
        output(&words.iter().map(String::as_str).collect::<Vec<_>>())
    };
    assert_eq!(String::from_utf8(run(&["health"]).stdout).unwrap(), "ok\n");
    assert!(run(&["health", "--ready"]).status.success());
    let token = format!("{path}/token");
    let (mut json, mut lines) = tail(
        &flags,
        &["--token-file", &token, "--room", "live://1", "--room", "live://2", "--json", "--count", "3"],
    );
    let mut line = |wanted: &str| loop {
        let mut line = String::new();
        assert!(lines.read_line(&mut line).unwrap() > 0, "it ended before {wanted}");
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        if line["event"] == wanted {
            break line;
        }
    };
    assert!(line("notice")["payload"].as_str().unwrap().contains("joined live://2"));
    let pushed = run(&["push", "--mid", "7", "hello"]);
    assert_eq!(
        String::from_utf8_lossy(&pushed.stdout),
        "receivers 1\n",
        "{}",
        String::from_utf8_lossy(&pushed.stderr)
    );
    let got = line("push");
    assert_eq!((&got["payload"], &got["operation"]), (&"hello".into(), &1000.into()));
    let mut piped = command(&[]);
    let words = with(&["push", "--room", "live://2", "--operation", "1001", "-"]);
    let mut piped = piped.args(words).stdin(Stdio::piped()).spawn().unwrap();
    piped.stdin.take().unwrap().write_all(&[0xff, 0xfe]).unwrap();
    assert_eq!(String::from_utf8(piped.wait_with_output().unwrap().stdout).unwrap(), "receivers 1\n");
    assert_eq!(line("push")["payload_base64"], "//4=");
    assert!(run(&["push", "--all", "everyone"]).status.success());
    assert_eq!(line("push")["payload"], "everyone");
    assert!(json.wait().unwrap().success(), "three messages were asked for");
    let nobody = run(&["push", "--uid", "nobody", "x"]);
    assert!(
        String::from_utf8_lossy(&nobody.stderr).contains("no connection took it: user \"nobody\" has none")
    );
    assert_eq!(String::from_utf8_lossy(&nobody.stdout), "receivers 0\n");
    // Without the right token, and when the gateway goes.
    let refused = run(&["tail"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("does it need a token (--token-file)?"));
    let other = run(&["tail", "--token-file", &token, "--mid", "8"]);
    let said = String::from_utf8_lossy(&other.stderr).into_owned();
    assert!(said.contains("its user the one of --mid") && !said.contains("need a token"), "{said}");
    let (mut text, _lines) = tail(&flags, &["--token-file", &token]);
    drop(running);
    assert_eq!(text.wait().unwrap().code(), Some(1));
    let health = run(&["health"]);
    assert_eq!(health.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&health.stderr).contains("nothing listens there"));
}

#[test]
fn the_program_says_what_it_is_and_how_it_is_used() {
    let version = printed(&["--version"]);
    for part in ["gateway 0.1.0", "commit:", "backends: io_uring, epoll", "target:", "compiler: rustc"] {
        assert!(version.contains(part), "{version}");
    }
    assert_eq!(printed(&["-V"]).lines().count(), 1);
    let help = printed(&["--help"]);
    for part in ["Examples:", "gateway init demo", "Exit codes:", "GATEWAY_CONFIG"] {
        assert!(help.contains(part), "{help}");
    }
    for shell in ["bash", "zsh", "fish"] {
        let completions = printed(&["completions", shell]);
        assert!(completions.contains("dpdk-capture") && completions.contains("connections-max"), "{shell}");
    }
    assert!(printed(&["man"]).contains(".TH gateway 1"));
    let folder = Folder::new("man");
    printed(&["man", "--out", &folder.0.display().to_string()]);
    for page in ["gateway.1", "gateway-push.1", "gateway-init.1"] {
        assert!(folder.0.join(page).exists(), "{page}");
    }
    assert_eq!(said(&["schema", "no such key"]).1, 2);
    assert!(printed(&["schema", "bind_wait"]).contains("[io]"));
    printed(&["sleep", "0"]);
}

#[test]
fn what_is_no_control_port_or_no_number_is_said_to_be_none() {
    let folder = Folder::new("wrong");
    let (_, config) = initialized(&folder, "local");
    let (running, flags) = served(&config);
    let run = |order: &[&str]| {
        let flags = flags.iter().map(String::as_str);
        output(&order.iter().copied().chain(flags).collect::<Vec<_>>())
    };
    let said = |output: &Output| String::from_utf8_lossy(&output.stderr).into_owned();
    // A number in another writing may be another user's name.
    for (written, why) in
        [("007", "user 7, or --uid 007?"), ("+7", "user 7"), ("0", "0 is no user"), ("x", "--uid x")]
    {
        let refused = run(&["push", "--mid", written, "x"]);
        assert_eq!(refused.status.code(), Some(2), "{written}");
        assert!(said(&refused).contains(why), "{written}: {}", said(&refused));
    }
    let (tcp, websocket) = (running.address("tcp on "), running.address("websocket on "));
    for port in [&tcp, &websocket] {
        let refused = run(&["push", "--to", port, "--mid", "7", "x"]);
        assert!(said(&refused).contains("that is no control port"), "{}", said(&refused));
    }
    let refused = run(&["tail", "--server", &running.address("control=")]);
    assert!(said(&refused).contains("an HTTP server answers there"), "{}", said(&refused));
}
