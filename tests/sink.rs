//! The sink against real servers: indexes are made, filled, searched and switched, on
//! `PGSYNCD_TEST_ELASTICSEARCH_URL` and, where it is set, `PGSYNCD_TEST_ELASTICSEARCH_NEWER_URL`.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]
#![allow(clippy::indexing_slicing, reason = "a failed step fails the test")]

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime};

use pgsyncd::document::{Document, DocumentBatch, DocumentId, SnapshotVersion};
use pgsyncd::plan::{EntryId, Job, Receipt, RootKey};
use pgsyncd::postgres::{Column, RelationId, ReplicaIdentity, Table, TableKind};
use pgsyncd::schema::tree::{IndexName, Node, OutputColumn, SchemaTree, Transform};
use pgsyncd::sink::elasticsearch::index::NameStanding;
use pgsyncd::sink::elasticsearch::mapping::FieldMapping;
use pgsyncd::sink::elasticsearch::options::Compression;
use pgsyncd::sink::elasticsearch::{Creation, Pages, ServerFamily};
use pgsyncd::sink::{
    Client, Counter, DeadLetter, DeadLetterKeeper, ElasticsearchOptions, IndexNames, Indexes,
    KeepRequest, Search, Sink, SinkError, SinkOptions, SinkProgress, Target, Written,
};
use reqwest::Method;
use serde_json::{Value as Json, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// No step of a test takes longer on a server that works.
const PATIENCE: Duration = Duration::from_mins(1);

/// One test's index on one server; nothing else has its name.
struct Place {
    client: Client,
    indexes: Indexes,
    tree: SchemaTree,
    names: IndexNames,
    unrefreshed: Arc<AtomicBool>,
}

async fn places(test: &str) -> Vec<Place> {
    places_by(test, Compression::Off).await
}

async fn places_by(test: &str, compression: Compression) -> Vec<Place> {
    let variables = ["PGSYNCD_TEST_ELASTICSEARCH_URL", "PGSYNCD_TEST_ELASTICSEARCH_NEWER_URL"];
    let urls: Vec<String> = variables.iter().filter_map(|name| std::env::var(name).ok()).collect();
    assert!(!urls.is_empty(), "{} is not set", variables[0]);
    let mut places = Vec::new();
    for url in urls {
        let mut options = ElasticsearchOptions::new(vec![url.parse().unwrap()]);
        options.compression = compression;
        let client = Client::new(&options).unwrap();
        let server = client.connect().await.unwrap();
        assert!(matches!(server.family, ServerFamily::Elasticsearch | ServerFamily::OpenSearch));
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos();
        let tree = tree(format!("pgsyncd-test-{test}-{now}"));
        let names = IndexNames::of(&tree.index, "pgsyncd");
        let indexes = Indexes::new(client.clone());
        let unrefreshed = Arc::new(AtomicBool::new(false));
        places.push(Place { client, indexes, tree, names, unrefreshed });
    }
    places
}

const COLUMNS: [(&str, &str); 8] = [
    ("id", "bigint"),
    ("title", "text"),
    ("price", "numeric"),
    ("sold", "timestamp with time zone"),
    ("day", "date"),
    ("raw", "bytea"),
    ("tags", "integer[]"),
    ("extra", "jsonb"),
];

fn tree(index: String) -> SchemaTree {
    let column = |(name, type_name): &(&str, &str)| Column {
        name: (*name).into(),
        number: 1,
        type_oid: 0,
        type_name: (*type_name).into(),
        type_category: 'U',
        not_null: false,
        generated: false,
    };
    let table = Table {
        id: RelationId(1),
        schema: "public".into(),
        name: "book".into(),
        kind: TableKind::Table,
        owner: "owner".into(),
        columns: COLUMNS.iter().map(column).collect(),
        primary_key: vec!["id".into()],
        identity: ReplicaIdentity::Default,
        identity_columns: vec!["id".into()],
        leaves: Vec::new(),
        foreign_keys: Vec::new(),
        row_security: false,
    };
    let field = |(name, _): &(&str, &str)| OutputColumn {
        column: (*name).into(),
        path: None,
        field: (*name).into(),
    };
    let root = Node {
        path: "$.nodes".into(),
        table: Arc::new(table),
        label: "book".into(),
        columns: COLUMNS.iter().map(field).collect(),
        key: vec!["id".into()],
        link: None,
        children: Vec::new(),
        transform: Transform::default(),
        base_tables: Vec::new(),
    };
    SchemaTree {
        index: IndexName(index),
        nodes: vec![root],
        key: vec!["id".into()],
        filter: None,
        setting: Some(json!({"number_of_shards": 2})),
        mapping: None,
        pipeline: None,
        routing: None,
        plugins: Vec::new(),
        meta: true,
        digest: "digest".into(),
        shape: "shape".into(),
    }
}

/// A document of generation 1; without a body, a delete.
fn document(id: &str, seen: u64, body: Option<&Json>) -> Document {
    Document {
        id: DocumentId(id.into()),
        key: RootKey(vec![id.into()].into()),
        version: SnapshotVersion::of(1, &format!("{seen}:{seen}:").parse().unwrap()),
        routing: None,
        body: body.map(|body| body.to_string().into()),
        refused: None,
    }
}

impl Place {
    async fn create(&self) -> String {
        let creation =
            Creation { generation: 1, fields: FieldMapping::FromColumns, at: SystemTime::now() };
        self.indexes.create(&self.tree, &self.names, &creation).await.unwrap()
    }

    /// An index that is written to and searched.
    async fn create_and_switch(&self) -> String {
        let concrete = self.create().await;
        self.indexes.point_write_alias(&self.names, &concrete).await.unwrap();
        self.indexes.finish_load(&concrete, &self.tree).await.unwrap();
        self.indexes.switch(&self.names, &concrete).await.unwrap();
        concrete
    }

    /// Writes batches one after the other, and returns the dead letters.
    async fn write(
        &self,
        batches: Vec<Vec<Document>>,
    ) -> (Result<(), SinkError>, Vec<DeadLetter>, Arc<SinkProgress>) {
        let progress = Arc::new(SinkProgress::default());
        let (keeper, mut requests) = DeadLetterKeeper::new(4);
        let mut target = Target::new(EntryId(0), &self.tree, &self.names);
        target.unrefreshed = Arc::clone(&self.unrefreshed);
        let options = SinkOptions::default();
        let sink =
            Sink::new(self.client.clone(), vec![target], options, keeper, Arc::clone(&progress));
        let (input, received) = mpsc::channel(4);
        let (sender, mut output) = mpsc::channel::<Written>(4);
        let mut sinks = JoinSet::new();
        sinks.spawn(sink.run(received, sender));
        let mut letters = JoinSet::new();
        letters.spawn(async move {
            let mut letters = Vec::new();
            while let Some(KeepRequest { letter, kept }) = requests.recv().await {
                letters.push(letter);
                kept.send(()).unwrap();
            }
            letters
        });
        for (part, documents) in (0..).zip(batches) {
            let receipt = Receipt { job: Job::Round(1), part };
            let batch = DocumentBatch {
                entry: EntryId(0),
                receipt,
                batches: Some(1),
                documents,
                ambiguous: 0,
            };
            input.send(batch).await.unwrap();
            if timeout(PATIENCE, output.recv()).await.unwrap().is_none() {
                break;
            }
        }
        drop(input);
        let result = timeout(PATIENCE, sinks.join_next()).await.unwrap().unwrap().unwrap();
        (result, letters.join_next().await.unwrap().unwrap(), progress)
    }

    async fn get(&self, path: &str) -> Json {
        self.client.call(Method::GET, path, None).await.unwrap()
    }

    async fn found(&self, query: Json) -> Vec<String> {
        let path = format!("/{}/_search?size=100", self.names.public);
        let body = json!({ "query": query });
        let answer = self.client.call(Method::POST, &path, Some(&body)).await.unwrap();
        let hits = answer["hits"]["hits"].as_array().unwrap();
        let mut ids: Vec<String> =
            hits.iter().map(|hit| hit["_id"].as_str().unwrap().to_owned()).collect();
        ids.sort_unstable();
        ids
    }

    fn search(&self) -> Search {
        let unrefreshed = Arc::clone(&self.unrefreshed);
        Search::new(self.client.clone(), self.names.write.clone(), unrefreshed)
    }

    async fn clean(&self) {
        for concrete in self.indexes.concretes(&self.names).await.unwrap() {
            self.indexes.delete_index(&concrete).await.unwrap();
        }
        assert_eq!(
            self.indexes.standing_of(&self.names.public).await.unwrap(),
            NameStanding::Absent
        );
    }
}

async fn ids_of(mut pages: Pages) -> Vec<String> {
    let mut ids = Vec::new();
    while let Some(page) = pages.next_page().await.unwrap() {
        ids.extend(page);
    }
    ids.sort_unstable();
    ids
}

#[tokio::test]
#[ignore = "needs Elasticsearch: tests/services.sh"]
async fn fields_take_every_rendering_and_compare_as_their_type() {
    for place in places("fields").await {
        place.create_and_switch().await;
        let bodies = [
            json!({"id": 1, "price": 5, "sold": "2020-01-02T03:04:05.678+00:00", "day": "2020-01-02",
                "title": "2020-01-02", "raw": format!("\\x{}", "00".repeat(40_000)), "tags": [[1, 2], [3, null]],
                "extra": {"deep": {"date": "2020-01-02"}}}),
            json!({"id": 2, "price": 5.5, "sold": "infinity", "day": "10000-01-02", "title": "plain",
                "raw": null, "tags": []}),
            json!({"id": 3, "price": "NaN", "sold": "-infinity", "day": "0044-03-15 BC", "tags": null}),
        ];
        let mut second = bodies[1].clone();
        second["extra"] = json!({"deep": {"date": "no date"}});
        let documents = vec![
            document("1", 9, Some(&bodies[0])),
            document("2", 9, Some(&second)),
            document("3", 9, Some(&bodies[2])),
        ];
        let (result, letters, _) = place.write(vec![documents]).await;
        result.unwrap();
        assert_eq!(letters, []);
        place.search().refresh().await.unwrap();
        assert_eq!(place.found(json!({"range": {"price": {"gt": 5}}})).await, ["2"]);
        assert_eq!(place.found(json!({"range": {"day": {"gt": "9999-01-01"}}})).await, ["2"]);
        assert_eq!(place.found(json!({"range": {"sold": {"gte": "2020-01-01"}}})).await, ["1"]);
        assert_eq!(place.found(json!({"term": {"title.keyword": "plain"}})).await, ["2"]);
        assert_eq!(place.found(json!({"term": {"tags": 3}})).await, ["1"]);
        place.clean().await;
    }
}

#[tokio::test]
#[ignore = "needs Elasticsearch: tests/services.sh"]
async fn an_older_version_is_superseded_also_by_a_delete_and_a_bad_document_stops_only_itself() {
    for place in places("versions").await {
        place.create_and_switch().await;
        let body = |number: u64| json!({"id": number, "extra": {"n": 1}});
        let bad = json!({"id": 1, "title": {"an": "object"}});
        let batches = vec![
            vec![document("1", 5, Some(&body(1))), document("2", 5, Some(&body(2)))],
            vec![document("1", 4, Some(&body(9))), document("2", 6, None), document("3", 6, None)],
            vec![document("2", 5, Some(&body(9))), document("3", 5, Some(&body(9)))],
            vec![document("4", 7, Some(&bad)), document("5", 7, Some(&body(5)))],
            vec![document("", 7, Some(&body(6))), document(&"x".repeat(513), 7, Some(&body(6)))],
        ];
        let (result, letters, progress) = place.write(batches).await;
        result.unwrap();
        place.search().refresh().await.unwrap();
        assert_eq!(place.found(json!({"match_all": {}})).await, ["1", "5"]);
        assert_eq!(progress.get(Counter::Superseded), 3);
        assert_eq!(progress.get(Counter::Deleted), 2);
        let kept: Vec<(&str, &str)> =
            letters.iter().map(|letter| (&*letter.id.0, letter.kind.as_str())).collect();
        assert_eq!(kept.len(), 3, "{kept:?}");
        let rejected = letters.iter().find(|letter| &*letter.id.0 == "4").unwrap();
        assert!(rejected.kind.ends_with("parsing_exception"), "{rejected:?}");
        assert!(rejected.reason.contains("[title]"), "{rejected:?}");
        let concrete = place.indexes.concrete_of(&place.names.public).await.unwrap().unwrap();
        let stored = place.get(&format!("/{concrete}/_doc/1")).await;
        assert_eq!(stored["_source"]["id"], 1);
        assert_eq!(SnapshotVersion::generation_of(stored["_version"].as_u64().unwrap()), 1);
        place.clean().await;
    }
}

#[tokio::test]
#[ignore = "needs Elasticsearch: tests/services.sh"]
async fn compressed_requests_are_understood() {
    for place in places_by("gzip", Compression::Gzip).await {
        place.create_and_switch().await;
        let batches = vec![vec![document("1", 5, Some(&json!({"id": 1})))]];
        let (result, letters, _) = place.write(batches).await;
        result.unwrap();
        assert_eq!(letters, []);
        place.search().refresh().await.unwrap();
        assert_eq!(place.found(json!({"match_all": {}})).await, ["1"]);
        place.clean().await;
    }
}

#[tokio::test]
#[ignore = "needs Elasticsearch: tests/services.sh"]
async fn a_document_of_a_later_generation_ends_the_sink() {
    for place in places("zombie").await {
        place.create_and_switch().await;
        let mut later = document("1", 5, Some(&json!({"id": 1})));
        later.version = SnapshotVersion::of(2, &"5:5:".parse().unwrap());
        let batches = vec![vec![later], vec![document("1", 9, Some(&json!({"id": 1})))]];
        let (result, _, _) = place.write(batches).await;
        assert!(matches!(result, Err(SinkError::Superseded { ours: 1, stored: 2, .. })));
        place.clean().await;
    }
}

#[tokio::test]
#[ignore = "needs Elasticsearch: tests/services.sh"]
async fn an_index_deleted_by_hand_is_not_made_again_by_writes_or_deletes() {
    for place in places("alias").await {
        let body = json!({"id": 1});
        let alone = vec![document("1", 5, None)];
        let mixed = vec![document("1", 5, None), document("2", 5, Some(&body))];
        for documents in [alone, mixed] {
            let concrete = place.create_and_switch().await;
            place.indexes.delete_index(&concrete).await.unwrap();
            let (result, _, _) = place.write(vec![documents]).await;
            assert!(matches!(result, Err(SinkError::AliasGone { .. })), "{result:?}");
            assert!(!place.indexes.exists(&place.names.write).await.unwrap());
        }
        place.clean().await;
    }
}

#[tokio::test]
#[ignore = "needs Elasticsearch: tests/services.sh"]
async fn the_public_name_goes_from_a_concrete_index_to_ours_and_on_to_the_next() {
    for place in places("switch").await {
        let public = place.names.public.clone();
        let foreign = format!("/{public}");
        place.client.call(Method::PUT, &foreign, None).await.unwrap();
        assert_eq!(place.indexes.standing_of(&public).await.unwrap(), NameStanding::Concrete);

        let first = place.create().await;
        place.indexes.point_write_alias(&place.names, &first).await.unwrap();
        let (result, _, _) =
            place.write(vec![vec![document("1", 5, Some(&json!({"id": 1})))]]).await;
        result.unwrap();
        place.indexes.finish_load(&first, &place.tree).await.unwrap();
        assert_eq!(place.indexes.switch(&place.names, &first).await.unwrap(), Vec::<String>::new());
        assert_eq!(place.indexes.count(&public).await.unwrap(), 1);
        let settings = place.get(&format!("/{first}/_settings")).await;
        let index = &settings[&first]["settings"]["index"];
        assert_eq!(index["number_of_replicas"], "1", "restored to the default");
        assert_eq!(index.get("refresh_interval"), None, "restored to the default");

        let second = place.create().await;
        assert_ne!(first, second);
        let old = place.indexes.switch(&place.names, &second).await.unwrap();
        assert_eq!(old, [first.as_str()]);
        for alias in [&place.names.public, &place.names.write] {
            let concrete = place.indexes.concrete_of(alias).await.unwrap();
            assert_eq!(concrete.as_deref(), Some(second.as_str()));
        }
        let concretes = place.indexes.concretes(&place.names).await.unwrap();
        assert_eq!(concretes, [first.as_str(), second.as_str()]);
        place.indexes.delete_index(&first).await.unwrap();
        place.indexes.delete_index(&first).await.unwrap();
        place.clean().await;
    }
}

#[tokio::test]
#[ignore = "needs Elasticsearch: tests/services.sh"]
async fn the_generation_is_kept_beside_other_notes() {
    for place in places("notes").await {
        let concrete = place.create().await;
        assert_eq!(place.indexes.read_generation(&concrete).await.unwrap(), Some(1));
        place.indexes.write_generation(&concrete, 7).await.unwrap();
        assert_eq!(place.indexes.read_generation(&concrete).await.unwrap(), Some(7));
        let mapping = place.get(&format!("/{concrete}/_mapping")).await;
        assert_eq!(mapping[&concrete]["mappings"]["_meta"]["pgsyncd"]["schema"], "digest");
        assert_eq!(mapping[&concrete]["mappings"]["properties"]["id"]["type"], "long");
        place.clean().await;
    }
}

#[tokio::test]
#[ignore = "needs Elasticsearch: tests/services.sh"]
async fn what_the_server_has_against_an_index_is_told_in_its_words() {
    for mut place in places("refused").await {
        let transform = &mut place.tree.nodes[0].transform;
        transform.mapping.insert("title".into(), json!({"type": "no_such_type"}));
        let creation =
            Creation { generation: 1, fields: FieldMapping::FromColumns, at: SystemTime::now() };
        let error = place.indexes.create(&place.tree, &place.names, &creation).await.unwrap_err();
        assert!(matches!(&error, SinkError::IndexRefused { .. }), "{error}");
        assert!(error.to_string().contains("no_such_type"), "{error}");
        place.clean().await;
    }
}

#[tokio::test]
#[ignore = "needs Elasticsearch: tests/services.sh"]
async fn a_missing_pipeline_ends_the_sink_instead_of_rejecting_every_document() {
    for place in places("pipeline").await {
        place.create_and_switch().await;
        let (keeper, _requests) = DeadLetterKeeper::new(1);
        let mut target = Target::new(EntryId(0), &place.tree, &place.names);
        target.pipeline = Some("no-such-pipeline".into());
        let progress = Arc::new(SinkProgress::default());
        let client = place.client.clone();
        let sink = Sink::new(client, vec![target], SinkOptions::default(), keeper, progress);
        let (input, received) = mpsc::channel(1);
        let (sender, _output) = mpsc::channel(1);
        let receipt = Receipt { job: Job::Round(1), part: 0 };
        let documents = vec![document("1", 5, Some(&json!({"id": 1})))];
        let batch =
            DocumentBatch { entry: EntryId(0), receipt, batches: Some(1), documents, ambiguous: 0 };
        input.send(batch).await.unwrap();
        // A cluster without ingest nodes (embedded OpenSearch) cannot tell, and is asked for ever.
        let nodes = place.get("/_nodes/ingest:true").await;
        if nodes["nodes"].as_object().is_none_or(serde_json::Map::is_empty) {
            place.clean().await;
            continue;
        }
        let result = timeout(PATIENCE, sink.run(received, sender)).await.unwrap();
        assert!(matches!(result, Err(SinkError::PipelineMissing { .. })), "{result:?}");
        place.clean().await;
    }
}

#[tokio::test]
#[ignore = "needs Elasticsearch: tests/services.sh"]
async fn rows_are_found_by_meta_and_ids_come_in_pages() {
    for place in places("holders").await {
        place.create_and_switch().await;
        let body = |number: usize| {
            let part = (number % 7).to_string();
            json!({"id": number, "_meta": {"book": {"id": [number.to_string()]}, "other": {"x": [part]}}})
        };
        let documents: Vec<Document> = (0..20_050)
            .map(|number| document(&number.to_string(), 5, Some(&body(number))))
            .collect();
        let batches = documents.chunks(5000).map(<[Document]>::to_vec).collect();
        let (result, _, progress) = place.write(batches).await;
        result.unwrap();
        assert_eq!(progress.get(Counter::Written), 20_050);
        let mut search = place.search();
        search.refresh().await.unwrap();
        assert_eq!(ids_of(search.all_ids()).await.len(), 20_050);
        let columns =
            vec![("id".to_owned(), vec!["17".to_owned(), "4".to_owned(), "no".to_owned()])];
        assert_eq!(ids_of(search.holders("book", columns)).await, ["17", "4"]);
        let table = search.ids_with_table("book", &["id".to_owned()]);
        assert_eq!(ids_of(table).await.len(), 20_050);
        assert!(ids_of(search.ids_with_table("other", &["x".to_owned()])).await.is_empty());
        let many = (0..70_000).map(|number| number.to_string()).collect();
        let found = ids_of(search.holders("book", vec![("id".to_owned(), many)])).await;
        assert_eq!(found.len(), 20_050);
        let contexts = place
            .get("/_nodes/stats/indices/search?filter_path=nodes.*.indices.search.open_contexts")
            .await;
        let open =
            contexts.pointer("/nodes").unwrap().as_object().unwrap().values().next().unwrap();
        assert_eq!(open["indices"]["search"]["open_contexts"], 0);
        place.clean().await;
    }
}
