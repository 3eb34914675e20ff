//! The text format of Prometheus, version 0.0.4.

use std::fmt::Write as _;

use super::{Histogram, Metric, Reading};

/// What a scrape is answered with.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Takes the samples of one metric.
pub(crate) struct Samples<'a> {
    metric: &'a Metric,
    text: &'a mut String,
    has_head: bool,
}

/// Writes a metric, or nothing where it has no samples.
pub(super) fn write(metric: &Metric, reading: &Reading, text: &mut String) {
    (metric.read)(reading, &mut Samples { metric, text, has_head: false });
}

impl Samples<'_> {
    /// The only sample of a metric without labels.
    pub(crate) fn one(&mut self, value: f64) {
        self.with(&[], value);
    }

    /// The only sample of a counter without labels.
    pub(crate) fn count(&mut self, value: u64) {
        self.with(&[], value as f64);
    }

    /// 1 for yes.
    pub(crate) fn flag(&mut self, value: bool) {
        self.with(&[], f64::from(u8::from(value)));
    }

    /// A sample with the values of its labels.
    pub(crate) fn with(&mut self, values: &[&str], value: f64) {
        self.sample("", values, None, value);
    }

    /// All samples of a histogram without labels.
    pub(crate) fn histogram(&mut self, histogram: &Histogram) {
        for (bound, count) in histogram.buckets() {
            self.sample("_bucket", &[], Some(&bound.to_string()), count as f64);
        }
        let count = histogram.count() as f64;
        self.sample("_bucket", &[], Some("+Inf"), count);
        self.sample("_sum", &[], None, histogram.sum().as_secs_f64());
        self.sample("_count", &[], None, count);
    }

    fn sample(&mut self, suffix: &str, values: &[&str], bound: Option<&str>, value: f64) {
        let Metric { name, kind, labels, help, .. } = self.metric;
        debug_assert_eq!(labels.len(), values.len(), "{name}");
        // Writing into a string cannot fail.
        if !std::mem::replace(&mut self.has_head, true) {
            let help = help.replace('\\', "\\\\");
            let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {}", kind.name());
        }
        let _ = write!(self.text, "{name}{suffix}");
        let pairs = labels.iter().copied().zip(values.iter().copied());
        for (at, (label, value)) in pairs.chain(bound.map(|it| ("le", it))).enumerate() {
            let before = if at == 0 { '{' } else { ',' };
            let _ = write!(self.text, "{before}{label}=\"{}\"", escaped(value));
        }
        let after = if labels.is_empty() && bound.is_none() { "" } else { "}" };
        let _ = writeln!(self.text, "{after} {value}");
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::Kind;
    use super::*;

    fn text(labels: &'static [&'static str], say: fn(&mut Samples<'_>)) -> String {
        let (name, kind, unit) = ("mwid_x_total", Kind::Counter, "");
        let metric = Metric { name, kind, unit, labels, help: "A \\ b.", read: |_, _| {} };
        let mut text = String::new();
        say(&mut Samples { metric: &metric, text: &mut text, has_head: false });
        text
    }

    #[test]
    fn a_value_of_a_label_cannot_leave_its_quotes() {
        let all = text(&["a", "b"], |out| {
            out.with(&["x\"}\n# \\", "y"], 1.5);
            out.with(&["", "z"], 18_446_744_073_709_551_615.0);
        });
        assert_eq!(
            all,
            "# HELP mwid_x_total A \\\\ b.\n# TYPE mwid_x_total counter\n\
             mwid_x_total{a=\"x\\\"}\\n# \\\\\",b=\"y\"} 1.5\n\
             mwid_x_total{a=\"\",b=\"z\"} 18446744073709552000\n"
        );
    }

    #[test]
    fn a_histogram_has_its_buckets_its_sum_and_its_count() {
        let all = text(&[], |out| {
            let mut histogram = Histogram::default();
            histogram.observe(Duration::from_millis(1500));
            histogram.observe(Duration::from_secs(500));
            out.histogram(&histogram);
        });
        for line in [
            "mwid_x_total_bucket{le=\"0.001\"} 0\n",
            "mwid_x_total_bucket{le=\"1\"} 0\n",
            "mwid_x_total_bucket{le=\"2.5\"} 1\n",
            "mwid_x_total_bucket{le=\"120\"} 1\n",
            "mwid_x_total_bucket{le=\"+Inf\"} 2\n",
            "mwid_x_total_sum 501.5\nmwid_x_total_count 2\n",
        ] {
            assert!(all.contains(line), "{line} is not in {all}");
        }
    }

    #[test]
    fn without_a_sample_there_is_no_line() {
        assert_eq!(text(&[], |_| {}), "");
    }
}
