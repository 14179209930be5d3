//! The whole comparison: `bench [--quick] [--cycles N] [--seconds S] [--out FOLDER] …`, and the
//! floor of a broadcast to very many: `bench broadcast`; see `bench --help`.

use bench::client::Window;
use bench::run::{
    Against, Broadcast, CASES, Options, Progress, QUICK_CASES, Report, pairs_table, run, verdicts,
    write_files,
};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

const HELP: &str = "\
bench: the gateway side by side with bare echo servers and other WebSocket servers

  --quick          one short cycle with few connections: does every server answer rightly? (no targets, no files)
  --cycles N       cycles (5)
  --seconds S      measured window of a run (1)
  --case TEXT      only cases whose name contains TEXT
  --row TEXT       only servers whose name contains TEXT
  --out FOLDER     where report.json and summary.md go (docs/reports/bench)
  --cpus S,C       processor of the servers, and of the generator (0,1)
  --nice N         priority of both; needs a privilege (-19)
  --client KIND    the generator's backend, io_uring or epoll (io_uring where it can be had)
  --server FILE    the bench-server binary (next to this one)
  --against FILE   the bench of another build, its bench-server next to it: run after run alternately, --cycles pairs, and ratios.
                   Both ends of a connection are of one build. pairs.md and pairs.json go to --out

bench broadcast: what the bare send of one message to very many costs, over several rings; JSON on standard output

  --connections N  receivers (1000)
  --rings N        rings of either side, 200 at most; each needs a descriptor (RLIMIT_NOFILE) for each of its connections (1)
  --rounds N       messages (3)
  --size BYTES     of a message, 8 to 16384 (64)
  --server FILE    as above
  --parent PID     end when this process, which started it, does
";

/// The argument of the child that does the work: it has a session of its own (see
/// `bench::cpu::isolate_process`).
const CHILD: &str = "--child";

struct Arguments {
    quick: bool,
    against: Option<PathBuf>,
    options: Options,
    out: PathBuf,
}

fn main() -> ExitCode {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--help") {
        bench::say!("{}", HELP.trim_end());
        return ExitCode::SUCCESS;
    }
    if arguments.first().is_some_and(|argument| argument == "broadcast") {
        return exit(broadcast(&arguments[1..]).map(|()| true));
    }
    let child = arguments.first().is_some_and(|argument| argument == CHILD);
    let result = if child {
        arguments.remove(0);
        compare(&arguments)
    } else {
        in_child(&arguments)
    };
    exit(result)
}

fn exit(result: Result<bool, Box<dyn std::error::Error>>) -> ExitCode {
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            bench::note!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn in_child(arguments: &[String]) -> Result<bool, Box<dyn std::error::Error>> {
    let status = Command::new(std::env::current_exe()?).arg(CHILD).args(arguments).status()?;
    Ok(status.success())
}

fn broadcast(arguments: &[String]) -> Result<(), Box<dyn std::error::Error>> {
    let server = std::env::current_exe()?.with_file_name("bench-server");
    let mut asked = Broadcast { server, connections: 1000, rings: 1, rounds: 3, size: 64 };
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let value = words.next().ok_or_else(|| format!("{word} needs a value (--help has the list)"))?;
        let number = || value.parse::<u32>().map_err(|error| format!("{word} {value}: {error}"));
        match word.as_str() {
            "--connections" => asked.connections = number()?,
            "--rings" => asked.rings = number()?,
            "--rounds" => asked.rounds = number()?,
            "--size" => asked.size = number()?,
            "--server" => asked.server = value.into(),
            "--parent" => bench::cpu::end_with_parent(number()?)?,
            _ => return Err(format!("what is {word}? (--help has the list)").into()),
        }
    }
    let figures = asked.run(|what| bench::note!("broadcast, bare io_uring: {what}"))?;
    bench::say!("{}", serde_json::to_string(&figures)?);
    Ok(())
}

