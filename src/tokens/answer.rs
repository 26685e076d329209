//! What does a token service's answer give?
//!
//! A [`Grant`]: what proves us, for how long, and where to use it. Lifetimes told as a point in
//! time are reckoned from the service's own `Date`, so that a host whose clock is off neither
//! hammers the service nor uses dead tokens.
//!
//! Copilot names the host to call (`endpoints.api`). It is believed only where it is one of
//! Copilot's (`githubcopilot.com` and below), of the same domain as the exchange (GitHub
//! Enterprise: `copilot-api.COMPANY.ghe.com`), or on this machine where the exchange is too: a
//! token goes nowhere else.
//!
//! Of a refusal only a code made of plain letters is kept; the rest may quote what was sent.

use crate::base::secret::Secret;
use crate::base::time::WallTime;
use crate::config::BaseUrl;
use crate::config::credential::AwsKeys;
use serde_json::Value;
use std::time::Duration;

/// What proves us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// A bearer token.
    Bearer(Secret),
    /// Keys that sign.
    Aws(AwsKeys),
}

/// What an answer gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// What proves us.
    pub proof: Proof,
    /// Time until it ends, where told.
    pub life: Option<Duration>,
    /// Time until it should be renewed, where told.
    pub refresh_in: Option<Duration>,
    /// The host to call, where told.
    pub api: Option<BaseUrl>,
    /// The refresh token to use from now on, where told.
    pub rotated: Option<Secret>,
}

/// What an answer lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnswerFault {
    /// It is not of the shape that it should have.
    #[error("its answer holds no token")]
    NoToken,
    /// The token has ended.
    #[error("it gave a token that has expired (is the clock right?)")]
    Expired,
    /// The host that it names is none of Copilot's.
    #[error("it names a host that is not Copilot's")]
    StrangeHost,
}

impl Grant {
    fn of(proof: Proof, life: Option<Duration>) -> Result<Grant, AnswerFault> {
        if life.is_some_and(|life| life.is_zero()) {
            return Err(AnswerFault::Expired);
        }
        Ok(Grant { proof, life, refresh_in: None, api: None, rotated: None })
    }
}

/// Reads the answer of an OAuth token endpoint or of Google's metadata service.
///
/// # Errors
/// [`AnswerFault`].
pub fn oauth(body: &[u8]) -> Result<Grant, AnswerFault> {
    let json = json_of(body)?;
    let token = secret_in(&json, "access_token").ok_or(AnswerFault::NoToken)?;
    let life = seconds_in(&json, "expires_in");
    Ok(Grant { rotated: secret_in(&json, "refresh_token"), ..Grant::of(Proof::Bearer(token), life)? })
}

/// Reads the answer of the exchange for a Copilot token.
///
/// # Errors
/// [`AnswerFault`].
pub fn copilot(body: &[u8], now: WallTime, exchange: &BaseUrl) -> Result<Grant, AnswerFault> {
    let json = json_of(body)?;
    let token = secret_in(&json, "token").ok_or(AnswerFault::NoToken)?;
    let life = seconds_in(&json, "expires_at").map(|at| {
        let now = Duration::from_millis(u64::try_from(now.0).unwrap_or(0));
        at.saturating_sub(now)
    });
    let api = match json.get("endpoints").and_then(|endpoints| endpoints.get("api")).and_then(Value::as_str) {
        None => None,
        Some(api) => {
            let api = BaseUrl::parse(api).map_err(|_| AnswerFault::StrangeHost)?;
            if !is_copilots(&api, exchange) {
                return Err(AnswerFault::StrangeHost);
            }
            Some(api)
        }
    };
    let refresh_in = seconds_in(&json, "refresh_in");
    Ok(Grant { refresh_in, api, ..Grant::of(Proof::Bearer(token), life)? })
}

