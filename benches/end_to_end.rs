//! First figures, end to end: the program itself between a real PostgreSQL and a real Elasticsearch.
//!
//! Measures the documents per second of a first load of orders with three items each, against plain
//! `_bulk` requests with the very same documents, and the milliseconds from a confirmed commit until
//! a read by id shows the change. `benches/run.sh` brings the servers up and runs this.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a failed step ends the measurement, and its result is what is printed"
)]

use std::fs::{self, File};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, TryStreamExt as _};
use reqwest::{Client as Http, Method};
use serde_json::{Value as Json, json};
use tempfile::TempDir;
use tokio_postgres::{Client as Postgres, NoTls};

/// Items of each order.
const ITEMS: usize = 3;
/// Requests under way at once in the comparison.
const PLAIN_CONNECTIONS: usize = 3;
/// Documents in one request of the comparison.
const PLAIN_CHUNK: usize = 1000;
/// Far above what a load takes: one that hangs is a failure.
const LOAD_LIMIT: Duration = Duration::from_mins(10);
/// Far above what a change takes.
const CHANGE_LIMIT: Duration = Duration::from_secs(10);
/// Between two changes, so that each meets an idle system.
const IDLE: Duration = Duration::from_millis(30);
/// Between two reads of the document that is waited for.
const POLL: Duration = Duration::from_millis(1);
const DATABASE: &str = "pgsyncd_bench";

type Failure = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let sizes = Sizes { orders: size("ORDERS", 100_000)?, changes: size("CHANGES", 300)? };
    let servers = Servers::from_environment()?;
    let http = Http::builder().no_proxy().build()?;
    let elastic = Elastic { http, url: servers.elasticsearch.clone() };
    let admin = connect(&servers.postgres, None).await?;
    let postgres = fill(&admin, &servers, &sizes).await?;

    println!("{}", servers.described(&postgres, &elastic).await?);
    let cold = Service::load(&servers, &elastic, 1, &sizes).await?;
    let bodies = elastic.bodies_of(&cold.index).await?;
    let bytes: usize = bodies.iter().map(String::len).sum();
    let cold_took = cold.stop()?;
    let plain = elastic.write_plainly("bench-orders-1", &bodies).await?;
    drop(bodies);
    let warm = Service::load(&servers, &elastic, 2, &sizes).await?;
    let changes = measure_changes(&postgres, &elastic, &warm.index, &sizes).await?;
    let memory = warm.peak_memory()?;
    let warm_took = warm.stop()?;

    print_loads(&sizes, bytes, cold_took, warm_took, plain);
    println!("Peak memory of pgsyncd: {} MB", memory / 1024);
    print_changes(&changes);
    drop(postgres);
    clean(&admin, &elastic).await
}

struct Sizes {
    orders: usize,
    changes: usize,
}

/// A number from the environment: `PGSYNCD_BENCH_ORDERS`, `PGSYNCD_BENCH_CHANGES`.
fn size(name: &str, default: usize) -> Result<usize, Failure> {
    match std::env::var(format!("PGSYNCD_BENCH_{name}")) {
        Ok(text) => Ok(text.parse()?),
        Err(_) => Ok(default),
    }
}

// ---------------------------------------------------------------- servers

struct Servers {
    postgres: String,
    elasticsearch: String,
}

impl Servers {
    fn from_environment() -> Result<Self, Failure> {
        let variable = |name: &str| {
            std::env::var(name).map_err(|error| format!("{name}: {error}, run benches/run.sh"))
        };
        Ok(Self {
            postgres: variable("PGSYNCD_TEST_POSTGRES_URL")?,
            elasticsearch: variable("PGSYNCD_TEST_ELASTICSEARCH_URL")?,
        })
    }

    async fn described(&self, postgres: &Postgres, elastic: &Elastic) -> Result<String, Failure> {
        let row = postgres.query_one("SELECT current_setting('server_version')", &[]).await?;
        let version: String = row.get(0);
        let cores = std::thread::available_parallelism()?;
        let server = elastic.ask(Method::GET, "/", None).await?;
        let elastic = server["version"]["number"].as_str().unwrap_or("?").to_owned();
        Ok(format!("PostgreSQL {version}, Elasticsearch {elastic}, {cores} cores for everything\n"))
    }
}

