//! Decides which tables cannot be followed, or only slowly: what is not in the WAL, keys, replica
//! identities. Pure.

use std::sync::Arc;

use super::finding::{Check, Finding};
use super::followed::{Followed, followed_tables};
use super::gather::{Gathered, Persistence, TableFacts};
use super::{published_tables, read_tables};
use crate::postgres::identity::{full_identity_sql, identity_gaps};
use crate::postgres::publication::PublicationProblem;
use crate::postgres::{ReplicaIdentity, Table, TableKind, quote_identifier};
use crate::schema::SchemaTree;

/// Everything about single tables.
pub(super) fn table_findings(trees: &[SchemaTree], gathered: &Gathered) -> Vec<Finding> {
    let read = read_tables(trees);
    let published = published_tables(trees);
    let mut findings = Vec::new();
    for table in &read {
        findings.extend(not_logged(table, gathered.tables.get(&table.id)));
    }
    for table in &published {
        findings.extend(under_another_name(table, &published, gathered));
        findings.extend(identity(table, gathered));
    }
    for tree in trees {
        findings.extend(root_key(tree, gathered));
        findings.extend(views(tree));
        findings.extend(scripts(tree));
    }
    let followed = followed_tables(trees);
    findings.extend(followed.iter().filter_map(|followed| coverage(followed, gathered)));
    findings
}

/// Views of a tree: what is read of them is right when it is read, and changes when a root row does.
fn views(tree: &SchemaTree) -> Vec<Finding> {
    const REASON: &str = "Changes of its base tables do not reach the documents: they show the view as it \
        was when they were last read. `--reindex` reads all of them.";
    let is_view =
        |table: &Table| matches!(table.kind, TableKind::View | TableKind::MaterializedView);
    let views = tree.nodes.iter().filter(|node| is_view(&node.table));
    views
        .map(|node| {
            let (index, view) = (&tree.index, plain(&node.table));
            let situation = format!("index `{index}`: {view} is a view");
            Finding::warning(Check::Logged, situation, REASON)
        })
        .collect()
}

/// Documents without what their scripts do to them would be wrong without a word.
fn scripts(tree: &SchemaTree) -> Option<Finding> {
    let situation = format!("index `{}`: transform scripts (`plugins`) cannot be run", tree.index);
    let reason = "This version has no scripts. Take `plugins` out of the entry if its documents are \
        right without them; `transform` has `replace`, `rename`, `move` and `concat`.";
    (!tree.plugins.is_empty()).then(|| Finding::error(Check::Scripts, situation, reason))
}

/// What of the table never reaches the WAL.
fn not_logged(table: &Table, facts: Option<&TableFacts>) -> Vec<Finding> {
    const REASON: &str =
        "Its changes are not in the write-ahead log, so documents would not follow them.";
    let name = plain(table);
    let error = |situation: String| Finding::error(Check::Logged, situation, REASON);
    let mut findings = Vec::new();
    if table.kind == TableKind::Foreign {
        findings.push(error(format!("{name} is a foreign table")));
    }
    let Some(facts) = facts else { return findings };
    match facts.persistence {
        Persistence::Permanent => {}
        Persistence::Unlogged if table.kind == TableKind::Partitioned => {}
        Persistence::Unlogged => findings.push(
            error(format!("{name} is an unlogged table")).fixed_by(set_logged(&table.qualified())),
        ),
        Persistence::Temporary => findings.push(error(format!("{name} is a temporary table"))),
    }
    for leaf in &facts.unlogged_leaves {
        findings.push(if leaf.foreign {
            error(format!("partition `{}` of {name} is a foreign table", leaf.name))
        } else {
            error(format!("partition `{}` of {name} is unlogged", leaf.name))
                .fixed_by(set_logged(&leaf.name))
        });
    }
    if facts.inherited {
        findings.push(Finding::error(
            Check::Logged,
            format!("other tables inherit from {name}, and are no partitions of it"),
            "A query of it reads their rows, too, but their changes come under their own names. Use \
             partitions, or a view over the tables.",
        ));
    }
    findings
}

