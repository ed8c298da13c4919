//! Catalog, slots, publication, lock and preflight against a real PostgreSQL, each test in a database
//! of its own.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "a failed step fails the test"
)]

use std::sync::Arc;
use std::time::Duration;

use pgsyncd::postgres::lock::{Attempt, LockKey, LockLost, try_lock};
use pgsyncd::postgres::publication_query::{self, Outcome, PublicationError, read_publication};
use pgsyncd::postgres::server::{ServerFacts, read_server};
use pgsyncd::postgres::shape::{ShapeChange, changed_tables, unpublished_tables};
use pgsyncd::postgres::slot::{
    DropSlotError, Dropped, SlotName, SlotPrefix, drop_slot, find_slots, read_slot,
};
use pgsyncd::postgres::{Catalog, RelationId, ReplicaIdentity, Table, TableKind, load_catalog};
use pgsyncd::preflight::{Check, Findings, Names, Severity, preflight, published_tables};
use pgsyncd::schema::tree::{IndexName, RelationshipKind, Variant};
use pgsyncd::schema::{ColumnPair, Join, Link, Node, NodeId, SchemaTree};
use tokio_postgres::{Client, Config, NoTls};

/// A database of one test, and a role without rights.
struct Database {
    name: String,
    role: String,
    admin: Client,
}

fn config() -> Config {
    std::env::var("PGSYNCD_TEST_POSTGRES_URL").expect("a server").parse().unwrap()
}

#[expect(clippy::disallowed_methods, reason = "the driver of a connection")]
async fn connect(config: &Config) -> Client {
    let (client, connection) = config.connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute("set search_path = ''; set row_security = off").await.unwrap();
    client
}

impl Database {
    async fn new(test: &str, tables: &str) -> Self {
        let name = format!("pgsyncd_pf_{test}_{}", std::process::id());
        let role = format!("{name}_role");
        let server = connect(&config()).await;
        server.batch_execute(&format!("create database {name}")).await.unwrap();
        server.batch_execute(&format!("create role {role} login password 'x'")).await.unwrap();
        let admin = connect(config().dbname(&name)).await;
        admin.batch_execute(&format!("set search_path = public; {tables}")).await.unwrap();
        admin.batch_execute("set search_path = ''").await.unwrap();
        Self { name, role, admin }
    }

    /// A connection of the poor role.
    async fn poor(&self) -> Client {
        connect(config().dbname(&self.name).user(&self.role).password("x")).await
    }

    async fn run(&self, sql: &str) {
        let sql = sql.replace("@role", &self.role);
        self.admin.batch_execute(&sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }

    async fn catalog(&self) -> Catalog {
        load_catalog(&self.admin, None).await.unwrap()
    }

    async fn table(&self, name: &str) -> Arc<Table> {
        Arc::clone(self.catalog().await.table("public", name).expect(name))
    }

    async fn finish(self) {
        let Self { name, role, admin } = self;
        admin.batch_execute(&format!("drop owned by {role}")).await.unwrap();
        drop(admin);
        let server = connect(&config()).await;
        server.batch_execute(&format!("drop database {name} with (force)")).await.unwrap();
        server.batch_execute(&format!("drop role {role}")).await.unwrap();
    }
}

fn node(table: &Arc<Table>, link: Option<Link>) -> Node {
    Node {
        path: "$[0]".into(),
        table: Arc::clone(table),
        label: table.name.clone(),
        columns: vec![],
        key: table.primary_key.clone(),
        link,
        children: vec![],
        transform: pgsyncd::schema::tree::Transform::default(),
        base_tables: vec![],
    }
}

/// A root with children that join `parent.upper = child.lower`.
fn tree(root: &Arc<Table>, children: &[(&Arc<Table>, &str, &str)]) -> SchemaTree {
    let children = children.iter().map(|(table, upper, lower)| {
        let pair = ColumnPair { upper: (*upper).into(), lower: (*lower).into() };
        let link = Link {
            parent: NodeId::ROOT,
            kind: RelationshipKind::OneToMany,
            variant: Variant::Object,
            join: Join::Direct(vec![pair]),
        };
        node(table, Some(link))
    });
    let key =
        if root.primary_key.is_empty() { vec!["id".into()] } else { root.primary_key.clone() };
    SchemaTree {
        index: IndexName("books".into()),
        nodes: std::iter::once(node(root, None)).chain(children).collect(),
        key,
        filter: None,
        setting: None,
        mapping: None,
        pipeline: None,
        routing: None,
        plugins: vec![],
        meta: true,
        digest: String::new(),
        shape: String::new(),
    }
}

async fn check(client: &Client, trees: &[SchemaTree]) -> Findings {
    let server = read_server(client).await.unwrap();
    let slot = SlotPrefix::new("pf", &server.database);
    preflight(client, trees, &server, Names { publication: "pf", slot: &slot }).await.unwrap()
}

fn checks(findings: &Findings, severity: Severity) -> Vec<Check> {
    findings.iter().filter(|f| f.severity == severity).map(|f| f.check).collect()
}

async fn facts(client: &Client) -> ServerFacts {
    read_server(client).await.unwrap()
}

fn names<'a>(columns: impl IntoIterator<Item = &'a String>) -> Vec<&'a str> {
    columns.into_iter().map(String::as_str).collect()
}

