//! Folded stacks: `thread;outermost;…;innermost count`.

use crate::error::RunError;
use std::collections::BTreeMap;
use std::fmt::Write;

/// Samples by stack.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Folded {
    pub(crate) stacks: BTreeMap<String, u64>,
}

impl Folded {
    /// Reads the output of `perf script -F comm,ip,sym`: a line with the thread's name, a line for
    /// each frame from the innermost out, an empty line.
    pub(crate) fn of_perf_script(text: &str) -> Folded {
        let mut folded = Folded::default();
        let (mut thread, mut frames) = (String::new(), Vec::new());
        for line in text.lines().chain([""]) {
            match line {
                _ if line.trim().is_empty() => {
                    if !thread.is_empty() {
                        frames.push(std::mem::take(&mut thread));
                        let stack: Vec<String> = frames.drain(..).rev().collect();
                        *folded.stacks.entry(stack.join(";")).or_default() += 1;
                    }
                }
                _ if line.starts_with(char::is_whitespace) => {
                    let symbol = line.trim_start().split_once(' ').map_or("[unknown]", |(_, symbol)| symbol);
                    frames.push(name(symbol));
                }
                _ => {
                    thread = name(line);
                    frames.clear();
                }
            }
        }
        folded
    }

    /// Reads a file that [`Folded::text`] wrote, or another tool.
    ///
    /// # Errors
    /// A file that cannot be read, or has other lines.
    pub(crate) fn load(path: &str) -> Result<Folded, RunError> {
        let advice = "name files that `loadtest … --profile FILE` wrote";
        let text = std::fs::read_to_string(path)
            .map_err(|error| RunError::new(format!("cannot read {path}: {error}"), advice))?;
        let mut folded = Folded::default();
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let parts =
                line.rsplit_once(' ').and_then(|(stack, count)| Some((stack, count.parse::<u64>().ok()?)));
            let Some((stack, count)) = parts else {
                let what = format!("{path}, line {}: no folded stack with a count", number + 1);
                return Err(RunError::new(what, advice));
            };
            *folded.stacks.entry(stack.to_owned()).or_default() += count;
        }
        Ok(folded)
    }

    /// As a file.
    pub(crate) fn text(&self) -> String {
        let mut out = String::new();
        for (stack, count) in &self.stacks {
            let _ = writeln!(out, "{stack} {count}");
        }
        out
    }

    /// All samples.
    pub(crate) fn samples(&self) -> u64 {
        self.stacks.values().sum()
    }
}

/// A name that fits between semicolons.
fn name(text: &str) -> String {
    text.trim().replace(';', ":")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRIPT: &str = "worker 0 \n\tffffffff8100 tcp_sendmsg\n\t    5581 gateway::io::flush\n\t    5500 main\n\n\
                          worker 0 \n\tffffffff8100 tcp_sendmsg\n\t    5581 gateway::io::flush\n\t    5500 main\n\n\
                          control \n\t    77aa [unknown]\n\t    5500 a;b\n";

    #[test]
    fn stacks_are_folded_from_the_outside_in() {
        let folded = Folded::of_perf_script(SCRIPT);
        let wanted = "control;a:b;[unknown] 1\nworker 0;main;gateway::io::flush;tcp_sendmsg 2\n";
        assert_eq!((folded.text().as_str(), folded.samples()), (wanted, 3));
        assert_eq!(Folded::of_perf_script(""), Folded::default());
    }

    #[test]
    fn what_is_written_reads_back() {
        let path = std::env::temp_dir().join(format!("loadtest-folded-{}", std::process::id()));
        let folded = Folded::of_perf_script(SCRIPT);
        std::fs::write(&path, folded.text()).unwrap();
        assert_eq!(Folded::load(path.to_str().unwrap()).unwrap(), folded);
        std::fs::write(&path, "a;b 1\nno count here\n").unwrap();
        let error = Folded::load(path.to_str().unwrap()).unwrap_err().to_string();
        std::fs::remove_file(&path).unwrap();
        assert!(error.contains("line 2"), "{error}");
    }
}
