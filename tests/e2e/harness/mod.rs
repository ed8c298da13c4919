//! What the tests stand on: servers, a site per test, the service as a process, and waiting.

pub(crate) mod compare;
pub(crate) mod oracle;
pub(crate) mod proxy;
pub(crate) mod servers;
pub(crate) mod service;
pub(crate) mod site;
pub(crate) mod wait;

pub(crate) use compare::{Documents, assert_same, documents, json};
pub(crate) use service::{Ended, Service, ServiceBuilder};
pub(crate) use site::Site;
pub(crate) use wait::until;