const BOOKS: &str = "create table author (id int primary key, name text); \
    create table book (id int primary key, author int references author, title text);";

#[tokio::test]
#[ignore = "needs PostgreSQL: tests/services.sh"]
async fn the_catalog_describes_every_kind_of_table() {
    let db = Database::new(
        "catalog",
        r"create domain d1 as text; create domain d2 as d1; create type mood as enum ('a');
        create table a (gone int, x d2, id int, m mood, ms mood[], n numeric(9,2),
            g int generated always as (id * 2) stored, primary key (x, id) include (n));
        alter table a drop column gone;
        create table p (id int primary key, aid int, ax text,
            foreign key (ax, aid) references a (x, id)) partition by range (id);
        create table p1 partition of p for values from (0) to (10);
        create table p2 partition of p for values from (10) to (30) partition by range (id);
        create table p21 partition of p2 for values from (10) to (20);
        alter table p21 replica identity full;
        create table l (id int primary key, pid int references p) partition by range (id);
        create table l1 partition of l for values from (0) to (10);
        ",
    )
    .await;
    let catalog = db.catalog().await;
    let table = |name: &str| Arc::clone(catalog.table("public", name).expect(name));

    let a = table("a");
    assert_eq!(names(a.columns.iter().map(|c| &c.name)), ["x", "id", "m", "ms", "n", "g"]);
    assert_eq!(
        names(a.columns.iter().map(|c| &c.type_name)),
        ["text", "integer", "public.mood", "public.mood[]", "numeric", "integer"]
    );
    let categories: String = a.columns.iter().map(|c| c.type_category).collect();
    assert_eq!(categories, "SNEANN");
    assert_eq!(
        (names(&a.primary_key), names(&a.identity_columns)),
        (vec!["x", "id"], vec!["x", "id"])
    );
    assert!(a.column("g").unwrap().generated && a.column("id").unwrap().not_null);

    let p = table("p");
    assert_eq!(p.kind, TableKind::Partitioned);
    assert_eq!(names(p.leaves.iter().map(|l| &l.name)), ["public.p1", "public.p21"]);
    assert_eq!(p.leaves[1].identity, ReplicaIdentity::Full);
    assert_eq!(names(&p.leaves[0].identity_columns), ["id"]);
    for name in ["p", "p1", "p21"] {
        let keys = &table(name).foreign_keys;
        assert_eq!(keys.len(), 1, "{name}");
        assert_eq!((keys[0].target, names(&keys[0].columns)), (a.id, vec!["ax", "aid"]));
        assert_eq!(names(&keys[0].target_columns), ["x", "id"]);
    }
    for name in ["l", "l1"] {
        let keys = &table(name).foreign_keys;
        assert_eq!(keys.len(), 1, "{name}: the copies towards partitions of `p` are not declared");
        assert_eq!(keys[0].target, p.id);
    }

    let two = load_catalog(&db.admin, Some(&[a.id, RelationId(1)])).await.unwrap();
    assert_eq!(two.tables().count(), 1, "an oid that is gone is absent");
    assert_eq!(two.tables().next().unwrap(), &a);
    db.finish().await;
}

