//! What is selected for each node of a tree, and where each selected value goes. Pure: made once from
//! the tree, used by the queries, the reader and the merge.

use std::collections::BTreeMap;

use crate::postgres::render::{Rendering, write_string};
use crate::postgres::sql::{array_literal, quote_identifier, quote_literal};
use crate::postgres::{Column, Table};
use crate::schema::tree::{
    ColumnPair, Join, JsonPath, Node, NodeId, OutputColumn, RelationshipKind, SchemaTree, Variant,
};

/// Position of an expression in a node's SELECT list.
pub(crate) type Position = usize;

/// The layouts of all nodes of a tree, and the shape of `_meta`.
#[derive(Debug)]
pub(crate) struct Layout {
    pub(crate) nodes: Vec<NodeLayout>,
    pub(crate) meta: MetaLayout,
}

/// One node.
#[derive(Debug)]
pub(crate) struct NodeLayout {
    /// SELECT list; `c` is the node's table, `t` its through table.
    pub(crate) select: Vec<String>,
    /// Fields of the object, in order.
    pub(crate) fields: Vec<Field>,
    /// The root's key columns in the order of `_id`; empty below.
    pub(crate) id: Vec<(Position, Column)>,
    /// Values that go into `_meta`.
    pub(crate) meta: Vec<MetaValue>,
    pub(crate) children: Vec<ChildLayout>,
}

/// A field that comes from a column.
#[derive(Debug)]
pub(crate) struct Field {
    /// `"name":`, escaped.
    pub(crate) name: Vec<u8>,
    pub(crate) position: Position,
    pub(crate) rendering: Rendering,
}

/// A field that comes from a child node.
#[derive(Debug)]
pub(crate) struct ChildLayout {
    pub(crate) node: NodeId,
    /// `"label":`, escaped.
    pub(crate) name: Vec<u8>,
    /// Where the parent's row has the values that the child joins on.
    pub(crate) join: Vec<Position>,
    pub(crate) kind: RelationshipKind,
    pub(crate) variant: Variant,
}

/// A value of a row that goes into a slot of `_meta`.
#[derive(Debug)]
pub(crate) struct MetaValue {
    pub(crate) slot: usize,
    pub(crate) position: Position,
    pub(crate) rendering: Rendering,
}

/// `"column":`, escaped, and its slot.
pub(crate) type MetaColumn = (Vec<u8>, usize);

/// `{"table": {"column": […]}}`: the slots, grouped as they are written.
#[derive(Debug, Default)]
pub(crate) struct MetaLayout {
    /// `"table":`, escaped, and its columns.
    pub(crate) tables: Vec<(Vec<u8>, Vec<MetaColumn>)>,
    /// Slot of the root's first key column.
    pub(crate) root: usize,
    pub(crate) slots: usize,
}

impl Layout {
    /// The layout of a tree that was validated against its catalog.
    pub(crate) fn of(tree: &SchemaTree) -> Self {
        let mut slots = Slots::default();
        let root_key = tree.key.first().map_or("", String::as_str);
        let root = slots.slot(&tree.root().table.name, root_key);
        let nodes = tree.ids().map(|id| NodeLayout::of(tree, id, &mut slots)).collect();
        Self { nodes, meta: slots.layout(root) }
    }

    /// The layout of a node.
    pub(crate) fn node(&self, id: NodeId) -> Option<&NodeLayout> {
        self.nodes.get(id.0)
    }
}

impl NodeLayout {
    fn of(tree: &SchemaTree, id: NodeId, slots: &mut Slots) -> Self {
        let node = tree.node(id);
        let mut select = Select::default();
        let labels: Vec<&str> =
            node.children.iter().map(|child| tree.node(*child).label.as_str()).collect();
        let fields = node
            .columns
            .iter()
            .filter(|output| !labels.contains(&output.field.as_str()))
            .map(|output| field(&node.table, output, &mut select))
            .collect();
        let id_names: &[String] = if node.link.is_none() { &tree.key } else { &[] };
        let id = id_names
            .iter()
            .filter_map(|name| Some((select.column("c", name), node.table.column(name)?.clone())))
            .collect();
        let meta = meta_columns(node)
            .into_iter()
            .map(|(alias, table, column)| meta_value(alias, table, column, &mut select, slots))
            .collect();
        let children = node.children.iter().map(|c| child(tree, *c, &mut select)).collect();
        Self { select: select.expressions, fields, id, meta, children }
    }
}

fn field(table: &Table, output: &OutputColumn, select: &mut Select) -> Field {
    let rendering = table.column(&output.column).map_or(Rendering::ThroughJsonb, Rendering::of);
    let plain = format!("c.{}", quote_identifier(&output.column));
    let (expression, rendering) = match &output.path {
        Some(path) => json_path(&plain, path, rendering),
        None => (selected(&plain, rendering), rendering),
    };
    Field { name: quoted_name(&output.field), position: select.position(expression), rendering }
}

