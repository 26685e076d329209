//! What is a token service asked?
//!
//! One function a question, from what the plan knows to the request on the wire; nothing is sent
//! here. Forms are encoded strictly (RFC 3986 unreserved characters stay), as secrets may hold
//! anything.
//!
//! Sources: RFC 6749 sections 4.4 and 6; Microsoft identity platform, client credentials flow; RFC
//! 7523 section 2.1 and Google's "Using OAuth 2.0 for server to server applications"; Google
//! Compute Engine, "Verify the identity / access tokens"; EC2 user guide, "Use IMDSv2"; STS API
//! reference, AssumeRoleWithWebIdentity; for Copilot the project's wire guide and requirements 0.4.

use crate::base::percent;
use crate::base::secret::Secret;
use crate::config::credential::{Copilot, Entra, EntraProof, Google, OAuth, ServiceUrl};
use crate::sign::{self, SignFault};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, header};
use zeroize::Zeroizing;

/// A request to a token service.
pub struct Ask {
    /// Method.
    pub method: &'static str,
    /// Where to.
    pub url: ServiceUrl,
    /// Query without its `?`; may be empty.
    pub query: String,
    /// Headers beside `host` and `content-length`.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Body; may be empty.
    pub body: Bytes,
    /// Whether the service listens on the host itself, where there is one: it answers at once.
    pub is_metadata: bool,
}

impl Ask {
    fn get(url: ServiceUrl) -> Ask {
        Ask {
            method: "GET",
            url,
            query: String::new(),
            headers: Vec::new(),
            body: Bytes::new(),
            is_metadata: false,
        }
    }

    fn form(url: ServiceUrl, fields: &[(&str, &str)]) -> Ask {
        let form = Zeroizing::new(form(fields).into_bytes());
        let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
        Ask {
            method: "POST",
            headers: vec![(header::CONTENT_TYPE, kind)],
            // Wiped when the last holder lets go.
            body: Bytes::from_owner(form),
            ..Ask::get(url)
        }
    }

    fn with(mut self, name: &'static str, value: &str) -> Result<Ask, SignFault> {
        let mut value = HeaderValue::from_str(value).map_err(|_| SignFault::NotAHeaderValue)?;
        value.set_sensitive(true);
        self.headers.push((HeaderName::from_static(name), value));
        Ok(self)
    }
}

/// Asks Entra for a token; `assertion` is what the file of a workload identity holds.
#[must_use]
pub fn entra(entra: &Entra, assertion: &Secret) -> Ask {
    let proof = match &entra.proof {
        EntraProof::Secret(secret) => vec![("client_secret", secret.expose())],
        EntraProof::File(_) => vec![
            ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
            ("client_assertion", assertion.expose()),
        ],
    };
    let who =
        [("grant_type", "client_credentials"), ("client_id", &entra.client_id), ("scope", &entra.scope)];
    Ask::form(entra.token_url.clone(), &[&who[..], &proof].concat())
}

/// Asks Google for a token with a signed request (see `jwt`).
#[must_use]
pub fn google_account(token_url: &ServiceUrl, jwt: &Secret) -> Ask {
    let grant = "urn:ietf:params:oauth:grant-type:jwt-bearer";
    Ask::form(token_url.clone(), &[("grant_type", grant), ("assertion", jwt.expose())])
}

/// Asks the metadata service of a Google instance.
#[must_use]
pub fn google_metadata(url: &ServiceUrl, scopes: &str) -> Ask {
    let path = "/computeMetadata/v1/instance/service-accounts/default/token";
    let query = if scopes.is_empty() { String::new() } else { form(&[("scopes", scopes)]) };
    let flavor = (HeaderName::from_static("metadata-flavor"), HeaderValue::from_static("Google"));
    Ask { query, headers: vec![flavor], is_metadata: true, ..Ask::get(url.below(path)) }
}

/// Asks GitHub for a Copilot token.
///
/// # Errors
/// Where the GitHub token cannot stand in a header.
pub fn copilot(copilot: &Copilot) -> Result<Ask, SignFault> {
    let mut headers = sign::token_headers(&copilot.token, true)?.into_vec();
    headers.push((header::ACCEPT, HeaderValue::from_static("application/json")));
    Ok(Ask { headers, ..Ask::get(copilot.endpoint.below("/copilot_internal/v2/token")) })
}

/// Asks for an access token with a refresh token.
#[must_use]
pub fn oauth(oauth: &OAuth, refresh_token: &Secret) -> Ask {
    let mut fields = vec![
        ("grant_type", "refresh_token"),
        ("refresh_token", refresh_token.expose()),
        ("client_id", oauth.client_id.as_str()),
    ];
    if let Some(secret) = &oauth.client_secret {
        fields.push(("client_secret", secret.expose()));
    }
    if let Some(scope) = &oauth.scope {
        fields.push(("scope", scope));
    }
    let mut ask = Ask::form(oauth.token_url.clone(), &fields);
    ask.headers.push((header::ACCEPT, HeaderValue::from_static("application/json")));
    ask
}

/// Asks AWS for the keys of a role, with the token of a file.
#[must_use]
pub fn sts(sts: &ServiceUrl, role: &str, session: &str, token: &Secret) -> Ask {
    Ask::form(
        sts.clone(),
        &[
            ("Action", "AssumeRoleWithWebIdentity"),
            ("Version", "2011-06-15"),
            ("RoleArn", role),
            ("RoleSessionName", session),
            ("WebIdentityToken", token.expose()),
        ],
    )
}

