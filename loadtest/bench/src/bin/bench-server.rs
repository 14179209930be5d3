//! One server of the comparison:
//! `bench-server KIND [--cpu N] [--nice N] [--size BYTES] [--link SOCKET]`, for a broadcast over
//! several rings with `--rings N --slots CONNECTIONS`.

use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            bench::note!("bench-server: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<(), Box<dyn std::error::Error>> {
    let [kind, options @ ..] = arguments else {
        return Err(format!(
            "usage: bench-server KIND [--cpu N] [--nice N] [--size BYTES] [--link SOCKET] [--rings N --slots N] [--parent PID], with a KIND of \
             {}, or {}",
            bench::servers::KINDS.join(", "),
            bench::servers::BROADCAST
        )
        .into());
    };
    let (mut cpu, mut nice, mut size, mut link) = (None, 0, 1024, PathBuf::new());
    let (mut rings, mut slots) = (1, 1024);
    let mut parent = None;
    for pair in options.chunks(2) {
        match pair {
            [name, value] if name == "--cpu" => cpu = Some(value.parse()?),
            [name, value] if name == "--size" => size = value.parse()?,
            [name, value] if name == "--rings" => rings = value.parse()?,
            [name, value] if name == "--slots" => slots = value.parse()?,
            [name, value] if name == "--parent" => parent = Some(value.parse()?),
            [name, value] if name == "--link" => link = value.into(),
            [name, value] if name == "--nice" => nice = value.parse()?,
            _ => return Err(format!("what is '{}'?", pair.join(" ")).into()),
        }
    }
    if let Some(cpu) = cpu {
        bench::cpu::isolate_process(cpu, nice)?;
    }
    if let Some(parent) = parent {
        bench::cpu::end_with_parent(parent)?;
    }
    if kind == bench::servers::BROADCAST {
        return Ok(bench::servers::serve_broadcast(rings, slots, size)?);
    }
    Ok(bench::servers::serve(kind, size, &link)?)
}
