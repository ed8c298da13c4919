//! What one test has for itself: a database, index names with a prefix, a directory. Everything goes
//! when the test ends, also when it fails.

use std::cell::RefCell;
use std::path::Path;

use reqwest::Method;
use serde_json::{Value as Json, json};
use tempfile::TempDir;
use tokio_postgres::Client;
use url::Url;

use super::compare::{Documents, difference};
use super::servers::{address, block_on, connect, database_url, elasticsearch, run, texts};
use super::{ServiceBuilder, until};

/// Hits of one page of a scroll.
const PAGE: usize = 2000;
/// Lines of a log that a failed test shows.
const LOG_TAIL: usize = 60;

/// What one test has for itself.
pub(crate) struct Site {
    /// Name of the database, and what names of roles begin with.
    pub(crate) name: String,
    /// What index names begin with.
    pub(crate) prefix: String,
    directory: TempDir,
    sql: Client,
    admin: Client,
    databases: RefCell<Vec<String>>,
    roles: RefCell<Vec<String>>,
}

impl Site {
    /// A database with these tables. `test` is unique among all tests.
    pub(crate) fn new(test: &str, tables: &str) -> Self {
        let name = format!("e2e_{test}_{}", std::process::id());
        let admin = connect(&address("POSTGRES"));
        run(&admin, &format!("create database {name}"));
        let sql = connect(&database_url(&name));
        let site = Self {
            prefix: format!("{}-", name.replace('_', "-")),
            directory: TempDir::new().unwrap(),
            databases: RefCell::new(vec![name.clone()]),
            roles: RefCell::default(),
            name,
            sql,
            admin,
        };
        site.run(tables);
        site
    }

    /// One more database; the suffix of its name is `suffix`.
    pub(crate) fn add_database(&self, suffix: &str, tables: &str) -> String {
        let name = format!("{}_{suffix}", self.name);
        run(&self.admin, &format!("create database {name}"));
        self.databases.borrow_mut().push(name.clone());
        run(&connect(&database_url(&name)), tables);
        name
    }

    /// A role made by `create role NAME login ATTRIBUTES`, dropped with the site. Named as given if
    /// `pg_hba.conf` of the test server has lines for it.
    pub(crate) fn add_role(&self, role: &str, attributes: &str) {
        run(
            &self.admin,
            &format!("drop role if exists {role}; create role {role} login {attributes}"),
        );
        self.roles.borrow_mut().push(role.to_owned());
    }

    /// The directory the service runs in.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Address of the database.
    pub(crate) fn url(&self) -> Url {
        database_url(&self.name)
    }

    /// One more connection to the database.
    pub(crate) fn connect(&self) -> Client {
        connect(&self.url())
    }

    /// Runs statements in the database.
    pub(crate) fn run(&self, sql: &str) {
        run(&self.sql, sql);
    }

    /// The first column of all rows, as text.
    pub(crate) fn texts(&self, sql: &str) -> Vec<String> {
        texts(&self.sql, sql)
    }

    /// The name that an index of the schema has on the server.
    pub(crate) fn index(&self, index: &str) -> String {
        format!("{}{index}", self.prefix)
    }

    /// Writes the schema file, with the prefix before every `index`.
    pub(crate) fn schema(&self, text: &str) {
        let schema = self.prefixed(text, &self.prefix);
        self.write("schema.json", &schema);
    }

    /// The schema with a prefix before every `index`.
    pub(crate) fn prefixed(&self, text: &str, prefix: &str) -> String {
        let mut schema: Json = serde_json::from_str(text).unwrap();
        let entries = match &mut schema {
            Json::Array(entries) => entries.as_mut_slice(),
            entry => std::slice::from_mut(entry),
        };
        for entry in entries {
            let index = entry["index"].as_str().unwrap_or(&self.name).to_owned();
            entry["index"] = json!(format!("{prefix}{index}"));
        }
        schema.to_string()
    }

    /// Writes a file into the directory the service runs in.
    pub(crate) fn write(&self, file: &str, text: &str) {
        std::fs::write(self.directory().join(file), text).unwrap();
    }

    /// The schema file as it was written.
    pub(crate) fn schema_text(&self) -> String {
        std::fs::read_to_string(self.directory().join("schema.json")).unwrap()
    }

    /// The service, with settings for this site.
    pub(crate) fn service(&self) -> ServiceBuilder {
        ServiceBuilder::new(self.directory())
            .set("SCHEMA", "schema.json")
            .set("PG_URL", self.url())
            .set("ELASTICSEARCH_URL", address("ELASTICSEARCH"))
            .set("CHECKPOINT_PATH", self.directory().display())
    }

    /// All documents of an index of the schema; none if there is no such index.
    pub(crate) fn documents(&self, index: &str) -> Documents {
        all_documents(&self.index(index))
    }

    /// The document with its `_routing`, read past the search; `None` if there is none.
    pub(crate) fn document(&self, index: &str, id: &str) -> Option<Json> {
        self.documents(index).remove(id)
    }

    /// Waits until an index holds exactly these documents.
    pub(crate) fn expect(&self, index: &str, expected: &Documents) {
        until(&format!("the documents of {index}"), || {
            match difference(expected, &self.documents(index)) {
                same if same.is_empty() => Ok(()),
                difference => Err(difference),
            }
        });
    }