/// Asks the agent beside a container.
///
/// # Errors
/// Where its token cannot stand in a header.
pub fn container(url: &ServiceUrl, token: Option<&Secret>) -> Result<Ask, SignFault> {
    let ask = Ask { is_metadata: true, ..Ask::get(url.clone()) };
    match token {
        Some(token) => ask.with("authorization", token.expose().trim()),
        None => Ok(ask),
    }
}

/// Opens a session with the metadata service of an AWS instance, for six hours.
///
/// # Errors
/// Never, in fact; the header is a constant.
pub fn imds_session(url: &ServiceUrl) -> Result<Ask, SignFault> {
    let ask = Ask { method: "PUT", is_metadata: true, ..Ask::get(url.below("/latest/api/token")) };
    ask.with("x-aws-ec2-metadata-token-ttl-seconds", "21600")
}

/// Asks for the role of the instance (`role` empty) or for its keys.
///
/// # Errors
/// Where the session cannot stand in a header.
pub fn imds(url: &ServiceUrl, session: &Secret, role: &str) -> Result<Ask, SignFault> {
    let path = format!("/latest/meta-data/iam/security-credentials/{role}");
    let ask = Ask { is_metadata: true, ..Ask::get(url.below(&path)) };
    ask.with("x-aws-ec2-metadata-token", session.expose().trim())
}

/// Encodes a form.
fn form(fields: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (name, value) in fields {
        if !text.is_empty() {
            text.push('&');
        }
        percent::encode(name, b"", &mut text);
        text.push('=');
        percent::encode(value, b"", &mut text);
    }
    text
}

/// Returns what a service account's signed request says, unsigned (see `jwt`).
#[must_use]
pub fn google_claims(google: &Google, now_seconds: i64) -> serde_json::Value {
    match google {
        Google::ServiceAccount { audience, client_email, scopes, .. } => serde_json::json!({
            "iss": client_email,
            "scope": scopes,
            "aud": audience,
            "iat": now_seconds,
            "exp": now_seconds.saturating_add(3600),
        }),
        Google::Metadata { .. } => serde_json::Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> ServiceUrl {
        ServiceUrl::parse(text, true).unwrap()
    }

    fn secret(text: &str) -> Secret {
        Secret::new(text.to_owned())
    }

    fn text(ask: &Ask) -> &str {
        std::str::from_utf8(&ask.body).unwrap()
    }

    #[test]
    fn forms_are_encoded_whatever_a_secret_holds() {
        let oauth_of = |client_secret: Option<&str>, scope: Option<&str>| OAuth {
            token_url: url("https://login.example/oauth/token"),
            client_id: "app".to_owned(),
            client_secret: client_secret.map(secret),
            refresh_token: secret("first"),
            scope: scope.map(str::to_owned),
            store: None,
        };
        let ask = oauth(&oauth_of(None, None), &secret("r+1/é&="));
        assert_eq!(text(&ask), "grant_type=refresh_token&refresh_token=r%2B1%2F%C3%A9%26%3D&client_id=app");
        assert_eq!((ask.method, ask.url.path.as_str()), ("POST", "/oauth/token"));
        let ask = oauth(&oauth_of(Some("s"), Some("a b")), &secret("r"));
        assert!(text(&ask).ends_with("&client_secret=s&scope=a%20b"));
    }

    #[test]
    fn entra_is_shown_a_secret_or_the_token_of_the_platform() {
        let of = |proof| Entra {
            token_url: url("https://login.microsoftonline.com/t/oauth2/v2.0/token"),
            client_id: "app".to_owned(),
            proof,
            scope: "x/.default".to_owned(),
        };
        let ask = entra(&of(EntraProof::Secret(secret("s~1"))), &secret(""));
        assert_eq!(
            text(&ask),
            "grant_type=client_credentials&client_id=app&scope=x%2F.default&client_secret=s~1"
        );
        let ask = entra(&of(EntraProof::File("/t".into())), &secret("a.b.c"));
        assert!(text(&ask).ends_with("jwt-bearer&client_assertion=a.b.c"), "{}", text(&ask));
        assert!(!text(&ask).contains("client_secret"));
    }

    #[test]
    fn metadata_services_are_asked_at_their_paths_with_their_headers() {
        let aws = url("http://169.254.169.254");
        let ask = imds_session(&aws).unwrap();
        assert_eq!((ask.method, ask.url.path.as_str()), ("PUT", "/latest/api/token"));
        assert_eq!(ask.headers[0].1, "21600");
        let ask = imds(&aws, &secret("session\n"), "role").unwrap();
        assert_eq!(ask.url.path, "/latest/meta-data/iam/security-credentials/role");
        assert_eq!(ask.headers[0].1, "session");
        let ask = google_metadata(&aws, "a,b");
        assert_eq!((ask.query.as_str(), ask.headers[0].1.to_str().unwrap()), ("scopes=a%2Cb", "Google"));
        let ask = container(&url("http://169.254.170.2/v2/x"), Some(&secret("t\n"))).unwrap();
        assert_eq!((ask.url.path.as_str(), ask.headers[0].1.to_str().unwrap()), ("/v2/x", "t"));
        assert!(ask.headers[0].1.is_sensitive());
    }

    #[test]
    fn copilot_is_asked_as_an_editor_does() {
        let asked = Copilot { endpoint: url("https://api.github.com"), token: secret("gho_1") };
        let ask = copilot(&asked).unwrap();
        assert_eq!((ask.method, ask.url.path.as_str()), ("GET", "/copilot_internal/v2/token"));
        let has = |name: &str, value: &str| ask.headers.iter().any(|(n, v)| n == name && v == value);
        assert!(has("authorization", "Bearer gho_1") && has("copilot-integration-id", "vscode-chat"));
    }
}