#[tokio::test]
#[ignore = "needs PostgreSQL: tests/services.sh"]
async fn the_catalog_knows_views_odd_names_and_useless_keys() {
    let db = Database::new(
        "odd",
        r#"create schema "Odd ""S";
        create table "Odd ""S"."T t" (id int primary key, e text not null unique);
        alter table "Odd ""S"."T t" replica identity using index "T t_e_key", enable row level security;
        create table late (id int primary key deferrable);
        create view v as select * from late; create materialized view mv as select 1 as one;
        create temporary table tmp (id int);"#,
    )
    .await;
    let catalog = db.catalog().await;
    let table = |name: &str| Arc::clone(catalog.table("public", name).expect(name));

    let odd = catalog.table("Odd \"S", "T t").unwrap();
    assert_eq!((odd.identity, names(&odd.identity_columns)), (ReplicaIdentity::Index, vec!["e"]));
    assert!(odd.row_security);
    assert_eq!(table("late").identity_columns, Vec::<String>::new(), "deferrable: no identity");
    assert_eq!(names(&table("late").primary_key), ["id"]);
    assert_eq!((table("v").kind, table("mv").kind), (TableKind::View, TableKind::MaterializedView));
    assert!(catalog.tables().all(|t| t.name != "tmp" && t.schema != "pg_catalog"));
    db.finish().await;
}

#[tokio::test]
#[ignore = "needs PostgreSQL: tests/services.sh"]
async fn ddl_that_sends_no_row_message_is_seen_in_the_catalog() {
    let db = Database::new(
        "shape",
        "create table p (id int primary key, a int) partition by range (id);
         create table p1 partition of p for values from (0) to (10);
         create table b (id int primary key, t text); create table c (id int primary key);",
    )
    .await;
    let old = [db.table("p").await, db.table("b").await, db.table("c").await];
    let ids: Vec<_> = old.iter().map(|table| table.id).collect();
    let look = async || changed_tables(&old, &load_catalog(&db.admin, Some(&ids)).await.unwrap());
    assert_eq!(look().await, []);

    db.run(
        "alter table public.p detach partition public.p1;
         create table public.p2 partition of public.p for values from (20) to (30);
         alter table public.b add column n int default 7, alter column t type varchar(5);
         drop table public.c",
    )
    .await;
    let changes: Vec<_> = look().await.into_iter().map(|change| change.changes).collect();
    assert_eq!(
        changes,
        [
            vec![
                ShapeChange::LeafRemoved("public.p1".into()),
                ShapeChange::LeafAdded("public.p2".into())
            ],
            vec![ShapeChange::ColumnType("t".into()), ShapeChange::ColumnAdded("n".into())],
            vec![ShapeChange::Dropped],
        ]
    );
    db.finish().await;
}

#[tokio::test]
#[ignore = "needs PostgreSQL: tests/services.sh"]
async fn a_role_without_rights_reads_the_server_facts() {
    let db = Database::new("facts", BOOKS).await;
    let poor = db.poor().await;
    let facts = facts(&poor).await;
    assert_eq!((&facts.role, &facts.database), (&db.role, &db.name));
    assert!(!facts.role_superuser && !facts.role_replication && !facts.in_recovery);
    assert!(facts.version_num >= 140_000 && facts.wal_insert >= facts.wal_flush);
    assert!(facts.wal_flush.0 > 0 && facts.max_replication_slots > 0);
    assert_eq!(facts.timeline, Some(1));
    assert!(facts.system_identifier.is_some());
    assert_eq!(facts.wal_level, "logical");
    assert!(facts.postmaster_started.ends_with('Z'), "{}", facts.postmaster_started);
    let again = read_server(&db.admin).await.unwrap();
    assert_eq!(again.postmaster_started, facts.postmaster_started);
    assert!(again.role_superuser && again.role_replication);

    db.run("revoke execute on function pg_control_system() from public").await;
    let facts = self::facts(&poor).await;
    assert_eq!(facts.system_identifier, None, "IDENTIFY_SYSTEM has to tell");
    assert_eq!(facts.identified_by(7, 9).system_identifier, Some(7));
    db.finish().await;
}

