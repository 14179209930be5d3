//! TCP segments as scripts write them.

use dpdk_backend::wire::tcp::{Flags, Options, Tcp};

/// A number, or any number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Is(u32),
    Any,
    /// This many milliseconds before the timestamp that the stack sent last.
    Before(u32),
}

impl Value {
    pub(crate) fn parse(text: &str) -> Result<Value, String> {
        let number = |text: &str| text.parse().map_err(|_| format!("no number: {text}"));
        match text {
            "any" => Ok(Value::Any),
            text if text.starts_with("last-") => number(&text[5..]).map(Value::Before),
            text => number(text).map(Value::Is),
        }
    }

    fn allows(self, value: u32) -> bool {
        self == Value::Any || self == Value::Is(value)
    }
}

/// A segment, its numbers relative.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    pub(crate) flags: Flags,
    pub(crate) sequence: u32,
    pub(crate) size: u32,
    pub(crate) ack: Option<u32>,
    pub(crate) window: Option<u16>,
    pub(crate) is_bad: bool,
    pub(crate) port: Option<u16>,
    pub(crate) options: Option<Expected>,
}

/// Options. Those that are `None` must be absent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Expected {
    pub(crate) mss: Option<Value>,
    pub(crate) scale: Option<Value>,
    pub(crate) sack_permitted: bool,
    pub(crate) timestamp: Option<(Value, Value)>,
    pub(crate) sack: Vec<(u32, u32)>,
}

pub(crate) fn parse(text: &str) -> Result<Written, String> {
    let (text, options) = match text.split_once('<') {
        Some((text, rest)) => (text, Some(rest.trim_end().trim_end_matches('>'))),
        None => (text, None),
    };
    let mut words = text.split_whitespace();
    let flags = words.next().ok_or("no flags")?;
    let mut written = Written {
        flags: parse_flags(flags)?,
        sequence: 0,
        size: 0,
        ack: None,
        window: None,
        is_bad: false,
        port: None,
        options: options.map(parse_options).transpose()?,
    };
    let range = words.next().ok_or("no sequence numbers")?;
    let (start, rest) = range.split_once(':').ok_or("SEQ:END(SIZE)")?;
    let (end, size) = rest.split_once('(').ok_or("SEQ:END(SIZE)")?;
    let number = |text: &str| text.parse::<u32>().map_err(|_| format!("no number: {text}"));
    written.sequence = number(start)?;
    written.size = number(size.trim_end_matches(')'))?;
    if number(end)? != written.sequence.wrapping_add(written.size) {
        return Err(format!("{range} does not add up"));
    }
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} what?"));
        match word {
            "ack" => written.ack = Some(number(value()?)?),
            "win" => written.window = Some(number(value()?)? as u16),
            "port" => written.port = Some(number(value()?)? as u16),
            "bad" => written.is_bad = true,
            other => return Err(format!("what is {other}?")),
        }
    }
    Ok(written)
}

fn parse_flags(text: &str) -> Result<Flags, String> {
    text.chars().try_fold(Flags::default(), |flags, letter| {
        let flag = match letter {
            'S' => Flags::SYN,
            'F' => Flags::FIN,
            'R' => Flags::RST,
            'P' => Flags::PSH,
            '.' => Flags::ACK,
            '-' => Flags::default(),
            other => return Err(format!("flag {other}?")),
        };
        Ok(flags.with(flag))
    })
}

fn parse_options(text: &str) -> Result<Expected, String> {
    let mut options = Expected::default();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let words: Vec<&str> = part.split_whitespace().collect();
        match words.as_slice() {
            ["nop"] => {}
            ["mss", value] => options.mss = Some(Value::parse(value)?),
            ["wscale", value] => options.scale = Some(Value::parse(value)?),
            ["sackOK"] => options.sack_permitted = true,
            ["TS", "val", value, "ecr", echo] => {
                options.timestamp = Some((Value::parse(value)?, Value::parse(echo)?));
            }
            ["sack", blocks @ ..] => {
                for block in blocks {
                    let (left, right) = block.split_once(':').ok_or("A:B")?;
                    let number = |text: &str| text.parse::<u32>().map_err(|_| format!("no number: {text}"));
                    options.sack.push((number(left)?, number(right)?));
                }
            }
            other => return Err(format!("what is {other:?}?")),
        }
    }
    Ok(options)
}

