//! Rim: the command line. `arguments.rs` is its grammar, this file turns it into a [`Command`] and
//! flags for the configuration, `probe.rs` asks a running service.

mod arguments;
mod probe;
mod schema;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser as _};

pub use arguments::Arguments;
pub use probe::{ProbeError, healthcheck, status};
pub use schema::{print_json_schema, print_schema};

use crate::config::{FlagValue, Notice, RunOptions};
use arguments::{SchemaAction, Subcommand};

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Keep the documents in step.
    Run(RunOptions),
    /// Say whether a running service is alive: 0 or 1.
    Healthcheck,
    /// Show what a running service is doing.
    Status {
        /// As JSON instead of text.
        json: bool,
    },
    /// Show the schema file with its variables replaced.
    SchemaPrint,
    /// Show the JSON Schema of the schema file.
    SchemaJsonSchema,
    /// Say which database indexes are missing.
    Analyze,
    /// Remove slot, publication and checkpoint.
    Teardown,
}

/// A command line that was understood.
#[derive(Debug)]
pub struct Invocation {
    /// What to do.
    pub command: Command,
    /// Settings by flag.
    pub flags: Vec<FlagValue>,
    /// The settings file by flag.
    pub settings_file: Option<PathBuf>,
    /// Whether the password of PostgreSQL is to be asked for.
    pub ask_password: bool,
    /// What the user should know, once logging has started.
    pub notices: Vec<Notice>,
}

/// What came of the command line.
#[derive(Debug)]
pub enum Parsed {
    /// Something to do.
    Invocation(Box<Invocation>),
    /// `--help` or `--version`: a text for stdout.
    Text(String),
}

/// A command line that cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum UsageError {
    /// The grammar does not allow it; the text is clap's, with its own hints.
    #[error("{}", rendered.trim_end().trim_start_matches("error: "))]
    Grammar {
        /// What clap says.
        rendered: String,
    },
    /// PGSync's `-h HOST`.
    #[error("`-h` is help and takes no `{value}`: the host is given with `--host {value}`")]
    HostByHelpFlag {
        /// What stood behind `-h`.
        value: String,
    },
    /// A flag of PGSync for something that is not done here.
    #[error("`{flag}` is not supported: {instead}")]
    FlagOfPgsync {
        /// The flag.
        flag: &'static str,
        /// What to do instead.
        instead: &'static str,
    },
    /// `--password` without a terminal.
    #[error("the password cannot be asked for, set PG_PASSWORD instead")]
    NoTerminal(#[source] std::io::Error),
}

/// Understands the command line; the first argument is the program's name.
///
/// # Errors
/// [`UsageError`] if it cannot be followed.
pub fn parse(arguments: Vec<OsString>) -> Result<Parsed, UsageError> {
    refuse_host_by_help_flag(&arguments)?;
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error)
            if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) =>
        {
            return Ok(Parsed::Text(error.render().to_string()));
        }
        Err(error) => {
            return Err(UsageError::Grammar { rendered: error.render().to_string() });
        }
    };
    refuse_flags_of_pgsync(&arguments)?;
    let invocation = Invocation {
        flags: arguments.flag_values(),
        ask_password: arguments.password,
        notices: arguments.notices(),
        settings_file: arguments.settings.clone(),
        command: command(arguments),
    };
    Ok(Parsed::Invocation(Box::new(invocation)))
}

/// Asks for the password of PostgreSQL on the terminal.
///
/// # Errors
/// [`UsageError::NoTerminal`] if there is none.
pub fn ask_password() -> Result<FlagValue, UsageError> {
    let text =
        rpassword::prompt_password("PostgreSQL password: ").map_err(UsageError::NoTerminal)?;
    Ok(FlagValue { setting: &crate::config::settings::PG_PASSWORD, flag: "--password", text })
}

fn command(arguments: Arguments) -> Command {
    match arguments.command {
        Some(Subcommand::Healthcheck) => Command::Healthcheck,
        Some(Subcommand::Status { json }) => Command::Status { json },
        Some(Subcommand::Schema { action: SchemaAction::Print }) => Command::SchemaPrint,
        Some(Subcommand::Schema { action: SchemaAction::JsonSchema }) => Command::SchemaJsonSchema,
        Some(Subcommand::Teardown) => Command::Teardown,
        None if arguments.teardown => Command::Teardown,
        None if arguments.analyze => Command::Analyze,
        None => Command::Run(RunOptions { once: arguments.once, reindex: arguments.reindex }),
    }
}

/// Clap would show the help and end with 0, and a container made for PGSync would look well.
fn refuse_host_by_help_flag(arguments: &[OsString]) -> Result<(), UsageError> {
    let behind = arguments.iter().position(|argument| argument == "-h").map(|at| at + 1);
    let value = behind.and_then(|at| arguments.get(at)).and_then(|value| value.to_str());
    let is_subcommand = |value: &str| {
        Arguments::command().get_subcommands().any(|subcommand| subcommand.get_name() == value)
    };
    match value {
        Some(value) if !value.starts_with('-') && !is_subcommand(value) => {
            Err(UsageError::HostByHelpFlag { value: value.to_owned() })
        }
        Some(_) | None => Ok(()),
    }
}

