//! Where do we listen, and who may call?
//!
//! Without clients everyone who reaches the port spends the operator's money, so then only
//! loopback addresses may be listened on; the admin plane needs a token before it leaves loopback,
//! and never shares an address with the data plane. Of a client's key only the SHA-256 is kept.

use super::Bench;
use crate::config::PairFault;
use crate::config::file::{AdminFile, ClientFile, ListenFile, ListenTlsFile};
use crate::config::path::{KeyPath, shown};
use crate::config::plan::{Admin, Client, Listen, ListenTls};
use crate::config::usage::StateFile;
use sha2::{Digest, Sha256};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

/// A file may name this many listeners.
const LISTEN_MAX: usize = 64;
/// A shorter client key is worth a warning; `rewrite` looks for keys from this length on.
const KEY_MIN: usize = 8;
/// What mends a certificate that cannot be used.
const PAIR: &str = "name a PEM file of the certificate with its chain and one of its key, which the service's account may read";
const DATA_PORT: u16 = 8080;
const ADMIN_PORT: u16 = 9901;

type Placed<T> = Vec<(KeyPath, T)>;

/// Checks listeners, the admin plane and clients.
pub(super) fn check(
    bench: &Bench<'_>,
    listen: Option<Vec<ListenFile>>,
    admin: &AdminFile,
    clients: Vec<ClientFile>,
) -> (Vec<Listen>, Admin, Placed<Client>) {
    let is_open = clients.is_empty();
    let listen = check_listen(bench, listen, is_open);
    let admin = check_admin(bench, admin, &listen);
    (listen.into_iter().map(|(_, listen)| listen).collect(), admin, check_clients(bench, clients))
}

/// Warns of clients whose routes name nothing.
pub(super) fn check_client_routes(
    bench: &Bench<'_>,
    clients: &[(KeyPath, Client)],
    knows: impl Fn(&str) -> bool,
) {
    for (at, client) in clients {
        for (index, route) in client.routes.iter().enumerate() {
            if !route.ends_with('*') && !knows(route) {
                let at = at.key("routes").index(index);
                bench.faults.warning(&at, format!("route {} is not defined", shown(route)));
            }
        }
    }
}

fn check_listen(bench: &Bench<'_>, listen: Option<Vec<ListenFile>>, is_open: bool) -> Placed<Listen> {
    let Some(listen) = listen else {
        let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), DATA_PORT);
        return vec![(KeyPath::root().key("listen"), Listen { address, h2c: false, tls: None })];
    };
    let at = KeyPath::root().key("listen");
    if listen.is_empty() {
        bench.faults.error(&at, "holds no address; leave it out to listen on 127.0.0.1:8080");
    }
    if listen.len() > LISTEN_MAX {
        bench.faults.error(&at, format!("holds more than {LISTEN_MAX} addresses"));
        return Vec::new();
    }
    let mut checked: Placed<Listen> = Vec::new();
    for entry in listen {
        let tls = entry.tls.and_then(|tls| check_listen_tls(bench, &tls));
        let at = entry.at.key("address");
        let Some(address) = entry.address.and_then(|text| parse_address(bench, &at, &text)) else { continue };
        if is_open && !address.ip().to_canonical().is_loopback() {
            bench.faults.lacking(
                &at,
                "can be reached from other machines while no clients are defined: anyone could spend your keys; define clients with keys, or listen on 127.0.0.1",
            );
        }
        if let Some((other, _)) = checked.iter().find(|(_, other)| collide(other.address, address)) {
            bench.faults.error(&at, format!("is the same address as {other}"));
        }
        checked.push((entry.at, Listen { address, h2c: entry.h2c, tls }));
    }
    checked
}

fn check_listen_tls(bench: &Bench<'_>, tls: &ListenTlsFile) -> Option<ListenTls> {
    let cert = tls.cert.as_ref().and_then(|path| bench.file_path(&tls.at.key("cert"), path));
    let key = tls.key.as_ref().and_then(|path| bench.file_path(&tls.at.key("key"), path));
    let (cert, key) = (cert?, key?);
    match bench.outside.certificate(&cert, &key) {
        Ok(()) => {}
        Err(PairFault::Certificate(why)) => {
            bench.faults.error(&tls.at.key("cert"), format!("{} {why}; {PAIR}", cert.display()));
        }
        Err(PairFault::Key(why)) => {
            bench.faults.error(&tls.at.key("key"), format!("{} {why}; {PAIR}", key.display()));
        }
    }
    Some(ListenTls { cert, key, only_tls13: tls.only_tls13 })
}

