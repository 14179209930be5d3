//! Line charts as SVG: drawn here once, so that the page needs no library; a small script adds the
//! reading of points.

use super::units;
use std::fmt::Write;

/// Width of a chart in a column of its own, and of one over the whole page.
const WIDTH: f64 = 640.0;
const WIDTH_FULL: f64 = 1312.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 68.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 40.0;
/// At most so many points per line: more cannot be distinguished.
const POINTS_MAX: usize = 400;

/// The scale of an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scale {
    /// From zero, evenly.
    Linear,
    /// By decades.
    Log,
    /// Quantiles by their nines: 0 %, 90 %, 99 %, …
    Nines,
}

/// The unit of the numbers on an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Seconds,
    Nanos,
    Bytes,
    Rate,
    Count,
    Processors,
    Quantile,
}

impl Unit {
    fn format(self, value: f64) -> String {
        match self {
            Unit::Seconds => format!("{} s", trim(value)),
            Unit::Nanos => units::nanos(value),
            Unit::Bytes => units::bytes(value),
            Unit::Rate => format!("{}/s", units::number(value)),
            Unit::Count => units::number(value),
            Unit::Processors => format!("{value:.2}"),
            Unit::Quantile => format!("{} %", trim(value * 100.0)),
        }
    }

    /// A shorter form, for ticks.
    fn tick(self, value: f64) -> String {
        match self {
            Unit::Rate | Unit::Count | Unit::Processors | Unit::Seconds => short(value),
            Unit::Nanos | Unit::Bytes if value == 0.0 => "0".to_owned(),
            Unit::Nanos => round_time(value),
            Unit::Bytes => round_size(value),
            _ => self.format(value),
        }
    }
}

/// One line.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) name: String,
    /// Which of the page's colours.
    pub(crate) colour: usize,
    /// Filled below.
    pub(crate) area: bool,
    /// Dashed: the intended value, beside the measured one.
    pub(crate) dashed: bool,
    pub(crate) points: Vec<(f64, f64)>,
}

impl Line {
    /// A plain line.
    pub(crate) fn new(name: impl Into<String>, colour: usize, points: Vec<(f64, f64)>) -> Line {
        Line { name: name.into(), colour, area: false, dashed: false, points }
    }
}

/// A chart.
#[derive(Clone, Debug)]
pub(crate) struct Chart {
    pub(crate) title: &'static str,
    pub(crate) note: &'static str,
    pub(crate) x: (Scale, Unit, &'static str),
    pub(crate) y: (Scale, Unit),
    /// Over the whole page.
    pub(crate) full: bool,
    /// Stretches to shade, with their names: what was not measured.
    pub(crate) shades: Vec<(f64, f64, String)>,
    pub(crate) lines: Vec<Line>,
}

struct Frame {
    x: (f64, f64),
    y: (f64, f64),
}

impl Chart {
    /// The figure; nothing when there is nothing to draw.
    pub(crate) fn render(&self) -> String {
        if self.lines.iter().all(|line| line.points.is_empty()) {
            return String::new();
        }
        let frame = self.frame();
        let mut svg = String::new();
        let _ = write!(
            svg,
            "<svg viewBox=\"0 0 {} {HEIGHT}\" role=\"img\" aria-label=\"{}\">",
            self.width(),
            escape(self.title)
        );
        self.shade(&frame, &mut svg);
        self.axes(&frame, &mut svg);
        for line in &self.lines {
            self.draw(line, &frame, &mut svg);
        }
        svg.push_str(
            "<line class=\"cross\" y1=\"14\" y2=\"260\" x1=\"0\" x2=\"0\"/><g class=\"dots\"></g></svg>",
        );
        let legend: String = self.lines.iter().filter(|line| !line.points.is_empty()).map(legend).collect();
        format!(
            "<figure class=\"chart{}\"><figcaption><b>{}</b><span>{}</span></figcaption>{svg}\
             <div class=\"legend\">{legend}</div><script type=\"application/json\">{}</script></figure>",
            if self.full { " full" } else { "" },
            escape(self.title),
            escape(self.note),
            self.data(&frame)
        )
    }

    fn width(&self) -> f64 {
        if self.full { WIDTH_FULL } else { WIDTH }
    }

