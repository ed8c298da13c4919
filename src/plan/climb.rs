//! A changed row → the documents above it, as far as the change itself tells. Pure.
//!
//! A change on the root touches its key, old and new. A change on any other row touches the roots
//! above the row *as it was and as it is*: one step is climbed here with the old and the new values
//! of the columns it joins on, the rest by SQL ([`crate::plan::lookup`]) in the present snapshot. Rows
//! in between that changed bring their own steps, so every former root is refreshed by somebody.
//!
//! Where the replica identity does not carry the old values, the documents themselves are asked who
//! holds the row ([`crate::plan::holders`]).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::plan::holders::Search;
use crate::plan::lookup::{Lookup, Start};
use crate::plan::{EntryId, RootKey};
use crate::postgres::render::search_term;
use crate::postgres::{
    Relation, RelationId, ReplicaIdentity, Table, TableKind, TransactionId, Tuple, Value,
};
use crate::schema::tree::{ColumnPair, Join, NodeId, SchemaTree};
use crate::source::{Change, OldTuple, TransactionPart};

/// Values of the columns a step joins on, as text.
pub(crate) type Values = Box<[Box<str>]>;

/// Everything a round of changes touches, each thing once.
#[derive(Debug, Default)]
pub(crate) struct Climbed {
    /// Documents known by key.
    pub(crate) keys: HashMap<EntryId, HashSet<RootKey>>,
    /// Steps to go on from by SQL.
    pub(crate) lookups: HashMap<Lookup, HashSet<Values>>,
    /// Rows to look for in the documents: by table and key columns, the keys.
    pub(crate) held: HashMap<(EntryId, HeldRow), HashSet<Values>>,
    /// Documents to look for as a whole.
    pub(crate) searches: HashSet<(EntryId, Search)>,
    /// The transactions, each once, in order.
    pub(crate) transactions: Vec<TransactionId>,
}

/// A table whose rows documents name in `_meta`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct HeldRow {
    pub(crate) table: String,
    pub(crate) columns: Vec<String>,
}

/// Which tables stand where in the trees of a database.
#[derive(Debug)]
pub(crate) struct Climb {
    trees: Arc<[Arc<SchemaTree>]>,
    places: HashMap<RelationId, Vec<Place>>,
}

/// A table's place in a tree.
#[derive(Clone, Debug)]
struct Place {
    entry: EntryId,
    table: Arc<Table>,
    role: Role,
}

#[derive(Clone, Debug)]
enum Role {
    /// Its key is the document's.
    Root,
    /// Its columns join it to the rows above.
    Below {
        join: Vec<String>,
        /// Where SQL goes on with the join values.
        step: Lookup,
        /// Where SQL goes on with the row's own key, when its join values are not known.
        row: Lookup,
        key: Vec<String>,
        /// Set if the join columns equal the root's key, type for type: positions in it.
        direct: Option<Vec<usize>>,
    },
}

/// What a tuple says of some columns.
enum Known {
    Values(Values),
    /// One is null: it joins to nothing.
    Nothing,
    Unknown,
}

/// The old and the new side of a row event.
struct Sides<'a> {
    relation: &'a Relation,
    old: Old<'a>,
    new: Option<&'a Tuple>,
}

