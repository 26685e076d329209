//! Certificates for providers that speak TLS.

use pointsman::standin::{Certificate, Provider, Script};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;

/// An authority of the tests' own, and certificates from it.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

pub struct Papers {
    chain: String,
    key: String,
}

impl Papers {
    pub async fn provider(&self, script: impl Into<Script>, protocols: &[&str]) -> Provider {
        let certificate = Certificate { chain_pem: &self.chain, key_pem: &self.key, protocols };
        Provider::start_tls(script, &certificate).await.unwrap()
    }
}

impl Authority {
    pub fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), issuer.pem()).unwrap();
        Authority { issuer, folder }
    }

    pub fn tls(&self) -> String {
        format!("tls: {{ca: \"{}\"}}", self.folder.path().join("ca.pem").display())
    }

    pub fn papers(&self, name: &str, is_expired: bool) -> Papers {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        if is_expired {
            params.not_before = rcgen::date_time_ymd(2019, 1, 1);
            params.not_after = rcgen::date_time_ymd(2020, 1, 1);
        }
        let key = KeyPair::generate().unwrap();
        let chain = params.signed_by(&key, &self.issuer).unwrap().pem();
        Papers { chain, key: key.serialize_pem() }
    }
}
