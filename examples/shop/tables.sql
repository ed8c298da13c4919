-- A shop: orders with their customer, their items, and the product of each item.

CREATE TABLE customer (
    id integer PRIMARY KEY,
    name text NOT NULL,
    email text NOT NULL
);

CREATE TABLE product (
    id integer PRIMARY KEY,
    sku text NOT NULL UNIQUE,
    name text NOT NULL
);

CREATE TYPE order_status AS ENUM ('open', 'paid', 'shipped');

CREATE TABLE orders (
    id bigint PRIMARY KEY,
    customer_id integer NOT NULL REFERENCES customer (id),
    status order_status NOT NULL,
    placed_at timestamptz NOT NULL
);

CREATE INDEX ON orders (customer_id);

CREATE TABLE item (
    id bigint PRIMARY KEY,
    order_id bigint NOT NULL REFERENCES orders (id),
    product_id integer REFERENCES product (id),
    quantity integer NOT NULL,
    price numeric(10, 2) NOT NULL
);

CREATE INDEX ON item (order_id);
CREATE INDEX ON item (product_id);

INSERT INTO customer VALUES
    (1, 'Ada', 'ada@example.org'),
    (2, 'Grace', 'grace@example.org');

INSERT INTO product VALUES (1, 'PEN-1', 'Pen'), (2, 'INK-1', 'Ink');

INSERT INTO orders VALUES
    (1001, 1, 'paid', '2024-05-01 10:00:00+00'),
    (1002, 1, 'open', '2024-05-02 23:30:00-02'),
    (1003, 2, 'shipped', '2024-05-03 08:15:30.250+00');

INSERT INTO item VALUES
    (2, 1001, 2, 1, 12.00),
    (1, 1001, 1, 3, 1.50),
    (3, 1003, NULL, 1, 0.99);
