//! The whole comparison: `bench [--quick] [--cycles N] [--seconds S] [--out FOLDER] …`, the floor
//! of a broadcast to very many: `bench broadcast`, and what is made of stored reports: `bench
//! tables`, `bench compare`; see `bench --help`.

use bench::client::Window;
use bench::exit::{Exit, Failure};
use bench::run::{
    Against, Broadcast, CASES, DISPATCH, Options, Outcome, Progress, QUICK_CASES, ROWS, Report, SCHEMA,
    dispatch, pairs_table, run, stored, verdicts,
};
use bench::{codec, tables};
use gateway_core::alloc_guard::CountingAllocator;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::str::FromStr;
use std::time::Duration;

/// Counts the allocations of both codecs.
#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

const HELP: &str = "\
bench: the gateway side by side with bare servers, threads, WebSocket libraries and a protobuf codec

  --quick          one short cycle with few connections: does every server answer rightly? (no bars, no files)
  --cycles N       cycles (5)
  --seconds S      measured window of a run (0.6)
  --case TEXT      only cases whose name contains TEXT; two have one of their own: 'codec' and 'dispatch delay'
  --row TEXT       only servers whose name contains TEXT
  --out FOLDER     where report.json and summary.md go (docs/reports/bench)
  --cpus S,C       processor of the servers, and of the generator (0,1)
  --nice N         priority of both; needs a privilege (-19)
  --client KIND    the generator's backend, io_uring or epoll (io_uring where it can be had)
  --server FILE    the bench-server binary (next to this one)
  --repeats S      seconds that repeats of noisy runs may take, all together (120)
  --against FILE   the bench of another build, its bench-server next to it: run after run alternately, --cycles pairs, and ratios.
                   Both ends of a connection are of one build. pairs.md and pairs.json go to --out

bench broadcast: what the bare send of one message to very many costs, over several rings; JSON on standard output

  --connections N  receivers (1000)
  --rings N        rings of either side, 200 at most; each needs a descriptor (RLIMIT_NOFILE) for each of its connections (1)
  --rounds N       messages (3)
  --size BYTES     of a message, 8 to 16384 (64)
  --server FILE    as above
  --parent PID     end when this process, which started it, does

