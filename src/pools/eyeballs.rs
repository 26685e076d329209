//! When is the next of several addresses tried?
//!
//! *Happy eyeballs* (RFC 8305): when one has failed, or [`HEAD_START`] after the last was begun, and
//! nobody is called off for it: whoever stands first is taken, within the one limit that connecting
//! has. An address that drops every packet so costs a quarter of a second and not the two of that
//! limit (failure table, rows 1 and 2). In which order they come, whoever knows them says.

use async_trait::async_trait;
use parking_lot::Mutex;
use pingora::connectors::L4Connect;
use pingora::protocols::l4::socket::SocketAddr as AnyAddress;
use pingora::protocols::l4::stream::Stream;
use pingora::{Error, ErrorType};
use smallvec::SmallVec;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::sleep;

/// How long an address is alone before the next is tried beside it (RFC 8305 section 5).
const HEAD_START: Duration = Duration::from_millis(250);

/// What became of the addresses of one connection.
#[derive(Clone, Debug, Default)]
pub struct News {
    /// Those that were tried.
    pub begun: SmallVec<[SocketAddr; 4]>,
    /// The one that connected.
    pub won: Option<SocketAddr>,
}

impl News {
    /// Returns those that were tried in vain: that failed, or had been begun when a later one won.
    pub fn failed(&self) -> impl Iterator<Item = SocketAddr> {
        // Who was begun after the winner had no time to show what it can.
        let until = self.won.and_then(|won| self.begun.iter().position(|address| *address == won));
        self.begun.iter().copied().take(until.unwrap_or(self.begun.len()))
    }
}

/// Connects to one of several addresses.
#[derive(Debug)]
pub(super) struct Dial {
    addresses: SmallVec<[SocketAddr; 4]>,
    news: Arc<Mutex<News>>,
}

impl Dial {
    pub(super) fn new(addresses: &[SocketAddr], news: Arc<Mutex<News>>) -> Dial {
        Dial { addresses: addresses.iter().copied().collect(), news }
    }

    /// Returns the connection of the first that has one; the fault of the last where none has.
    async fn run(&self) -> io::Result<TcpStream> {
        let mut dialling = JoinSet::new();
        let mut left = self.addresses.iter().copied();
        let mut fault = io::Error::from(io::ErrorKind::AddrNotAvailable);
        // Through at once, and again when one has failed.
        let mut head_start = pin!(sleep(Duration::ZERO));
        loop {
            tokio::select! {
                biased;
                Some(dialled) = dialling.join_next() => match dialled {
                    Ok((address, Ok(socket))) => {
                        self.news.lock().won = Some(address);
                        return Ok(socket);
                    }
                    Ok((_, Err(refusal))) => {
                        fault = refusal;
                        head_start.set(sleep(Duration::ZERO));
                    }
                    Err(_) => head_start.set(sleep(Duration::ZERO)),
                },
                () = head_start.as_mut(), if left.len() > 0 => {
                    if let Some(address) = left.next() {
                        self.news.lock().begun.push(address);
                        dialling.spawn(async move { (address, TcpStream::connect(address).await) });
                        head_start.set(sleep(HEAD_START));
                    }
                }
                else => return Err(fault),
            }
        }
    }
}

#[async_trait]
impl L4Connect for Dial {
    async fn connect(&self, _first: &AnyAddress) -> pingora::Result<Stream> {
        let refused = |fault: io::Error| {
            let etype = match fault.kind() {
                io::ErrorKind::ConnectionRefused => ErrorType::ConnectRefused,
                io::ErrorKind::TimedOut => ErrorType::ConnectTimedout,
                io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable => {
                    ErrorType::ConnectNoRoute
                }
                _ => ErrorType::ConnectError,
            };
            Error::because(etype, "none of the addresses connects", fault)
        };
        Ok(self.run().await.map_err(refused)?.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        let ip: std::net::IpAddr = text.parse().unwrap();
        SocketAddr::new(ip, 443)
    }

    #[test]
    fn who_was_begun_before_the_winner_has_failed() {
        let addresses = ["::1", "192.0.2.1", "::2"].map(at);
        for (won, expected) in [(Some(0), 0), (Some(1), 1), (Some(2), 2), (None, 3)] {
            let won = won.map(|won: usize| addresses[won]);
            let news = News { begun: addresses.into_iter().collect(), won };
            assert_eq!(news.failed().collect::<Vec<_>>(), addresses[..expected], "{won:?}");
        }
    }
}
