//! Trust by fingerprint: a server is the right one if its certificate has a known SHA-256, whoever
//! signed it.

use std::sync::Arc;

use reqwest::tls::Identity;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, SignatureScheme};
use sha2::{Digest, Sha256};

use super::error::ClientError;
use super::options::{ClientIdentity, ElasticsearchOptions};

/// Sets what the connection trusts and shows.
pub(super) fn configure(
    builder: reqwest::ClientBuilder,
    options: &ElasticsearchOptions,
) -> Result<reqwest::ClientBuilder, ClientError> {
    if let Some(fingerprint) = &options.fingerprint {
        let config = pinned(fingerprint, options.client_identity.as_ref())?;
        return Ok(builder.use_preconfigured_tls(config));
    }
    let mut builder = builder.danger_accept_invalid_certs(!options.verify_certs);
    if let Some(pem) = &options.ca_certs {
        let authorities = reqwest::Certificate::from_pem_bundle(pem)
            .map_err(|source| unusable("ca_certs", "PEM certificates", Some(source)))?;
        if authorities.is_empty() {
            return Err(unusable("ca_certs", "at least one PEM certificate", None));
        }
        builder = builder.tls_built_in_root_certs(false);
        builder =
            authorities.into_iter().fold(builder, reqwest::ClientBuilder::add_root_certificate);
    }
    if let Some(identity) = &options.client_identity {
        let mut pem = identity.key.clone();
        pem.push(b'\n');
        pem.extend_from_slice(&identity.certificate);
        let identity = Identity::from_pem(&pem).map_err(|source| {
            unusable("client_cert and client_key", "a PEM certificate and its key", Some(source))
        })?;
        builder = builder.identity(identity);
    }
    Ok(builder)
}

fn unusable(
    setting: &'static str,
    expected: &'static str,
    source: Option<reqwest::Error>,
) -> ClientError {
    ClientError::Options { setting, expected, source }
}

fn pinned(
    fingerprint: &str,
    identity: Option<&ClientIdentity>,
) -> Result<ClientConfig, ClientError> {
    let fingerprint = parse_fingerprint(fingerprint).ok_or_else(|| {
        unusable(
            "ssl_assert_fingerprint",
            "the SHA-256 of a certificate, 64 hexadecimal digits",
            None,
        )
    })?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Arc::new(Pinned { fingerprint, provider: Arc::clone(&provider) });
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|_no_versions| unusable("TLS", "a provider with TLS 1.2 or 1.3", None))?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let Some(identity) = identity else {
        return Ok(builder.with_no_client_auth());
    };
    let wrong = || unusable("client_cert and client_key", "a PEM certificate and its key", None);
    let certificates = CertificateDer::pem_slice_iter(&identity.certificate)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_no_pem| wrong())?;
    let key = PrivateKeyDer::from_pem_slice(&identity.key).map_err(|_no_pem| wrong())?;
    builder.with_client_auth_cert(certificates, key).map_err(|_mismatch| wrong())
}

fn parse_fingerprint(text: &str) -> Option<[u8; 32]> {
    let digits: String = text.chars().filter(|character| *character != ':').collect();
    if digits.len() != 64 || !digits.is_ascii() {
        return None;
    }
    let mut bytes = [0; 32];
    for (position, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(digits.get(2 * position..2 * position + 2)?, 16).ok()?;
    }
    Some(bytes)
}

/// Accepts one certificate.
#[derive(Debug)]
struct Pinned {
    fingerprint: [u8; 32],
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if Sha256::digest(end_entity).as_slice() == self.fingerprint {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_64_digits_with_or_without_colons() {
        let plain = "ab".repeat(32);
        let colons = vec!["AB"; 32].join(":");
        assert_eq!(parse_fingerprint(&plain), Some([0xab; 32]));
        assert_eq!(parse_fingerprint(&colons), Some([0xab; 32]));
        assert_eq!(parse_fingerprint("abcd"), None);
        assert_eq!(parse_fingerprint(&"zz".repeat(32)), None);
    }
}
