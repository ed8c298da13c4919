//! Ground: the figures of the status as Prometheus reads them. Nothing is counted here, so that no
//! figure is kept twice: `families.rs` is the table of what there is.

mod families;

use std::fmt::{self, Write as _};
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use crate::status::Status;
use families::{FAMILIES, Family, Figures, Kind, Sample, Value};

/// All figures, to be encoded. Clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Arc<Registry>,
}

/// Reads the status each time it is asked.
#[derive(Debug)]
struct StatusCollector {
    status: Arc<Status>,
}

impl Metrics {
    /// The figures of this status.
    pub fn new(status: Arc<Status>) -> Self {
        let mut registry = Registry::with_prefix(families::PREFIX);
        registry.register_collector(Box::new(StatusCollector { status }));
        Self { registry: Arc::new(registry) }
    }

    /// Everything in the text format of `OpenMetrics`.
    ///
    /// # Errors
    /// Never in practice: the text is written to memory.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut encoded = String::new();
        text::encode(&mut encoded, &self.registry)?;
        Ok(encoded)
    }
}

impl Collector for StatusCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let figures = Figures { status: self.status.snapshot(), stages: self.status.stages() };
        for family in FAMILIES {
            let kind = match family.kind {
                Kind::Gauge => MetricType::Gauge,
                Kind::Counter => MetricType::Counter,
                Kind::Histogram => MetricType::Histogram,
            };
            let unit = family.unit.map(families::Unit::as_prometheus);
            let mut samples =
                encoder.encode_descriptor(family.name, family.help, unit.as_ref(), kind)?;
            for Sample { labels, value } in (family.samples)(&figures) {
                let labels: Vec<(&str, &str)> =
                    family.labels.iter().copied().zip(labels.iter().map(|it| &**it)).collect();
                if labels.is_empty() {
                    encode_value(&mut samples, &value, family.kind)?;
                } else {
                    encode_value(&mut samples.encode_family(&labels)?, &value, family.kind)?;
                }
            }
        }
        Ok(())
    }
}

fn encode_value(encoder: &mut MetricEncoder<'_>, value: &Value, kind: Kind) -> fmt::Result {
    match (value, kind) {
        (Value::Whole(number), Kind::Counter) => {
            encoder.encode_counter::<NoLabelSet, _, f64>(number, None)
        }
        (Value::Seconds(seconds), Kind::Counter) => {
            encoder.encode_counter::<NoLabelSet, _, f64>(seconds, None)
        }
        (Value::Whole(number), Kind::Gauge | Kind::Histogram) => {
            encoder.encode_gauge(&i64::try_from(*number).unwrap_or(i64::MAX))
        }
        (Value::Seconds(seconds), Kind::Gauge | Kind::Histogram) => encoder.encode_gauge(seconds),
        (Value::Durations(report), _) => {
            let (sum, count) = (report.sum, report.count);
            encoder.encode_histogram::<NoLabelSet>(sum, count, &report.buckets, None)
        }
    }
}

/// `docs/metrics.md`: every family with its kind, labels and meaning.
pub fn markdown() -> String {
    let mut text = families::MARKDOWN_HEAD.to_owned();
    for family in FAMILIES {
        let Family { help, labels, .. } = family;
        let kind = match family.kind {
            Kind::Gauge => "gauge",
            Kind::Counter => "counter",
            Kind::Histogram => "histogram",
        };
        let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
        let (name, labels) = (family.full_name(), labels.join(", "));
        // Writing to a String cannot fail.
        let written = writeln!(text, "| `{name}` | {kind} | {labels} | {help} |");
        debug_assert!(written.is_ok());
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::*;
    use crate::postgres::Lsn;
    use crate::status::{Blocked, Changes, Phase, StageFigures};

    fn busy() -> Arc<Status> {
        let status = Arc::new(Status::new(1));
        let pipeline = status.pipeline("shop");
        pipeline.enter(Phase::Streaming);
        pipeline.source.up();
        pipeline.server.set(Lsn(7));
        pipeline.wrote_commit_of(std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(5));
        let index = pipeline.index("book");
        index.written.add(3);
        index.set_load_total(Some(9));
        pipeline.stages.counted(StageFigures {
            received_bytes: 5,
            changes: Changes { updates: 4, ..Changes::default() },
            held_rows: 6,
            blocked: Blocked { plan: Duration::from_millis(1500), ..Blocked::default() },
            ..StageFigures::default()
        });
        pipeline.stages.bulk_duration.observe(Duration::from_millis(200));
        status
    }

    #[test]
    fn the_text_has_every_figure_once_with_its_unit() {
        let text = Metrics::new(busy()).encode().unwrap();
        for line in [
            "pgsyncd_received_bytes_total{database=\"shop\"} 5",
            "pgsyncd_changes_total{database=\"shop\",operation=\"update\"} 4",
            "pgsyncd_stage_blocked_seconds_total{database=\"shop\",stage=\"plan\"} 1.5",
            "pgsyncd_stage_blocked_seconds_total{database=\"shop\",stage=\"sink\"} 0.0",
            "pgsyncd_held_row_lookups_total{database=\"shop\"} 6",
            "pgsyncd_documents_written_total{database=\"shop\",index=\"book\"} 3",
            "pgsyncd_load_total_rows{database=\"shop\",index=\"book\"} 9",
            "pgsyncd_server_lsn{database=\"shop\"} 7",
            "pgsyncd_source_up{database=\"shop\"} 1",
            "pgsyncd_last_commit_timestamp_seconds{database=\"shop\"} 5.0",
            "pgsyncd_ready 0",
            "pgsyncd_bulk_duration_seconds_count{database=\"shop\"} 1",
            "pgsyncd_bulk_duration_seconds_bucket{le=\"0.256\",database=\"shop\"} 1",
            "pgsyncd_bulk_duration_seconds_bucket{le=\"+Inf\",database=\"shop\"} 1",
        ] {
            let found = text.lines().filter(|present| *present == line).count();
            assert_eq!(found, 1, "{line}\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn the_table_in_the_documentation_names_what_is_encoded() {
        let text = Metrics::new(busy()).encode().unwrap();
        let encoded: BTreeSet<String> = text
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE "))
            .map(|line| match line.split_once(' ').unwrap() {
                (name, "counter") => format!("{name}_total"),
                (name, _) => name.to_owned(),
            })
            .collect();
        let documented: BTreeSet<String> = markdown()
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
            .map(|(name, _)| name.to_owned())
            .collect();
        assert_eq!(documented, encoded);
        assert_eq!(encoded.len(), FAMILIES.len(), "a name stands for one family");
    }
}