#[tokio::test]
#[ignore = "needs PostgreSQL: tests/services.sh"]
async fn a_slot_is_found_by_its_prefix_and_dropped() {
    let db = Database::new("slot", BOOKS).await;
    let prefix = SlotPrefix::new("svc", &db.name);
    let name = prefix.new_slot_name();
    let other = SlotPrefix::new("svc2", &db.name).new_slot_name();
    for name in [&name, &other] {
        let sql = format!("select pg_create_logical_replication_slot('{name}', 'pgoutput')");
        db.run(&sql).await;
    }
    let found = find_slots(&db.admin, &prefix).await.unwrap();
    assert_eq!(found.iter().map(|slot| &slot.name).collect::<Vec<_>>(), [&name]);
    assert_eq!((found[0].loss(), found[0].active_pid), (None, None));
    assert!(found[0].confirmed_flush.unwrap() >= found[0].restart_lsn.unwrap());
    assert!(found[0].wal_status.is_some() && found[0].catalog_xmin.is_some());
    let read = read_slot(&db.admin, &name).await.unwrap().unwrap();
    assert_eq!((&read.name, read.confirmed_flush), (&name, found[0].confirmed_flush));

    let denied = drop_slot(&db.poor().await, &name).await;
    assert!(matches!(denied, Err(DropSlotError::Denied { .. })), "{denied:?}");
    assert_eq!(drop_slot(&db.admin, &name).await.unwrap(), Dropped::Gone);
    assert_eq!(drop_slot(&db.admin, &name).await.unwrap(), Dropped::Absent);
    assert_eq!(drop_slot(&db.admin, &other).await.unwrap(), Dropped::Gone);
    assert!(read_slot(&db.admin, &SlotName::parse("none").unwrap()).await.unwrap().is_none());
    db.finish().await;
}

#[tokio::test]
#[ignore = "needs PostgreSQL: tests/services.sh"]
async fn the_publication_is_made_extended_and_left_alone() {
    let db = Database::new(
        "pub",
        "create table a (id int primary key); create table b (id int primary key, x int);
         create table p (id int primary key) partition by range (id);
         create table p1 partition of p for values from (0) to (10);
         create view v as select 1; create table bare (x int);",
    )
    .await;
    let (a, b, p, v, bare) = (
        db.table("a").await,
        db.table("b").await,
        db.table("p").await,
        db.table("v").await,
        db.table("bare").await,
    );
    let ensure = async |tables: &[&Arc<Table>]| {
        let tables: Vec<_> = tables.iter().map(|table| Arc::clone(table)).collect();
        publication_query::ensure(&db.admin, "Pub \"1", &tables).await
    };
    assert!(matches!(ensure(&[&bare]).await, Err(PublicationError::NoIdentity { .. })));
    assert_eq!(read_publication(&db.admin, "Pub \"1").await.unwrap(), None);
    assert_eq!(ensure(&[&a, &p, &v]).await.unwrap(), Outcome::Created);
    assert_eq!(ensure(&[&a, &p, &v]).await.unwrap(), Outcome::Fits);
    assert_eq!(
        ensure(&[&a, &b, &p]).await.unwrap(),
        Outcome::Extended(vec!["\"public\".\"b\"".into()])
    );
    let state = read_publication(&db.admin, "Pub \"1").await.unwrap().unwrap();
    assert!(state.via_root && state.truncate && state.owned && !state.all_tables);
    assert_eq!(names(state.tables.iter().map(|t| &t.name)), ["public.a", "public.b", "public.p"]);
    assert!(
        state.contains(&p) && unpublished_tables(&[Arc::clone(&bare)], Some(&state)).len() == 1
    );
    assert!(matches!(ensure(&[&a, &bare]).await, Err(PublicationError::NoIdentity { .. })));
    db.finish().await;
}

