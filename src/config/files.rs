//! Reads `.env` and the settings file; the only I/O of the configuration.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::problem::Problem;
use super::sources::{FlagValue, SETTINGS_FILE_VARIABLE, Sources, TextFile, parse_dotenv};

/// Read when no settings file is named; the first that exists.
const USUAL_SETTINGS_FILES: [&str; 2] = ["config/pgsyncd.toml", "/etc/pgsyncd/pgsyncd.toml"];

/// Completes the sources with `.env` of the working directory and the settings file: the one of
/// `--settings`, of `PGSYNCD_SETTINGS`, or the usual one if there is one.
///
/// The second value is what could not be read; the sources are good without it, so that these
/// problems are reported together with all others.
pub fn read_files(
    flags: Vec<FlagValue>,
    environment: BTreeMap<String, String>,
    settings_flag: Option<PathBuf>,
) -> (Sources, Vec<Problem>) {
    let mut problems = Vec::new();
    let dotenv = read_if_present(Path::new(".env"), ".env file", &mut problems);
    let named = settings_flag.or_else(|| {
        let of_dotenv = || {
            let text = &dotenv.as_ref()?.text;
            parse_dotenv(text).0.remove(SETTINGS_FILE_VARIABLE)
        };
        let of_environment = environment.get(SETTINGS_FILE_VARIABLE).cloned();
        let path = of_environment.filter(|path| !path.is_empty()).or_else(of_dotenv);
        path.filter(|path| !path.is_empty()).map(PathBuf::from)
    });
    let settings_file = match named {
        Some(path) => match std::fs::read_to_string(&path) {
            Ok(text) => Some(TextFile { path, text }),
            Err(source) => {
                problems.push(Problem::Unreadable { what: "settings file", path, source });
                None
            }
        },
        None => USUAL_SETTINGS_FILES
            .iter()
            .find_map(|path| read_if_present(Path::new(path), "settings file", &mut problems)),
    };
    (Sources { flags, environment, dotenv, settings_file }, problems)
}

fn read_if_present(
    path: &Path,
    what: &'static str,
    problems: &mut Vec<Problem>,
) -> Option<TextFile> {
    match std::fs::read_to_string(path) {
        Ok(text) => Some(TextFile { path: path.to_owned(), text }),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(source) => {
            problems.push(Problem::Unreadable { what, path: path.to_owned(), source });
            None
        }
    }
}
