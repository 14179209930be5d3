//! The run's figures while it runs, for Prometheus: `--metrics-listen`.
//!
//! The coordinator updates them a few times a second; a thread of its own serves them, one request
//! at a time, and never touches what the workers use.

use crate::error::RunError;
use hdrhistogram::Histogram;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Upper bounds of the latency's buckets, in seconds.
const BUCKETS: [f64; 18] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
    30.0, 60.0,
];
/// A client has so long for its request, and so many bytes.
const REQUEST_WITHIN: Duration = Duration::from_secs(2);
const REQUEST_SIZE_MAX: usize = 8 << 10;

/// The counts of one flow.
#[derive(Clone, Debug, Default)]
pub(crate) struct FlowFigures {
    pub(crate) name: String,
    pub(crate) operations: u64,
    /// Operations that the generator sent more than a millisecond late.
    pub(crate) late: u64,
    pub(crate) owed: u64,
    pub(crate) delivered: u64,
    /// Deliveries by bucket, those above the last one not counted, and the sum of all latencies.
    buckets: [u64; BUCKETS.len()],
    seconds: f64,
}

impl FlowFigures {
    /// The figures of the flow called `name`.
    pub(crate) fn named(name: String) -> FlowFigures {
        FlowFigures { name, ..FlowFigures::default() }
    }

    /// Adds latencies.
    pub(crate) fn record(&mut self, latency: &Histogram<u64>) {
        for value in latency.iter_recorded() {
            let seconds = value.value_iterated_to() as f64 / 1e9;
            self.seconds += seconds * value.count_at_value() as f64;
            let bucket = BUCKETS.partition_point(|bound| *bound < seconds);
            if let Some(bucket) = self.buckets.get_mut(bucket) {
                *bucket += value.count_at_value();
            }
        }
    }
}

/// What is served.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) scenario: String,
    pub(crate) stage: String,
    pub(crate) connections_ready: u64,
    pub(crate) connections_failed: u64,
    /// Deliveries owed for what was sent that have not come yet.
    pub(crate) in_flight: u64,
    /// Heartbeats and other requests without an answer.
    pub(crate) unanswered: u64,
    pub(crate) flows: Vec<FlowFigures>,
}

