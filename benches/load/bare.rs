//! A bare Pingora reverse proxy: the least that `ProxyHttp` asks for, one worker thread.
//!
//! It is the floor under pointsman: same library, same build profile, nothing decided. It has no
//! timers, no failover and no log, so it is cheaper than anything one would put before a provider.

use async_trait::async_trait;

use pingora::server::Server;
use pingora::server::configuration::ServerConf;
use pingora::upstreams::peer::HttpPeer;
use pingora_proxy::{ProxyHttp, Session, http_proxy_service};
use std::net::SocketAddr;

struct Bare {
    upstream: SocketAddr,
}

#[async_trait]
impl ProxyHttp for Bare {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(&self, _: &mut Session, (): &mut ()) -> pingora::Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(self.upstream, false, String::new())))
    }
}

/// Serves until it is killed.
pub fn run(address: &str, upstream: SocketAddr) {
    let conf = ServerConf { threads: 1, ..ServerConf::default() };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let mut service = http_proxy_service(&server.configuration, Bare { upstream });
    service.add_tcp(address);
    server.add_service(service);
    server.run_forever();
}
