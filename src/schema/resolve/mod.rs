//! Raw entries + catalog → trees. Goes on after a problem, so that all of them are told at once. Pure.

mod digest;
mod identity;
mod join;
mod tables;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value as Json;

use super::databases::{check_index_names, index_of};
use super::paths::{parse_column, plain_column};
use super::problem::{Problems, element, listed, member, nearest, shown};
use super::raw::{RawEntry, RawNode};
use super::tree::{
    IndexName, Link, Node, NodeId, OutputColumn, SchemaTree, Transform, UserMapping, Variant,
};
use crate::postgres::{Catalog, Table, TableKind};

/// Oids of `json` and `jsonb`, the types that have paths.
const JSON_TYPES: [u32; 2] = [114, 3802];

/// The trees of the entries; not to be used if there are problems.
pub(super) fn resolve_entries(
    entries: &[RawEntry],
    catalog: &Catalog,
    connection_database: &str,
    problems: &mut Problems,
) -> Vec<SchemaTree> {
    check_index_names(entries, connection_database, problems);
    entries
        .iter()
        .filter_map(|entry| resolve_entry(entry, catalog, connection_database, problems))
        .collect()
}

fn resolve_entry(
    entry: &RawEntry,
    catalog: &Catalog,
    connection_database: &str,
    problems: &mut Problems,
) -> Option<SchemaTree> {
    let mut resolver = Resolver { catalog, nodes: Vec::new(), problems };
    resolver.visit(&entry.nodes, &Above::Nothing);
    let nodes = resolver.nodes;
    let root = nodes.first()?;
    let mut key = root.key.clone();
    if !root.table.primary_key.is_empty() {
        key.sort_unstable();
    }
    let mut tree = SchemaTree {
        index: IndexName(index_of(entry, connection_database).to_owned()),
        key,
        nodes,
        filter: entry.filter.clone(),
        setting: entry.setting.clone().map(Json::Object),
        mapping: user_mapping(entry),
        pipeline: entry.pipeline.clone(),
        routing: entry.routing.clone(),
        plugins: entry.plugins.clone(),
        meta: entry.meta,
        digest: digest::digest_of(entry, connection_database),
        shape: String::new(),
    };
    identity::check(&tree, problems);
    tree.shape = digest::shape_of(&tree);
    Some(tree)
}

/// `mapping` holds the fields, unless it has `dynamic_templates`; `mappings` is whole.
fn user_mapping(entry: &RawEntry) -> Option<UserMapping> {
    if let Some(whole) = &entry.mappings {
        return Some(UserMapping::Whole(Json::Object(whole.clone())));
    }
    let mapping = entry.mapping.clone()?;
    Some(if mapping.contains_key("dynamic_templates") {
        UserMapping::Whole(Json::Object(mapping))
    } else {
        UserMapping::Properties(Json::Object(mapping))
    })
}

/// What stands above the node that is visited.
enum Above {
    /// It is the root.
    Nothing,
    /// A node whose table is not known: what hangs on it cannot be joined.
    Unknown,
    /// A node of the tree, with its table.
    Node(NodeId, Arc<Table>),
}

struct Resolver<'a> {
    catalog: &'a Catalog,
    /// Of the tree, parents first.
    nodes: Vec<Node>,
    problems: &'a mut Problems,
}

