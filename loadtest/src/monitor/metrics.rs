//! Reads the server's /metrics: every counter and gauge, summed over its labels.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// At most so many names are kept.
const NAMES_MAX: usize = 400;
/// At most so many bytes are read.
const SIZE_MAX: u64 = 16 << 20;

/// Scrapes `address`; empty without an answer.
pub(crate) fn scrape(address: SocketAddr) -> BTreeMap<String, f64> {
    fetch(address).map(|text| parse(&text)).unwrap_or_default()
}

/// The value of one series, named with its labels; `None` where it is missing.
pub(crate) fn series(address: SocketAddr, name: &str) -> Option<f64> {
    let text = fetch(address)?;
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    value.split_ascii_whitespace().next()?.parse().ok()
}

fn fetch(address: SocketAddr) -> Option<String> {
    let patience = Duration::from_secs(2);
    let mut stream = TcpStream::connect_timeout(&address, patience).ok()?;
    stream.set_read_timeout(Some(patience)).ok()?;
    stream.set_write_timeout(Some(patience)).ok()?;
    write!(stream, "GET /metrics HTTP/1.0\r\nHost: {address}\r\nConnection: close\r\n\r\n").ok()?;
    let mut bytes = Vec::new();
    stream.take(SIZE_MAX).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let (head, body) = text.split_once("\r\n\r\n")?;
    head.split(' ').nth(1).filter(|status| *status == "200")?;
    Some(body.to_owned())
}

/// The text format of Prometheus; histogram buckets are left out.
pub(crate) fn parse(text: &str) -> BTreeMap<String, f64> {
    let mut values = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, rest) = match line.split_once('{') {
            Some((name, rest)) => (name, rest.rsplit_once('}').map_or("", |(_, value)| value)),
            None => line.split_once(' ').unwrap_or((line, "")),
        };
        let value = rest.split_ascii_whitespace().next().and_then(|value| value.parse::<f64>().ok());
        let Some(value) = value.filter(|value| value.is_finite()) else { continue };
        if name.ends_with("_bucket") || (values.len() >= NAMES_MAX && !values.contains_key(name)) {
            continue;
        }
        *values.entry(name.to_owned()).or_insert(0.0) += value;
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_summed_and_buckets_left_out() {
        let text = "# HELP a b\na_total{x=\"1\"} 2\na_total{x=\"}\"} 3 1700000000\nb 1.5\nc_bucket{le=\"1\"} 9\nbroken\n";
        assert_eq!(parse(text), BTreeMap::from([("a_total".to_owned(), 5.0), ("b".to_owned(), 1.5)]));
    }
}
