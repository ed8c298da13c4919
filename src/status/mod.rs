//! Ground: what the service is doing. The stages write it, HTTP and the metrics read it. No cell
//! values, no secrets: names, counts, positions and error texts only.

mod durations;
mod pipeline;
mod report;
mod stages;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

pub use durations::{Durations, DurationsReport, TimeSum};
pub use pipeline::{IndexStatus, Link, LinkState, Phase, PipelineStatus};
pub use report::{
    IndexReport, LinkReport, NotReady, PipelineReport, StatusReport, TimedError, Timestamp,
};
pub use stages::{Blocked, Changes, StageFigures, StageReport, StageTally};

/// A supervisor that said nothing for longer hangs: the process is then reported as not alive.
pub const HEARTBEAT_LIMIT: Duration = Duration::from_mins(1);

/// The state of the whole process, shared by everything in it.
#[derive(Debug)]
pub struct Status {
    started_at: SystemTime,
    /// How many bytes of WAL behind is still ready.
    ready_lag: u64,
    heartbeat: Mutex<Instant>,
    pipelines: Mutex<BTreeMap<String, Arc<PipelineStatus>>>,
}

impl Status {
    /// The process starts now. `ready_lag` is how many bytes of WAL behind is still ready.
    pub fn new(ready_lag: u64) -> Self {
        Self {
            started_at: SystemTime::now(),
            ready_lag,
            heartbeat: Mutex::new(Instant::now()),
            pipelines: Mutex::default(),
        }
    }

    /// The supervisor is at work; to be called every few seconds.
    pub fn beat(&self) {
        *lock(&self.heartbeat) = Instant::now();
    }

    /// Whether the supervisor was at work lately.
    pub fn is_live(&self) -> bool {
        lock(&self.heartbeat).elapsed() <= HEARTBEAT_LIMIT
    }

    /// The state of the pipeline of a database; made at the first call, and kept when the pipeline
    /// is built again.
    pub fn pipeline(&self, database: &str) -> Arc<PipelineStatus> {
        let mut pipelines = lock(&self.pipelines);
        let pipeline = pipelines.entry(database.to_owned()).or_default();
        Arc::clone(pipeline)
    }

    /// What everything is doing at this moment.
    pub fn snapshot(&self) -> StatusReport {
        let pipelines = lock(&self.pipelines);
        let reports = pipelines.iter().map(|(database, pipeline)| pipeline.snapshot(database));
        StatusReport::new(self.started_at, self.is_live(), self.ready_lag, reports.collect())
    }

    /// What the stages of every pipeline counted.
    pub fn stages(&self) -> Vec<StageReport> {
        let pipelines = lock(&self.pipelines);
        pipelines.iter().map(|(database, pipeline)| pipeline.stages.report(database)).collect()
    }
}

/// A thread that panicked while it held a lock leaves figures, not broken data: they are used on.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::Lsn;

    fn streaming() -> (Status, Arc<PipelineStatus>) {
        let status = Status::new(1000);
        let pipeline = status.pipeline("shop");
        pipeline.enter(Phase::Streaming);
        pipeline.source.up();
        pipeline.sink.up();
        (status, pipeline)
    }

    fn reasons(status: &Status) -> Vec<String> {
        status.snapshot().not_ready.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_streaming_pipeline_is_ready() {
        let (status, pipeline) = streaming();
        pipeline.server.set(Lsn(5000));
        pipeline.durable.set(Lsn(4500));
        assert_eq!(reasons(&status), Vec::<String>::new());
        assert_eq!(status.snapshot().pipelines[0].behind_bytes, 500);
    }

    #[test]
    fn a_process_without_pipelines_is_starting() {
        assert_eq!(reasons(&Status::new(1)), ["starting"]);
    }

    #[test]
    fn every_reason_is_named() {
        let (status, pipeline) = streaming();
        pipeline.server.set(Lsn(5000));
        pipeline.sink.down("connection refused".to_owned());
        let other = status.pipeline("web");
        other.enter(Phase::Snapshot);
        assert_eq!(
            reasons(&status),
            [
                "shop: sink is down: connection refused",
                "shop: 5000 bytes behind",
                "web: first load is under way",
            ]
        );
    }

    #[test]
    fn a_standby_is_ready_so_that_a_rolling_update_can_go_on() {
        let status = Status::new(1);
        status.pipeline("shop").enter(Phase::Standby);
        assert_eq!(reasons(&status), Vec::<String>::new());
    }

    #[test]
    fn a_link_remembers_its_last_error_and_the_time_of_its_last_change() {
        let (status, pipeline) = streaming();
        pipeline.sink.down("connection refused".to_owned());
        let since = status.snapshot().pipelines[0].sink.since;
        pipeline.sink.down("connection refused again".to_owned());
        assert_eq!(status.snapshot().pipelines[0].sink.since, since);
        pipeline.sink.up();
        let sink = status.snapshot().pipelines[0].sink.clone();
        assert_eq!(sink.state, LinkState::Up);
        assert_eq!(sink.last_error.unwrap().text, "connection refused again");
    }

    #[test]
    fn the_report_reads_the_same_after_json() {
        let (status, pipeline) = streaming();
        let index = pipeline.index("book");
        index.set_concrete(Some("book-20260102030405".to_owned()));
        index.set_load_total(Some(10));
        index.load_rows.add(4);
        index.written.add(3);
        let report = status.snapshot();
        let json = serde_json::to_string(&report).unwrap();
        assert!(json.contains(r#""load_rows":4,"load_total":10"#), "{json}");
        assert_eq!(serde_json::from_str::<StatusReport>(&json).unwrap(), report);
    }
}
