//! From the nodes' `transform` to rules with the paths at which they are applied.

use serde_json::{Map, Value};

use super::rules;
use crate::schema::tree::{Concat, Link, Node, SchemaTree, Transform, Variant};

/// `{"field": {"search": "replacement"}}` of one node, in order.
pub(super) type Replace = Vec<(String, Vec<(String, String)>)>;

/// `move` of one node: source and destination as keys from the outside in.
pub(super) type Moves = Vec<(Vec<String>, Vec<String>)>;

/// Rules of every node, in the order of their application.
#[derive(Clone, Debug, Default)]
pub(super) struct Rules {
    pub(super) replace: Vec<Step<Replace>>,
    pub(super) rename: Vec<Step<Map<String, Value>>>,
    pub(super) moves: Vec<Step<Moves>>,
    pub(super) concat: Vec<Step<Vec<Concat>>>,
}

/// A rule, and where its objects are when it is applied: keys from the outside in, the root's is empty.
#[derive(Clone, Debug)]
pub(super) struct Step<T> {
    pub(super) path: Vec<String>,
    pub(super) rule: T,
}

impl Rules {
    /// The rules of a tree.
    pub(super) fn of(tree: &SchemaTree) -> Self {
        let mut paths = labels(tree);
        let mut rules = Self::default();
        for (node, path) in nodes_up(tree, &paths) {
            rules.replace.extend(replace_of(node, path));
            rules.rename.extend(rename_of(node, path));
        }
        for step in &rules.rename {
            follow_rename(step, &mut paths);
        }
        for (node, path) in nodes_up(tree, &paths) {
            rules.moves.extend(moves_of(node, path));
        }
        for step in &rules.moves {
            follow_moves(step, &mut paths);
        }
        for (node, path) in nodes_up(tree, &paths) {
            rules.concat.extend(concat_of(node, path));
        }
        rules
    }

    /// Whether a document passes unchanged.
    pub(super) fn is_empty(&self) -> bool {
        let Self { replace, rename, moves, concat } = self;
        replace.is_empty() && rename.is_empty() && moves.is_empty() && concat.is_empty()
    }
}

/// The path of each node by the labels of the schema file, in the order of the nodes.
fn labels(tree: &SchemaTree) -> Vec<Vec<String>> {
    let mut paths: Vec<Vec<String>> = Vec::with_capacity(tree.nodes.len());
    for node in &tree.nodes {
        let path = node.link.as_ref().map(|link| {
            let mut path = paths.get(link.parent.0).cloned().unwrap_or_default();
            path.push(node.label.clone());
            path
        });
        paths.push(path.unwrap_or_default());
    }
    paths
}

/// The nodes with their paths, children before their parents.
fn nodes_up<'a>(
    tree: &'a SchemaTree,
    paths: &'a [Vec<String>],
) -> impl Iterator<Item = (&'a Node, &'a [String])> {
    tree.nodes.iter().zip(paths.iter().map(Vec::as_slice)).rev()
}

fn is_scalar(node: &Node) -> bool {
    matches!(node.link, Some(Link { variant: Variant::Scalar, .. }))
}

/// A scalar has no object of its own: its rule becomes one of its parent, for its label.
fn on_parent<T>(path: &[String], rule: impl FnOnce(&String) -> T) -> Option<Step<T>> {
    let (label, parent) = path.split_last()?;
    Some(Step { path: parent.to_vec(), rule: rule(label) })
}

/// The field whose values a scalar node shows.
fn scalar_field(node: &Node) -> Option<&str> {
    node.columns.first().map(|column| column.field.as_str())
}

fn replace_of(node: &Node, path: &[String]) -> Option<Step<Replace>> {
    let Transform { replace, .. } = &node.transform;
    if is_scalar(node) {
        let field = scalar_field(node)?;
        let (_, pairs) = replace.iter().find(|(name, _)| name == field)?;
        return on_parent(path, |label| vec![(label.clone(), pairs.clone())]);
    }
    (!replace.is_empty()).then(|| Step { path: path.to_vec(), rule: replace.clone() })
}

fn rename_of(node: &Node, path: &[String]) -> Option<Step<Map<String, Value>>> {
    let rename = node.transform.rename.as_ref().filter(|rename| !rename.is_empty())?;
    if is_scalar(node) {
        // The column's name is not shown; names inside its JSON values are.
        let inside = rename.get(scalar_field(node)?).filter(|rule| rule.is_object())?;
        return on_parent(path, |label| Map::from_iter([(label.clone(), inside.clone())]));
    }
    Some(Step { path: path.to_vec(), rule: rename.clone() })
}

fn moves_of(node: &Node, path: &[String]) -> Option<Step<Moves>> {
    let moves = &node.transform.moves;
    if moves.is_empty() || is_scalar(node) {
        return None;
    }
    let rule = moves.iter().map(|(from, to)| (rules::keys(from), rules::keys(to))).collect();
    Some(Step { path: path.to_vec(), rule })
}

fn concat_of(node: &Node, path: &[String]) -> Option<Step<Vec<Concat>>> {
    let concat = &node.transform.concat;
    if concat.is_empty() || is_scalar(node) {
        return None;
    }
    Some(Step { path: path.to_vec(), rule: concat.clone() })
}

/// Turns the paths of nodes below the rule's object into what they are after it.
fn follow_rename(step: &Step<Map<String, Value>>, paths: &mut [Vec<String>]) {
    for path in paths {
        let Some(below) = path.strip_prefix(step.path.as_slice()) else { continue };
        let renamed = renamed_keys(&step.rule, below);
        path.truncate(step.path.len());
        path.extend(renamed);
    }
}

fn renamed_keys(rule: &Map<String, Value>, keys: &[String]) -> Vec<String> {
    let Some((first, rest)) = keys.split_first() else { return Vec::new() };
    let (first, rest) = match rule.get(first) {
        Some(Value::String(new)) => (new.clone(), rest.to_vec()),
        Some(Value::Object(inside)) => (first.clone(), renamed_keys(inside, rest)),
        Some(_) | None => (first.clone(), rest.to_vec()),
    };
    let mut renamed = vec![first];
    renamed.extend(rest);
    renamed
}

/// Turns the paths of nodes that the rule moves into what they are after it.
fn follow_moves(step: &Step<Moves>, paths: &mut [Vec<String>]) {
    for path in paths {
        let Some(below) = path.strip_prefix(step.path.as_slice()) else { continue };
        let moved = step.rule.iter().find_map(|(from, to)| {
            let rest = below.strip_prefix(from.as_slice())?;
            Some([step.path.as_slice(), to, rest].concat())
        });
        if let Some(moved) = moved {
            *path = moved;
        }
    }
}
