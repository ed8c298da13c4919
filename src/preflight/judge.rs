//! Decides what is not right: the server, the role's rights, the publication. Pure.
//!
//! The tables themselves are judged in `judge_tables.rs`.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::finding::{Check, Finding, Findings};
use super::gather::{Gathered, RefusedCondition};
use super::judge_tables::table_findings;
use super::{published_tables, read_tables};
use crate::postgres::identity::identity_gaps;
use crate::postgres::publication::{
    PublicationProblem, PublicationState, alter_add_sql, create_sql, fix_sql,
};
use crate::postgres::server::ServerFacts;
use crate::postgres::slot::SlotState;
use crate::postgres::{Table, quote_identifier};
use crate::schema::SchemaTree;

/// Said where a setting of the server is to be changed.
const RESTART: &str = "The server must be restarted for it; on a managed database it is a setting of \
    the provider.";

/// Everything that is not right, errors first.
pub fn judge(trees: &[SchemaTree], gathered: &Gathered, publication: &str) -> Findings {
    let mut findings = server_findings(&gathered.server, &gathered.slots);
    let read = read_tables(trees);
    findings.extend(existence(&read, gathered));
    findings.extend(usage(&read, gathered));
    findings.extend(select(&read, gathered));
    findings.extend(row_security(&read, gathered));
    findings.extend(conditions(gathered));
    findings.extend(table_findings(trees, gathered));
    findings.extend(publication_findings(&published_tables(trees), gathered, publication));
    Findings::new(findings)
}

fn server_findings(server: &ServerFacts, ours: &[SlotState]) -> Vec<Finding> {
    let mut findings = Vec::new();
    if server.in_recovery {
        findings.push(Finding::error(
            Check::Primary,
            "the server is a standby".into(),
            "Publication and slot are made on the primary, and a standby's snapshots do not list \
             running transactions. Give the primary's address.",
        ));
    }
    if server.wal_level != "logical" {
        let situation = format!("`wal_level` is `{}`", server.wal_level);
        let reason = format!("Changes can be followed only with `logical`. {RESTART}");
        findings.push(
            Finding::error(Check::WalLevel, situation, reason)
                .fixed_by("ALTER SYSTEM SET wal_level = 'logical';"),
        );
    }
    findings.extend(free_slot(server, ours));
    findings.extend(free_sender(server, ours));
    if !server.role_replication {
        let situation = format!("role `{}` may not replicate", server.role);
        let reason = "The write-ahead log is read by a replication connection. On Amazon RDS the \
             right is: GRANT rds_replication TO the role.";
        let sql = format!("ALTER ROLE {} REPLICATION;", quote_identifier(&server.role));
        findings.push(Finding::error(Check::Replication, situation, reason).fixed_by(sql));
    }
    findings
}

/// A slot of ours that exists needs no other.
fn free_slot(server: &ServerFacts, ours: &[SlotState]) -> Option<Finding> {
    let have_one = ours.iter().any(|slot| slot.loss().is_none());
    if have_one || server.used_slots < server.max_replication_slots {
        return None;
    }
    let (used, most) = (server.used_slots, server.max_replication_slots);
    let situation = format!("no replication slot is free: {used} of {most} are used");
    let reason = format!(
        "One slot keeps the changes that are not yet in the index. Drop one that nobody needs (see \
         pg_replication_slots), or allow more. {RESTART}"
    );
    let sql = format!("ALTER SYSTEM SET max_replication_slots = {};", used.saturating_add(4));
    Some(Finding::error(Check::Slots, situation, reason).fixed_by(sql))
}

/// A slot of ours that is streaming holds the sender we shall use once it is free.
fn free_sender(server: &ServerFacts, ours: &[SlotState]) -> Option<Finding> {
    let have_one = ours.iter().any(|slot| slot.active_pid.is_some());
    if have_one || server.used_senders < server.max_wal_senders {
        return None;
    }
    let (used, most) = (server.used_senders, server.max_wal_senders);
    let situation = format!("no WAL sender is free: {used} of {most} are at work");
    let reason = format!("One sender streams the changes to us. {RESTART}");
    let sql = format!("ALTER SYSTEM SET max_wal_senders = {};", used.saturating_add(4));
    Some(Finding::error(Check::Senders, situation, reason).fixed_by(sql))
}

fn existence(read: &[Arc<Table>], gathered: &Gathered) -> Option<Finding> {
    let gone: Vec<_> =
        read.iter().filter(|table| !gathered.tables.contains_key(&table.id)).collect();
    (!gone.is_empty()).then(|| {
        Finding::error(
            Check::Existence,
            format!("dropped while the schema was read: {}", plain_names(&gone)),
            "Start again: the schema is then resolved against what is there.",
        )
    })
}

fn conditions(gathered: &Gathered) -> Vec<Finding> {
    let finding = |refused: &RefusedCondition| {
        Finding::error(
            Check::Condition,
            format!("PostgreSQL does not understand the `where` of index `{}`", refused.index),
            format!(
                "{}. It has to be one condition over columns of the root's table, in SQL.",
                refused.reason
            ),
        )
    };
    gathered.refused_conditions.iter().map(finding).collect()
}

