//! Which headers prove us to the provider?
//!
//! OpenAI and its kin take `Authorization: Bearer`, Anthropic takes `x-api-key`, Gemini
//! `x-goog-api-key`. An Anthropic
//! subscription login (`sk-ant-oat…`) is an OAuth token: it goes as a bearer and needs the beta
//! flag `oauth-2025-04-20`. `anthropic-beta` is a list, so that flag is to be *appended* beside
//! the client's own, never to replace it.
//!
//! Tokens that were fetched go as bearers, to every kind ([`token_headers`]); GitHub Copilot wants to
//! know its editor besides. Requests to AWS are signed ([`sigv4`]).
//!
//! Every value made here is marked sensitive, so that neither HTTP/2's header table nor a debug
//! print holds it. A key that cannot stand in a header (control characters, a line break from a
//! secret file) is an error that does not quote it.
//!
//! Source: OpenAI and Anthropic API references, authentication pages; for Copilot's headers the
//! project's wire guide.

mod sigv4;

pub use sigv4::{Scope, Signable, sigv4};

use http::header::{AUTHORIZATION, HeaderName, HeaderValue};
use smallvec::SmallVec;

use crate::base::api::Kind;
use crate::base::secret::Secret;
use crate::config::plan::Proof;

/// The `anthropic-version` to send when the client sent none: the only one there is since 2023.
pub const DEFAULT_ANTHROPIC_VERSION: &str = "2023-06-01";

/// Carries a key of Google's.
pub const GOOGLE_KEY: HeaderName = HeaderName::from_static("x-goog-api-key");

/// Headers that carry a credential; add them to the request, do not replace lists.
pub type Signed = SmallVec<[(HeaderName, HeaderValue); 2]>;

/// Why a key cannot be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignFault {
    /// The key holds bytes that no header may hold.
    #[error("the key holds characters that cannot stand in a header (a line break at its end?)")]
    NotAHeaderValue,
    /// The request cannot be signed.
    #[error("the request holds something that cannot be signed")]
    NotSignable,
    /// The feature is left out of this build.
    #[error("this build cannot sign for AWS (cargo feature bedrock)")]
    NotBuilt,
}

/// What Copilot's API wants to know of the editor (requirements 0.4).
const EDITOR: [(&str, &str); 4] = [
    ("editor-version", "vscode/1.85.1"),
    ("editor-plugin-version", "copilot-chat/0.12.2023120701"),
    ("openai-intent", "conversation-edits"),
    ("copilot-integration-id", "vscode-chat"),
];

/// Returns the headers that prove us to a provider of this kind.
///
/// # Errors
/// When the key cannot stand in a header.
pub fn headers(kind: Kind, key: &Secret) -> Result<Signed, SignFault> {
    let key = key.expose();
    let is_oauth = key.starts_with("sk-ant-oat");
    Ok(match kind {
        Kind::Anthropic if is_oauth => SmallVec::from_iter([
            (AUTHORIZATION, bearer(key)?),
            (HeaderName::from_static("anthropic-beta"), HeaderValue::from_static("oauth-2025-04-20")),
        ]),
        Kind::Anthropic => SmallVec::from_iter([(HeaderName::from_static("x-api-key"), sensitive(key)?)]),
        Kind::Gemini => SmallVec::from_iter([(GOOGLE_KEY, sensitive(key)?)]),
        // A key here is a token of Copilot's that somebody else exchanged.
        Kind::Copilot => {
            let mut signed: Signed = SmallVec::from_iter([(AUTHORIZATION, bearer(key)?)]);
            signed.extend(editor());
            signed
        }
        Kind::OpenAi | Kind::Vertex | Kind::Bedrock | Kind::Cohere | Kind::Ollama | Kind::GenerateBridge => {
            SmallVec::from_iter([(AUTHORIZATION, bearer(key)?)])
        }
    })
}

/// Returns the headers that carry a token that was fetched. `is_copilot` adds the editor's, which
/// the exchange of a GitHub token wants as well.
///
/// # Errors
/// When the token cannot stand in a header.
pub fn token_headers(token: &Secret, is_copilot: bool) -> Result<Signed, SignFault> {
    let token = token.expose();
    let mut signed: Signed = SmallVec::from_iter([(AUTHORIZATION, bearer(token)?)]);
    if token.starts_with("sk-ant-oat") {
        signed
            .push((HeaderName::from_static("anthropic-beta"), HeaderValue::from_static("oauth-2025-04-20")));
    }
    if is_copilot {
        signed.extend(editor());
    }
    Ok(signed)
}

fn editor() -> [(HeaderName, HeaderValue); 4] {
    EDITOR.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
}

/// Returns the header that carries a key to where a server speaks a dialect that is not its own:
/// Google takes its key in `x-goog-api-key`, but below `/openai` only as a bearer, as OpenAI's SDK
/// sends it.
///
/// # Errors
/// When the key cannot stand in a header.
pub fn as_bearer(key: &Secret) -> Result<(HeaderName, HeaderValue), SignFault> {
    Ok((AUTHORIZATION, bearer(key.expose())?))
}

