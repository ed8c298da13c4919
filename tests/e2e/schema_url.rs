//! The schema from an address: fetched, kept for when the address is down, refused when it is wrong.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use crate::harness::{Ended, Site, documents};

const TABLE: &str = "create table thing (id int primary key); insert into thing values (1)";
const SCHEMA: &str = r#"{"index": "things", "meta": false, "nodes": {"table": "thing"}}"#;

/// Gives every request the same answer, until dropped.
struct Web {
    address: String,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Web {
    fn serve(answer: impl Fn(&mut TcpStream) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let ended = Arc::new(AtomicBool::new(false));
        let heard = Arc::clone(&ended);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if heard.load(Ordering::Relaxed) {
                    return;
                }
                let mut stream = stream.unwrap();
                let mut request = [0; 4096];
                // A client that went away is no failure of ours.
                if stream.read(&mut request).is_ok() {
                    answer(&mut stream);
                }
            }
        });
        Self { address, ended, thread: Some(thread) }
    }

    fn text(status: &'static str, body: String) -> Self {
        Self::serve(move |stream| {
            let length = body.len();
            let head = format!(
                "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
            );
            let sent =
                stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes()));
            // One that had enough of a huge body hangs up.
            drop(sent);
        })
    }

    fn url(&self) -> String {
        format!("http://{}/schema.json", self.address)
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        drop(TcpStream::connect(&self.address));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

#[test]
#[ignore = "needs PostgreSQL, Elasticsearch and Redis: tests/services.sh up"]
fn a_restart_works_while_the_address_of_the_schema_is_down() {
    let site = Site::new("schema_url", TABLE);
    let web = Web::text("200 OK", site.prefixed(SCHEMA, &site.prefix));
    let builder = site.service().unset("SCHEMA").set("SCHEMA_URL", web.url());
    builder.start_ready().stop();
    site.expect("things", &documents(r#"{"1": {"id": 1}}"#));
    drop(web);
    site.run("insert into thing values (2)");
    let service = builder.start_ready();
    site.expect("things", &documents(r#"{"1": {"id": 1}, "2": {"id": 2}}"#));
    assert!(service.log().contains("last good copy"), "{}", service.log());
    service.stop();
}

fn refused(test: &str, answer: &dyn Fn() -> Web) -> Ended {
    let site = Site::new(test, TABLE);
    let web = answer();
    let ended =
        site.service().unset("SCHEMA").set("SCHEMA_URL", web.url()).arguments(&["--once"]).run();
    site.assert_nothing_made();
    ended
}

#[test]
#[ignore = "needs PostgreSQL, Elasticsearch and Redis: tests/services.sh up"]
fn a_huge_schema_is_refused() {
    let ended = refused("schema_huge", &|| Web::text("200 OK", " ".repeat(11 << 20)));
    assert_eq!(ended.code, Some(78), "{}", ended.stderr);
    assert!(ended.stderr.contains("larger than"), "{}", ended.stderr);
}

#[test]
#[ignore = "needs PostgreSQL, Elasticsearch and Redis: tests/services.sh up"]
fn a_schema_that_is_not_there_is_refused_with_the_status() {
    let ended = refused("schema_gone", &|| Web::text("404 Not Found", "nothing".to_owned()));
    assert_eq!(ended.code, Some(78), "{}", ended.stderr);
    assert!(ended.stderr.contains("404"), "{}", ended.stderr);
}

#[test]
#[ignore = "needs PostgreSQL, Elasticsearch and Redis: tests/services.sh up"]
fn an_address_where_nobody_answers_ends_with_1() {
    let ended = refused("schema_down", &|| {
        let web = Web::text("200 OK", String::new());
        let address = web.address.clone();
        drop(web);
        Web { address, ended: Arc::default(), thread: None }
    });
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("127.0.0.1"), "{}", ended.stderr);
}