impl Resolver<'_> {
    /// Resolves a node and everything below it. The recursion is as deep as the JSON, which the
    /// parser limits to 128 levels.
    fn visit(&mut self, raw: &RawNode, above: &Above) -> Option<NodeId> {
        let table = self.table_of(raw);
        let here = match table {
            Some(table) => Above::Node(self.place(raw, &table, above), table),
            None => Above::Unknown,
        };
        self.check_labels(raw);
        let children: Vec<NodeId> =
            raw.children.iter().filter_map(|child| self.visit(child, &here)).collect();
        let Above::Node(id, _) = here else { return None };
        if let Some(node) = self.nodes.get_mut(id.0) {
            node.children = children;
        }
        Some(id)
    }

    /// Makes the node and gives it its place in the tree, before its children.
    fn place(&mut self, raw: &RawNode, table: &Arc<Table>, above: &Above) -> NodeId {
        let is_root = matches!(above, Above::Nothing);
        let link = match above {
            Above::Nothing | Above::Unknown => None,
            Above::Node(parent, upper) => self.link(raw, *parent, upper, table),
        };
        let mut columns = self.columns(raw, table);
        if link.as_ref().is_some_and(|link| link.variant == Variant::Scalar) {
            columns.truncate(1);
            if !raw.children.is_empty() {
                self.problems.add_with_hint(
                    member(&raw.path, "children"),
                    "a scalar has no room for children",
                    "make the `variant` `object`, or leave the children out",
                );
            }
        }
        let node = Node {
            path: raw.path.clone(),
            table: Arc::clone(table),
            label: label_of(raw).to_owned(),
            columns,
            key: self.key(raw, table, is_root),
            link,
            children: Vec::new(),
            transform: transform_of(raw),
            base_tables: self.base_tables(raw, table),
        };
        self.nodes.push(node);
        NodeId(self.nodes.len() - 1)
    }

    fn link(
        &mut self,
        raw: &RawNode,
        parent: NodeId,
        upper: &Arc<Table>,
        table: &Arc<Table>,
    ) -> Option<Link> {
        // A child without relationship is a problem that the parser has told.
        let relationship = raw.relationship.as_ref()?;
        let path = member(&raw.path, "relationship");
        let join = match relationship.through_tables.first() {
            None => {
                let written = relationship.foreign_key.as_ref();
                join::direct(&path, upper, table, written, self.problems)?
            }
            Some(name) => {
                let through = self.through_table(name, raw)?;
                join::through(&path, upper, &through, table, self.problems)?
            }
        };
        Some(Link { parent, kind: relationship.kind, variant: relationship.variant, join })
    }

    fn check_labels(&mut self, raw: &RawNode) {
        let mut first: BTreeMap<&str, &str> = BTreeMap::new();
        for child in &raw.children {
            let label = label_of(child);
            if let Some(other) = first.get(label) {
                self.problems.add_with_hint(
                    child.path.as_str(),
                    format!("the label `{}` is already that of {other}", shown(label)),
                    "give one of them a `label` of its own",
                );
            } else {
                first.insert(label, &child.path);
            }
        }
    }

    /// The fields of a node: those of `columns`, or all columns of the table.
    fn columns(&mut self, raw: &RawNode, table: &Table) -> Vec<OutputColumn> {
        if raw.columns.is_empty() {
            return table.columns.iter().map(|column| plain_column(&column.name)).collect();
        }
        let mut columns: Vec<OutputColumn> = Vec::with_capacity(raw.columns.len());
        for (position, text) in raw.columns.iter().enumerate() {
            let path = element(&member(&raw.path, "columns"), position);
            let Some(column) = self.column(&path, text, table) else { continue };
            match columns.iter().find(|other| other.field == column.field) {
                None => columns.push(column),
                // The same column twice is one field.
                Some(other) if *other == column => {}
                Some(_) => self.problems.add_with_hint(
                    path,
                    format!("two columns give the field `{}`", shown(&column.field)),
                    "leave one of them out",
                ),
            }
        }
        columns
    }

    fn column(&mut self, path: &str, text: &str, table: &Table) -> Option<OutputColumn> {
        if table.column(text).is_some() {
            return Some(plain_column(text));
        }
        let output = match parse_column(text) {
            Ok(output) => output,
            Err(error) => {
                self.problems.add(path, error.to_string());
                return None;
            }
        };
        let Some(column) = table.column(&output.column) else {
            unknown_column(path, &output.column, table, self.problems);
            return None;
        };
        if output.path.is_some() && !JSON_TYPES.contains(&column.type_oid) {
            self.problems.add(
                path,
                format!(
                    "a path wants a json or jsonb column, `{}` is {}",
                    shown(&column.name),
                    column.type_name
                ),
            );
            return None;
        }
        Some(output)
    }

    /// The key of a node: the declared one, else `primary_key`.
    fn key(&mut self, raw: &RawNode, table: &Table, is_root: bool) -> Vec<String> {
        let path = member(&raw.path, "primary_key");
        let unknown: Vec<&String> =
            raw.primary_key.iter().filter(|name| table.column(name).is_none()).collect();
        for name in &unknown {
            unknown_column(&path, name, table, self.problems);
        }
        let declared = &table.primary_key;
        if !declared.is_empty() {
            let same = raw.primary_key.len() == declared.len()
                && raw.primary_key.iter().all(|name| declared.contains(name));
            if !raw.primary_key.is_empty() && !same && unknown.is_empty() {
                self.problems.add_with_hint(
                    path,
                    format!(
                        "the table declares another primary key: {}",
                        listed(declared.iter().map(String::as_str))
                    ),
                    "leave `primary_key` out: it is for relations that declare none",
                );
            }
            return declared.clone();
        }
        let is_view = matches!(table.kind, TableKind::View | TableKind::MaterializedView);
        if raw.primary_key.is_empty() && (is_root || is_view) {
            self.problems.add_with_hint(
                raw.path.as_str(),
                format!("{} has no primary key", table.qualified()),
                if is_view {
                    "name the columns that identify its rows: \"primary_key\": [\"…\"]"
                } else {
                    "declare one, or name the columns that identify its rows: \
                     \"primary_key\": [\"…\"]"
                },
            );
        }
        raw.primary_key.clone()
    }
}

/// Key under which a child appears in its parent.
fn label_of(raw: &RawNode) -> &str {
    raw.label.as_deref().unwrap_or(&raw.table)
}

fn transform_of(raw: &RawNode) -> Transform {
    let raw = &raw.transform;
    Transform {
        replace: raw.replace.clone(),
        rename: (!raw.rename.is_empty()).then(|| raw.rename.clone()),
        moves: raw.moves.clone(),
        concat: raw.concat.clone(),
        mapping: raw.mapping.clone(),
    }
}

/// Reports a column that the table does not have.
fn unknown_column(path: &str, name: &str, table: &Table, problems: &mut Problems) {
    let names = || table.columns.iter().map(|column| column.name.as_str());
    let hint = match nearest(name, names()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("it has {}", listed(names())),
    };
    problems.add_with_hint(
        path,
        format!("{} has no column `{}`", table.qualified(), shown(name)),
        hint,
    );
}
