//! Reads the rows of documents: every part of a document in one snapshot that sees the change that
//! caused the read.
//!
//! Logical decoding delivers a commit when its record is in the WAL, which may be before readers see
//! it (a synchronous standby is waited for in between). So the snapshot is asked whether it sees the
//! transactions of the batch, and taken anew until it does.

use std::fmt;
use std::sync::atomic::AtomicU64;

use futures_util::{TryStreamExt, pin_mut};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, SimpleQueryMessage, SimpleQueryRow};

use crate::document::DocumentError;
use crate::document::layout::{Layout, Position};
use crate::document::merge::{NodeRows, Row};
use crate::document::query;
use crate::plan::{KeyRange, MustSee, RootKey, Selection};
use crate::postgres::Snapshot;
use crate::postgres::patience::{Awaited, Patience};
use crate::schema::tree::{Link, NodeId, SchemaTree};

/// A row of the simple protocol: ordinal of the join key, then the SELECT list.
pub(crate) struct SqlRow(SimpleQueryRow);

impl Row for SqlRow {
    fn value(&self, position: Position) -> Option<&str> {
        self.0.try_get(position + 1).ok().flatten()
    }
}

impl fmt::Debug for SqlRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SqlRow({} values)", self.0.len())
    }
}

/// All rows of the selected documents in one snapshot.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) snapshot: Snapshot,
    pub(crate) nodes: Vec<NodeRows<SqlRow>>,
}

/// What came of a read.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The rows.
    Rows(Fetched),
    /// More bytes than the limit: read fewer documents at once.
    TooLarge,
    /// PostgreSQL cannot render a value, or the user's condition fails on a row: read fewer documents at
    /// once, until the guilty one stands alone.
    Unreadable {
        snapshot: Snapshot,
        /// The SQLSTATE: the message would repeat the value.
        code: String,
    },
}

/// Reads the rows of a selection; gives up with [`Outcome::TooLarge`] past `limit` bytes.
pub(crate) async fn fetch(
    client: &Client,
    (tree, layout): (&SchemaTree, &Layout),
    selection: &Selection,
    (must_see, rereads): (&MustSee, &AtomicU64),
    limit: usize,
) -> Result<Outcome, DocumentError> {
    let snapshot = open(client, tree, must_see, rereads).await?;
    let nodes = fetch_nodes(client, (tree, layout), selection, limit).await;
    let ended = client.batch_execute("rollback").await;
    let outcome = match nodes {
        Ok(Some(nodes)) => Outcome::Rows(Fetched { snapshot, nodes }),
        Ok(None) => Outcome::TooLarge,
        Err(DocumentError::Read(error)) => match data_exception(&error) {
            Some(code) => Outcome::Unreadable { snapshot, code },
            None => return Err(DocumentError::Read(error)),
        },
        Err(error) => return Err(error),
    };
    ended.map_err(DocumentError::Read)?;
    Ok(outcome)
}

/// The SQLSTATE of an error that is about a value, class 22 "Data Exception".
fn data_exception(error: &tokio_postgres::Error) -> Option<String> {
    let code = error.code()?.code();
    code.starts_with("22").then(|| code.to_owned())
}

/// The keys of the root rows of a range.
pub(crate) async fn keys_of(
    client: &Client,
    tree: &SchemaTree,
    range: &KeyRange,
) -> Result<Vec<RootKey>, DocumentError> {
    let sql = query::keys_of_range(tree, range);
    let messages = client.simple_query(&sql).await.map_err(DocumentError::Read)?;
    Ok(messages.iter().filter_map(|message| key_of(message, tree.key.len())).collect())
}

/// A root key from a row that has nothing but its columns.
pub(crate) fn key_of(message: &SimpleQueryMessage, columns: usize) -> Option<RootKey> {
    let SimpleQueryMessage::Row(row) = message else { return None };
    let values: Option<Vec<Box<str>>> =
        (0..columns).map(|at| row.try_get(at).ok().flatten().map(Box::from)).collect();
    values.map(|values| RootKey(values.into()))
}

