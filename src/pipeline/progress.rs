//! How far a load is: told every ten seconds in the log, or drawn as a bar on a terminal, and summed
//! up at its end.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::logging;
use crate::postgres::sql::quote_literal;
use crate::schema::SchemaTree;
use crate::schema::key_sql::filter;
use crate::status::IndexStatus;

/// How often it is told.
const TOLD_EVERY: Duration = Duration::from_secs(10);
/// How often the bar is drawn.
const DRAWN_EVERY: Duration = Duration::from_millis(250);
/// A count that takes longer is given up: the load itself is the better use of the time.
const COUNT_WITHIN: &str = "2s";

/// The progress of one load.
#[derive(Debug)]
pub(crate) struct LoadMeter<'a> {
    index: &'a str,
    status: &'a IndexStatus,
    began: Instant,
    /// Rows that an earlier run had read.
    before: u64,
    bar: Option<ProgressBar>,
}

/// How far a load is at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Pace {
    rows: u64,
    total: Option<u64>,
    /// Rows a second since this run began.
    rate: f64,
}

impl<'a> LoadMeter<'a> {
    /// The load goes on from `before` rows.
    pub(crate) fn new(index: &'a str, status: &'a IndexStatus, before: u64) -> Self {
        status.load_rows.start_from(before);
        let bar = logging::bars().map(|bars| {
            let bar = ProgressBar::no_length().with_message(index.to_owned());
            bars.add(bar.with_style(style()))
        });
        Self { index, status, began: Instant::now(), before, bar }
    }

    /// Tells for ever; to be dropped when the load ends. Cancel-safe.
    pub(crate) async fn run(&self) {
        let every = if self.bar.is_some() { DRAWN_EVERY } else { TOLD_EVERY };
        loop {
            tokio::time::sleep(every).await;
            let pace = self.pace();
            match &self.bar {
                Some(bar) => {
                    bar.update(|state| state.set_pos(pace.rows));
                    if let Some(total) = pace.total {
                        bar.set_length(total.max(pace.rows));
                    }
                }
                None => self.tell(pace),
            }
        }
    }

    /// Sums up.
    pub(crate) fn ended(&self, documents: u64) {
        let Pace { rows, rate, .. } = self.pace();
        let (index, seconds) = (self.index, self.began.elapsed().as_secs_f64());
        let (seconds, rate) = (rounded(seconds), rate.round());
        tracing::info!(index, rows, seconds, rows_per_second = rate, documents, "load ended");
    }

    fn tell(&self, pace: Pace) {
        let (index, rows, rate) = (self.index, pace.rows, pace.rate.round());
        let percent = pace.percent().map(rounded);
        let (total, seconds_left) = (pace.total, pace.left().map(|left| left.as_secs()));
        if seconds_left == Some(0) {
            // The total may be an estimate: more rows are no wonder.
            tracing::info!(index, rows, total, "loading, the last rows are read or written");
            return;
        }
        tracing::info!(
            index,
            rows,
            total,
            percent,
            rows_per_second = rate,
            seconds_left,
            "loading"
        );
    }

    fn pace(&self) -> Pace {
        let rows = self.status.load_rows.get();
        let here = as_float(rows.saturating_sub(self.before));
        let rate = here / self.began.elapsed().as_secs_f64().max(0.001);
        Pace { rows, total: self.status.load_total(), rate }
    }
}

impl Drop for LoadMeter<'_> {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Pace {
    /// At most 100: the total may be an estimate.
    fn percent(self) -> Option<f64> {
        let total = self.total.filter(|total| *total > 0)?;
        Some((100.0 * as_float(self.rows) / as_float(total)).min(100.0))
    }

    /// How long the rest takes at this rate; `None` where rate or total is not known.
    fn left(self) -> Option<Duration> {
        let rest = as_float(self.total?.saturating_sub(self.rows));
        let left = Duration::try_from_secs_f64(rest / self.rate).ok()?;
        Some(Duration::from_secs(left.as_secs()))
    }
}

/// One decimal.
fn rounded(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

#[expect(clippy::cast_precision_loss, reason = "percentages of counts above 2^53 may be rounded")]
fn as_float(number: u64) -> f64 {
    number as f64
}

fn style() -> ProgressStyle {
    const TEMPLATE: &str = "{msg} [{bar:30}] {human_pos}/{human_len} {percent}% {per_sec} {eta}";
    ProgressStyle::with_template(TEMPLATE).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// How many root rows there are: as the server's statistics say, else counted if that is quick.
/// `None` otherwise; an error here is no reason not to load.
pub(crate) async fn root_rows(client: &Client, tree: &SchemaTree) -> Option<u64> {
    // Statistics know nothing of the user's condition.
    if tree.filter.is_none()
        && let Some(estimate) = first_number(client, &estimate_sql(tree)).await
        && estimate > 0
    {
        return Some(estimate);
    }
    let counted = first_number(client, &count_sql(tree)).await;
    if counted.is_none() {
        // The transaction that ran out of time is still open.
        client.batch_execute("rollback").await.ok()?;
    }
    counted
}

async fn first_number(client: &Client, sql: &str) -> Option<u64> {
    let answer = client.simple_query(sql).await;
    let messages = answer.inspect_err(|error| tracing::debug!(%error, "no total of rows")).ok()?;
    messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0)?.parse().ok(),
        _ => None,
    })
}

/// Before the first ANALYZE `reltuples` is −1; the sum is over partitions that hold rows.
fn estimate_sql(tree: &SchemaTree) -> String {
    format!(
        "select coalesce(sum(c.reltuples), 0)::pg_catalog.int8 from pg_catalog.pg_class c \
         where c.reltuples > 0 and (c.oid = {id} and c.relkind in ('r', 'm') or c.oid in (select \
         p.relid from pg_catalog.pg_partition_tree({id}) p where p.isleaf))",
        id = tree.root().table.id.0,
    )
}

fn count_sql(tree: &SchemaTree) -> String {
    format!(
        "begin read only; set local statement_timeout = {}; select pg_catalog.count(*) from {} c{}; \
         commit",
        quote_literal(COUNT_WITHIN),
        tree.root().table.qualified(),
        filter(tree, "where"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(rows: u64, total: Option<u64>, rate: f64) -> Pace {
        Pace { rows, total, rate }
    }

    #[test]
    fn percent_and_rest_follow_from_rows_and_rate() {
        let half = pace(500, Some(1000), 50.0);
        assert_eq!((half.percent(), half.left()), (Some(50.0), Some(Duration::from_secs(10))));
    }

    #[test]
    fn an_estimate_that_is_exceeded_ends_at_a_hundred_percent() {
        let beyond = pace(1500, Some(1000), 50.0);
        assert_eq!((beyond.percent(), beyond.left()), (Some(100.0), Some(Duration::ZERO)));
    }

    #[test]
    fn without_a_total_or_a_rate_no_rest_is_claimed() {
        assert_eq!((pace(5, None, 1.0).percent(), pace(5, None, 1.0).left()), (None, None));
        assert_eq!(pace(0, Some(10), 0.0).left(), None);
        assert_eq!(pace(0, Some(0), 0.0).percent(), None);
    }
}
