//! The table of metric families: name, meaning, labels, and where the figure is taken from. Pure.

use std::borrow::Cow;
use std::time::UNIX_EPOCH;

use crate::status::{
    Blocked, Changes, DurationsReport, IndexReport, LinkState, PipelineReport, StageFigures,
    StageReport, StatusReport, Timestamp,
};

/// What every name begins with.
pub(super) const PREFIX: &str = "pgsyncd";

pub(super) const MARKDOWN_HEAD: &str = "\
# Metrics

`GET /metrics` answers in the text format of OpenMetrics. Counters are counted from the start of the process;
they do not go down when a pipeline is built again after an error. Positions in the WAL are bytes, as PostgreSQL
counts them. Time that a stage waits is added when the wait is over.

| name | kind | labels | meaning |
|---|---|---|---|
";

/// What the samples are taken from.
#[derive(Debug)]
pub(super) struct Figures {
    pub(super) status: StatusReport,
    pub(super) stages: Vec<StageReport>,
}

/// A name with its samples.
pub(super) struct Family {
    /// Without prefix, unit and `_total`.
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) kind: Kind,
    pub(super) unit: Option<Unit>,
    pub(super) labels: &'static [&'static str],
    pub(super) samples: fn(&Figures) -> Vec<Sample<'_>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Gauge,
    Counter,
    Histogram,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Bytes,
    Seconds,
    Rows,
}

/// A figure, with the values of the family's labels.
pub(super) struct Sample<'a> {
    pub(super) labels: Vec<Cow<'a, str>>,
    pub(super) value: Value,
}

pub(super) enum Value {
    Whole(u64),
    Seconds(f64),
    Durations(DurationsReport),
}

impl Unit {
    pub(super) fn as_prometheus(self) -> prometheus_client::registry::Unit {
        use prometheus_client::registry::Unit;
        match self {
            Self::Bytes => Unit::Bytes,
            Self::Seconds => Unit::Seconds,
            Self::Rows => Unit::Other("rows".to_owned()),
        }
    }
}

impl Family {
    /// As it stands in the text.
    pub(super) fn full_name(&self) -> String {
        let unit = self.unit.map(|unit| format!("_{}", unit.as_prometheus().as_str()));
        let suffix = if self.kind == Kind::Counter { "_total" } else { "" };
        format!("{PREFIX}_{}{}{suffix}", self.name, unit.unwrap_or_default())
    }

    const fn gauge(
        name: &'static str,
        help: &'static str,
        samples: fn(&Figures) -> Vec<Sample<'_>>,
    ) -> Self {
        Self { name, help, kind: Kind::Gauge, unit: None, labels: &["database"], samples }
    }

    const fn counter(
        name: &'static str,
        help: &'static str,
        samples: fn(&Figures) -> Vec<Sample<'_>>,
    ) -> Self {
        Self { name, help, kind: Kind::Counter, unit: None, labels: &["database"], samples }
    }

    const fn histogram(
        name: &'static str,
        help: &'static str,
        samples: fn(&Figures) -> Vec<Sample<'_>>,
    ) -> Self {
        let (kind, unit) = (Kind::Histogram, Some(Unit::Seconds));
        Self { name, help, kind, unit, labels: &["database"], samples }
    }

    const fn in_unit(self, unit: Unit) -> Self {
        Self { unit: Some(unit), ..self }
    }

    const fn by(self, labels: &'static [&'static str]) -> Self {
        Self { labels, ..self }
    }
}

const BY_INDEX: &[&str] = &["database", "index"];