async fn connect(url: &str, database: Option<&str>) -> Result<Postgres, Failure> {
    let mut config: tokio_postgres::Config = url.parse()?;
    if let Some(database) = database {
        config.dbname(database);
    }
    let (client, connection) = config.connect(NoTls).await?;
    #[expect(clippy::disallowed_methods, reason = "the driver of the connection")]
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            println!("the connection to PostgreSQL ended: {error}");
        }
    });
    Ok(client)
}

/// Makes the tables of the shop and fills them: every product is in three orders.
async fn fill(admin: &Postgres, servers: &Servers, sizes: &Sizes) -> Result<Postgres, Failure> {
    admin.batch_execute(&format!("DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)")).await?;
    admin.batch_execute(&format!("CREATE DATABASE {DATABASE}")).await?;
    let postgres = connect(&servers.postgres, Some(DATABASE)).await?;
    postgres.batch_execute(include_str!("../examples/shop/tables.sql")).await?;
    let Sizes { orders, .. } = sizes;
    let items = orders * ITEMS;
    postgres
        .batch_execute(&format!(
            "TRUNCATE customer, product, orders, item;
             INSERT INTO customer SELECT n, 'Customer ' || n, 'customer' || n || '@example.org'
               FROM generate_series(1, 10000) n;
             INSERT INTO product SELECT n, 'SKU-' || n, 'Product number ' || n
               FROM generate_series(1, {orders}) n;
             INSERT INTO orders SELECT n, n % 10000 + 1, 'paid', timestamptz '2024-01-01' + n * interval '1 minute'
               FROM generate_series(1, {orders}) n;
             INSERT INTO item SELECT n, (n - 1) / {ITEMS} + 1, n % {orders} + 1, n % 9 + 1, (n % 1000) / 10.0
               FROM generate_series(1, {items}) n;
             ANALYZE"
        ))
        .await?;
    postgres.batch_execute("CHECKPOINT").await?;
    Ok(postgres)
}

async fn clean(admin: &Postgres, elastic: &Elastic) -> Result<(), Failure> {
    let slots = format!(
        "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = '{DATABASE}'"
    );
    admin.batch_execute(&slots).await?;
    admin.batch_execute(&format!("DROP DATABASE {DATABASE} WITH (FORCE)")).await?;
    elastic.ask(Method::DELETE, "/bench-orders-*", None).await?;
    Ok(())
}

// ---------------------------------------------------------------- pgsyncd

/// The program at work.
struct Service {
    child: Child,
    index: String,
    took: Duration,
    directory: TempDir,
}

impl Service {
    /// Starts it, and waits until the first load is done and it follows the WAL.
    async fn load(
        servers: &Servers,
        elastic: &Elastic,
        number: usize,
        sizes: &Sizes,
    ) -> Result<Self, Failure> {
        let index = format!("bench-orders-{number}");
        let directory = TempDir::new()?;
        let schema = include_str!("../examples/shop/schema.json");
        let schema = schema.replace("\"index\": \"orders\"", &format!("\"index\": \"{index}\""));
        fs::write(directory.path().join("schema.json"), schema)?;
        let mut url: url::Url = servers.postgres.parse()?;
        url.set_path(DATABASE);
        let address = free_address()?;
        let log = File::create(directory.path().join("log"))?;

        let began = Instant::now();
        let child = Command::new(env!("CARGO_BIN_EXE_pgsyncd"))
            .current_dir(directory.path())
            .env_clear()
            .env("SCHEMA", "schema.json")
            .env("PG_URL", url.as_str())
            .env("ELASTICSEARCH_URL", &servers.elasticsearch)
            .env("CHECKPOINT_PATH", directory.path())
            .env("PGSYNCD_NAME", format!("bench{number}"))
            .env("PGSYNCD_HTTP_ADDR", &address)
            .stdout(Stdio::from(log.try_clone()?))
            .stderr(Stdio::from(log))
            .spawn()?;
        let mut service = Self { child, index, took: Duration::ZERO, directory };
        while !elastic.answers_ok(&format!("http://{address}/ready")).await {
            if service.child.try_wait()?.is_some() || began.elapsed() > LOAD_LIMIT {
                let log = fs::read_to_string(service.directory.path().join("log"))?;
                service.child.kill()?;
                return Err(format!("the load did not end:\n{log}").into());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        service.took = began.elapsed();
        let found = elastic.count(&service.index).await?;
        if found != sizes.orders {
            return Err(format!("{found} documents instead of {}", sizes.orders).into());
        }
        Ok(service)
    }

    /// In kB.
    fn peak_memory(&self) -> Result<usize, Failure> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        Ok(line.unwrap_or("0 kB").trim().trim_end_matches(" kB").parse()?)
    }

    /// Ends it; returns how long the load took.
    fn stop(mut self) -> Result<Duration, Failure> {
        Command::new("kill").arg(self.child.id().to_string()).status()?;
        let ended = self.child.wait()?;
        if ended.success() {
            Ok(self.took)
        } else {
            Err(format!("pgsyncd ended with {ended}").into())
        }
    }
}

fn free_address() -> Result<String, Failure> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    Ok(listener.local_addr()?.to_string())
}

