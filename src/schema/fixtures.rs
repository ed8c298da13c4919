//! Small catalogs and trees for the tests of every stage that works on a [`SchemaTree`].

use crate::postgres::{Catalog, Column, ForeignKey, RelationId, ReplicaIdentity, Table, TableKind};
use crate::schema::tree::SchemaTree;
use crate::schema::{parse, resolve};

/// The tree of an entry against these tables.
pub(crate) fn tree_of(tables: impl IntoIterator<Item = Table>, entry: &str) -> SchemaTree {
    let entries = parse(entry, &|_| None).unwrap_or_else(|error| panic!("{entry}: {error}"));
    let trees = resolve(&entries, &Catalog::new(tables), "db");
    trees.unwrap_or_else(|error| panic!("{entry}: {error}")).remove(0)
}

/// A shop: direct children in both directions, a many-to-many child, an adjacency list, a composite
/// key and a type of an extension.
pub(crate) fn shop() -> Vec<Table> {
    vec![
        table(1, "customer", "id* name:text").with_identity(ReplicaIdentity::Default, &["id"]),
        table(2, "product", "id* code:text name:text customer_id").pointing("customer_id", 1, "id"),
        table(3, "tag", "id* name:citext"),
        table(4, "product_tag", "product_id* tag_id*")
            .pointing("product_id", 2, "id")
            .pointing("tag_id", 3, "id"),
        table(5, "part", "id* name:text product_id parent_id")
            .pointing("product_id", 2, "id")
            .pointing("parent_id", 5, "id"),
        table(6, "stock", "region*:text at*:date amount:numeric"),
        table(7, "delivery", "id* region:text at:date").pointing("region at", 6, "region at"),
    ]
}

/// A tree over [`shop`].
pub(crate) fn shop_tree(entry: &str) -> SchemaTree {
    tree_of(shop(), entry)
}

/// A table of the catalog, built from `name:type` words; `*` behind a name marks the primary key.
pub(crate) fn table(oid: u32, name: &str, columns: &str) -> Table {
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
                "bool" => (16, "boolean", 'B'),
                "numeric" => (1700, "numeric", 'N'),
                "timestamptz" => (1184, "timestamp with time zone", 'D'),
                "ints" => (1007, "integer[]", 'A'),
                "mood" => (90_000, "public.mood", 'E'),
                "citext" => (90_001, "public.citext", 'S'),
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
    pub(crate) fn pointing(mut self, columns: &str, target: u32, target_columns: &str) -> Self {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect();
        self.foreign_keys.push(ForeignKey {
            name: format!("{}_{columns}_fkey", self.name),
            columns: words(columns),
            target: RelationId(target),
            target_columns: words(target_columns),
        });
        self
    }

    pub(crate) fn of_kind(mut self, kind: TableKind) -> Self {
        self.kind = kind;
        self
    }

    pub(crate) fn with_identity(mut self, identity: ReplicaIdentity, columns: &[&str]) -> Self {
        self.identity = identity;
        self.identity_columns = columns.iter().map(|name| (*name).to_owned()).collect();
        self
    }
}
