//! TLS settings for each `sslmode`, as libpq understands it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};

use crate::postgres::{SslMode, SslSettings};

/// Why no TLS connection can be attempted.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file of trusted certificates cannot be read.
    #[error("root certificates `{}` cannot be read", path.display())]
    Read {
        /// File.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// The file is no PEM.
    #[error("root certificates `{}` are not PEM", path.display())]
    Pem {
        /// File.
        path: PathBuf,
        /// Cause.
        source: pem::Error,
    },
    /// The file holds no certificate.
    #[error("root certificates `{}` hold no certificate, expected `BEGIN CERTIFICATE`", path.display())]
    Empty {
        /// File.
        path: PathBuf,
    },
    /// A certificate in the file cannot be a trust anchor.
    #[error("root certificates `{}` hold a certificate that cannot be used", path.display())]
    Anchor {
        /// File.
        path: PathBuf,
        /// Cause.
        source: rustls::Error,
    },
    /// The system has no certificates, and no file is named.
    #[error("the system has no root certificates, and no file of them is named")]
    NoSystemRoots {
        /// The first of the causes, if the system named one.
        source: Option<rustls_native_certs::Error>,
    },
    /// The system's certificates could not be looked up.
    #[error("the system's root certificates cannot be looked up")]
    SystemRoots {
        /// Cause.
        source: tokio::task::JoinError,
    },
    /// No verifier can be built of the certificates.
    #[error("the root certificates make no verifier")]
    Verifier {
        /// Cause.
        source: rustls::client::VerifierBuilderError,
    },
    /// The TLS library refuses its own defaults.
    #[error("the TLS library cannot be set up")]
    Library {
        /// Cause.
        source: rustls::Error,
    },
}

/// How much of the server's certificate is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Check {
    Nothing,
    Chain,
    ChainAndName,
}

impl Check {
    /// A root certificate makes even `require` check the chain: libpq does so since 8.4.
    ///
    /// Source: PostgreSQL 17 manual, 32.19.1 "Client Verification of Server Certificates".
    fn of(settings: &SslSettings) -> Self {
        match settings.mode {
            SslMode::VerifyFull => Self::ChainAndName,
            SslMode::VerifyCa => Self::Chain,
            SslMode::Disable | SslMode::Allow | SslMode::Prefer | SslMode::Require => {
                if settings.root_cert.is_some() { Self::Chain } else { Self::Nothing }
            }
        }
    }
}

/// The client's TLS configuration for these settings.
///
/// # Errors
/// [`TlsError`] names the file and the cause.
pub async fn client_config(settings: &SslSettings) -> Result<Arc<ClientConfig>, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let verifier = verifier(settings, &provider).await?;
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|source| TlsError::Library { source })?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// The name to check and to announce. A host that is no DNS name is an error only where names count.
pub(crate) fn server_name(settings: &SslSettings, host: &str) -> Option<ServerName<'static>> {
    match ServerName::try_from(host.to_owned()) {
        Ok(name) => Some(name),
        Err(_) if Check::of(settings) == Check::ChainAndName => None,
        Err(_) => Some(ServerName::from(std::net::IpAddr::from([0, 0, 0, 0]))),
    }
}