// ---------------------------------------------------------------- Elasticsearch

struct Elastic {
    http: Http,
    url: String,
}

impl Elastic {
    async fn ask(&self, method: Method, path: &str, body: Option<Json>) -> Result<Json, Failure> {
        let request = self.http.request(method, format!("{}{path}", self.url));
        let request = match body {
            Some(body) => request.json(&body),
            None => request,
        };
        Ok(request.send().await?.error_for_status()?.json().await?)
    }

    async fn answers_ok(&self, url: &str) -> bool {
        self.http.get(url).send().await.is_ok_and(|answer| answer.status().is_success())
    }

    async fn count(&self, index: &str) -> Result<usize, Failure> {
        self.ask(Method::POST, &format!("/{index}/_refresh"), None).await?;
        let answer = self.ask(Method::GET, &format!("/{index}/_count"), None).await?;
        Ok(usize::try_from(answer["count"].as_u64().unwrap_or(0))?)
    }

    /// All documents of the index as bodies of bulk requests.
    async fn bodies_of(&self, index: &str) -> Result<Vec<String>, Failure> {
        let mut bodies = Vec::new();
        let first = json!({"size": PLAIN_CHUNK, "sort": ["_doc"]});
        let mut page =
            self.ask(Method::POST, &format!("/{index}/_search?scroll=1m"), Some(first)).await?;
        loop {
            let hits = page["hits"]["hits"].as_array().cloned().unwrap_or_default();
            if hits.is_empty() {
                return Ok(bodies);
            }
            let lines = hits.iter().map(|hit| {
                format!("{}\n{}\n", json!({"index": {"_id": hit["_id"]}}), hit["_source"])
            });
            bodies.push(lines.collect());
            let next = json!({"scroll": "1m", "scroll_id": page["_scroll_id"]});
            page = self.ask(Method::POST, "/_search/scroll", Some(next)).await?;
        }
    }

    /// What is to be compared with: the same documents into an index of the same mapping and the
    /// settings of a load, by a client that does nothing else.
    async fn write_plainly(&self, like: &str, bodies: &[String]) -> Result<Duration, Failure> {
        let mappings = self.ask(Method::GET, &format!("/{like}/_mapping"), None).await?;
        let mappings = mappings.as_object().and_then(|all| all.values().next().cloned());
        let index = "bench-orders-plain";
        let mut body = mappings.unwrap_or_default();
        body["settings"] = json!({"index": {"refresh_interval": "-1", "number_of_replicas": 0}});
        self.ask(Method::PUT, &format!("/{index}"), Some(body)).await?;

        let url = format!("{}/{index}/_bulk", self.url);
        let began = Instant::now();
        futures_util::stream::iter(bodies)
            .map(|body| self.write_one(&url, body))
            .buffer_unordered(PLAIN_CONNECTIONS)
            .try_collect::<Vec<()>>()
            .await?;
        Ok(began.elapsed())
    }

    async fn write_one(&self, url: &str, body: &str) -> Result<(), Failure> {
        let request = self.http.post(url).header("content-type", "application/x-ndjson");
        let answer = request.body(body.to_owned()).send().await?.error_for_status()?;
        let answer: Json = answer.json().await?;
        if answer["errors"] == json!(false) { Ok(()) } else { Err("a plain write failed".into()) }
    }
}

// ---------------------------------------------------------------- changes

/// A kind of change, and how long each took.
struct Changes {
    what: &'static str,
    took: Vec<Duration>,
}

