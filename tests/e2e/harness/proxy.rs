//! A way to a server that can be cut: connections through it break, and none come about until it is
//! mended.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// A way to a server; its threads end with the test.
#[derive(Debug)]
pub(crate) struct Proxy {
    /// Where to connect to instead of the server.
    pub(crate) address: SocketAddr,
    way: Arc<Way>,
}

#[derive(Debug)]
struct Way {
    server: String,
    is_cut: AtomicBool,
    open: Mutex<Vec<TcpStream>>,
}

impl Proxy {
    /// Listens on a free port of `host`, which is an address of this machine.
    pub(crate) fn new(host: &str, server: &url::Url) -> Self {
        let listener = TcpListener::bind((host, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let server = format!("{}:{}", server.host_str().unwrap(), server.port().unwrap());
        let way = Arc::new(Way { server, is_cut: AtomicBool::new(false), open: Mutex::default() });
        let ours = Arc::clone(&way);
        thread::spawn(move || {
            for client in listener.incoming() {
                // One that comes while the way is cut is hung up on.
                drop(client.and_then(|client| ours.lead(client)));
            }
        });
        Self { address, way }
    }

    /// Breaks all connections and refuses others.
    pub(crate) fn cut(&self) {
        self.way.is_cut.store(true, Ordering::SeqCst);
        for stream in self.way.open.lock().unwrap().drain(..) {
            // It may have ended already.
            drop(stream.shutdown(Shutdown::Both));
        }
    }

    /// Lets connections through again.
    pub(crate) fn mend(&self) {
        self.way.is_cut.store(false, Ordering::SeqCst);
    }
}

impl Way {
    fn lead(&self, client: TcpStream) -> io::Result<()> {
        let mut open = self.open.lock().unwrap();
        if self.is_cut.load(Ordering::SeqCst) {
            return client.shutdown(Shutdown::Both);
        }
        let server = TcpStream::connect(&self.server)?;
        open.extend([client.try_clone()?, server.try_clone()?]);
        for (from, to) in [(client.try_clone()?, server.try_clone()?), (server, client)] {
            thread::spawn(move || {
                let (mut from, mut to) = (from, to);
                // What breaks one direction ends the other.
                drop(io::copy(&mut from, &mut to));
                drop(from.shutdown(Shutdown::Both));
                drop(to.shutdown(Shutdown::Both));
            });
        }
        Ok(())
    }
}