#[tokio::test]
#[ignore = "needs PostgreSQL: tests/services.sh"]
async fn the_remedy_of_an_unfit_publication_makes_it_fit() {
    let db = Database::new(
        "unfit",
        "create table a (id int primary key, x int); create table b (id int primary key, x int);
         create table p (id int primary key) partition by range (id);
         create table p1 partition of p for values from (0) to (10);",
    )
    .await;
    let tables = [db.table("a").await, db.table("b").await, db.table("p").await];
    let limits = facts(&db.admin).await.major() >= 15;
    let members = if limits {
        "public.a (id), public.b where (id > 5), public.p"
    } else {
        "public.a, public.p"
    };
    db.run(&format!("create publication u for table {members} with (publish = 'insert')")).await;
    let error = publication_query::ensure(&db.admin, "u", &tables).await.unwrap_err();
    let PublicationError::Unfit { problems, sql, .. } = error else { panic!("{error:?}") };
    assert_eq!(problems.len(), if limits { 4 } else { 3 }, "{problems:?}");
    db.run(&sql).await;
    assert_eq!(publication_query::ensure(&db.admin, "u", &tables).await.unwrap(), Outcome::Fits);

    db.run("create publication every for all tables with (publish_via_partition_root = true)")
        .await;
    assert_eq!(
        publication_query::ensure(&db.admin, "every", &tables).await.unwrap(),
        Outcome::Fits
    );
    if limits {
        let sql = "create publication s for tables in schema public \
             with (publish_via_partition_root = true)";
        db.run(sql).await;
        assert_eq!(
            publication_query::ensure(&db.admin, "s", &tables).await.unwrap(),
            Outcome::Fits
        );
    }
    db.finish().await;
}

#[tokio::test]
#[ignore = "needs PostgreSQL: tests/services.sh"]
async fn a_role_that_may_not_make_the_publication_gets_the_statement() {
    let db = Database::new("denied", BOOKS).await;
    let tables = [db.table("author").await, db.table("book").await];
    let poor = db.poor().await;
    let denied = async || {
        let error = publication_query::ensure(&poor, "d", &tables).await.unwrap_err();
        let PublicationError::Denied { sql, .. } = error else { panic!("{error:?}") };
        sql
    };
    denied().await;
    db.run(&format!("grant create on database {} to @role", db.name)).await;
    let sql = denied().await;
    db.run(&sql).await;
    assert_eq!(publication_query::ensure(&poor, "d", &tables).await.unwrap(), Outcome::Fits);
    db.run("alter publication d drop table public.book").await;
    let sql = denied().await;
    db.run(&sql).await;
    assert_eq!(publication_query::ensure(&poor, "d", &tables).await.unwrap(), Outcome::Fits);

    db.run("drop publication d; alter table public.author owner to @role").await;
    denied().await;
    db.run("alter table public.book owner to @role").await;
    assert_eq!(publication_query::ensure(&poor, "d", &tables).await.unwrap(), Outcome::Created);
    db.finish().await;
}

#[tokio::test]
#[ignore = "needs PostgreSQL: tests/services.sh"]
async fn the_lock_is_held_by_one_and_its_loss_is_noticed() {
    let db = Database::new("lock", BOOKS).await;
    let key = LockKey::new("svc", &db.name);
    let Attempt::Held(lock) = try_lock(db.poor().await, key).await.unwrap() else {
        panic!("it is free")
    };
    assert!(lock.still_held().await.unwrap());
    let second = try_lock(db.poor().await, key).await.unwrap();
    let Attempt::Taken { client, holder } = second else { panic!("it is taken") };
    let holder = holder.unwrap();
    assert_eq!(holder.role.as_deref(), Some(db.role.as_str()), "{holder}");

    db.run(&format!("select pg_terminate_backend({})", holder.pid)).await;
    let lost = tokio::time::timeout(Duration::from_secs(5), lock.lost()).await.unwrap();
    assert!(matches!(lost, LockLost::Closed), "{lost:?}");
    let Attempt::Held(lock) = try_lock(client, key).await.unwrap() else { panic!("it is free") };
    lock.client().batch_execute("select pg_advisory_unlock_all()").await.unwrap();
    let lost = tokio::time::timeout(Duration::from_secs(15), lock.lost()).await.unwrap();
    assert!(matches!(lost, LockLost::Released), "{lost:?}");
    drop(lock);
    db.finish().await;
}

