//! Rules of the resolution, each with a small catalog: what the tests share.

mod joins;
mod trees;

use super::*;
use crate::postgres::{Leaf, RelationId, ReplicaIdentity};
use crate::schema::fixtures::table;
use crate::schema::tree::{ColumnPair, Join};
use crate::schema::{SchemaError, SchemaTree, parse, resolve};

fn bookstore() -> Catalog {
    Catalog::new([
        table(1, "author", "id* name:text born:date"),
        table(2, "book", "isbn*:text title:text author_id editor_id publisher_id data:jsonb")
            .pointing("author_id", 1, "id")
            .pointing("publisher_id", 3, "id"),
        table(3, "publisher", "id* name:text parent_id").pointing("parent_id", 3, "id"),
        table(4, "subject", "id* name:text"),
        table(5, "book_subject", "book_isbn*:text subject_id*")
            .pointing("book_isbn", 2, "isbn")
            .pointing("subject_id", 4, "id"),
        table(6, "friendship", "a* b*").pointing("a", 1, "id").pointing("b", 1, "id"),
        table(7, "book_view", "isbn:text title:text").of_kind(TableKind::View),
        table(8, "log", "at:date line:text"),
        table(9, "stock.book", "z* a*:uuid isbn:text"),
        table(10, "remote", "id").of_kind(TableKind::Foreign),
    ])
}

fn resolved(text: &str) -> Result<Vec<SchemaTree>, SchemaError> {
    resolve(&parse(text, &|_| None).unwrap(), &bookstore(), "db")
}

fn tree(text: &str) -> SchemaTree {
    resolved(text).unwrap_or_else(|error| panic!("{text}: {error}")).remove(0)
}

/// The problems of a schema, one text each.
fn problems(text: &str) -> Vec<String> {
    match resolved(text) {
        Err(SchemaError::Invalid { problems }) => {
            problems.iter().map(ToString::to_string).collect()
        }
        other => panic!("{text}: {other:?}"),
    }
}

/// A schema with a root and one child; `more` goes into the child's relationship.
fn with_child(root: &str, child: &str, more: &str) -> String {
    format!(
        r#"{{"nodes": {{"table": "{root}", "children": [{{"table": "{child}", "label": "kid",
            "relationship": {{"type": "one_to_many", "variant": "object"{more}}}}}]}}}}"#
    )
}

fn pair(upper: &str, lower: &str) -> ColumnPair {
    ColumnPair { upper: upper.to_owned(), lower: lower.to_owned() }
}

fn child_join(text: &str) -> Join {
    tree(text).nodes.remove(1).link.unwrap().join
}
