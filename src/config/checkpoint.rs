//! Where checkpoints are kept: in Redis when any of its settings is given, else in a directory.

use std::path::PathBuf;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use url::Url;

use super::elasticsearch::bracketed;
use super::resolver::Resolver;
use super::settings::{
    CHECKPOINT_PATH, REDIS_AUTH, REDIS_DB, REDIS_HOST, REDIS_PORT, REDIS_SCHEME, REDIS_URL,
    REDIS_USER,
};
use super::value::{self, Expected};
use crate::postgres::Secret;

/// Where checkpoints are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckpointConfig {
    /// In Redis.
    Redis {
        /// The whole URL, perhaps with a password.
        url: Secret,
        /// Scheme, host, port and database of it, fit for logs and messages.
        address: String,
    },
    /// In an embedded store.
    Embedded {
        /// The directory that holds it.
        directory: PathBuf,
    },
}

impl Resolver<'_> {
    pub(super) fn checkpoint(&mut self) -> CheckpointConfig {
        let parts = [&REDIS_SCHEME, &REDIS_HOST, &REDIS_PORT, &REDIS_DB, &REDIS_USER, &REDIS_AUTH];
        let best_part = parts.iter().map(|part| self.origin(part)).max().flatten();
        let redis = if self.origin(&REDIS_URL).is_some_and(|url| Some(url) >= best_part) {
            self.optional(&REDIS_URL, parse_url)
        } else if best_part.is_some() {
            self.redis_of_parts()
        } else {
            None
        };
        let directory = PathBuf::from(self.text_or_default(&CHECKPOINT_PATH));
        redis.unwrap_or(CheckpointConfig::Embedded { directory })
    }

    fn redis_of_parts(&mut self) -> Option<CheckpointConfig> {
        let scheme = value::one_of(&[("redis", "redis"), ("rediss", "rediss")]);
        let scheme = self.value(&REDIS_SCHEME, scheme);
        let host = bracketed(&self.text_or_default(&REDIS_HOST));
        let port = self.value(&REDIS_PORT, value::number(1..=u16::MAX));
        // Redis' own limit is its `databases` setting; the range only catches slips.
        let database: u32 = self.value(&REDIS_DB, value::number(0..=100_000));
        let escaped = |text: String| utf8_percent_encode(&text, NON_ALPHANUMERIC).to_string();
        let user = self.text(&REDIS_USER).map(escaped).unwrap_or_default();
        let password = self.text(&REDIS_AUTH).map(escaped);
        let credentials = match password {
            Some(password) => format!("{user}:{password}@"),
            None if user.is_empty() => String::new(),
            None => format!("{user}@"),
        };
        let redis = parse_url(&format!("{scheme}://{credentials}{host}:{port}/{database}")).ok();
        if redis.is_none() {
            self.refuse(&REDIS_HOST, "a host name; a whole URL is REDIS_URL");
        }
        redis
    }
}

/// Checks the URL as far as its form goes.
fn parse_url(text: &str) -> Result<CheckpointConfig, Expected> {
    let form = "a URL such as `redis://user:password@host:6379/0`, or `rediss://` for TLS";
    let url = Url::parse(text).ok().ok_or(form)?;
    let host = url.host_str().filter(|host| !host.is_empty()).ok_or(form)?;
    let database = url.path().trim_start_matches('/');
    let is_number = database.is_empty() || database.parse::<u32>().is_ok();
    if !matches!(url.scheme(), "redis" | "rediss") || !is_number {
        return Err(form.to_owned());
    }
    let port = url.port().unwrap_or(6379);
    let number = if database.is_empty() { "0" } else { database };
    let address = format!("{}://{host}:{port}/{number}", url.scheme());
    Ok(CheckpointConfig::Redis { url: Secret::from(text.to_owned()), address })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_of_redis_holds_no_password() {
        let CheckpointConfig::Redis { url, address } =
            parse_url("rediss://u:geheim@cache:6380/2").unwrap()
        else {
            panic!("redis expected")
        };
        assert_eq!(address, "rediss://cache:6380/2");
        assert_eq!(url.expose(), "rediss://u:geheim@cache:6380/2");
        for text in ["", "cache:6379", "http://cache", "redis://", "redis://cache/zero"] {
            assert!(parse_url(text).is_err(), "{text}");
        }
    }
}
