//! `tls-server-end-point`: what ties a SCRAM exchange to the TLS connection it runs in.
//!
//! The hash of the server's certificate by the hash function of its signature, MD5 and SHA-1 raised
//! to SHA-256 (RFC 5929, 4.1). Only the signature's algorithm is read from the certificate.

use sha2::{Digest, Sha256, Sha384, Sha512};

const SEQUENCE: u8 = 0x30;
const OBJECT_IDENTIFIER: u8 = 0x06;

/// DER contents of signature algorithm identifiers, and what hashes a certificate signed so.
const ALGORITHMS: [(&[u8], Hash); 12] = [
    // 1.2.840.113549.1.1: md5, sha1, sha256, sha384, sha512 with RSA
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 4], Hash::Sha256),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 5], Hash::Sha256),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11], Hash::Sha256),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 12], Hash::Sha384),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 13], Hash::Sha512),
    // 1.2.840.10045.4: ECDSA with sha1, sha256, sha384, sha512
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 1], Hash::Sha256),
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2], Hash::Sha256),
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3], Hash::Sha384),
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 4], Hash::Sha512),
    // 2.16.840.1.101.3.4.3: DSA with sha256, sha384, sha512
    (&[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 3, 2], Hash::Sha256),
    (&[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 3, 3], Hash::Sha384),
    (&[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 3, 4], Hash::Sha512),
];

#[derive(Clone, Copy)]
enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

/// The binding data of a DER certificate; `None` if its signature has no one hash function
/// (Ed25519, RSASSA-PSS), for which PostgreSQL defines no binding either.
pub(crate) fn tls_server_end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    let algorithm = signature_algorithm(certificate)?;
    let (_, hash) = ALGORITHMS.into_iter().find(|(identifier, _)| *identifier == algorithm)?;
    Some(match hash {
        Hash::Sha256 => Sha256::digest(certificate).to_vec(),
        Hash::Sha384 => Sha384::digest(certificate).to_vec(),
        Hash::Sha512 => Sha512::digest(certificate).to_vec(),
    })
}

/// `Certificate ::= SEQUENCE { tbsCertificate SEQUENCE, signatureAlgorithm SEQUENCE { OID, … }, … }`
fn signature_algorithm(certificate: &[u8]) -> Option<&[u8]> {
    let (certificate, _) = element(certificate, SEQUENCE)?;
    let (_, behind_body) = element(certificate, SEQUENCE)?;
    let (algorithm, _) = element(behind_body, SEQUENCE)?;
    let (identifier, _) = element(algorithm, OBJECT_IDENTIFIER)?;
    Some(identifier)
}

/// Contents of the DER element at the start of `input`, and what follows it.
fn element(input: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (first, rest) = input.split_first()?;
    if *first != tag {
        return None;
    }
    let (length, rest) = rest.split_first()?;
    if *length < 0x80 {
        return rest.split_at_checked(usize::from(*length));
    }
    let (digits, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
    if digits.len() > 4 {
        return None;
    }
    let length = digits.iter().fold(0_usize, |sum, digit| sum << 8 | usize::from(*digit));
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sequence(contents: &[u8]) -> Vec<u8> {
        let length = u16::try_from(contents.len()).unwrap().to_be_bytes();
        [&[SEQUENCE, 0x82], &length[..], contents].concat()
    }

    fn certificate(algorithm: &[u8]) -> Vec<u8> {
        let length = u8::try_from(algorithm.len()).unwrap();
        let algorithm = sequence(&[&[OBJECT_IDENTIFIER, length], algorithm].concat());
        sequence(&[sequence(&[0; 300]), algorithm, vec![3, 1, 0]].concat())
    }

    #[test]
    fn the_hash_follows_the_signature() {
        let length = |algorithm: &[u8]| {
            tls_server_end_point(&certificate(algorithm)).map(|binding| binding.len())
        };
        assert_eq!(length(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 5]), Some(32));
        assert_eq!(length(&[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3]), Some(48));
        assert_eq!(length(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 13]), Some(64));
        assert_eq!(length(&[0x2b, 0x65, 0x70]), None, "Ed25519");
    }

    #[test]
    fn a_truncated_certificate_has_no_binding() {
        let whole = certificate(&[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2]);
        for length in 0..whole.len() {
            assert_eq!(tls_server_end_point(&whole[..length]), None);
        }
    }
}
