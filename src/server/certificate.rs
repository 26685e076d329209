//! The certificates of the listeners, exchangeable under way.
//!
//! rustls asks for a certificate at each handshake; the answer is whatever was last read, so that a
//! reload renews it without touching a connection. It is also the one place where TLS 1.2 can be
//! refused: Pingora always offers both, and a client that knows no TLS 1.3 suite gets no
//! certificate. One that names such suites and speaks TLS 1.2 all the same is let go behind its
//! handshake ([`Certificate::takes`]).
//!
//! A listener finds its pair in a new plan by its address, for that is what it is bound to, wherever it
//! stands in the list. All pairs are read before one is shown: a file that cannot be read leaves every
//! listener as it was.

use crate::config::PairFault;
use crate::config::plan::{Listen, ListenTls};
use crate::pem;
use arc_swap::ArcSwap;
use pingora::listeners::tls::TlsSettings;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

/// The certificates of all listeners that are bound.
#[derive(Clone, Debug)]
pub(super) struct Certificates(Vec<(SocketAddr, Option<Arc<Certificate>>)>);

/// Pairs that were read and are not shown yet, with the address of their listener.
pub(super) struct Renewal(Vec<(SocketAddr, Arc<Certificate>, Shown)>);

/// Holds what one listener shows.
#[derive(Debug)]
pub(super) struct Certificate {
    shown: ArcSwap<Shown>,
}

#[derive(Debug)]
struct Shown {
    certified: Arc<CertifiedKey>,
    only_tls13: bool,
}

impl Certificates {
    /// Reads the certificates of listeners.
    ///
    /// # Errors
    /// What is wrong with the files, naming them.
    pub(super) fn read(listen: &[Listen]) -> Result<Certificates, String> {
        let of = |listen: &Listen| {
            let shown = listen.tls.as_ref().map(Shown::read).transpose()?;
            let certificate =
                shown.map(|shown| Arc::new(Certificate { shown: ArcSwap::from_pointee(shown) }));
            Ok((listen.address, certificate))
        };
        Ok(Certificates(listen.iter().map(of).collect::<Result<_, String>>()?))
    }

    /// Returns what each listener shows, in their order; nothing where it speaks no TLS.
    pub(super) fn each(&self) -> impl Iterator<Item = Option<&Arc<Certificate>>> {
        self.0.iter().map(|(_, certificate)| certificate.as_ref())
    }

    /// Reads what a new plan names for these listeners. One that it has no more, or without TLS, keeps
    /// what it shows until the restart that this needs.
    ///
    /// # Errors
    /// What is wrong with the files, naming them.
    pub(super) fn look(&self, listen: &[Listen]) -> Result<Renewal, String> {
        let mut left: Vec<&Listen> = listen.iter().collect();
        let mut renewal = Vec::new();
        for (address, certificate) in &self.0 {
            // Several listeners may be on port 0 of one address.
            let Some(at) = left.iter().position(|listen| listen.address == *address) else { continue };
            if let (Some(certificate), Some(tls)) = (certificate, &left.remove(at).tls) {
                renewal.push((*address, Arc::clone(certificate), Shown::read(tls)?));
            }
        }
        Ok(Renewal(renewal))
    }
}

impl Renewal {
    /// Names the keys of the configuration behind which another pair was found than is shown.
    pub(super) fn changed(&self) -> Vec<String> {
        let mut changed = Vec::new();
        for (address, certificate, next) in &self.0 {
            let shown = certificate.shown.load();
            let (before, next) = (&shown.certified, &next.certified);
            if before.cert != next.cert {
                changed.push(format!("listen[{address}].tls.cert"));
            }
            // One that cannot be told by its public half goes with its certificate.
            if before.key.public_key() != next.key.public_key() {
                changed.push(format!("listen[{address}].tls.key"));
            }
        }
        changed
    }

    /// Has each listener show what was read.
    pub(super) fn show(self) {
        for (_, certificate, shown) in self.0 {
            certificate.shown.store(Arc::new(shown));
        }
    }
}

impl Certificate {
    /// Returns Pingora's settings for a listener with this certificate.
    ///
    /// # Errors
    /// Where Pingora cannot use the files.
    pub(super) fn settings(self: &Arc<Self>, files: &ListenTls) -> Result<TlsSettings, String> {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let mut settings = TlsSettings::intermediate(&text(&files.cert), &text(&files.key))
            .map_err(|_| format!("{}: the certificate cannot be used", files.cert.display()))?;
        let resolver: Arc<dyn ResolvesServerCert> = Arc::clone(self) as _;
        settings.set_cert_resolver(resolver);
        settings.enable_h2();
        Ok(settings)
    }
}

impl Certificate {
    /// Tells whether a connection that came to this version (`TLSv1_3`, as rustls writes it) may ask for
    /// anything.
    pub(super) fn takes(&self, version: &str) -> bool {
        !self.shown.load().only_tls13 || version.ends_with('3')
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let knows_tls13 = hello.cipher_suites().iter().any(|suite| {
            // RFC 8446, appendix B.4: the TLS 1.3 suites are 0x1301 to 0x1305.
            (0x1301..=0x1305).contains(&u16::from(*suite))
        });
        let shown = self.shown.load();
        (knows_tls13 || !shown.only_tls13).then(|| Arc::clone(&shown.certified))
    }
}

impl Shown {
    fn read(tls: &ListenTls) -> Result<Shown, String> {
        let certified = pem::certified(&tls.cert, &tls.key).map_err(|fault| match fault {
            PairFault::Certificate(why) => format!("{} {why}", tls.cert.display()),
            PairFault::Key(why) => format!("{} {why}", tls.key.display()),
        })?;
        Ok(Shown { certified: Arc::new(certified), only_tls13: tls.only_tls13 })
    }
}