    fn frame(&self) -> Frame {
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let bound = |of: fn(&(f64, f64)) -> f64, scale: Scale| {
            let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
            for value in points().map(of) {
                let value = along(scale, value);
                (low, high) = (low.min(value), high.max(value));
            }
            match scale {
                Scale::Linear => (low.min(0.0), if high > 0.0 { high * 1.08 } else { 1.0 }),
                Scale::Log => (low.floor(), high.ceil().max(low.floor() + 1.0)),
                Scale::Nines => (0.0, high.max(1.0)),
            }
        };
        let mut x = bound(|point| point.0, self.x.0);
        if self.x.0 == Scale::Linear {
            x = (points().map(|point| point.0).fold(f64::INFINITY, f64::min), x.1 / 1.08);
            x.1 = x.1.max(x.0 + 1.0);
        }
        Frame { x, y: bound(|point| point.1, self.y.0) }
    }

    fn place(&self, frame: &Frame, point: (f64, f64)) -> (f64, f64) {
        let part = |(low, high): (f64, f64), at: f64| ((at - low) / (high - low)).clamp(0.0, 1.0);
        let x = part(frame.x, along(self.x.0, point.0));
        let y = part(frame.y, along(self.y.0, point.1));
        (LEFT + x * (self.width() - LEFT - RIGHT), HEIGHT - BOTTOM - y * (HEIGHT - TOP - BOTTOM))
    }

    fn shade(&self, frame: &Frame, svg: &mut String) {
        for (from, to, name) in &self.shades {
            let (left, _) = self.place(frame, (*from, 1.0));
            let (right, _) = self.place(frame, (*to, 1.0));
            if right <= left + 1.0 {
                continue;
            }
            let (width, height) = (right - left, HEIGHT - TOP - BOTTOM);
            let _ = write!(
                svg,
                "<rect class=\"shade\" x=\"{left:.1}\" y=\"{TOP}\" width=\"{width:.1}\" height=\"{height}\"/>"
            );
            if width > 56.0 {
                let (x, y) = (left + 5.0, TOP + 13.0);
                let _ = write!(svg, "<text class=\"tick\" x=\"{x:.1}\" y=\"{y}\">{}</text>", escape(name));
            }
        }
    }

    fn axes(&self, frame: &Frame, svg: &mut String) {
        for value in ticks(self.y.0, self.y.1, frame.y, 5) {
            let (_, y) = self.place(frame, (0.0, value));
            let (right, label) = (self.width() - RIGHT, self.y.1.tick(value));
            let _ = write!(
                svg,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
                 <text class=\"tick\" x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 8.0,
                y + 4.0,
                escape(&label)
            );
        }
        let base = HEIGHT - BOTTOM;
        for value in ticks(self.x.0, self.x.1, frame.x, 7) {
            let (x, _) = self.place(frame, (value, 1.0));
            let label = self.x.1.tick(value);
            let _ = write!(
                svg,
                "<line class=\"mark\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{base}\" y2=\"{}\"/>\
                 <text class=\"tick\" x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
                base + 4.0,
                base + 17.0,
                escape(&label)
            );
        }
        let (right, middle) = (self.width() - RIGHT, (LEFT + self.width() - RIGHT) / 2.0);
        let _ = write!(
            svg,
            "<line class=\"axis\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{base}\" y2=\"{base}\"/>\
             <text class=\"label\" x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            HEIGHT - 5.0,
            escape(self.x.2)
        );
    }

    fn draw(&self, line: &Line, frame: &Frame, svg: &mut String) {
        let places: Vec<(f64, f64)> = thin(&line.points).map(|point| self.place(frame, point)).collect();
        let (Some(first), Some(last)) = (places.first(), places.last()) else { return };
        let path: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let path = path.join(" ");
        let colour = line.colour;
        let base = HEIGHT - BOTTOM;
        if line.area {
            let _ = write!(
                svg,
                "<polygon class=\"area c{colour}\" points=\"{:.1},{base} {path} {:.1},{base}\"/>",
                first.0, last.0
            );
        }
        if places.len() == 1 {
            let _ = write!(
                svg,
                "<circle class=\"dot c{colour}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"4\"/>",
                first.0, first.1
            );
        }
        let dashed = if line.dashed { " dashed" } else { "" };
        let _ = write!(svg, "<polyline class=\"line c{colour}{dashed}\" points=\"{path}\"/>");
    }

