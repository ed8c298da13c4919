//! The text of replication commands and the rows that answer them. Pure.
//!
//! Source: PostgreSQL 17 manual, 53.4 "Streaming Replication Protocol".

use crate::postgres::{Lsn, quote_identifier};

/// Columns of one answered row.
pub(super) type Row = Vec<Option<String>>;

/// Who the server is, from `IDENTIFY_SYSTEM`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SystemIdentity {
    /// Made by `initdb`: the same for a server and its physical standbys.
    pub system_id: String,
    /// Rises with each promotion.
    pub timeline: u32,
    /// End of the WAL that is flushed.
    pub flushed: Lsn,
}

/// A slot that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreatedSlot {
    /// Its name.
    pub name: String,
    /// Where its stream begins.
    pub consistent_point: Lsn,
    /// The snapshot that sees exactly what lies before, for `SET TRANSACTION SNAPSHOT`. It lives
    /// until the next command on the connection that made it.
    pub snapshot: Option<String>,
}

/// Whether standbys get a copy of the slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failover {
    /// Yes, on servers that can (17 and newer).
    WhereSupported,
    /// No.
    Off,
}

pub(super) fn create_slot(name: &str, failover: Failover, server_major: u32) -> String {
    let name = quote_identifier(name);
    let options = match (server_major, failover) {
        (..15, _) => "EXPORT_SNAPSHOT",
        (17.., Failover::WhereSupported) => "(SNAPSHOT 'export', FAILOVER true)",
        (_, Failover::WhereSupported | Failover::Off) => "(SNAPSHOT 'export')",
    };
    format!("CREATE_REPLICATION_SLOT {name} LOGICAL pgoutput {options}")
}

pub(super) fn drop_slot(name: &str) -> String {
    format!("DROP_REPLICATION_SLOT {}", quote_identifier(name))
}

/// Protocol version 1 is all that a stream without in-progress and prepared transactions needs.
pub(super) fn start_replication(slot: &str, publication: &str, start: Lsn) -> String {
    let publications = quote_option(&quote_identifier(publication));
    format!(
        "START_REPLICATION SLOT {} LOGICAL {start} (proto_version '1', publication_names {publications}, messages 'true')",
        quote_identifier(slot),
    )
}

/// The replication grammar doubles quotes and takes backslashes as they are: it has no `E''`.
fn quote_option(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

pub(super) fn system_identity(row: &Row) -> Option<SystemIdentity> {
    Some(SystemIdentity {
        system_id: column(row, 0)?.to_owned(),
        timeline: column(row, 1)?.parse().ok()?,
        flushed: column(row, 2)?.parse().ok()?,
    })
}

pub(super) fn created_slot(row: &Row) -> Option<CreatedSlot> {
    Some(CreatedSlot {
        name: column(row, 0)?.to_owned(),
        consistent_point: column(row, 1)?.parse().ok()?,
        snapshot: column(row, 2).map(str::to_owned),
    })
}

/// `15` of `15.18 (Debian 15.18-0+deb12u1)`, `18` of `18beta1`.
pub(super) fn major_version(server_version: &str) -> Option<u32> {
    let end = server_version.find(|c: char| !c.is_ascii_digit()).unwrap_or(server_version.len());
    server_version.get(..end)?.parse().ok()
}

fn column(row: &Row, position: usize) -> Option<&str> {
    row.get(position)?.as_deref()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_twice_where_they_are_read_twice() {
        assert_eq!(
            start_replication("s", "a'b\"c", Lsn(0x10)),
            "START_REPLICATION SLOT \"s\" LOGICAL 0/10 (proto_version '1', publication_names '\"a''b\"\"c\"', messages 'true')"
        );
    }

    #[test]
    fn a_slot_is_made_in_the_words_of_the_server() {
        let options = |major, failover| {
            create_slot("s", failover, major).split_once("pgoutput ").unwrap().1.to_owned()
        };
        assert_eq!(options(14, Failover::WhereSupported), "EXPORT_SNAPSHOT");
        assert_eq!(options(15, Failover::WhereSupported), "(SNAPSHOT 'export')");
        assert_eq!(options(17, Failover::Off), "(SNAPSHOT 'export')");
        assert_eq!(options(17, Failover::WhereSupported), "(SNAPSHOT 'export', FAILOVER true)");
    }

    #[test]
    fn the_major_version_is_the_leading_number() {
        assert_eq!(major_version("15.18 (Debian 15.18-0+deb12u1)"), Some(15));
        assert_eq!(major_version("18beta1"), Some(18));
        assert_eq!(major_version(""), None);
    }
}