fn usage(read: &[Arc<Table>], gathered: &Gathered) -> Option<Finding> {
    let closed: BTreeSet<&str> = read
        .iter()
        .filter(|table| gathered.tables.get(&table.id).is_some_and(|facts| !facts.usage))
        .map(|table| table.schema.as_str())
        .collect();
    if closed.is_empty() {
        return None;
    }
    let role = &gathered.server.role;
    let schemas = closed.iter().map(|schema| format!("`{schema}`")).collect::<Vec<_>>().join(", ");
    let situation = format!("role `{role}` may not use schema {schemas}");
    let reason = "Tables can be read only in a schema that the role may use.";
    let lines = closed.iter().map(|schema| {
        format!("GRANT USAGE ON SCHEMA {} TO {};", quote_identifier(schema), quote_identifier(role))
    });
    let sql = lines.collect::<Vec<_>>().join("\n");
    Some(Finding::error(Check::Usage, situation, reason).fixed_by(sql))
}

fn select(read: &[Arc<Table>], gathered: &Gathered) -> Option<Finding> {
    let closed: Vec<_> = read
        .iter()
        .filter(|table| gathered.tables.get(&table.id).is_some_and(|facts| !facts.select))
        .collect();
    if closed.is_empty() {
        return None;
    }
    let role = &gathered.server.role;
    let situation = format!("role `{role}` may not read {}", plain_names(&closed));
    let reason = "Documents are read from these tables, under a lock that needs the right to the \
         whole table.";
    let lines = closed.iter().map(|table| {
        format!("GRANT SELECT ON {} TO {};", table.qualified(), quote_identifier(role))
    });
    let sql = lines.collect::<Vec<_>>().join("\n");
    Some(Finding::error(Check::Select, situation, reason).fixed_by(sql))
}

/// A policy that lets every row through does not help: readers run with `row_security = off`, which
/// is an error wherever a policy applies, instead of silently fewer rows.
fn row_security(read: &[Arc<Table>], gathered: &Gathered) -> Option<Finding> {
    let hidden: Vec<_> = read
        .iter()
        .filter(|table| gathered.tables.get(&table.id).is_some_and(|facts| facts.policies))
        .collect();
    if hidden.is_empty() {
        return None;
    }
    let role = &gathered.server.role;
    let situation = format!(
        "row-level security decides which rows role `{role}` sees of {}",
        plain_names(&hidden)
    );
    let reason = "Rows that are hidden would be missing from the documents, while the write-ahead log \
         carries them all. Only a superuser may give this right; or connect as a role that owns the \
         tables, where the policies are not forced on it.";
    let sql = format!("ALTER ROLE {} BYPASSRLS;", quote_identifier(role));
    Some(Finding::error(Check::RowSecurity, situation, reason).fixed_by(sql))
}

fn publication_findings(
    tables: &[Arc<Table>],
    gathered: &Gathered,
    publication: &str,
) -> Vec<Finding> {
    match &gathered.publication {
        None => may_make(tables, gathered, publication).into_iter().collect(),
        Some(state) => fits(state, tables, gathered, publication),
    }
}

/// To make one the role needs CREATE on the database and the rights of every table's owner.
fn may_make(tables: &[Arc<Table>], gathered: &Gathered, publication: &str) -> Option<Finding> {
    let foreign = not_owned(tables, gathered);
    let server = &gathered.server;
    if tables.is_empty() || server.role_superuser || (gathered.may_create && foreign.is_empty()) {
        return None;
    }
    let mut wants = Vec::new();
    if !gathered.may_create {
        wants.push(format!("has no CREATE right on database `{}`", server.database));
    }
    if !foreign.is_empty() {
        wants.push(format!("does not own {}", plain_names(&foreign)));
    }
    let situation = format!(
        "there is no publication `{publication}`, and role `{}` may not make it: it {}",
        server.role,
        wants.join(" and ")
    );
    let reason = format!(
        "Have it made once by the owner of the tables ({}) with CREATE on the database, or by a \
         superuser; then REPLICATION and SELECT suffice.{}",
        owners(tables),
        first_identities(tables)
    );
    let sql = create_sql(publication, tables, server.major());
    Some(Finding::error(Check::Publication, situation, reason).fixed_by(sql))
}

fn fits(
    state: &PublicationState,
    tables: &[Arc<Table>],
    gathered: &Gathered,
    publication: &str,
) -> Vec<Finding> {
    let mut missing = Vec::new();
    let mut findings = Vec::new();
    for problem in state.problems(tables) {
        if let PublicationProblem::Missing(table) = problem {
            missing.push(table);
            continue;
        }
        let situation = format!("publication `{publication}` does not fit: {problem}");
        let reason = format!(
            "Documents would silently become stale. Its owner (`{}`) can change it.",
            state.owner
        );
        let sql = fix_sql(publication, std::slice::from_ref(&problem));
        findings.push(Finding::error(Check::Publication, situation, reason).fixed_by(sql));
    }
    let foreign = not_owned(&missing, gathered);
    let may_add = gathered.server.role_superuser || (state.owned && foreign.is_empty());
    if !missing.is_empty() && !may_add {
        let names: Vec<_> = missing.iter().collect();
        let situation = format!(
            "publication `{publication}` lacks {}, and role `{}` may not add to it",
            plain_names(&names),
            gathered.server.role
        );
        let reason = format!(
            "To be run by a role that owns the publication (`{}`) and the tables ({}), or by a \
             superuser.{}",
            state.owner,
            owners(&missing),
            first_identities(&missing)
        );
        let sql = alter_add_sql(publication, &missing);
        findings.push(Finding::error(Check::Publication, situation, reason).fixed_by(sql));
    }
    findings
}

