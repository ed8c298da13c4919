//! A library: tables with every kind of relation, its schema, and SQL that says what the documents must
//! be at this moment. No declared foreign keys, so that rows may come and go in any order.

use serde_json::Value as Json;
use tokio_postgres::Client;

use crate::harness::compare::difference;
use crate::harness::servers::block_on;
use crate::harness::{Documents, Site, until};

pub(crate) const TABLES: &str = "
    create table city (id int primary key, name text);
    create table publisher (id int primary key, name text, city_id int);
    create table book (id int primary key, title text, publisher_id int);
    create table chapter (id int primary key, book_id int, title text);
    create table page (id int primary key, chapter_id int, body text);
    create table tag (id int primary key, name text);
    create table book_tag (book_id int, tag_id int, primary key (book_id, tag_id));
    create table shelf (id int primary key, name text, parent_id int);
    create index on book (publisher_id);
    create index on chapter (book_id);
    create index on page (chapter_id);
    create index on book_tag (tag_id);
    create index on shelf (parent_id);";

/// Every table.
pub(crate) const NAMES: &[&str] =
    &["city", "publisher", "book", "chapter", "page", "tag", "book_tag", "shelf"];

/// A few rows of everything.
pub(crate) const ROWS: &str = "
    insert into city values (1, 'Rome'), (2, 'Oslo');
    insert into publisher values (1, 'North', 2), (2, 'South', 1), (3, 'Nowhere', null);
    insert into book values (1, 'One', 1), (2, 'Two', 2), (3, 'Three', null);
    insert into chapter values (1, 1, 'a'), (2, 1, 'b'), (3, 2, 'c');
    insert into page values (1, 1, 'p1'), (2, 1, 'p2'), (3, 2, 'p3'), (4, 3, null);
    insert into tag values (1, 'red'), (2, 'green'), (3, 'blue');
    insert into book_tag values (1, 1), (1, 2), (2, 2);
    insert into shelf values (1, 'top', null), (2, 'left', 1), (3, 'right', 1), (4, 'deep', 2);";

pub(crate) const SCHEMA: &str = r#"[
  {"index": "books", "nodes": {"table": "book", "columns": ["id", "title"], "children": [
    {"table": "publisher", "columns": ["name"],
     "relationship": {"type": "one_to_one", "variant": "object",
       "foreign_key": {"parent": ["publisher_id"], "child": ["id"]}},
     "children": [
       {"table": "city", "columns": ["name"],
        "relationship": {"type": "one_to_one", "variant": "scalar",
          "foreign_key": {"parent": ["city_id"], "child": ["id"]}}}]},
    {"table": "chapter", "label": "chapters", "columns": ["id", "title"],
     "relationship": {"type": "one_to_many", "variant": "object",
       "foreign_key": {"parent": ["id"], "child": ["book_id"]}},
     "children": [
       {"table": "page", "label": "pages", "columns": ["body"],
        "relationship": {"type": "one_to_many", "variant": "scalar",
          "foreign_key": {"parent": ["id"], "child": ["chapter_id"]}}}]},
    {"table": "tag", "label": "tags", "columns": ["id", "name"],
     "relationship": {"type": "one_to_many", "variant": "object", "through_tables": ["book_tag"]}}]}},
  {"index": "shelves", "nodes": {"table": "shelf", "columns": ["id", "name"], "children": [
    {"table": "shelf", "label": "boards", "columns": ["id", "name"],
     "relationship": {"type": "one_to_many", "variant": "object",
       "foreign_key": {"parent": ["id"], "child": ["parent_id"]}}}]}}
]"#;

/// A through table joins by declared keys.
pub(crate) const THROUGH_KEYS: &str = "
    alter table book_tag add foreign key (book_id) references book on delete cascade,
        add foreign key (tag_id) references tag on delete cascade;";

