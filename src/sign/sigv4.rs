//! Which headers sign a request for AWS?
//!
//! Signature version 4 covers the method, the path, the query, every header that the request has by
//! then (but `user-agent`, `x-amzn-trace-id`, `transfer-encoding` and `authorization`, which hops
//! on the way may change) and the SHA-256 of the body. So it comes last: nothing of the request may
//! change behind it. The time is an argument; AWS refuses one that is five minutes off.
//!
//! The path is encoded once more for signing, as every service but S3 wants it: Bedrock's model ids
//! hold colons, sent as `%3A` and signed as `%253A`.
//!
//! The arithmetic is the crate `aws-sigv4`'s (cargo feature `bedrock`), checked here against
//! vectors of AWS's published test suite. Source: AWS Signature Version 4 signing process; AWS
//! signing test suite v4.

use super::{SignFault, Signed};
#[cfg(feature = "bedrock")]
use crate::base::hex;
use crate::base::time::WallTime;
use crate::config::credential::AwsKeys;
use http::HeaderMap;

/// What a signature covers.
#[derive(Clone, Copy, Debug)]
pub struct Signable<'a> {
    /// Method.
    pub method: &'a str,
    /// `host` or `host:port`, as in the Host header.
    pub authority: &'a str,
    /// Path and query as sent.
    pub path_and_query: &'a str,
    /// Headers as sent.
    pub headers: &'a HeaderMap,
    /// SHA-256 of the body.
    pub body_sha256: [u8; 32],
}

/// For which service a request is signed, and when.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    /// Region, such as `us-east-1`.
    pub region: &'a str,
    /// Service, such as `bedrock`.
    pub service: &'a str,
    /// Now.
    pub at: WallTime,
}

/// Returns the headers that sign a request: `authorization`, `x-amz-date` and, with a session,
/// `x-amz-security-token`. They replace any of the same names.
///
/// # Errors
/// Where the request holds what cannot be signed (a header that is not text), and in a build
/// without the feature `bedrock`.
#[cfg(feature = "bedrock")]
pub fn sigv4(request: &Signable<'_>, keys: &AwsKeys, scope: &Scope<'_>) -> Result<Signed, SignFault> {
    use aws_credential_types::Credentials;
    use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
    use aws_sigv4::sign::v4;
    use http::{HeaderName, HeaderValue};
    use std::time::{Duration, UNIX_EPOCH};

    let exposed = |secret: &crate::base::secret::Secret| secret.expose().to_owned();
    let identity = Credentials::new(
        exposed(&keys.access_key_id),
        exposed(&keys.secret_access_key),
        keys.session_token.as_ref().map(exposed),
        None,
        "pointsman",
    )
    .into();
    let at = UNIX_EPOCH + Duration::from_millis(u64::try_from(scope.at.0).unwrap_or(0));
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(scope.region)
        .name(scope.service)
        .time(at)
        .settings(SigningSettings::default())
        .build()
        .map_err(|_| SignFault::NotSignable)?
        .into();
    let mut headers = Vec::with_capacity(request.headers.len());
    for (name, value) in request.headers {
        headers.push((name.as_str(), value.to_str().map_err(|_| SignFault::NotSignable)?));
    }
    let url = format!("https://{}{}", request.authority, request.path_and_query);
    let body = SignableBody::Precomputed(hex::encode(&request.body_sha256));
    let signable = SignableRequest::new(request.method, url, headers.into_iter(), body)
        .map_err(|_| SignFault::NotSignable)?;
    let signed = sign(signable, &params).map_err(|_| SignFault::NotSignable)?;
    let (instructions, _) = signed.into_parts();
    let mut made = Signed::new();
    for (name, value) in instructions.headers() {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| SignFault::NotSignable)?;
        let mut value = HeaderValue::from_str(value).map_err(|_| SignFault::NotSignable)?;
        value.set_sensitive(true);
        made.push((name, value));
    }
    Ok(made)
}

/// As with the feature; refuses.
///
/// # Errors
/// Always.
#[cfg(not(feature = "bedrock"))]
pub fn sigv4(_request: &Signable<'_>, _keys: &AwsKeys, _scope: &Scope<'_>) -> Result<Signed, SignFault> {
    Err(SignFault::NotBuilt)
}