/// Returns the headers that prove us to a provider in the way that it wants, which may be another
/// than its kind's.
///
/// # Errors
/// When the key cannot stand in a header.
pub fn as_told(proof: &Proof, kind: Kind, key: &Secret) -> Result<Signed, SignFault> {
    Ok(match proof {
        Proof::AsKind => return headers(kind, key),
        Proof::Bearer => SmallVec::from_iter([(AUTHORIZATION, bearer(key.expose())?)]),
        Proof::Header(name) => SmallVec::from_iter([(name.clone(), sensitive(key.expose())?)]),
        Proof::None => SmallVec::new(),
    })
}

fn bearer(key: &str) -> Result<HeaderValue, SignFault> {
    sensitive(&zeroize::Zeroizing::new(format!("Bearer {key}")))
}

fn sensitive(text: &str) -> Result<HeaderValue, SignFault> {
    // Visible ASCII only: a tab or an umlaut in a key is a mistake, whatever HTTP allows.
    if text.bytes().any(|b| !(b' '..=b'~').contains(&b)) {
        return Err(SignFault::NotAHeaderValue);
    }
    let mut value = HeaderValue::from_str(text).map_err(|_| SignFault::NotAHeaderValue)?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed(kind: Kind, key: &str) -> Result<Vec<(String, String)>, SignFault> {
        let secret = Secret::new(key.to_owned());
        let headers = headers(kind, &secret)?;
        assert!(headers.iter().all(|(name, value)| value.is_sensitive() || name == "anthropic-beta"));
        assert!(!format!("{headers:?}").contains(key), "a debug print shows the key");
        Ok(headers.iter().map(|(n, v)| (n.to_string(), v.to_str().unwrap().to_owned())).collect())
    }

    #[test]
    fn each_kind_gets_its_own_header() {
        let one = |name: &str, value: &str| Ok(vec![(name.to_owned(), value.to_owned())]);
        assert_eq!(signed(Kind::OpenAi, "sk-1"), one("authorization", "Bearer sk-1"));
        assert_eq!(signed(Kind::Anthropic, "sk-ant-api03-1"), one("x-api-key", "sk-ant-api03-1"));
        assert_eq!(signed(Kind::Gemini, "AIza-1"), one("x-goog-api-key", "AIza-1"));
        assert_eq!(signed(Kind::Bedrock, "bedrock-1"), one("authorization", "Bearer bedrock-1"));
        let oauth = signed(Kind::Anthropic, "sk-ant-oat01-1").unwrap();
        assert_eq!(oauth[0], ("authorization".to_owned(), "Bearer sk-ant-oat01-1".to_owned()));
        assert_eq!(oauth[1], ("anthropic-beta".to_owned(), "oauth-2025-04-20".to_owned()));
    }

    #[test]
    fn a_token_goes_as_a_bearer_and_copilot_is_told_the_editor() {
        let told = |token: &str, is_copilot| {
            let signed = token_headers(&Secret::new(token.to_owned()), is_copilot).unwrap();
            assert!(signed[0].1.is_sensitive());
            signed.iter().map(|(n, v)| format!("{n}: {}", v.to_str().unwrap())).collect::<Vec<_>>()
        };
        assert_eq!(told("t", false), ["authorization: Bearer t"]);
        assert_eq!(told("sk-ant-oat01", false)[1], "anthropic-beta: oauth-2025-04-20");
        assert_eq!(told("t", true).len(), 5);
        let written = headers(Kind::Copilot, &Secret::new("t".to_owned())).unwrap();
        assert_eq!(written, token_headers(&Secret::new("t".to_owned()), true).unwrap());
        assert!(token_headers(&Secret::new("a\nb".to_owned()), true).is_err());
    }

    #[test]
    fn a_provider_is_proved_to_in_the_way_it_wants() {
        let secret = Secret::new("sk-1".to_owned());
        let told = |proof: &Proof| {
            let headers = as_told(proof, Kind::Anthropic, &secret).unwrap();
            assert!(headers.iter().all(|(_, value)| value.is_sensitive()), "{proof:?}");
            headers.iter().map(|(n, v)| format!("{n}: {}", v.to_str().unwrap())).collect::<Vec<_>>()
        };
        assert_eq!(told(&Proof::AsKind), ["x-api-key: sk-1"]);
        assert_eq!(told(&Proof::Bearer), ["authorization: Bearer sk-1"]);
        assert_eq!(told(&Proof::Header(HeaderName::from_static("api-key"))), ["api-key: sk-1"]);
        assert!(told(&Proof::None).is_empty());
        let broken = Secret::new("a\nb".to_owned());
        assert!(as_told(&Proof::Header(HeaderName::from_static("api-key")), Kind::OpenAi, &broken).is_err());
    }

    #[test]
    fn a_key_that_no_header_can_hold_is_refused_without_being_quoted() {
        for key in ["sk-canary\n", "sk-canary\r\nx: y", "sk-canary\0", "sk-canäry", "sk\tcanary"] {
            let fault = signed(Kind::OpenAi, key).unwrap_err();
            assert_eq!(signed(Kind::Anthropic, key).unwrap_err(), fault);
            assert!(!fault.to_string().contains("canary"));
        }
    }
}
