//! How many connections do we take?
//!
//! A connection costs memory whether it asks for anything or not, so their number has a limit
//! (`limits.connections`); one too many is closed before a byte of it is read.

use crate::live::House;
use async_trait::async_trait;
use pingora::apps::ServerApp;
use pingora::protocols::Stream;
use pingora::server::ShutdownWatch;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Connections of all listeners together.
#[derive(Clone, Default)]
pub struct Count(Arc<AtomicU32>);

/// Stands before an application and counts its connections.
pub struct Gate<A> {
    inner: Arc<A>,
    house: Arc<House>,
    count: Count,
}

impl<A> Gate<A> {
    /// Puts a gate before `inner`.
    pub fn new(inner: Arc<A>, house: Arc<House>, count: Count) -> Self {
        Gate { inner, house, count }
    }
}

struct Inside(Count);

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[async_trait]
impl<A: ServerApp + Send + Sync + 'static> ServerApp for Gate<A> {
    async fn process_new(self: &Arc<Self>, session: Stream, shutdown: &ShutdownWatch) -> Option<Stream> {
        let before = self.count.0.fetch_add(1, Ordering::Relaxed);
        let _inside = Inside(self.count.clone());
        if before >= self.house.live().plan.limits.connections {
            return None;
        }
        self.inner.process_new(session, shutdown).await
    }

    async fn cleanup(&self) {
        self.inner.cleanup().await;
    }
}