const BOOKS: &str = "
    select b.id::text, jsonb_build_object('id', b.id, 'title', b.title,
      'publisher', (select jsonb_build_object('name', p.name,
          'city', (select c.name from city c where c.id = p.city_id))
        from publisher p where p.id = b.publisher_id),
      'chapters', (select jsonb_agg(jsonb_build_object('id', c.id, 'title', c.title,
          'pages', (select jsonb_agg(p.body order by p.id) from page p where p.chapter_id = c.id))
        order by c.id) from chapter c where c.book_id = b.id),
      'tags', (select jsonb_agg(to_jsonb(t) order by t.id)
        from book_tag x join tag t on t.id = x.tag_id where x.book_id = b.id),
      '_meta', (select jsonb_object_agg(m.name, m.keys) from (values
        ('book', jsonb_build_object('id', jsonb_build_array(b.id::text))),
        ('publisher', (select jsonb_build_object('id', jsonb_build_array(p.id))
          from publisher p where p.id = b.publisher_id)),
        ('city', (select jsonb_build_object('id', jsonb_build_array(c.id))
          from publisher p join city c on c.id = p.city_id where p.id = b.publisher_id)),
        ('chapter', (select jsonb_build_object('id', jsonb_agg(c.id order by c.id))
          from chapter c where c.book_id = b.id having count(*) > 0)),
        ('page', (select jsonb_build_object('id', jsonb_agg(p.id order by p.id))
          from chapter c join page p on p.chapter_id = c.id where c.book_id = b.id
          having count(*) > 0)),
        ('tag', (select jsonb_build_object('id', jsonb_agg(t.id order by t.id))
          from book_tag x join tag t on t.id = x.tag_id where x.book_id = b.id
          having count(*) > 0)),
        ('book_tag', (select jsonb_build_object('book_id', jsonb_build_array(b.id),
            'tag_id', jsonb_agg(t.id order by t.id))
          from book_tag x join tag t on t.id = x.tag_id where x.book_id = b.id
          having count(*) > 0))
        ) m(name, keys) where m.keys is not null))::text
    from book b";

const SHELVES: &str = "
    select s.id::text, jsonb_build_object('id', s.id, 'name', s.name,
      'boards', (select jsonb_agg(jsonb_build_object('id', b.id, 'name', b.name) order by b.id)
        from shelf b where b.parent_id = s.id),
      '_meta', jsonb_build_object('shelf', jsonb_build_object('id', coalesce(
        (select jsonb_agg(b.id order by b.id) || jsonb_build_array(s.id::text)
         from shelf b where b.parent_id = s.id having count(*) > 0),
        jsonb_build_array(s.id::text)))))::text
    from shelf s";

/// The identity of every table.
pub(crate) fn identity(identity: &str) -> String {
    let lines =
        NAMES.iter().map(|table| format!("alter table {table} replica identity {identity};"));
    lines.collect()
}

/// Books with `chapters` chapters each, and as many pages; publishers, cities and tags among them.
pub(crate) fn many(books: u32, chapters: u32) -> String {
    format!(
        "insert into city select n, 'city ' || n from generate_series(1, 10) n;
         insert into publisher select n, 'publisher ' || n, n % 10 + 1 from generate_series(1, 50) n;
         insert into tag select n, 'tag ' || n from generate_series(1, 20) n;
         insert into book select n, 'book ' || n, n % 50 + 1 from generate_series(1, {books}) n;
         insert into chapter select n, (n - 1) / {chapters} + 1, 'chapter ' || n
             from generate_series(1, {books} * {chapters}) n;
         insert into page select n, n, 'page ' || n from generate_series(1, {books} * {chapters}) n;
         insert into book_tag select n, n % 20 + 1 from generate_series(1, {books}) n;
         analyze;"
    )
}

/// What the documents of an index must be at this moment.
pub(crate) fn expected(client: &Client, index: &str) -> Documents {
    let sql = if index == "books" { BOOKS } else { SHELVES };
    let rows = block_on(client.query(sql, &[])).unwrap();
    let document = |text: &str| serde_json::from_str(text).unwrap();
    rows.iter().map(|row| (row.get(0), document(row.get(1)))).collect()
}

impl Site {
    /// Waits until both indexes are what the tables say.
    pub(crate) fn expect_library(&self, what: &str) {
        let client = self.connect();
        for index in ["books", "shelves"] {
            let expected = with_keys_in_order(expected(&client, index));
            until(&format!("{what}: {index}"), || {
                match difference(&expected, &with_keys_in_order(self.documents(index))) {
                    same if same.is_empty() => Ok(()),
                    difference => Err(difference),
                }
            });
        }
    }
}

/// A root's key in `_meta` is text, that of a child of the same table a number: which comes first is
/// nobody's business.
fn with_keys_in_order(mut documents: Documents) -> Documents {
    let metas = documents.values_mut().filter_map(|document| document["_meta"].as_object_mut());
    let tables = metas.flat_map(|meta| meta.values_mut()).filter_map(Json::as_object_mut);
    for keys in tables.flat_map(|table| table.values_mut()).filter_map(Json::as_array_mut) {
        keys.sort_by_key(Json::to_string);
    }
    documents
}