    /// What the script needs to read points: places and words.
    fn data(&self, frame: &Frame) -> String {
        let lines = self.lines.iter().map(|line| {
            let points: Vec<_> = thin(&line.points)
                .map(|point| {
                    let (x, y) = self.place(frame, point);
                    let tenth = |place: f64| (place * 10.0).round() / 10.0;
                    (tenth(x), tenth(y), self.x.1.format(point.0), self.y.1.format(point.1))
                })
                .collect();
            serde_json::json!({ "n": line.name, "c": line.colour, "p": points })
        });
        // `</script>` must not end the element early.
        serde_json::Value::from_iter(lines).to_string().replace('<', "\\u003c")
    }
}

fn legend(line: &Line) -> String {
    let dashed = if line.dashed { " dashed" } else { "" };
    format!(
        "<span><svg width=\"22\" height=\"10\"><line class=\"line c{}{dashed}\" x1=\"1\" x2=\"21\" y1=\"5\" y2=\"5\"/></svg>{}</span>",
        line.colour,
        escape(&line.name)
    )
}

/// A value's place on its scale, before it is stretched to the frame.
fn along(scale: Scale, value: f64) -> f64 {
    match scale {
        Scale::Linear => value,
        Scale::Log => value.max(1.0).log10(),
        Scale::Nines => -(1.0 - value).max(1e-12).log10(),
    }
}

fn ticks(scale: Scale, unit: Unit, (low, high): (f64, f64), wanted: u32) -> Vec<f64> {
    match scale {
        Scale::Log => {
            let decades = low.round() as i32..=high.round() as i32;
            let all: Vec<f64> = decades.map(|decade| 10_f64.powi(decade)).collect();
            let step = all.len().div_ceil(8);
            all.into_iter().step_by(step).collect()
        }
        Scale::Nines => {
            let halves = [0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999, 0.999_999, 0.999_999_9];
            halves.into_iter().filter(|quantile| along(scale, *quantile) <= high + 1e-9).collect()
        }
        Scale::Linear => {
            let raw = (high - low) / f64::from(wanted);
            let base =
                if unit == Unit::Bytes { 1024_f64.powf((raw.max(1.0).log2() / 10.0).floor()) } else { 1.0 };
            let magnitude = 10_f64.powf((raw / base).log10().floor());
            let steps = [1.0, 2.0, 2.5, 5.0, 10.0].map(|step| step * magnitude * base);
            let step = steps.into_iter().find(|step| *step >= raw).unwrap_or(raw);
            let first = (low / step).ceil() as i64;
            let last = (high / step).floor() as i64;
            (first..=last).map(|number| number as f64 * step).collect()
        }
    }
}

/// At most [`POINTS_MAX`] of the points, the last one included.
fn thin(points: &[(f64, f64)]) -> impl Iterator<Item = (f64, f64)> + '_ {
    let step = points.len().div_ceil(POINTS_MAX).max(1);
    let last = points.len().saturating_sub(1);
    points.iter().enumerate().filter(move |(at, _)| at % step == 0 || *at == last).map(|(_, point)| *point)
}

fn trim(value: f64) -> String {
    let text = format!("{value:.5}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn short(value: f64) -> String {
    match value {
        v if v >= 1e6 => format!("{}M", trim((v / 1e4).round() / 100.0)),
        v if v >= 1e4 => format!("{}k", trim((v / 10.0).round() / 100.0)),
        v => trim(v),
    }
}

fn round_time(nanos: f64) -> String {
    match nanos {
        n if n < 1e3 => format!("{} ns", trim(n)),
        n if n < 1e6 => format!("{} µs", trim(n / 1e3)),
        n if n < 1e9 => format!("{} ms", trim(n / 1e6)),
        n => format!("{} s", trim(n / 1e9)),
    }
}

fn round_size(bytes: f64) -> String {
    match bytes {
        b if b < 1024.0 => format!("{} B", trim(b)),
        b if b < 1_048_576.0 => format!("{} KiB", trim(hundredths(b / 1024.0))),
        b if b < 1_073_741_824.0 => format!("{} MiB", trim(hundredths(b / 1_048_576.0))),
        b => format!("{} GiB", trim(hundredths(b / 1_073_741_824.0))),
    }
}

fn hundredths(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// Text for HTML.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_within() {
        assert_eq!(ticks(Scale::Linear, Unit::Rate, (0.0, 104.0), 5), [0.0, 25.0, 50.0, 75.0, 100.0]);
        assert_eq!(ticks(Scale::Log, Unit::Nanos, (3.0, 6.0), 5), [1e3, 1e4, 1e5, 1e6]);
        assert_eq!(ticks(Scale::Nines, Unit::Quantile, (0.0, 3.0), 5), [0.5, 0.9, 0.99, 0.999]);
    }

    #[test]
    fn hostile_names_stay_text() {
        let line = Line::new("</script><script>alert(1)</script>", 0, vec![(0.0, 1.0), (1.0, 2.0)]);
        let x = (Scale::Linear, Unit::Seconds, "time");
        let chart = Chart {
            title: "t",
            note: "",
            x,
            y: (Scale::Linear, Unit::Rate),
            full: false,
            shades: vec![],
            lines: vec![line],
        };
        let html = chart.render();
        assert!(!html.contains("<script>alert"), "{html}");
        assert_eq!(html.matches("</script>").count(), 1);
    }
}
