//! What is in `configs/`, held against the program: every profile passes `gateway check`, every
//! metric that a rule or the dashboard names exists, and Prometheus' own tool accepts and tests the
//! rules.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const GATEWAY: &str = env!("CARGO_BIN_EXE_gateway");
const SECRET: &str = "0123456789abcdef0123456789abcdef";
/// A public key on P-256, as a login service would hand it out.
const PUBLIC_KEY: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEcheZoH1eYmlQYqEEBJfGr7o/z8fG
+iMi8W375wwmo8JD09XYCSF80X6KCqz83uhw+z9h2aBMoCKsJSrXznMawg==
-----END PUBLIC KEY-----
";
/// The same as a JWK set.
const JWKS: &str = r#"{"keys":[{"kty":"EC","crv":"P-256","use":"sig","alg":"ES256","kid":"2026-01",
"x":"cheZoH1eYmlQYqEEBJfGr7o_z8fG-iMi8W375wwmo8I","y":"Q9PV2AkhfNF-igqs_N7ocPs_YdmgTKAirCUq185zGsI"}]}"#;

fn configs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("configs")
}

/// A folder of its own for one test, gone when the test ends.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let folder = std::env::temp_dir().join(format!("gateway-configs-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        Scratch(folder)
    }

    fn file(&self, name: &str, content: &str) -> String {
        let path = self.0.join(name);
        fs::write(&path, content).unwrap();
        path.display().to_string()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The program without the settings of whoever runs the test.
fn gateway(arguments: &[&str]) -> Command {
    let mut command = Command::new(GATEWAY);
    command.args(arguments).env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout))
}

/// `gateway check` of a profile, its key files in `scratch`.
fn check(profile: &str, sets: &[String]) -> Output {
    let file = configs().join(profile).display().to_string();
    let mut command = gateway(&["check", "--config", &file]);
    for set in sets {
        command.args(["--set", set]);
    }
    command.output().unwrap()
}

