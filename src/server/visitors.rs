//! Who is here, and does anybody come in at all?
//!
//! Counts the connections that an application has in hand, whether they ask for something or not: a
//! process that leaves would cut the request that is just coming in on one of them. It also knows how
//! many came in all. Where a listening socket is shared with another process, an answer proves only
//! that one of the two lives; that a connection arrived here proves that it is this one.

use async_trait::async_trait;
use pingora::apps::ServerApp;
use pingora::protocols::Stream;
use pingora::server::ShutdownWatch;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Connections of an application.
#[derive(Clone, Debug, Default)]
pub struct Visitors(Arc<Count>);

#[derive(Debug, Default)]
struct Count {
    here: AtomicU64,
    came: AtomicU64,
}

impl Visitors {
    /// Returns how many there are.
    #[must_use]
    pub fn here(&self) -> u64 {
        self.0.here.load(Ordering::Acquire)
    }

    /// Returns how many there were ever.
    #[must_use]
    pub fn came(&self) -> u64 {
        self.0.came.load(Ordering::Acquire)
    }

    fn enter(&self) -> Visit {
        self.0.here.fetch_add(1, Ordering::AcqRel);
        self.0.came.fetch_add(1, Ordering::AcqRel);
        Visit(Arc::clone(&self.0))
    }
}

/// A connection; counted until dropped.
struct Visit(Arc<Count>);

impl Drop for Visit {
    fn drop(&mut self) {
        self.0.here.fetch_sub(1, Ordering::AcqRel);
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
        let _visit = self.visitors.enter();
        self.inner.process_new(session, shutdown).await
    }

    async fn cleanup(&self) {
        self.inner.cleanup().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_leaves_is_not_here_but_came() {
        let visitors = Visitors::default();
        assert_eq!(visitors.came(), 0);
        let visits = [visitors.enter(), visitors.clone().enter()];
        assert_eq!(visitors.here(), 2);
        drop(visits);
        assert_eq!((visitors.came(), visitors.here()), (2, 0));
    }
}
