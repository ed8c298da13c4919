//! The program as users run it: the real binary against real PostgreSQL, Elasticsearch and Redis.
//!
//! `tests/services.sh up` starts the servers, `eval "$(tests/services.sh env)"` names them. Each test
//! has a database and an index prefix of its own, so they run side by side.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::format_collect,
    reason = "a failed step fails the test and shows its logs; speed is nothing here"
)]

mod access;
mod bad_input;
mod bad_schema;
mod catalog;
mod crash;
mod examples;
mod harness;
mod huge;
mod indexes;
mod library;
mod live;
mod operation;
mod outage;
mod resume;
mod schema_url;
mod shapes;
mod standby;
mod values;
