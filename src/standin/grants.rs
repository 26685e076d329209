//! What do token services hand out, and to whom?
//!
//! Scripts that play the services of `tokens`: each judges a request as the real one would (path,
//! method, headers, form), refuses what is wrong with 400 or 401, and hands out tokens that count
//! (`tid-1`, `access-1`), so that a test sees which of them a provider got. [`aws`] verifies a
//! signature from the written rules of Signature Version 4, by code of its own, as the proxy's comes
//! from a crate: both must have understood the same.
//!
//! Source: the pages that `tokens::ask` names; AWS, "Create a signed AWS API request".

use super::{Reply, Script, Seen};
use parking_lot::Mutex;
use ring::hmac;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

fn answer(json: &Value) -> Reply {
    Reply::body(200, "application/json", json.to_string())
}

fn refuse(status: u16, why: &str) -> Reply {
    Reply::body(status, "application/json", json!({ "error": why }).to_string())
}

#[allow(clippy::disallowed_methods, reason = "a service tells the time by its own clock")]
fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// GitHub's exchange: to the holder of `github_token` it gives Copilot tokens `tid-1`, `tid-2`, …
/// that live that long (nothing is told where `None`), for use at `api`.
#[must_use]
pub fn copilot(github_token: &str, life: Option<Duration>, api: String) -> Script {
    let expected = format!("Bearer {github_token}");
    let given = AtomicU64::new(0);
    Script::rule(move |seen| {
        let editor = ["editor-version", "editor-plugin-version", "copilot-integration-id"];
        if seen.method != "GET" || seen.path != "/copilot_internal/v2/token" {
            return refuse(404, "not_found");
        }
        if seen.header("authorization") != Some(&expected) || editor.iter().any(|n| seen.header(n).is_none())
        {
            return refuse(401, "bad_credentials");
        }
        let number = given.fetch_add(1, Ordering::Relaxed) + 1;
        let mut body = json!({"token": format!("tid-{number}"), "endpoints": {"api": api}});
        if let Some(life) = life {
            body["expires_at"] = json!((now() + life).as_secs_f64());
        }
        answer(&body)
    })
}

/// An OAuth server: for `refresh_token` of `client_id` it gives `access-1` and the refresh token
/// `refresh-1`, for that `access-2` and so on; one that was used is good for nothing.
#[must_use]
pub fn oauth(client_id: &str, refresh_token: &str, life: Duration) -> Script {
    let client_id = client_id.to_owned();
    let state = Mutex::new((0_u64, refresh_token.to_owned()));
    Script::rule(move |seen| {
        let form = form_of(seen);
        let field = |name: &str| form.get(name).map(String::as_str);
        if seen.method != "POST" || field("grant_type") != Some("refresh_token") {
            return refuse(400, "unsupported_grant_type");
        }
        if field("client_id") != Some(&client_id) {
            return refuse(401, "invalid_client");
        }
        let mut state = state.lock();
        if field("refresh_token") != Some(&state.1) {
            return refuse(400, "invalid_grant");
        }
        state.0 += 1;
        state.1 = format!("refresh-{}", state.0);
        answer(&json!({
            "access_token": format!("access-{}", state.0),
            "refresh_token": state.1,
            "expires_in": life.as_secs_f64(),
            "token_type": "Bearer",
        }))
    })
}

/// Entra: for the secret of an application of `tenant` it gives `entra-1`, `entra-2`, …
#[must_use]
pub fn entra(tenant: &str, client_id: &str, client_secret: &str, life: Duration) -> Script {
    let path = format!("/{tenant}/oauth2/v2.0/token");
    let expected = [
        ("grant_type", "client_credentials"),
        ("client_id", client_id),
        ("client_secret", client_secret),
        ("scope", "https://cognitiveservices.azure.com/.default"),
    ]
    .map(|(name, value)| (name, value.to_owned()));
    let given = AtomicU64::new(0);
    Script::rule(move |seen| {
        let form = form_of(seen);
        if seen.method != "POST" || seen.path != path {
            return refuse(404, "not_found");
        }
        if expected.iter().any(|(name, value)| form.get(*name) != Some(value)) {
            return refuse(401, "invalid_client");
        }
        let number = given.fetch_add(1, Ordering::Relaxed) + 1;
        answer(&json!({"access_token": format!("entra-{number}"), "expires_in": life.as_secs()}))
    })
}

