//! `transform` of the schema file on finished documents (schema-format 1.5): replace, rename, move,
//! concat, each over the whole tree before the next. Pure.
//!
//! A rule belongs to a node, and is applied to that node's objects wherever they stand in the document.
//! Where that is differs from phase to phase: `replace` and `rename` find them under the labels of the
//! schema file; `move`, under the labels as `rename` left them; `concat`, where `move` put them.
//! So each rule carries its own path, worked out once by [`Transforms::compile`], which takes the nodes
//! in the order in which the rules are applied: children before their parents, since a parent's rule may
//! take away the label under which a child is found.

mod compile;
mod rules;

use serde_json::{Map, Value};

use self::compile::Rules;
use crate::schema::SchemaTree;

/// The transforms of one document entry.
#[derive(Clone, Debug)]
pub(crate) struct Transforms(Rules);

impl Transforms {
    /// The transforms of the tree's nodes; `None` if none of them changes a document.
    pub(crate) fn compile(tree: &SchemaTree) -> Option<Self> {
        let rules = Rules::of(tree);
        (!rules.is_empty()).then_some(Self(rules))
    }

    /// Applies them to a finished document that has no `_meta` yet.
    pub(crate) fn apply(&self, document: &mut Map<String, Value>) {
        let Rules { replace, rename, moves, concat } = &self.0;
        for step in replace {
            each_object(document, &step.path, &mut |object| rules::replace(object, &step.rule));
        }
        for step in rename {
            each_object(document, &step.path, &mut |object| rules::rename(object, &step.rule));
        }
        for step in moves {
            each_object(document, &step.path, &mut |object| rules::move_fields(object, &step.rule));
        }
        for step in concat {
            each_object(document, &step.path, &mut |object| rules::concat(object, &step.rule));
        }
    }
}

/// Calls `change` with every object at the end of `path`, through arrays; what is no object is left out.
fn each_object(
    object: &mut Map<String, Value>,
    path: &[String],
    change: &mut dyn FnMut(&mut Map<String, Value>),
) {
    match path.split_first() {
        None => change(object),
        Some((label, rest)) => {
            if let Some(value) = object.get_mut(label) {
                each_object_of(value, rest, change);
            }
        }
    }
}

