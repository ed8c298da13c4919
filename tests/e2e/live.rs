//! Changes of every kind on every table of a tree reach the documents that hold the row, and those that
//! held it.

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use crate::harness::servers::block_on;
use crate::harness::{Site, json};
use crate::library::{NAMES, ROWS, SCHEMA, TABLES, THROUGH_KEYS, identity};

/// What is done, and the statements.
const STEPS: &[(&str, &str)] = &[
    ("a root row appears", "insert into book values (4, 'Four', 1)"),
    ("a root row changes", "update book set title = 'Uno' where id = 1"),
    ("a root row gets another key", "update book set id = 5 where id = 3"),
    ("a root row goes", "delete from book where id = 4"),
    ("the root points to another row", "update book set publisher_id = 3 where id = 1"),
    ("the root points to nothing", "update book set publisher_id = null where id = 2"),
    ("the root points to a row that is not there", "update book set publisher_id = 9 where id = 2"),
    ("that row appears", "insert into publisher values (9, 'Late', 1)"),
    ("a row the root points to changes", "update publisher set name = 'Later' where id = 9"),
    ("it points elsewhere itself", "update publisher set city_id = 2 where id = 9"),
    ("the row behind it changes", "update city set name = 'Bergen' where id = 2"),
    ("the row behind it goes", "delete from city where id = 2"),
    ("the row the root points to goes", "delete from publisher where id = 9"),
    ("a child appears", "insert into chapter values (4, 2, 'd')"),
    ("a child changes", "update chapter set title = 'A' where id = 1"),
    ("a child gets another key", "update chapter set id = 14 where id = 4"),
    ("a child moves to another root", "update chapter set book_id = 2 where id = 1"),
    ("a child leaves its root", "update chapter set book_id = null where id = 3"),
    ("a child goes", "delete from chapter where id = 14"),
    ("a grandchild appears", "insert into page values (5, 2, 'p5')"),
    ("a grandchild changes", "update page set body = 'P1' where id = 1"),
    ("a grandchild moves to another root", "update page set chapter_id = 2 where id = 1"),
    ("a grandchild goes", "delete from page where id = 2"),
    ("a child with its children moves", "update chapter set book_id = 2 where id = 2"),
    (
        "a child swaps with its children",
        "update page set chapter_id = 3 - chapter_id where chapter_id in (1, 2)",
    ),
    ("a link appears", "insert into book_tag values (2, 3)"),
    ("a link points elsewhere", "update book_tag set tag_id = 3 where book_id = 1 and tag_id = 1"),
    (
        "a link moves to another root",
        "update book_tag set book_id = 5 where book_id = 1 and tag_id = 2",
    ),
    ("a linked row changes", "update tag set name = 'azure' where id = 3"),
    ("a link goes", "delete from book_tag where book_id = 2 and tag_id = 2"),
    ("a linked row goes, and its links", "delete from tag where id = 3"),
    ("a row of the same table appears", "insert into shelf values (5, 'low', 4)"),
    ("a row of the same table moves", "update shelf set parent_id = 3 where id = 4"),
    ("a row of the same table changes", "update shelf set name = 'RIGHT' where id = 3"),
    ("a row is its own parent", "update shelf set parent_id = 2 where id = 2"),
    ("a row of the same table goes", "delete from shelf where id = 3"),
    (
        "much in one transaction",
        "begin; insert into book values (6, 'Six', 2); insert into chapter values (6, 6, 'f');
         insert into page values (6, 6, 'p6'); update chapter set book_id = 5 where id = 6;
         delete from book where id = 6; update publisher set name = 'S' where id = 2; commit",
    ),
    (
        "a root goes and comes again",
        "begin; delete from book where id = 1; insert into book values (1, 'New', 2); commit",
    ),
    ("grandchildren are truncated", "truncate page"),
    ("links and linked rows are truncated", "truncate tag cascade"),
    (
        "children are truncated and come again",
        "begin; truncate chapter; insert into chapter values (20, 1, 'z'); commit",
    ),
    ("roots are truncated", "truncate book, shelf cascade"),
    (
        "roots come again",
        "insert into book values (1, 'Again', 1); insert into shelf values (1, 'x', null)",
    ),
];

#[test]
#[ignore = "needs PostgreSQL, Elasticsearch and Redis: tests/services.sh up"]
fn every_change_reaches_its_documents_with_the_default_identity() {
    every_change("live_default", "default");
}

#[test]
#[ignore = "needs PostgreSQL, Elasticsearch and Redis: tests/services.sh up"]
fn every_change_reaches_its_documents_with_the_full_identity() {
    every_change("live_full", "full");
}

fn every_change(test: &str, kind: &str) {
    let site = Site::new(test, TABLES);
    site.run(&identity(kind));
    site.run(THROUGH_KEYS);
    site.run(ROWS);
    site.schema(SCHEMA);
    let service = site.service().start_ready();
    site.expect_library("after the first load");
    for (what, sql) in STEPS {
        site.run(sql);
        site.expect_library(what);
    }
    assert_eq!(service.status()["pipelines"][0]["restarts"], 0);
    service.stop();
}

