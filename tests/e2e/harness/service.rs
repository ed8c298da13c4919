//! The binary as a process: started with a known environment, watched by HTTP, ended by signals.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value as Json;

use super::servers::get;
use super::until;
use super::wait::pause;

/// A clean stop may take ten seconds, and the machine is busy.
const STOP_LIMIT: Duration = Duration::from_secs(12);
/// Runs that end by themselves.
const RUN_LIMIT: Duration = Duration::from_mins(2);

/// How the service is to be started.
#[derive(Clone, Debug)]
pub(crate) struct ServiceBuilder {
    directory: PathBuf,
    environment: BTreeMap<String, String>,
    arguments: Vec<String>,
}

/// A running service; killed when dropped.
#[derive(Debug)]
pub(crate) struct Service {
    child: RefCell<Child>,
    address: String,
    log: PathBuf,
    builder: ServiceBuilder,
}

/// A service that ended by itself.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    /// Log and messages.
    pub(crate) stderr: String,
}

impl ServiceBuilder {
    pub(crate) fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), environment: BTreeMap::new(), arguments: vec![] }
            .set("NUM_WORKERS", 2)
            .set("LOG_LEVEL", "debug")
    }

    /// Sets a variable of its environment.
    pub(crate) fn set(mut self, name: &str, value: impl Display) -> Self {
        self.environment.insert(name.to_owned(), value.to_string());
        self
    }

    /// Removes a variable of its environment.
    pub(crate) fn unset(mut self, name: &str) -> Self {
        self.environment.remove(name);
        self
    }

    /// Adds arguments of the command line.
    pub(crate) fn arguments(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        self
    }

    /// Keeps checkpoints in Redis.
    pub(crate) fn with_redis(self) -> Self {
        let url = super::servers::address("REDIS");
        self.unset("CHECKPOINT_PATH").set("REDIS_URL", url)
    }

    /// Starts it, and returns at once.
    pub(crate) fn start(&self) -> Service {
        let port = free_port();
        let address = format!("127.0.0.1:{port}");
        let log = self.log_file();
        let file = File::create(&log).unwrap();
        let child = self
            .command()
            .env("PGSYNCD_HTTP_ADDR", &address)
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        Service { child: RefCell::new(child), address, log, builder: self.clone() }
    }

    /// Starts it, and waits until it is ready.
    pub(crate) fn start_ready(&self) -> Service {
        let service = self.start();
        service.wait_ready();
        service
    }

    /// Runs it with `--once`, which must end well.
    pub(crate) fn once(&self) {
        let ended = self.clone().arguments(&["--once"]).run();
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    }

    /// Runs it until it ends by itself.
    pub(crate) fn run(&self) -> Ended {
        let log = self.log_file();
        let out = log.with_extension("stdout");
        let mut command = self.command();
        if !self.environment.contains_key("PGSYNCD_HTTP_ADDR") {
            command.env("PGSYNCD_HTTP_ADDR", "off");
        }
        command.stdout(File::create(&out).unwrap()).stderr(File::create(&log).unwrap());
        let mut child = command.spawn().unwrap();
        let code = wait_exit(&mut child, RUN_LIMIT);
        let read = |path| std::fs::read_to_string(path).unwrap();
        Ended { code, stdout: read(&out), stderr: read(&log) }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pgsyncd"));
        command
            .args(&self.arguments)
            .current_dir(&self.directory)
            .env_clear()
            .envs(&self.environment);
        command
    }

    /// One per start, in their order.
    fn log_file(&self) -> PathBuf {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        self.directory.join(format!("service-{number:05}.log"))
    }
}

impl Service {
    /// Waits until `/ready` says yes.
    pub(crate) fn wait_ready(&self) {
        let url = self.url("/ready");
        until("the service is ready", || {
            self.assert_running();
            match get(&url)? {
                (200, _) => Ok(()),
                (code, text) => Err(format!("{code} {text}")),
            }
        });
    }

    /// Waits until the phase of the pipeline is this one.
    pub(crate) fn wait_phase(&self, phase: &str) {
        until(&format!("phase {phase}"), || {
            self.assert_running();
            let status = self.try_status()?;
            match status["pipelines"][0]["phase"].as_str() {
                Some(now) if now == phase => Ok(()),
                _ => Err(status.to_string()),
            }
        });
    }

    fn assert_running(&self) {
        if let Some(status) = self.child.borrow_mut().try_wait().unwrap() {
            panic!("the service ended with {status}:\n{}", self.log());
        }
    }

    /// The address of a page of it.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Where it serves HTTP.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// `/status`.
    pub(crate) fn status(&self) -> Json {
        until("a status", || {
            self.assert_running();
            self.try_status()
        })
    }

    fn try_status(&self) -> Result<Json, String> {
        let (_, text) = get(&self.url("/status"))?;
        serde_json::from_str(&text).map_err(|error| error.to_string())
    }

    /// A figure of an index in `/status`.
    pub(crate) fn index_figure(&self, index: &str, figure: &str) -> u64 {
        index_figure(&self.status(), index, figure)
    }

    /// Everything it logged so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.borrow().id()
    }

    /// SIGKILL.
    pub(crate) fn kill(self) -> ServiceBuilder {
        let mut child = self.child.borrow_mut();
        child.kill().unwrap();
        child.wait().unwrap();
        self.builder.clone()
    }

    /// SIGTERM: it must end within its limit, with 0.
    pub(crate) fn stop(self) -> ServiceBuilder {
        let sent =
            Command::new("kill").args(["-TERM", &self.child.borrow().id().to_string()]).status();
        assert!(sent.unwrap().success());
        let code = wait_exit(&mut self.child.borrow_mut(), STOP_LIMIT);
        assert_eq!(code, Some(0), "{}", self.log());
        self.builder.clone()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // One that ended already cannot be killed.
        let child = self.child.get_mut();
        if child.kill().is_ok() {
            child.wait().unwrap();
        }
    }
}

/// A figure of an index in a status.
pub(crate) fn index_figure(status: &Json, index: &str, figure: &str) -> u64 {
    let pipelines = status["pipelines"].as_array().into_iter().flatten();
    let mut indexes = pipelines.flat_map(|it| it["indexes"].as_array().into_iter().flatten());
    let found = indexes.find(|it| it["index"] == index);
    found.and_then(|it| it[figure].as_u64()).unwrap_or_default()
}

/// Waits for the end; kills what does not end.
fn wait_exit(child: &mut Child, limit: Duration) -> Option<i32> {
    let began = Instant::now();
    while began.elapsed() < limit {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        pause();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    panic!("the process did not end within {limit:?}");
}

/// Below the range from which the kernel takes the ports of outgoing connections, and each once.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    const FIRST: u16 = 10_000;
    const COUNT: u16 = 9_000;
    let offset = u16::try_from(std::process::id() % u32::from(COUNT)).unwrap();
    loop {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + (offset + step) % COUNT;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
