//! What an operator reads when a configuration is wrong: exact texts, all at once, and the same
//! from every command.

use gateway_config::{Config, Sources, fuzzing};
use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::{Command, Output};

fn problems(file: &str, environment: &[(&str, &str)], flags: &[(&str, &str)]) -> String {
    let owned = |pair: &(&str, &str)| (pair.0.to_owned(), pair.1.to_owned());
    let sources = Sources {
        file: Some(("gateway.toml".into(), file.into())),
        environment: environment.iter().map(owned).collect(),
        flags: flags
            .iter()
            .map(|(path, value)| ((*path).into(), (*value).into(), format!("--set {path}")))
            .collect(),
    };
    let read = |file: &str| match file {
        "empty" => Ok(Vec::new()),
        "two lines" => Ok(b"first\nsecond\n".into()),
        _ => Err(io::Error::new(io::ErrorKind::NotFound, "no such file")),
    };
    Config::load(&sources, &read).map_or_else(|problems| problems.to_string(), |_| String::new())
}

#[track_caller]
fn expect(file: &str, expected: &[&str]) {
    assert_eq!(problems(file, &[], &[]), expected.join("\n"));
}

#[test]
fn everything_wrong_is_told_at_once_in_the_order_of_the_file() {
    let file = r#"[io]
backend = "io-uring"
workers = 300
pin_workers = "yes"

[limits]
conections_max = 5
frame_body_size_max = 1.5

[session]
idle_timeout_ms = "10s"
auth_timeout_ms = "8000"

[slow_consumer]
room = "dorp"

[auth]
audience = "chat"

[jurnal]
enabled = true
"#;
    expect(
        file,
        &[
            r#"gateway.toml:2: io.backend = "io-uring": expected one of "auto", "io_uring", "epoll", "dpdk"; write "io_uring""#,
            "gateway.toml:3: io.workers = 300: expected a whole number from 0 to 255",
            r#"gateway.toml:4: io.pin_workers = "yes": expected true or false; write true"#,
            "gateway.toml:7: limits.conections_max = 5: no such key; did you mean limits.connections_max?",
            "gateway.toml:8: limits.frame_body_size_max = 1.5: expected a whole number from 1024 to 16777216",
            r#"gateway.toml:11: session.idle_timeout_ms = "10s": expected a whole number from 1000 to 604800000; write a plain number: the key's name says the unit"#,
            r#"gateway.toml:12: session.auth_timeout_ms = "8000": expected a whole number from 100 to 600000; write 8000"#,
            r#"gateway.toml:15: slow_consumer.room = "dorp": expected one of "drop", "close"; write "drop""#,
            r#"gateway.toml:18: auth.audience = "chat": expected a list of at most 16 texts, such as ["a", "b"]; write ["chat"]"#,
            "gateway.toml:21: jurnal.enabled = true: no such key; did you mean journal.enabled?",
        ],
    );
}

#[test]
fn a_list_by_another_name_is_told_the_right_one() {
    expect(
        "[[listeners]]\nname = \"tcp\"\naddress = \"127.0.0.1:1\"\n\n[[things]]\nname = \"x\"\n",
        &[
            "gateway.toml:1: [[listeners]]: no such list; did you mean [[listener]]?",
            "gateway.toml:5: [[things]]: no such list; the only one is [[listener]]",
        ],
    );
}

