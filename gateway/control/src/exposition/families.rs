//! Metric families, put together by hand for `prometheus` to encode.

use gateway_core::metrics::{Histogram, bucket_bound};
use prometheus::proto::{Bucket, Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{Encoder, TextEncoder};

/// Label names and values.
pub(super) type Labels = Vec<(&'static str, String)>;

/// All families of one scrape.
#[derive(Default)]
pub(super) struct Families(Vec<MetricFamily>);

impl Families {
    fn family(&mut self, name: &str, help: &str, kind: MetricType, metrics: Vec<Metric>) {
        if metrics.is_empty() {
            return;
        }
        let mut family = MetricFamily::default();
        family.set_name(name.to_owned());
        family.set_help(help.to_owned());
        family.set_field_type(kind);
        family.set_metric(metrics);
        self.0.push(family);
    }

    /// Counters with labels.
    pub(super) fn counters(&mut self, name: &str, help: &str, rows: Vec<(Labels, f64)>) {
        let metrics = rows.into_iter().map(|(labels, value)| {
            let mut metric = Metric::from_label(pairs(labels));
            let mut counter = Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
            metric
        });
        self.family(name, help, MetricType::COUNTER, metrics.collect());
    }

    /// Gauges with labels.
    pub(super) fn gauges(&mut self, name: &str, help: &str, rows: Vec<(Labels, f64)>) {
        let metrics = rows.into_iter().map(|(labels, value)| {
            let mut metric = Metric::from_label(pairs(labels));
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
            metric
        });
        self.family(name, help, MetricType::GAUGE, metrics.collect());
    }

    /// One counter.
    pub(super) fn counter(&mut self, name: &str, help: &str, value: f64) {
        self.counters(name, help, vec![(Vec::new(), value)]);
    }

    /// One gauge.
    pub(super) fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.gauges(name, help, vec![(Vec::new(), value)]);
    }

    /// The sum of histograms, in seconds.
    pub(super) fn histogram(&mut self, name: &str, help: &str, all: &[&Histogram]) {
        let mut counts: Vec<u64> = Vec::new();
        for histogram in all {
            let buckets = histogram.buckets();
            for (index, count) in buckets.enumerate() {
                if index == counts.len() {
                    counts.push(0);
                }
                counts[index] += count;
            }
        }
        let mut cumulative = 0;
        let buckets = bounds().zip(&counts).map(|(bound, count)| {
            cumulative += count;
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(bound);
            bucket.set_cumulative_count(cumulative);
            bucket
        });
        let mut histogram = prometheus::proto::Histogram::default();
        histogram.set_bucket(buckets.collect());
        histogram.set_sample_count(counts.iter().sum());
        histogram.set_sample_sum(all.iter().map(|one| one.sum_nanos() as f64 / 1e9).sum());
        let mut metric = Metric::default();
        metric.set_histogram(histogram);
        self.family(name, help, MetricType::HISTOGRAM, vec![metric]);
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

fn pairs(labels: Labels) -> Vec<LabelPair> {
    let pair = |(name, value): (&'static str, String)| {
        let mut pair = LabelPair::default();
        pair.set_name(name.to_owned());
        pair.set_value(value);
        pair
    };
    labels.into_iter().map(pair).collect()
}

/// Upper bounds of a histogram's buckets, in seconds.
fn bounds() -> impl Iterator<Item = f64> {
    (0..).map_while(bucket_bound).map(|nanos| nanos as f64 / 1e9)
}
