//! Numbers for people.

/// A time in nanoseconds, three significant digits.
pub fn nanos(nanos: f64) -> String {
    match nanos {
        n if n < 1e3 => format!("{n:.0} ns"),
        n if n < 1e6 => format!("{} µs", three(n / 1e3)),
        n if n < 1e9 => format!("{} ms", three(n / 1e6)),
        n => format!("{} s", three(n / 1e9)),
    }
}

/// A size in bytes.
pub fn bytes(bytes: f64) -> String {
    let sign = if bytes < 0.0 { "-" } else { "" };
    match bytes.abs() {
        b if b < 10_240.0 => format!("{sign}{b:.0} B"),
        b if b < 10_240.0 * 1024.0 => format!("{sign}{} KiB", three(b / 1024.0)),
        b if b < 10_240.0 * 1024.0 * 1024.0 => format!("{sign}{} MiB", three(b / 1024.0 / 1024.0)),
        b => format!("{sign}{} GiB", three(b / 1024.0 / 1024.0 / 1024.0)),
    }
}

/// A count or a rate: exact up to a million (thousands apart), then three digits.
pub fn number(number: f64) -> String {
    if number.abs() < 100.0 && number.fract() != 0.0 {
        return three(number);
    }
    let text = format!("{:.0}", number.abs());
    let mut out = String::new();
    for (at, digit) in text.chars().enumerate() {
        if at > 0 && (text.len() - at).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    if number < 0.0 { format!("-{out}") } else { out }
}

/// A share of one.
pub fn percent(share: f64) -> String {
    format!("{} %", three(share * 100.0))
}

/// Three significant digits, no exponent.
fn three(number: f64) -> String {
    match number.abs() {
        n if n >= 100.0 => format!("{number:.0}"),
        n if n >= 10.0 => format!("{number:.1}"),
        _ => format!("{number:.2}"),
    }
}

/// Seconds since 1970 as a date and time in UTC (days to civil, Howard Hinnant).
pub fn date(seconds: u64) -> String {
    let days = (seconds / 86_400) as i64 + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let (day, month) =
        (day_of_year - (153 * shifted + 2) / 5 + 1, if shifted < 10 { shifted + 3 } else { shifted - 9 });
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute) = (seconds / 3600 % 24, seconds / 60 % 60);
    format!("{year}-{month:02}-{day:02} {hour:02}:{minute:02} UTC")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_and_a_unit() {
        assert_eq!(nanos(999.0), "999 ns");
        assert_eq!(nanos(1234.0), "1.23 µs");
        assert_eq!(nanos(123_456_789.0), "123 ms");
        assert_eq!(bytes(8192.0), "8192 B");
        assert_eq!(bytes(-20480.0), "-20.0 KiB");
        assert_eq!(number(1_234_567.0), "1\u{202f}234\u{202f}567");
        assert_eq!(number(2.5), "2.50");
        assert_eq!(percent(0.999), "99.9 %");
    }

    #[test]
    fn dates_are_right_around_leap_days() {
        assert_eq!(date(0), "1970-01-01 00:00 UTC");
        assert_eq!(date(951_782_400), "2000-02-29 00:00 UTC");
        assert_eq!(date(1_772_323_199), "2026-02-28 23:59 UTC");
    }
}
