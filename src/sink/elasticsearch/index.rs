//! Indexes: made, filled, switched to, deleted. What people search is an alias, so that a new index
//! takes the place of an old one in one step.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Map, Value as Json, json};

use super::client::{Client, in_path};
use super::creation::{Creation, creation_body};
use super::error::{ClientError, ErrorClass};
use super::names::{IndexNames, unusable};
use crate::schema::tree::{IndexName, SchemaTree};
use crate::sink::SinkError;

/// Two indexes made in one second: the second takes the next second's name.
const NAME_TRIES: u32 = 5;

/// What a name stands for on the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NameStanding {
    /// Nothing.
    Absent,
    /// An index of that very name.
    Concrete,
    /// An alias of these indexes.
    Alias(Vec<String>),
}

/// The indexes on one server.
#[derive(Clone, Debug)]
pub struct Indexes {
    client: Client,
}

impl Indexes {
    /// The indexes on the client's server.
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// Makes a concrete index for the entry, set up for a load (no refresh, no replicas), without
    /// aliases; returns its name.
    ///
    /// # Errors
    /// [`SinkError::IndexRefused`] with the server's reason, or [`SinkError::Server`].
    pub async fn create(
        &self,
        tree: &SchemaTree,
        names: &IndexNames,
        creation: &Creation,
    ) -> Result<String, SinkError> {
        if let Some(reason) = unusable(&names.public) {
            let (index, reason) = (tree.index.clone(), reason.to_owned());
            return Err(SinkError::IndexRefused { index, reason });
        }
        let body = creation_body(tree, creation);
        let mut at = creation.at;
        for _ in 1..NAME_TRIES {
            let concrete = names.concrete(at);
            if !self.exists(&concrete).await? {
                break;
            }
            at += Duration::from_secs(1);
        }
        let concrete = names.concrete(at);
        let path = format!("/{}", in_path(&concrete));
        match self.client.call(Method::PUT, &path, Some(&body)).await {
            Ok(_) => Ok(concrete),
            Err(error) => Err(refused(&tree.index, &concrete, error)),
        }
    }

    /// Points the private write alias at a concrete index, and at no other.
    ///
    /// # Errors
    /// [`SinkError::Server`].
    pub async fn point_write_alias(
        &self,
        names: &IndexNames,
        concrete: &str,
    ) -> Result<(), SinkError> {
        let mut actions = Vec::new();
        self.move_alias(&names.write, concrete, &mut actions).await?;
        self.update_aliases(&names.write, actions).await
    }

    /// Removes the private write alias; returns the indexes it stood for.
    ///
    /// # Errors
    /// [`SinkError::Server`].
    pub async fn remove_write_alias(&self, names: &IndexNames) -> Result<Vec<String>, SinkError> {
        let alias = &names.write;
        let NameStanding::Alias(indexes) = self.standing_of(alias).await? else {
            return Ok(Vec::new());
        };
        let remove = |index| json!({"remove": {"index": index, "alias": alias}});
        self.update_aliases(alias, indexes.iter().map(remove).collect()).await?;
        Ok(indexes)
    }

    /// Lets the public name and the write alias stand for a concrete index, in one step. A concrete
    /// index of the public name is deleted in the same step; indexes that had the public alias are
    /// returned, for the caller to delete.
    ///
    /// # Errors
    /// [`SinkError::Server`].
    pub async fn switch(
        &self,
        names: &IndexNames,
        concrete: &str,
    ) -> Result<Vec<String>, SinkError> {
        let mut actions = Vec::new();
        self.move_alias(&names.write, concrete, &mut actions).await?;
        let before = self.move_alias(&names.public, concrete, &mut actions).await?;
        self.update_aliases(&names.public, actions).await?;
        Ok(before)
    }

    /// Ends the load of an index: refresh interval and replicas as the schema wants them (the
    /// server's defaults where it says nothing), everything searchable.
    ///
    /// # Errors
    /// [`SinkError::Server`].
    pub async fn finish_load(&self, concrete: &str, tree: &SchemaTree) -> Result<(), SinkError> {
        let user = |name: &str| tree.setting.as_ref().and_then(|s| s.get(name)).cloned();
        let settings = json!({"index": {
            "refresh_interval": user("refresh_interval"),
            "number_of_replicas": user("number_of_replicas"),
        }});
        let path = format!("/{}/_settings", in_path(concrete));
        let task = format!("end the load of index {concrete}");
        self.call(task, Method::PUT, &path, Some(&settings)).await?;
        self.refresh(concrete).await
    }

    /// Makes everything written so far searchable.
    ///
    /// # Errors
    /// [`SinkError::Server`].
    pub async fn refresh(&self, index: &str) -> Result<(), SinkError> {
        let path = format!("/{}/_refresh", in_path(index));
        self.call(format!("refresh index {index}"), Method::POST, &path, None).await?;
        Ok(())
    }

