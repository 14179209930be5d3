//! Shell completions and manual pages, made from the command line's own description.

use super::outcome::wrong;
use clap::{Args, Command};
use gateway_control::output::say;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Args, Clone, Debug)]
pub(super) struct Completions {
    /// Which shell.
    shell: clap_complete::Shell,
}

#[derive(Args, Clone, Debug)]
pub(super) struct Man {
    /// Write a page for each command into this folder, instead of gateway(1) to the standard
    /// output.
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
}

/// `gateway completions SHELL`.
pub(super) fn completions(mut command: Command, order: &Completions) -> ExitCode {
    let mut text = Vec::new();
    clap_complete::generate(order.shell, &mut command, "gateway", &mut text);
    say(&String::from_utf8_lossy(&text))
}

/// `gateway man`.
pub(super) fn man(command: Command, order: &Man) -> ExitCode {
    let Some(folder) = &order.out else {
        return match page(command) {
            Ok(text) => say(&String::from_utf8_lossy(&text)),
            Err(error) => wrong(format!("the page can't be made: {error}")),
        };
    };
    // gateway.1, and gateway-COMMAND.1 for each.
    match std::fs::create_dir_all(folder).and_then(|()| clap_mangen::generate_to(command, folder)) {
        Ok(()) => say(&format!("pages in {}: `man -l {}/gateway.1`\n", folder.display(), folder.display())),
        Err(error) => wrong(format!("{}: {error}", folder.display())),
    }
}

fn page(command: Command) -> std::io::Result<Vec<u8>> {
    let mut text = Vec::new();
    clap_mangen::Man::new(command).render(&mut text)?;
    Ok(text)
}
