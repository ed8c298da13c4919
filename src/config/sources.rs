//! From flags, environment, `.env` and the settings file to [`Raw`]. The texts come in, nothing is
//! read here, and the environment of the process is never changed.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::foreign;
use super::notice::Notice;
use super::problem::Problem;
use super::raw::{Given, Origin, Raw};
use super::setting::{Setting, nearest};
use super::settings::ALL;

/// Names the settings file; read before everything else, hence no row of the table.
pub const SETTINGS_FILE_VARIABLE: &str = "PGSYNCD_SETTINGS";

/// A setting given on the command line.
#[derive(Clone)]
pub struct FlagValue {
    /// Which.
    pub setting: &'static Setting,
    /// As the user wrote it: `--port`.
    pub flag: &'static str,
    /// Its value; perhaps a secret.
    pub text: String,
}

impl std::fmt::Debug for FlagValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.flag)
    }
}

/// A file and what it holds.
#[derive(Clone)]
pub struct TextFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its content; perhaps with secrets.
    pub text: String,
}

impl std::fmt::Debug for TextFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.path.fmt(f)
    }
}

/// Everything a configuration is made from.
#[derive(Clone, Default)]
pub struct Sources {
    /// The command line.
    pub flags: Vec<FlagValue>,
    /// The environment of the process.
    pub environment: BTreeMap<String, String>,
    /// `.env`, if there is one.
    pub dotenv: Option<TextFile>,
    /// The settings file, if there is one.
    pub settings_file: Option<TextFile>,
}

impl Sources {
    /// The variables of the process and of `.env`, the former before the latter: what `$NAME` in
    /// the schema file stands for.
    pub fn variables(&self) -> BTreeMap<String, String> {
        let dotenv = self.dotenv.as_ref().map(|file| parse_dotenv(&file.text).0);
        let mut variables = dotenv.unwrap_or_default();
        variables.extend(self.environment.clone());
        variables
    }
}

impl std::fmt::Debug for Sources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sources")
            .field("flags", &self.flags)
            .field("dotenv", &self.dotenv)
            .field("settings_file", &self.settings_file)
            .finish_non_exhaustive()
    }
}

/// What the sources hold, and what was noticed on the way.
#[derive(Debug, Default)]
pub struct Gathered {
    /// The settings as written.
    pub raw: Raw,
    /// What stands in the way.
    pub problems: Vec<Problem>,
    /// What the user should know.
    pub notices: Vec<Notice>,
}

/// Merges the sources: flag > environment > `.env` > settings file.
pub fn gather(sources: &Sources) -> Gathered {
    let mut gathered = Gathered::default();
    for FlagValue { setting, flag, text } in &sources.flags {
        let given = Given { text: text.clone(), name: (*flag).to_owned(), origin: Origin::Flag };
        gathered.raw.offer(setting, given);
    }
    gathered.take_variables(&sources.environment, Origin::Environment);
    if let Some(file) = &sources.dotenv {
        let variables = gathered.parse_dotenv(file);
        gathered.take_variables(&variables, Origin::Dotenv);
    }
    if let Some(file) = &sources.settings_file {
        gathered.take_toml(file);
    }
    gathered.merge_read_replica_notices();
    gathered
}

/// The variables of a `.env` file, and the lines (from 1) that are no assignments.
pub fn parse_dotenv(text: &str) -> (BTreeMap<String, String>, Vec<usize>) {
    let mut variables = BTreeMap::new();
    let mut bad_lines = Vec::new();
    for item in dotenvy::from_read_iter(text.as_bytes()) {
        match item {
            // The first assignment of a name stays, as when a shell variable is set already.
            Ok((name, value)) => {
                variables.entry(name).or_insert(value);
            }
            Err(dotenvy::Error::LineParse(bad, _)) => bad_lines.push(line_of(text, &bad)),
            // The enum is open; a read from memory has no other way to fail.
            Err(_) => bad_lines.push(1),
        }
    }
    (variables, bad_lines)
}

