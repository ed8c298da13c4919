//! How children join their parents.

use super::*;

#[test]
fn a_direct_join_takes_the_declared_key_in_either_direction() {
    for (root, child, expected) in [
        ("author", "book", pair("id", "author_id")),
        ("book", "author", pair("author_id", "id")),
        ("book", "publisher", pair("publisher_id", "id")),
    ] {
        let Join::Direct(pairs) = child_join(&with_child(root, child, "")) else { panic!() };
        assert_eq!(pairs, [expected], "{root} {child}");
    }
}

#[test]
fn in_an_adjacency_list_the_child_row_points_to_the_parent_row() {
    let text = with_child("publisher", "publisher", "");
    let Join::Direct(pairs) = child_join(&text) else { panic!() };
    assert_eq!(pairs, [pair("id", "parent_id")]);
    let upwards = r#", "foreign_key": {"parent": ["parent_id"], "child": ["id"]}"#;
    let Join::Direct(pairs) = child_join(&with_child("publisher", "publisher", upwards)) else {
        panic!()
    };
    assert_eq!(pairs, [pair("parent_id", "id")]);
}

#[test]
fn a_through_join_takes_the_declared_key_of_each_side_in_either_direction() {
    for (root, child, through, upper, lower) in [
        ("book", "subject", "book_subject", pair("isbn", "book_isbn"), pair("subject_id", "id")),
        (
            "subject",
            "book",
            "public.book_subject",
            pair("id", "subject_id"),
            pair("book_isbn", "isbn"),
        ),
        // Has many through: the author's books, and their publishers.
        ("author", "publisher", "book", pair("id", "author_id"), pair("publisher_id", "id")),
        // One side points down twice: the publisher's books, and the rows that point to these.
        (
            "publisher",
            "book_subject",
            "book",
            pair("id", "publisher_id"),
            pair("isbn", "book_isbn"),
        ),
    ] {
        let text = with_child(root, child, &format!(r#", "through_tables": ["{through}"]"#));
        let Join::Through { upper: found_upper, lower: found_lower, .. } = child_join(&text) else {
            panic!("{text}")
        };
        assert_eq!((found_upper, found_lower), (vec![upper], vec![lower]), "{text}");
    }
}

#[test]
fn joins_that_the_catalog_does_not_decide_name_the_line_to_write() {
    let missing = problems(&with_child("subject", "author", ""));
    assert_eq!(missing.len(), 1, "{missing:?}");
    assert!(missing[0].starts_with("$.nodes.children[0].relationship: no foreign key"));
    assert!(missing[0].contains(r#""foreign_key": {"parent": ["…"], "child": ["…"]}"#));

    let catalog = Catalog::new([
        table(1, "author", "id*"),
        table(2, "book", "id* author_id editor_id")
            .pointing("author_id", 1, "id")
            .pointing("editor_id", 1, "id")
            .pointing("editor_id", 1, "id"),
    ]);
    let entries = parse(&with_child("book", "author", ""), &|_| None).unwrap();
    let error = resolve(&entries, &catalog, "db").unwrap_err().to_string();
    assert!(error.contains("2 foreign keys join"), "{error}");
    assert!(error.contains(r#""foreign_key": {"parent": ["author_id"], "child": ["id"]}"#));
    assert!(error.contains(r#""foreign_key": {"parent": ["editor_id"], "child": ["id"]}"#));

    let text = with_child("author", "author", r#", "through_tables": ["friendship"]"#);
    let both_sides = problems(&text);
    assert_eq!(both_sides.len(), 2, "{both_sides:?}");
    assert!(both_sides[0].contains("a node of its own"), "{both_sides:?}");
}

#[test]
fn a_written_join_is_checked_column_by_column() {
    let joined = |parent: &str, child: &str| {
        with_child(
            "author",
            "book",
            &format!(r#", "foreign_key": {{"parent": ["{parent}"], "child": ["{child}"]}}"#),
        )
    };
    for (parent, child) in [("id", "editor_id"), ("name", "title")] {
        let Join::Direct(pairs) = child_join(&joined(parent, child)) else { panic!() };
        assert_eq!(pairs, [pair(parent, child)]);
    }
    for (parent, child, part) in [
        ("idd", "author_id", "did you mean `id`?"),
        ("id", "authorid", "did you mean `author_id`?"),
        ("id", "title", "`id` is integer and `title` is text: they cannot be compared"),
        ("born", "author_id", "cannot be compared"),
    ] {
        let found = problems(&joined(parent, child));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains(part), "{found:?}");
        assert!(found[0].contains(".relationship.foreign_key"), "{found:?}");
    }
}

#[test]
fn types_join_within_their_family_only() {
    let column = |kind: &str| table(1, "t", &format!("a:{kind}")).columns.remove(0);
    for (left, right, alike) in [
        ("int", "bigint", true),
        ("text", "varchar", true),
        ("uuid", "uuid", true),
        ("jsonb", "jsonb", true),
        ("uuid", "text", false),
        ("date", "time", false),
        ("json", "json", false),
    ] {
        let found = join::incomparable(&column(left), &column(right));
        assert_eq!(found.is_none(), alike, "{left} {right}: {found:?}");
    }
}