#[test]
#[ignore = "needs PostgreSQL, Elasticsearch and Redis: tests/services.sh up"]
fn a_moved_child_is_taken_from_the_old_document_and_put_into_the_new_one() {
    let site = Site::new("live_move", TABLES);
    site.run(THROUGH_KEYS);
    site.run(ROWS);
    site.schema(SCHEMA);
    let _service = site.service().start_ready();
    site.run("update chapter set book_id = 3 where id = 1");
    let three = json(
        r#"{"id": 3, "title": "Three", "publisher": null, "tags": null,
            "chapters": [{"id": 1, "title": "a", "pages": ["p1", "p2"]}],
            "_meta": {"book": {"id": ["3"]}, "chapter": {"id": [1]}, "page": {"id": [1, 2]}}}"#,
    );
    let one = json(
        r#"{"id": 1, "title": "One", "publisher": {"name": "North", "city": "Oslo"},
            "chapters": [{"id": 2, "title": "b", "pages": ["p3"]}],
            "tags": [{"id": 1, "name": "red"}, {"id": 2, "name": "green"}],
            "_meta": {"book": {"id": ["1"]}, "publisher": {"id": [1]}, "city": {"id": [2]},
              "chapter": {"id": [2]}, "page": {"id": [3]}, "tag": {"id": [1, 2]},
              "book_tag": {"book_id": [1], "tag_id": [1, 2]}}}"#,
    );
    let two = json(
        r#"{"id": 2, "title": "Two", "publisher": {"name": "South", "city": "Rome"},
            "chapters": [{"id": 3, "title": "c", "pages": [null]}],
            "tags": [{"id": 2, "name": "green"}],
            "_meta": {"book": {"id": ["2"]}, "publisher": {"id": [2]}, "city": {"id": [1]},
              "chapter": {"id": [3]}, "page": {"id": [4]}, "tag": {"id": [2]},
              "book_tag": {"book_id": [2], "tag_id": [2]}}}"#,
    );
    let expected = [("1", one), ("2", two), ("3", three)];
    site.expect("books", &expected.into_iter().map(|(id, it)| (id.to_owned(), it)).collect());
}

#[test]
#[ignore = "needs PostgreSQL, Elasticsearch and Redis: tests/services.sh up"]
fn random_changes_from_three_sessions_leave_right_documents() {
    let site = Site::new("live_random", TABLES);
    // Half of the tables with each identity.
    for table in NAMES.iter().step_by(2) {
        site.run(&format!("alter table {table} replica identity full"));
    }
    site.run(
        "alter table book_tag add foreign key (book_id) references book on delete cascade,
            add foreign key (tag_id) references tag on delete cascade",
    );
    site.run(ROWS);
    site.schema(SCHEMA);
    let service = site.service().start_ready();
    std::thread::scope(|scope| {
        for seed in 1..=3 {
            let client = site.connect();
            scope.spawn(move || {
                let mut random = Random(seed);
                for _ in 0..150 {
                    try_to_run(&client, &random_change(&mut random));
                }
            });
        }
    });
    site.expect_library("after random changes");
    service.stop();
}

/// What sessions may do to each other is no failure.
fn try_to_run(client: &Client, sql: &str) {
    let Err(error) = block_on(client.batch_execute(sql)) else { return };
    let met = [SqlState::T_R_DEADLOCK_DETECTED, SqlState::FOREIGN_KEY_VIOLATION];
    assert!(error.code().is_some_and(|code| met.contains(code)), "{sql}: {error:?}");
}

/// A sequence that is the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        // Knuth's MMIX generator; its high bits are the good ones.
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// Keys up to 8, so that sessions meet.
fn random_change(random: &mut Random) -> String {
    let mut key = || random.below(8) + 1;
    let (a, b, c) = (key(), key(), key());
    let tables = [
        ("book", "title", "publisher_id"),
        ("chapter", "title", "book_id"),
        ("page", "body", "chapter_id"),
        ("publisher", "name", "city_id"),
        ("shelf", "name", "parent_id"),
    ];
    let (table, text, link) = tables[usize::try_from(random.below(5)).unwrap()];
    match random.below(12) {
        0..=3 => {
            let columns = format!("id, {text}, {link}");
            format!(
                "insert into {table} ({columns}) values ({a}, '{b}', {c}) on conflict (id) do update \
                 set {text} = excluded.{text}, {link} = excluded.{link}"
            )
        }
        4..=5 => format!("update {table} set {link} = {b} where id = {a}"),
        6 => format!("update {table} set {text} = '{b}' where {link} = {a}"),
        7 => format!("delete from {table} where id = {a} and {b} > 4"),
        8 => format!("update city set name = '{b}' where id = {a}"),
        9 => format!("insert into city values ({a}, '{b}') on conflict do nothing"),
        10 => format!(
            "insert into tag values ({a}, '{b}') on conflict (id) do update set name = '{c}'"
        ),
        _ => format!(
            "insert into book_tag select b.id, t.id from book b, tag t where b.id = {a} and t.id = {b} \
             on conflict do nothing"
        ),
    }
}
