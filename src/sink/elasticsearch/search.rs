//! Which documents hold a row: asked of the index itself, by `_meta`, page by page.
//!
//! For tables whose replica identity does not tell where a row was before a change. Exact only when
//! every earlier write is acknowledged: the plan waits for that before it asks.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::client::{Body, Client, in_path};
use super::error::ClientError;
use super::index::Indexes;
use crate::sink::SinkError;

/// Ids in one page; the server's own limit (`index.max_result_window`).
const PAGE_IDS: usize = 10_000;
/// The server's limit on the terms of one query (`index.max_terms_count`).
const MAX_TERMS: usize = 65_536;
/// How long the server keeps a search open between two pages.
const KEPT_OPEN: &str = "2m";

/// Searches in one index.
#[derive(Debug)]
pub struct Search {
    client: Client,
    index: String,
    unrefreshed: Arc<AtomicBool>,
}

impl Search {
    /// Searches in `index`, best by its write alias; `unrefreshed` is that of its
    /// [`Target`](crate::sink::Target). Of one index there must be one `Search`: two would pass over
    /// each other's refresh.
    pub fn new(client: Client, index: String, unrefreshed: Arc<AtomicBool>) -> Self {
        Self { client, index, unrefreshed }
    }

    /// Makes everything acknowledged so far searchable; asks the server only if something was
    /// written since the last time.
    ///
    /// # Errors
    /// [`SinkError::Server`]; the next call tries again.
    pub async fn refresh(&mut self) -> Result<(), SinkError> {
        if !self.unrefreshed.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        let refreshed = Indexes::new(self.client.clone()).refresh(&self.index).await;
        if refreshed.is_err() {
            self.unrefreshed.store(true, Ordering::Release);
        }
        refreshed
    }

    /// The documents whose `_meta.<table>` holds, for every column, one of its values.
    ///
    /// For keys of several columns that can be more documents than hold one of the rows, never fewer.
    pub fn holders(&self, table: &str, columns: Vec<(String, Vec<String>)>) -> Pages {
        self.pages(holder_queries(table, columns))
    }

    /// The documents that hold any row of the table, known by these columns of its `_meta`.
    pub fn ids_with_table(&self, table: &str, columns: &[String]) -> Pages {
        let exists = |column: &String| json!({"exists": {"field": meta_field(table, column)}});
        let any: Vec<Json> = columns.iter().map(exists).collect();
        self.pages([json!({"bool": {"should": any, "minimum_should_match": 1}})].into())
    }

    /// Every document.
    pub fn all_ids(&self) -> Pages {
        self.pages([json!({"match_all": {}})].into())
    }

    fn pages(&self, queries: VecDeque<Json>) -> Pages {
        let (client, index) = (self.client.clone(), self.index.clone());
        Pages { client, index, queries, scroll: None }
    }
}

/// The ids found, in pages. A page may be of one query of several: an id can come twice.
#[derive(Debug)]
pub struct Pages {
    client: Client,
    index: String,
    /// What is not asked yet.
    queries: VecDeque<Json>,
    /// The search that is open.
    scroll: Option<String>,
}

#[derive(Deserialize)]
struct Page {
    #[serde(rename = "_scroll_id")]
    scroll: Option<String>,
    #[serde(default)]
    hits: Hits,
    #[serde(default)]
    timed_out: bool,
    #[serde(default, rename = "_shards")]
    shards: Shards,
}

#[derive(Deserialize, Default)]
struct Hits {
    #[serde(default)]
    hits: Vec<Hit>,
}

#[derive(Deserialize)]
struct Hit {
    #[serde(rename = "_id")]
    id: String,
}

#[derive(Deserialize, Default)]
struct Shards {
    #[serde(default)]
    failed: u64,
}

impl Pages {
    /// The next page, 10 000 ids at most, never empty; `None` after the last. The search is closed on
    /// the server at its end, and by itself two minutes after the last page that was asked for.
    ///
    /// # Errors
    /// [`SinkError::Server`], also if a part of the index did not answer: there is no such thing as
    /// most of the documents.
    pub async fn next_page(&mut self) -> Result<Option<Vec<String>>, SinkError> {
        loop {
            let page = if let Some(scroll) = self.scroll.clone() {
                self.go_on(&scroll).await
            } else if let Some(query) = self.queries.pop_front() {
                self.begin(&query).await
            } else {
                return Ok(None);
            };
            let page = page.map_err(|source| self.failed(source))?;
            if let Some(scroll) = page.scroll {
                self.scroll = Some(scroll);
            }
            if page.timed_out || page.shards.failed > 0 {
                return Err(self.failed(malformed(None)));
            }
            let ids: Vec<String> = page.hits.hits.into_iter().map(|hit| hit.id).collect();
            if ids.len() < PAGE_IDS {
                self.close().await?;
            }
            if !ids.is_empty() {
                return Ok(Some(ids));
            }
        }
    }

