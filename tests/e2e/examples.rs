//! Every folder under `examples/`: what its README promises, and then that changes of every table give
//! what a rebuild gives.

use std::collections::BTreeMap;
use std::path::Path;

use crate::harness::{Documents, Site, assert_same, documents, json};

fn read(example: &str, file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(example).join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn site(example: &str) -> (Site, BTreeMap<String, Documents>) {
    let test = format!("example_{}", example.replace('-', "_"));
    let site = Site::new(&test, &read(example, "tables.sql"));
    site.schema(&read(example, "schema.json"));
    (site, serde_json::from_str(&read(example, "expected.json")).unwrap())
}

/// Loads with `--once`, compares, goes on live, and compares with a rebuild after each of `changes`.
fn follow(example: &str, changes: &[&str]) -> Site {
    let (site, expected) = site(example);
    let builder = site.service();
    builder.once();
    for (index, expected) in &expected {
        assert_same(expected, &site.documents(index), &format!("{example}: first load of {index}"));
    }
    let indexes: Vec<&str> = expected.keys().map(String::as_str).collect();
    let service = builder.start_ready();
    for change in changes {
        site.run(change);
        site.expect_rebuild(&builder, &indexes);
    }
    service.stop();
    site
}

#[test]
#[ignore = "needs PostgreSQL, Elasticsearch and Redis: tests/services.sh up"]
fn every_example_is_tested() {
    let folders =
        std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples")).unwrap();
    let mut found: Vec<_> = folders
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().join("schema.json").exists())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    found.sort();
    assert_eq!(found, ["bookstore", "shop", "two-schemas"]);
}

#[test]
#[ignore = "needs PostgreSQL, Elasticsearch and Redis: tests/services.sh up"]
fn the_bookstore_is_loaded_and_followed() {
    let site = follow(
        "bookstore",
        &[
            "update book set title = 'The Left Hand of Darkness', price = 13 where isbn like '%1-1';
             update book set details = '{\"pages\": 1, \"awards\": [\"Locus\"]}' where isbn like '%3-5';
             update author set born = '1900-01-01' where id = 3;
             update country set name = 'USA' where code = 'US';
             update series set name = 'Hainish' where id = 1;
             update subject set name = 'Sci-Fi classics' where id = 1;
             update rating set stars = 5;
             update review set reader = 'Dan' where id = 3;
             update comment set text = 'So' where id = 2;
             update publisher set name = 'Orbit Books', contact = null where id = 1",
            "insert into publisher values (4, 'Imprint', 'US', 1, '{\"mail\": \"a@b\"}');
             insert into book values ('978-4', 'Fresh', 'grey', 1, null, true, '{a,b}', null, 4);
             insert into book_author values ('978-4', 3);
             insert into book_subject values ('978-4', 2);
             insert into book_series values ('978-4', 1, 2);
             insert into rating values ('978-4', 1.5);
             insert into review values (4, '978-4', 'Eve', 1, '2024-03-01');
             insert into comment values (4, 4, 'x'), (5, 1, 'y');
             update review set book_isbn = '978-4' where id = 1;
             update book_author set author_id = 2 where book_isbn like '%3-5';
             update publisher set parent_id = 3 where id = 2;
             update book set publisher_id = 2 where isbn like '%2-8'",
            "delete from comment where id = 1; delete from rating; delete from book_series;
             delete from book_subject where subject_id = 1; delete from subject where id = 1;
             truncate book_author; delete from author where id = 2;
             update book set publisher_id = null where publisher_id = 3;
             update publisher set parent_id = null; delete from publisher where id = 3;
             delete from review where id = 2; truncate comment",
        ],
    );
    let titles = json("null");
    assert_eq!(site.documents("authors")["1"]["titles"], titles);
    assert_eq!(site.documents("authors")["3"]["born"], "1900-01-01");
    assert_eq!(site.documents("books")["978-4"]["description"], "gray");
}

#[test]
#[ignore = "needs PostgreSQL, Elasticsearch and Redis: tests/services.sh up"]
fn the_shop_is_loaded_and_followed() {
    let site = follow(
        "shop",
        &[
            "update customer set email = 'ada@example.com' where id = 1;
             update product set name = 'Fountain pen' where id = 1;
             update orders set status = 'shipped' where id = 1002;
             update item set quantity = 2, price = 3.10 where id = 3",
            "insert into customer values (3, 'Linus', 'l@example.org');
             insert into product values (3, 'CAP-1', 'Cap');
             insert into orders values (1004, 3, 'open', '2024-06-01');
             insert into item values (4, 1004, 3, 1, 2), (5, 1002, 3, 1, 2);
             update item set order_id = 1002 where id = 1;
             update orders set customer_id = 3 where id = 1001;
             update item set product_id = 2 where id = 3",
            "delete from item where id = 2; delete from item where product_id = 3;
             delete from product where id = 3; delete from orders where id = 1004",
        ],
    );
    let expected = documents(
        r#"{"1002": {"id": 1002, "status": "shipped", "placed_at": "2024-05-03T01:30:00+00:00",
          "customer": {"id": 1, "name": "Ada", "email": "ada@example.com"},
          "items": [{"id": 1, "quantity": 3, "price": 1.50,
            "product": {"sku": "PEN-1", "name": "Fountain pen"}}],
          "_meta": {"orders": {"id": ["1002"]}, "customer": {"id": [1]}, "item": {"id": [1]},
            "product": {"id": [1]}}}}"#,
    );
    let mut found = site.documents("orders");
    found.retain(|id, _| id == "1002");
    assert_same(&expected, &found, "the order that got an item");
}

#[test]
#[ignore = "needs PostgreSQL, Elasticsearch and Redis: tests/services.sh up"]
fn two_schemas_are_loaded_and_followed() {
    let site = follow(
        "two-schemas",
        &[
            "update crm.customer set name = 'Ada L.' where id = 1;
             update crm.segment set name = 'Faithful' where code = 'loyal';
             update crm.note set text = 'coffee' where id = 1;
             update sales.note set text = 'sent' where id = 2;
             update sales.invoice set due = '2025-01-01' where number = 8",
            "insert into crm.segment values ('vip', 'VIP');
             insert into crm.customer_segment values (2, 'vip');
             insert into crm.note values (3, 2, 'new');
             insert into sales.invoice values ('WEST', 2024, 1, 1, null);
             update sales.note set branch = 'WEST', number = 1 where id = 5;
             update crm.note set customer_id = 2 where id = 2",
            "delete from crm.customer_segment where segment_code = 'new';
             delete from sales.note; update sales.invoice set customer_id = 1;
             delete from crm.note where customer_id = 2;
             delete from sales.invoice where branch = 'WEST'; truncate crm.note",
        ],
    );
    let invoice = &site.documents("invoices")["HQ|8|2024"];
    assert_eq!(
        invoice["customer"],
        json(r#"{"id": 1, "name": "Ada L.", "segments": ["Faithful"], "notes": null}"#)
    );
}