    /// Deletes a concrete index; one that is not there is fine.
    ///
    /// # Errors
    /// [`SinkError::Server`].
    pub async fn delete_index(&self, concrete: &str) -> Result<(), SinkError> {
        let path = format!("/{}?ignore_unavailable=true", in_path(concrete));
        self.call(format!("delete index {concrete}"), Method::DELETE, &path, None).await?;
        Ok(())
    }

    /// What a name stands for.
    ///
    /// # Errors
    /// [`SinkError::Server`].
    pub async fn standing_of(&self, name: &str) -> Result<NameStanding, SinkError> {
        let path = format!("/{}/_alias", in_path(name));
        match self.client.call(Method::GET, &path, None).await {
            Ok(answer) => {
                let indexes: Vec<String> =
                    answer.as_object().into_iter().flat_map(Map::keys).cloned().collect();
                Ok(match indexes.as_slice() {
                    [] => NameStanding::Absent,
                    [only] if only == name => NameStanding::Concrete,
                    _ => NameStanding::Alias(indexes),
                })
            }
            Err(error) if error.status() == Some(404) => Ok(NameStanding::Absent),
            Err(error) => Err(server(format!("look up index {name}"), error)),
        }
    }

    /// Whether an index or alias of that name exists.
    ///
    /// # Errors
    /// [`SinkError::Server`].
    pub async fn exists(&self, name: &str) -> Result<bool, SinkError> {
        Ok(self.standing_of(name).await? != NameStanding::Absent)
    }

    /// The concrete index behind an alias; `None` if there is no such alias.
    ///
    /// # Errors
    /// [`SinkError::AmbiguousAlias`], [`SinkError::Server`].
    pub async fn concrete_of(&self, alias: &str) -> Result<Option<String>, SinkError> {
        match self.standing_of(alias).await? {
            NameStanding::Absent | NameStanding::Concrete => Ok(None),
            NameStanding::Alias(mut indexes) if indexes.len() == 1 => Ok(indexes.pop()),
            NameStanding::Alias(indexes) => {
                Err(SinkError::AmbiguousAlias { alias: alias.to_owned(), indexes })
            }
        }
    }

    /// The concrete indexes of an entry, by their names (`orders-20260102030405`), oldest first: the
    /// one in use, one that is filled, and those left by a crash.
    ///
    /// # Errors
    /// [`SinkError::Server`].
    pub async fn concretes(&self, names: &IndexNames) -> Result<Vec<String>, SinkError> {
        let mut found: Vec<String> = self.dated(names).await?.into_iter().map(|it| it.0).collect();
        found.sort_unstable();
        Ok(found)
    }

    /// Concrete indexes of an entry that a crash left: made by us, and without any alias. One that is
    /// filled, by whatever service, has its write alias.
    ///
    /// # Errors
    /// [`SinkError::Server`].
    pub async fn leftovers(&self, names: &IndexNames) -> Result<Vec<String>, SinkError> {
        let mut found = Vec::new();
        for (concrete, has_alias) in self.dated(names).await? {
            if !has_alias && self.read_generation(&concrete).await?.is_some() {
                found.push(concrete);
            }
        }
        Ok(found)
    }

