//! What lies on a connection, between a session and its socket?
//!
//! Pingora lends its streams as [`Stream`], so whatever has the traits of one can lie on another. A layer
//! has one thing to say and hands on the rest ([`hands_on`]), but for when the connection was made: a session
//! keeps that as a list for as long as it lasts, and nobody here asks.
//!
//! [`corked`] lets the small pieces of an answer wait for each other, in a room that is lent
//! ([`held`]): Pingora's own buffer of 1,460 bytes belongs to a connection for as long as that lasts, and
//! an answer of more than that leaves it in two writes.
//!
//! [`Stream`]: pingora::protocols::Stream

pub mod corked;
pub mod held;

/// Implements what a layer does not change by its field `inner`: names, digests, TLS, and that nothing can
/// be looked at before it is read. When it was made is not handed on.
macro_rules! hands_on {
    ($layer:ty) => {
        impl pingora::protocols::UniqueID for $layer {
            fn id(&self) -> pingora::protocols::UniqueIDType {
                self.inner.id()
            }
        }

        impl pingora::protocols::Ssl for $layer {
            fn get_ssl(&self) -> Option<&pingora::protocols::tls::TlsRef> {
                self.inner.get_ssl()
            }

            fn get_ssl_digest(&self) -> Option<std::sync::Arc<pingora::protocols::tls::SslDigest>> {
                self.inner.get_ssl_digest()
            }

            fn selected_alpn_proto(&self) -> Option<pingora::protocols::ALPN> {
                self.inner.selected_alpn_proto()
            }
        }

        impl pingora::protocols::GetTimingDigest for $layer {
            fn get_timing_digest(&self) -> Vec<Option<pingora::protocols::TimingDigest>> {
                Vec::new()
            }

            fn get_read_pending_time(&self) -> std::time::Duration {
                self.inner.get_read_pending_time()
            }

            fn get_write_pending_time(&self) -> std::time::Duration {
                self.inner.get_write_pending_time()
            }
        }

        impl pingora::protocols::GetProxyDigest for $layer {
            fn get_proxy_digest(
                &self,
            ) -> Option<std::sync::Arc<pingora::protocols::raw_connect::ProxyDigest>> {
                self.inner.get_proxy_digest()
            }

            fn set_proxy_digest(&mut self, digest: pingora::protocols::raw_connect::ProxyDigest) {
                self.inner.set_proxy_digest(digest);
            }
        }

        impl pingora::protocols::GetSocketDigest for $layer {
            fn get_socket_digest(&self) -> Option<std::sync::Arc<pingora::protocols::SocketDigest>> {
                self.inner.get_socket_digest()
            }

            fn set_socket_digest(&mut self, digest: pingora::protocols::SocketDigest) {
                self.inner.set_socket_digest(digest);
            }
        }

        impl pingora::protocols::Peek for $layer {}
    };
}

pub(crate) use hands_on;
