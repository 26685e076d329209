//! The body of a call that Vertex AI passes on to a publisher.
//!
//! Anthropic's models take Anthropic's own requests there, but for two members: the model stands in
//! the path and must not stand in the body, and the version of the dialect, a header elsewhere, stands
//! in the body.
//!
//! Source: Google Cloud, "Use Anthropic's Claude models"; the wire guide, section 5.

use super::body::Rewritten;
use super::limits::limited;
use crate::base::api::{Api, Kind};
use crate::config::plan::ModelLimits;
use crate::wire::json::{Broken, Scan};
use bytes::Bytes;
use smallvec::SmallVec;

/// Version of Anthropic's dialect that Vertex AI speaks; there is no other yet.
const VERSION: &str = "\"anthropic_version\":\"vertex-2023-10-16\"";

/// Fits a body that is ready to be sent to where it goes.
#[must_use]
pub fn for_publisher(kind: Kind, api: Api, body: Rewritten) -> Rewritten {
    if kind != Kind::Vertex || api != Api::Messages {
        return body;
    }
    let without_model = ModelLimits { max_tokens: None, drop_params: vec!["model".to_owned()] };
    let body = limited(body, &without_model);
    let whole = body.pieces.concat();
    let Some((close, is_empty)) = end_without_version(&whole) else { return body };
    let (before, after) = whole.split_at(close);
    let comma: &[u8] = if is_empty { b"" } else { b"," };
    let whole = Bytes::from([before, comma, VERSION.as_bytes(), after].concat());
    Rewritten { len: whole.len(), pieces: SmallVec::from_iter([whole]) }
}

/// Finds the closing brace, and whether nothing stands before it; nothing where the version is there.
fn end_without_version(body: &[u8]) -> Option<(usize, bool)> {
    let (mut is_empty, mut has_version) = (true, false);
    let mut scan = Scan::new(body);
    let read = scan.members::<Broken>(|scan, key| {
        is_empty = false;
        has_version |= key.bytes().as_ref() == b"anthropic_version";
        scan.skip().map(drop)
    });
    (read.is_ok() && !has_version).then(|| (scan.at().saturating_sub(1), is_empty))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_leaves_the_body_and_the_version_enters_it() {
        for (kind, api, body, want) in [
            (
                Kind::Vertex,
                Api::Messages,
                r#"{"model":"m", "max_tokens":5}"#,
                r#"{"max_tokens":5,"anthropic_version":"vertex-2023-10-16"}"#,
            ),
            (Kind::Vertex, Api::Messages, r#"{"model":"m"}"#, r#"{"anthropic_version":"vertex-2023-10-16"}"#),
            (
                Kind::Vertex,
                Api::Messages,
                r#"{"anthropic_version":"own","model":"m"}"#,
                r#"{"anthropic_version":"own"}"#,
            ),
            (Kind::Vertex, Api::GenerateContent, r#"{"model":"m"}"#, r#"{"model":"m"}"#),
            (Kind::Anthropic, Api::Messages, r#"{"model":"m"}"#, r#"{"model":"m"}"#),
        ] {
            let bytes = Bytes::copy_from_slice(body.as_bytes());
            let given = Rewritten { len: bytes.len(), pieces: SmallVec::from_iter([bytes]) };
            let got = for_publisher(kind, api, given);
            assert_eq!(String::from_utf8(got.pieces.concat()).unwrap(), want, "{kind:?} {api:?} {body}");
            assert_eq!(got.len, want.len());
        }
    }
}