    /// The concrete indexes of an entry, and whether they have an alias.
    async fn dated(&self, names: &IndexNames) -> Result<Vec<(String, bool)>, SinkError> {
        let path = format!("/{}-*/_alias?expand_wildcards=open,closed", in_path(&names.public));
        let task = format!("list the indexes of {}", names.public);
        let answer = self.call(task, Method::GET, &path, None).await?;
        let has_alias = |index: &Json| {
            index
                .get("aliases")
                .and_then(Json::as_object)
                .is_some_and(|aliases| !aliases.is_empty())
        };
        let found = answer
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(index, _)| is_concrete_of(index, &names.public))
            .map(|(name, index)| (name.clone(), has_alias(index)));
        Ok(found.collect())
    }

    /// Fails if the entry's ingest pipeline is not on the server. A role that may not look is not told
    /// here, but by the first document.
    ///
    /// # Errors
    /// [`SinkError::PipelineMissing`], [`SinkError::Server`].
    pub async fn check_pipeline(&self, tree: &SchemaTree) -> Result<(), SinkError> {
        let Some(pipeline) = &tree.pipeline else { return Ok(()) };
        let path = format!("/_ingest/pipeline/{}", in_path(pipeline));
        match self.client.call(Method::GET, &path, None).await {
            Ok(_) => Ok(()),
            Err(error) if error.status() == Some(404) => Err(SinkError::PipelineMissing {
                index: tree.index.clone(),
                pipeline: pipeline.clone(),
            }),
            Err(error) if error.status() == Some(403) => Ok(()),
            Err(error) => Err(server(format!("look up ingest pipeline {pipeline}"), error)),
        }
    }

    /// How many documents are searchable in an index.
    ///
    /// # Errors
    /// [`SinkError::Server`].
    pub async fn count(&self, index: &str) -> Result<u64, SinkError> {
        let path = format!("/{}/_count", in_path(index));
        let task = format!("count the documents of index {index}");
        let answer = self.call(task.clone(), Method::GET, &path, None).await?;
        answer.get("count").and_then(Json::as_u64).ok_or_else(|| unexpected(task, "count"))
    }

    /// The generation kept in a concrete index; `None` if it is not one of ours.
    ///
    /// # Errors
    /// [`SinkError::Server`].
    pub async fn read_generation(&self, concrete: &str) -> Result<Option<u64>, SinkError> {
        let notes = self.read_notes(concrete).await?;
        Ok(notes.get("pgsyncd").and_then(|stamp| stamp.get("generation")).and_then(Json::as_u64))
    }

    /// Keeps a generation in a concrete index, beside what its mapping's `_meta` holds already.
    ///
    /// # Errors
    /// [`SinkError::Server`].
    pub async fn write_generation(&self, concrete: &str, generation: u64) -> Result<(), SinkError> {
        let mut notes = self.read_notes(concrete).await?;
        let stamp = notes.entry("pgsyncd").or_insert_with(|| json!({}));
        match stamp {
            Json::Object(stamp) => {
                stamp.insert("generation".into(), generation.into());
            }
            other => *other = json!({ "generation": generation }),
        }
        let path = format!("/{}/_mapping", in_path(concrete));
        let task = format!("keep the generation in index {concrete}");
        self.call(task, Method::PUT, &path, Some(&json!({ "_meta": notes }))).await?;
        Ok(())
    }

    /// The `_meta` of an index's mapping; empty if it has none.
    async fn read_notes(&self, concrete: &str) -> Result<Map<String, Json>, SinkError> {
        let path = format!("/{}/_mapping?filter_path=*.mappings._meta", in_path(concrete));
        let task = format!("read the generation of index {concrete}");
        let answer = self.call(task, Method::GET, &path, None).await?;
        let notes = answer.get(concrete).and_then(|index| index.pointer("/mappings/_meta"));
        Ok(notes.and_then(Json::as_object).cloned().unwrap_or_default())
    }

    /// Adds the actions that let `alias` stand for `concrete` alone; returns the other indexes that
    /// have it. A concrete index of that name is removed.
    async fn move_alias(
        &self,
        alias: &str,
        concrete: &str,
        actions: &mut Vec<Json>,
    ) -> Result<Vec<String>, SinkError> {
        let mut before = Vec::new();
        match self.standing_of(alias).await? {
            NameStanding::Absent => {}
            NameStanding::Concrete => actions.push(json!({"remove_index": {"index": alias}})),
            NameStanding::Alias(indexes) => {
                before = indexes.into_iter().filter(|index| index != concrete).collect();
            }
        }
        for index in &before {
            actions.push(json!({"remove": {"index": index, "alias": alias}}));
        }
        actions.push(json!({"add": {"index": concrete, "alias": alias, "is_write_index": true}}));
        Ok(before)
    }

    async fn update_aliases(&self, alias: &str, actions: Vec<Json>) -> Result<(), SinkError> {
        let body = json!({ "actions": actions });
        self.call(format!("point alias {alias}"), Method::POST, "/_aliases", Some(&body)).await?;
        Ok(())
    }

    async fn call(
        &self,
        task: String,
        method: Method,
        path: &str,
        body: Option<&Json>,
    ) -> Result<Json, SinkError> {
        self.client.call(method, path, body).await.map_err(|source| server(task, source))
    }
}

fn is_concrete_of(index: &str, public: &str) -> bool {
    const TIME_DIGITS: usize = 14;
    let time = index.strip_prefix(public).and_then(|rest| rest.strip_prefix('-'));
    time.is_some_and(|time| time.len() == TIME_DIGITS && time.bytes().all(|b| b.is_ascii_digit()))
}

fn server(task: String, source: ClientError) -> SinkError {
    SinkError::Server { task, source }
}

fn unexpected(task: String, expected: &'static str) -> SinkError {
    let node = String::from("the server");
    server(task, ClientError::Malformed { node, expected, source: None })
}

/// What the server has against an index, in its words; or that it could not be asked.
fn refused(index: &IndexName, concrete: &str, error: ClientError) -> SinkError {
    match &error {
        ClientError::Refused { kind, reason, .. } if error.class() == ErrorClass::Permanent => {
            SinkError::IndexRefused { index: index.clone(), reason: format!("{kind}: {reason}") }
        }
        ClientError::Refused { .. }
        | ClientError::Options { .. }
        | ClientError::Unreachable { .. }
        | ClientError::Malformed { .. }
        | ClientError::TooLarge { .. } => server(format!("create index {concrete}"), error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn concrete_indexes_are_told_by_their_fourteen_digits() {
        assert!(is_concrete_of("books-20260102030405", "books"));
        assert!(!is_concrete_of("books-old-20260102030405", "books"));
        assert!(!is_concrete_of("books-2026", "books"));
        assert!(!is_concrete_of("books", "books"));
    }
}
