//! Metric families, put together by hand for `prometheus` to encode.

use gateway_core::metrics::{Histogram, Metric, MetricKind, bucket_bound};
use prometheus::proto;
use prometheus::proto::{LabelPair, MetricFamily, MetricType};
use prometheus::{Encoder, TextEncoder};

/// Values of a series' labels, in the order of the metric's, and of the series.
pub(super) type Row = (Vec<String>, f64);

/// All families of one scrape.
#[derive(Default)]
pub(super) struct Families(Vec<MetricFamily>);

impl Families {
    fn family(&mut self, metric: &Metric, series: Vec<proto::Metric>) {
        if series.is_empty() {
            return;
        }
        let kind = match metric.kind {
            MetricKind::Counter => MetricType::COUNTER,
            MetricKind::Gauge => MetricType::GAUGE,
            MetricKind::Histogram => MetricType::HISTOGRAM,
        };
        let mut family = MetricFamily::default();
        family.set_name(metric.name.to_owned());
        family.set_help(metric.help.to_owned());
        family.set_field_type(kind);
        family.set_metric(series);
        self.0.push(family);
    }

    /// The series of a counter or gauge with labels. Without any the metric is not shown.
    pub(super) fn rows(&mut self, metric: &Metric, rows: impl IntoIterator<Item = Row>) {
        let series = rows.into_iter().map(|(labels, value)| {
            let mut series = proto::Metric::from_label(pairs(metric, labels));
            if metric.kind == MetricKind::Counter {
                let mut counter = proto::Counter::default();
                counter.set_value(value);
                series.set_counter(counter);
            } else {
                let mut gauge = proto::Gauge::default();
                gauge.set_value(value);
                series.set_gauge(gauge);
            }
            series
        });
        self.family(metric, series.collect());
    }

    /// A counter or gauge without labels.
    pub(super) fn value(&mut self, metric: &Metric, value: f64) {
        self.rows(metric, [(Vec::new(), value)]);
    }

    /// The sum of histograms, in seconds.
    pub(super) fn durations<'h>(&mut self, metric: &Metric, all: impl Iterator<Item = &'h Histogram>) {
        let (mut counts, mut nanos): (Vec<u64>, u64) = (Vec::new(), 0);
        for histogram in all {
            nanos += histogram.sum_nanos();
            for (index, count) in histogram.buckets().enumerate() {
                if index == counts.len() {
                    counts.push(0);
                }
                counts[index] += count;
            }
        }
        let mut cumulative = 0;
        let buckets = bounds().zip(&counts).map(|(bound, count)| {
            cumulative += count;
            let mut bucket = proto::Bucket::default();
            bucket.set_upper_bound(bound);
            bucket.set_cumulative_count(cumulative);
            bucket
        });
        let mut histogram = proto::Histogram::default();
        histogram.set_bucket(buckets.collect());
        histogram.set_sample_count(counts.iter().sum());
        histogram.set_sample_sum(nanos as f64 / 1e9);
        let mut series = proto::Metric::default();
        series.set_histogram(histogram);
        self.family(metric, vec![series]);
    }

    /// The names that are shown.
    #[cfg(test)]
    pub(super) fn names(&self) -> Vec<&str> {
        self.0.iter().map(MetricFamily::name).collect()
    }

    /// The text.
    pub(super) fn encode(self) -> String {
        let mut text = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.0, &mut text) {
            // A family without metrics or without a name; `family` makes neither.
            tracing::error!(%error, "metrics could not be encoded");
        }
        String::from_utf8_lossy(&text).into_owned()
    }
}

fn pairs(metric: &Metric, values: Vec<String>) -> Vec<LabelPair> {
    debug_assert_eq!(metric.labels.len(), values.len(), "labels of {}", metric.name);
    let pair = |(name, value): (&&str, String)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value(value);
        pair
    };
    metric.labels.iter().zip(values).map(pair).collect()
}

/// Upper bounds of a histogram's buckets, in seconds.
fn bounds() -> impl Iterator<Item = f64> {
    (0..).map_while(bucket_bound).map(|nanos| nanos as f64 / 1e9)
}