impl Gathered {
    fn take_variables(&mut self, variables: &BTreeMap<String, String>, origin: Origin) {
        for setting in ALL {
            let written = setting.names.iter().filter_map(|name| variables.get_key_value(*name));
            for (name, text) in written {
                if !foreign::is_service_link(name, text) {
                    let given = Given { text: text.clone(), name: name.clone(), origin };
                    self.raw.offer(setting, given);
                }
            }
        }
        for (name, value) in variables.iter().filter(|(_, value)| !value.is_empty()) {
            self.judge_variable(name, value, origin);
        }
    }

    fn judge_variable(&mut self, name: &str, value: &str, origin: Origin) {
        let known = ALL.iter().any(|setting| setting.names.contains(&name));
        if foreign::is_service_link(name, value) {
            if known || name.starts_with("PGSYNCD_") {
                self.notices.push(Notice::ServiceLink { name: name.to_owned() });
            }
            return;
        }
        if known || name == SETTINGS_FILE_VARIABLE || foreign::is_for_tests(name) {
            return;
        }
        if name.starts_with("PGSYNCD_") {
            let names = ALL.iter().flat_map(|setting| setting.names.iter().copied());
            let nearest = nearest(name, names.chain([SETTINGS_FILE_VARIABLE])).map(str::to_owned);
            self.problems.push(Problem::Unknown { name: name.to_owned(), origin, nearest });
        } else if foreign::asks_for_aws(name, value) {
            self.problems.push(Problem::NotSupported {
                name: name.to_owned(),
                instead: "requests are not signed for Amazon, use a user and a password or a proxy \
                          that signs",
            });
        } else if foreign::is_read_replica(name) {
            self.notices.push(Notice::ReadReplica { names: vec![name.to_owned()] });
        } else if let Some(reason) = foreign::without_meaning(name) {
            let notice = Notice::WithoutMeaning { name: name.to_owned(), reason };
            if !self.notices.contains(&notice) {
                self.notices.push(notice);
            }
        }
    }

    fn parse_dotenv(&mut self, file: &TextFile) -> BTreeMap<String, String> {
        let (variables, bad_lines) = parse_dotenv(&file.text);
        let problem = |line| Problem::DotenvLine { path: file.path.clone(), line };
        self.problems.extend(bad_lines.into_iter().map(problem));
        variables
    }

    fn take_toml(&mut self, file: &TextFile) {
        let table = match file.text.parse::<toml::Table>() {
            Ok(table) => table,
            Err(error) => {
                // The parser's own message quotes the line, which may hold a password.
                let start = error.span().map_or(0, |span| span.start);
                let line = line_at(&file.text, start);
                self.problems.push(Problem::Toml { path: file.path.clone(), line });
                return;
            }
        };
        for (section, value) in &table {
            match value {
                toml::Value::Table(keys) => {
                    for (key, value) in keys {
                        self.take_key(&format!("{section}.{key}"), value);
                    }
                }
                toml::Value::String(_)
                | toml::Value::Integer(_)
                | toml::Value::Float(_)
                | toml::Value::Boolean(_)
                | toml::Value::Datetime(_)
                | toml::Value::Array(_) => self.take_key(section, value),
            }
        }
    }

    fn take_key(&mut self, key: &str, value: &toml::Value) {
        let origin = Origin::SettingsFile;
        let Some(setting) = ALL.iter().find(|setting| setting.toml == key) else {
            let nearest = nearest(key, ALL.iter().map(|setting| setting.toml)).map(str::to_owned);
            self.problems.push(Problem::Unknown { name: key.to_owned(), origin, nearest });
            return;
        };
        match scalar_text(value) {
            Some(text) => self.raw.offer(setting, Given { text, name: key.to_owned(), origin }),
            None => self.problems.push(Problem::Value {
                name: key.to_owned(),
                origin,
                found: None,
                expected: format!("one value ({}), no table or date", setting.unit),
            }),
        }
    }