async fn verifier(
    settings: &SslSettings,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, TlsError> {
    let check = Check::of(settings);
    if check == Check::Nothing {
        return Ok(Arc::new(AnyServer { provider: Arc::clone(provider) }));
    }
    let (anchors, roots) = match &settings.root_cert {
        Some(path) => file_roots(path).await?,
        None => (Vec::new(), system_roots().await?),
    };
    let chain = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map_err(|source| TlsError::Verifier { source })?;
    Ok(Arc::new(TrustedServer { chain, anchors, check }))
}

async fn file_roots(
    path: &Path,
) -> Result<(Vec<CertificateDer<'static>>, RootCertStore), TlsError> {
    let path = path.to_path_buf();
    let text = match tokio::fs::read(&path).await {
        Ok(text) => text,
        Err(source) => return Err(TlsError::Read { path, source }),
    };
    let certificates = match CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>() {
        Ok(certificates) if certificates.is_empty() => return Err(TlsError::Empty { path }),
        Ok(certificates) => certificates,
        Err(source) => return Err(TlsError::Pem { path, source }),
    };
    let mut roots = RootCertStore::empty();
    for certificate in &certificates {
        if let Err(source) = roots.add(certificate.clone()) {
            return Err(TlsError::Anchor { path, source });
        }
    }
    Ok((certificates, roots))
}

async fn system_roots() -> Result<RootCertStore, TlsError> {
    let found = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs)
        .await
        .map_err(|source| TlsError::SystemRoots { source })?;
    let mut roots = RootCertStore::empty();
    // A system's store may hold certificates older than the rules of today: those are passed over.
    let (added, _ignored) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        return Err(TlsError::NoSystemRoots { source: found.errors.into_iter().next() });
    }
    Ok(roots)
}

/// Accepts every certificate: encryption against listeners, none against impostors.
#[derive(Debug)]
struct AnyServer {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Accepts a certificate that leads to a trusted one, or is itself one of those in the file.
#[derive(Debug)]
struct TrustedServer {
    chain: Arc<WebPkiServerVerifier>,
    anchors: Vec<CertificateDer<'static>>,
    check: Check,
}

impl TrustedServer {
    /// A server's own self-signed certificate as `sslrootcert` is common and good for libpq, but the
    /// verifier takes no authority for a server.
    fn is_anchor(&self, certificate: &CertificateDer<'_>) -> bool {
        self.anchors.iter().any(|anchor| anchor.as_ref() == certificate.as_ref())
    }
}

impl ServerCertVerifier for TrustedServer {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verdict = self.chain.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        match verdict {
            Err(error) if is_about_name(&error) && self.check == Check::Chain => {
                Ok(ServerCertVerified::assertion())
            }
            Err(error) if !is_about_time(&error) && self.is_anchor(end_entity) => {
                if self.check == Check::ChainAndName {
                    let certificate = ParsedCertificate::try_from(end_entity)?;
                    rustls::client::verify_server_name(&certificate, server_name)?;
                }
                Ok(ServerCertVerified::assertion())
            }
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

/// The name is compared after the chain has passed, so these errors vouch for the chain.
fn is_about_name(error: &rustls::Error) -> bool {
    matches!(
        error,
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }
        )
    )
}

fn is_about_time(error: &rustls::Error) -> bool {
    matches!(
        error,
        rustls::Error::InvalidCertificate(
            CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. }
        )
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(mode: SslMode, root_cert: Option<&str>) -> SslSettings {
        SslSettings { mode, root_cert: root_cert.map(PathBuf::from) }
    }

    #[test]
    fn a_root_certificate_makes_require_check_the_chain() {
        assert_eq!(Check::of(&settings(SslMode::Require, None)), Check::Nothing);
        assert_eq!(Check::of(&settings(SslMode::Require, Some("ca.crt"))), Check::Chain);
        assert_eq!(Check::of(&settings(SslMode::VerifyCa, None)), Check::Chain);
        assert_eq!(Check::of(&settings(SslMode::VerifyFull, None)), Check::ChainAndName);
    }

    #[test]
    fn a_host_that_is_no_name_matters_only_to_verify_full() {
        assert!(server_name(&settings(SslMode::Require, None), "a b").is_some());
        assert!(server_name(&settings(SslMode::VerifyFull, None), "a b").is_none());
        assert!(server_name(&settings(SslMode::VerifyFull, None), "127.0.0.1").is_some());
    }

    #[tokio::test]
    async fn errors_name_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("missing.crt");
        let settings = SslSettings { mode: SslMode::VerifyCa, root_cert: Some(missing.clone()) };
        let error = client_config(&settings).await.unwrap_err();
        assert!(error.to_string().contains("missing.crt"), "{error}");
        tokio::fs::write(&missing, "no certificate").await.unwrap();
        assert!(matches!(client_config(&settings).await, Err(TlsError::Empty { .. })));
    }
}