    /// Closes the open search, for who does not want the rest.
    ///
    /// # Errors
    /// [`SinkError::Server`].
    pub async fn close(&mut self) -> Result<(), SinkError> {
        let Some(scroll) = self.scroll.take() else { return Ok(()) };
        let body = json!({ "scroll_id": scroll });
        match self.client.call(Method::DELETE, "/_search/scroll", Some(&body)).await {
            Ok(_) => Ok(()),
            // It was closed by time.
            Err(error) if error.status() == Some(404) => Ok(()),
            Err(error) => Err(self.failed(error)),
        }
    }

    async fn begin(&self, query: &Json) -> Result<Page, ClientError> {
        let path = format!(
            "/{}/_search?scroll={KEPT_OPEN}&allow_partial_search_results=false&{FILTER}",
            in_path(&self.index)
        );
        let body = json!({"size": PAGE_IDS, "_source": false, "sort": ["_doc"], "query": query});
        self.ask(&path, &body).await
    }

    async fn go_on(&self, scroll: &str) -> Result<Page, ClientError> {
        let body = json!({"scroll": KEPT_OPEN, "scroll_id": scroll});
        self.ask(&format!("/_search/scroll?{FILTER}"), &body).await
    }

    async fn ask(&self, path: &str, body: &Json) -> Result<Page, ClientError> {
        let body = Body::Json(body.to_string().into());
        let answer = self.client.send(Method::POST, path, body).await?;
        serde_json::from_slice(&answer).map_err(|source| malformed(Some(source)))
    }

    fn failed(&self, source: ClientError) -> SinkError {
        SinkError::Server { task: format!("search index {}", self.index), source }
    }
}

/// What is read of an answer.
const FILTER: &str = "filter_path=_scroll_id,hits.hits._id,timed_out,_shards.failed";

fn malformed(source: Option<serde_json::Error>) -> ClientError {
    ClientError::Malformed { node: "the server".into(), expected: "complete search answer", source }
}

fn meta_field(table: &str, column: &str) -> String {
    format!("_meta.{table}.{column}")
}

/// Queries that together find what has one of the values in every column. A column with more values
/// than a query takes is left out, as long as another one narrows the search, or else asked in parts.
fn holder_queries(table: &str, columns: Vec<(String, Vec<String>)>) -> VecDeque<Json> {
    let unique = |(column, mut values): (String, Vec<String>)| {
        values.sort_unstable();
        values.dedup();
        (meta_field(table, &column), values)
    };
    let columns: Vec<(String, Vec<String>)> = columns.into_iter().map(unique).collect();
    let terms = |field: &String, values: &[String]| json!({"terms": {field: values}});
    let short: Vec<Json> = columns
        .iter()
        .filter(|(_, values)| values.len() <= MAX_TERMS)
        .map(|(field, values)| terms(field, values))
        .collect();
    if !short.is_empty() {
        return [json!({"bool": {"filter": short}})].into();
    }
    let Some((field, values)) = columns.first() else { return VecDeque::new() };
    values.chunks(MAX_TERMS).map(|part| json!({"bool": {"filter": [terms(field, part)]}})).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(count: usize) -> Vec<String> {
        (0..count).map(|number| format!("{number:06}")).collect()
    }

    #[test]
    fn every_column_narrows_the_search() {
        let columns = vec![
            ("id".to_owned(), vec!["2".into(), "1".into(), "2".into()]),
            ("part".to_owned(), vec!["7".into()]),
        ];
        let queries = holder_queries("items", columns);
        let filter = json!([
            {"terms": {"_meta.items.id": ["1", "2"]}},
            {"terms": {"_meta.items.part": ["7"]}},
        ]);
        assert_eq!(queries, [json!({"bool": {"filter": filter}})]);
    }

    #[test]
    fn more_values_than_a_query_takes_are_asked_in_parts() {
        let queries = holder_queries("t", vec![("id".to_owned(), values(MAX_TERMS + 1))]);
        let counts: Vec<usize> = queries
            .iter()
            .map(|query| {
                query["bool"]["filter"][0]["terms"]["_meta.t.id"].as_array().unwrap().len()
            })
            .collect();
        assert_eq!(counts, [MAX_TERMS, 1]);
    }

    #[test]
    fn a_column_with_too_many_values_is_left_out_beside_one_that_narrows() {
        let columns =
            vec![("id".to_owned(), values(MAX_TERMS + 1)), ("part".to_owned(), values(1))];
        let queries = holder_queries("t", columns);
        assert_eq!(queries.len(), 1);
        assert_eq!(queries[0]["bool"]["filter"].as_array().unwrap().len(), 1);
    }

    #[test]
    fn no_columns_find_nothing() {
        assert!(holder_queries("t", Vec::new()).is_empty());
    }
}
