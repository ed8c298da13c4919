//! Flat rows of all nodes of a tree → the JSON of each document. Pure.

use std::cmp::Ordering;
use std::collections::HashMap;

use crate::document::layout::{ChildLayout, Layout, MetaLayout, NodeLayout, Position};
use crate::plan::RootKey;
use crate::postgres::render::{Rendering, id_text, write_string};
use crate::postgres::sql::JoinKeys;
use crate::schema::tree::{NodeId, RelationshipKind, Variant};

/// A row as it came: the type's text output by position, `None` for SQL null.
pub(crate) trait Row {
    /// The value at a position of the SELECT list.
    fn value(&self, position: Position) -> Option<&str>;
}

/// The rows of one node in a snapshot.
#[derive(Debug)]
pub(crate) struct NodeRows<R> {
    /// In the order of the statement.
    pub(crate) rows: Vec<R>,
    /// Row numbers by ordinal of the parents' join key; a root's are in group 0.
    groups: Vec<Vec<u32>>,
    /// For each child of the node, the ordinal of each row's join key; `None` where a value is null.
    ordinals: Vec<Vec<Option<u32>>>,
}

/// A document's parts.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Merged {
    pub(crate) id: String,
    pub(crate) key: RootKey,
    /// The object without its closing brace and without `_meta`.
    pub(crate) open: Vec<u8>,
    /// `{"table":{"column":[…]}}`.
    pub(crate) meta: Vec<u8>,
    /// `one_to_one` relations for which several rows were found.
    pub(crate) ambiguous: u64,
}

impl<R: Row> NodeRows<R> {
    /// Groups rows by the ordinal that came with each.
    pub(crate) fn group(rows: Vec<(u32, R)>) -> Self {
        let mut groups: Vec<Vec<u32>> = Vec::new();
        let mut kept = Vec::with_capacity(rows.len());
        for (number, (ordinal, row)) in (0_u32..).zip(rows) {
            let ordinal = ordinal as usize;
            if groups.len() <= ordinal {
                groups.resize_with(ordinal + 1, Vec::new);
            }
            if let Some(group) = groups.get_mut(ordinal) {
                group.push(number);
            }
            kept.push(row);
        }
        Self { rows: kept, groups, ordinals: Vec::new() }
    }

    /// The distinct values the rows join a child on, each with an ordinal from 1; to be called for
    /// each child in order.
    pub(crate) fn join_keys(&mut self, join: &[Position]) -> JoinKeys {
        let mut keys = JoinKeys { columns: vec![Vec::new(); join.len()] };
        let mut known: HashMap<Vec<&str>, u32> = HashMap::new();
        let mut ordinals = Vec::with_capacity(self.rows.len());
        for row in &self.rows {
            let values: Option<Vec<&str>> = join.iter().map(|at| row.value(*at)).collect();
            let next = u32::try_from(known.len()).unwrap_or(u32::MAX).saturating_add(1);
            let ordinal = values.map(|values| {
                *known.entry(values).or_insert_with_key(|values| {
                    keys.push(values);
                    next
                })
            });
            ordinals.push(ordinal);
        }
        self.ordinals.push(ordinals);
        keys
    }

    fn group_of(&self, ordinal: Option<u32>) -> &[u32] {
        ordinal.and_then(|at| self.groups.get(at as usize)).map_or(&[], Vec::as_slice)
    }
}

/// Merges the documents of one snapshot.
pub(crate) struct Merge<'a, R> {
    layout: &'a Layout,
    nodes: &'a [NodeRows<R>],
    slots: Vec<Vec<Vec<u8>>>,
    ambiguous: u64,
}

impl<'a, R: Row> Merge<'a, R> {
    /// Rows of all nodes, by [`NodeId`].
    pub(crate) fn new(layout: &'a Layout, nodes: &'a [NodeRows<R>]) -> Self {
        Self { layout, nodes, slots: vec![Vec::new(); layout.meta.slots], ambiguous: 0 }
    }

    /// The document of a root row; `None` if its key is null.
    pub(crate) fn document(&mut self, number: usize) -> Option<Merged> {
        let layout = self.layout.node(NodeId::ROOT)?;
        let row = self.nodes.first()?.rows.get(number)?;
        let (id, key) = identify(layout, row)?;
        self.slots.iter_mut().for_each(Vec::clear);
        self.ambiguous = 0;
        let mut open = Vec::with_capacity(512);
        self.write_open(NodeId::ROOT, number, &mut open);
        self.remember_root(layout, row);
        let meta = write_meta(&self.layout.meta, &mut self.slots);
        Some(Merged { id, key, open, meta, ambiguous: self.ambiguous })
    }

    fn write_object(&mut self, id: NodeId, number: usize, out: &mut Vec<u8>) {
        self.write_open(id, number, out);
        out.push(b'}');
    }

    fn write_open(&mut self, id: NodeId, number: usize, out: &mut Vec<u8>) {
        out.push(b'{');
        let (layouts, nodes) = (self.layout, self.nodes);
        let (Some(layout), Some(rows)) = (layouts.node(id), nodes.get(id.0)) else { return };
        let Some(row) = rows.rows.get(number) else { return };
        let start = out.len();
        for field in &layout.fields {
            comma(start, out);
            out.extend_from_slice(&field.name);
            field.rendering.write(row.value(field.position), out);
        }
        self.remember(layout, row);
        for (at, child) in layout.children.iter().enumerate() {
            let ordinal = rows.ordinals.get(at).and_then(|all| all.get(number)).copied().flatten();
            let group = nodes.get(child.node.0).map_or(&[][..], |node| node.group_of(ordinal));
            comma(start, out);
            out.extend_from_slice(&child.name);
            self.write_child(child, group, out);
        }
    }

