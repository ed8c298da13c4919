//! A transaction larger than the memory it may take.

use crate::harness::{Service, Site, json};

const ROWS: u32 = 200_000;
const PARENTS: u32 = 2000;
/// Measured: 117. The rows alone are more than 50 MB as WAL messages.
const MOST_MEGABYTES: u64 = 400;

#[test]
#[ignore = "needs PostgreSQL, Elasticsearch and Redis: tests/services.sh up"]
fn a_transaction_of_200_000_rows_passes_in_bounded_memory() {
    let site = Site::new(
        "huge",
        "create table parent (id int primary key, n int);
         create table child (id int primary key, parent_id int references parent, body text);
         create index on child (parent_id); alter table child replica identity full",
    );
    site.schema(
        r#"{"index": "parents", "meta": false, "nodes": {"table": "parent", "children": [
            {"table": "child", "label": "ids", "columns": ["id"],
             "relationship": {"type": "one_to_many", "variant": "scalar"}}]}}"#,
    );
    let service = site.service().start_ready();
    site.run(&format!(
        "begin; insert into parent select n, 0 from generate_series(1, {PARENTS}) n;
         insert into child select n, n % {PARENTS} + 1, repeat('x', 200) from generate_series(1, {ROWS}) n;
         update parent set n = 1; commit"
    ));
    let expected = (1..=PARENTS).map(|id| {
        let first = if id == 1 { PARENTS } else { id - 1 };
        let step = usize::try_from(PARENTS).unwrap();
        let ids: Vec<_> = (first..=ROWS).step_by(step).map(|id| id.to_string()).collect();
        (id.to_string(), json(&format!(r#"{{"id": {id}, "n": 1, "ids": [{}]}}"#, ids.join(","))))
    });
    site.expect("parents", &expected.collect());
    let peak = peak_megabytes(&service);
    assert!(peak < MOST_MEGABYTES, "{peak} MB");
    service.stop();
}

/// The most memory the process ever had.
fn peak_megabytes(service: &Service) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", service.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}
