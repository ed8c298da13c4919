//! What the old and the new side of a row event say of some columns: their values, that they join to
//! nothing, or that the WAL does not tell. Pure.
//!
//! An old tuple carries what the replica identity has, of the table or of the partition, at the time
//! of the change; where that is in doubt, the answer is "unknown" and the documents are asked.

use crate::postgres::{Relation, ReplicaIdentity, Table, TableKind, Tuple, Value};

/// Values of the columns a step joins on, as text.
pub(crate) type Values = Box<[Box<str>]>;

/// What a tuple says of some columns.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Known {
    Values(Values),
    /// One is null: it joins to nothing.
    Nothing,
    Unknown,
}

/// The old and the new side of a row event.
pub(crate) struct Sides<'a> {
    pub(crate) relation: &'a Relation,
    pub(crate) old: Old<'a>,
    pub(crate) new: Option<&'a Tuple>,
}

#[derive(Clone, Copy)]
pub(crate) enum Old<'a> {
    /// There was no row.
    Absent,
    /// The identity's columns did not change.
    Unchanged,
    Full(&'a Tuple),
    Key(&'a Tuple),
}

impl Sides<'_> {
    pub(crate) fn new_values(&self, columns: &[String]) -> Known {
        self.new.map_or(Known::Nothing, |tuple| known(self.relation, tuple, columns))
    }

    /// The values that the row had; [`Known::Nothing`] if there was no row.
    pub(crate) fn old_values(&self, table: &Table, columns: &[String]) -> Known {
        match self.old {
            Old::Absent => Known::Nothing,
            Old::Unchanged if identity_covers(self.relation, table, columns) => {
                self.new_values(columns)
            }
            Old::Unchanged => Known::Unknown,
            // Columns of a key are never null: a null is a column that the tuple does not carry.
            Old::Key(tuple) => known(self.relation, tuple, columns).or_not_carried(),
            Old::Full(tuple) if self.may_be_key_only(table, tuple, columns) => {
                known(self.relation, tuple, columns).or_not_carried()
            }
            Old::Full(tuple) => known(self.relation, tuple, columns),
        }
    }

    /// Published through its root, a partitioned table's tuple is marked by the root's identity and
    /// filled by the leaf's: a FULL root over a DEFAULT leaf sends nulls. The leaf's identity of today
    /// need not be that of the change, so a tuple without any value beside the key is not trusted.
    fn may_be_key_only(&self, table: &Table, tuple: &Tuple, columns: &[String]) -> bool {
        let carries_more = || {
            let values = self.relation.columns.iter().zip(&tuple.0);
            values.into_iter().any(|(column, value)| {
                *value != Value::Null && !table.primary_key.contains(&column.name)
            })
        };
        table.kind == TableKind::Partitioned && !(table.identity_covers(columns) && carries_more())
    }
}

impl Known {
    /// For tuples in which a null may stand for a value that is not carried.
    fn or_not_carried(self) -> Self {
        match self {
            Self::Nothing => Self::Unknown,
            Self::Values(_) | Self::Unknown => self,
        }
    }
}

/// Whether an update without an old tuple left the columns as they were.
///
/// The catalog of today may say more than the WAL of yesterday has, so the Relation message decides.
/// A partitioned table is named there by its root while tuples follow the leaf, so the leaves have to
/// agree. A FULL leaf always sends the old tuple: if all are FULL, the leaf had another identity when
/// the change was made, of which nothing is known but that a primary key is in it.
fn identity_covers(relation: &Relation, table: &Table, columns: &[String]) -> bool {
    let in_message = columns
        .iter()
        .all(|name| relation.columns.iter().any(|column| column.name == *name && column.is_key));
    let in_leaves = || {
        let was_changed = table.leaves.iter().all(|leaf| leaf.identity == ReplicaIdentity::Full);
        let in_key = || columns.iter().all(|name| table.primary_key.contains(name));
        table.identity_covers(columns) && (!was_changed || in_key())
    };
    in_message && (table.kind != TableKind::Partitioned || in_leaves())
}