    fn write_child(&mut self, child: &ChildLayout, group: &[u32], out: &mut Vec<u8>) {
        match (child.kind, group) {
            (_, []) => out.extend_from_slice(b"null"),
            (RelationshipKind::OneToOne, [first, rest @ ..]) => {
                self.ambiguous += u64::from(!rest.is_empty());
                self.write_variant(child, *first, out);
            }
            (RelationshipKind::OneToMany, group) => {
                out.push(b'[');
                let start = out.len();
                for number in group {
                    comma(start, out);
                    self.write_variant(child, *number, out);
                }
                out.push(b']');
            }
        }
    }

    fn write_variant(&mut self, child: &ChildLayout, number: u32, out: &mut Vec<u8>) {
        let number = number as usize;
        match child.variant {
            Variant::Object => self.write_object(child.node, number, out),
            Variant::Scalar => {
                let (layouts, nodes) = (self.layout, self.nodes);
                let row = nodes.get(child.node.0).and_then(|node| node.rows.get(number));
                let layout = layouts.node(child.node);
                if let (Some(layout), Some(row)) = (layout, row) {
                    self.remember(layout, row);
                    match layout.fields.first() {
                        Some(field) => field.rendering.write(row.value(field.position), out),
                        None => out.extend_from_slice(b"null"),
                    }
                }
            }
        }
    }

    fn remember(&mut self, layout: &NodeLayout, row: &R) {
        for value in &layout.meta {
            let Some(text) = row.value(value.position) else { continue };
            if let Some(slot) = self.slots.get_mut(value.slot) {
                let mut json = Vec::with_capacity(text.len() + 2);
                value.rendering.write(Some(text), &mut json);
                slot.push(json);
            }
        }
    }

    fn remember_root(&mut self, layout: &NodeLayout, row: &R) {
        let first = layout.id.first().and_then(|(at, column)| Some((row.value(*at)?, column)));
        if let (Some((text, column)), Some(slot)) =
            (first, self.slots.get_mut(self.layout.meta.root))
        {
            let mut json = Vec::new();
            Rendering::Text.write(Some(&id_text(column, text)), &mut json);
            slot.push(json);
        }
    }
}

/// The `_id` and the key of a root row; `None` for a row of a view whose key is null.
pub(crate) fn identify<R: Row>(layout: &NodeLayout, row: &R) -> Option<(String, RootKey)> {
    let mut id = String::new();
    let mut key = Vec::with_capacity(layout.id.len());
    for (number, (at, column)) in layout.id.iter().enumerate() {
        let text = row.value(*at)?;
        if number > 0 {
            id.push('|');
        }
        id.push_str(&id_text(column, text));
        key.push(text.into());
    }
    Some((id, RootKey(key.into())))
}

fn comma(start: usize, out: &mut Vec<u8>) {
    if out.len() > start {
        out.push(b',');
    }
}

fn write_meta(layout: &MetaLayout, slots: &mut [Vec<Vec<u8>>]) -> Vec<u8> {
    for slot in slots.iter_mut() {
        slot.sort_unstable_by(|a, b| compare(a, b));
        slot.dedup();
    }
    let mut out = vec![b'{'];
    for (table, columns) in &layout.tables {
        let filled: Vec<(&[u8], &Vec<Vec<u8>>)> = columns
            .iter()
            .filter_map(|(column, slot)| Some((column.as_slice(), slots.get(*slot)?)))
            .filter(|(_, values)| !values.is_empty())
            .collect();
        if filled.is_empty() {
            continue;
        }
        comma(1, &mut out);
        out.extend_from_slice(table);
        out.push(b'{');
        let start = out.len();
        for (column, values) in filled {
            comma(start, &mut out);
            out.extend_from_slice(column);
            out.push(b'[');
            out.extend_from_slice(&values.join(&b','));
            out.push(b']');
        }
        out.push(b'}');
    }
    out.push(b'}');
    out
}

/// Strings by bytes, then numbers without fraction by size, then other numbers by bytes: a total order,
/// which a comparison by the kind of both sides would not be (`9 < 10`, `10 < 5.5`, `5.5 < 9`).
fn compare(a: &[u8], b: &[u8]) -> Ordering {
    let whole = |json: &[u8]| std::str::from_utf8(json).ok()?.parse::<i64>().ok();
    let rank = |json: &[u8]| match json.first() {
        Some(b'"') => (0, None),
        _ => whole(json).map_or((2, None), |number| (1, Some(number))),
    };
    rank(a).cmp(&rank(b)).then_with(|| a.cmp(b))
}

/// A key's `_id`, for a document that has no row any more.
pub(crate) fn id_of(layout: &NodeLayout, key: &RootKey) -> String {
    let parts: Vec<String> =
        layout.id.iter().zip(&key.0).map(|((_, column), text)| id_text(column, text)).collect();
    parts.join("|")
}

/// Appends an object's `"name":` behind what is open.
pub(crate) fn append_field(name: &str, json: &[u8], open: &mut Vec<u8>) {
    comma(1, open);
    write_string(name, open);
    open.push(b':');
    open.extend_from_slice(json);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_meta_have_a_total_order() {
        let mut values: Vec<&[u8]> = vec![b"10", b"\"b\"", b"5.5", b"9", b"\"a\"", b"-1"];
        values.sort_by(|a, b| compare(a, b));
        let sorted: [&[u8]; 6] = [b"\"a\"", b"\"b\"", b"-1", b"9", b"10", b"5.5"];
        assert_eq!(values, sorted);
    }
}