fn each_object_of(
    value: &mut Value,
    path: &[String],
    change: &mut dyn FnMut(&mut Map<String, Value>),
) {
    match value {
        Value::Object(object) => each_object(object, path, change),
        Value::Array(values) => {
            for value in values {
                each_object_of(value, path, change);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{from_str, json};

    use super::*;
    use crate::postgres::{RelationId, ReplicaIdentity, Table, TableKind};
    use crate::schema::tree::{
        Concat, IndexName, Join, Link, Node, NodeId, OutputColumn, RelationshipKind, Transform,
        Variant,
    };

    /// A tree of nodes `{"label", "scalar": column, "transform", "children"}`.
    fn tree(root: &Value) -> SchemaTree {
        let mut nodes = Vec::new();
        add(&mut nodes, None, root);
        SchemaTree {
            index: IndexName("books".to_owned()),
            nodes,
            key: vec!["id".to_owned()],
            filter: None,
            setting: None,
            mapping: None,
            pipeline: None,
            routing: None,
            plugins: Vec::new(),
            meta: true,
            digest: String::new(),
            shape: String::new(),
        }
    }

    fn add(nodes: &mut Vec<Node>, parent: Option<NodeId>, spec: &Value) -> NodeId {
        let id = NodeId(nodes.len());
        let scalar = spec.get("scalar").and_then(Value::as_str);
        let variant = if scalar.is_some() { Variant::Scalar } else { Variant::Object };
        let link = parent.map(|parent| Link {
            parent,
            kind: RelationshipKind::OneToMany,
            variant,
            join: Join::Direct(Vec::new()),
        });
        let column = |name: &str| OutputColumn {
            column: name.to_owned(),
            path: None,
            field: name.to_owned(),
        };
        nodes.push(Node {
            path: "$".to_owned(),
            table: Arc::new(table()),
            label: spec["label"].as_str().unwrap_or_default().to_owned(),
            columns: scalar.map(column).into_iter().collect(),
            key: Vec::new(),
            link,
            children: Vec::new(),
            transform: transform(&spec["transform"]),
            base_tables: Vec::new(),
        });
        for child in spec["children"].as_array().into_iter().flatten() {
            let child = add(nodes, Some(id), child);
            nodes[id.0].children.push(child);
        }
        id
    }

    fn table() -> Table {
        Table {
            id: RelationId(1),
            schema: "public".to_owned(),
            name: "t".to_owned(),
            owner: String::new(),
            kind: TableKind::Table,
            columns: Vec::new(),
            primary_key: Vec::new(),
            identity: ReplicaIdentity::Default,
            identity_columns: Vec::new(),
            leaves: Vec::new(),
            foreign_keys: Vec::new(),
            row_security: false,
        }
    }

    fn pairs(rule: &Value) -> Vec<(String, String)> {
        let fields = rule.as_object().into_iter().flatten();
        fields.map(|(key, value)| (key.clone(), value.as_str().unwrap().to_owned())).collect()
    }

    fn transform(spec: &Value) -> Transform {
        let replace = spec["replace"].as_object().into_iter().flatten();
        let one = spec.get("concat").filter(|rule| rule.is_object());
        let concat = spec["concat"].as_array().into_iter().flatten().chain(one);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Transform {
            replace: replace.map(|(field, rule)| (field.clone(), pairs(rule))).collect(),
            rename: spec["rename"].as_object().cloned(),
            moves: pairs(&spec["move"]),
            concat: concat
                .map(|rule| Concat {
                    columns: rule["columns"].as_array().unwrap().iter().map(text).collect(),
                    destination: text(&rule["destination"]),
                    delimiter: text(&rule["delimiter"]),
                })
                .collect(),
            ..Transform::default()
        }
    }

    /// The document after the transforms of the tree. Documents are texts, so that numbers keep their
    /// digits.
    fn applied(root: &Value, document: &str) -> Value {
        let mut document: Map<String, Value> = from_str(document).unwrap();
        Transforms::compile(&tree(root)).unwrap().apply(&mut document);
        Value::Object(document)
    }

    /// Checks a table of cases for a root with one transform.
    fn check(cases: &[(&str, Value, &str, &str)]) {
        for (case, transform, document, expected) in cases {
            let expected: Value = from_str(expected).unwrap();
            assert_eq!(applied(&json!({ "transform": transform }), document), expected, "{case}");
        }
    }

    /// Checks a table of cases for whole trees.
    fn check_trees(cases: &[(&str, Value, &str, &str)]) {
        for (case, root, document, expected) in cases {
            let expected: Value = from_str(expected).unwrap();
            assert_eq!(applied(root, document), expected, "{case}");
        }
    }

    #[test]
    fn a_tree_whose_transforms_change_no_value_has_none() {
        let mapping =
            Transform { mapping: [("a".to_owned(), json!({}))].into(), ..transform(&json!({})) };
        let mut tree = tree(&json!({ "transform": { "rename": {}, "concat": [] } }));
        assert!(Transforms::compile(&tree).is_none());
        tree.nodes[0].transform = mapping;
        assert!(Transforms::compile(&tree).is_none());
    }

    #[test]
    fn replace_changes_substrings_of_strings() {
        let rule = json!({ "replace": { "a": { "-": "=", "==": "#" } } });
        check(&[
            (
                "all occurrences, pairs in order",
                rule.clone(),
                r#"{"a":"x-y--z"}"#,
                r#"{"a":"x=y#z"}"#,
            ),
            (
                "strings inside arrays",
                rule.clone(),
                r#"{"a":["-",["x-"],null,7,{"a":"-"}]}"#,
                r#"{"a":["=",["x="],null,7,{"a":"-"}]}"#,
            ),
            ("no other field", rule.clone(), r#"{"b":"-"}"#, r#"{"b":"-"}"#),
            ("nothing but strings", rule.clone(), r#"{"a":-1.50}"#, r#"{"a":-1.50}"#),
            ("null stays", rule.clone(), r#"{"a":null}"#, r#"{"a":null}"#),
            ("objects are left alone", rule, r#"{"a":{"a":"-"}}"#, r#"{"a":{"a":"-"}}"#),
            (
                "column names, before rename",
                json!({ "rename": { "a": "b" }, "replace": { "a": { "x": "1" }, "b": { "x": "2" } } }),
                r#"{"a":"x"}"#,
                r#"{"b":"1"}"#,
            ),
        ]);
    }

    #[test]
    fn rename_changes_names_all_at_once() {
        check(&[
            ("one", json!({ "rename": { "a": "z" } }), r#"{"a":1,"b":2}"#, r#"{"z":1,"b":2}"#),
            (
                "a swap",
                json!({ "rename": { "a": "b", "b": "a" } }),
                r#"{"a":1,"b":2}"#,
                r#"{"b":1,"a":2}"#,
            ),
            (
                "a cycle of three",
                json!({ "rename": { "a": "b", "b": "c", "c": "a" } }),
                r#"{"a":1,"b":2,"c":3}"#,
                r#"{"b":1,"c":2,"a":3}"#,
            ),
            ("an absent field", json!({ "rename": { "x": "y" } }), r#"{"a":1}"#, r#"{"a":1}"#),
            (
                "a value of any type",
                json!({ "rename": { "a": "x", "b": "y", "c": "z" } }),
                r#"{"a":null,"b":[1,{"a":2}],"c":{"a":3}}"#,
                r#"{"x":null,"y":[1,{"a":2}],"z":{"a":3}}"#,
            ),
        ]);
    }

    #[test]
    fn rename_goes_inside_json_columns_and_leaves_what_is_no_object_alone() {
        let rule = json!({ "rename": { "doc": { "a": "x", "deep": { "b": "y" } } } });
        check(&[
            (
                "at any depth",
                rule.clone(),
                r#"{"doc":{"a":1,"deep":{"b":2,"a":3}},"a":4}"#,
                r#"{"doc":{"x":1,"deep":{"y":2,"a":3}},"a":4}"#,
            ),
            (
                "in arrays, whose other elements stay",
                rule.clone(),
                r#"{"doc":[{"a":1},"a",5,null,["a"]]}"#,
                r#"{"doc":[{"x":1},"a",5,null,["a"]]}"#,
            ),
            ("null stays", rule.clone(), r#"{"doc":null}"#, r#"{"doc":null}"#),
            ("a scalar stays", rule, r#"{"doc":"a"}"#, r#"{"doc":"a"}"#),
        ]);
    }

    #[test]
    fn move_takes_a_value_to_another_place() {
        check(&[
            (
                "out of an object",
                json!({ "move": { "p.name": "publisher" } }),
                r#"{"p":{"name":"x","id":1}}"#,
                r#"{"p":{"id":1},"publisher":"x"}"#,
            ),
            (
                "into an object that is not there",
                json!({ "move": { "a": "x.y.z" } }),
                r#"{"a":1}"#,
                r#"{"x":{"y":{"z":1}}}"#,
            ),
            (
                "into an object that is there, or null",
                json!({ "move": { "a": "p.a", "b": "q.b" } }),
                r#"{"a":1,"b":2,"p":{"id":1},"q":null}"#,
                r#"{"p":{"id":1,"a":1},"q":{"b":2}}"#,
            ),
            (
                "a swap",
                json!({ "move": { "a": "b.c", "b.c": "a" } }),
                r#"{"a":1,"b":{"c":2}}"#,
                r#"{"b":{"c":1},"a":2}"#,
            ),
            ("nothing absent", json!({ "move": { "x.y": "z" } }), r#"{"x":1}"#, r#"{"x":1}"#),
            ("a null", json!({ "move": { "a": "b" } }), r#"{"a":null}"#, r#"{"b":null}"#),
            (
                "not into what is no object",
                json!({ "move": { "a": "b.c" } }),
                r#"{"a":1,"b":[2]}"#,
                r#"{"a":1,"b":[2]}"#,
            ),
            (
                "renamed names",
                json!({ "rename": { "a": "b" }, "move": { "b": "c", "a": "d" } }),
                r#"{"a":1}"#,
                r#"{"c":1}"#,
            ),
        ]);
    }

    #[test]
    fn concat_joins_what_is_there() {
        let rule = |columns: &[&str]| json!({ "concat": { "columns": columns, "destination": "x", "delimiter": "-" } });
        check(&[
            (
                "fields and literal text",
                rule(&["a", "lit", "b"]),
                r#"{"a":"1","b":2}"#,
                r#"{"a":"1","b":2,"x":"1-lit-2"}"#,
            ),
            (
                "null, zero, false and the empty string are dropped",
                rule(&["a", "b", "c", "d", "e", "f"]),
                r#"{"a":null,"b":0,"c":false,"d":"","e":-0.00,"f":"0"}"#,
                r#"{"a":null,"b":0,"c":false,"d":"","e":-0.00,"f":"0","x":"0"}"#,
            ),
            (
                "numbers keep their digits",
                rule(&["a", "b", "c"]),
                r#"{"a":1.50,"b":12345678901234567890.12345678901234567890,"c":0.010}"#,
                r#"{"a":1.50,"b":12345678901234567890.12345678901234567890,"c":0.010,"x":"1.50-12345678901234567890.12345678901234567890-0.010"}"#,
            ),
            ("true is True", rule(&["a"]), r#"{"a":true}"#, r#"{"a":true,"x":"True"}"#),
            (
                "a destination is replaced",
                rule(&["x", "a"]),
                r#"{"x":1,"a":2}"#,
                r#"{"x":"1-2","a":2}"#,
            ),
            (
                "nothing gives the empty string",
                rule(&["a"]),
                r#"{"a":null}"#,
                r#"{"a":null,"x":""}"#,
            ),
            (
                "later entries see earlier results, and there may be no delimiter",
                json!({ "concat": [
                    { "columns": ["a", "b"], "destination": "x" },
                    { "columns": ["x", "a"], "destination": "y", "delimiter": " " },
                ] }),
                r#"{"a":"1","b":"2"}"#,
                r#"{"a":"1","b":"2","x":"12","y":"12 1"}"#,
            ),
            (
                "after rename and move, by the new names",
                json!({
                    "rename": { "a": "r" },
                    "move": { "p.m": "m" },
                    "concat": { "columns": ["r", "m", "a"], "destination": "x" },
                }),
                r#"{"a":"1","p":{"m":"2"}}"#,
                r#"{"r":"1","p":{},"m":"2","x":"12a"}"#,
            ),
        ]);
    }

    #[test]
    fn rules_of_children_apply_under_their_labels_at_any_depth() {
        let child = json!({
            "label": "books",
            "transform": {
                "replace": { "t": { "x": "y" } },
                "rename": { "t": "title" },
                "move": { "n": "size.n" },
                "concat": { "columns": ["title", "!"], "destination": "loud" },
            },
        });
        let deep = json!({ "children": [{ "label": "authors", "children": [child] }] });
        check_trees(&[
            (
                "arrays of objects in an object",
                deep.clone(),
                r#"{"t":"x","authors":{"t":"x","books":[{"t":"x","n":1},{"t":"z"}]}}"#,
                r#"{"t":"x","authors":{"t":"x","books":[
                    {"title":"y","size":{"n":1},"loud":"y!"},{"title":"z","loud":"z!"}]}}"#,
            ),
            (
                "one object in arrays, and none",
                deep.clone(),
                r#"{"authors":[{"books":{"t":"x"}},{"books":null},{}]}"#,
                r#"{"authors":[{"books":{"title":"y","loud":"y!"}},{"books":null},{}]}"#,
            ),
            ("no parent", deep, r#"{"authors":null}"#, r#"{"authors":null}"#),
        ]);
    }

    #[test]
    fn a_label_that_is_renamed_or_moved_keeps_its_childs_rules() {
        let child = json!({
            "label": "author",
            "transform": {
                "replace": { "n": { "x": "y" } },
                "rename": { "n": "name" },
                "move": { "c": "home.city" },
                "concat": { "columns": ["name", "!"], "destination": "loud" },
            },
        });
        let input = r#"{"author":{"n":"x","c":"Ulm"}}"#;
        let author = r#"{"name":"y","home":{"city":"Ulm"},"loud":"y!"}"#;
        let root = |transform: Value| json!({ "transform": transform, "children": [child] });
        check_trees(&[
            (
                "renamed",
                root(json!({ "rename": { "author": "writer" } })),
                input,
                &format!(r#"{{"writer":{author}}}"#),
            ),
            (
                "moved",
                root(json!({ "move": { "author": "people.author" } })),
                input,
                &format!(r#"{{"people":{{"author":{author}}}}}"#),
            ),
            (
                "renamed and moved",
                root(json!({ "rename": { "author": "a" }, "move": { "a": "b" } })),
                input,
                &format!(r#"{{"b":{author}}}"#),
            ),
            (
                "renamed inside by the parent as well",
                root(json!({ "rename": { "author": { "name": "full" } } })),
                input,
                r#"{"author":{"full":"y","home":{"city":"Ulm"},"loud":"name!"}}"#,
            ),
        ]);
    }

    #[test]
    fn labels_may_be_swapped_with_fields_and_with_each_other() {
        let child = |label: &str| json!({ "label": label, "transform": { "concat": { "columns": [label], "destination": "of" } } });
        let root = json!({
            "transform": { "rename": { "a": "b", "b": "a" } },
            "children": [child("a"), child("b")],
        });
        check_trees(&[(
            "two labels",
            root,
            r#"{"a":[{}],"b":{}}"#,
            r#"{"b":[{"of":"a"}],"a":{"of":"b"}}"#,
        )]);
    }

    #[test]
    fn a_scalar_childs_own_replace_changes_its_scalars() {
        let child = json!({
            "label": "tags",
            "scalar": "name",
            "transform": { "replace": { "name": { "x": "y" }, "tags": { "y": "z" } } },
        });
        let root = json!({ "transform": { "rename": { "tags": "labels" } }, "children": [child] });
        check_trees(&[
            (
                "an array",
                root.clone(),
                r#"{"name":"x","tags":["ax",null,3,"b"]}"#,
                r#"{"name":"x","labels":["ay",null,3,"b"]}"#,
            ),
            ("one value", root.clone(), r#"{"tags":"x"}"#, r#"{"labels":"y"}"#),
            ("none", root, r#"{"tags":null}"#, r#"{"labels":null}"#),
        ]);
    }

    #[test]
    fn a_phase_ends_in_the_whole_tree_before_the_next_begins() {
        let child = json!({
            "label": "p",
            "transform": { "concat": { "columns": ["a", "b"], "destination": "x" } },
        });
        let root = json!({ "transform": { "move": { "a": "p.a" } }, "children": [child] });
        check_trees(&[(
            "the parent's move comes before the child's concat",
            root,
            r#"{"a":"1","p":{"b":"2"}}"#,
            r#"{"p":{"b":"2","a":"1","x":"12"}}"#,
        )]);
    }
}
