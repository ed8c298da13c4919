-- Two PostgreSQL schemas: invoices of one, customers of the other, and a table `note` in both.

CREATE SCHEMA crm;
CREATE SCHEMA sales;

CREATE TABLE crm.customer (
    id integer PRIMARY KEY,
    name text NOT NULL
);

CREATE TABLE crm.segment (
    code text PRIMARY KEY,
    name text NOT NULL
);

CREATE TABLE crm.customer_segment (
    customer_id integer NOT NULL REFERENCES crm.customer (id),
    segment_code text NOT NULL REFERENCES crm.segment (code),
    PRIMARY KEY (customer_id, segment_code)
);

CREATE TABLE crm.note (
    id integer PRIMARY KEY,
    customer_id integer NOT NULL REFERENCES crm.customer (id),
    text text NOT NULL
);

CREATE TABLE sales.invoice (
    branch text NOT NULL,
    year integer NOT NULL,
    number integer NOT NULL,
    customer_id integer NOT NULL REFERENCES crm.customer (id),
    due date,
    PRIMARY KEY (branch, year, number)
);

CREATE TABLE sales.note (
    id integer PRIMARY KEY,
    branch text NOT NULL,
    year integer NOT NULL,
    number integer NOT NULL,
    text text NOT NULL,
    FOREIGN KEY (branch, year, number) REFERENCES sales.invoice (branch, year, number)
);

INSERT INTO crm.customer VALUES (1, 'Ada'), (2, 'Grace');
INSERT INTO crm.segment VALUES ('loyal', 'Loyal'), ('new', 'New');
INSERT INTO crm.customer_segment VALUES (1, 'loyal'), (1, 'new');
INSERT INTO crm.note VALUES (1, 1, 'likes tea'), (2, 1, 'calls on Mondays');
INSERT INTO sales.invoice VALUES
    ('HQ', 2024, 7, 1, '2024-06-30'),
    ('HQ', 2024, 8, 2, NULL);
INSERT INTO sales.note VALUES
    (2, 'HQ', 2024, 7, 'sent twice'),
    (5, 'HQ', 2024, 7, 'paid');
