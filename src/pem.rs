//! Which certificates and keys does a file hold?
//!
//! Asked twice of the same files: by `config`, through [`crate::config::Outside`], so that `pointsman
//! check` finds what a start would refuse, with the line where the file is named; and by who uses what
//! is in them (listeners, ways to providers). One reading, so that the two cannot disagree.

use crate::config::PairFault as Fault;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use std::io::Read;
use std::path::Path;

/// Longest file that is read, in bytes: four times what a whole system trusts.
const FILE_MAX: u64 = 1 << 20;

/// Reads the certificate authorities of a file, each checked to be one.
///
/// # Errors
/// Why it can be none, as the end of a sentence that begins with the path.
pub fn authorities(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, &'static str> {
    let mut store = rustls::RootCertStore::empty();
    let mut found = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|_| "is not PEM")?;
        store.add(certificate.clone()).map_err(|_| "holds a certificate that cannot be used")?;
        found.push(certificate);
    }
    if found.is_empty() { Err("holds no certificate") } else { Ok(found) }
}

/// Reads a certificate with its chain and its key.
///
/// # Errors
/// Which file is wrong, and why.
pub fn certified(certificate: &Path, key: &Path) -> Result<CertifiedKey, Fault> {
    let chain = read(certificate).map_err(Fault::Certificate)?;
    let chain = CertificateDer::pem_slice_iter(&chain)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| Fault::Certificate("is not PEM".to_owned()))?;
    if chain.is_empty() {
        return Err(Fault::Certificate("holds no certificate".to_owned()));
    }
    let key = read(key).map_err(Fault::Key)?;
    let key =
        PrivateKeyDer::from_pem_slice(&key).map_err(|_| Fault::Key("holds no private key".to_owned()))?;
    CertifiedKey::from_der(chain, key, &rustls::crypto::ring::default_provider()).map_err(|_| {
        Fault::Key("does not belong to the certificate, or is of a kind that is not known".to_owned())
    })
}

/// Reads a file of certificates.
///
/// # Errors
/// Why it cannot be read, as the end of a sentence that begins with the path.
pub fn read(path: &Path) -> Result<Vec<u8>, String> {
    let cannot = |fault: std::io::Error| format!("cannot be read: {}", fault.kind());
    // Asked before it is opened: a pipe would wait for somebody to write.
    if !std::fs::metadata(path).map_err(cannot)?.is_file() {
        return Err("is not a regular file".to_owned());
    }
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(cannot)?;
    file.take(FILE_MAX + 1).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() as u64 > FILE_MAX { Err("is larger than 1 MiB".to_owned()) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_certificate_is_refused_with_the_file_that_is_wrong() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = directory.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let (empty, broken) = (
            file("empty", ""),
            file("broken", "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"),
        );
        let missing = directory.path().join("missing");
        for (certificate, want) in [
            (&missing, "cannot be read: entity not found"),
            (&empty, "holds no certificate"),
            (&broken, "is not PEM"),
        ] {
            let fault = certified(certificate, &missing).unwrap_err();
            assert_eq!(fault, Fault::Certificate(want.to_owned()));
        }
        for (pem, want) in [("", "holds no certificate"), ("-----BEGIN CERTIFICATE-----\n!", "is not PEM")] {
            assert_eq!(authorities(pem.as_bytes()).unwrap_err(), want);
        }
    }
}