fn is_copilots(api: &BaseUrl, exchange: &BaseUrl) -> bool {
    if exchange.is_loopback() && api.is_loopback() {
        return true;
    }
    let is_below = |domain: &str| {
        api.host.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    // Of a company's own domain, never of all of `ghe.com`.
    let own = exchange.host.split_once('.').map(|(_, domain)| domain).filter(|d| d.matches('.').count() >= 2);
    api.tls && (is_below("githubcopilot.com") || own.is_some_and(is_below))
}

/// Reads the keys that a metadata service or a container's agent gives.
///
/// # Errors
/// [`AnswerFault`].
pub fn aws_json(body: &[u8], now: WallTime) -> Result<Grant, AnswerFault> {
    let json = json_of(body)?;
    if json.get("Code").and_then(Value::as_str).is_some_and(|code| code != "Success") {
        return Err(AnswerFault::NoToken);
    }
    let end = json.get("Expiration").and_then(Value::as_str);
    aws_keys(|name| secret_in(&json, name), "Token", end, now)
}

/// Reads the keys of an assumed role, which come as XML.
///
/// # Errors
/// [`AnswerFault`].
pub fn aws_xml(body: &[u8], now: WallTime) -> Result<Grant, AnswerFault> {
    let text = std::str::from_utf8(body).map_err(|_| AnswerFault::NoToken)?;
    let secret = |name: &str| element(text, name).map(|text| Secret::new(text.to_owned()));
    aws_keys(secret, "SessionToken", element(text, "Expiration"), now)
}

fn aws_keys(
    secret: impl Fn(&str) -> Option<Secret>,
    session: &str,
    end: Option<&str>,
    now: WallTime,
) -> Result<Grant, AnswerFault> {
    let keys = AwsKeys {
        access_key_id: secret("AccessKeyId").ok_or(AnswerFault::NoToken)?,
        secret_access_key: secret("SecretAccessKey").ok_or(AnswerFault::NoToken)?,
        session_token: secret(session),
    };
    let end = end.and_then(|end| chrono::DateTime::parse_from_rfc3339(end).ok());
    let life = end.map(|end| {
        let left = end.timestamp_millis().saturating_sub(now.0);
        Duration::from_millis(u64::try_from(left).unwrap_or(0))
    });
    Grant::of(Proof::Aws(keys), life)
}

/// Returns the text of the first element of that name; AWS's have no attributes, and what is read
/// this way needs no unescaping.
fn element<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    let (inner, _) = rest.split_once(&format!("</{name}>"))?;
    (!inner.is_empty() && !inner.contains(['<', '&'])).then(|| inner.trim())
}

/// Returns the code of a refusal: OAuth's `error`, AWS's `<Code>`.
#[must_use]
pub fn refusal_code(body: &[u8]) -> Option<String> {
    let json = json_of(body).ok();
    let code = match &json {
        Some(json) => json.get("error").or(json.get("code")).and_then(Value::as_str),
        None => std::str::from_utf8(body).ok().and_then(|text| element(text, "Code")),
    };
    let is_word = |code: &&str| {
        (1..=48).contains(&code.len()) && code.bytes().all(|b| b.is_ascii_alphabetic() || b == b'_')
    };
    code.filter(is_word).map(str::to_owned)
}

fn json_of(body: &[u8]) -> Result<Value, AnswerFault> {
    serde_json::from_slice(body).map_err(|_| AnswerFault::NoToken)
}

/// A text that can be sent in a header.
fn secret_in(json: &Value, name: &str) -> Option<Secret> {
    let text = json.get(name)?.as_str()?;
    let is_sound = !text.is_empty() && text.bytes().all(|b| (b' '..=b'~').contains(&b));
    is_sound.then(|| Secret::new(text.to_owned()))
}

