//! Where a pipeline starts: from which slot and position, under which generation, and which indexes
//! are kept, filled on, or made anew. Pure; `start.rs` gathers and acts.

use std::collections::HashSet;

use crate::checkpoint::{Checkpoint, EntryState, LoadState};
use crate::postgres::Lsn;
use crate::postgres::slot::{SlotName, SlotState};
use crate::schema::SchemaTree;

/// The server's life, as far as versions and checkpoints depend on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServerLife {
    pub(crate) system_identifier: String,
    pub(crate) timeline: u32,
    pub(crate) postmaster_started: String,
    /// End of the flushed WAL.
    pub(crate) wal_end: Lsn,
    /// Whether our publication is there, and was wherever our slot reads.
    pub(crate) is_published: bool,
}

/// Where to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Position {
    /// Stream on from a slot of ours.
    Resume { slot: SlotName, lsn: Lsn },
    /// Nothing to go on from: a slot is made, after these are dropped.
    Fresh { drop: Vec<SlotName> },
}

/// Why indexes cannot be trusted, and are built anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Distrust {
    /// There is no checkpoint: first start, or the store forgot.
    NoCheckpoint,
    /// The slot of the checkpoint is gone or lost: changes were missed.
    SlotLost,
    /// The publication is not there, or was made after WAL that the slot still reads: PostgreSQL cannot
    /// decode that WAL, now or later.
    PublicationLost,
    /// Another cluster.
    OtherSystem,
    /// A standby was promoted: it may lack commits that were indexed.
    OtherTimeline,
    /// The WAL ends below the checkpoint: the server was restored to an earlier state.
    WalBehind,
}

/// The start of a database's pipeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settlement {
    pub(crate) position: Position,
    pub(crate) generation: u64,
    /// Set if every index is to be built anew.
    pub(crate) distrust: Option<Distrust>,
    /// Whether the slot was reported further than the checkpoint knows.
    pub(crate) slot_ahead: bool,
}

/// Decides from the stored checkpoint, our slots, the server, and the highest generation that an index
/// of ours is marked with (the store may forget).
pub(crate) fn settle(
    checkpoint: Option<&Checkpoint>,
    slots: &[SlotState],
    life: &ServerLife,
    indexed_generation: u64,
) -> Settlement {
    let base = checkpoint.map_or(0, |kept| kept.generation).max(indexed_generation);
    let usable = |slot: &&SlotState| slot.loss().is_none() && slot.confirmed_flush.is_some();
    let fresh = || Position::Fresh {
        drop: slots
            .iter()
            .filter(|slot| slot.active_pid.is_none())
            .map(|slot| slot.name.clone())
            .collect(),
    };
    let Some(kept) = checkpoint else {
        // Only we report to our slot, and only what is durable: its position is as good as a checkpoint.
        let position = match slots.iter().filter(usable).collect::<Vec<_>>().as_slice() {
            [slot] if life.is_published => Position::Resume {
                slot: slot.name.clone(),
                lsn: slot.confirmed_flush.unwrap_or_default(),
            },
            _ => fresh(),
        };
        let distrust = Some(Distrust::NoCheckpoint);
        return Settlement { position, generation: base + 1, distrust, slot_ahead: false };
    };
    let slot = slots.iter().filter(usable).find(|slot| slot.name.as_str() == kept.slot);
    let distrust = distrust(kept, slot, life);
    let is_same_life = kept.postmaster_started == life.postmaster_started && distrust.is_none();
    let generation = if is_same_life { base.max(1) } else { base + 1 };
    let confirmed = slot.and_then(|slot| slot.confirmed_flush).unwrap_or_default();
    let slot_ahead = slot.is_some() && confirmed > kept.lsn;
    let position = match (slot, distrust) {
        (Some(slot), None | Some(Distrust::OtherTimeline)) => {
            Position::Resume { slot: slot.name.clone(), lsn: kept.lsn.max(confirmed) }
        }
        (
            Some(_),
            Some(
                Distrust::NoCheckpoint
                | Distrust::SlotLost
                | Distrust::PublicationLost
                | Distrust::OtherSystem
                | Distrust::WalBehind,
            ),
        )
        | (None, _) => fresh(),
    };
    Settlement { position, generation, distrust, slot_ahead }
}