/// See the module's text. The server ends when it is dropped.
pub(crate) struct Exporter {
    figures: Arc<Mutex<Figures>>,
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Exporter {
    /// Serves `figures` at `address`.
    ///
    /// # Errors
    /// An address that cannot be listened on.
    pub(crate) fn start(address: &str, figures: Figures) -> Result<Exporter, RunError> {
        let failed = |error: std::io::Error| {
            RunError::new(
                format!("cannot listen on {address}: {error}"),
                "give --metrics-listen a free address of this machine, such as 127.0.0.1:9464",
            )
        };
        let listener = TcpListener::bind(address).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let (figures, stop) = (Arc::new(Mutex::new(figures)), Arc::new(AtomicBool::new(false)));
        let (served, stopped) = (figures.clone(), stop.clone());
        let serve = move || {
            for client in listener.incoming() {
                if stopped.load(Relaxed) {
                    return;
                }
                // A client that goes away, or is slow, gets no answer.
                let _ = client.and_then(|client| answer(client, &served));
            }
        };
        let thread = std::thread::Builder::new().name("exporter".to_owned()).spawn(serve).map_err(failed)?;
        note!("metrics at http://{address}/metrics");
        Ok(Exporter { figures, address, stop, thread: Some(thread) })
    }

    /// Changes what is served.
    pub(crate) fn update(&self, change: impl FnOnce(&mut Figures)) {
        change(&mut self.figures.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        // Wakes the thread that waits for clients.
        let woken = TcpStream::connect_timeout(&self.address, REQUEST_WITHIN).is_ok();
        if let Some(thread) = self.thread.take().filter(|_| woken) {
            let _ = thread.join();
        }
    }
}

/// Answers one request.
fn answer(mut client: TcpStream, figures: &Mutex<Figures>) -> std::io::Result<()> {
    client.set_read_timeout(Some(REQUEST_WITHIN))?;
    client.set_write_timeout(Some(REQUEST_WITHIN))?;
    let (mut request, mut part) = (Vec::new(), [0; 1024]);
    while !request.windows(4).any(|end| end == b"\r\n\r\n") && request.len() < REQUEST_SIZE_MAX {
        match client.read(&mut part)? {
            0 => return Ok(()),
            count => request.extend_from_slice(&part[..count]),
        }
    }
    let target = request.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
    let (status, body) = match (request.starts_with(b"GET "), target) {
        (true, b"/metrics") => {
            ("200 OK", render(&figures.lock().unwrap_or_else(PoisonError::into_inner).clone()))
        }
        (true, _) => ("404 Not Found", "loadtest serves /metrics\n".to_owned()),
        (false, _) => ("405 Method Not Allowed", "loadtest answers GET\n".to_owned()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n",
        body.len()
    );
    client.write_all(head.as_bytes())?;
    client.write_all(body.as_bytes())
}

/// A counter of flows: name, help, value.
type Counter = (&'static str, &'static str, fn(&FlowFigures) -> u64);

const COUNTERS: [Counter; 4] = [
    ("loadtest_operations_total", "Operations sent.", |flow| flow.operations),
    (
        "loadtest_operations_late_total",
        "Operations that the generator itself sent more than a millisecond late.",
        |flow| flow.late,
    ),
    ("loadtest_deliveries_owed_total", "Deliveries owed for the operations sent.", |flow| flow.owed),
    ("loadtest_deliveries_total", "Deliveries that came.", |flow| flow.delivered),
];

/// The exposition in Prometheus' text format.
fn render(figures: &Figures) -> String {
    let mut out = String::new();
    let head = |out: &mut String, name: &str, kind: &str, help: &str| {
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
    };
    head(&mut out, "loadtest_info", "gauge", "The run: its scenario and the stage that it is in.");
    let (scenario, stage) = (escape(&figures.scenario), escape(&figures.stage));
    let _ = writeln!(out, "loadtest_info{{scenario=\"{scenario}\",stage=\"{stage}\"}} 1");
    head(&mut out, "loadtest_connections", "gauge", "Connections that are ready, and that were given up.");
    for (state, count) in [("ready", figures.connections_ready), ("failed", figures.connections_failed)] {
        let _ = writeln!(out, "loadtest_connections{{state=\"{state}\"}} {count}");
    }
    let gauges = [
        ("loadtest_deliveries_in_flight", "Deliveries owed that have not come yet.", figures.in_flight),
        ("loadtest_requests_unanswered", "Requests without an answer.", figures.unanswered),
    ];
    for (name, help, value) in gauges {
        head(&mut out, name, "gauge", help);
        let _ = writeln!(out, "{name} {value}");
    }
    for (name, help, of) in COUNTERS {
        head(&mut out, name, "counter", help);
        for flow in &figures.flows {
            let _ = writeln!(out, "{name}{{flow=\"{}\"}} {}", escape(&flow.name), of(flow));
        }
    }
    latencies(figures, &mut out);
    out
}

fn latencies(figures: &Figures, out: &mut String) {
    const NAME: &str = "loadtest_latency_seconds";
    let help = "From the intended time of an operation to its delivery.";
    let _ = writeln!(out, "# HELP {NAME} {help}\n# TYPE {NAME} histogram");
    for flow in &figures.flows {
        let (name, mut sum) = (escape(&flow.name), 0);
        for (bound, count) in BUCKETS.iter().zip(flow.buckets) {
            sum += count;
            let _ = writeln!(out, "{NAME}_bucket{{flow=\"{name}\",le=\"{bound}\"}} {sum}");
        }
        let count = flow.delivered.max(sum);
        let _ = writeln!(out, "{NAME}_bucket{{flow=\"{name}\",le=\"+Inf\"}} {count}");
        let _ = writeln!(out, "{NAME}_sum{{flow=\"{name}\"}} {}", flow.seconds);
        let _ = writeln!(out, "{NAME}_count{{flow=\"{name}\"}} {count}");
    }
}

/// The value of a label.
fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures() -> Figures {
        let mut flow = FlowFigures::named("push \"a\"".to_owned());
        (flow.operations, flow.owed, flow.delivered) = (4, 5, 4);
        let mut latency = crate::histogram::fresh(2);
        for nanos in [50_000, 90_000, 7_000_000, 90_000_000_000] {
            crate::histogram::record(&mut latency, nanos);
        }
        flow.record(&latency);
        Figures { scenario: "push".to_owned(), flows: vec![flow], in_flight: 1, ..Figures::default() }
    }

    #[test]
    fn buckets_are_cumulative_and_end_with_all() {
        let text = render(&figures());
        for line in [
            "loadtest_latency_seconds_bucket{flow=\"push \\\"a\\\"\",le=\"0.0001\"} 2",
            "loadtest_latency_seconds_bucket{flow=\"push \\\"a\\\"\",le=\"0.01\"} 3",
            "loadtest_latency_seconds_bucket{flow=\"push \\\"a\\\"\",le=\"60\"} 3",
            "loadtest_latency_seconds_bucket{flow=\"push \\\"a\\\"\",le=\"+Inf\"} 4",
            "loadtest_latency_seconds_count{flow=\"push \\\"a\\\"\"} 4",
            "loadtest_deliveries_in_flight 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }

    #[test]
    fn promtool_accepts_the_exposition() {
        let mut child = std::process::Command::new("promtool")
            .args(["check", "metrics"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("promtool: {error}; `apt-get install prometheus` brings it"));
        child.stdin.take().unwrap().write_all(render(&figures()).as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success() && text.trim().is_empty(), "{text}");
    }

    #[test]
    fn requests_are_answered_and_the_thread_ends() {
        let exporter = Exporter::start("127.0.0.1:0", figures()).unwrap();
        let ask = |request: &str| {
            let mut client = TcpStream::connect(exporter.address).unwrap();
            client.write_all(request.as_bytes()).unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).unwrap();
            answer
        };
        exporter.update(|figures| figures.connections_ready = 77);
        let answer = ask("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.contains("loadtest_connections{state=\"ready\"} 77\n"), "{answer}");
        assert!(ask("GET / HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404 "));
        assert!(ask("POST /metrics HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 405 "));
        drop(exporter);
        let error = Exporter::start("nowhere", Figures::default()).err().unwrap().to_string();
        assert!(error.contains("--metrics-listen"), "{error}");
    }
}