enum Old<'a> {
    /// There was no row.
    Absent,
    /// The identity's columns did not change.
    Unchanged,
    Full(&'a Tuple),
    Key(&'a Tuple),
}

impl Climb {
    pub(crate) fn new(trees: Arc<[Arc<SchemaTree>]>) -> Self {
        let mut places: HashMap<RelationId, Vec<Place>> = HashMap::new();
        for (number, tree) in trees.iter().enumerate() {
            for place in places_in(EntryId(number), tree) {
                places.entry(place.table.id).or_default().push(place);
            }
        }
        Self { trees, places }
    }

    /// Adds what a part of a transaction touches.
    pub(crate) fn climb(&self, part: &TransactionPart, climbed: &mut Climbed) {
        if climbed.transactions.last() != Some(&part.xid) {
            climbed.transactions.push(part.xid);
        }
        for change in &part.changes {
            match change {
                Change::Insert { relation, new } => {
                    self.row(&Sides { relation, old: Old::Absent, new: Some(new) }, climbed);
                }
                Change::Update { relation, old, new } => {
                    let old = match old {
                        None => Old::Unchanged,
                        Some(OldTuple::Full(tuple)) => Old::Full(tuple),
                        Some(OldTuple::Key(tuple)) => Old::Key(tuple),
                    };
                    self.row(&Sides { relation, old, new: Some(new) }, climbed);
                }
                Change::Delete { relation, old } => {
                    let old = match old {
                        OldTuple::Full(tuple) => Old::Full(tuple),
                        OldTuple::Key(tuple) => Old::Key(tuple),
                    };
                    self.row(&Sides { relation, old, new: None }, climbed);
                }
                Change::Truncate { relations } => self.truncate(relations, climbed),
            }
        }
    }

    fn row(&self, sides: &Sides<'_>, climbed: &mut Climbed) {
        for place in self.places_of(sides.relation.id) {
            match &place.role {
                Role::Root => self.root(place, sides, climbed),
                Role::Below { .. } => self.below(place, sides, climbed),
            }
        }
    }

    fn places_of(&self, id: RelationId) -> &[Place] {
        self.places.get(&id).map_or(&[], Vec::as_slice)
    }

    fn tree(&self, entry: EntryId) -> Option<&SchemaTree> {
        self.trees.get(entry.0).map(|tree| &**tree)
    }

    fn root(&self, place: &Place, sides: &Sides<'_>, climbed: &mut Climbed) {
        let Some(tree) = self.tree(place.entry) else { return };
        let keys = climbed.keys.entry(place.entry).or_default();
        let mut unknown = false;
        for side in [sides.new_values(&tree.key), sides.old_values(&place.table, &tree.key)] {
            match side {
                Known::Values(values) => {
                    keys.insert(RootKey(values));
                }
                Known::Nothing => {}
                Known::Unknown => unknown = true,
            }
        }
        if unknown {
            climbed.searches.insert((place.entry, Search::All));
        }
    }

    fn below(&self, place: &Place, sides: &Sides<'_>, climbed: &mut Climbed) {
        let Role::Below { join, step, row, key, direct } = &place.role else { return };
        match sides.new_values(join) {
            Known::Values(values) => climbed.step(place.entry, step, direct.as_deref(), values),
            Known::Nothing => {}
            Known::Unknown => match sides.new_values(key) {
                Known::Values(values) if !key.is_empty() => {
                    climbed.step(place.entry, row, None, values);
                }
                Known::Values(_) | Known::Nothing | Known::Unknown => {
                    self.search_table(place, climbed);
                }
            },
        }
        match sides.old_values(&place.table, join) {
            Known::Values(values) => climbed.step(place.entry, step, direct.as_deref(), values),
            Known::Nothing => {}
            Known::Unknown => self.search_row(place, key, sides, climbed),
        }
    }

    /// Asks the documents who holds the row as it was.
    fn search_row(&self, place: &Place, key: &[String], sides: &Sides<'_>, climbed: &mut Climbed) {
        let has_meta = self.tree(place.entry).is_some_and(|tree| tree.meta);
        let terms = match sides.old_values(&place.table, key) {
            Known::Values(values) if has_meta && !key.is_empty() => {
                let columns = key.iter().map(|name| place.table.column(name));
                let terms = columns.zip(&values).map(|(column, text)| search_term(column?, text));
                terms.collect::<Option<Values>>()
            }
            Known::Values(_) | Known::Nothing | Known::Unknown => None,
        };
        let Some(terms) = terms else {
            self.search_table(place, climbed);
            return;
        };
        let held = HeldRow { table: place.table.name.clone(), columns: key.to_vec() };
        climbed.held.entry((place.entry, held)).or_default().insert(terms);
    }

    /// Asks for every document that holds rows of the table.
    fn search_table(&self, place: &Place, climbed: &mut Climbed) {
        let Some(tree) = self.tree(place.entry) else { return };
        let search = match &place.role {
            Role::Below { key, .. } if tree.meta && !key.is_empty() => {
                Search::Table { table: place.table.name.clone(), columns: key.clone() }
            }
            Role::Below { .. } | Role::Root => Search::All,
        };
        climbed.searches.insert((place.entry, search));
    }

    fn truncate(&self, relations: &[Arc<Relation>], climbed: &mut Climbed) {
        for relation in relations {
            for place in self.places_of(relation.id) {
                self.search_table(place, climbed);
            }
        }
    }
}

impl Climbed {
    fn step(&mut self, entry: EntryId, step: &Lookup, direct: Option<&[usize]>, values: Values) {
        let Some(positions) = direct else {
            self.lookups.entry(step.clone()).or_default().insert(values);
            return;
        };
        let key: Option<Values> = positions.iter().map(|at| values.get(*at).cloned()).collect();
        if let Some(key) = key {
            self.keys.entry(entry).or_default().insert(RootKey(key));
        }
    }
}

impl Sides<'_> {
    fn new_values(&self, columns: &[String]) -> Known {
        self.new.map_or(Known::Nothing, |tuple| known(self.relation, tuple, columns))
    }

    /// The values that the row had; [`Known::Nothing`] if there was no row.
    fn old_values(&self, table: &Table, columns: &[String]) -> Known {
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

fn places_in(entry: EntryId, tree: &SchemaTree) -> Vec<Place> {
    let mut places = Vec::new();
    for id in tree.ids() {
        let node = tree.node(id);
        let place = |table: &Arc<Table>, role| Place { entry, table: Arc::clone(table), role };
        match node.link.as_ref().map(|link| (link.parent, &link.join)) {
            None => places.push(place(&node.table, Role::Root)),
            Some((parent, Join::Direct(pairs))) => {
                let starts = (Start::Upper, Start::Row);
                let role = below(tree, (entry, id, parent), starts, pairs, &node.key);
                places.push(place(&node.table, role));
            }
            Some((parent, Join::Through { table, upper, lower })) => {
                let ids = (entry, id, parent);
                let starts = (Start::Upper, Start::ThroughRow);
                let role = below(tree, ids, starts, upper, &table.primary_key);
                places.push(place(table, role));
                let role = below(tree, ids, (Start::Lower, Start::Row), lower, &node.key);
                places.push(place(&node.table, role));
            }
        }
    }
    places
}

fn below(
    tree: &SchemaTree,
    (entry, node, parent): (EntryId, NodeId, NodeId),
    (step, row): (Start, Start),
    pairs: &[ColumnPair],
    key: &[String],
) -> Role {
    let direct = match step {
        Start::Upper if parent == NodeId::ROOT => direct_positions(tree, node, pairs),
        Start::Upper | Start::Lower | Start::Row | Start::ThroughRow => None,
    };
    Role::Below {
        join: pairs.iter().map(|pair| pair.lower.clone()).collect(),
        step: Lookup { entry, node, start: step },
        row: Lookup { entry, node, start: row },
        key: key.to_vec(),
        direct,
    }
}

/// For each column of the document's key, the pair that gives its value; `None` unless the pairs are
/// exactly the key, in the same types: then no SQL is needed. Values that are equal in other words
/// (`1.0` and `1.00`) are the same key to the reader, which also deletes an `_id` that never was.
fn direct_positions(tree: &SchemaTree, node: NodeId, pairs: &[ColumnPair]) -> Option<Vec<usize>> {
    if pairs.len() != tree.key.len() {
        return None;
    }
    let below: &Table = match tree.node(node).link.as_ref().map(|link| &link.join)? {
        Join::Direct(_) => &tree.node(node).table,
        Join::Through { table, .. } => table,
    };
    let root = &tree.root().table;
    tree.key
        .iter()
        .map(|name| {
            let at = pairs.iter().position(|pair| pair.upper == *name)?;
            let upper = root.column(name)?;
            let lower = below.column(&pairs.get(at)?.lower)?;
            (upper.type_oid == lower.type_oid).then_some(at)
        })
        .collect()
}
