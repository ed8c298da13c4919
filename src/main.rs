//! The program: command line → configuration → logging → runtime → exit code.

use std::collections::BTreeMap;
use std::io::Write as _;

use pgsyncd::admin;
use pgsyncd::cli::{self, Command, Invocation, Parsed};
use pgsyncd::config::{self, Config, Gathered, HttpConfig, Resolved, RunOptions};
use pgsyncd::daemon;
use pgsyncd::error::{Error, ExitCode, report};
use pgsyncd::logging;

/// Documents are built from many small pieces on several threads, where it is faster than the
/// system's allocator and gives memory back.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    let code = match start() {
        Ok(code) => code,
        Err(error) => {
            let hint = error.hint().map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
            complain(&format!("{}{hint}", report(&error)));
            error.exit_code()
        }
    };
    code.into()
}

fn start() -> Result<ExitCode, Error> {
    match cli::parse(std::env::args_os().collect())? {
        Parsed::Text(text) => Ok(print(text.trim_end())),
        Parsed::Invocation(invocation) => follow(*invocation),
    }
}

fn follow(invocation: Invocation) -> Result<ExitCode, Error> {
    let Invocation { command, mut flags, settings_file, ask_password, notices } = invocation;
    if ask_password {
        flags.push(cli::ask_password()?);
    }
    // Names and values that are not UTF-8 are none of ours.
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let (sources, mut problems) = config::read_files(flags, environment, settings_file);
    let variables = sources.variables();
    let mut gathered = config::gather(&sources);
    gathered.problems.append(&mut problems);
    gathered.notices.extend(notices);
    match command {
        Command::Run(options) => run_service(gathered, options, variables),
        Command::Healthcheck => probe_alive(gathered),
        Command::Status { json } => probe_status(gathered, json),
        Command::SchemaPrint => {
            let Resolved { config: source, .. } = config::resolve_schema(gathered)?;
            Ok(print(&runtime()?.block_on(cli::print_schema(&source, &variables))?))
        }
        Command::SchemaJsonSchema => Ok(print(&cli::print_json_schema())),
        Command::Analyze => administer(gathered, &variables, Task::Analyze),
        Command::Teardown => administer(gathered, &variables, Task::Teardown),
    }
}

fn run_service(
    gathered: Gathered,
    options: RunOptions,
    variables: BTreeMap<String, String>,
) -> Result<ExitCode, Error> {
    let config = configured(gathered, options)?;
    runtime()?.block_on(daemon::run(config, variables))?;
    Ok(ExitCode::Stopped)
}

/// What is done once, beside a service.
#[derive(Clone, Copy)]
enum Task {
    Analyze,
    Teardown,
}

/// Does it, and prints what came of it.
fn administer(
    gathered: Gathered,
    variables: &BTreeMap<String, String>,
    task: Task,
) -> Result<ExitCode, Error> {
    let config = configured(gathered, RunOptions::default())?;
    let outcome = runtime()?.block_on(async {
        let databases = daemon::read_schema(&config, variables).await?;
        match task {
            Task::Analyze => Ok(admin::analyze(&config, &databases).await?),
            Task::Teardown => Ok::<_, Error>(admin::teardown(&config, &databases).await),
        }
    })?;
    let printed = print(&outcome.lines.join("\n"));
    Ok(if outcome.failed { ExitCode::GaveUp } else { printed })
}

/// Resolves the configuration, starts logging, and tells what is to be told.
fn configured(gathered: Gathered, options: RunOptions) -> Result<Config, Error> {
    let Resolved { config, notices } = config::resolve(gathered, options)?;
    if logging::start(&config.log).is_err() {
        complain("logging was started before");
    }
    for notice in notices {
        notice.log();
    }
    Ok(config)
}

/// One line and 0 or 1, whatever is wrong: that is all that a container's health check knows.
fn probe_alive(gathered: Gathered) -> Result<ExitCode, Error> {
    match http(gathered) {
        Ok(http) => Ok(answer(runtime()?.block_on(cli::healthcheck(&http)))),
        Err(error) => {
            complain(&report(&error).replace('\n', ";"));
            Ok(ExitCode::GaveUp)
        }
    }
}

fn probe_status(gathered: Gathered, json: bool) -> Result<ExitCode, Error> {
    let http = http(gathered)?;
    Ok(answer(runtime()?.block_on(cli::status(&http, json))))
}

fn http(gathered: Gathered) -> Result<HttpConfig, Error> {
    let Resolved { config, .. } = config::resolve_http(gathered)?;
    Ok(config)
}

fn answer(answer: Result<String, cli::ProbeError>) -> ExitCode {
    match answer {
        Ok(text) => print(&text),
        Err(error) => {
            complain(&report(&error));
            ExitCode::GaveUp
        }
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, Error> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Error::Runtime)
}

/// Writes to stdout; a reader that went away is no success.
fn print(text: &str) -> ExitCode {
    match writeln!(std::io::stdout(), "{text}") {
        Ok(()) => ExitCode::Stopped,
        Err(_) => ExitCode::GaveUp,
    }
}

/// Writes to stderr. If that fails there is nobody left to tell.
fn complain(text: &str) {
    writeln!(std::io::stderr(), "pgsyncd: {text}").unwrap_or_default();
}
