//! What a reading transaction sees, from `pg_current_snapshot()`, and the version that follows.
//!
//! Logical decoding can deliver a commit before readers see it, so a reader has to ask its snapshot
//! whether it covers the change that caused the read. And since the set of finished transactions only
//! grows, the number of transactions a snapshot sees orders snapshots of one server life: it is the
//! version of the documents read in it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A transaction as the WAL names it: 32 bits, wrapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransactionId(pub u32);

/// `pg_snapshot`: 64-bit transaction ids, `xmin:xmax:xip,…`.
///
/// Source: PostgreSQL 17 manual, 9.27.8 "Transaction ID and Snapshot Information Functions".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    xmin: u64,
    xmax: u64,
    /// Sorted; in progress when the snapshot was taken.
    in_progress: Vec<u64>,
}

/// Text that is no `pg_snapshot`.
#[derive(Debug, thiserror::Error)]
#[error("`{text}` is no snapshot, expected `xmin:xmax:xip,…`")]
pub struct InvalidSnapshot {
    text: String,
}

impl Snapshot {
    /// Whether the effects of the top-level transaction `xid` (finished or not) are decided and visible.
    ///
    /// `xid` is taken as the 64-bit id nearest below or above the snapshot's `xmax`: PostgreSQL never
    /// lets two live ids be more than 2^31 apart.
    pub fn sees(&self, xid: TransactionId) -> bool {
        self.sees_full(self.widen(xid))
    }

    /// Whether everything that `floor` sees is seen here too.
    pub fn covers(&self, floor: &Self) -> bool {
        self.first_missing(floor).is_none()
    }

    /// A transaction that `floor` sees and this does not, if there is one.
    pub fn first_missing(&self, floor: &Self) -> Option<u64> {
        let hidden = self.in_progress.iter().copied().filter(|xid| *xid < floor.xmax);
        let beyond = self.xmax..floor.xmax.max(self.xmax);
        hidden.chain(beyond).find(|xid| floor.sees_full(*xid))
    }

    /// A snapshot that sees every transaction begun before this one was taken: one that covers it has
    /// waited for all that were in progress here.
    #[must_use]
    pub fn settled(&self) -> Self {
        Self { xmin: self.xmax, xmax: self.xmax, in_progress: Vec::new() }
    }

    /// How many transactions the snapshot sees, `xmax − |xip|`: larger for every newer snapshot that
    /// sees more, within one life of the server.
    pub fn seen(&self) -> u64 {
        self.xmax.saturating_sub(self.in_progress.len() as u64)
    }

    fn sees_full(&self, xid: u64) -> bool {
        xid < self.xmin || (xid < self.xmax && self.in_progress.binary_search(&xid).is_err())
    }

    fn widen(&self, xid: TransactionId) -> u64 {
        const WRAP: u64 = 1 << 32;
        let candidate = (self.xmax & !(WRAP - 1)) | u64::from(xid.0);
        if candidate > self.xmax + WRAP / 2 {
            candidate.saturating_sub(WRAP)
        } else if candidate + WRAP / 2 < self.xmax {
            candidate + WRAP
        } else {
            candidate
        }
    }
}

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:", self.xmin, self.xmax)?;
        for (position, xid) in self.in_progress.iter().enumerate() {
            let comma = if position == 0 { "" } else { "," };
            write!(f, "{comma}{xid}")?;
        }
        Ok(())
    }
}

impl FromStr for Snapshot {
    type Err = InvalidSnapshot;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).ok_or_else(|| InvalidSnapshot { text: text.to_owned() })
    }
}

impl Serialize for Snapshot {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Snapshot {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

fn parse(text: &str) -> Option<Snapshot> {
    let mut parts = text.splitn(3, ':');
    let xmin = parts.next()?.parse().ok()?;
    let xmax = parts.next()?.parse().ok()?;
    let list = parts.next()?;
    let mut in_progress = list
        .split(',')
        .filter(|item| !item.is_empty())
        .map(|item| item.parse().ok())
        .collect::<Option<Vec<u64>>>()?;
    in_progress.sort_unstable();
    Some(Snapshot { xmin, xmax, in_progress })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(text: &str) -> Snapshot {
        text.parse().unwrap()
    }

    #[test]
    fn a_transaction_in_progress_is_not_seen() {
        let snapshot = snapshot("726:730:726,728");
        let seen = [725, 726, 727, 728, 729, 730, 731].map(|xid| snapshot.sees(TransactionId(xid)));
        assert_eq!(seen, [true, false, true, false, true, false, false]);
    }

    #[test]
    fn ids_are_widened_around_the_wrap() {
        let after = snapshot("4294967300:4294967310:");
        assert!(after.sees(TransactionId(u32::MAX)), "an id from before the wrap");
        assert!(after.sees(TransactionId(5)), "2^32 + 5");
        assert!(!after.sees(TransactionId(14)), "2^32 + 14 is xmax");
        let before = snapshot("4294967290:4294967290:");
        assert!(!before.sees(TransactionId(3)), "2^32 + 3 lies ahead");
    }

    #[test]
    fn covering_means_seeing_at_least_as_much() {
        let floor = snapshot("10:20:10,15");
        assert!(snapshot("10:20:10,15").covers(&floor));
        assert!(snapshot("20:20:").covers(&floor));
        assert!(snapshot("10:30:10,15,25").covers(&floor));
        assert!(!snapshot("10:20:10,12,15").covers(&floor), "12 is hidden");
        assert_eq!(snapshot("10:20:10,12,15").first_missing(&floor), Some(12));
        assert!(!snapshot("10:18:10,15").covers(&floor), "18 and 19 lie ahead");
        assert!(snapshot("10:19:10").covers(&snapshot("10:20:10,19")), "19 is hidden to both");
    }

    #[test]
    fn a_settled_snapshot_is_covered_when_all_that_was_in_progress_has_ended() {
        let settled = snapshot("10:20:10,15").settled();
        assert!(!snapshot("15:25:15").covers(&settled));
        assert!(snapshot("20:25:20").covers(&settled));
    }

    #[test]
    fn the_version_grows_with_every_commit_that_becomes_visible() {
        let seen: Vec<u64> = ["726:726:", "726:728:726,727", "726:728:727", "728:728:"]
            .map(|s| snapshot(s).seen())
            .into();
        assert_eq!(seen, [726, 726, 727, 728]);
    }

    #[test]
    fn text_survives_a_round_trip() {
        for text in ["726:726:", "1:9:2,4"] {
            assert_eq!(snapshot(text).to_string(), text);
        }
        assert!("1:2".parse::<Snapshot>().is_err());
    }
}
