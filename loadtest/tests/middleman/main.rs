//! What a man in the middle plants is reported exactly, each fault by its own count; and what is
//! left alone raises no alarm. Nothing here is judged by a time.
#![allow(missing_docs, unreachable_pub, reason = "a test")]

#[path = "../peer/mod.rs"]
#[allow(dead_code, reason = "shared with tests that order faults")]
mod peer;
mod proxy;
mod stalls;

use loadtest::Exit;
use peer::{Faults, Peer};
use proxy::{Class, FAULTS, Fault, Middleman, Order, Planted};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Counts of a report that differ from 0, by name.
type Counts = BTreeMap<String, u64>;

/// Half of it is how long the generator waits for what does not come: long enough for a machine
/// that does something else meanwhile.
const TIMES: &str = "--warmup 0ms --duration 400ms --settle 8s";
const FIRST_USER: i64 = 1_000_000;

/// A scenario, the number of its measured users, and the classes that faults are planted in.
struct Case {
    line: &'static str,
    users: i64,
    classes: &'static [Class],
}

const fn case(line: &'static str, users: i64, classes: &'static [Class]) -> Case {
    Case { line, users, classes }
}

const CASES: [Case; 10] = [
    case("echo -c 6 --rate 300", 6, &[Class::Echo]),
    case("push -c 6 --rate 200", 6, &[Class::Push, Class::Http]),
    case("room -c 6 --room-size 3 --publishers 2 --rate 100", 6, &[Class::Push, Class::Reply]),
    case("room -c 6 --rate 60 --via http", 6, &[Class::Push, Class::Http]),
    case("broadcast -c 6 --rate 60", 6, &[Class::Push, Class::Http]),
    case("slow-reader -c 6 --slow-connections 2 --rate 60", 6, &[Class::Push, Class::Reply]),
    case("idle -c 6 --heartbeat 50ms", 6, &[Class::Beat]),
    case(
        "mix -c 6 --echo-rate 200 --push-rate 100 --room-rate 60 --broadcast-rate 30 --churn-rate 20",
        6,
        &[Class::Echo, Class::Push, Class::Reply, Class::Http],
    ),
    case("churn -c 40 --rate 40 --connect-timeout 4s --connect-retries 0", 40, &[Class::Auth]),
    case("connect -c 30 --connect-timeout 4s --connect-retries 0", 30, &[Class::Auth]),
];

/// Runs a case with a fault; returns the exit, what was planted, and what was reported.
fn run(case: &Case, order: Option<Order>) -> (Exit, Planted, Counts, String) {
    static RUNS: AtomicUsize = AtomicUsize::new(0);
    let peer = Peer::start(Faults::default());
    let middleman = Middleman::before((peer.tcp, peer.http), order, FIRST_USER + case.users);
    let name = format!("loadtest-middleman-{}-{}.json", std::process::id(), RUNS.fetch_add(1, Relaxed));
    let path = std::env::temp_dir().join(name);
    let (tcp, http) = (middleman.tcp, middleman.http);
    let line =
        format!("loadtest {} {TIMES} -q --server {tcp} --http {http} --json {}", case.line, path.display());
    let exit = loadtest::run(line.split(' ').map(OsString::from));
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    let _ = std::fs::remove_file(path);
    (exit, middleman.planted(), counts(&text), text)
}

/// Everything in a report that says that something was wrong.
fn counts(report: &str) -> Counts {
    let report: serde_json::Value = serde_json::from_str(report).unwrap_or_default();
    let mut counts = Counts::new();
    let mut add = |name: &str, value: &serde_json::Value| {
        let count = value.as_u64().unwrap_or(0);
        if count > 0 {
            *counts.entry(name.to_owned()).or_default() += count;
        }
    };
    for flow in report["flows"].as_array().into_iter().flatten() {
        let found = &flow["conservation"];
        for name in ["refused", "lost", "duplicated", "reordered", "misdelivered", "damaged"] {
            add(name, &found[name]);
        }
        add("unanswered", &found["answers"]["unanswered"]);
        add("answered twice", &found["answers"]["duplicated"]);
    }
    for (name, wrong) in
        [("missed", "beats missed"), ("duplicated", "beats twice"), ("reordered", "beats late")]
    {
        add(wrong, &report["heartbeats"][name]);
    }
    for (kind, found) in [("violation", &report["violations"]), ("failed", &report["connect"]["failures"])] {
        for (name, count) in found.as_object().into_iter().flatten() {
            add(&format!("{kind}: {name}"), count);
        }
    }
    add("reconnects missed", &report["churn"]["missed"]);
    add("closed", &report["connect"]["lost"]["peer_closed"]);
    counts
}

