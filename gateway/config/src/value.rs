//! Type and value of one setting, independent of where it was written.

use std::fmt;
use std::net::SocketAddr;

/// What may be written for a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A whole number in this range.
    Integer(i64, i64),
    /// `true` or `false`.
    Bool,
    /// Text of at most this many bytes.
    Text(usize),
    /// An IP address and a port.
    Address,
    /// A list of texts; in the environment and in flags, separated by commas.
    Texts(usize),
}

/// A value that fits its [`Kind`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// For `Choice`, `Text` and `Address`.
    Text(String),
    /// For `Integer`.
    Integer(i64),
    /// For `Bool`.
    Bool(bool),
    /// For `Texts`.
    Texts(Vec<String>),
}

impl fmt::Display for Value {
    /// As TOML.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Text(text) => write_quoted(f, text),
            Value::Integer(number) => write!(f, "{number}"),
            Value::Bool(flag) => write!(f, "{flag}"),
            Value::Texts(texts) => {
                f.write_str("[")?;
                for (index, text) in texts.iter().enumerate() {
                    f.write_str(if index == 0 { "" } else { ", " })?;
                    write_quoted(f, text)?;
                }
                f.write_str("]")
            }
        }
    }
}

fn write_quoted(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    f.write_str("\"")?;
    for one in text.chars() {
        match one {
            '"' => f.write_str("\\\"")?,
            '\\' => f.write_str("\\\\")?,
            '\n' => f.write_str("\\n")?,
            '\t' => f.write_str("\\t")?,
            one if one.is_control() => write!(f, "\\u{:04X}", u32::from(one))?,
            one => write!(f, "{one}")?,
        }
    }
    f.write_str("\"")
}

impl Kind {
    /// What is expected, to finish the sentence "expected …".
    pub fn expected(&self) -> String {
        match self {
            Kind::Choice([only]) => format!("\"{only}\""),
            Kind::Choice(words) => {
                let quoted: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
                format!("one of {}", quoted.join(", "))
            }
            Kind::Integer(min, i64::MAX) => format!("a whole number of at least {min}"),
            Kind::Integer(min, max) => format!("a whole number from {min} to {max}"),
            Kind::Bool => "true or false".into(),
            Kind::Text(size_max) => format!("text of at most {size_max} bytes"),
            Kind::Address => "an IP address and a port, such as \"0.0.0.0:3101\" or \"[::]:3101\"".into(),
            Kind::Texts(count_max) => format!("a list of at most {count_max} texts, such as [\"a\", \"b\"]"),
        }
    }

    /// Reads a value of a flag or of the environment.
    ///
    /// # Errors
    /// What to write instead, beyond [`Kind::expected`]; often nothing.
    pub fn parse(&self, text: &str) -> Result<Value, Option<String>> {
        let value = match self {
            Kind::Integer(..) => match text.replace('_', "").parse() {
                Ok(number) => Value::Integer(number),
                Err(_) => return Err(plain_number(text)),
            },
            Kind::Bool => Value::Bool(text.parse().map_err(|_| true_or_false(text))?),
            Kind::Texts(_) if text.is_empty() => Value::Texts(Vec::new()),
            Kind::Texts(_) if text.trim_start().starts_with('[') => toml_texts(text).ok_or_else(|| {
                Some(
                    "texts in double quotes, as in a file, or plain ones with commas between them".to_owned(),
                )
            })?,
            Kind::Texts(_) => Value::Texts(text.split(',').map(|part| part.trim().to_owned()).collect()),
            Kind::Choice(_) | Kind::Text(_) | Kind::Address => Value::Text(text.to_owned()),
        };
        self.check(value)
    }

