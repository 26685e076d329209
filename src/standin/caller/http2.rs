//! A call over HTTP/2.

use std::future::poll_fn;
use std::io;

use bytes::Bytes;
use h2::RecvStream;
use h2::client::{ResponseFuture, SendRequest};
use http::{HeaderName, HeaderValue, Request};

use super::connection::{AnswerHead, Pipe};
use super::{Call, Upload};
use crate::standin::HttpVersion;

/// Window for answers, so that the caller never slows a provider down.
const WINDOW: u32 = 8 << 20;

/// A connection, shared by all its calls.
#[derive(Clone)]
pub(super) struct Line {
    sender: SendRequest<Bytes>,
    origin: String,
}

/// A call under way.
pub(super) struct Talk {
    line: Line,
    stage: Stage,
}

enum Stage {
    Head(ResponseFuture),
    Body(RecvStream),
}

impl Line {
    pub(super) async fn open(pipe: Box<dyn Pipe>, origin: String) -> io::Result<Line> {
        let (sender, wire) = h2::client::Builder::new()
            .initial_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .handshake(pipe)
            .await
            .map_err(io::Error::other)?;
        // Ends with the last handle on the connection, or when the other side closes.
        tokio::spawn(wire);
        Ok(Line { sender, origin })
    }

    pub(super) async fn send(self, call: &Call) -> io::Result<Talk> {
        let mut request = Request::new(());
        *request.method_mut() = call.method.parse().map_err(io::Error::other)?;
        *request.uri_mut() = format!("{}{}", self.origin, call.path).parse().map_err(io::Error::other)?;
        *request.version_mut() = http::Version::HTTP_2;
        for (name, value) in &call.headers {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(io::Error::other)?;
            let value = HeaderValue::from_bytes(value.as_bytes()).map_err(io::Error::other)?;
            request.headers_mut().append(name, value);
        }
        let is_empty = call.body.is_empty();
        if !is_empty && call.upload != Upload::Chunked {
            request.headers_mut().insert("content-length", HeaderValue::from(call.body.len()));
        }
        let mut sender = self.sender.clone().ready().await.map_err(io::Error::other)?;
        let (response, stream) = sender.send_request(request, is_empty).map_err(io::Error::other)?;
        if !is_empty {
            // On its own, because the answer may come before the upload is over.
            tokio::spawn(upload(stream, call.body.clone(), call.upload));
        }
        Ok(Talk { line: self, stage: Stage::Head(response) })
    }
}

/// Sends a body as the other side's window allows; stops when the stream is reset.
async fn upload(mut stream: h2::SendStream<Bytes>, body: Bytes, how: Upload) {
    let mut rest = body;
    while !rest.is_empty() {
        let (piece, gap) = match how {
            Upload::Paced { piece, gap } => (piece, Some(gap)),
            Upload::Whole | Upload::Chunked | Upload::AfterContinue => (rest.len(), None),
        };
        stream.reserve_capacity(piece.min(rest.len()));
        let Some(Ok(granted)) = poll_fn(|context| stream.poll_capacity(context)).await else { return };
        let sent = rest.split_to(granted.min(rest.len()));
        if stream.send_data(sent, rest.is_empty()).is_err() {
            return;
        }
        if let Some(gap) = gap {
            tokio::time::sleep(gap).await;
        }
    }
}

impl Talk {
    pub(super) async fn head(&mut self) -> io::Result<AnswerHead> {
        let Stage::Head(response) = &mut self.stage else {
            return Err(io::Error::other("the head was read already"));
        };
        let (head, body) = response.await.map_err(io::Error::other)?.into_parts();
        self.stage = Stage::Body(body);
        let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        Ok(AnswerHead {
            version: HttpVersion::Http2,
            status: head.status.as_u16(),
            headers: head.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect(),
            interims: Vec::new(),
        })
    }

    pub(super) async fn piece(&mut self) -> io::Result<Option<Bytes>> {
        let Stage::Body(body) = &mut self.stage else {
            return Err(io::Error::other("the head was not read yet"));
        };
        match body.data().await {
            None => Ok(None),
            Some(piece) => {
                let piece = piece.map_err(io::Error::other)?;
                body.flow_control().release_capacity(piece.len()).map_err(io::Error::other)?;
                Ok(Some(piece))
            }
        }
    }

    pub(super) fn back(self) -> Line {
        self.line
    }
}