    /// One notice for all `PG_*_RO` variables of both environments.
    fn merge_read_replica_notices(&mut self) {
        let mut all = Vec::new();
        self.notices.retain_mut(|notice| match notice {
            Notice::ReadReplica { names } => {
                all.append(names);
                false
            }
            Notice::WithoutMeaning { .. }
            | Notice::ServiceLink { .. }
            | Notice::Overruled { .. } => true,
        });
        if !all.is_empty() {
            all.sort();
            all.dedup();
            self.notices.push(Notice::ReadReplica { names: all });
        }
    }
}

/// A list becomes its elements with commas between them; `None` for tables and dates.
fn scalar_text(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Float(number) => Some(number.to_string()),
        toml::Value::Boolean(truth) => Some(truth.to_string()),
        toml::Value::Array(elements) => {
            let texts: Option<Vec<_>> = elements.iter().map(scalar_text).collect();
            texts.map(|texts| texts.join(","))
        }
        toml::Value::Datetime(_) | toml::Value::Table(_) => None,
    }
}

/// The line that a parse error quotes, whole or in part.
fn line_of(text: &str, quoted: &str) -> usize {
    let quoted = quoted.lines().next().unwrap_or(quoted).trim();
    let whole = text.lines().position(|line| line.trim() == quoted);
    let part = || text.lines().position(|line| line.contains(quoted));
    whole.or_else(part).map_or(1, |index| index + 1)
}