/// All of them.
pub(super) const FAMILIES: &[Family] = &[
    Family::gauge("ready", "Whether documents are current: what `/ready` answers", ready).by(&[]),
    Family::gauge("received_lsn", "Position read from PostgreSQL", |it| {
        pipelines(it, |it| it.received.0)
    }),
    Family::gauge("written_lsn", "Position up to which everything is written", |it| {
        pipelines(it, |it| it.written.0)
    }),
    Family::gauge("durable_lsn", "Position kept by a saved checkpoint", |it| {
        pipelines(it, |it| it.durable.0)
    }),
    Family::gauge("reported_lsn", "Position told to PostgreSQL", |it| {
        pipelines(it, |it| it.reported.0)
    }),
    Family::gauge("server_lsn", "End of the server's WAL, as it last said", |it| {
        pipelines(it, |it| it.server.0)
    }),
    Family::gauge("behind", "WAL between the checkpoint and the server", |it| {
        pipelines(it, |it| it.behind_bytes)
    })
    .in_unit(Unit::Bytes),
    Family::gauge(
        "last_commit_timestamp",
        "When the newest transaction that is written was committed, by the server's clock",
        last_commits,
    )
    .in_unit(Unit::Seconds),
    Family::gauge("source_up", "Whether PostgreSQL can be reached", |it| {
        pipelines(it, |it| up(it.source.state))
    }),
    Family::gauge("sink_up", "Whether Elasticsearch takes documents", |it| {
        pipelines(it, |it| up(it.sink.state))
    }),
    Family::counter("pipeline_restarts", "How often the pipeline was built again", |it| {
        pipelines(it, |it| it.restarts)
    }),
    Family::counter("received", "WAL messages read from PostgreSQL", |it| {
        stages(it, |it| it.received_bytes)
    })
    .in_unit(Unit::Bytes),
    Family::counter("transactions", "Transactions read", |it| stages(it, |it| it.transactions)),
    Family::counter("changes", "Changes of rows read", changes).by(&["database", "operation"]),
    Family::counter("rounds", "Times everything that was queued was planned together", |it| {
        stages(it, |it| it.rounds)
    }),
    Family::counter("touched_documents", "Documents found to be touched, after merging", |it| {
        stages(it, |it| it.touched_keys)
    }),
    Family::counter(
        "held_row_lookups",
        "Rows whose former documents were asked of the index: their replica identity does not tell",
        |it| stages(it, |it| it.held_rows),
    ),
    Family::counter(
        "rereads",
        "Reads of PostgreSQL begun again: a change was not visible yet, or a table was locked",
        |it| stages(it, |it| it.rereads),
    ),
    Family::counter("snapshots_read", "Batches of documents read, each in one snapshot", |it| {
        stages(it, |it| it.reads)
    }),
    Family::counter("documents_made", "Documents made, deletes included", |it| {
        stages(it, |it| it.documents)
    }),
    Family::counter(
        "ambiguous_one_to_one",
        "One-to-one relations of a document that had several rows: the lowest key was taken",
        |it| stages(it, |it| it.ambiguous_one_to_one),
    ),
    Family::counter("stage_blocked", "Time a stage waited for the stages behind it", blocked)
        .in_unit(Unit::Seconds)
        .by(&["database", "stage"]),
    Family::counter("bulk_requests", "Bulk requests sent, those sent again included", |it| {
        stages(it, |it| it.bulk_requests)
    }),
    Family::counter("bulk", "Bodies of bulk requests, before compression", |it| {
        stages(it, |it| it.bulk_bytes)
    })
    .in_unit(Unit::Bytes),
    Family::counter("bulk_retries", "Documents sent again", |it| stages(it, |it| it.bulk_retries)),
    Family::gauge("bulk_in_flight", "Bulk requests under way, or waiting for another try", |it| {
        stages(it, |it| it.bulk_in_flight)
    }),
    Family::histogram("bulk_duration", "Time of a bulk request, answered or failed", |it| {
        durations(it, |it| &it.bulk_duration)
    }),
    Family::histogram(
        "commit_to_written",
        "From the oldest commit of a round, by the server's clock, until all of it was written",
        |it| durations(it, |it| &it.commit_to_written),
    ),
    Family::counter("documents_written", "Documents written", |it| indexes(it, |it| it.written))
        .by(BY_INDEX),
    Family::counter("documents_deleted", "Documents deleted", |it| indexes(it, |it| it.deleted))
        .by(BY_INDEX),
    Family::counter("documents_superseded", "Writes that met a newer document: no error", |it| {
        indexes(it, |it| it.superseded)
    })
    .by(BY_INDEX),
    Family::counter("documents_rejected", "Documents refused: dead letters", |it| {
        indexes(it, |it| it.rejected)
    })
    .by(BY_INDEX),
    Family::gauge("load", "Root rows read by the load under way, or the last one", |it| {
        indexes(it, |it| it.load_rows)
    })
    .in_unit(Unit::Rows)
    .by(BY_INDEX),
    Family::gauge("load_total", "Root rows of that load, where known; may be an estimate", |it| {
        indexes_where_known(it, |it| it.load_total)
    })
    .in_unit(Unit::Rows)
    .by(BY_INDEX),
];