fn set_logged(name: &str) -> String {
    format!("ALTER TABLE {name} SET LOGGED;")
}

/// A partition whose root is published, too, has no changes under its own name.
fn under_another_name(
    table: &Table,
    published: &[Arc<Table>],
    gathered: &Gathered,
) -> Option<Finding> {
    let facts = gathered.tables.get(&table.id)?;
    let state = gathered.publication.as_ref().filter(|state| state.via_root);
    let by_all = state.is_some_and(|state| state.all_tables && !facts.ancestors.is_empty());
    let named = state.iter().flat_map(|state| &state.named);
    let mut roots = published.iter().map(|table| &table.id).chain(named);
    let hidden = by_all || roots.any(|root| facts.ancestors.contains(root));
    hidden.then(|| {
        Finding::error(
            Check::Logged,
            format!("{} is a partition of a table that is published, too", plain(table)),
            "Its changes come under the name of the partitioned table. Use that one in the schema, or \
             give this index a publication of its own (`--name`).",
        )
    })
}

/// UPDATE and DELETE of a published table without identity fail, for the application.
fn identity(table: &Arc<Table>, gathered: &Gathered) -> Vec<Finding> {
    let mut findings = Vec::new();
    let gaps = identity_gaps(table);
    if !gaps.is_empty() {
        let names = gaps.iter().map(|gap| gap.table.as_str()).collect::<Vec<_>>().join("`, `");
        let situation = format!("no usable replica identity: `{names}`");
        let already = gathered
            .publication
            .as_ref()
            .is_some_and(|state| state.update && state.delete && state.contains(table));
        let finding = if already {
            let reason = "Published already, so UPDATE and DELETE fail for the application.";
            Finding::warning(Check::Identity, situation, reason)
        } else {
            let reason = "PostgreSQL refuses UPDATE and DELETE of a published table without one, so it \
                 is not published: the application would break. A primary key will do, too.";
            Finding::error(Check::Identity, situation, reason)
        };
        let sql = gaps.iter().map(|gap| gap.sql.as_str()).collect::<Vec<_>>().join("\n");
        findings.push(with_identity_sql(finding, table, gathered, &sql));
    }
    findings.extend(virtual_columns(table, gathered));
    findings.extend(future_partitions(table));
    findings
}

/// Adds the SQL that gives a wider identity, as far as that does not break UPDATE itself: from
/// PostgreSQL 18 on an identity of all columns needs a publication that carries stored generated
/// columns, and is impossible with virtual ones.
fn with_identity_sql(
    finding: Finding,
    table: &Arc<Table>,
    gathered: &Gathered,
    sql: &str,
) -> Finding {
    let to_full = sql.contains("IDENTITY FULL");
    if to_full && gathered.tables.get(&table.id).is_some_and(|facts| facts.virtual_columns) {
        return finding;
    }
    let generated = table.columns.iter().any(|column| column.generated);
    match &gathered.publication {
        Some(state) if to_full && generated && state.major >= 18 && !state.generated => {
            let first = PublicationProblem::GeneratedColumns(Arc::clone(table)).fix(&state.name);
            finding.fixed_by(format!("{first}\n{sql}"))
        }
        Some(_) | None => finding.fixed_by(sql),
    }
}