#[test]
fn every_profile_passes_the_check() {
    let scratch = Scratch::new("check");
    let api_key = format!("control.api_key_file={}", scratch.file("api_key", "an api key of some length"));
    let pem = format!("auth.key_file={}", scratch.file("key.pem", PUBLIC_KEY));
    let jwks = format!("auth.jwks_file={}", scratch.file("jwks.json", JWKS));
    // A million connections need more descriptors than a test may count on; the sums are the same
    // for fewer.
    let edge = [jwks, api_key.clone(), "limits.connections_max=2000".into(), "io.backend=auto".into()];
    let profiles: [(&str, Vec<String>); 3] = [
        ("gateway.dev.toml", vec![]),
        ("gateway.edge-io_uring.toml", edge.to_vec()),
        ("gateway.epoll.toml", vec![pem, api_key, "limits.connections_max=200".into()]),
    ];
    for (profile, sets) in &profiles {
        let output = check(profile, sets);
        assert!(output.status.success(), "{profile}:\n{}", text(&output));
        assert!(text(&output).contains("the configuration is good"), "{profile}:\n{}", text(&output));
    }
    // A binary without the feature says how to build one with it, and nothing else is wrong.
    let past_the_kernel = ["gateway.dpdk.toml", "gateway.dpdk-memif.toml"];
    for profile in past_the_kernel {
        let output = check(profile, &[]);
        match cfg!(feature = "dpdk") {
            true => assert!(output.status.success(), "{profile}:\n{}", text(&output)),
            false => assert!(text(&output).contains("--features dpdk"), "{profile}:\n{}", text(&output)),
        }
    }
    let mut known: BTreeSet<_> = profiles.iter().map(|(profile, _)| (*profile).to_owned()).collect();
    known.extend(past_the_kernel.map(str::to_owned));
    let found =
        fs::read_dir(configs()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let found: BTreeSet<_> =
        found.filter(|name| name.starts_with("gateway.") && name.ends_with(".toml")).collect();
    // The conformance suites' profile is checked where it is used.
    let unchecked: Vec<_> = found.difference(&known).filter(|name| !name.contains("conformance")).collect();
    assert!(unchecked.is_empty(), "profiles without a check: {unchecked:?}");
}

#[test]
fn the_start_screen_names_the_key_that_is_used() {
    let scratch = Scratch::new("key");
    let key = format!("auth.key_file={}", scratch.file("public.pem", PUBLIC_KEY));
    let sets = ["auth.mode=jwt", &key, "auth.jwks_file="].map(|set| ["--set", set]);
    let output = gateway(&["check"]).args(sets.as_flattened()).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    assert!(text(&output).contains("ES256 from auth.key_file"), "{}", text(&output));
}

#[test]
fn a_profile_without_its_key_files_is_refused_with_their_names() {
    let output = check("gateway.epoll.toml", &["control.api_key_file=/nonexistent/api_key".into()]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    assert!(text(&output).contains("/nonexistent/api_key"), "{}", text(&output));
}

/// A gateway on free ports, killed when the test ends.
struct Running {
    child: Child,
    control: String,
}

impl Running {
    /// With every feature that has metrics of its own.
    fn start(scratch: &Scratch) -> Running {
        let journal = format!("journal.directory={}", scratch.0.join("journal").display());
        let mut command = gateway(&["run"]);
        for set in ["listener.tcp.address=127.0.0.1:0", "listener.websocket.address=127.0.0.1:0"]
            .into_iter()
            .chain(["control.address=127.0.0.1:0", "auth.mode=jwt", "io.workers=2"])
            .chain(["limits.connections_max=200", "journal.enabled=true", &journal])
            .chain(["memory.memory_max_bytes=1000000000"])
        // its gauges are there only with a limit
        {
            command.args(["--set", set]);
        }
        let mut child = command.env("GATEWAY_AUTH__SECRET", SECRET).spawn().unwrap();
        let control = control_address(&mut child);
        Running { child, control }
    }

    fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(&self.control).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads the start screen up to the line of the control port.
fn control_address(child: &mut Child) -> String {
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut seen = String::new();
    while let Some(Ok(line)) = lines.next() {
        if let Some((_, rest)) = line.split_once("control     http://") {
            let address = rest.split('/').next().unwrap().to_owned();
            // Whatever comes later must not fill the pipe.
            std::thread::spawn(move || lines.for_each(drop));
            return address;
        }
        seen.push_str(&line);
        seen.push('\n');
    }
    panic!("no control port in the start screen:\n{seen}");
}

/// Words of a text that look like metrics: those of the gateway, of its process, and the recorded
/// ones.
fn metric_names(text: &str) -> BTreeSet<String> {
    let words = text.split(|one: char| !(one.is_ascii_alphanumeric() || one == '_' || one == ':'));
    let is_metric = |word: &&str| {
        ["gateway_", "process_", "gateway:"].iter().any(|prefix| word.starts_with(prefix))
            && !word.ends_with('_')
    };
    words.filter(is_metric).map(str::to_owned).collect()
}

/// Names that a scrape offers, those of histograms' series included.
fn offered(scrape: &str) -> BTreeSet<String> {
    let samples = scrape.lines().filter(|line| !line.starts_with('#'));
    samples.filter_map(|line| line.split(['{', ' ']).next()).map(str::to_owned).collect()
}

/// Only the expressions: comments and descriptions may speak of other things.
fn expressions(yaml: &str) -> String {
    let mut out = String::new();
    let mut within: Option<usize> = None;
    for line in yaml.lines() {
        let indent = line.len() - line.trim_start().len();
        within = within.filter(|start| indent > *start);
        if let Some(expression) = line.trim_start().strip_prefix("expr:") {
            within = Some(indent);
            out.push_str(expression);
        } else if within.is_some() {
            out.push_str(line);
        }
        out.push('\n');
    }
    out
}

#[test]
fn rules_and_dashboard_use_metrics_that_exist() {
    let scratch = Scratch::new("metrics");
    let gateway = Running::start(&scratch);
    let deadline = Instant::now() + Duration::from_secs(60);
    while !gateway.get("/readyz").contains("200 OK") {
        assert!(Instant::now() < deadline, "never ready");
        std::thread::sleep(Duration::from_millis(20));
    }
    // Requests are counted when they have been answered, and workers publish their counts ten times
    // a second.
    std::thread::sleep(Duration::from_millis(500));
    gateway.get("/metrics");
    let offered = offered(&gateway.get("/metrics"));
    let read = |name: &str| fs::read_to_string(configs().join(name)).unwrap();
    let rules = read("recording.rules.yml");
    let recorded: BTreeSet<_> =
        rules.lines().filter_map(|line| line.trim().strip_prefix("- record: ")).map(str::to_owned).collect();
    let sources = [
        ("recording.rules.yml", expressions(&rules)),
        ("alerts.yml", expressions(&read("alerts.yml"))),
        ("grafana/gateway.json", dashboard_expressions(&read("grafana/gateway.json"))),
    ];
    for (file, text) in sources {
        let named = metric_names(&text);
        assert!(named.len() > 5, "{file} names hardly any metric: {named:?}");
        let unknown: Vec<_> =
            named.iter().filter(|name| !offered.contains(*name) && !recorded.contains(*name)).collect();
        assert!(unknown.is_empty(), "{file} uses metrics that do not exist: {unknown:?}");
    }
}

fn dashboard_expressions(json: &str) -> String {
    let dashboard: serde_json::Value = serde_json::from_str(json).unwrap();
    let mut out = String::new();
    collect(&dashboard, &mut out);
    out
}

fn collect(value: &serde_json::Value, out: &mut String) {
    match value {
        serde_json::Value::Object(fields) => {
            for (name, field) in fields {
                match (name.as_str(), field.as_str()) {
                    ("expr" | "query", Some(expression)) => {
                        out.push_str(expression);
                        out.push('\n');
                    }
                    _ => collect(field, out),
                }
            }
        }
        serde_json::Value::Array(items) => items.iter().for_each(|item| collect(item, out)),
        _ => {}
    }
}

#[test]
fn the_dashboards_panels_do_not_overlap() {
    let json = fs::read_to_string(configs().join("grafana/gateway.json")).unwrap();
    let dashboard: serde_json::Value = serde_json::from_str(&json).unwrap();
    let mut taken: BTreeSet<(u64, u64)> = BTreeSet::new();
    let mut ids = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        let (title, place) = (&panel["title"], &panel["gridPos"]);
        let at = |name: &str| place[name].as_u64().unwrap();
        assert!(at("x") + at("w") <= 24, "{title} is wider than the page");
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title} has another panel's id");
        assert!(panel["type"] == "row" || panel["description"].is_string(), "{title} says nothing of itself");
        for x in at("x")..at("x") + at("w") {
            for y in at("y")..at("y") + at("h") {
                assert!(taken.insert((x, y)), "{title} lies over another panel");
            }
        }
    }
}

#[test]
fn every_alert_has_a_section_in_the_runbook() {
    let alerts = fs::read_to_string(configs().join("alerts.yml")).unwrap();
    let runbook = fs::read_to_string(configs().join("../docs/operations.md")).unwrap();
    let names: Vec<_> = alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(names.len() > 20);
    for name in names {
        assert!(
            runbook.lines().any(|line| line.trim_start_matches('#').trim() == name),
            "{name} has no section"
        );
        let link = format!("runbook: docs/operations.md#{}", name.to_lowercase());
        assert!(alerts.contains(&link), "{name} does not link its section");
    }
}

#[test]
fn every_alert_has_a_test_that_makes_it_fire_and_the_readme_counts_them() {
    let read = |name: &str| fs::read_to_string(configs().join(name)).unwrap();
    let (alerts, tests) = (read("alerts.yml"), read("alerts.test.yml"));
    let names: BTreeSet<_> =
        alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    // A sample that is expected, not an expression that finds nothing.
    let sample = "- labels: 'ALERTS{alertname=\"";
    let fired: BTreeSet<_> = tests
        .lines()
        .filter_map(|line| line.trim().strip_prefix(sample)?.split_once('"'))
        .filter(|(_, rest)| rest.contains("alertstate=\"firing\""))
        .map(|(name, _)| name)
        .collect();
    assert_eq!(names, fired, "alerts on the left, those that a test makes fire on the right");
    let count = format!("{} tested alerts", names.len());
    assert!(read("../README.md").contains(&count), "README.md should say \"{count}\"");
}

/// The number behind `key`, on the first line that begins with it.
fn number_of(file: &str, key: &str) -> u64 {
    let text = fs::read_to_string(configs().join(file)).unwrap();
    let value = text.lines().find_map(|line| line.trim().strip_prefix(key));
    let digits: String = value.unwrap_or_default().chars().filter(char::is_ascii_digit).collect();
    digits.parse().unwrap_or_else(|_| panic!("{file} has no number behind {key}"))
}

#[test]
fn who_stops_the_gateway_waits_longer_than_a_drain_takes() {
    // Workers have 5 s to end after the drain, the journal's disk 5 s more.
    let rest = 10;
    let drain = number_of("gateway.edge-io_uring.toml", "drain_ms =") / 1000;
    assert!(number_of("systemd/gateway.service", "TimeoutStopSec=") > drain + rest);
    let drain = number_of("gateway.epoll.toml", "drain_ms =") / 1000;
    let before = number_of("k8s/gateway.yaml", "exec: {command: [\"/usr/local/bin/gateway\", \"sleep\",");
    assert!(number_of("k8s/gateway.yaml", "terminationGracePeriodSeconds:") > before + drain + rest);
}

#[test]
fn prometheus_accepts_configuration_and_rules() {
    promtool(&["check", "config", "prometheus.yml"]);
    promtool(&["check", "rules", "recording.rules.yml", "alerts.yml"]);
    promtool(&["test", "rules", "alerts.test.yml"]);
}

fn promtool(arguments: &[&str]) {
    let output = Command::new("promtool").args(arguments).current_dir(configs()).output();
    let output =
        output.unwrap_or_else(|error| panic!("promtool: {error}; `apt-get install prometheus` brings it"));
    assert!(output.status.success(), "promtool {}:\n{}", arguments.join(" "), text(&output));
}

/// Bytes of hexadecimal text, spaces left out.
fn hex(text: &str) -> String {
    text.chars().filter(|one| !one.is_whitespace()).collect()
}

#[test]
fn examples_of_the_protocols_description_are_test_vectors() {
    let repository = configs().parent().unwrap().to_path_buf();
    let mut vectors: Vec<String> = vec![];
    for entry in fs::read_dir(repository.join("gateway/proto/vectors")).unwrap() {
        for line in fs::read_to_string(entry.unwrap().path()).unwrap().lines() {
            match line.strip_prefix("hex =") {
                Some(rest) => vectors.push(hex(rest)),
                None if line.starts_with("      ") => vectors.last_mut().unwrap().push_str(&hex(line)),
                None => {}
            }
        }
    }
    let text = fs::read_to_string(repository.join("docs/protocol.md")).unwrap();
    let begins = |line: &str| line.get(8..13) == Some(" 0010") && line.as_bytes()[0].is_ascii_hexdigit();
    let mut examples: Vec<String> = vec![];
    let mut within = false;
    for line in text.lines() {
        match (begins(line), line.is_empty() || line.starts_with("```")) {
            (true, _) => examples.push(hex(line)),
            (false, false) if within => examples.last_mut().unwrap().push_str(&hex(line)),
            _ => {}
        }
        within = begins(line) || within && !line.is_empty() && !line.starts_with("```");
    }
    assert!(examples.len() > 15, "{}", examples.len());
    let strange: Vec<_> = examples.iter().filter(|example| !vectors.contains(example)).collect();
    assert!(strange.is_empty(), "not among the vectors: {strange:#?}");
}

/// The image is built from what its Dockerfile copies: every member of the workspace, whose
/// manifests cargo reads, and every file that a source includes from outside its crate.
#[test]
fn the_image_is_built_from_all_that_the_build_reads() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let read = |path: &str| std::fs::read_to_string(format!("{root}/{path}")).unwrap();
    let dockerfile = read("configs/Dockerfile");
    let copied: Vec<&str> =
        dockerfile.lines().filter_map(|line| line.strip_prefix("COPY ")?.split(' ').next()).collect();
    let manifest = read("Cargo.toml");
    let members = manifest.lines().find_map(|line| line.strip_prefix("members = ")).unwrap();
    let members: Vec<&str> = members.split('"').skip(1).step_by(2).collect();
    assert!(members.contains(&"gateway"), "{members:?}");
    for member in members {
        let folder = member.split('/').next().unwrap();
        assert!(copied.contains(&folder), "COPY {folder}: a member of the workspace");
    }
    let init = read("gateway/src/cli/init.rs");
    assert!(
        init.contains("/configs/") && copied.contains(&"configs"),
        "COPY configs: `gateway init` has its profiles"
    );
}