fn ready(figures: &Figures) -> Vec<Sample<'_>> {
    vec![Sample { labels: Vec::new(), value: Value::Whole(figures.status.ready.into()) }]
}

fn pipelines(figures: &Figures, read: fn(&PipelineReport) -> u64) -> Vec<Sample<'_>> {
    let sample = |it| Sample { labels: vec![database(it)], value: Value::Whole(read(it)) };
    figures.status.pipelines.iter().map(sample).collect()
}

fn last_commits(figures: &Figures) -> Vec<Sample<'_>> {
    let mut samples = Vec::new();
    for it in &figures.status.pipelines {
        if let Some(Timestamp(at)) = it.last_commit {
            let since_epoch = at.duration_since(UNIX_EPOCH).unwrap_or_default();
            let value = Value::Seconds(since_epoch.as_secs_f64());
            samples.push(Sample { labels: vec![database(it)], value });
        }
    }
    samples
}

fn indexes(figures: &Figures, read: fn(&IndexReport) -> u64) -> Vec<Sample<'_>> {
    each_index(figures).map(|(labels, it)| sample(labels, read(it))).collect()
}

fn indexes_where_known(
    figures: &Figures,
    read: fn(&IndexReport) -> Option<u64>,
) -> Vec<Sample<'_>> {
    each_index(figures).filter_map(|(labels, it)| Some(sample(labels, read(it)?))).collect()
}

fn each_index(figures: &Figures) -> impl Iterator<Item = (Vec<Cow<'_, str>>, &IndexReport)> {
    figures.status.pipelines.iter().flat_map(|pipeline| {
        let labelled = |it| (vec![database(pipeline), index(it)], it);
        pipeline.indexes.iter().map(labelled)
    })
}

fn stages(figures: &Figures, read: fn(&StageFigures) -> u64) -> Vec<Sample<'_>> {
    figures.stages.iter().map(|it| sample(vec![owner(it)], read(&it.figures))).collect()
}

fn changes(figures: &Figures) -> Vec<Sample<'_>> {
    let mut samples = Vec::new();
    for it in &figures.stages {
        let Changes { inserts, updates, deletes, truncates } = it.figures.changes;
        for (operation, count) in
            [("insert", inserts), ("update", updates), ("delete", deletes), ("truncate", truncates)]
        {
            samples.push(sample(vec![owner(it), operation.into()], count));
        }
    }
    samples
}

fn blocked(figures: &Figures) -> Vec<Sample<'_>> {
    let mut samples = Vec::new();
    for it in &figures.stages {
        let Blocked { source, plan, document, sink } = it.figures.blocked;
        for (stage, time) in
            [("source", source), ("plan", plan), ("document", document), ("sink", sink)]
        {
            let value = Value::Seconds(time.as_secs_f64());
            samples.push(Sample { labels: vec![owner(it), stage.into()], value });
        }
    }
    samples
}

fn durations(figures: &Figures, read: fn(&StageReport) -> &DurationsReport) -> Vec<Sample<'_>> {
    let sample = |it| Sample { labels: vec![owner(it)], value: Value::Durations(read(it).clone()) };
    figures.stages.iter().map(sample).collect()
}

fn sample(labels: Vec<Cow<'_, str>>, number: u64) -> Sample<'_> {
    Sample { labels, value: Value::Whole(number) }
}

fn database(report: &PipelineReport) -> Cow<'_, str> {
    report.database.as_str().into()
}

fn owner(report: &StageReport) -> Cow<'_, str> {
    report.database.as_str().into()
}

fn index(report: &IndexReport) -> Cow<'_, str> {
    report.index.as_str().into()
}

fn up(state: LinkState) -> u64 {
    u64::from(state == LinkState::Up)
}