#[tokio::test]
#[ignore = "needs PostgreSQL: tests/services.sh"]
async fn the_sql_of_the_findings_fixes_them_all() {
    let db = Database::new(
        "fixes",
        r#"create schema "S 2"; create table "S 2".root (id int primary key, x int);
        alter table "S 2".root enable row level security;
        create table bare (x int, root int); create unlogged table ul (id int primary key, root int);
        create table kept (id int primary key, root int);
        create table p (id int, root int) partition by range (id);
        create table p1 partition of p for values from (0) to (10);
        create unlogged table p2 partition of p for values from (10) to (20);
        revoke usage on schema public from public;"#,
    )
    .await;
    let read = async || {
        let catalog = db.catalog().await;
        let root = catalog.table("S 2", "root").unwrap();
        let table = |name: &str| catalog.table("public", name).unwrap();
        let children = ["bare", "ul", "kept", "p"].map(|name| (table(name), "id", "root"));
        [tree(root, &children)]
    };
    let poor = db.poor().await;
    let findings = check(&poor, &read().await).await;
    println!("{findings}");
    assert_eq!(
        checks(&findings, Severity::Error),
        [
            Check::Replication,
            Check::Usage,
            Check::Select,
            Check::RowSecurity,
            Check::Logged,
            Check::Logged,
            Check::Identity,
            Check::Identity,
            Check::Publication,
        ]
    );
    assert_eq!(
        checks(&findings, Severity::Warning),
        [Check::Identity, Check::Coverage, Check::Coverage]
    );

    // The publication last: it refuses unlogged tables.
    for finding in findings.iter().filter(|f| f.check != Check::Publication) {
        if let Some(sql) = &finding.sql {
            db.run(sql).await;
        }
    }
    let findings = check(&poor, &read().await).await;
    assert_eq!(checks(&findings, Severity::Error), [Check::Publication], "{findings}");
    db.run(findings.iter().next().unwrap().sql.as_ref().unwrap()).await;
    let findings = check(&poor, &read().await).await;
    assert!(!findings.has_errors(), "{findings}");
    assert_eq!(checks(&findings, Severity::Warning), [Check::Identity], "{findings}");
    let tables = published_tables(&read().await);
    assert_eq!(publication_query::ensure(&poor, "pf", &tables).await.unwrap(), Outcome::Fits);
    db.finish().await;
}

#[tokio::test]
#[ignore = "needs PostgreSQL: tests/services.sh"]
async fn an_owner_with_replication_needs_no_superuser() {
    let db = Database::new("owner", BOOKS).await;
    db.run("alter table public.author owner to @role; alter table public.book owner to @role")
        .await;
    db.run(&format!("alter role @role replication; grant create on database {} to @role", db.name))
        .await;
    let (author, book) = (db.table("author").await, db.table("book").await);
    let poor = db.poor().await;
    let trees = [tree(&book, &[(&author, "author", "id")])];
    let findings = check(&poor, &trees).await;
    assert!(findings.is_empty(), "{findings}");
    let made = publication_query::ensure(&poor, "pf", &published_tables(&trees)).await.unwrap();
    assert_eq!(made, Outcome::Created);
    poor.batch_execute("update public.book set title = 'x'").await.unwrap();
    db.finish().await;
}

#[tokio::test]
#[ignore = "needs PostgreSQL: tests/services.sh"]
async fn a_join_column_outside_the_identity_is_a_warning_with_its_line() {
    let db = Database::new("cover", BOOKS).await;
    let (author, book) = (db.table("author").await, db.table("book").await);
    let findings = check(&db.admin, &[tree(&author, &[(&book, "id", "author")])]).await;
    assert_eq!(checks(&findings, Severity::Warning), [Check::Coverage], "{findings}");
    let sql = findings.iter().next().unwrap().sql.clone().unwrap();
    assert_eq!(sql, "ALTER TABLE \"public\".\"book\" REPLICA IDENTITY FULL;");
    let mut blind = tree(&author, &[(&book, "id", "author")]);
    blind.meta = false;
    let findings = check(&db.admin, &[blind]).await;
    assert_eq!(checks(&findings, Severity::Error), [Check::Coverage], "{findings}");
    db.finish().await;
}

#[tokio::test]
#[ignore = "needs PostgreSQL: tests/services.sh"]
async fn an_old_root_row_that_does_not_name_its_document_is_an_error() {
    let db = Database::new(
        "rootkey",
        "create table r (id int primary key, mail text not null unique);
         alter table r replica identity using index r_mail_key;",
    )
    .await;
    let findings = check(&db.admin, &[tree(&db.table("r").await, &[])]).await;
    assert_eq!(checks(&findings, Severity::Error), [Check::Coverage], "{findings}");
    db.run(findings.iter().next().unwrap().sql.as_ref().unwrap()).await;
    assert!(check(&db.admin, &[tree(&db.table("r").await, &[])]).await.is_empty());
    db.finish().await;
}