fn check_admin(bench: &Bench<'_>, admin: &AdminFile, listen: &[(KeyPath, Listen)]) -> Admin {
    let default = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), ADMIN_PORT);
    let at = admin.at.key("address");
    let address = admin.address.as_ref().and_then(|text| parse_address(bench, &at, text)).unwrap_or(default);
    if !admin.has_token && !address.ip().to_canonical().is_loopback() {
        bench.faults.lacking(
            &at,
            "can be reached from other machines without a token; set admin.token, or use 127.0.0.1",
        );
    }
    if let Some((other, _)) = listen.iter().find(|(_, other)| collide(other.address, address)) {
        bench.faults.lacking(&at, format!("is the same address as {other}; the admin plane needs its own"));
    }
    let token = admin.token.as_ref().and_then(|place| bench.secret(&admin.at.key("token"), place));
    Admin { address, token }
}

fn check_clients(bench: &Bench<'_>, clients: Vec<ClientFile>) -> Placed<Client> {
    let mut checked: Placed<Client> = Vec::new();
    for client in clients {
        let key_at = client.at.key("key");
        let secret = client.key.as_ref().and_then(|place| bench.secret(&key_at, place));
        let Some(name) = client.name else { continue };
        if checked.iter().any(|(_, other)| *other.name == *name) {
            bench.faults.error(&client.at.key("name"), format!("client {} is defined twice", shown(&name)));
        }
        let Some(secret) = secret else { continue };
        if secret.expose().len() < KEY_MIN {
            bench.faults.warning(
                &key_at,
                format!(
                    "is shorter than {KEY_MIN} characters: it can be guessed, and is not looked for in what goes to providers; openssl rand -hex 24 makes a good one"
                ),
            );
        }
        let key_digest: [u8; 32] = Sha256::digest(secret.expose().as_bytes()).into();
        if let Some((_, other)) = checked.iter().find(|(_, other)| other.key_digest == key_digest) {
            bench.faults.error(&key_at, format!("is the same key as that of client {}", shown(&other.name)));
        }
        let routes = client.routes.unwrap_or_else(|| vec![(client.at.clone(), "*".to_owned())]);
        if routes.is_empty() {
            bench.faults.warning(&client.at.key("routes"), "is empty: this client may use nothing");
        }
        let mut names = Vec::new();
        for (at, route) in routes {
            if route.find('*').is_some_and(|star| star + 1 != route.len()) {
                bench.faults.error(&at, "may hold * only at its end");
            }
            names.push(route);
        }
        checked.push((
            client.at,
            Client { name: name.into(), key_digest, routes: names, limits: client.limits },
        ));
    }
    checked
}

/// Checks that the file of the state can be used.
pub(super) fn check_state(bench: &Bench<'_>, state: &StateFile) -> Option<PathBuf> {
    let at = state.at.key("path");
    let path = bench.file_path(&at, state.path.as_deref()?)?;
    if let Err(why) = bench.outside.state_file(&path) {
        bench.faults.error(&at, why);
        return None;
    }
    Some(path)
}

/// Reads `address:port`. Names are not looked up: a listener should not depend on DNS.
fn parse_address(bench: &Bench<'_>, at: &KeyPath, text: &str) -> Option<SocketAddr> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Some(address);
    }
    let hint = match text.rsplit_once(':') {
        Some(("localhost", port)) if port.parse::<u16>().is_ok() => format!("127.0.0.1:{port}"),
        Some(("" | "*", port)) if port.parse::<u16>().is_ok() => format!("0.0.0.0:{port}"),
        _ if text.parse::<IpAddr>().is_ok() => "127.0.0.1:8080, with a port".to_owned(),
        _ => "127.0.0.1:8080 or [::1]:8080".to_owned(),
    };
    bench.faults.error(at, format!("is not an address and port; write it like {hint}"));
    None
}

/// Tells whether two listeners would want the same port. Port 0 is a new one each time.
fn collide(a: SocketAddr, b: SocketAddr) -> bool {
    a.port() != 0
        && a.port() == b.port()
        && (a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified())
}
