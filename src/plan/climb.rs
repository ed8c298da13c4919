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
use crate::plan::sides::{Known, Old, Sides, Values};
use crate::plan::{EntryId, RootKey};
use crate::postgres::render::search_term;
use crate::postgres::{Relation, RelationId, Table, TransactionId};
use crate::schema::tree::{ColumnPair, Join, NodeId, SchemaTree};
use crate::source::{Change, OldTuple, TransactionPart};

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

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::postgres::{Lsn, RelationColumn, ReplicaIdentity, Tuple, Value};
    use crate::schema::fixtures::{shop, tree_of};

    const PRODUCTS: &str = r#"{"index": "p", "nodes": {"table": "product", "children": [
        {"table": "part", "relationship": {"type": "one_to_many", "variant": "object"}, "children": [
            {"table": "part", "label": "parts",
             "relationship": {"type": "one_to_many", "variant": "object"}}]},
        {"table": "tag", "relationship": {"type": "one_to_many", "variant": "object",
            "through_tables": ["product_tag"]}},
        {"table": "customer", "relationship": {"type": "one_to_one", "variant": "object"}}]}}"#;

    /// A relation as the stream describes the table; `key`: columns of the identity.
    fn relation(table: &Table, identity: ReplicaIdentity, key: &[&str]) -> Arc<Relation> {
        let columns = table.columns.iter().map(|column| RelationColumn {
            name: column.name.clone(),
            type_oid: column.type_oid,
            type_modifier: -1,
            is_key: identity == ReplicaIdentity::Full || key.contains(&column.name.as_str()),
        });
        Arc::new(Relation {
            id: table.id,
            namespace: table.schema.clone(),
            name: table.name.clone(),
            identity,
            columns: columns.collect(),
        })
    }

    /// `-` is null, `~` unchanged and out of line.
    fn tuple(text: &str) -> Tuple {
        let value = |word: &str| match word {
            "-" => Value::Null,
            "~" => Value::UnchangedToast,
            text => Value::Text(text.to_owned().into()),
        };
        Tuple(text.split(' ').map(value).collect())
    }

    fn named(name: &str) -> Table {
        shop().into_iter().find(|table| table.name == name).unwrap()
    }

    fn climbed(tables: Vec<Table>, changes: Vec<Change>) -> Climbed {
        let climb = Climb::new([Arc::new(tree_of(tables, PRODUCTS))].into());
        let mut climbed = Climbed::default();
        let part = TransactionPart {
            xid: TransactionId(7),
            commit: Lsn(1),
            end: Lsn(2),
            committed_at: SystemTime::UNIX_EPOCH,
            first: 0,
            last: true,
            changes,
        };
        climb.climb(&part, &mut climbed);
        climb.climb(&part, &mut climbed);
        climbed
    }

    /// What was touched, one word each, sorted: `key 1`, `step 1 Upper 5`, `held part id 3`, `all`.
    fn touched(climbed: &Climbed) -> Vec<String> {
        let join = |values: &[Box<str>]| values.join("|");
        let keys = climbed.keys.values().flatten().map(|key| format!("key {}", join(&key.0)));
        let steps = climbed.lookups.iter().flat_map(|(lookup, values)| {
            let step = format!("step {} {:?}", lookup.node.0, lookup.start);
            values.iter().map(move |values| format!("{step} {}", values.join("|")))
        });
        let held = climbed.held.iter().flat_map(|((_, row), values)| {
            let row = format!("held {} {}", row.table, row.columns.join("|"));
            values.iter().map(move |values| format!("{row} {}", values.join("|")))
        });
        let searches = climbed.searches.iter().map(|(_, search)| match search {
            Search::All => "all".to_owned(),
            Search::Table { table, columns } => format!("table {table} {}", columns.join("|")),
            Search::Rows { .. } => "rows".to_owned(),
        });
        let mut all: Vec<String> = keys.chain(steps).chain(held).chain(searches).collect();
        all.sort();
        all
    }

    /// What one change touches; `old`: `None` where the event carries none. The identity is that of
    /// the table unless it is FULL.
    fn change(table: &str, identity: &str, old: Option<&str>, new: Option<&str>) -> Vec<String> {
        let mut tables = shop();
        let changed = tables.iter_mut().find(|other| other.name == table).unwrap();
        let kind = if identity == "full" { ReplicaIdentity::Full } else { ReplicaIdentity::Index };
        changed.identity = kind;
        let key: Vec<&str> = identity.split(' ').collect();
        changed.identity_columns = key.iter().map(ToString::to_string).collect();
        let relation = relation(changed, kind, &key);
        let old = old.map(tuple).map(|tuple| match kind {
            ReplicaIdentity::Full => OldTuple::Full(tuple),
            _ => OldTuple::Key(tuple),
        });
        let change = match (old, new.map(tuple)) {
            (None, Some(new)) if identity == "insert" => Change::Insert { relation, new },
            (old, Some(new)) => Change::Update { relation, old, new },
            (Some(old), None) => Change::Delete { relation, old },
            (None, None) => Change::Truncate { relations: vec![relation] },
        };
        // Covering the root's key is demanded of the root alone.
        touched(&climbed(tables, vec![change]))
    }

    #[test]
    fn rows_of_the_root_touch_their_keys_old_and_new() {
        for (identity, old, new, expected) in [
            ("id", None, Some("1 c n 5"), vec!["key 1"]),
            ("id", Some("1 - - -"), Some("2 c n 5"), vec!["key 1", "key 2"]),
            ("id", Some("1 - - -"), None, vec!["key 1"]),
            ("full", Some("1 c n 5"), Some("1 c m -"), vec!["key 1"]),
            ("id", None, None, vec!["all"]),
        ] {
            assert_eq!(change("product", identity, old, new), expected, "{identity} {old:?}");
        }
    }

    #[test]
    fn rows_below_climb_by_their_join_or_are_asked_of_the_documents() {
        // `part` hangs on the product (node 1) and on a part (node 2).
        for (identity, old, new, expected) in [
            ("insert", None, Some("3 n 1 -"), vec!["key 1"]),
            ("insert", None, Some("3 n - -"), vec![]),
            ("insert", None, Some("3 n - 2"), vec!["step 2 Upper 2"]),
            ("full", Some("3 n 1 -"), Some("3 n 8 -"), vec!["key 1", "key 8"]),
            ("full", Some("3 n 1 2"), None, vec!["key 1", "step 2 Upper 2"]),
            ("full", Some("3 n - -"), None, vec![]),
            ("id", Some("3 - - -"), None, vec!["held part id 3"]),
            ("id", None, Some("3 n 8 -"), vec!["held part id 3", "key 8"]),
            ("id", Some("3 - - -"), Some("4 n 8 -"), vec!["held part id 3", "key 8"]),
            ("id product_id parent_id", None, Some("3 n 8 9"), vec!["key 8", "step 2 Upper 9"]),
            (
                "product_id parent_id",
                Some("- - 1 2"),
                Some("3 n 8 9"),
                vec!["key 1", "key 8", "step 2 Upper 2", "step 2 Upper 9"],
            ),
            ("name", Some("- n - -"), None, vec!["table part id"]),
            ("id", None, None, vec!["table part id"]),
        ] {
            assert_eq!(change("part", identity, old, new), expected, "{identity} {old:?} {new:?}");
        }
    }

    #[test]
    fn a_join_value_out_of_line_is_looked_up_by_the_key_of_the_row() {
        let expected = ["held part id 3", "step 1 Row 3", "step 2 Row 3"];
        assert_eq!(change("part", "id", None, Some("3 n ~ ~")), expected);
    }

    #[test]
    fn through_rows_climb_to_the_parent_and_children_to_the_through_rows() {
        let product_tag = "product_id tag_id";
        for (table, identity, old, new, expected) in [
            ("product_tag", "insert", None, Some("1 2"), vec!["key 1"]),
            ("product_tag", product_tag, Some("1 2"), Some("3 2"), vec!["key 1", "key 3"]),
            ("product_tag", product_tag, None, None, vec!["table product_tag product_id|tag_id"]),
            ("tag", "insert", None, Some("2 n"), vec!["step 3 Lower 2"]),
            ("tag", "id", Some("2 -"), None, vec!["step 3 Lower 2"]),
            ("tag", "id", None, None, vec!["table tag id"]),
            ("customer", "id", None, Some("5 n"), vec!["step 4 Upper 5"]),
        ] {
            assert_eq!(change(table, identity, old, new), expected, "{table} {old:?} {new:?}");
        }
    }

    #[test]
    fn a_change_elsewhere_touches_nothing() {
        assert!(change("stock", "insert", None, Some("r d 1")).is_empty());
    }

    #[test]
    fn a_transaction_in_parts_is_named_once() {
        let new = tuple("1 c n -");
        let relation = relation(&named("product"), ReplicaIdentity::Default, &["id"]);
        let climbed = climbed(shop(), vec![Change::Insert { relation, new }]);
        assert_eq!(climbed.transactions, [TransactionId(7)]);
    }

    #[test]
    fn a_join_is_direct_only_if_it_is_the_whole_key_in_the_same_types() {
        let direct = |entry: &str| {
            let tree = tree_of(shop(), entry);
            match &tree.node(NodeId(1)).link.as_ref().unwrap().join {
                Join::Direct(pairs) => direct_positions(&tree, NodeId(1), pairs),
                Join::Through { upper, .. } => direct_positions(&tree, NodeId(1), upper),
            }
        };
        let stock = |parent: &str, child: &str| {
            format!(
                r#"{{"index": "s", "nodes": {{"table": "stock", "primary_key": [], "children": [
                    {{"table": "delivery", "relationship": {{"type": "one_to_many",
                      "variant": "object", "foreign_key": {{"parent": [{parent}],
                      "child": [{child}]}}}}}}]}}}}"#
            )
        };
        // The key of `_id` is alphabetical: at, region.
        let both = stock(r#""region", "at""#, r#""region", "at""#);
        assert_eq!(direct(&both), Some(vec![1, 0]));
        assert_eq!(direct(&stock(r#""region""#, r#""region""#)), None);
        assert_eq!(direct(PRODUCTS), Some(vec![0]));
    }
}