#[tokio::test]
#[ignore = "needs PostgreSQL: tests/services.sh"]
async fn what_is_not_in_the_wal_under_its_name_is_refused() {
    let db = Database::new(
        "logged",
        "create table root (id int, x int);
         create foreign data wrapper f; create server s foreign data wrapper f;
         create foreign table ft (id int, root int) server s;
         create table parent (id int primary key, root int);
         create table heir () inherits (parent);
         create table p (id int primary key, root int) partition by range (id);
         create table p1 partition of p for values from (0) to (10);",
    )
    .await;
    db.run("alter table public.root replica identity full").await;
    let root = db.table("root").await;
    let (ft, parent, p1) = (db.table("ft").await, db.table("parent").await, db.table("p1").await);
    db.run("create publication pf for table public.p with (publish_via_partition_root = true)")
        .await;
    let children = [(&ft, "id", "root"), (&parent, "id", "root"), (&p1, "id", "root")];
    let findings = check(&db.admin, &[tree(&root, &children)]).await;
    println!("{findings}");
    assert_eq!(
        checks(&findings, Severity::Error),
        [Check::Logged, Check::Logged, Check::Logged],
        "{findings}"
    );
    assert_eq!(checks(&findings, Severity::Warning)[0], Check::RootKey);
    db.finish().await;
}

#[tokio::test]
#[ignore = "needs PostgreSQL: tests/services.sh"]
async fn a_view_is_published_by_its_base_tables() {
    let db = Database::new(
        "view",
        "create table author (id int primary key, name text); create view v as select * from author;
         create materialized view mv as select id, name as root from author;",
    )
    .await;
    let (author, v, mv) = (db.table("author").await, db.table("v").await, db.table("mv").await);
    let mut trees = [tree(&v, &[(&mv, "id", "root")])];
    trees[0].nodes[0].base_tables.push(Arc::clone(&author));
    assert_eq!(published_tables(&trees), [Arc::clone(&author)]);
    let findings = check(&db.admin, &trees).await;
    assert!(!findings.has_errors(), "{findings}");
    // One for the view, one for the materialised view.
    assert_eq!(checks(&findings, Severity::Warning), [Check::Logged; 2], "{findings}");
    let denied = check(&db.poor().await, &trees).await;
    let select = denied.iter().find(|f| f.check == Check::Select).unwrap();
    assert_eq!(select.sql.as_ref().unwrap().lines().count(), 3, "{select}");
    db.finish().await;
}

#[tokio::test]
#[ignore = "needs PostgreSQL: tests/services.sh"]
async fn generated_columns_do_not_break_the_application() {
    let db = Database::new(
        "generated",
        "create table s (id int primary key, a int, g int generated always as (a * 2) stored);
         alter table s replica identity full; insert into s values (1, 1);",
    )
    .await;
    let table = db.table("s").await;
    let trees = [tree(&table, &[])];
    publication_query::ensure(&db.admin, "pf", &[Arc::clone(&table)]).await.unwrap();
    db.run("update public.s set a = 2").await;
    if facts(&db.admin).await.major() >= 18 {
        db.run("alter publication pf set (publish_generated_columns = none)").await;
        assert!(db.admin.batch_execute("update public.s set a = 3").await.is_err());
        let findings = check(&db.admin, &trees).await;
        assert_eq!(checks(&findings, Severity::Error), [Check::Publication], "{findings}");
        db.run(findings.iter().next().unwrap().sql.as_ref().unwrap()).await;
        db.run("update public.s set a = 3").await;
        db.run("alter table public.s add column v int generated always as (a * 3) virtual").await;
        assert!(db.admin.batch_execute("update public.s set a = 4").await.is_err());
        let findings = check(&db.admin, &trees).await;
        assert_eq!(checks(&findings, Severity::Error), [Check::Identity], "{findings}");
        db.run(findings.iter().next().unwrap().sql.as_ref().unwrap()).await;
        db.run("update public.s set a = 4").await;
    }
    assert!(!check(&db.admin, &[tree(&db.table("s").await, &[])]).await.has_errors());
    db.finish().await;
}
