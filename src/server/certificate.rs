//! The certificate of a listener, exchangeable under way.
//!
//! rustls asks for a certificate at each handshake; the answer is whatever was last read, so that a
//! reload renews it without touching a connection. It is also the one place where TLS 1.2 can be
//! refused: Pingora always offers both, and a client that knows no TLS 1.3 suite gets no
//! certificate.

use crate::config::PairFault;
use crate::config::plan::ListenTls;
use crate::pem;
use arc_swap::ArcSwap;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::sync::Arc;

/// Holds the certificate in use.
#[derive(Debug)]
pub struct Certificate {
    current: ArcSwap<CertifiedKey>,
    only_tls13: bool,
}

impl Certificate {
    /// Reads the certificate of a listener.
    ///
    /// # Errors
    /// What is wrong with the files, naming them.
    pub fn read(tls: &ListenTls) -> Result<Arc<Self>, String> {
        let current = ArcSwap::from_pointee(certified(tls)?);
        Ok(Arc::new(Certificate { current, only_tls13: tls.only_tls13 }))
    }

    /// Reads the files again.
    ///
    /// # Errors
    /// What is wrong with the files; the certificate in use then stays.
    pub fn renew(&self, tls: &ListenTls) -> Result<(), String> {
        self.current.store(Arc::new(certified(tls)?));
        Ok(())
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let knows_tls13 = hello.cipher_suites().iter().any(|suite| {
            // RFC 8446, appendix B.4: the TLS 1.3 suites are 0x1301 to 0x1305.
            (0x1301..=0x1305).contains(&u16::from(*suite))
        });
        (knows_tls13 || !self.only_tls13).then(|| self.current.load_full())
    }
}

fn certified(tls: &ListenTls) -> Result<CertifiedKey, String> {
    pem::certified(&tls.cert, &tls.key).map_err(|fault| match fault {
        PairFault::Certificate(why) => format!("{} {why}", tls.cert.display()),
        PairFault::Key(why) => format!("{} {why}", tls.key.display()),
    })
}
