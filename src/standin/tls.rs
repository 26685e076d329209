//! How does a stand-in get a certificate?
//!
//! From PEM text that the test makes (rcgen is no dependency of the program): right, expired or
//! for another name, with its key. Which HTTP version is spoken follows ALPN, as with real
//! providers. The other half is what the caller trusts: exactly one root, no system roots.

use std::io;
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// What a TLS provider shows and offers.
#[derive(Clone, Debug)]
pub struct Certificate<'a> {
    /// The chain in PEM, the server's own certificate first.
    pub chain_pem: &'a str,
    /// The private key in PEM.
    pub key_pem: &'a str,
    /// ALPN protocols in order of preference (`h2`, `http/1.1`); none: no ALPN, HTTP/1.1.
    pub protocols: &'a [&'a str],
}

impl Certificate<'_> {
    pub(super) fn acceptor(&self) -> io::Result<TlsAcceptor> {
        let key: PrivateKeyDer<'static> = PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes())
            .map_err(|_| io::Error::other("the key's PEM holds no private key"))?;
        let mut config = ServerConfig::builder_with_provider(ring())
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_no_client_auth()
            .with_single_cert(certificates(self.chain_pem)?, key)
            .map_err(io::Error::other)?;
        config.alpn_protocols = wire_names(self.protocols);
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

/// Returns a connector that trusts one root.
pub(super) fn connector(root_pem: &str, protocols: &[&str]) -> io::Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(root_pem)? {
        roots.add(certificate).map_err(io::Error::other)?;
    }
    let mut config = ClientConfig::builder_with_provider(ring())
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = wire_names(protocols);
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Returns a name as it stands in a certificate.
pub(super) fn server_name(name: &str) -> io::Result<ServerName<'static>> {
    ServerName::try_from(name.to_owned()).map_err(io::Error::other)
}

fn certificates(pem: &str) -> io::Result<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().map_err(io::Error::other)
}

fn wire_names(protocols: &[&str]) -> Vec<Vec<u8>> {
    protocols.iter().map(|name| name.as_bytes().to_vec()).collect()
}

/// Named, because a process default may be missing or another one.
fn ring() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
