//! Ground: what is counted, as Prometheus reads it. Positions and documents come from the status,
//! so that no figure is kept twice; the rest is counted here by the stages.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, text};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::{MetricType, TypedMetric};
use prometheus_client::registry::{Registry, Unit};

use crate::postgres::Lsn;
use crate::status::{IndexReport, LinkState, PipelineReport, Status};

/// Which stage a figure is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct StageLabel {
    /// `source`, `plan`, `document`, `sink`, `checkpoint`.
    pub stage: &'static str,
}

/// Which operation of a row a figure is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OperationLabel {
    /// `insert`, `update`, `delete`, `truncate`.
    pub operation: &'static str,
}

/// Which index a figure is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct IndexLabel {
    /// The alias of the schema.
    pub index: Arc<str>,
}

/// What the stages count. Clones share the figures.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Bytes of WAL messages read from PostgreSQL.
    pub received_bytes: Counter,
    /// Committed transactions read from PostgreSQL.
    pub transactions: Counter,
    /// Changes of rows read from PostgreSQL.
    pub changes: Family<OperationLabel, Counter>,
    /// Changes whose former roots had to be asked for in the index.
    pub index_lookups: Counter,
    /// Reads that had to wait until a change became visible.
    pub rereads: Counter,
    /// One-to-one relations with several rows: the lowest key was taken.
    pub ambiguous_one_to_one: Family<IndexLabel, Counter>,
    /// Time a stage waited for the stage behind it.
    pub stage_blocked: Family<StageLabel, Counter<f64, AtomicU64>>,
    /// Bulk requests sent, retries included.
    pub bulk_requests: Counter,
    /// Bytes of their bodies, before compression.
    pub bulk_bytes: Counter,
    /// Documents sent again after 429, 503 or a lost connection.
    pub bulk_retries: Counter,
    /// How long a bulk request took.
    pub bulk_duration: Histogram,
    /// From a commit in PostgreSQL to its last document written.
    pub commit_to_written: Histogram,
    registry: Arc<Registry>,
}