/// Google: for a request signed with the RSA key of `public_key` (DER, PKCS #1) it gives
/// `ya29-1`, … where the claims say `issuer` and `audience` and an hour from now.
#[must_use]
pub fn google(public_key: Vec<u8>, issuer: &str, audience: &str) -> Script {
    let (issuer, audience) = (issuer.to_owned(), audience.to_owned());
    let given = AtomicU64::new(0);
    Script::rule(move |seen| {
        let form = form_of(seen);
        let is_jwt = form.get("grant_type").is_some_and(|g| g.ends_with(":grant-type:jwt-bearer"));
        let claims = form.get("assertion").and_then(|jwt| verified(jwt, &public_key));
        let Some(claims) = claims.filter(|_| is_jwt) else { return refuse(400, "invalid_grant") };
        let hour = claims["exp"].as_i64().zip(claims["iat"].as_i64()).map(|(end, begin)| end - begin);
        if claims["iss"] != json!(issuer) || claims["aud"] != json!(audience) || hour != Some(3600) {
            return refuse(400, "invalid_grant");
        }
        let number = given.fetch_add(1, Ordering::Relaxed) + 1;
        answer(&json!({"access_token": format!("ya29-{number}"), "expires_in": 3599, "token_type": "Bearer"}))
    })
}

/// Verifies a JSON Web Token (RS256) and returns its claims.
fn verified(jwt: &str, public_key: &[u8]) -> Option<Value> {
    let (signed, signature) = jwt.rsplit_once('.')?;
    let (header, claims) = signed.split_once('.')?;
    let header: Value = serde_json::from_slice(&base64url(header)?).ok()?;
    let key =
        ring::signature::UnparsedPublicKey::new(&ring::signature::RSA_PKCS1_2048_8192_SHA256, public_key);
    key.verify(signed.as_bytes(), &base64url(signature)?).ok()?;
    (header["alg"] == "RS256").then_some(serde_json::from_slice(&base64url(claims)?).ok()?)
}

fn base64url(text: &str) -> Option<Vec<u8>> {
    let (mut bytes, mut word, mut bits) = (Vec::new(), 0_u32, 0);
    for letter in text.bytes() {
        let value = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'-' => 62,
            b'_' => 63,
            _ => return None,
        };
        word = (word << 6 | u32::from(value)) & 0xffff;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.extend((word >> bits & 0xff).to_be_bytes().last());
        }
    }
    Some(bytes)
}

/// Keys of AWS and what they are for, as a provider or a metadata service knows them.
#[derive(Clone, Copy, Debug)]
pub struct AwsAccount {
    /// Access key id.
    pub access_key_id: &'static str,
    /// Secret access key.
    pub secret_access_key: &'static str,
    /// Session token, where the keys are lent.
    pub session_token: Option<&'static str>,
    /// Region that signatures must be for.
    pub region: &'static str,
    /// Service that signatures must be for.
    pub service: &'static str,
}

/// The metadata service of an AWS instance, version 2 only: keys of the role `edge` for whoever
/// opened a session.
#[must_use]
pub fn imds(account: AwsAccount, life: Duration) -> Script {
    Script::rule(move |seen| {
        let roles = "/latest/meta-data/iam/security-credentials/";
        let has_session = seen.header("x-aws-ec2-metadata-token") == Some("session-1");
        match (seen.method.as_str(), seen.path.as_str()) {
            ("PUT", "/latest/api/token") if seen.header("x-aws-ec2-metadata-token-ttl-seconds").is_some() => {
                Reply::body(200, "text/plain", "session-1")
            }
            ("GET", path) if path.starts_with(roles) && !has_session => refuse(401, "unauthorized"),
            ("GET", path) if path == roles => Reply::body(200, "text/plain", "edge\n"),
            ("GET", path) if path.strip_prefix(roles) == Some("edge") => {
                let end = chrono::DateTime::from_timestamp_millis(
                    i64::try_from((now() + life).as_millis()).unwrap_or(i64::MAX),
                );
                answer(&json!({
                    "Code": "Success",
                    "AccessKeyId": account.access_key_id,
                    "SecretAccessKey": account.secret_access_key,
                    "Token": account.session_token,
                    "Expiration": end.map(|end| end.to_rfc3339()),
                }))
            }
            _ => refuse(404, "not_found"),
        }
    })
}

/// A provider that answers well where the request is signed for this account, and with 403 where it
/// is not, as Bedrock does.
#[must_use]
pub fn aws(account: AwsAccount) -> Script {
    Script::rule(move |seen| match signature_fault(seen, &account) {
        None => Reply::ok(),
        Some(why) => Reply::body(403, "application/json", json!({ "message": why }).to_string())
            .header("x-amzn-errortype", "InvalidSignatureException:http://internal.amazon.com/coral/"),
    })
}