/// From PostgreSQL 18 on: an identity of all columns cannot hold virtual ones.
fn virtual_columns(table: &Table, gathered: &Gathered) -> Option<Finding> {
    let facts = gathered.tables.get(&table.id)?;
    let full: Vec<String> = match table.kind {
        TableKind::Partitioned => {
            let leaves = table.leaves.iter().filter(|leaf| leaf.identity == ReplicaIdentity::Full);
            leaves.map(|leaf| leaf.name.clone()).collect()
        }
        TableKind::Table if table.identity == ReplicaIdentity::Full => vec![table.qualified()],
        TableKind::Table | TableKind::View | TableKind::MaterializedView | TableKind::Foreign => {
            vec![]
        }
    };
    if !facts.virtual_columns || full.is_empty() {
        return None;
    }
    let situation =
        format!("{} has virtual generated columns and REPLICA IDENTITY FULL", plain(table));
    let reason = "PostgreSQL refuses UPDATE and DELETE of such a table once it is published.";
    let finding = Finding::error(Check::Identity, situation, reason);
    if table.primary_key.is_empty() {
        return Some(finding);
    }
    let lines = full.iter().map(|name| format!("ALTER TABLE {name} REPLICA IDENTITY DEFAULT;"));
    Some(finding.fixed_by(lines.collect::<Vec<_>>().join("\n")))
}

/// A partition takes over its root's primary key, but not its replica identity.
fn future_partitions(table: &Table) -> Option<Finding> {
    let keyless = table.kind == TableKind::Partitioned && table.primary_key.is_empty();
    keyless.then(|| {
        Finding::warning(
            Check::Identity,
            format!("partitioned table {} has no primary key", plain(table)),
            "A new partition comes without replica identity: its UPDATE and DELETE fail until it gets \
             one. Make it with REPLICA IDENTITY FULL, or give the table a primary key.",
        )
    })
}

/// The root's key must name one row. Views are taken at their word.
fn root_key(tree: &SchemaTree, gathered: &Gathered) -> Option<Finding> {
    let table = &tree.root().table;
    let facts = gathered.tables.get(&table.id)?;
    let declared = match table.kind {
        TableKind::Table | TableKind::Partitioned => {
            facts.unique.iter().any(|unique| unique.iter().all(|column| tree.key.contains(column)))
                && tree.key.iter().all(|name| table.column(name).is_some_and(|c| c.not_null))
        }
        TableKind::View | TableKind::MaterializedView | TableKind::Foreign => true,
    };
    if declared {
        return None;
    }
    let index = &tree.index;
    let situation = format!(
        "index `{index}`: nothing keeps the key ({}) of {} unique and not null",
        tree.key.join(", "),
        plain(table)
    );
    let reason = "Rows with the same key become one document, and a row without key none.";
    let columns = tree.key.iter().map(|name| quote_identifier(name)).collect::<Vec<_>>().join(", ");
    let sql = format!("ALTER TABLE {} ADD PRIMARY KEY ({columns});", table.qualified());
    Some(Finding::warning(Check::RootKey, situation, reason).fixed_by(sql))
}

/// Old rows that do not carry what leads to their documents are looked up in the index by the key
/// that documents hold of them; without that key they cannot be found. A root's own key is part of it.
fn coverage(followed: &Followed, gathered: &Gathered) -> Option<Finding> {
    let table = &followed.table;
    let columns: Vec<String> = followed.columns.iter().cloned().collect();
    if !identity_gaps(table).is_empty() || table.identity_covers(&columns) {
        return None;
    }
    let names = columns.join("`, `");
    let situation = format!("the replica identity of {} does not cover `{names}`", plain(table));
    let found = !followed.key.is_empty() && table.identity_covers(&followed.key);
    let indexes = followed.indexes.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>();
    let finding = if found {
        let reason = format!(
            "Exact, but slower: after an UPDATE or DELETE the documents that held the row are searched \
             in {}.",
            indexes.join(", ")
        );
        Finding::warning(Check::Coverage, situation, reason)
    } else {
        let reason = format!(
            "After an UPDATE or DELETE nothing would tell which documents of {} held the row.",
            indexes.join(", ")
        );
        Finding::error(Check::Coverage, situation, reason)
    };
    let full_helps = columns.iter().all(|name| table.column(name).is_some_and(|c| !c.generated));
    let sql = full_identity_sql(table);
    Some(if full_helps && !sql.is_empty() {
        with_identity_sql(finding, table, gathered, &sql)
    } else {
        finding
    })
}

fn plain(table: &Table) -> String {
    format!("`{}.{}`", table.schema, table.name)
}
