//! Does anybody come in here at all?
//!
//! Counts the connections that reach an application. Where a listening socket is shared with another
//! process, an answer proves only that one of the two lives; that a connection arrived here proves that
//! it is this one. How many are here at a time is known at the [`super::gate`].

use async_trait::async_trait;
use parking_lot::Mutex;
use pingora::apps::ServerApp;
use pingora::protocols::Stream;
use pingora::server::ShutdownWatch;
use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Connections of this process to itself, by which it sees that it is served. Known by the address that
/// they come from, before they end.
#[derive(Clone, Debug, Default)]
pub struct Own(Arc<Mutex<HashSet<SocketAddr>>>);

impl Own {
    /// Notes one.
    pub fn note(&self, from: SocketAddr) {
        self.0.lock().insert(from);
    }

    /// Tells whether a connection is one of them; once, for the next from there is somebody else's.
    #[must_use]
    pub fn was(&self, from: SocketAddr) -> bool {
        self.0.lock().remove(&from)
    }
}

/// How many connections have come to an application.
#[derive(Clone, Debug, Default)]
pub struct Visitors(Arc<AtomicU64>);

impl Visitors {
    /// Returns how many there were ever.
    #[must_use]
    pub fn came(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

/// Counts the connections of an application.
pub struct Counted<A> {
    inner: Arc<A>,
    visitors: Visitors,
}

impl<A> Counted<A> {
    /// Has `visitors` count the connections of `inner`.
    pub fn new(inner: A, visitors: Visitors) -> Self {
        Counted { inner: Arc::new(inner), visitors }
    }
}

#[async_trait]
impl<A: ServerApp + Send + Sync + 'static> ServerApp for Counted<A> {
    async fn process_new(self: &Arc<Self>, session: Stream, shutdown: &ShutdownWatch) -> Option<Stream> {
        self.visitors.0.fetch_add(1, Ordering::AcqRel);
        self.inner.process_new(session, shutdown).await
    }

    async fn cleanup(&self) {
        self.inner.cleanup().await;
    }
}