/// Opens a transaction whose snapshot sees what it must.
async fn open(
    client: &Client,
    tree: &SchemaTree,
    must_see: &MustSee,
    rereads: &AtomicU64,
) -> Result<Snapshot, DocumentError> {
    let sql = query::open_snapshot(tree);
    let mut patience = Patience::new(&tree.index.0, rereads);
    loop {
        let awaited = match client.simple_query(&sql).await {
            Ok(messages) => {
                let snapshot = snapshot_of(&messages)?;
                let Some(xid) = must_see.first_unseen(&snapshot) else {
                    patience.rewarded();
                    return Ok(snapshot);
                };
                Awaited::Visible { xid }
            }
            // Somebody waits for an exclusive lock on a table of the tree: let them through.
            Err(error) if is_lock_trouble(&error) => {
                Awaited::Unlocked { tables: tree.table_names() }
            }
            Err(error) => return Err(DocumentError::Read(error)),
        };
        client.batch_execute("rollback").await.map_err(DocumentError::Read)?;
        patience.pause(awaited).await;
    }
}

fn is_lock_trouble(error: &tokio_postgres::Error) -> bool {
    matches!(error.code(), Some(&SqlState::LOCK_NOT_AVAILABLE | &SqlState::T_R_DEADLOCK_DETECTED))
}

fn snapshot_of(messages: &[SimpleQueryMessage]) -> Result<Snapshot, DocumentError> {
    let text = messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    text.unwrap_or_default().parse().map_err(DocumentError::Snapshot)
}

/// `None` past `limit` bytes.
async fn fetch_nodes(
    client: &Client,
    (tree, layout): (&SchemaTree, &Layout),
    selection: &Selection,
    limit: usize,
) -> Result<Option<Vec<NodeRows<SqlRow>>>, DocumentError> {
    let Some(root) = layout.node(NodeId::ROOT) else { return Ok(Some(Vec::new())) };
    let sql = match selection {
        Selection::Keys(keys) => query::root_by_keys(tree, root, keys),
        Selection::Range(range) => query::root_by_range(tree, root, range),
    };
    let mut room = limit;
    let Some(rows) = rows_of(client, &sql, &mut room).await? else { return Ok(None) };
    let mut nodes = vec![NodeRows::group(rows)];
    for id in tree.ids().skip(1) {
        let Some(Link { parent, .. }) = tree.node(id).link else { continue };
        let child = layout.node(parent).and_then(|l| l.children.iter().find(|c| c.node == id));
        let keys = nodes.get_mut(parent.0).zip(child).map(|(rows, c)| rows.join_keys(&c.join));
        let keys = keys.unwrap_or_default();
        let rows = if keys.columns.first().is_none_or(Vec::is_empty) {
            Vec::new()
        } else {
            let sql = query::child_rows(tree, id, layout, &keys);
            match rows_of(client, &sql, &mut room).await? {
                Some(rows) => rows,
                None => return Ok(None),
            }
        };
        nodes.push(NodeRows::group(rows));
    }
    Ok(Some(nodes))
}

/// The rows of a statement with their ordinals; `None` when they need more than `room` bytes.
async fn rows_of(
    client: &Client,
    sql: &str,
    room: &mut usize,
) -> Result<Option<Vec<(u32, SqlRow)>>, DocumentError> {
    /// What a row, and each of its values, takes beside the text.
    const ROW_OVERHEAD: usize = 64;
    const VALUE_OVERHEAD: usize = size_of::<Option<std::ops::Range<usize>>>();
    let stream = client.simple_query_raw(sql).await.map_err(DocumentError::Read)?;
    pin_mut!(stream);
    let mut rows = Vec::new();
    while let Some(message) = stream.try_next().await.map_err(DocumentError::Read)? {
        let SimpleQueryMessage::Row(row) = message else { continue };
        let text: usize = (0..row.len()).map(|at| row.get(at).map_or(0, str::len)).sum();
        let bytes = text + row.len() * VALUE_OVERHEAD;
        match room.checked_sub(bytes + ROW_OVERHEAD) {
            Some(left) => *room = left,
            None => return Ok(None),
        }
        let ordinal = row.get(0).and_then(|text| text.parse().ok()).unwrap_or_default();
        rows.push((ordinal, SqlRow(row)));
    }
    Ok(Some(rows))
}
