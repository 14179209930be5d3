//! Lines of scripts.

use crate::segment::{self, Written};

/// The time of a line.
#[derive(Clone, Copy, Debug)]
pub(crate) enum When {
    After(f64),
    At(f64),
}

/// The step of a line.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Config(Vec<(String, u64)>),
    Listen,
    Handshake {
        actively: bool,
        words: Vec<String>,
    },
    Connect,
    Send(usize),
    Finish,
    Close,
    Accept(bool),
    Unlisten,
    Hold(bool),
    Inject(Written),
    Expect(Written),
    /// A frame other than TCP that the peer sends, or that is expected.
    InjectOther(Vec<String>),
    ExpectOther(String),
    Quiet,
    Event(Vec<String>),
    NoEvent,
    Counter(String, u64),
    Icmp(Vec<String>),
}

#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) number: usize,
    pub(crate) when: When,
    pub(crate) step: Step,
}

pub(crate) fn parse(text: &str) -> Result<Vec<Line>, String> {
    let mut lines = vec![];
    for (index, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let number = index + 1;
        let step = parse_line(line).map_err(|problem| format!("{number}: {problem}"))?;
        lines.push(Line { number, when: step.0, step: step.1 });
    }
    Ok(lines)
}

fn parse_line(line: &str) -> Result<(When, Step), String> {
    let (time, rest) = match line.chars().next() {
        Some('+' | '@') => line.split_once(' ').ok_or("nothing to do")?,
        _ => ("+0", line),
    };
    let seconds = time[1..].parse().map_err(|_| format!("no time: {time}"))?;
    let when = if time.starts_with('@') { When::At(seconds) } else { When::After(seconds) };
    Ok((when, parse_step(rest.trim())?))
}

fn parse_step(text: &str) -> Result<Step, String> {
    let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
    let rest = || words[1..].to_vec();
    let number = |text: &str| text.parse::<u64>().map_err(|_| format!("no number: {text}"));
    let pair = |text: &String| -> Result<(String, u64), String> {
        let (name, value) = text.split_once('=').ok_or_else(|| format!("NAME=N, not {text}"))?;
        Ok((name.to_owned(), number(value)?))
    };
    let second = words.get(1).map(String::as_str).unwrap_or_default();
    Ok(match words[0].as_str() {
        "config" => Step::Config(rest().iter().map(pair).collect::<Result<_, _>>()?),
        "listen" => Step::Listen,
        "established" => Step::Handshake { actively: false, words: rest() },
        "connected" => Step::Handshake { actively: true, words: rest() },
        "connect" => Step::Connect,
        "send" => Step::Send(number(second)? as usize),
        "finish" => Step::Finish,
        "close" => Step::Close,
        "accept" => Step::Accept(second == "on"),
        "unlisten" => Step::Unlisten,
        "hold" => Step::Hold(second == "on"),
        "quiet" => Step::Quiet,
        "event" => Step::Event(rest()),
        "no" => Step::NoEvent,
        "counter" => {
            let (name, value) = pair(&second.to_owned())?;
            Step::Counter(name, value)
        }
        "icmp" => Step::Icmp(rest()),
        "<" if is_other(second) => Step::InjectOther(rest()),
        ">" if is_other(second) => Step::ExpectOther(rest().join(" ")),
        "<" => Step::Inject(segment::parse(&text[1..])?),
        ">" => Step::Expect(segment::parse(&text[1..])?),
        other => return Err(format!("what is {other}?")),
    })
}

fn is_other(word: &str) -> bool {
    matches!(word, "arp" | "ns" | "na" | "icmp" | "echo" | "raw")
}