#[test]
fn names_that_other_products_use_are_told_the_ones_here() {
    let file = r#"port = 3101

[listeners]
tcp = "0.0.0.0:3101"

[control]
port = 3111
Hosts = ["a.example"]

[IO]
Backend = "uring"

[limits]
max_connections = 5
connections = 5

[logging]
level = "info"

[log]
level = "WARNING"
format = "plain"

[auth]
mode = "token"
public_key = "a.pem"

[drain]
timeout = 5

[server]
connections_max = 5

[mystery]
level = "info"
words = 5
"#;
    expect(
        file,
        &[
            "gateway.toml:1: port = 3101: no such key; did you mean control.address, listener.tcp.address or listener.websocket.address?",
            "gateway.toml:3: listeners: listeners are written as [[listener]], with two brackets, one a listener",
            "gateway.toml:7: control.port = 3111: no such key; did you mean control.address?",
            r#"gateway.toml:8: control.Hosts = ["a.example"]: no such key; did you mean control.hosts?"#,
            r#"gateway.toml:11: IO.Backend = "uring": no such key; did you mean io.backend?"#,
            "gateway.toml:14: limits.max_connections = 5: no such key; did you mean limits.connections_max?",
            "gateway.toml:15: limits.connections = 5: no such key; did you mean limits.connections_max?",
            r#"gateway.toml:18: logging.level = "info": no such key; did you mean log.level?"#,
            r#"gateway.toml:21: log.level = "WARNING": expected one of "error", "warn", "info", "debug", "trace"; write "warn""#,
            r#"gateway.toml:22: log.format = "plain": expected one of "text", "json"; write "text""#,
            r#"gateway.toml:25: auth.mode = "token": expected one of "none", "jwt"; write "jwt""#,
            "gateway.toml:26: auth.public_key = (not shown): no such key; did you mean auth.key_file?",
            "gateway.toml:29: drain.timeout = 5: no such key; did you mean drain.drain_ms?",
            "gateway.toml:31: server: listeners are written as [[listener]], with two brackets, one a listener",
            r#"gateway.toml:35: mystery.level = "info": no such key; did you mean log.level?"#,
            "gateway.toml:36: mystery.words = 5: no such key; `gateway schema` lists all",
        ],
    );
}

#[test]
fn listeners_and_variables_by_other_names_too() {
    let listener = "[[listener]]\nname = \"a\"\naddress = \"127.0.0.1:1\"\n";
    expect(
        &format!("{listener}port = 1\ntype = \"tcp\"\n[[Server]]\nname = \"b\"\n"),
        &[
            "gateway.toml:4: listener.a.port = 1: no such key; did you mean listener.a.address?",
            r#"gateway.toml:5: listener.a.type = "tcp": no such key; did you mean listener.a.kind?"#,
            "gateway.toml:6: [[Server]]: no such list; did you mean [[listener]]?",
        ],
    );
    let variables =
        [("GATEWAY_LISTENERS__TCP__PORT", "1"), ("GATEWAY_IO_BACKEND", "epoll"), ("GATEWAY_PORT", "1")];
    let expected = [
        "GATEWAY_LISTENERS__TCP__PORT: listeners.tcp.port = 1: no such key; did you mean listener.tcp.address?",
        "GATEWAY_IO_BACKEND: no such setting; did you mean GATEWAY_IO__BACKEND?",
    ];
    assert_eq!(problems("", &variables, &[]), expected.join("\n"));
}

#[test]
fn a_command_by_another_name_is_told_the_right_one() {
    for (written, meant) in [
        ("serve", "'run'"),
        ("start", "'run'"),
        ("RUN", "'run'"),
        ("publish", "'push'"),
        ("chekc", "'check'"),
    ] {
        let said = String::from_utf8(gateway(&[written]).stderr).unwrap();
        assert!(said.contains(meant), "{written}: {said}");
    }
    let said = String::from_utf8(gateway(&["schema", "logging"]).stderr).unwrap();
    assert_eq!(said, "no key has \"logging\" in its name; did you mean `gateway schema log`?\n");
    let said = String::from_utf8(gateway(&["gateway.toml"]).stderr).unwrap();
    assert!(said.contains("gateway run --config gateway.toml"), "{said}");
}

#[test]
fn environment_and_flags_are_checked_like_the_file() {
    let found = problems(
        "",
        &[
            ("GATEWAY_IO__BACKEN", "epoll"),
            ("GATEWAY_IO__WORKERS", "many"),
            ("GATEWAY_LISTENER__TPC__BACKLOG", "1"),
        ],
        &[("control.addres", "x"), ("log.level", "verbose"), ("nonsense", "1")],
    );
    let expected = [
        "GATEWAY_IO__BACKEN: io.backen = epoll: no such key; did you mean io.backend?",
        "GATEWAY_IO__WORKERS: io.workers = many: expected a whole number from 0 to 255",
        "GATEWAY_LISTENER__TPC__BACKLOG: listener.tpc.backlog = 1: no such key; did you mean listener.tcp.backlog?",
        "--set control.addres: control.addres = x: no such key; did you mean control.address?",
        r#"--set log.level: log.level = verbose: expected one of "error", "warn", "info", "debug", "trace"; write "debug""#,
        "--set nonsense: nonsense = 1: no such key; `gateway schema` lists all",
    ];
    assert_eq!(found, expected.join("\n"));
}