/// A few faults; where connections come back, in that.
fn order(case: &Case, class: Class, fault: Fault) -> Order {
    let few = Order::few(class, fault);
    let churns = case.line.starts_with("churn");
    if churns { Order { after: case.users as u64, every: 3, ..few } } else { few }
}

/// What a report of these faults says; `None` where the fault means nothing to the class.
fn expected(case: &Case, class: Class, fault: Fault, planted: &Planted) -> Option<Counts> {
    let faults = planted.faults;
    let missing = match class {
        Class::Echo | Class::Push => "lost",
        Class::Beat => "beats missed",
        Class::Reply | Class::Http => "unanswered",
        Class::Auth => "failed: timed out during auth",
    };
    let stamped = matches!(class, Class::Echo | Class::Push);
    let names: &[&str] = match (fault, class) {
        (
            Fault::WrongSequence | Fault::WrongVersion | Fault::WrongOperation | Fault::Misdeliver,
            Class::Http,
        ) => return None,
        // Answers over HTTP are all the same; those to messages come in any order.
        (Fault::Reorder, Class::Http | Class::Reply) => return None,
        // A connection has one, without a body, and no stamp names its receiver.
        (Fault::Reorder | Fault::Corrupt | Fault::Misdeliver, Class::Auth) => return None,
        (Fault::Drop, _) => &[missing],
        (Fault::Duplicate, Class::Echo | Class::Push) => &["duplicated"],
        (Fault::Duplicate, Class::Beat) => &["beats twice"],
        (Fault::Duplicate, Class::Reply) => &["answered twice"],
        (Fault::Duplicate, Class::Http) => &["violation: http_answer_unasked"],
        (Fault::Duplicate, Class::Auth) => &["violation: answer_unasked"],
        (Fault::Reorder, Class::Beat) => &["beats late"],
        (Fault::Reorder, _) => &["reordered"],
        (Fault::Corrupt, Class::Beat) => &["violation: heartbeat_reply_malformed"],
        (Fault::Corrupt, Class::Reply) => &["violation: send_message_reply_malformed"],
        (Fault::Corrupt, Class::Http) => &["refused"],
        (Fault::Corrupt, _) => &["damaged", "lost"],
        (Fault::WrongSequence, Class::Beat | Class::Reply) => &["violation: answer_unasked", missing],
        (Fault::WrongSequence, _) => &["violation: wrong_sequence"],
        (Fault::WrongVersion, _) => &["violation: wrong_version"],
        (Fault::WrongOperation, _) if stamped => &["violation: wrong_operation"],
        (Fault::WrongOperation, _) => &["violation: wrong_operation", missing],
        (Fault::Misdeliver, _) if stamped => &["misdelivered", "lost"],
        (Fault::Misdeliver, _) => &["violation: answer_unasked", missing],
        (Fault::HalfFrame, _) => &["violation: half_frame"],
        (Fault::Silence, _) => &[],
    };
    let mut counts: Counts = names.iter().map(|name| ((*name).to_owned(), faults)).collect();
    let comes = matches!(fault, Fault::Duplicate | Fault::WrongSequence | Fault::WrongVersion);
    if case.line.starts_with("churn") && !comes {
        // A connection that does not log in again has not come back; each has one turn.
        counts.insert("reconnects missed".to_owned(), faults);
    }
    let silenced = matches!(fault, Fault::Silence | Fault::HalfFrame);
    let lost = planted.kept(Class::Echo) + planted.kept(Class::Push);
    let unanswered = planted.kept(Class::Reply) + planted.kept(Class::Http);
    let kept = [("lost", lost), ("beats missed", planted.kept(Class::Beat)), ("unanswered", unanswered)];
    let kept = kept.into_iter().chain([("failed: timed out during auth", planted.kept(Class::Auth))]);
    counts.extend(
        kept.filter(|(_, count)| silenced && *count > 0).map(|(name, count)| (name.to_owned(), count)),
    );
    Some(counts)
}

