//! The configuration in the words of each part.

use std::path::Path;

use crate::checkpoint::{RedisSettings, StoreSettings};
use crate::config::{
    CheckpointConfig, Config, ElasticsearchAuth, ElasticsearchConfig, OnReject,
    SslMode as ConfiguredSslMode,
};
use crate::pipeline::PipelineError;
use crate::postgres::{ConnectOptions, SslMode, SslSettings};
use crate::sink::elasticsearch::{Auth, ClientIdentity, Compression};
use crate::sink::{ElasticsearchOptions, Rejections, SinkOptions};

/// How to reach `database`.
pub(crate) fn connect_options(config: &Config, database: &str) -> ConnectOptions {
    let postgres = &config.postgres;
    let mode = match postgres.sslmode {
        ConfiguredSslMode::Disable => SslMode::Disable,
        ConfiguredSslMode::Allow => SslMode::Allow,
        ConfiguredSslMode::Prefer => SslMode::Prefer,
        ConfiguredSslMode::Require => SslMode::Require,
        ConfiguredSslMode::VerifyCa => SslMode::VerifyCa,
        ConfiguredSslMode::VerifyFull => SslMode::VerifyFull,
    };
    ConnectOptions {
        host: postgres.host.clone(),
        port: postgres.port,
        user: postgres.user.clone(),
        password: postgres.password.clone(),
        database: database.to_owned(),
        ssl: SslSettings { mode, root_cert: postgres.sslrootcert.clone() },
        application_name: postgres.application_name.clone().unwrap_or_else(|| config.name.clone()),
        connect_timeout: postgres.connect_timeout,
        work_mem: postgres.work_mem.clone(),
    }
}

/// How to reach Elasticsearch. Reads the files of certificates and keys.
///
/// # Errors
/// [`PipelineError::CertificateFile`] if one cannot be read.
pub(crate) fn elasticsearch_options(
    config: &ElasticsearchConfig,
) -> Result<ElasticsearchOptions, PipelineError> {
    let auth = match &config.auth {
        ElasticsearchAuth::None => Auth::None,
        ElasticsearchAuth::Basic { user, password } => {
            Auth::Basic { user: user.clone(), password: password.expose().to_owned() }
        }
        ElasticsearchAuth::ApiKey(key) => Auth::ApiKey(key.expose().to_owned()),
        ElasticsearchAuth::Bearer(token) => Auth::Bearer(token.expose().to_owned()),
    };
    let tls = &config.tls;
    let client_identity = tls
        .client
        .as_ref()
        .map(|client| {
            let (certificate, key) = (read(&client.certificate)?, read(&client.key)?);
            Ok::<_, PipelineError>(ClientIdentity { certificate, key })
        })
        .transpose()?;
    Ok(ElasticsearchOptions {
        auth,
        verify_certs: tls.verify_certificates,
        ca_certs: tls.authorities.as_deref().map(read).transpose()?,
        client_identity,
        fingerprint: tls.fingerprint.map(|digest| hexadecimal(&digest)),
        opaque_id: config.opaque_id.clone(),
        timeout: config.timeout,
        compression: if config.http_compress { Compression::Gzip } else { Compression::Off },
        ..ElasticsearchOptions::new(config.urls.clone())
    })
}

fn read(path: &Path) -> Result<Vec<u8>, PipelineError> {
    let unreadable = |source| PipelineError::CertificateFile { path: path.to_owned(), source };
    std::fs::read(path).map_err(unreadable)
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// How the sink writes.
pub(crate) fn sink_options(config: &Config) -> SinkOptions {
    let elasticsearch = &config.elasticsearch;
    SinkOptions {
        request_documents: elasticsearch.chunk_size,
        request_bytes: elasticsearch.max_chunk_bytes,
        max_in_flight: u16::try_from(elasticsearch.bulk_in_flight).unwrap_or(u16::MAX),
        initial_backoff: elasticsearch.initial_backoff,
        max_backoff: elasticsearch.max_backoff,
        rejections: match config.on_reject {
            OnReject::DeadLetter => Rejections::Keep,
            OnReject::Stop => Rejections::Stop,
        },
        ..SinkOptions::default()
    }
}

/// Where checkpoints are kept.
pub(crate) fn store_settings(config: &CheckpointConfig) -> StoreSettings {
    match config {
        CheckpointConfig::Redis { url, .. } => {
            StoreSettings::Redis(RedisSettings { url: url.expose().to_owned() })
        }
        CheckpointConfig::Embedded { directory } => StoreSettings::Embedded(directory.clone()),
    }
}