fn distrust(kept: &Checkpoint, slot: Option<&SlotState>, life: &ServerLife) -> Option<Distrust> {
    if kept.system_identifier != life.system_identifier {
        Some(Distrust::OtherSystem)
    } else if slot.is_none() {
        Some(Distrust::SlotLost)
    } else if !life.is_published {
        Some(Distrust::PublicationLost)
    } else if kept.timeline != life.timeline {
        Some(Distrust::OtherTimeline)
    } else if life.wal_end < kept.lsn {
        Some(Distrust::WalBehind)
    } else {
        None
    }
}

/// What becomes of an entry's index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum EntryPlan {
    /// It is complete.
    Keep(EntryState),
    /// Its load goes on.
    GoOn(EntryState),
    /// A new index is made and filled; one whose load had not ended is deleted.
    Build { reason: BuildReason, abandoned: Option<String> },
}

/// Why an index is made anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BuildReason {
    First,
    Asked,
    SchemaChanged,
    ShapeChanged,
    IndexGone,
    Distrusted(Distrust),
    /// Tables of it came into the publication after the slot was made.
    NotPublished,
}

/// What an entry's plan depends on beside its own state.
#[derive(Debug)]
pub(crate) struct Circumstances<'a> {
    pub(crate) distrust: Option<Distrust>,
    /// Concrete indexes that exist.
    pub(crate) existing: &'a HashSet<String>,
    /// Whether a rebuild was asked for.
    pub(crate) asked: bool,
    /// Whether tables of the entry were not published until this start.
    pub(crate) was_unpublished: bool,
}

/// Decides for one entry.
pub(crate) fn plan_entry(
    tree: &SchemaTree,
    state: Option<&EntryState>,
    circumstances: &Circumstances<'_>,
) -> EntryPlan {
    let Some(state) = state else {
        return EntryPlan::Build { reason: BuildReason::First, abandoned: None };
    };
    let reason = if let Some(distrust) = circumstances.distrust {
        Some(BuildReason::Distrusted(distrust))
    } else if circumstances.asked {
        Some(BuildReason::Asked)
    } else if state.schema_digest != tree.digest {
        Some(BuildReason::SchemaChanged)
    } else if state.shape_digest != tree.shape {
        Some(BuildReason::ShapeChanged)
    } else if circumstances.was_unpublished {
        Some(BuildReason::NotPublished)
    } else if !circumstances.existing.contains(&state.concrete) {
        Some(BuildReason::IndexGone)
    } else {
        None
    };
    match (reason, &state.load) {
        (Some(reason), LoadState::Running { .. }) => {
            EntryPlan::Build { reason, abandoned: Some(state.concrete.clone()) }
        }
        (Some(reason), LoadState::Done) => EntryPlan::Build { reason, abandoned: None },
        (None, LoadState::Running { .. }) => EntryPlan::GoOn(state.clone()),
        (None, LoadState::Done) => EntryPlan::Keep(state.clone()),
    }
}

impl BuildReason {
    /// In words, for the log.
    pub(crate) fn describe(self) -> &'static str {
        match self {
            Self::First => "it is new",
            Self::Asked => "it was asked for",
            Self::SchemaChanged => "its schema entry changed",
            Self::ShapeChanged => "its tables changed",
            Self::IndexGone => "the index is gone",
            Self::NotPublished => "tables of it were not published",
            Self::Distrusted(distrust) => distrust.describe(),
        }
    }
}