/// Single-row updates, one after the other: of the order, of an item, of an item's product. The replica
/// identity of items is their key alone, so the order they were in is searched for in the index.
async fn measure_changes(
    postgres: &Postgres,
    elastic: &Elastic,
    index: &str,
    sizes: &Sizes,
) -> Result<Vec<Changes>, Failure> {
    let mut kinds = ["root row", "child row, searched for", "grandchild row, in 3 documents"]
        .map(|what| Changes { what, took: Vec::new() });
    for number in 0..sizes.changes {
        // Far apart, and each order once.
        let order = number * (sizes.orders / sizes.changes.max(1)).max(1) + 1;
        let kind = number % kinds.len();
        let (statement, sign) = change(kind, number, order);
        let path = format!("{index}/_source/{order}");
        let took = time_change(postgres, elastic, &statement, (&path, &sign)).await;
        let took = took.map_err(|error| format!("{statement}: {error}"))?;
        kinds.get_mut(kind).unwrap().took.push(took);
        tokio::time::sleep(IDLE).await;
    }
    Ok(kinds.into())
}

/// The statement, and the text by which the document shows that it knows.
fn change(kind: usize, number: usize, order: usize) -> (String, String) {
    let item = (order - 1) * ITEMS + 1;
    match kind {
        0 => {
            let time = format!("{:02}:{:02}", number / 60, number % 60);
            let statement = format!(
                "UPDATE orders SET placed_at = '2030-01-01 00:{time}+00' WHERE id = {order}"
            );
            (statement, format!("2030-01-01T00:{time}"))
        }
        1 => {
            let quantity = 1_000_000 + number;
            let statement = format!("UPDATE item SET quantity = {quantity} WHERE id = {item}");
            (statement, quantity.to_string())
        }
        _ => {
            let name = format!("changed {number}.");
            let product = format!("(SELECT product_id FROM item WHERE id = {item})");
            (format!("UPDATE product SET name = '{name}' WHERE id = {product}"), name)
        }
    }
}

/// From the server's confirmation of the commit until a read by id shows it.
async fn time_change(
    postgres: &Postgres,
    elastic: &Elastic,
    statement: &str,
    (path, sign): (&str, &str),
) -> Result<Duration, Failure> {
    let url = format!("{}/{path}", elastic.url);
    postgres.batch_execute(statement).await?;
    let began = Instant::now();
    loop {
        let text = elastic.http.get(&url).send().await?.text().await?;
        if text.contains(sign) {
            return Ok(began.elapsed());
        }
        if began.elapsed() > CHANGE_LIMIT {
            return Err(format!("not seen after {CHANGE_LIMIT:?}, the document is {text}").into());
        }
        tokio::time::sleep(POLL).await;
    }
}

// ---------------------------------------------------------------- printing

fn print_loads(sizes: &Sizes, bytes: usize, cold: Duration, warm: Duration, plain: Duration) {
    let Sizes { orders, .. } = sizes;
    println!("{orders} orders with {ITEMS} items each, {} bytes a document\n", bytes / orders);
    println!("| | seconds | documents/s | ÷ plain `_bulk` |");
    println!("|---|---|---|---|");
    let rows = [
        ("first load, Elasticsearch just started", cold),
        ("first load, Elasticsearch warm", warm),
        ("the same bodies by plain `_bulk`, 3 connections", plain),
    ];
    for (what, took) in rows {
        let seconds = took.as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
        let rate = *orders as f64 / seconds;
        let ratio = plain.as_secs_f64() / seconds;
        println!("| {what} | {seconds:.2} | {rate:.0} | {ratio:.2} |");
    }
    println!();
}

fn print_changes(kinds: &[Changes]) {
    println!("\n| commit → readable by id, idle system | changes | p50 | p99 | most |");
    println!("|---|---|---|---|---|");
    let mut all = Vec::new();
    for Changes { what, took } in kinds {
        print_quantiles(what, took.clone());
        all.extend(took);
    }
    print_quantiles("all", all);
}

fn print_quantiles(what: &str, mut took: Vec<Duration>) {
    took.sort_unstable();
    let at = |percent: usize| {
        let position = (took.len() * percent / 100).min(took.len().saturating_sub(1));
        took.get(position).map_or(0.0, |took| took.as_secs_f64() * 1000.0)
    };
    let (half, most, last) = (at(50), at(99), at(100));
    println!("| {what} | {} | {half:.1} ms | {most:.1} ms | {last:.1} ms |", took.len());
}