    /// Lets a value pass that fits.
    ///
    /// # Errors
    /// As [`Kind::parse`].
    pub fn check(&self, value: Value) -> Result<Value, Option<String>> {
        let fits = match (self, &value) {
            (Kind::Choice(words), Value::Text(text)) => {
                if !words.contains(&text.as_str()) {
                    return Err(super::nearest::nearest(text, words).map(|word| format!("\"{word}\"")));
                }
                true
            }
            (Kind::Integer(min, max), Value::Integer(number)) => (min..=max).contains(&number),
            (Kind::Integer(..), Value::Text(text)) => return Err(plain_number(text)),
            (Kind::Bool, Value::Bool(_)) => true,
            (Kind::Bool, other) => return Err(true_or_false(other.to_string().trim_matches('"'))),
            (Kind::Text(size_max), Value::Text(text)) => text.len() <= *size_max && printable(text),
            (Kind::Address, Value::Text(text)) => text.parse::<SocketAddr>().is_ok(),
            (Kind::Texts(count_max), Value::Texts(texts)) => {
                texts.len() <= *count_max
                    && texts.iter().all(|text| !text.is_empty() && text.len() <= 1024 && printable(text))
            }
            (Kind::Texts(_), Value::Text(text)) => {
                return Err(Some(Value::Texts(vec![text.clone()]).to_string()));
            }
            _ => false,
        };
        if fits { Ok(value) } else { Err(None) }
    }
}

/// `["a", "b"]`, as in a file.
fn toml_texts(text: &str) -> Option<Value> {
    let line = format!("list = {}", text.trim());
    let table = toml::de::DeTable::parse(&line).ok()?.into_inner();
    let list = table.get("list").filter(|_| table.len() == 1)?.get_ref().as_array()?;
    let texts = list.iter().map(|item| item.get_ref().as_str().map(str::to_owned));
    texts.collect::<Option<Vec<_>>>().map(Value::Texts)
}

fn printable(text: &str) -> bool {
    !text.chars().any(char::is_control)
}

/// For the words and numbers that other products take.
fn true_or_false(text: &str) -> Option<String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" | "enabled" => Some("true".into()),
        "false" | "no" | "off" | "0" | "disabled" => Some("false".into()),
        _ => None,
    }
}

/// For numbers written with a unit: the unit is part of the key's name.
fn plain_number(text: &str) -> Option<String> {
    let digits = text.trim_end_matches(|one: char| one.is_ascii_alphabetic() || one.is_whitespace());
    let unit = text[digits.len()..].trim();
    let number: i64 = digits.replace('_', "").parse().ok()?;
    if unit.is_empty() {
        Some(number.to_string())
    } else {
        Some("a plain number: the key's name says the unit".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_print_as_toml_that_reads_back() {
        let value = Value::Texts(vec!["a\"b".into(), "c\\d\n\u{1}é".into()]);
        let text = format!("key = {value}");
        let table = toml::de::DeTable::parse(&text).unwrap().into_inner();
        let texts = table["key"].get_ref().as_array().unwrap();
        assert_eq!(texts[1].get_ref().as_str(), Some("c\\d\n\u{1}é"));
    }

    #[test]
    fn lists_are_taken_with_commas_and_as_toml() {
        let kind = Kind::Texts(4);
        let list = Ok(Value::Texts(vec!["chat".into(), "app".into()]));
        assert_eq!(kind.parse(r#"["chat", "app"]"#), list);
        assert_eq!(kind.parse("chat, app"), list);
        for broken in [r#"["chat""#, "[chat]", "[1]", "[\"a\"]\nother = 1"] {
            assert!(kind.parse(broken).is_err(), "{broken}");
        }
    }

    #[test]
    fn a_number_with_a_unit_is_told_apart() {
        let kind = Kind::Integer(1, 10);
        assert_eq!(kind.parse("7"), Ok(Value::Integer(7)));
        assert!(kind.parse("10s").unwrap_err().unwrap().contains("unit"));
        assert_eq!(kind.parse("11"), Err(None));
        assert_eq!(kind.parse("é"), Err(None));
    }
}