impl Distrust {
    /// In words, for the log.
    pub(crate) fn describe(self) -> &'static str {
        match self {
            Self::NoCheckpoint => "there is no checkpoint",
            Self::SlotLost => "the replication slot is lost",
            Self::PublicationLost => "the publication was gone",
            Self::OtherSystem => "it is another database cluster",
            Self::OtherTimeline => "a standby was promoted",
            Self::WalBehind => "the database was restored to an earlier state",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    fn life() -> ServerLife {
        ServerLife {
            system_identifier: "7".into(),
            timeline: 1,
            postmaster_started: "monday".into(),
            wal_end: Lsn(500),
            is_published: true,
        }
    }

    fn checkpoint(lsn: u64) -> Checkpoint {
        Checkpoint {
            system_identifier: "7".into(),
            timeline: 1,
            slot: "pgsyncd_shop_aaaaaaaa".into(),
            generation: 3,
            lsn: Lsn(lsn),
            postmaster_started: "monday".into(),
            saved_at: SystemTime::UNIX_EPOCH,
        }
    }

    fn slot(name: &str, confirmed: &str) -> SlotState {
        serde_json::from_value(serde_json::json!({
            "slot_name": name, "plugin": "pgoutput", "database": "shop", "temporary": false,
            "active_pid": null, "catalog_xmin": "700", "restart_lsn": "0/1",
            "confirmed_flush_lsn": confirmed, "wal_status": "reserved", "safe_wal_size": null,
        }))
        .unwrap()
    }

    fn resume(lsn: u64) -> Position {
        Position::Resume { slot: SlotName::parse("pgsyncd_shop_aaaaaaaa").unwrap(), lsn: Lsn(lsn) }
    }

    #[test]
    fn the_first_start_makes_a_slot_and_builds_everything() {
        let settlement = settle(None, &[], &life(), 0);
        assert_eq!(settlement.position, Position::Fresh { drop: vec![] });
        assert_eq!(settlement.generation, 1);
        assert_eq!(settlement.distrust, Some(Distrust::NoCheckpoint));
    }

    #[test]
    fn a_restart_goes_on_from_the_checkpoint_in_the_same_generation() {
        let slots = [slot("pgsyncd_shop_aaaaaaaa", "0/60")];
        let settlement = settle(Some(&checkpoint(100)), &slots, &life(), 3);
        assert_eq!(settlement.position, resume(100));
        assert_eq!((settlement.generation, settlement.distrust), (3, None));
        assert!(!settlement.slot_ahead);
    }

    #[test]
    fn a_restart_of_the_server_raises_the_generation_only() {
        let slots = [slot("pgsyncd_shop_aaaaaaaa", "0/60")];
        let life = ServerLife { postmaster_started: "tuesday".into(), ..life() };
        let settlement = settle(Some(&checkpoint(100)), &slots, &life, 3);
        assert_eq!((settlement.generation, settlement.distrust), (4, None));
    }

    #[test]
    fn a_slot_ahead_of_the_checkpoint_is_followed() {
        let slots = [slot("pgsyncd_shop_aaaaaaaa", "0/80")];
        let settlement = settle(Some(&checkpoint(100)), &slots, &life(), 3);
        assert_eq!(settlement.position, resume(128));
        assert!(settlement.slot_ahead);
    }

    #[test]
    fn without_a_checkpoint_the_one_slot_is_used_under_a_later_generation_than_any_index_has() {
        let slots = [slot("pgsyncd_shop_aaaaaaaa", "0/80")];
        let settlement = settle(None, &slots, &life(), 9);
        assert_eq!(settlement.position, resume(128));
        assert_eq!(settlement.generation, 10);
    }

    #[test]
    fn a_lost_slot_another_cluster_or_a_restore_begin_anew() {
        let mut lost = slot("pgsyncd_shop_aaaaaaaa", "0/80");
        lost.wal_status = Some(crate::postgres::slot::WalStatus::Lost);
        let fine = slot("pgsyncd_shop_aaaaaaaa", "0/60");
        let other = ServerLife { system_identifier: "8".into(), ..life() };
        let behind = ServerLife { wal_end: Lsn(50), ..life() };
        let cases = [
            (lost, life(), Distrust::SlotLost),
            (fine.clone(), other, Distrust::OtherSystem),
            (fine, behind, Distrust::WalBehind),
        ];
        for (slot, life, expected) in cases {
            let name = slot.name.clone();
            let settlement = settle(Some(&checkpoint(100)), &[slot], &life, 3);
            assert_eq!(settlement.distrust, Some(expected));
            assert_eq!(settlement.position, Position::Fresh { drop: vec![name] });
            assert_eq!(settlement.generation, 4);
        }
    }

    #[test]
    fn a_slot_that_reads_where_the_publication_was_not_is_replaced_with_or_without_a_checkpoint() {
        let slots = [slot("pgsyncd_shop_aaaaaaaa", "0/60")];
        let life = ServerLife { is_published: false, ..life() };
        for kept in [Some(checkpoint(100)), None] {
            let settlement = settle(kept.as_ref(), &slots, &life, 3);
            assert_eq!(settlement.position, Position::Fresh { drop: vec![slots[0].name.clone()] });
            assert_eq!(settlement.generation, 4);
            assert!(settlement.distrust.is_some());
        }
    }

    #[test]
    fn a_promotion_goes_on_from_the_slot_but_trusts_no_index() {
        let slots = [slot("pgsyncd_shop_aaaaaaaa", "0/60")];
        let life = ServerLife { timeline: 2, ..life() };
        let settlement = settle(Some(&checkpoint(100)), &slots, &life, 3);
        assert_eq!(settlement.position, resume(100));
        assert_eq!(settlement.distrust, Some(Distrust::OtherTimeline));
        assert_eq!(settlement.generation, 4);
    }
}
