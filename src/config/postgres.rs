//! The source database: `PG_URL`, `PG_*`, and which of them holds where both are given.

use std::path::PathBuf;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use url::Url;

use super::problem::Problem;
use super::resolver::Resolver;
use super::setting::{Setting, nearest};
use super::settings::{
    PG_DATABASE, PG_HOST, PG_PASSWORD, PG_PORT, PG_SSLMODE, PG_SSLROOTCERT, PG_URL, PG_USER,
    PG_WORK_MEM, PGSYNCD_PG_CONNECT_TIMEOUT,
};
use super::value;
use crate::postgres::Secret;

/// How to reach the source database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostgresConfig {
    /// A host name, an address, or the directory of a socket if it starts with `/`.
    pub host: String,
    /// TCP port, or the number in the socket's name.
    pub port: u16,
    /// The role.
    pub user: String,
    /// Its password; `None` if the server asks for none.
    pub password: Option<Secret>,
    /// Database of schema entries that name none; `None` if each names its own.
    pub database: Option<String>,
    /// What TLS must give.
    pub sslmode: SslMode,
    /// Authorities that may sign the server's certificate; `None` for those of the system.
    pub sslrootcert: Option<PathBuf>,
    /// Shown in `pg_stat_activity`; `None` leaves the choice to the connection's user.
    pub application_name: Option<String>,
    /// `work_mem` of reading connections, in PostgreSQL's own notation; `None` for the server's.
    pub work_mem: Option<String>,
    /// How long a connection may take to open.
    pub connect_timeout: Duration,
}

/// What TLS must give, as libpq names it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SslMode {
    /// Never TLS.
    Disable,
    /// TLS only if the server refuses a plain connection.
    Allow,
    /// TLS if the server offers it.
    #[default]
    Prefer,
    /// TLS, whoever answers.
    Require,
    /// TLS, and a certificate signed by an authority we trust.
    VerifyCa,
    /// TLS, a trusted certificate, and the host's name in it.
    VerifyFull,
}

const SSL_MODES: &[(&str, SslMode)] = &[
    ("disable", SslMode::Disable),
    ("allow", SslMode::Allow),
    ("prefer", SslMode::Prefer),
    ("require", SslMode::Require),
    ("verify-ca", SslMode::VerifyCa),
    ("verify-full", SslMode::VerifyFull),
];

/// What a `postgres://` URL names; each part may be absent.
#[derive(Debug, Default, PartialEq, Eq)]
struct UrlParts {
    host: Option<String>,
    port: Option<String>,
    user: Option<String>,
    password: Option<Secret>,
    database: Option<String>,
    sslmode: Option<String>,
    sslrootcert: Option<String>,
    application_name: Option<String>,
    connect_timeout: Option<String>,
}

const URL_PARAMETERS: [&str; 4] = ["sslmode", "sslrootcert", "application_name", "connect_timeout"];

impl Resolver<'_> {
    pub(super) fn postgres(&mut self) -> PostgresConfig {
        let parsed = self.optional(&PG_URL, parse_url);
        let url_is_good = parsed.is_some();
        let parts = parsed.unwrap_or_default();
        let host = self.part(&PG_HOST, parts.host);
        let port = self.part(&PG_PORT, parts.port);
        let user = self.part(&PG_USER, parts.user);
        let password = self.part(&PG_PASSWORD, parts.password.map(|text| text.expose().to_owned()));
        let sslmode = self.part(&PG_SSLMODE, parts.sslmode);
        let connect_timeout = self.part(&PGSYNCD_PG_CONNECT_TIMEOUT, parts.connect_timeout);
        if user.is_none() && self.given(&PG_URL).is_none() {
            self.problems.push(Problem::Missing {
                name: "PG_URL",
                hint: "set PG_URL=postgres://user:password@host:5432/database, or PG_USER with \
                       PG_HOST, PG_PASSWORD and PG_DATABASE",
            });
        } else if user.is_none() && url_is_good {
            self.refuse(&PG_URL, "a user in the URL, or PG_USER beside it");
        }
        PostgresConfig {
            host: host.unwrap_or_else(|| self.text_or_default(&PG_HOST)),
            port: self.parsed_part(&PG_PORT, port, value::number(1..=u16::MAX)),
            user: user.unwrap_or_default(),
            password: password.map(Secret::from),
            database: self.part(&PG_DATABASE, parts.database),
            sslmode: self.parsed_part(&PG_SSLMODE, sslmode, value::one_of(SSL_MODES)),
            sslrootcert: self.part(&PG_SSLROOTCERT, parts.sslrootcert).map(PathBuf::from),
            application_name: parts.application_name,
            work_mem: self.optional(&PG_WORK_MEM, work_mem),
            connect_timeout: self.parsed_part(
                &PGSYNCD_PG_CONNECT_TIMEOUT,
                connect_timeout,
                value::positive_duration,
            ),
        }
    }

    /// A part of the URL, unless the setting of its own was given at a higher rank: a flag beats
    /// the URL of the environment, the URL beats its parts beside it, as in PGSync.
    fn part(&mut self, setting: &Setting, of_url: Option<String>) -> Option<String> {
        let Some(of_url) = of_url else { return self.text(setting) };
        let own = self.text(setting);
        if self.origin(setting) > self.origin(&PG_URL) {
            return own;
        }
        if own.is_some_and(|own| own != of_url) {
            self.overruled(setting, &PG_URL);
        }
        Some(of_url)
    }

    /// Parses what [`Self::part`] chose, and blames the setting that it came from.
    fn parsed_part<T: Default>(
        &mut self,
        setting: &Setting,
        chosen: Option<String>,
        parse: impl Fn(&str) -> Result<T, value::Expected>,
    ) -> T {
        if chosen.is_none() || chosen == self.text(setting) {
            return self.value(setting, parse);
        }
        match parse(&chosen.unwrap_or_default()) {
            Ok(parsed) => parsed,
            Err(expected) => {
                let (_, key) = setting.section_and_key();
                self.refuse(&PG_URL, format!("as its {key} {expected}"));
                T::default()
            }
        }
    }
}

