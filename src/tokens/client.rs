//! How is a token service spoken to?
//!
//! Over Pingora's connector, as providers are, so that there is one HTTP and one TLS in the house.
//! HTTP/1.1, one connection a question, closed behind it: questions come minutes apart. System
//! roots judge the certificate. A redirect is not followed (it would carry a secret elsewhere), an
//! answer is read up to 64 KiB, a name stands for what a provider's may ([`crate::base::reach`]), and all of it may take 10 s, a metadata service 2 s: where there is
//! none, its address answers nothing.

use super::ask::Ask;
use crate::base::time::WallTime;
use bytes::{Bytes, BytesMut};
use http::{HeaderValue, header};
use pingora::connectors::http::Connector;
use pingora::http::RequestHeader;
use pingora::protocols::ALPN;
use pingora::protocols::http::client::HttpSession;
use pingora::upstreams::peer::HttpPeer;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, UNIX_EPOCH};
use tokio::time::timeout;

/// How long a question may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a question to the host's own metadata service may take.
const METADATA_PATIENCE: Duration = Duration::from_secs(2);
/// How long a connection may take to one of several addresses.
const CONNECT: Duration = Duration::from_secs(3);
/// Most of an answer that is read.
const ANSWER_MAX: usize = 64 << 10;
/// Most addresses of a name that are tried.
const ADDRESSES_MAX: usize = 4;
/// Most interim (1xx) answers.
const INTERIM_MAX: usize = 4;

/// An answer.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    /// What the service's clock says.
    pub(super) date: Option<WallTime>,
    pub(super) body: Bytes,
}

/// Why there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AskFault {
    /// The name is not known.
    #[error("its name cannot be resolved")]
    Dns,
    /// Its name stands for inner addresses only, which may get no secret.
    #[error(
        "stands for inner addresses only; where it is inside, set deny_private_ips: false for the provider"
    )]
    Inside,
    /// Nobody answers at its address, or its certificate is not to be trusted.
    #[error("cannot be connected to")]
    Connect,
    /// The connection broke.
    #[error("broke off")]
    Broken,
    /// It took too long.
    #[error("did not answer in time")]
    Slow,
    /// The answer is longer than any.
    #[error("answered more than 64 KiB")]
    TooLarge,
}

/// Asks token services.
pub(super) struct Client {
    connector: Connector,
    denies: Option<bool>,
}

impl Client {
    /// Makes one; `denies` is what the file says of inner addresses behind names.
    pub(super) fn new(denies: Option<bool>) -> Self {
        Client { connector: Connector::new(None), denies }
    }

    pub(super) fn denies(&self) -> Option<bool> {
        self.denies
    }

    /// Asks, within bounds.
    pub(super) async fn ask(&self, ask: &Ask) -> Result<Reply, AskFault> {
        let patience = if ask.is_metadata { METADATA_PATIENCE } else { PATIENCE };
        timeout(patience, self.converse(ask)).await.map_err(|_| AskFault::Slow)?
    }

    async fn converse(&self, ask: &Ask) -> Result<Reply, AskFault> {
        let mut session = self.connect(ask).await?;
        let reply = exchange(&mut session, ask).await;
        session.shutdown().await;
        reply
    }

    async fn connect(&self, ask: &Ask) -> Result<HttpSession, AskFault> {
        let base = &ask.url.base;
        let reach = base.reach(self.denies);
        let addresses: Vec<SocketAddr> = match base.host.parse::<IpAddr>() {
            Ok(ip) => vec![SocketAddr::new(ip, base.port)],
            Err(_) => tokio::net::lookup_host((base.host.as_str(), base.port))
                .await
                .map_err(|_| AskFault::Dns)?
                .filter(|address| reach.admits(address.ip()))
                .take(ADDRESSES_MAX)
                .collect(),
        };
        if addresses.is_empty() {
            return Err(AskFault::Inside);
        }
        for address in addresses {
            let mut peer = HttpPeer::new(address, base.tls, base.host.clone());
            peer.options.connection_timeout = Some(CONNECT);
            peer.options.total_connection_timeout = Some(CONNECT);
            peer.options.alpn = ALPN::H1;
            match self.connector.get_http_session(&peer).await {
                Ok((session, _)) => return Ok(session),
                Err(fault) => {
                    tracing::debug!(host = base.host, fault = fault.etype().as_str(), "no connection");
                }
            }
        }
        Err(AskFault::Connect)
    }
}

async fn exchange(session: &mut HttpSession, ask: &Ask) -> Result<Reply, AskFault> {
    let broken = |_| AskFault::Broken;
    let head = head(ask).map_err(broken)?;
    session.write_request_header(Box::new(head)).await.map_err(broken)?;
    if !ask.body.is_empty() {
        session.write_request_body(ask.body.clone(), true).await.map_err(broken)?;
    }
    session.finish_request_body().await.map_err(broken)?;
    for _ in 0..=INTERIM_MAX {
        session.read_response_header().await.map_err(broken)?;
        if !session.response_header().is_some_and(|head| head.status.is_informational()) {
            break;
        }
    }
    let head = session.response_header().ok_or(AskFault::Broken)?;
    let status = head.status.as_u16();
    let date = head.headers.get(header::DATE).and_then(date_of);
    let mut body = BytesMut::new();
    while let Some(piece) = session.read_response_body().await.map_err(broken)? {
        if body.len() + piece.len() > ANSWER_MAX {
            return Err(AskFault::TooLarge);
        }
        body.extend_from_slice(&piece);
    }
    Ok(Reply { status, date, body: body.freeze() })
}

fn head(ask: &Ask) -> pingora::Result<RequestHeader> {
    let query = if ask.query.is_empty() { String::new() } else { format!("?{}", ask.query) };
    let path = format!("{}{query}", ask.url.path);
    let mut head = RequestHeader::build_no_case(ask.method, path.as_bytes(), Some(ask.headers.len() + 4))?;
    head.insert_header(header::HOST, ask.url.base.authority())?;
    head.insert_header(header::USER_AGENT, HeaderValue::from_static("pointsman"))?;
    head.insert_header(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"))?;
    if ask.method != "GET" {
        head.insert_header(header::CONTENT_LENGTH, HeaderValue::from(ask.body.len()))?;
    }
    for (name, value) in &ask.headers {
        head.append_header(name.clone(), value.clone())?;
    }
    Ok(head)
}

fn date_of(value: &HeaderValue) -> Option<WallTime> {
    let date = httpdate::parse_http_date(value.to_str().ok()?).ok()?;
    let since_epoch = date.duration_since(UNIX_EPOCH).ok()?;
    Some(WallTime(i64::try_from(since_epoch.as_millis()).ok()?))
}