#[test]
fn addresses_and_ports() {
    let file = r#"[control]
address = "0.0.0.0:3111"

[[listener]]
name = "tcp"
address = "0.0.0.0:70000"

[[listener]]
name = "a"
kind = "tcp"
address = "127.0.0.1:3111"

[[listener]]
name = "b"
kind = "websocket"
address = "[::]:3102"
path = "sub"
origins = ["example.org"]

[[listener]]
name = "c"
address = "10.0.0.1:3102"

[[listener]]
name = "beside_all_of_ipv4"
address = "[::1]:3111"
"#;
    expect(
        file,
        &[
            r#"gateway.toml:2: control.address = "0.0.0.0:3111": the admin API would be open to the network; set GATEWAY_CONTROL__API_KEY or control.api_key_file, or listen on 127.0.0.1"#,
            r#"gateway.toml:6: listener.tcp.address = "0.0.0.0:70000": expected an IP address and a port, such as "0.0.0.0:3101" or "[::]:3101""#,
            r#"gateway.toml:11: listener.a.address = "127.0.0.1:3111": control.address has this port already; give each listener a port of its own"#,
            r#"gateway.toml:17: listener.b.path = "sub": expected a path that begins with /, without ?, # and spaces"#,
            r#"gateway.toml:18: listener.b.origins = ["example.org"]: expected origins as browsers send them, such as "https://example.org""#,
            r#"gateway.toml:22: listener.c.address = "10.0.0.1:3102": listener.b.address has this port already; give each listener a port of its own"#,
        ],
    );
}