fn not_owned<'a>(tables: &'a [Arc<Table>], gathered: &Gathered) -> Vec<&'a Arc<Table>> {
    let owned = |table: &Table| gathered.tables.get(&table.id).is_some_and(|facts| facts.owned);
    tables.iter().filter(|table| !owned(table)).collect()
}

/// Said beside a statement that publishes tables which are not fit for it yet.
fn first_identities(tables: &[Arc<Table>]) -> &'static str {
    if tables.iter().all(|table| identity_gaps(table).is_empty()) {
        ""
    } else {
        " Not before every table in it has a replica identity (see above)!"
    }
}

fn owners(tables: &[Arc<Table>]) -> String {
    let owners: BTreeSet<_> = tables.iter().map(|table| format!("`{}`", table.owner)).collect();
    owners.into_iter().collect::<Vec<_>>().join(", ")
}

fn plain_names(tables: &[&Arc<Table>]) -> String {
    tables
        .iter()
        .map(|table| format!("`{}.{}`", table.schema, table.name))
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::postgres::Lsn;
    use crate::preflight::Severity;

    fn healthy() -> Gathered {
        Gathered {
            server: ServerFacts {
                version_num: 150_018,
                system_identifier: Some(1),
                timeline: Some(1),
                postmaster_started: "2026-01-01T00:00:00.000000Z".into(),
                wal_level: "logical".into(),
                max_replication_slots: 10,
                used_slots: 9,
                max_wal_senders: 10,
                used_senders: 9,
                in_recovery: false,
                wal_insert: Lsn(1),
                wal_flush: Lsn(1),
                role: "sync".into(),
                role_superuser: false,
                role_replication: true,
                database: "shop".into(),
                max_slot_wal_keep_size: None,
                wal_sender_timeout: None,
            },
            slots: vec![],
            publication: None,
            may_create: true,
            tables: BTreeMap::new(),
            refused_conditions: vec![],
        }
    }

    #[test]
    fn a_condition_that_the_server_does_not_understand_is_an_error_with_its_words() {
        let refused = RefusedCondition { index: "books".into(), reason: "no such column".into() };
        let gathered = Gathered { refused_conditions: vec![refused], ..healthy() };
        assert_eq!(checks(&gathered), [Check::Condition]);
        let text = judge(&[], &gathered, "p").to_string();
        assert!(text.contains("`books`") && text.contains("no such column"), "{text}");
    }

    fn checks(gathered: &Gathered) -> Vec<Check> {
        judge(&[], gathered, "p").iter().map(|finding| finding.check).collect()
    }

    fn slot(change: &str) -> SlotState {
        let text = r#"{"slot_name": "s", "plugin": "pgoutput", "database": "shop",
            "temporary": false, "active_pid": null, "catalog_xmin": "1", "restart_lsn": null,
            "confirmed_flush_lsn": "0/1", "wal_status": "reserved", "safe_wal_size": null}"#;
        let text = change.split_once('>').map_or(text.into(), |(old, new)| text.replace(old, new));
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn a_server_with_room_is_right() {
        assert_eq!(checks(&healthy()), []);
    }

    #[test]
    fn everything_wrong_with_the_server_is_named_at_once() {
        let mut gathered = healthy();
        let server = &mut gathered.server;
        server.wal_level = "replica".into();
        server.in_recovery = true;
        (server.used_slots, server.used_senders, server.role_replication) = (10, 10, false);
        let findings = judge(&[], &gathered, "p");
        assert!(findings.iter().all(|finding| finding.severity == Severity::Error));
        assert_eq!(
            checks(&gathered),
            [Check::Primary, Check::WalLevel, Check::Slots, Check::Senders, Check::Replication]
        );
        let sql: Vec<_> = findings.iter().filter_map(|finding| finding.sql.as_deref()).collect();
        assert_eq!(
            sql,
            [
                "ALTER SYSTEM SET wal_level = 'logical';",
                "ALTER SYSTEM SET max_replication_slots = 14;",
                "ALTER SYSTEM SET max_wal_senders = 14;",
                "ALTER ROLE \"sync\" REPLICATION;",
            ]
        );
    }

    #[test]
    fn our_own_slot_takes_no_further_one_unless_it_is_lost() {
        let mut gathered = healthy();
        gathered.server.used_slots = 10;
        gathered.slots = vec![slot("")];
        assert_eq!(checks(&gathered), []);
        gathered.slots = vec![slot("reserved>lost")];
        assert_eq!(checks(&gathered), [Check::Slots]);
    }
}