/// Runs `work` for each of `items`, several at a time: most of it is waiting.
fn for_each<T: Sync>(items: &[T], work: impl Fn(&T) + Sync) {
    let next = AtomicUsize::new(0);
    let failed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..10 {
            scope.spawn(|| {
                while let Some(item) = items.get(next.fetch_add(1, Relaxed)) {
                    let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(item)));
                    if let Err(why) = done {
                        let text = why.downcast_ref::<String>().cloned().unwrap_or_default();
                        failed.lock().unwrap().push(text);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "{} failed:\n{}", failed.len(), failed.join("\n"));
}

#[test]
fn every_fault_in_every_scenario_is_reported_exactly() {
    let mut runs = Vec::new();
    for case in &CASES {
        for class in case.classes {
            runs.extend(FAULTS.iter().map(|fault| (case, *class, *fault)));
        }
    }
    runs.retain(|(case, class, fault)| expected(case, *class, *fault, &Planted::default()).is_some());
    for_each(&runs, |(case, class, fault)| {
        let (exit, planted, mut found, report) = run(case, Some(order(case, *class, *fault)));
        if *fault == Fault::Misdeliver {
            // Where a message is for both, the wrong receiver has it twice.
            let twice = found.remove("duplicated").unwrap_or(0);
            *found.entry("misdelivered".to_owned()).or_default() += twice;
            // So may have what came behind it and is for both.
            found.remove("reordered");
            found.retain(|_, count| *count > 0);
        }
        let what = format!("{class:?} {fault:?} in {}: planted {planted:?}", case.line);
        assert!(planted.faults > 0, "{what}: nothing\n{report}");
        assert_eq!(Some(&found), expected(case, *class, *fault, &planted).as_ref(), "{what}");
        assert_eq!(exit, Exit::Missed, "{what}");
    });
}

#[test]
fn what_is_left_alone_raises_no_alarm() {
    for_each(&CASES, |case| {
        let (exit, _, found, report) = run(case, None);
        assert_eq!(found, Counts::new(), "{}\n{report}", case.line);
        // Whether the times of so short a run are good depends on the machine.
        assert!(matches!(exit, Exit::Met | Exit::Invalid), "{}: {exit:?}\n{report}", case.line);
    });
}

/// What never comes, or was never sent, is in the latencies, as old as it is at the end: at least
/// half of the settling time, in which the generator waited for more.
#[test]
fn what_never_comes_counts_as_late_as_it_is() {
    let lines = [
        (case("idle -c 6 --heartbeat 50ms", 6, &[]), Class::Beat, 0, "/heartbeats"),
        (case("churn -c 10 --rate 40 --connect-timeout 60s", 80, &[]), Class::Auth, 10, "/churn"),
        (case("push -c 6 --rate 200", 6, &[]), Class::Push, 0, "/flows/0"),
        (case("room -c 6 --rate 60 --publishers 2", 6, &[]), Class::Push, 0, "/flows/0"),
        (case("echo -c 6 --rate 300", 6, &[]), Class::Echo, 0, "/flows/0"),
        (case("echo -c 6 --depth 4", 6, &[]), Class::Echo, 0, "/flows/0"),
    ];
    for_each(&lines, |(case, class, after, place)| {
        let (exit, planted, _, report) = run(case, Some(Order::all(*class, Fault::Drop, *after)));
        let json: serde_json::Value = serde_json::from_str(&report).unwrap();
        let part = json.pointer(place).unwrap();
        let latency = |name: &str| part["latency"][name].as_u64().unwrap();
        let due = match *place {
            "/flows/0" => part["conservation"]["owed"].as_u64(),
            // Each connection has eight intervals of 50 ms.
            "/heartbeats" => Some(48),
            _ => part["sent"].as_u64(),
        };
        assert_eq!(exit, Exit::Missed, "{}: {report}", case.line);
        assert!(planted.faults > 0, "{}: {report}", case.line);
        assert_eq!(Some(latency("count")), due, "{}: {report}", case.line);
        assert!(latency("p50") > 3_900_000_000, "{}: {report}", case.line);
    });
}

#[test]
fn what_is_due_and_never_sent_counts() {
    let (_, _, _, report) = run(&case("echo -c 5 --rate 30000000", 5, &[]), None);
    let json: serde_json::Value = serde_json::from_str(&report).unwrap();
    let flow = &json["flows"][0];
    let (offered, seconds) = (flow["offered"].as_f64().unwrap(), flow["seconds"].as_f64().unwrap());
    let counted = flow["latency"]["count"].as_f64().unwrap();
    assert!(flow["conservation"]["not_sent"].as_u64() > Some(0), "{report}");
    assert!((counted - offered * seconds).abs() <= 1.0, "{counted} of {offered} × {seconds}");
}

#[test]
fn frames_to_connections_that_come_and_go_are_judged_too() {
    // Of all users, most are such.
    let case = case("mix -c 2 --broadcast-rate 60 --churn-rate 20", 1_000_000, &[]);
    let faults = [
        (Fault::WrongOperation, "violation: wrong_operation"),
        (Fault::WrongSequence, "violation: wrong_sequence"),
        (Fault::WrongVersion, "violation: wrong_version"),
        (Fault::Corrupt, "damaged"),
    ];
    for_each(&faults, |(fault, name)| {
        let order = Order { every: 1, faults_max: 40, ..Order::few(Class::Push, *fault) };
        let (exit, planted, found, report) = run(&case, Some(order));
        // Some connections may have left before; of the first forty frames two are for others.
        let counted = found.get(*name).copied().unwrap_or(0);
        assert!((20..=planted.faults).contains(&counted), "{fault:?} {found:?}\n{report}");
        assert_eq!((exit, planted.faults), (Exit::Missed, 40), "{fault:?}");
    });
}