#[cfg(feature = "bedrock")]
#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::secret::Secret;
    use http::{HeaderName, HeaderValue};
    use sha2::{Digest, Sha256};

    const SESSION: &str = "6e86291e8372ff2a2260956d9b8aae1d763fbf315fa00fa31553b73ebf194267";

    fn keys(session: Option<&str>) -> AwsKeys {
        AwsKeys {
            access_key_id: Secret::new("AKIDEXAMPLE".to_owned()),
            secret_access_key: Secret::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned()),
            session_token: session.map(|token| Secret::new(token.to_owned())),
        }
    }

    /// Signs as AWS's suite does: 2015-08-30T12:36:00Z, us-east-1, `service`.
    fn signed(
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
        session: Option<&str>,
    ) -> Result<Vec<(String, String)>, SignFault> {
        let mut map = HeaderMap::new();
        map.append("host", HeaderValue::from_static("example.amazonaws.com"));
        for (name, value) in headers {
            map.append(HeaderName::try_from(*name).unwrap(), HeaderValue::try_from(*value).unwrap());
        }
        let request = Signable {
            method,
            authority: "example.amazonaws.com",
            path_and_query: path,
            headers: &map,
            body_sha256: Sha256::digest(body).into(),
        };
        let scope = Scope { region: "us-east-1", service: "service", at: WallTime(1_440_938_160_000) };
        let signed = sigv4(&request, &keys(session), &scope)?;
        assert!(signed.iter().all(|(_, value)| value.is_sensitive()));
        Ok(signed.iter().map(|(n, v)| (n.to_string(), v.to_str().unwrap().to_owned())).collect())
    }

    #[test]
    fn the_vectors_of_aws_are_met() {
        for (case, method, path, headers, body, session, want) in [
            (
                "get-vanilla",
                "GET",
                "/",
                &[][..],
                "",
                None,
                "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
            ),
            (
                "get-vanilla-query-order-encoded",
                "GET",
                "/?Param-3=Value3&Param=Value2&%E1%88%B4=Value1",
                &[],
                "",
                None,
                "371d3713e185cc334048618a97f809c9ffe339c62934c032af5a0e595648fcac",
            ),
            (
                "get-vanilla-with-session-token",
                "GET",
                "/",
                &[],
                "",
                Some(SESSION),
                "07ec1639c89043aa0e3e2de82b96708f198cceab042d4a97044c66dd9f74e7f8",
            ),
            (
                "get-header-value-trim",
                "GET",
                "/",
                &[("my-header1", " value1"), ("my-header2", " \"a   b   c\"")],
                "",
                None,
                "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
            ),
            (
                "get-slashes-normalized",
                "GET",
                "//example//",
                &[],
                "",
                None,
                "9a624bd73a37c9a373b5312afbebe7a714a789de108f0bdfe846570885f57e84",
            ),
            (
                "get-relative-relative-normalized",
                "GET",
                "/example1/example2/../..",
                &[],
                "",
                None,
                "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
            ),
            (
                "get-unreserved",
                "GET",
                "/-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
                &[],
                "",
                None,
                "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f",
            ),
            (
                "post-header-key-sort",
                "POST",
                "/",
                &[("my-header1", "value1")],
                "",
                None,
                "c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c",
            ),
            (
                "post-vanilla-query",
                "POST",
                "/?Param1=value1",
                &[],
                "",
                None,
                "28038455d6de14eafc1f9222cf5aa6f1a96197d7deb8263271d420d138af7f11",
            ),
            (
                "post-x-www-form-urlencoded",
                "POST",
                "/",
                &[
                    ("content-type", "application/x-www-form-urlencoded"),
                    ("content-length", "13"),
                    (
                        "x-amz-content-sha256",
                        "9095672bbd1f56dfc5b65f3e153adc8731a4a654192329106275f4c7b24d0b6e",
                    ),
                ],
                "Param1=value1",
                None,
                "d3875051da38690788ef43de4db0d8f280229d82040bfac253562e56c3f20e0b",
            ),
        ] {
            let signed = signed(method, path, headers, body, session).unwrap();
            let value = |name: &str| signed.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
            let authorization = value("authorization").unwrap();
            assert!(
                authorization.starts_with(
                    "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "
                ),
                "{case}"
            );
            assert!(authorization.ends_with(&format!("Signature={want}")), "{case}: {authorization}");
            assert_eq!(value("x-amz-date"), Some("20150830T123600Z"), "{case}");
            assert_eq!(value("x-amz-security-token"), session, "{case}");
            assert!(!format!("{signed:?}").contains("wJalr"), "{case}: the secret key is sent");
        }
    }

    #[test]
    fn a_change_of_anything_signed_changes_the_signature() {
        let authorization = |method: &str, path: &str, header: &str, body: &str| {
            let signed = signed(method, path, &[("content-type", header)], body, None).unwrap();
            signed.into_iter().find(|(name, _)| name == "authorization").unwrap().1
        };
        let one = authorization("POST", "/model/a%3A0/converse", "application/json", "{}");
        assert_eq!(one, authorization("POST", "/model/a%3A0/converse", "application/json", "{}"));
        for other in [
            authorization("PUT", "/model/a%3A0/converse", "application/json", "{}"),
            authorization("POST", "/model/a:0/converse", "application/json", "{}"),
            authorization("POST", "/model/a%3A0/converse?x", "application/json", "{}"),
            authorization("POST", "/model/a%3A0/converse", "text/plain", "{}"),
            authorization("POST", "/model/a%3A0/converse", "application/json", "{ }"),
        ] {
            assert_ne!(one, other);
        }
    }

    #[test]
    fn a_request_that_is_no_text_is_refused() {
        let mut headers = HeaderMap::new();
        headers.append("x-bytes", HeaderValue::from_bytes(b"\xff").unwrap());
        let request = Signable {
            method: "GET",
            authority: "h",
            path_and_query: "/",
            headers: &headers,
            body_sha256: [0; 32],
        };
        let scope = Scope { region: "r", service: "s", at: WallTime(0) };
        assert_eq!(sigv4(&request, &keys(None), &scope).unwrap_err(), SignFault::NotSignable);
    }
}
