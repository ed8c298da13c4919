//! The publication: what it holds, what it lacks for us, and the SQL that puts it right. Pure;
//! `publication_query.rs` reads and makes it.

use std::fmt;
use std::sync::Arc;

use serde::Deserialize;

use crate::postgres::{RelationId, ReplicaIdentity, Table, TableKind, quote_identifier};

/// A publication as the catalog describes it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "they are the catalog's own columns")]
pub struct PublicationState {
    /// Name.
    pub name: String,
    /// Owner, for messages.
    pub owner: String,
    /// Whether the session's role has the owner's rights.
    pub owned: bool,
    /// Whether it carries INSERT.
    pub insert: bool,
    /// Whether it carries UPDATE.
    pub update: bool,
    /// Whether it carries DELETE.
    pub delete: bool,
    /// Whether it carries TRUNCATE.
    pub truncate: bool,
    /// Whether changes of partitions appear under their root.
    pub via_root: bool,
    /// Whether it is FOR ALL TABLES.
    pub all_tables: bool,
    /// Whether it carries stored generated columns; never before PostgreSQL 18.
    pub generated: bool,
    /// The server's major version: what the publication's SQL may say.
    pub major: u32,
    /// Tables whose changes it carries, under the names the stream gives them: the root of a
    /// partitioned table with `via_root`, else its partitions. By oid.
    pub tables: Vec<PublishedTable>,
    /// Oids of the tables that were added by name.
    pub named: Vec<RelationId>,
}

/// A table in a publication.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct PublishedTable {
    /// Oid.
    pub id: RelationId,
    /// `schema.table`, quoted where needed.
    pub name: String,
    /// The column list; `None` if every column is carried. PostgreSQL 15 and later.
    pub columns: Option<Vec<String>>,
    /// The row filter. PostgreSQL 15 and later.
    pub row_filter: Option<String>,
}

/// What a publication lacks for us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublicationProblem {
    /// It does not carry these operations.
    Operations(Vec<&'static str>),
    /// Changes of this partitioned table would come under its partitions' names.
    PartitionRoot(Arc<Table>),
    /// Rows of this table are left out.
    RowFilter(Arc<Table>),
    /// Columns of this table are left out, or would be once they are added.
    ColumnList(Arc<Table>),
    /// The identity of this table holds generated columns that the publication leaves out:
    /// PostgreSQL 18 refuses UPDATE and DELETE of such a table.
    GeneratedColumns(Arc<Table>),
    /// This table is not in it.
    Missing(Arc<Table>),
}

impl PublicationState {
    /// Whether changes of the table are carried, under whatever name.
    pub fn contains(&self, table: &Table) -> bool {
        let carried = |id: RelationId| self.tables.iter().any(|published| published.id == id);
        self.all_tables || self.named.contains(&table.id) || carried(table.id)
    }

    /// What it lacks to carry every change of these tables, all at once. Relations that are in no
    /// publication (views, foreign tables) are passed over.
    pub fn problems(&self, tables: &[Arc<Table>]) -> Vec<PublicationProblem> {
        let mut problems = Vec::new();
        let operations = [
            (self.insert, "insert"),
            (self.update, "update"),
            (self.delete, "delete"),
            (self.truncate, "truncate"),
        ];
        let missing: Vec<_> =
            operations.iter().filter(|(carried, _)| !carried).map(|(_, name)| *name).collect();
        if !missing.is_empty() {
            problems.push(PublicationProblem::Operations(missing));
        }
        for table in tables.iter().filter(|table| is_publishable(table)) {
            self.table_problems(table, &mut problems);
        }
        problems
    }

    fn table_problems(&self, table: &Arc<Table>, problems: &mut Vec<PublicationProblem>) {
        if !self.contains(table) {
            problems.push(PublicationProblem::Missing(Arc::clone(table)));
            return;
        }
        if table.kind == TableKind::Partitioned && !self.via_root {
            problems.push(PublicationProblem::PartitionRoot(Arc::clone(table)));
        }
        if self.major >= 18 && !self.generated && identity_is_generated(table) {
            problems.push(PublicationProblem::GeneratedColumns(Arc::clone(table)));
        }
        let published = self.tables.iter().find(|published| published.id == table.id);
        if published.is_some_and(|published| published.row_filter.is_some()) {
            problems.push(PublicationProblem::RowFilter(Arc::clone(table)));
        }
        if published.is_some_and(|published| published.columns.is_some()) {
            problems.push(PublicationProblem::ColumnList(Arc::clone(table)));
        }
    }
}