impl Expected {
    /// The options of a segment that the peer sends. SACK blocks become absolute numbers by `base`,
    /// echoes become the stack's clock by `last_stamp`.
    pub(crate) fn to_wire(&self, base: u32, last_stamp: u32) -> Options {
        let value = |value: Value| match value {
            Value::Is(value) => value,
            Value::Any => 0,
            Value::Before(ms) => last_stamp.wrapping_sub(ms),
        };
        let mut options = Options {
            mss: self.mss.map(|mss| value(mss) as u16),
            window_scale: self.scale.map(|scale| value(scale) as u8),
            sack_permitted: self.sack_permitted,
            timestamp: self.timestamp.map(|(sent, echo)| (value(sent), value(echo))),
            ..Options::default()
        };
        for (place, block) in options.sack.iter_mut().zip(&self.sack) {
            *place = (base.wrapping_add(block.0), base.wrapping_add(block.1));
            options.sack_count += 1;
        }
        options
    }
}

/// Compares a segment with what was expected. Numbers of the stack and of the peer are relative to
/// the bases.
pub(crate) fn compare(expected: &Written, got: &Tcp, size: u32, own: u32, peer: u32) -> Result<(), String> {
    let sequence = got.sequence.wrapping_sub(own);
    let is_same = expected.flags == got.flags && expected.sequence == sequence && expected.size == size;
    let ack = got.flags.has(Flags::ACK).then(|| got.acknowledgement.wrapping_sub(peer));
    let same_ack = expected.ack.is_none() || expected.ack == ack;
    let same_window = expected.window.is_none() || expected.window == Some(got.window);
    if !is_same || !same_ack || !same_window {
        return Err("another segment".into());
    }
    let Some(wanted) = &expected.options else { return Ok(()) };
    let options = &got.options;
    let check = |wanted: Option<Value>, got: Option<u32>, what: &str| match (wanted, got) {
        (None, None) => Ok(()),
        (Some(wanted), Some(got)) if wanted.allows(got) => Ok(()),
        _ => Err(format!("{what}: {wanted:?} wanted")),
    };
    check(wanted.mss, options.mss.map(u32::from), "mss")?;
    check(wanted.scale, options.window_scale.map(u32::from), "wscale")?;
    if wanted.sack_permitted != options.sack_permitted {
        return Err("sackOK".into());
    }
    if let Some((value, echo)) = wanted.timestamp {
        check(Some(value), options.timestamp.map(|stamp| stamp.0), "TS val")?;
        check(Some(echo), options.timestamp.map(|stamp| stamp.1), "TS ecr")?;
    }
    let blocks: Vec<(u32, u32)> =
        options.sack_blocks().iter().map(|(l, r)| (l.wrapping_sub(peer), r.wrapping_sub(peer))).collect();
    if blocks != wanted.sack {
        return Err(format!("sack {blocks:?}"));
    }
    Ok(())
}

/// The received segment, as a script would write it.
pub(crate) fn describe(got: &Tcp, size: u32, own: u32, peer: u32) -> String {
    let sequence = got.sequence.wrapping_sub(own);
    let mut text = format!("{:?} {sequence}:{}({size})", got.flags, sequence.wrapping_add(size));
    if got.flags.has(Flags::ACK) {
        text += &format!(" ack {}", got.acknowledgement.wrapping_sub(peer));
    }
    text += &format!(" win {}", got.window);
    let options = &got.options;
    let mut parts = vec![];
    parts.extend(options.mss.map(|mss| format!("mss {mss}")));
    parts.extend(options.sack_permitted.then(|| "sackOK".to_owned()));
    parts.extend(options.timestamp.map(|(value, echo)| format!("TS val {value} ecr {echo}")));
    parts.extend(options.window_scale.map(|scale| format!("wscale {scale}")));
    if options.sack_count > 0 {
        let block = |(l, r): &(u32, u32)| format!(" {}:{}", l.wrapping_sub(peer), r.wrapping_sub(peer));
        parts.push(format!("sack{}", options.sack_blocks().iter().map(block).collect::<String>()));
    }
    if parts.is_empty() { text } else { format!("{text} <{}>", parts.join(",")) }
}