/// Says what is wrong with a request's signature; nothing where it is right.
#[must_use]
pub fn signature_fault(seen: &Seen, account: &AwsAccount) -> Option<&'static str> {
    let Some(given) = seen.header("authorization").and_then(|a| a.strip_prefix("AWS4-HMAC-SHA256 ")) else {
        return Some("no signature");
    };
    let part = |name: &str| {
        given.split(", ").find_map(|part| part.strip_prefix(name)?.strip_prefix('=')).unwrap_or_default()
    };
    let at = seen.header("x-amz-date").unwrap_or_default();
    let day = at.get(..8).unwrap_or_default();
    let scope = format!("{day}/{}/{}/aws4_request", account.region, account.service);
    if part("Credential") != format!("{}/{scope}", account.access_key_id) {
        return Some("another key, day, region or service");
    }
    if seen.header("x-amz-security-token") != account.session_token {
        return Some("another session");
    }
    let names: Vec<&str> = part("SignedHeaders").split(';').collect();
    if !names.contains(&"host") || !names.contains(&"x-amz-date") || !names.contains(&"content-type") {
        return Some("a header that must be signed is not");
    }
    let (path, query) = seen.path.split_once('?').unwrap_or((&seen.path, ""));
    let mut parameters: Vec<&str> = query.split('&').filter(|parameter| !parameter.is_empty()).collect();
    parameters.sort_unstable();
    let parameters: Vec<String> =
        parameters.iter().map(|p| if p.contains('=') { (*p).to_owned() } else { format!("{p}=") }).collect();
    let mut canonical = format!("{}\n{}\n{}\n", seen.method, encoded_again(path), parameters.join("&"));
    for name in &names {
        let values: Vec<String> = seen
            .headers_named(name)
            .iter()
            .map(|value| value.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        let _ = writeln!(canonical, "{name}:{}", values.join(","));
    }
    let _ = write!(canonical, "\n{}\n{}", names.join(";"), hex(&Sha256::digest(&seen.body)));
    let to_sign = format!("AWS4-HMAC-SHA256\n{at}\n{scope}\n{}", hex(&Sha256::digest(&canonical)));
    let mut key = format!("AWS4{}", account.secret_access_key).into_bytes();
    for word in [day, account.region, account.service, "aws4_request", &to_sign] {
        key = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), word.as_bytes()).as_ref().to_vec();
    }
    (part("Signature") != hex(&key)).then_some("the signature does not match")
}

/// The path with each of its segments encoded once more.
fn encoded_again(path: &str) -> String {
    path.bytes().fold(String::new(), |mut text, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            text.push(char::from(byte));
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
        text
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Reads a form.
#[must_use]
pub fn form_of(seen: &Seen) -> HashMap<String, String> {
    let text = String::from_utf8_lossy(&seen.body).into_owned();
    let decoded = |text: &str| {
        crate::base::percent::decode_utf8(&text.replace('+', " ")).unwrap_or_default().into_owned()
    };
    text.split('&').filter_map(|field| field.split_once('=')).map(|(n, v)| (decoded(n), decoded(v))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verifier_takes_a_vector_of_aws_and_nothing_else() {
        // AWS's own `post-x-www-form-urlencoded`, less the header that only S3 wants.
        let account = AwsAccount {
            access_key_id: "AKIDEXAMPLE",
            secret_access_key: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
            session_token: None,
            region: "us-east-1",
            service: "service",
        };
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let hash = "9095672bbd1f56dfc5b65f3e153adc8731a4a654192329106275f4c7b24d0b6e";
        let seen = |signature: &str, body: &'static str| Seen {
            method: "POST".to_owned(),
            path: "/".to_owned(),
            headers: vec![
                header("Content-Type", "application/x-www-form-urlencoded"),
                header("Host", "example.amazonaws.com"),
                header("Content-Length", "13"),
                header("X-Amz-Content-Sha256", hash),
                header("X-Amz-Date", "20150830T123600Z"),
                header(
                    "Authorization",
                    &format!(
                        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders=content-length;content-type;host;x-amz-content-sha256;x-amz-date, Signature={signature}"
                    ),
                ),
            ],
            body: body.into(),
            ..Seen::default()
        };
        let right = "d3875051da38690788ef43de4db0d8f280229d82040bfac253562e56c3f20e0b";
        assert_eq!(signature_fault(&seen(right, "Param1=value1"), &account), None);
        assert!(signature_fault(&seen(right, "Param1=value2"), &account).is_some());
        assert!(signature_fault(&seen("00", "Param1=value1"), &account).is_some());
        let other = AwsAccount { region: "eu-west-1", ..account };
        assert!(signature_fault(&seen(right, "Param1=value1"), &other).is_some());
    }

    #[test]
    fn base64url_is_read() {
        assert_eq!(base64url("Zm9vYg").as_deref(), Some(&b"foob"[..]));
        assert_eq!(base64url("-__-").as_deref(), Some(&b"\xfb\xff\xfe"[..]));
        assert_eq!(base64url("a+b"), None);
    }
}