fn line_at(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::super::settings;
    use super::*;

    fn file(text: &str) -> TextFile {
        TextFile { path: PathBuf::from("somewhere"), text: text.to_owned() }
    }

    fn variables(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn problems(sources: &Sources) -> Vec<String> {
        gather(sources).problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_flag_beats_the_environment_beats_dotenv_beats_the_file() {
        let mut sources = Sources {
            flags: vec![FlagValue {
                setting: &settings::PG_HOST,
                flag: "--host",
                text: "flag".to_owned(),
            }],
            environment: variables(&[("PG_HOST", "environment")]),
            dotenv: Some(file("PG_HOST=dotenv")),
            settings_file: Some(file("[postgres]\nhost = 'file'")),
        };
        let host = |sources: &Sources| {
            gather(sources).raw.get(&settings::PG_HOST).map(|given| given.text.clone())
        };
        assert_eq!(host(&sources).as_deref(), Some("flag"));
        sources.flags.clear();
        assert_eq!(host(&sources).as_deref(), Some("environment"));
        sources.environment.clear();
        assert_eq!(host(&sources).as_deref(), Some("dotenv"));
        sources.dotenv = None;
        assert_eq!(host(&sources).as_deref(), Some("file"));
        sources.settings_file = None;
        assert_eq!(host(&sources), None);
    }

    #[test]
    fn a_variable_of_the_process_hides_one_of_dotenv() {
        let sources = Sources {
            environment: variables(&[("A", "process")]),
            dotenv: Some(file("A=dotenv\nB=dotenv\n")),
            ..Sources::default()
        };
        assert_eq!(sources.variables(), variables(&[("A", "process"), ("B", "dotenv")]));
    }

    #[test]
    fn dotenv_knows_comments_quotes_export_and_blanks() {
        let text =
            "# comment\nexport A=1\nB=\"two words\"\nC='$not a variable'\nD=x # rest\n\nE=\n";
        let (found, bad) = parse_dotenv(text);
        let expected =
            [("A", "1"), ("B", "two words"), ("C", "$not a variable"), ("D", "x"), ("E", "")];
        assert_eq!(found, variables(&expected));
        assert_eq!(bad, Vec::<usize>::new());
    }

    #[test]
    fn every_bad_line_of_dotenv_is_named_without_its_text() {
        let sources = Sources {
            dotenv: Some(file("A=1\nPG_PASSWORD hunter2\nB=2\nC=two words\n")),
            ..Sources::default()
        };
        let problems = problems(&sources);
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems[0].starts_with("`somewhere` line 2 is no assignment"), "{problems:?}");
        assert!(problems[1].starts_with("`somewhere` line 4 is no assignment"), "{problems:?}");
        assert!(!problems.concat().contains("hunter2"));
    }

    #[test]
    fn a_misspelt_name_of_ours_is_a_problem_wherever_it_stands() {
        let sources = Sources {
            environment: variables(&[
                ("PGSYNCD_HTPP_ADDR", "off"),
                ("PGSYNCD_TEST_POSTGRES_URL", "x"),
                ("PGSYNCD_SERVICE_HOST", "10.0.0.1"),
                ("PGSYNCD_SETTINGS", "x"),
                ("PGSYNCD_LOG_FROMAT", ""),
            ]),
            dotenv: Some(file("PGSYNCD_NAEM=x")),
            settings_file: Some(file("[postgres]\nhsot = 'x'\n[elastic]\nx = 1\n")),
            ..Sources::default()
        };
        assert_eq!(
            problems(&sources),
            [
                "PGSYNCD_HTPP_ADDR (environment) is no setting, did you mean PGSYNCD_HTTP_ADDR?",
                "PGSYNCD_NAEM (.env) is no setting, did you mean PGSYNCD_NAME?",
                "elastic.x (settings file) is no setting",
                "postgres.hsot (settings file) is no setting, did you mean postgres.host?",
            ]
        );
    }

    #[test]
    fn variables_of_pgsync_without_meaning_get_one_notice_each() {
        let sources = Sources {
            environment: variables(&[
                ("SQLALCHEMY_POOL_SIZE", "5"),
                ("POLL_TIMEOUT", "1"),
                ("PG_URL_RO", "x"),
                ("HOME", "/"),
                ("ELASTICSEARCH_AWS_HOSTED", "false"),
            ]),
            dotenv: Some(file("POLL_TIMEOUT=1\nPG_HOST_RO=x\n")),
            ..Sources::default()
        };
        let notices = gather(&sources).notices;
        assert_eq!(notices.len(), 3, "{notices:?}");
        let names = vec!["PG_HOST_RO".to_owned(), "PG_URL_RO".to_owned()];
        assert!(notices.contains(&Notice::ReadReplica { names }));
    }

    #[test]
    fn requests_signed_for_amazon_are_refused() {
        let environment = variables(&[("OPENSEARCH_AWS_HOSTED", "true")]);
        let problems = problems(&Sources { environment, ..Sources::default() });
        assert!(problems[0].starts_with("OPENSEARCH_AWS_HOSTED is not supported yet"));
    }

    #[test]
    fn a_service_link_is_not_taken_for_a_setting() {
        let environment = variables(&[("REDIS_PORT", "tcp://10.0.0.1:6379")]);
        let gathered = gather(&Sources { environment, ..Sources::default() });
        assert!(gathered.raw.get(&settings::REDIS_PORT).is_none());
        assert_eq!(gathered.notices, [Notice::ServiceLink { name: "REDIS_PORT".to_owned() }]);
    }

    #[test]
    fn the_file_takes_numbers_truth_values_and_lists() {
        let text = "[elasticsearch]\nport = 9201\nverify_certs = false\nurl = ['http://a', 'http://b']\nmax_backoff = 2.5\n";
        let gathered = gather(&Sources { settings_file: Some(file(text)), ..Sources::default() });
        let text = |setting| gathered.raw.get(setting).map(|given| given.text.as_str());
        assert_eq!(text(&settings::ELASTICSEARCH_PORT), Some("9201"));
        assert_eq!(text(&settings::ELASTICSEARCH_VERIFY_CERTS), Some("false"));
        assert_eq!(text(&settings::ELASTICSEARCH_URL), Some("http://a,http://b"));
        assert_eq!(text(&settings::ELASTICSEARCH_MAX_BACKOFF), Some("2.5"));
    }

    #[test]
    fn broken_toml_is_named_by_its_line_without_its_text() {
        let text = "[postgres]\npassword = hunter2\n";
        let problems = problems(&Sources { settings_file: Some(file(text)), ..Sources::default() });
        assert_eq!(problems, ["settings file `somewhere` is not valid TOML at line 2"]);
    }
}
