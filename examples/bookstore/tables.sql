-- A bookstore: every kind of relationship that a document can have.

CREATE TABLE country (
    code text PRIMARY KEY,
    name text NOT NULL
);

CREATE TABLE publisher (
    id integer PRIMARY KEY,
    name text NOT NULL,
    country_code text REFERENCES country (code),
    parent_id integer REFERENCES publisher (id),
    contact jsonb
);

CREATE TABLE author (
    id integer PRIMARY KEY,
    name text NOT NULL,
    born date
);

CREATE TABLE book (
    isbn text PRIMARY KEY,
    title text NOT NULL,
    description text,
    price numeric(8, 2),
    published date,
    in_print boolean NOT NULL,
    tags text[],
    details jsonb,
    publisher_id integer REFERENCES publisher (id)
);

CREATE TABLE book_author (
    book_isbn text NOT NULL REFERENCES book (isbn),
    author_id integer NOT NULL REFERENCES author (id),
    PRIMARY KEY (book_isbn, author_id)
);

CREATE TABLE subject (
    id integer PRIMARY KEY,
    name text NOT NULL
);

CREATE TABLE book_subject (
    book_isbn text NOT NULL REFERENCES book (isbn),
    subject_id integer NOT NULL REFERENCES subject (id),
    PRIMARY KEY (book_isbn, subject_id)
);

CREATE TABLE series (
    id integer PRIMARY KEY,
    name text NOT NULL
);

CREATE TABLE book_series (
    book_isbn text PRIMARY KEY REFERENCES book (isbn),
    series_id integer NOT NULL REFERENCES series (id),
    volume integer
);

CREATE TABLE rating (
    book_isbn text PRIMARY KEY REFERENCES book (isbn),
    stars numeric(3, 2) NOT NULL
);

CREATE TABLE review (
    id integer PRIMARY KEY,
    book_isbn text NOT NULL REFERENCES book (isbn),
    reader text NOT NULL,
    stars integer,
    written_at timestamptz NOT NULL
);

CREATE TABLE comment (
    id integer PRIMARY KEY,
    review_id integer NOT NULL REFERENCES review (id),
    text text
);

INSERT INTO country VALUES ('GB', 'United Kingdom'), ('US', 'United States');

INSERT INTO publisher VALUES
    (1, 'Orbit', 'US', NULL,
     '{"mail": "info@orbit.example", "phones": [{"nr": "555-1"}, "none"]}'),
    (2, 'Orbit Press', 'GB', 1, NULL),
    (3, 'Gollancz', 'GB', NULL, NULL);

INSERT INTO author VALUES
    (1, 'Ursula K. Le Guin', '1929-10-21'),
    (2, 'Iain M. Banks', '1954-02-16'),
    (3, 'Anonymous', NULL);

INSERT INTO book VALUES
    ('978-0-00-000001-1', 'The Left Hand', 'A grey planet, a colour of snow', 12.50, '1969-03-01',
     true, '{sci-fi,classic}',
     '{"pages": 304, "edition": 2, "dimensions": {"width": 11.5}, "awards": ["Hugo", "Nebula"]}', 1),
    ('978-0-00-000002-8', 'Consider', NULL, 9.00, '1987-04-23', false, '{}', NULL, 3),
    ('978-0-00-000003-5', 'Unknown', '', NULL, NULL, true, NULL, '{"awards": []}', NULL);

INSERT INTO book_author VALUES
    ('978-0-00-000001-1', 1),
    ('978-0-00-000002-8', 2),
    ('978-0-00-000002-8', 1),
    ('978-0-00-000003-5', 3);

INSERT INTO subject VALUES (1, 'Sci-Fi'), (2, 'Gender');

INSERT INTO book_subject VALUES
    ('978-0-00-000001-1', 2),
    ('978-0-00-000001-1', 1),
    ('978-0-00-000002-8', 1);

INSERT INTO series VALUES (1, 'Hainish Cycle');

INSERT INTO book_series VALUES ('978-0-00-000001-1', 1, 4);

INSERT INTO rating VALUES ('978-0-00-000001-1', 4.25);

INSERT INTO review VALUES
    (2, '978-0-00-000001-1', 'Bob', NULL, '2024-01-03 00:00:00+01'),
    (1, '978-0-00-000001-1', 'Ann', 5, '2024-01-02 03:04:05.600+00'),
    (3, '978-0-00-000002-8', 'Cid', 3, '2024-02-01 12:00:00+00');

INSERT INTO comment VALUES (1, 1, 'Indeed'), (2, 1, NULL), (3, 3, 'No');
