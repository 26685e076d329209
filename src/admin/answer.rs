//! What a request was, and what goes back: text, JSON, or `application/problem+json` (RFC 9457).
//!
//! Problems have the type `about:blank`: the status says it all, `detail` says it to a person.

use crate::observe::metrics::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use serde::Serialize;
use serde_json::{Value, json};

/// What is known of a request once its head is read.
pub(super) struct Head<'a> {
    pub(super) method: &'a str,
    /// The path as it came, without the query.
    pub(super) path: &'a str,
    /// The query as it came.
    pub(super) query: Option<&'a str>,
    /// The authority of an absolute request line or of HTTP/2.
    pub(super) authority: Option<&'a str>,
    /// Whether the request is so old (HTTP/1.0) that it need not name a host.
    pub(super) may_lack_host: bool,
    pub(super) headers: &'a HeaderMap,
}

/// What goes back.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) content_type: &'static str,
    pub(super) body: Vec<u8>,
    /// Value of `Allow`.
    pub(super) allow: Option<&'static str>,
    /// Further fields of the head; they stand in the place of the usual ones of that name.
    pub(super) headers: &'static [(&'static str, String)],
}

impl Answer {
    pub(super) fn text(text: &str) -> Answer {
        Answer::ok("text/plain; charset=utf-8", text.as_bytes().to_vec())
    }

    pub(super) fn metrics(text: Vec<u8>) -> Answer {
        Answer::ok(CONTENT_TYPE, text)
    }

    pub(super) fn json(value: &impl Serialize) -> Answer {
        match serde_json::to_vec(value) {
            Ok(body) => Answer::ok("application/json", body),
            Err(_) => problem(500, "this cannot be written as JSON"),
        }
    }

    /// An answer that is JSON already.
    pub(super) fn json_text(text: &str) -> Answer {
        Answer::ok("application/json", text.as_bytes().to_vec())
    }

    pub(super) fn with_allow(self, allow: &'static str) -> Answer {
        Answer { allow: Some(allow), ..self }
    }

    /// Adds a list of faults to a problem.
    pub(super) fn with_errors(self, errors: &[String]) -> Answer {
        let mut body: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        if let Some(body) = body.as_object_mut() {
            body.insert("errors".to_owned(), json!(errors));
        }
        Answer { body: body.to_string().into_bytes(), ..self }
    }

    pub(super) fn ok(content_type: &'static str, body: Vec<u8>) -> Answer {
        Answer { status: 200, content_type, body, allow: None, headers: &[] }
    }
}

/// A refusal or a failure, with a sentence for whoever asked.
pub(super) fn problem(status: u16, detail: &str) -> Answer {
    let title = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
    let body = json!({ "type": "about:blank", "title": title, "status": status, "detail": detail });
    Answer {
        status,
        content_type: "application/problem+json",
        body: body.to_string().into_bytes(),
        allow: None,
        headers: &[],
    }
}