impl Metrics {
    /// Nothing is counted yet.
    pub fn new(status: Arc<Status>) -> Self {
        // 1 ms to about 16 s, and 1 ms to about 70 min: a backlog may be long.
        let request_buckets = || exponential_buckets(0.001, 2.0, 15);
        let backlog_buckets = || exponential_buckets(0.001, 2.0, 23);
        let mut metrics = Self {
            received_bytes: Counter::default(),
            transactions: Counter::default(),
            changes: Family::default(),
            index_lookups: Counter::default(),
            rereads: Counter::default(),
            ambiguous_one_to_one: Family::default(),
            stage_blocked: Family::default(),
            bulk_requests: Counter::default(),
            bulk_bytes: Counter::default(),
            bulk_retries: Counter::default(),
            bulk_duration: Histogram::new(request_buckets()),
            commit_to_written: Histogram::new(backlog_buckets()),
            registry: Arc::default(),
        };
        metrics.registry = Arc::new(metrics.registry_with(status));
        metrics
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

    fn registry_with(&self, status: Arc<Status>) -> Registry {
        let mut registry = Registry::with_prefix("pgsyncd");
        let all = &mut registry;
        let received = self.received_bytes.clone();
        all.register_with_unit(
            "received",
            "WAL messages read from PostgreSQL",
            Unit::Bytes,
            received,
        );
        all.register("transactions", "Transactions read", self.transactions.clone());
        all.register("changes", "Changes of rows read", self.changes.clone());
        let lookups = self.index_lookups.clone();
        all.register(
            "index_lookups",
            "Changes whose former roots were asked for in the index",
            lookups,
        );
        let rereads = self.rereads.clone();
        all.register("rereads", "Reads that waited until a change became visible", rereads);
        let ambiguous = self.ambiguous_one_to_one.clone();
        all.register("ambiguous_one_to_one", "One-to-one relations with several rows", ambiguous);
        let blocked = self.stage_blocked.clone();
        let help = "Time a stage waited for the stage behind it";
        all.register_with_unit("stage_blocked", help, Unit::Seconds, blocked);
        all.register("bulk_requests", "Bulk requests sent", self.bulk_requests.clone());
        let bytes = self.bulk_bytes.clone();
        all.register_with_unit("bulk", "Bodies of bulk requests, uncompressed", Unit::Bytes, bytes);
        all.register("bulk_retries", "Documents sent again", self.bulk_retries.clone());
        let duration = self.bulk_duration.clone();
        all.register_with_unit("bulk_duration", "Time of a bulk request", Unit::Seconds, duration);
        let lag = self.commit_to_written.clone();
        let help = "From a commit in PostgreSQL to its last document written";
        all.register_with_unit("commit_to_written", help, Unit::Seconds, lag);
        all.register_collector(Box::new(StatusCollector { status }));
        registry
    }
}

/// Shows the figures of the status.
#[derive(Debug)]
struct StatusCollector {
    status: Arc<Status>,
}

type PipelineFigure = fn(&PipelineReport) -> i64;
type IndexFigure = fn(&IndexReport) -> u64;

/// Gauges with the label `database`.
const PIPELINE_GAUGES: &[(&str, &str, PipelineFigure)] = &[
    ("received_lsn", "Position read from PostgreSQL", |it| lsn(it.received)),
    ("written_lsn", "Position written by all sinks", |it| lsn(it.written)),
    ("durable_lsn", "Position kept by a checkpoint", |it| lsn(it.durable)),
    ("reported_lsn", "Position told to PostgreSQL", |it| lsn(it.reported)),
    ("server_lsn", "End of the server's WAL", |it| lsn(it.server)),
    ("behind_bytes", "WAL between checkpoint and server", |it| lsn(Lsn(it.behind_bytes))),
    ("source_up", "Whether PostgreSQL can be reached", |it| up(it.source.state)),
    ("sink_up", "Whether Elasticsearch can be reached", |it| up(it.sink.state)),
];

/// Counters with the labels `database` and `index`.
const INDEX_COUNTERS: &[(&str, &str, IndexFigure)] = &[
    ("documents_written", "Documents written", |it| it.written),
    ("documents_deleted", "Documents deleted", |it| it.deleted),
    ("documents_superseded", "Writes that met a newer document", |it| it.superseded),
    ("documents_rejected", "Documents refused: dead letters", |it| it.rejected),
];

impl Collector for StatusCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let report = self.status.snapshot();
        let ready = ConstGauge::new(i64::from(report.ready));
        let help = "Whether documents are current";
        let one = encoder.encode_descriptor("ready", help, None, MetricType::Gauge)?;
        ready.encode(one)?;
        for (name, help, figure) in PIPELINE_GAUGES {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for pipeline in &report.pipelines {
                let labels = [("database", pipeline.database.as_str())];
                ConstGauge::new(figure(pipeline)).encode(family.encode_family(&labels)?)?;
            }
        }
        let kind = ConstCounter::<u64>::TYPE;
        let help = "How often the pipeline was built again";
        let mut family = encoder.encode_descriptor("pipeline_restarts", help, None, kind)?;
        for pipeline in &report.pipelines {
            let labels = [("database", pipeline.database.as_str())];
            ConstCounter::new(pipeline.restarts).encode(family.encode_family(&labels)?)?;
        }
        let indexes = || {
            report.pipelines.iter().flat_map(|pipeline| {
                let label = |index| (pipeline.database.as_str(), index);
                pipeline.indexes.iter().map(label)
            })
        };
        for (name, help, figure) in INDEX_COUNTERS {
            let mut family = encoder.encode_descriptor(name, help, None, kind)?;
            for (database, index) in indexes() {
                let labels = [("database", database), ("index", index.index.as_str())];
                ConstCounter::new(figure(index)).encode(family.encode_family(&labels)?)?;
            }
        }
        let help = "Root rows read by the load";
        let mut family = encoder.encode_descriptor("load_rows", help, None, MetricType::Gauge)?;
        for (database, index) in indexes() {
            let labels = [("database", database), ("index", index.index.as_str())];
            let rows = lsn(Lsn(index.load_rows));
            ConstGauge::new(rows).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

fn lsn(lsn: Lsn) -> i64 {
    i64::try_from(lsn.0).unwrap_or(i64::MAX)
}

fn up(state: LinkState) -> i64 {
    i64::from(state == LinkState::Up)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::Phase;

    #[test]
    fn the_text_has_every_figure_once_with_its_unit() {
        let status = Arc::new(Status::new(1));
        let pipeline = status.pipeline("shop");
        pipeline.enter(Phase::Streaming);
        pipeline.source.up();
        pipeline.server.set(Lsn(7));
        pipeline.index("book").written.add(3);
        let metrics = Metrics::new(status);
        metrics.received_bytes.inc_by(5);
        metrics.stage_blocked.get_or_create(&StageLabel { stage: "plan" }).inc_by(1.5);
        metrics.bulk_duration.observe(0.2);
        let text = metrics.encode().unwrap();
        for line in [
            "pgsyncd_received_bytes_total 5",
            "pgsyncd_stage_blocked_seconds_total{stage=\"plan\"} 1.5",
            "pgsyncd_documents_written_total{database=\"shop\",index=\"book\"} 3",
            "pgsyncd_server_lsn{database=\"shop\"} 7",
            "pgsyncd_source_up{database=\"shop\"} 1",
            "pgsyncd_ready 0",
            "pgsyncd_bulk_duration_seconds_count 1",
        ] {
            assert_eq!(
                text.lines().filter(|present| *present == line).count(),
                1,
                "{line}\n{text}"
            );
        }
        assert!(text.ends_with("# EOF\n"));
    }
}