fn selected(plain: &str, rendering: Rendering) -> String {
    match rendering {
        Rendering::ThroughJsonb => format!("pg_catalog.to_jsonb({plain})::text"),
        Rendering::Number
        | Rendering::Boolean
        | Rendering::Text
        | Rendering::Timestamp
        | Rendering::Json
        | Rendering::LooseJson => plain.to_owned(),
    }
}

fn json_path(plain: &str, path: &JsonPath, column: Rendering) -> (String, Rendering) {
    let mut expression = plain.to_owned();
    for step in &path.0 {
        let operator = match (step.hash, step.as_text) {
            (true, true) => "#>>",
            (true, false) => "#>",
            (false, true) => "->>",
            (false, false) => "->",
        };
        let operand = if step.hash {
            format!("{}::text[]", quote_literal(&array_literal(&step.keys)))
        } else {
            let key = step.keys.first().map_or("", String::as_str);
            let only_digits = key.bytes().all(|byte| byte.is_ascii_digit());
            // More digits than an `integer` has are no position: the operator would not exist.
            let is_position = only_digits && key.parse::<i32>().is_ok();
            if is_position { key.to_owned() } else { quote_literal(key) }
        };
        expression = format!("{expression} {operator} {operand}");
    }
    let as_text = path.0.last().is_some_and(|step| step.as_text);
    (format!("({expression})"), if as_text { Rendering::Text } else { column })
}

/// Which columns of a row go into `_meta` (schema-format 2.3), with the alias they are selected from.
///
/// The key of a through child is there too when it is not what the child joins on: a deleted child
/// row is found by its key.
fn meta_columns(node: &Node) -> Vec<(&'static str, &Table, &str)> {
    let mut columns: Vec<(&'static str, &Table, &str)> = Vec::new();
    match node.link.as_ref().map(|link| &link.join) {
        None => return columns,
        Some(Join::Direct(_)) => {}
        Some(Join::Through { table, lower, .. }) => {
            columns.extend(lower.iter().map(|pair| ("c", &*node.table, pair.lower.as_str())));
            columns.extend(table.primary_key.iter().map(|name| ("t", &**table, name.as_str())));
        }
    }
    columns.extend(node.key.iter().map(|name| ("c", &*node.table, name.as_str())));
    let mut seen = Vec::new();
    columns.retain(|column| {
        let is_new = !seen.contains(column);
        seen.push(*column);
        is_new
    });
    columns
}

fn meta_value(
    alias: &str,
    table: &Table,
    column: &str,
    select: &mut Select,
    slots: &mut Slots,
) -> MetaValue {
    let rendering = table.column(column).map_or(Rendering::ThroughJsonb, Rendering::of);
    let plain = format!("{alias}.{}", quote_identifier(column));
    let position = select.position(selected(&plain, rendering));
    MetaValue { slot: slots.slot(&table.name, column), position, rendering }
}

fn child(tree: &SchemaTree, id: NodeId, select: &mut Select) -> ChildLayout {
    let node = tree.node(id);
    let (kind, variant, join) = node.link.as_ref().map_or(
        (RelationshipKind::OneToMany, Variant::Object, Vec::new()),
        |link| {
            let pairs = upper_pairs(&link.join);
            let join = pairs.iter().map(|pair| select.column("c", &pair.upper)).collect();
            (link.kind, link.variant, join)
        },
    );
    ChildLayout { node: id, name: quoted_name(&node.label), join, kind, variant }
}

/// The pairs whose upper side is the parent.
pub(crate) fn upper_pairs(join: &Join) -> &[ColumnPair] {
    match join {
        Join::Direct(pairs) => pairs,
        Join::Through { upper, .. } => upper,
    }
}

fn quoted_name(name: &str) -> Vec<u8> {
    let mut out = Vec::new();
    write_string(name, &mut out);
    out.push(b':');
    out
}

/// A SELECT list without repetitions.
#[derive(Default)]
struct Select {
    expressions: Vec<String>,
}

impl Select {
    fn column(&mut self, alias: &str, name: &str) -> Position {
        self.position(format!("{alias}.{}", quote_identifier(name)))
    }

    fn position(&mut self, expression: String) -> Position {
        let known = self.expressions.iter().position(|other| *other == expression);
        known.unwrap_or_else(|| {
            self.expressions.push(expression);
            self.expressions.len() - 1
        })
    }
}

/// The slots of `_meta` by bare table name and column.
#[derive(Default)]
struct Slots {
    names: BTreeMap<String, BTreeMap<String, usize>>,
    count: usize,
}

impl Slots {
    fn slot(&mut self, table: &str, column: &str) -> usize {
        let columns = self.names.entry(table.to_owned()).or_default();
        let slot = *columns.entry(column.to_owned()).or_insert(self.count);
        self.count = self.count.max(slot + 1);
        slot
    }

    fn layout(self, root: usize) -> MetaLayout {
        let tables = self
            .names
            .into_iter()
            .map(|(table, columns)| {
                let columns =
                    columns.into_iter().map(|(column, slot)| (quoted_name(&column), slot));
                (quoted_name(&table), columns.collect())
            })
            .collect();
        MetaLayout { tables, root, slots: self.count }
    }
}
