//! Rules of the resolution, each with a small catalog: what the tests share.

mod joins;
mod trees;

use super::*;
use crate::postgres::{Column, ForeignKey, Leaf, RelationId, ReplicaIdentity};
use crate::schema::tree::{ColumnPair, Join};
use crate::schema::{SchemaError, SchemaTree, parse, resolve};

/// A table of the catalog, built from `name:type` words; `*` behind a name marks the primary key.
fn table(oid: u32, name: &str, columns: &str) -> Table {
    let (schema, name) = name.split_once('.').unwrap_or(("public", name));
    let mut primary_key = Vec::new();
    let columns: Vec<Column> = columns
        .split_whitespace()
        .enumerate()
        .map(|(position, word)| {
            let (name, kind) = word.split_once(':').unwrap_or((word, "int"));
            let (type_oid, type_name, type_category) = match kind {
                "int" => (23, "integer", 'N'),
                "bigint" => (20, "bigint", 'N'),
                "text" => (25, "text", 'S'),
                "varchar" => (1043, "character varying", 'S'),
                "jsonb" => (3802, "jsonb", 'U'),
                "json" => (114, "json", 'U'),
                "uuid" => (2950, "uuid", 'U'),
                "date" => (1082, "date", 'D'),
                "time" => (1083, "time without time zone", 'D'),
                other => panic!("no such type: {other}"),
            };
            let plain = name.trim_end_matches('*');
            if plain != name {
                primary_key.push(plain.to_owned());
            }
            Column {
                name: plain.to_owned(),
                number: i16::try_from(position + 1).unwrap(),
                type_oid,
                type_name: type_name.to_owned(),
                type_category,
                not_null: plain != name,
                generated: false,
            }
        })
        .collect();
    Table {
        id: RelationId(oid),
        schema: schema.to_owned(),
        name: name.to_owned(),
        kind: TableKind::Table,
        owner: "owner".to_owned(),
        columns,
        identity: ReplicaIdentity::Default,
        identity_columns: primary_key.clone(),
        primary_key,
        leaves: Vec::new(),
        foreign_keys: Vec::new(),
        row_security: false,
    }
}

impl Table {
    /// Declares `columns → target(target_columns)`.
    fn pointing(mut self, columns: &str, target: u32, target_columns: &str) -> Self {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect();
        self.foreign_keys.push(ForeignKey {
            name: format!("{}_{columns}_fkey", self.name),
            columns: words(columns),
            target: RelationId(target),
            target_columns: words(target_columns),
        });
        self
    }

    fn of_kind(mut self, kind: TableKind) -> Self {
        self.kind = kind;
        self
    }

    fn with_identity(mut self, identity: ReplicaIdentity, columns: &[&str]) -> Self {
        self.identity = identity;
        self.identity_columns = columns.iter().map(|name| (*name).to_owned()).collect();
        self
    }
}

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