/// What the URL names.
fn parse_url(text: &str) -> Result<UrlParts, value::Expected> {
    let form = "a URL such as `postgres://user:password@host:5432/database`; characters like \
                `@`, `/`, `#` and `%` in a password are written as `%40`, `%2F`, `%23` and `%25`";
    let url = Url::parse(text).ok().ok_or(form)?;
    // A fragment is the rest of a password with an unescaped `#`.
    if !matches!(url.scheme(), "postgres" | "postgresql") || url.fragment().is_some() {
        return Err(form.to_owned());
    }
    if url.host_str().is_some_and(|host| host.contains(',')) {
        return Err("one host: changes are read from the primary alone".to_owned());
    }
    let mut parts = UrlParts {
        host: url.host_str().filter(|host| !host.is_empty()).map(bare_host).transpose()?,
        port: url.port().map(|port| port.to_string()),
        user: some_decoded(url.username())?,
        password: some_decoded(url.password().unwrap_or_default())?.map(Secret::from),
        database: some_decoded(url.path().trim_start_matches('/'))?,
        ..UrlParts::default()
    };
    for (name, value) in url.query_pairs() {
        let slot = match name.as_ref() {
            "sslmode" => &mut parts.sslmode,
            "sslrootcert" => &mut parts.sslrootcert,
            "application_name" => &mut parts.application_name,
            "connect_timeout" => &mut parts.connect_timeout,
            unknown => return Err(unknown_parameter(unknown)),
        };
        *slot = Some(value.into_owned());
    }
    Ok(parts)
}

fn unknown_parameter(name: &str) -> value::Expected {
    let hint = nearest(name, URL_PARAMETERS.into_iter())
        .map(|nearest| format!(", did you mean `{nearest}`?"))
        .unwrap_or_default();
    format!("only the parameters {} after `?`, not `{name}`{hint}", URL_PARAMETERS.join(", "))
}

/// The host as a connection wants it: an IPv6 address without brackets, a socket directory
/// (`%2Fvar%2Frun`) decoded.
fn bare_host(host: &str) -> Result<String, value::Expected> {
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    decoded(host)
}

/// `None` for an absent part.
fn some_decoded(text: &str) -> Result<Option<String>, value::Expected> {
    if text.is_empty() { Ok(None) } else { decoded(text).map(Some) }
}

/// The text behind `%40` and its kind.
fn decoded(text: &str) -> Result<String, value::Expected> {
    let decoded = percent_decode_str(text).decode_utf8().ok();
    decoded.map(std::borrow::Cow::into_owned).ok_or_else(|| "UTF-8 behind every `%`".to_owned())
}

/// PostgreSQL's own notation is kept as it is, its unit is kB. It ends in a SET statement, hence
/// nothing but digits and a unit may pass.
fn work_mem(text: &str) -> Result<String, value::Expected> {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let has_digits = unit.len() < text.len();
    if has_digits && matches!(unit, "" | "B" | "kB" | "MB" | "GB" | "TB") {
        Ok(text.to_owned())
    } else {
        Err("a size such as `64MB`; a bare number is kB, as in PostgreSQL".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_gives_its_parts_decoded() {
        let parts = parse_url(
            "postgresql://us%40er:p%2Fw%25@db.example:6000/my%20db?sslmode=require&application_name=a%20b&connect_timeout=3",
        )
        .unwrap();
        let expected = UrlParts {
            host: Some("db.example".to_owned()),
            port: Some("6000".to_owned()),
            user: Some("us@er".to_owned()),
            password: Some(Secret::from("p/w%".to_owned())),
            database: Some("my db".to_owned()),
            sslmode: Some("require".to_owned()),
            sslrootcert: None,
            application_name: Some("a b".to_owned()),
            connect_timeout: Some("3".to_owned()),
        };
        assert_eq!(parts, expected);
    }

    #[test]
    fn a_url_may_leave_out_everything() {
        assert_eq!(parse_url("postgres://").unwrap(), UrlParts::default());
        let host = |text| parse_url(text).unwrap().host;
        assert_eq!(host("postgres://u@[::1]:5432/d"), Some("::1".to_owned()));
        assert_eq!(host("postgres://u@%2Fvar%2Frun/d"), Some("/var/run".to_owned()));
    }

    #[test]
    fn what_a_url_cannot_be_is_refused() {
        for text in [
            "",
            "db:5432",
            "mysql://u@h/d",
            "postgres://u:p@h:99999/d",
            "postgres://u:%FF@h/",
            "postgres://u:1#2@h/d",
            "postgres://u@a,b/d",
        ] {
            assert!(parse_url(text).is_err(), "{text}");
        }
        let unknown = parse_url("postgres://u@h/d?sslmod=require").unwrap_err();
        assert!(unknown.contains("not `sslmod`, did you mean `sslmode`?"), "{unknown}");
    }

    #[test]
    fn work_mem_lets_nothing_but_a_size_pass() {
        assert_eq!(work_mem("64MB"), Ok("64MB".to_owned()));
        assert_eq!(work_mem("4096"), Ok("4096".to_owned()));
        for text in ["", "MB", "64MB; drop table x", "64 parsecs", "-1"] {
            assert!(work_mem(text).is_err(), "{text}");
        }
    }
}