    /// The concrete indexes of this site, with their aliases.
    pub(crate) fn concretes(&self) -> Vec<(String, Vec<String>)> {
        let (_, found) = elasticsearch(Method::GET, &format!("/{}*/_alias", self.prefix), None);
        let Json::Object(found) = found else { return vec![] };
        let aliases = |index: &Json| {
            let aliases = index["aliases"].as_object();
            let mut names: Vec<String> =
                aliases.into_iter().flat_map(serde_json::Map::keys).cloned().collect();
            names.sort();
            names
        };
        let mut all: Vec<_> =
            found.iter().map(|(name, index)| (name.clone(), aliases(index))).collect();
        all.sort();
        all
    }

    /// Slots in the databases of this site.
    pub(crate) fn slots(&self) -> Vec<String> {
        let databases = self.databases.borrow().join("', '");
        let sql = format!(
            "select slot_name::text from pg_replication_slots where database in ('{databases}')"
        );
        texts(&self.admin, &sql)
    }

    /// Publications in the first database.
    pub(crate) fn publications(&self) -> Vec<String> {
        self.texts("select pubname::text from pg_publication order by 1")
    }

    /// Fails if the service left anything on the servers.
    pub(crate) fn assert_nothing_made(&self) {
        assert_eq!(self.slots(), Vec::<String>::new(), "slots");
        assert_eq!(self.publications(), Vec::<String>::new(), "publications");
        assert_eq!(self.concretes(), vec![], "indexes");
    }

    /// Drops the slots whose name begins so.
    pub(crate) fn drop_slots(&self, prefix: &str) {
        let sql = format!(
            "select pg_drop_replication_slot(slot_name)::text from pg_replication_slots \
             where database = '{}' and starts_with(slot_name, '{prefix}')",
            self.name
        );
        texts(&self.admin, &sql);
    }

    fn clean(&self) {
        let names = |(name, _): (String, _)| name;
        for index in self.concretes().into_iter().map(names) {
            elasticsearch(Method::DELETE, &format!("/{index}"), None);
        }
        let databases = self.databases.borrow();
        let list = databases.join("', '");
        for sql in [
            format!(
                "select pg_terminate_backend(pid) from pg_stat_activity where datname in ('{list}')"
            ),
            format!(
                "do $$ declare slot text; begin for slot in select slot_name from \
                 pg_replication_slots where database in ('{list}') loop for try in 1..100 loop begin \
                 perform pg_drop_replication_slot(slot); exit; exception when object_in_use then \
                 perform pg_sleep(0.05); end; end loop; end loop; end $$"
            ),
        ] {
            report(&sql, block_on(self.admin.batch_execute(&sql)));
        }
        let databases = databases.iter().map(|name| format!("drop database {name} with (force)"));
        let roles = self.roles.borrow();
        let roles = roles.iter().map(|role| format!("drop role {role}"));
        for sql in databases.chain(roles) {
            report(&sql, block_on(self.admin.batch_execute(&sql)));
        }
        if let Ok(url) = std::env::var("PGSYNCD_TEST_REDIS_URL") {
            report("redis", forget_checkpoints(&url, &self.name));
        }
    }

    fn show_logs(&self) {
        let mut logs: Vec<_> = std::fs::read_dir(self.directory())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|it| it == "log"))
            .collect();
        logs.sort();
        for log in logs {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            let lines: Vec<_> = text.lines().collect();
            let tail = &lines[lines.len().saturating_sub(LOG_TAIL)..];
            eprintln!("--- {}\n{}", log.display(), tail.join("\n"));
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.show_logs();
        }
        self.clean();
    }
}

fn report<T, E: std::fmt::Debug>(what: &str, result: Result<T, E>) {
    if let Err(error) = result {
        eprintln!("not cleaned: {what}: {error:?}");
    }
}

fn forget_checkpoints(url: &str, database: &str) -> redis::RedisResult<()> {
    use redis::Commands as _;
    let mut connection = redis::Client::open(url)?.get_connection()?;
    let keys: Vec<String> = connection.keys(format!("pgsyncd:*:{database}*"))?;
    for key in keys {
        let _: () = connection.del(key)?;
    }
    Ok(())
}

/// All documents of an index on the server; none if there is no such index.
pub(crate) fn all_documents(index: &str) -> Documents {
    elasticsearch(Method::POST, &format!("/{index}/_refresh"), None);
    let path = format!("/{index}/_search?scroll=1m");
    let body = json!({"size": PAGE, "sort": ["_doc"]});
    let (_, mut page) = elasticsearch(Method::POST, &path, Some(&body));
    let mut documents = Documents::new();
    while let Some(hits) = page["hits"]["hits"].as_array().filter(|hits| !hits.is_empty()) {
        for hit in hits {
            let id = hit["_id"].as_str().unwrap().to_owned();
            documents.insert(id, hit["_source"].clone());
        }
        let body = json!({"scroll": "1m", "scroll_id": page["_scroll_id"]});
        page = elasticsearch(Method::POST, "/_search/scroll", Some(&body)).1;
    }
    if let Some(scroll) = page["_scroll_id"].as_str() {
        elasticsearch(Method::DELETE, "/_search/scroll", Some(&json!({ "scroll_id": scroll })));
    }
    documents
}
