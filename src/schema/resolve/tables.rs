//! Names → tables of the catalog: of nodes, through tables and base tables. Pure.

use std::sync::Arc;

use super::Resolver;
use crate::postgres::{Table, TableKind};
use crate::schema::databases::schema_and_table;
use crate::schema::problem::{element, member, nearest, shown};
use crate::schema::raw::RawNode;

impl Resolver<'_> {
    pub(super) fn table_of(&mut self, raw: &RawNode) -> Option<Arc<Table>> {
        let table = self.table(&member(&raw.path, "table"), &raw.schema, &raw.table)?;
        if table.kind == TableKind::Foreign {
            self.problems.add(
                member(&raw.path, "table"),
                format!("{} is a foreign table: its changes are not in the WAL", table.qualified()),
            );
        }
        Some(table)
    }

    pub(super) fn through_table(&mut self, name: &str, raw: &RawNode) -> Option<Arc<Table>> {
        let path = element(&member(&member(&raw.path, "relationship"), "through_tables"), 0);
        let (schema, name) = schema_and_table(name, &raw.schema);
        let table = self.table(&path, schema, name)?;
        if !holds_rows(&table) {
            self.problems.add(path, format!("{} is not an ordinary table", table.qualified()));
            return None;
        }
        Some(table)
    }

    pub(super) fn base_tables(&mut self, raw: &RawNode, table: &Table) -> Vec<Arc<Table>> {
        let path = member(&raw.path, "base_tables");
        match table.kind {
            TableKind::View | TableKind::MaterializedView => {}
            TableKind::Table | TableKind::Partitioned | TableKind::Foreign => {
                if !raw.base_tables.is_empty() {
                    self.problems.add_with_hint(
                        path,
                        format!("{} is not a view", table.qualified()),
                        "leave `base_tables` out",
                    );
                }
                return Vec::new();
            }
        }
        if raw.base_tables.is_empty() {
            self.problems.add_with_hint(
                raw.path.as_str(),
                format!("{} is a view", table.qualified()),
                "name the tables it reads, whose changes stand for its own: \"base_tables\": [\"…\"]",
            );
        }
        let mut tables = Vec::with_capacity(raw.base_tables.len());
        for (position, name) in raw.base_tables.iter().enumerate() {
            let path = element(&path, position);
            let (schema, name) = schema_and_table(name, &raw.schema);
            let Some(base) = self.table(&path, schema, name) else { continue };
            if holds_rows(&base) {
                tables.push(base);
            } else {
                self.problems.add_with_hint(
                    path,
                    format!("{} is not an ordinary table", base.qualified()),
                    "name the tables beneath it",
                );
            }
        }
        tables
    }

    /// The table of that name, or a problem that knows a better one.
    fn table(&mut self, path: &str, schema: &str, name: &str) -> Option<Arc<Table>> {
        if let Some(table) = self.catalog.table(schema, name) {
            return Some(Arc::clone(table));
        }
        let what = format!("there is no table `{}.{}`", shown(schema), shown(name));
        match self.better_name(schema, name) {
            Some(hint) => self.problems.add_with_hint(path, what, hint),
            None => self.problems.add_with_hint(
                path,
                what,
                "check database, schema and name, and that the role may see it",
            ),
        }
        None
    }

    fn better_name(&self, schema: &str, name: &str) -> Option<String> {
        let elsewhere = self.catalog.tables().find(|table| table.name == name);
        if let Some(table) = elsewhere {
            return Some(format!(
                "there is one in the schema `{}`: set \"schema\": {:?}, or write `schema.table` \
                 where only a table is named",
                table.schema, table.schema
            ));
        }
        let siblings = self.catalog.tables().filter(|table| table.schema == schema);
        let near = nearest(name, siblings.map(|table| table.name.as_str()))?;
        Some(format!("did you mean `{near}`? Names are case-sensitive"))
    }
}

/// Whether changes of its rows are in the WAL.
fn holds_rows(table: &Table) -> bool {
    match table.kind {
        TableKind::Table | TableKind::Partitioned => true,
        TableKind::View | TableKind::MaterializedView | TableKind::Foreign => false,
    }
}