/// What PGSync does in ways that do not exist here.
fn refuse_flags_of_pgsync(arguments: &Arguments) -> Result<(), UsageError> {
    let one_process = "one process reads and writes: leave the flag out; a second process with the \
                       same `--name` waits and takes over";
    let refused = [
        (
            arguments.polling,
            "--polling",
            "changes come from the write-ahead log: leave the flag out, or run `pgsyncd --once` \
             from a timer",
        ),
        (arguments.producer, "--producer", one_process),
        (arguments.consumer, "--consumer", one_process),
    ];
    match refused.into_iter().find(|(given, _, _)| *given) {
        Some((_, flag, instead)) => Err(UsageError::FlagOfPgsync { flag, instead }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings;

    /// Understands a line without quotes.
    fn parsed(line: &str) -> Result<Parsed, UsageError> {
        parse(std::iter::once("pgsyncd").chain(line.split_whitespace()).map(Into::into).collect())
    }

    fn invocation(line: &str) -> Invocation {
        match parsed(line).unwrap() {
            Parsed::Invocation(invocation) => *invocation,
            Parsed::Text(text) => panic!("{text}"),
        }
    }

    #[test]
    fn each_flag_with_a_value_reaches_its_setting() {
        for (line, setting, text) in [
            ("-c a.json", &settings::SCHEMA, "a.json"),
            ("--config a.json", &settings::SCHEMA, "a.json"),
            ("--schema-url http://x", &settings::SCHEMA_URL, "http://x"),
            ("--schema_url http://x", &settings::SCHEMA_URL, "http://x"),
            ("--s3-schema-url s3://b/k", &settings::S3_SCHEMA_URL, "s3://b/k"),
            ("--s3_schema_url s3://b/k", &settings::S3_SCHEMA_URL, "s3://b/k"),
            ("--host db", &settings::PG_HOST, "db"),
            ("-p 5433", &settings::PG_PORT, "5433"),
            ("--port 5433", &settings::PG_PORT, "5433"),
            ("-u me", &settings::PG_USER, "me"),
            ("--user me", &settings::PG_USER, "me"),
            ("--sslmode require", &settings::PG_SSLMODE, "require"),
            ("--sslrootcert ca.pem", &settings::PG_SSLROOTCERT, "ca.pem"),
            ("-n 3", &settings::NUM_WORKERS, "3"),
            ("--num-workers 3", &settings::NUM_WORKERS, "3"),
            ("--num_workers 3", &settings::NUM_WORKERS, "3"),
            ("-v", &settings::LOG_LEVEL, "debug"),
            ("--verbose", &settings::LOG_LEVEL, "debug"),
            ("--name other", &settings::PGSYNCD_NAME, "other"),
            ("--http-addr off", &settings::PGSYNCD_HTTP_ADDR, "off"),
            ("--dynamic-mapping", &settings::PGSYNCD_DYNAMIC_MAPPING, "true"),
            ("status --name other", &settings::PGSYNCD_NAME, "other"),
        ] {
            let flags = invocation(line).flags;
            let given: Vec<_> =
                flags.iter().map(|flag| (flag.setting.name(), flag.text.as_str())).collect();
            assert_eq!(given, [(setting.name(), text)], "{line}");
        }
    }

    #[test]
    fn every_flag_of_the_table_exists() {
        let command = Arguments::command();
        let known: Vec<_> = command.get_arguments().filter_map(clap::Arg::get_long).collect();
        for flag in settings::ALL.iter().filter_map(|setting| setting.flag) {
            assert!(known.contains(&flag.trim_start_matches("--")), "{flag}");
        }
    }

    #[test]
    fn the_command_is_a_subcommand_or_a_flag_of_pgsync() {
        let run = |once, reindex| Command::Run(RunOptions { once, reindex });
        for (line, command) in [
            ("", run(false, None)),
            ("-d -b --wal", run(false, None)),
            ("--once", run(true, None)),
            ("--reindex", run(false, Some(Vec::new()))),
            ("--reindex a b", run(false, Some(vec!["a".to_owned(), "b".to_owned()]))),
            ("-a", Command::Analyze),
            ("-t", Command::Teardown),
            ("teardown", Command::Teardown),
            ("healthcheck", Command::Healthcheck),
            ("status", Command::Status { json: false }),
            ("status --json", Command::Status { json: true }),
            ("schema print", Command::SchemaPrint),
            ("schema json-schema", Command::SchemaJsonSchema),
        ] {
            assert_eq!(invocation(line).command, command, "{line}");
        }
    }

    #[test]
    fn accepted_flags_without_effect_are_told() {
        assert_eq!(invocation("-d -b --wal").notices.len(), 2);
        assert_eq!(invocation("-d").notices.len(), 0);
    }

    #[test]
    fn what_pgsync_does_and_we_do_not_is_refused_with_the_remedy() {
        let refusal = |line| parsed(line).unwrap_err().to_string();
        assert!(refusal("-h localhost -c a.json").contains("`--host localhost`"));
        assert!(refusal("--polling").contains("pgsyncd --once"));
        assert!(refusal("--producer").contains("one process"));
        assert!(refusal("--consumer").contains("one process"));
    }

    #[test]
    fn two_schemas_by_flag_are_wrong_usage() {
        for line in [
            "-c a.json --schema-url http://x",
            "-c a.json --s3-schema-url s3://b/k",
            "--schema_url http://x --s3-schema-url s3://b/k",
        ] {
            assert!(matches!(parsed(line), Err(UsageError::Grammar { .. })), "{line}");
        }
    }

    #[test]
    fn help_and_version_are_texts() {
        for line in ["-h", "--help", "--version", "-h status", "schema -h"] {
            assert!(matches!(parsed(line), Ok(Parsed::Text(_))), "{line}");
        }
    }
}