impl PublicationProblem {
    /// The statement by which the publication's owner solves it.
    pub fn fix(&self, publication: &str) -> String {
        let name = quote_identifier(publication);
        match self {
            Self::Operations(_) => format!(
                "ALTER PUBLICATION {name} SET (publish = 'insert, update, delete, truncate');"
            ),
            Self::PartitionRoot(_) => {
                format!("ALTER PUBLICATION {name} SET (publish_via_partition_root = true);")
            }
            Self::GeneratedColumns(_) => {
                format!("ALTER PUBLICATION {name} SET (publish_generated_columns = stored);")
            }
            Self::RowFilter(table) | Self::ColumnList(table) => {
                let table = table.qualified();
                format!(
                    "BEGIN; ALTER PUBLICATION {name} DROP TABLE {table}; \
                     ALTER PUBLICATION {name} ADD TABLE {table}; COMMIT;"
                )
            }
            Self::Missing(table) => alter_add_sql(publication, std::slice::from_ref(table)),
        }
    }
}

impl fmt::Display for PublicationProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Operations(missing) => write!(f, "it does not carry {}", missing.join(", ")),
            Self::PartitionRoot(table) => write!(
                f,
                "it carries partitioned table `{}.{}` under the names of its partitions",
                table.schema, table.name
            ),
            Self::RowFilter(table) => {
                write!(f, "its row filter hides rows of `{}.{}`", table.schema, table.name)
            }
            Self::ColumnList(table) => {
                write!(f, "its column list limits `{}.{}`", table.schema, table.name)
            }
            Self::GeneratedColumns(table) => write!(
                f,
                "it leaves out generated columns of the replica identity of `{}.{}`",
                table.schema, table.name
            ),
            Self::Missing(table) => write!(f, "`{}.{}` is not in it", table.schema, table.name),
        }
    }
}

/// Whether the kind of relation can be in a publication.
pub fn is_publishable(table: &Table) -> bool {
    match table.kind {
        TableKind::Table | TableKind::Partitioned => true,
        TableKind::View | TableKind::MaterializedView | TableKind::Foreign => false,
    }
}

/// The statement that makes the publication as we need it. `major`: the server's version.
///
/// From PostgreSQL 18 on stored generated columns are carried, too: without them UPDATE of a table
/// that has one and REPLICA IDENTITY FULL fails.
pub fn create_sql(publication: &str, tables: &[Arc<Table>], major: u32) -> String {
    let generated = if major >= 18 { ", publish_generated_columns = stored" } else { "" };
    format!(
        "CREATE PUBLICATION {} FOR TABLE {} WITH (publish = 'insert, update, delete, truncate', \
         publish_via_partition_root = true{generated});",
        quote_identifier(publication),
        qualified_list(tables),
    )
}

/// The statement that adds tables to the publication.
pub fn alter_add_sql(publication: &str, tables: &[Arc<Table>]) -> String {
    let name = quote_identifier(publication);
    format!("ALTER PUBLICATION {name} ADD TABLE {};", qualified_list(tables))
}

/// The statements that solve all of it, one for all missing tables together.
pub fn fix_sql(publication: &str, problems: &[PublicationProblem]) -> String {
    let mut missing = Vec::new();
    let mut statements = Vec::new();
    for problem in problems {
        if let PublicationProblem::Missing(table) = problem {
            missing.push(Arc::clone(table));
            continue;
        }
        let statement = problem.fix(publication);
        if !statements.contains(&statement) {
            statements.push(statement);
        }
    }
    if !missing.is_empty() {
        statements.push(alter_add_sql(publication, &missing));
    }
    statements.join("\n")
}