/// A number of seconds, which some services write as text.
fn seconds_in(json: &Value, name: &str) -> Option<Duration> {
    let value = json.get(name)?;
    let text = value.as_str().and_then(|text| text.parse::<f64>().ok());
    let seconds = value.as_f64().or(text).filter(|seconds| (0.0..1e12).contains(seconds))?;
    Some(Duration::from_secs_f64(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: WallTime = WallTime(1_000_000_000_000);

    fn bearer(grant: &Grant) -> &str {
        match &grant.proof {
            Proof::Bearer(token) => token.expose(),
            Proof::Aws(_) => "",
        }
    }

    #[test]
    fn a_token_endpoint_gives_a_token_its_life_and_sometimes_a_refresh_token() {
        for (body, token, life, rotated) in [
            (r#"{"access_token":"a","expires_in":3599,"token_type":"Bearer"}"#, "a", Some(3599), None),
            (r#"{"access_token":"a","expires_in":"3599","refresh_token":"r2"}"#, "a", Some(3599), Some("r2")),
            (r#"{"access_token":"a"}"#, "a", None, None),
            (r#"{"access_token":"a","expires_in":-5}"#, "a", None, None),
        ] {
            let grant = oauth(body.as_bytes()).unwrap();
            assert_eq!(bearer(&grant), token, "{body}");
            assert_eq!(grant.life, life.map(Duration::from_secs), "{body}");
            assert_eq!(grant.rotated.as_ref().map(Secret::expose), rotated, "{body}");
        }
        for (body, fault) in [
            (r#"{"access_token":"a","expires_in":0}"#, AnswerFault::Expired),
            (r#"{"access_token":""}"#, AnswerFault::NoToken),
            (r#"{"access_token":"a\nb"}"#, AnswerFault::NoToken),
            (r#"{"error":"invalid_grant"}"#, AnswerFault::NoToken),
            ("<html>", AnswerFault::NoToken),
            ("", AnswerFault::NoToken),
        ] {
            assert_eq!(oauth(body.as_bytes()).unwrap_err(), fault, "{body}");
        }
    }

    #[test]
    fn copilot_gives_a_token_and_a_host_that_must_be_its_own() {
        for (exchange, api, is_believed) in [
            ("https://api.github.com", "https://api.individual.githubcopilot.com", true),
            ("https://api.github.com", "https://githubcopilot.com", true),
            ("https://api.github.com", "http://api.githubcopilot.com", false),
            ("https://api.github.com", "https://evilgithubcopilot.com", false),
            ("https://api.github.com", "https://githubcopilot.com.evil.example", false),
            ("https://api.github.com", "https://user@githubcopilot.com", false),
            ("https://api.github.com", "http://127.0.0.1:1", false),
            ("https://api.acme.ghe.com", "https://copilot-api.acme.ghe.com", true),
            ("https://api.acme.ghe.com", "https://copilot-api.other.ghe.com", false),
            ("https://acme.ghe.com", "https://evil.ghe.com", false),
            ("http://127.0.0.1:1", "http://127.0.0.1:2", true),
            ("http://127.0.0.1:1", "https://evil.example", false),
        ] {
            let body = format!(
                r#"{{"token":"t","expires_at":1000000120,"refresh_in":100,"endpoints":{{"api":"{api}"}}}}"#
            );
            let grant = copilot(body.as_bytes(), NOW, &BaseUrl::parse(exchange).unwrap());
            assert_eq!(grant.is_ok(), is_believed, "{exchange} {api}: {grant:?}");
            if let Ok(grant) = grant {
                assert_eq!(grant.life, Some(Duration::from_secs(120)));
                assert_eq!(grant.refresh_in, Some(Duration::from_secs(100)));
            }
        }
        let exchange = BaseUrl::parse("https://api.github.com").unwrap();
        let grant = copilot(br#"{"token":"t"}"#, NOW, &exchange).unwrap();
        assert_eq!((grant.life, grant.api, grant.refresh_in), (None, None, None));
        let ended = copilot(br#"{"token":"t","expires_at":5}"#, NOW, &exchange);
        assert_eq!(ended.unwrap_err(), AnswerFault::Expired);
    }

    #[test]
    fn keys_of_aws_come_as_json_or_xml() {
        let json = br#"{"Code":"Success","AccessKeyId":"A","SecretAccessKey":"S","Token":"T","Expiration":"2001-09-09T02:46:40Z"}"#;
        let xml = b"<A><Credentials><AccessKeyId>A</AccessKeyId><SecretAccessKey>S</SecretAccessKey>\
                    <SessionToken>T</SessionToken><Expiration>2001-09-09T02:46:40.000Z</Expiration></Credentials></A>";
        let grant = aws_json(json, NOW).unwrap();
        assert_eq!(grant, aws_xml(xml, NOW).unwrap());
        assert_eq!(grant.life, Some(Duration::from_secs(3600)));
        let Proof::Aws(keys) = grant.proof else { panic!("no keys") };
        assert_eq!(keys.session_token.unwrap().expose(), "T");
        assert!(aws_json(br#"{"Code":"Failed","AccessKeyId":"A","SecretAccessKey":"S"}"#, NOW).is_err());
        assert!(aws_xml(b"<AccessKeyId>A</AccessKeyId>", NOW).is_err());
    }

    #[test]
    fn of_a_refusal_only_a_plain_word_is_kept() {
        for (body, want) in [
            (r#"{"error":"invalid_grant","error_description":"token sk-1"}"#, Some("invalid_grant")),
            (r#"{"error":"token sk-1 is bad"}"#, None),
            (r#"{"error":{"message":"x"}}"#, None),
            ("<Error><Code>AccessDenied</Code></Error>", Some("AccessDenied")),
            ("bad token", None),
        ] {
            assert_eq!(refusal_code(body.as_bytes()).as_deref(), want, "{body}");
        }
    }
}
