//! What does a client really say to us?
//!
//! A [`Tap`] stands between a client and pointsman, passes every byte on as it comes and keeps the
//! first line of each request with the status of its answer: probes, counts and lists that no
//! provider ever sees show here alone. It relies on what HTTP/1.1 clients do in fact: no
//! pipelining, and a head whose first line arrives in one read.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

/// One request of a client: `POST /v1/messages?beta=true`, and what it was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// Method and path with its query.
    pub what: String,
    /// Status of the answer; nothing where none came.
    pub status: Option<u16>,
}

/// A listening post on loopback. Dropping it closes its port.
pub struct Tap {
    address: SocketAddr,
    said: Arc<Mutex<Vec<Said>>>,
    serving: AbortHandle,
}

impl Tap {
    /// Listens on a free port and passes everything on to `target`.
    pub async fn start(target: SocketAddr) -> io::Result<Tap> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let said = Arc::new(Mutex::new(Vec::new()));
        let book = Arc::clone(&said);
        let serving = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let book = Arc::clone(&book);
                tokio::spawn(async move {
                    if let Ok(server) = TcpStream::connect(target).await {
                        pass(client, server, book).await;
                    }
                });
            }
        });
        Ok(Tap { address, said, serving: serving.abort_handle() })
    }

    /// Returns `http://127.0.0.1:PORT`.
    pub fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns every request so far.
    pub fn said(&self) -> Vec<Said> {
        self.said.lock().expect("the book").clone()
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn pass(client: TcpStream, server: TcpStream, book: Arc<Mutex<Vec<Said>>>) {
    let _ = client.set_nodelay(true);
    let _ = server.set_nodelay(true);
    let (client_reads, client_writes) = client.into_split();
    let (server_reads, server_writes) = server.into_split();
    let under_way = Mutex::new(None);
    let up = carry(client_reads, server_writes, |bytes| {
        if let Some(what) = request_line(bytes) {
            let mut book = book.lock().expect("the book");
            *under_way.lock().expect("the place") = Some(book.len());
            book.push(Said { what, status: None });
        }
    });
    let down = carry(server_reads, client_writes, |bytes| {
        if let (Some(status), Some(at)) = (status_of(bytes), *under_way.lock().expect("the place")) {
            book.lock().expect("the book")[at].status = Some(status);
        }
    });
    tokio::join!(up, down);
}

async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, look: impl Fn(&[u8])) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        look(&buffer[..count]);
        if to.write_all(&buffer[..count]).await.is_err() {
            break;
        }
    }
    let _ = to.shutdown().await;
}

fn request_line(bytes: &[u8]) -> Option<String> {
    let line = bytes.split(|byte| *byte == b'\n').next()?;
    let line = std::str::from_utf8(line).ok()?.trim_end();
    line.strip_suffix(" HTTP/1.1").filter(|what| what.split(' ').count() == 2).map(str::to_owned)
}

fn status_of(bytes: &[u8]) -> Option<u16> {
    let status = bytes.strip_prefix(b"HTTP/1.1 ")?.get(..3)?;
    std::str::from_utf8(status).ok()?.parse().ok().filter(|status| *status >= 200)
}