fn identity_is_generated(table: &Table) -> bool {
    let full = table.identity == ReplicaIdentity::Full
        || table.leaves.iter().any(|leaf| leaf.identity == ReplicaIdentity::Full);
    table
        .columns
        .iter()
        .any(|column| column.generated && (full || table.identity_columns.contains(&column.name)))
}

fn qualified_list(tables: &[Arc<Table>]) -> String {
    tables.iter().map(|table| table.qualified()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::{Column, Leaf};

    fn table(id: u32, kind: TableKind) -> Arc<Table> {
        Arc::new(Table {
            id: RelationId(id),
            schema: "public".into(),
            name: format!("t{id}"),
            kind,
            owner: "o".into(),
            columns: vec![],
            primary_key: vec!["id".into()],
            identity: ReplicaIdentity::Full,
            identity_columns: vec![],
            leaves: vec![],
            foreign_keys: vec![],
            row_security: false,
        })
    }

    fn state(tables: &[u32]) -> PublicationState {
        let published = |id: &u32| PublishedTable {
            id: RelationId(*id),
            name: format!("public.t{id}"),
            columns: None,
            row_filter: None,
        };
        PublicationState {
            name: "p".into(),
            owner: "o".into(),
            owned: true,
            insert: true,
            update: true,
            delete: true,
            truncate: true,
            via_root: true,
            all_tables: false,
            generated: false,
            major: 18,
            tables: tables.iter().map(published).collect(),
            named: vec![],
        }
    }

    #[test]
    fn a_publication_that_carries_everything_has_no_problem() {
        let view = table(9, TableKind::View);
        assert_eq!(state(&[1]).problems(&[table(1, TableKind::Table), view]), []);
        let all = PublicationState { all_tables: true, ..state(&[]) };
        assert_eq!(all.problems(&[table(1, TableKind::Table)]), []);
    }

    #[test]
    fn missing_tables_are_added_by_one_statement_after_the_other_fixes() {
        let tables = [1, 2, 3].map(|id| table(id, TableKind::Table));
        let mut state = PublicationState { truncate: false, ..state(&[1]) };
        state.tables[0].row_filter = Some("(id > 5)".into());
        let problems = state.problems(&tables);
        assert_eq!(problems.len(), 4);
        assert_eq!(
            fix_sql("p", &problems),
            "ALTER PUBLICATION \"p\" SET (publish = 'insert, update, delete, truncate');\n\
             BEGIN; ALTER PUBLICATION \"p\" DROP TABLE \"public\".\"t1\"; \
             ALTER PUBLICATION \"p\" ADD TABLE \"public\".\"t1\"; COMMIT;\n\
             ALTER PUBLICATION \"p\" ADD TABLE \"public\".\"t2\", \"public\".\"t3\";"
        );
    }

    #[test]
    fn a_partitioned_table_is_in_it_also_by_its_partitions_but_under_their_names() {
        let mut root = table(1, TableKind::Partitioned);
        Arc::get_mut(&mut root).unwrap().leaves = vec![Leaf {
            id: RelationId(2),
            name: "public.t2".into(),
            identity: ReplicaIdentity::Full,
            identity_columns: vec![],
        }];
        let by_leaves =
            PublicationState { via_root: false, named: vec![RelationId(1)], ..state(&[2]) };
        let problems = by_leaves.problems(std::slice::from_ref(&root));
        assert_eq!(problems, [PublicationProblem::PartitionRoot(root)]);
    }

    #[test]
    fn generated_columns_of_the_identity_are_to_be_carried_from_18_on() {
        let mut generated = table(1, TableKind::Table);
        Arc::get_mut(&mut generated).unwrap().columns.push(Column {
            name: "g".into(),
            number: 1,
            type_oid: 23,
            type_name: "integer".into(),
            type_category: 'N',
            not_null: false,
            generated: true,
        });
        let tables = [Arc::clone(&generated)];
        assert_eq!(
            state(&[1]).problems(&tables),
            [PublicationProblem::GeneratedColumns(generated)]
        );
        assert_eq!(PublicationState { major: 17, ..state(&[1]) }.problems(&tables), []);
        assert!(create_sql("p", &tables, 18).contains("publish_generated_columns = stored"));
        assert!(!create_sql("p", &tables, 17).contains("generated"));
    }
}