#[test]
fn a_key_that_no_header_can_hold_is_refused() {
    expect(
        "[control]\napi_key_file = \"two lines\"\n",
        &[r#"gateway.toml:2: control.api_key_file = "two lines": expected one line of printable ASCII"#],
    );
}

#[test]
fn listeners_need_names_and_only_one_each() {
    expect(
        "[[listener]]\naddress = \"127.0.0.1:1\"\n[[listener]]\nname = \"TCP\"\n[[listener]]\nname = \"a\"\naddress = \"127.0.0.1:2\"\n[[listener]]\nname = \"a\"\n[[listener]]\nname = \"d\"\n",
        &[
            "gateway.toml:1: listener: a listener needs a name, such as name = \"tcp\"",
            "gateway.toml:4: listener.name = \"TCP\": expected 1 to 32 of a-z, 0-9 and _, beginning with a letter",
            "gateway.toml:9: listener.name = \"a\": another listener has this name",
            "gateway.toml:11: listener.d: needs an address, such as address = \"0.0.0.0:3101\"",
        ],
    );
    expect(
        "[listener]\nname = \"a\"\n",
        &[
            "gateway.toml:1: listener: listeners are written as [[listener]], with two brackets, one a listener",
        ],
    );
}

#[test]
fn tokens_need_exactly_one_key_and_a_good_one() {
    expect(
        "[auth]\nmode = \"jwt\"\n",
        &[
            r#"gateway.toml:2: auth.mode = "jwt": needs one of auth.key_file, auth.jwks_file and GATEWAY_AUTH__SECRET, and only one"#,
        ],
    );
    expect(
        "[auth]\nkey_file = \"missing\"\n",
        &[
            r#"gateway.toml:2: auth.key_file = "missing": auth.mode is "none", so no key is used; write auth.mode = "jwt" or remove the key"#,
        ],
    );
    expect(
        "[auth]\nmode = \"jwt\"\nkey_file = \"missing\"\n",
        &[r#"gateway.toml:3: auth.key_file = "missing": can't be read: no such file"#],
    );
    expect(
        "[auth]\nmode = \"jwt\"\njwks_file = \"empty\"\nalgorithms = [\"RS265\"]\n",
        &[
            r#"gateway.toml:3: auth.jwks_file = "empty": is no JWK set (RFC 7517 §5): EOF while parsing a value at line 1 column 0"#,
            r#"gateway.toml:4: auth.algorithms = ["RS265"]: expected some of "HS256", "RS256", "ES256", "EdDSA""#,
        ],
    );
    let short = problems("[auth]\nmode = \"jwt\"\n", &[("GATEWAY_AUTH__SECRET", "short")], &[]);
    assert_eq!(
        short,
        r#"GATEWAY_AUTH__SECRET: auth.secret = "(secret)": the secret has 5 bytes; HS256 needs at least 32 random ones"#
    );
}

#[test]
fn values_that_contradict_each_other() {
    expect(
        "[drain]\nreconnect_delay_min_ms = 500\nreconnect_delay_max_ms = 100\n[control]\napi_key_file = \"empty\"\n",
        &[
            "gateway.toml:3: drain.reconnect_delay_max_ms = 100: expected at least drain.reconnect_delay_min_ms = 500",
            r#"gateway.toml:5: control.api_key_file = "empty": the file is empty; write the key into it"#,
        ],
    );
}

#[test]
fn a_file_that_is_no_toml_names_its_lines() {
    let found = problems("[io\nworkers = 1\n\n[limits]\nconnections_max = = 5\n", &[], &[]);
    assert!(
        found.contains("gateway.toml:1: not valid TOML: ")
            && found.contains("gateway.toml:5: not valid TOML: "),
        "{found}"
    );
    let twice = problems("[io]\nworkers = 1\nworkers = 2\n", &[], &[]);
    assert_eq!(twice, "gateway.toml:3: workers: line 2 has this key already; remove one of the two");
}

#[test]
fn what_is_written_twice_is_told_with_both_places_and_nothing_else_is_guessed() {
    expect(
        "[io]\nworkers = 1\n[limits]\nconections_max = 5\n[[listener]]\nname = \"a\"\naddress = \"127.0.0.1:1\"\n\"address\" = \"127.0.0.1:2\"\n[io]\nbackend = \"epol\"\n",
        &[
            "gateway.toml:8: address: line 7 has this key already; remove one of the two",
            "gateway.toml:9: [io]: line 1 has this already; put its keys together there",
        ],
    );
    // A section that is not closed would leave its keys to the one before: they are not judged.
    expect("[io\nworkers = 300\n", &["gateway.toml:1: not valid TOML: unclosed table, expected `]`"]);
    // What comes from elsewhere may fit the file when it can be read.
    assert_eq!(
        problems(
            "[[listener]]\nname = \"x\"\naddress = = 1\n",
            &[("GATEWAY_LISTENER__X__BACKLOG", "7")],
            &[]
        )
        .lines()
        .count(),
        1
    );
    expect(
        "io = 1\n[io]\nworkers = 3\n",
        &["gateway.toml:2: [io]: line 1 has this already; put its keys together there"],
    );
    expect("io = { workers = 1, workers = 2 }\n", &["gateway.toml:1: not valid TOML: duplicate key"]);
}

#[test]
fn a_queue_that_holds_no_whole_frame_is_refused() {
    expect(
        "[limits]\nsend_queue_bytes_max = 65_536\n",
        &[
            "gateway.toml:2: limits.send_queue_bytes_max = 65536: one frame of limits.frame_body_size_max = 65536 needs 69632 with its \
             headers, so none could be sent; write 69632 or more, or lower limits.frame_body_size_max",
        ],
    );
    expect("[limits]\nsend_queue_bytes_max = 69_632\n", &[]);
}

fn gateway(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_gateway")).args(arguments).env_remove("GATEWAY_CONFIG").output().unwrap()
}

#[test]
fn the_commands_give_one_verdict_with_one_exit_code() {
    let good = ["--set", "control.address=127.0.0.1:0"];
    assert_eq!(gateway(&[&["check"], &good[..]].concat()).status.code(), Some(0));
    let bad = ["--set", "io.backend=dpkd"];
    for command in ["check", "config", "run"] {
        let output = gateway(&[&[command], &bad[..]].concat());
        assert_eq!(output.status.code(), Some(2), "{command}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(
            said,
            "--set io.backend: io.backend = dpkd: expected one of \"auto\", \"io_uring\", \"epoll\", \"dpdk\"; write \"dpdk\"\nthe configuration has 1 problem\n"
        );
    }
    let too_much = gateway(&["check", "--connections-max", "64000000", "--backend", "epoll"]);
    assert_eq!(too_much.status.code(), Some(2));
    assert!(String::from_utf8(too_much.stderr).unwrap().contains("RLIMIT_NOFILE allows"));
    for usage in [&["--set", "x"][..], &["--config", "/nonexistent"], &["fly"], &["--colour"]] {
        assert_eq!(gateway(usage).status.code(), Some(2), "{usage:?}");
    }
    let screen = String::from_utf8(gateway(&["check"]).stderr).unwrap();
    for part in
        ["room for ", "goim over TCP", "/metrics", "NONE: clients are not authenticated", "MiB reserved"]
    {
        assert!(screen.contains(part), "{part} is not on\n{screen}");
    }
    assert!(!screen.contains('\x1b') && screen.lines().count() <= 24, "{screen}");
}

#[test]
fn what_the_program_prints_it_reads() {
    for command in ["config", "schema"] {
        let output = gateway(&[command]);
        let file = std::env::temp_dir().join(format!("gateway-{command}-{}.toml", std::process::id()));
        fs::write(&file, &output.stdout).unwrap();
        let checked = gateway(&["check", "--config", file.to_str().unwrap()]);
        let _ = fs::remove_file(&file);
        assert_eq!(checked.status.code(), Some(0), "{}", String::from_utf8_lossy(&checked.stderr));
    }
}

#[test]
fn a_large_file_of_junk_is_refused_at_once() {
    let line = |number: u32| format!("limits.k{:08x} = 1\n", number.wrapping_mul(0x9e37_79b1));
    let junk: String = (0..40_000).map(line).collect();
    let sources = Sources { file: Some(("junk.toml".into(), junk)), ..Sources::default() };
    let start = std::time::Instant::now();
    let refused = Config::load(&sources, &|_| Err(io::ErrorKind::NotFound.into())).unwrap_err();
    assert_eq!(refused.0.len(), 40_000);
    // It took the best part of a minute, in a release build, when every key was compared with every
    // other.
    assert!(start.elapsed().as_secs() < 60, "{:?}", start.elapsed());
}

#[test]
fn no_input_makes_the_parser_panic() {
    let mut corpus: Vec<Vec<u8>> = Vec::new();
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("config/fuzz/corpus/config");
    for entry in fs::read_dir(folder).unwrap() {
        corpus.push(fs::read(entry.unwrap().path()).unwrap());
    }
    corpus.push(gateway(&["schema"]).stdout);
    assert!(corpus.len() > 30, "a corpus of {}", corpus.len());
    corpus.iter().for_each(|input| fuzzing::parse(input));
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below.max(1) as u64) as usize
    };
    for _ in 0..500 {
        let mut input = corpus[random(corpus.len())].clone();
        let start = random(input.len());
        input = input[start..(start + 200).min(input.len())].to_vec();
        for _ in 0..random(6) {
            let other = &corpus[random(corpus.len())];
            match (random(4), input.is_empty()) {
                (0, _) => input.insert(random(input.len() + 1), b"\"[]=.\n#{}\\'\xff9-_"[random(15)]),
                (1, false) => drop(input.remove(random(input.len()))),
                (2, false) => {
                    let at = random(input.len());
                    input[at] ^= 1 << random(8);
                }
                _ => {
                    let from = random(other.len());
                    let piece = other[from..(from + random(40)).min(other.len())].to_vec();
                    let at = random(input.len() + 1);
                    input.splice(at..at, piece);
                }
            }
        }
        fuzzing::parse(&input);
    }
}