fn known(relation: &Relation, tuple: &Tuple, columns: &[String]) -> Known {
    let mut values = Vec::with_capacity(columns.len());
    let mut is_null = false;
    for name in columns {
        let at = relation.columns.iter().position(|column| column.name == *name);
        match at.and_then(|at| tuple.get(at)) {
            Some(Value::Text(bytes)) => match std::str::from_utf8(bytes) {
                Ok(text) => values.push(text.into()),
                Err(_) => return Known::Unknown,
            },
            Some(Value::Null) => is_null = true,
            Some(Value::UnchangedToast | Value::Binary(_)) | None => return Known::Unknown,
        }
    }
    if is_null { Known::Nothing } else { Known::Values(values.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::{Leaf, RelationColumn, RelationId};
    use crate::schema::fixtures::table;

    fn leaf(identity: ReplicaIdentity, columns: &[&str]) -> Leaf {
        let identity_columns = columns.iter().map(ToString::to_string).collect();
        Leaf { id: RelationId(9), name: "p".to_owned(), identity, identity_columns }
    }

    fn tuple(values: &[&str]) -> Tuple {
        let value = |text: &&str| match *text {
            "-" => Value::Null,
            text => Value::Text(text.to_owned().into()),
        };
        Tuple(values.iter().map(value).collect())
    }

    /// What is known of `parent` before the change of a row of a partitioned table.
    fn known_parent(leaves: &[Leaf], root_is_full: bool, old: Old<'_>) -> Known {
        let mut table = table(1, "p", "id* parent name:text").of_kind(TableKind::Partitioned);
        table.leaves = leaves.to_vec();
        let columns = ["id", "parent", "name"].map(|name| RelationColumn {
            name: name.to_owned(),
            type_oid: 23,
            type_modifier: -1,
            is_key: root_is_full || name == "id",
        });
        let relation = Relation {
            id: table.id,
            namespace: "public".to_owned(),
            name: "p".to_owned(),
            identity: ReplicaIdentity::Default,
            columns: columns.into(),
        };
        let new = tuple(&["1", "5", "n"]);
        let sides = Sides { relation: &relation, old, new: Some(&new) };
        sides.old_values(&table, &["parent".to_owned()])
    }

    fn values(text: &str) -> Known {
        Known::Values([text.into()].into())
    }

    #[test]
    fn a_partition_is_trusted_as_far_as_its_identity_of_that_time_is_certain() {
        let full = leaf(ReplicaIdentity::Full, &[]);
        let by_key = leaf(ReplicaIdentity::Default, &["id"]);
        let by_both = leaf(ReplicaIdentity::Index, &["id", "parent"]);
        let (row, no_parent) = (tuple(&["1", "4", "n"]), tuple(&["1", "-", "n"]));
        let (key_only, with_parent) = (tuple(&["1", "-", "-"]), tuple(&["1", "4", "-"]));
        for (case, leaves, is_full, old, expected) in [
            ("a full row", vec![full.clone()], true, Old::Full(&row), values("4")),
            ("a full row without", vec![full.clone()], true, Old::Full(&no_parent), Known::Nothing),
            ("a key marked full", vec![by_key.clone()], true, Old::Full(&key_only), Known::Unknown),
            ("full since", vec![full.clone()], true, Old::Full(&key_only), Known::Unknown),
            ("full since, no tuple", vec![full.clone()], true, Old::Unchanged, Known::Unknown),
            ("a row marked key", vec![full.clone()], false, Old::Key(&row), values("4")),
            ("a key", vec![by_key.clone()], false, Old::Key(&key_only), Known::Unknown),
            ("an index", vec![by_both.clone()], true, Old::Full(&with_parent), values("4")),
            ("unchanged", vec![by_both], true, Old::Unchanged, values("5")),
            ("not covered", vec![by_key, full], true, Old::Unchanged, Known::Unknown),
            ("no row", vec![], true, Old::Absent, Known::Nothing),
        ] {
            assert_eq!(known_parent(&leaves, is_full, old), expected, "{case}");
        }
    }
}