bench tables --write | --check [--root FOLDER]: the tables of README.md and docs, and the summaries of stored reports, from
                   docs/reports/*/report.json below FOLDER (.)

bench compare A B: two stored reports, of two hosts or days, side by side: all ratios, and what others used of the processors

Exit codes: 0 all bars are met, 1 a bar is missed or an answer was wrong, 2 wrong use, 3 a measurement is invalid (the processors
were not its own, or the generator was the bottleneck), 4 could not run, or no samples. Each bar that is not met is named with its reason.
";

/// The argument of the child that does the work: it has a session of its own (see
/// `bench::cpu::isolate_process`).
const CHILD: &str = "--child";
/// What `--case` compares with.
const CODEC: &str = "codec";
/// Pairs of a codec's batches in a cycle, and a batch's time.
const CODEC_PAIRS: usize = 5;
const CODEC_BATCH: Duration = Duration::from_millis(3);
/// Connections of a dispatch measurement.
const DISPATCH_CONNECTIONS: usize = 100;

struct Arguments {
    quick: bool,
    against: Option<PathBuf>,
    options: Options,
    out: PathBuf,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let exit = command(&arguments).unwrap_or_else(|failure| {
        bench::note!("bench: {failure}");
        failure.exit
    });
    ExitCode::from(exit.code())
}

fn command(arguments: &[String]) -> Result<Exit, Failure> {
    if arguments.iter().any(|argument| argument == "--help") {
        bench::say!("{}", HELP.trim_end());
        return Ok(Exit::Met);
    }
    let rest = arguments.get(1..).unwrap_or_default();
    match arguments.first().map(String::as_str) {
        Some("broadcast") => broadcast(rest),
        Some("tables") => generate(rest),
        Some("compare") => beside(rest),
        Some(CHILD) => compare(parse(rest)?),
        _ => in_child(arguments),
    }
}

fn in_child(arguments: &[String]) -> Result<Exit, Failure> {
    let status = Command::new(std::env::current_exe()?).arg(CHILD).args(arguments).status()?;
    let all = [Exit::Met, Exit::Missed, Exit::WrongUse, Exit::Invalid];
    let exit = all.into_iter().find(|exit| status.code() == Some(exit.code().into()));
    Ok(exit.unwrap_or(Exit::CouldNotRun))
}

/// The value of a flag.
fn value<T: FromStr>(word: &str, text: &str) -> Result<T, Failure>
where
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|error| Failure::usage(format!("{word} {text}: {error}")))
}

fn unknown(word: &str) -> Failure {
    Failure::usage(format!("what is {word}? (--help has the list)"))
}

fn needs_value(word: &str) -> Failure {
    Failure::usage(format!("{word} needs a value (--help has the list)"))
}

fn broadcast(arguments: &[String]) -> Result<Exit, Failure> {
    let server = std::env::current_exe()?.with_file_name("bench-server");
    let mut asked = Broadcast { server, connections: 1000, rings: 1, rounds: 3, size: 64 };
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let text = words.next().ok_or_else(|| needs_value(word))?;
        let number = || value::<u32>(word, text);
        match word.as_str() {
            "--connections" => asked.connections = number()?,
            "--rings" => asked.rings = number()?,
            "--rounds" => asked.rounds = number()?,
            "--size" => asked.size = number()?,
            "--server" => asked.server = text.into(),
            "--parent" => bench::cpu::end_with_parent(number()?)?,
            _ => return Err(unknown(word)),
        }
    }
    let figures = asked.run(|what| bench::note!("broadcast, bare io_uring: {what}"))?;
    bench::say!("{}", serde_json::to_string(&figures)?);
    Ok(Exit::Met)
}

/// `bench tables`.
fn generate(arguments: &[String]) -> Result<Exit, Failure> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (what, root) = match words[..] {
        [what] => (what, "."),
        [what, "--root", root] => (what, root),
        _ => return Err(Failure::usage("bench tables --write | --check [--root FOLDER]")),
    };
    match what {
        "--write" => {
            for path in tables::write(Path::new(root))? {
                bench::say!("written: {}", path.display());
            }
        }
        "--check" => {
            bench::say!("{} documents are as their reports say", tables::check(Path::new(root))?);
        }
        _ => return Err(unknown(what)),
    }
    Ok(Exit::Met)
}

/// `bench compare`.
fn beside(arguments: &[String]) -> Result<Exit, Failure> {
    let [one, other] = arguments else {
        return Err(Failure::usage("bench compare A B: two report.json, or their folders"));
    };
    let file = |name: &str| {
        let path = PathBuf::from(name);
        if path.is_dir() { path.join("report.json") } else { path }
    };
    let reports = [stored::load(&file(one))?, stored::load(&file(other))?];
    bench::say!("{}", tables::compare([one, other], [&reports[0], &reports[1]])?.trim_end());
    Ok(Exit::Met)
}

fn defaults() -> Result<Arguments, Failure> {
    let uring = netpoll::uring::probe().is_ok();
    Ok(Arguments {
        quick: false,
        against: None,
        options: Options {
            server: std::env::current_exe()?.with_file_name("bench-server"),
            cycles: 5,
            window: Window { warm_up: Duration::from_millis(300), length: Duration::from_millis(600) },
            processors: (0, 1),
            nice: -19,
            foreign_max: Some(0.12),
            repeats: Duration::from_secs(120),
            only: (String::new(), String::new()),
            uring,
            client_uring: uring,
            dpdk: bench::dpdk::IS_HERE,
        },
        out: "docs/reports/bench".into(),
    })
}

fn seconds(word: &str, text: &str) -> Result<Duration, Failure> {
    let length = Duration::try_from_secs_f64(value(word, text)?)
        .map_err(|error| Failure::usage(format!("{word} {text}: {error}")))?;
    Ok(length)
}

fn parse(arguments: &[String]) -> Result<Arguments, Failure> {
    let mut parsed = defaults()?;
    let options = &mut parsed.options;
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        if word == "--quick" {
            parsed.quick = true;
            options.cycles = 1;
            options.window =
                Window { warm_up: Duration::from_millis(50), length: Duration::from_millis(200) };
            options.foreign_max = None;
            options.nice = 0;
            continue;
        }
        let text = words.next().ok_or_else(|| needs_value(word))?;
        match word.as_str() {
            "--cycles" => options.cycles = value(word, text)?,
            "--seconds" => options.window.length = seconds(word, text)?,
            "--repeats" => options.repeats = seconds(word, text)?,
            "--case" => options.only.0.clone_from(text),
            "--row" => options.only.1.clone_from(text),
            "--against" => parsed.against = Some(text.into()),
            "--out" => parsed.out = text.into(),
            "--nice" => options.nice = value(word, text)?,
            "--client" if text == "io_uring" || text == "epoll" => options.client_uring = text == "io_uring",
            "--client" => return Err(Failure::usage(format!("--client {text}: give io_uring or epoll"))),
            "--server" => options.server = text.into(),
            "--cpus" => {
                let two = || Failure::usage("--cpus needs two, as in 0,1");
                let (server, client) = text.split_once(',').ok_or_else(two)?;
                options.processors = (value(word, server)?, value(word, client)?);
            }
            _ => return Err(unknown(word)),
        }
    }
    refuse_nothing(&parsed)?;
    Ok(parsed)
}

/// Refuses what would measure nothing: no samples have no verdict.
fn refuse_nothing(parsed: &Arguments) -> Result<(), Failure> {
    let options = &parsed.options;
    if options.cycles == 0 || options.window.length.is_zero() {
        return Err(Failure::usage("no cycle, or a window of no length, has no samples: give more"));
    }
    let cases = if parsed.quick { &QUICK_CASES[..] } else { &CASES[..] };
    let case = &options.only.0;
    if !cases.iter().map(|one| one.name).chain([CODEC, DISPATCH]).any(|name| name.contains(case.as_str())) {
        return Err(Failure::usage(format!("no case has '{case}' in its name")));
    }
    let row = &options.only.1;
    if !ROWS.iter().any(|one| one.name.contains(row.as_str())) {
        return Err(Failure::usage(format!("no server has '{row}' in its name")));
    }
    Ok(())
}

fn compare(arguments: Arguments) -> Result<Exit, Failure> {
    let Arguments { quick, against, options, out } = arguments;
    if let Some(other) = against {
        return side_by_side(other, &options, &out).map(|()| Exit::Met);
    }
    if !options.uring {
        bench::note!("io_uring is not to be had here: its rows are left out");
    }
    if !options.dpdk {
        bench::note!("built without DPDK (--features bench/dpdk): its rows are left out");
    }
    bench::cpu::isolate_process(options.processors.1, options.nice)?;
    let mut report = measure(&options, quick)?;
    if quick {
        for (_, problem) in report.problems() {
            bench::note!("{problem}");
        }
        let exit = report.problems().map(|(exit, _)| exit).min().unwrap_or(Exit::Met);
        let words = if exit == Exit::Met { "every server answered rightly" } else { "a run failed" };
        bench::say!("{words}");
        return Ok(exit);
    }
    report.verdicts = verdicts(&report);
    bench::say!("\n{}", tables::summary_text(&report));
    tables::store(&report, &out)?;
    bench::say!("written: {}", out.display());
    for verdict in report.verdicts.iter().filter(|verdict| verdict.outcome != Outcome::Met) {
        let (words, reason) = (verdict.outcome.words(), &verdict.reason);
        bench::note!("{words}: {} · {}: {}; {reason}", verdict.bar, verdict.case, verdict.found);
    }
    Ok(report.exit())
}

/// All parts that the options ask for.
fn measure(options: &Options, quick: bool) -> Result<Report, Failure> {
    let cases = if quick { &QUICK_CASES[..] } else { &CASES[..] };
    let mut report = Report { schema: SCHEMA.to_owned(), day: tables::today(), ..Report::default() };
    // Before anything else runs: it is the shortest, and needs no server.
    if options.only.1.is_empty() && CODEC.contains(&options.only.0) {
        bench::note!("codec, beside prost");
        let (pairs, batch) =
            if quick { (1, CODEC_BATCH / 30) } else { (CODEC_PAIRS * options.cycles, CODEC_BATCH) };
        report.codec = Some(codec::measure(pairs, batch, options.processors.1)?);
    }
    report.cases = run(options, cases, print_progress);
    if DISPATCH.contains(&options.only.0) {
        let count = if quick { DISPATCH_CONNECTIONS / 5 } else { DISPATCH_CONNECTIONS };
        report.dispatch = dispatch(
            options,
            count,
            options.window.length,
            |name, cycle, result| match result {
                Ok(window) => bench::note!(
                    "{DISPATCH} · {cycle} · {name:28} p50 {:5.1} µs  p99.9 {:6.1} µs  busy {:3.0} %  foreign {:2.0} %",
                    window.p50_us,
                    window.p999_us,
                    window.server_share * 1e2,
                    window.foreign * 1e2,
                ),
                Err(problem) => bench::note!("{DISPATCH} · {cycle} · {name:28} FAILED: {problem}"),
            },
        );
    }
    report.machine = machine();
    report.method = format!(
        "{} cycles of {:.1} s a run, servers on processor {}, generator ({}) on {}",
        options.cycles,
        options.window.length.as_secs_f64(),
        options.processors.0,
        if options.client_uring { "io_uring" } else { "epoll" },
        options.processors.1,
    );
    Ok(report)
}

/// Compares this build with another one.
fn side_by_side(other: PathBuf, options: &Options, out: &Path) -> Result<(), Failure> {
    let word = |name: &str, value: String| [name.to_owned(), value];
    let (server, client) = options.processors;
    let client_kind = if options.client_uring { "io_uring" } else { "epoll" };
    let words = [
        word("--seconds", options.window.length.as_secs_f64().to_string()),
        word("--row", options.only.1.clone()),
        word("--cpus", format!("{server},{client}")),
        word("--nice", options.nice.to_string()),
        word("--client", client_kind.to_owned()),
    ];
    let against =
        Against { builds: [other, std::env::current_exe()?], pairs: options.cycles, words: words.concat() };
    let mut all = vec![];
    for case in CASES.iter().filter(|case| case.name.contains(&options.only.0)) {
        all.extend(against.run(case.name, |what| bench::note!("{what}"))?);
    }
    let text = format!("{}\n\n{}", machine(), pairs_table(&all));
    bench::say!("\n{text}");
    std::fs::create_dir_all(out)?;
    std::fs::write(out.join("pairs.md"), &text)?;
    std::fs::write(out.join("pairs.json"), serde_json::to_string_pretty(&all)? + "\n")?;
    bench::say!("written: {}", out.display());
    Ok(())
}

fn print_progress(progress: Progress<'_>) {
    let Progress { case, row, cycle, result } = progress;
    let figures = match result {
        Ok(figures) => figures,
        Err(problem) => return bench::note!("{} · {cycle} · {:28} FAILED: {problem}", case.name, row.name),
    };
    let cost = figures.server;
    let busy = cost.busy_ns.map_or(String::new(), |ns| format!(" ({ns:.0} busy)"));
    bench::note!(
        "{} · {cycle} · {:28} {:7.0} ns{busy}  {:6.0} k/s  ran {:3.0} % / {:3.0} %  foreign {:2.0} %{}",
        case.name,
        row.name,
        cost.cpu_ns.unwrap_or(f64::NAN),
        figures.rate / 1e3,
        cost.cpu_share.unwrap_or(f64::NAN) * 1e2,
        figures.client_busy * 1e2,
        figures.foreign * 1e2,
        if figures.noisy { "  noisy" } else { "" },
    );
}

fn machine() -> String {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let information = read("/proc/cpuinfo");
    let model = information
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("", |rest| rest.trim_start_matches(['\t', ':', ' ']));
    let count = information.lines().filter(|line| line.starts_with("processor")).count();
    format!("{count} × {model}, Linux {}, loopback", read("/proc/sys/kernel/osrelease").trim())
}