fn parse(arguments: &[String]) -> Result<Arguments, Box<dyn std::error::Error>> {
    let uring = netpoll::uring::probe().is_ok();
    let mut parsed = Arguments {
        quick: false,
        against: None,
        options: Options {
            server: std::env::current_exe()?.with_file_name("bench-server"),
            cycles: 5,
            window: Window { warm_up: Duration::from_millis(300), length: Duration::from_secs(1) },
            processors: (0, 1),
            nice: -19,
            foreign_max: Some(0.12),
            only: (String::new(), String::new()),
            uring,
            client_uring: uring,
            dpdk: bench::dpdk::IS_HERE,
        },
        out: "docs/reports/bench".into(),
    };
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
        let value = words.next().ok_or_else(|| format!("{word} needs a value (--help has the list)"))?;
        match word.as_str() {
            "--cycles" => options.cycles = value.parse()?,
            "--seconds" => options.window.length = Duration::try_from_secs_f64(value.parse()?)?,
            "--case" => options.only.0.clone_from(value),
            "--row" => options.only.1.clone_from(value),
            "--against" => parsed.against = Some(value.into()),
            "--out" => parsed.out = value.into(),
            "--nice" => options.nice = value.parse()?,
            "--client" => options.client_uring = value == "io_uring",
            "--server" => options.server = value.into(),
            "--cpus" => {
                let (server, client) = value.split_once(',').ok_or("--cpus needs two, as in 0,1")?;
                options.processors = (server.parse()?, client.parse()?);
            }
            _ => return Err(format!("what is {word}? (--help has the list)").into()),
        }
    }
    Ok(parsed)
}

fn compare(arguments: &[String]) -> Result<bool, Box<dyn std::error::Error>> {
    let Arguments { quick, against, options, out } = parse(arguments)?;
    if let Some(other) = against {
        return side_by_side(other, &options, &out).map(|()| true);
    }
    if !options.uring {
        bench::note!("io_uring is not to be had here: its rows are left out");
    }
    if !options.dpdk {
        bench::note!("built without DPDK (--features bench/dpdk): its rows are left out");
    }
    bench::cpu::isolate_process(options.processors.1, options.nice)?;
    let cases = if quick { &QUICK_CASES[..] } else { &CASES[..] };
    let mut report = run(&options, cases, print_progress);
    report.machine = machine();
    report.method = format!(
        "{} cycles of {:.1} s a run, servers on processor {}, generator ({}) on {}",
        options.cycles,
        options.window.length.as_secs_f64(),
        options.processors.0,
        if options.client_uring { "io_uring" } else { "epoll" },
        options.processors.1,
    );
    if quick {
        bench::say!(
            "{}",
            if report.has_problem() { "a run failed" } else { "every server answered rightly" }
        );
        return Ok(!report.has_problem());
    }
    report.verdicts = verdicts(&report);
    bench::say!("\n{}", report.text());
    write_files(&report, &out)?;
    bench::say!("written: {}", out.display());
    Ok(reached(&report))
}

/// Compares this build with another one.
fn side_by_side(other: PathBuf, options: &Options, out: &Path) -> Result<(), Box<dyn std::error::Error>> {
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

/// A rate that the generator limited decides nothing.
fn reached(report: &Report) -> bool {
    !report.has_problem() && report.verdicts.iter().all(|verdict| verdict.reached || verdict.generator_bound)
}

fn print_progress(progress: Progress<'_>) {
    let Progress { case, row, cycle, result } = progress;
    let figures = match result {
        Ok(figures) => figures,
        Err(problem) => return bench::note!("{} · {cycle} · {:28} FAILED: {problem}", case.name, row.name),
    };
    bench::note!(
        "{} · {cycle} · {:28} {:7.0} ns  {:6.0} k/s  busy {:3.0} % / {:3.0} %  foreign {:2.0} %{}",
        case.name,
        row.name,
        figures.server_ns,
        figures.rate / 1e3,
        figures.server_busy * 1e2,
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
