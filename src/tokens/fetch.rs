//! Which questions lead from a login to a token?
//!
//! One road a login, each a few questions (`ask`) and their answers (`answer`); files that the
//! platform renews are read each time. Of several sources of AWS keys the first that has some is
//! used, as AWS's own tools do. What goes wrong is told with the service's host and a plain word,
//! never with what was sent or answered.

use super::answer::{self, AnswerFault, Grant, Proof};
use super::ask::{self, Ask};
use super::client::{AskFault, Client, Reply};
use super::disk;
use super::jwt::Signer;
use super::shared::keys_in;
use super::store;
use crate::base::secret::Secret;
use crate::base::time::WallTime;
use crate::config::credential::{AwsSource, EntraProof, Google, Login, OAuth, ServiceUrl};
use crate::sign::SignFault;
use std::path::Path;

/// Why there is no token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenFault {
    /// The service could not be spoken to.
    #[error("the token service {host} {fault}")]
    Unreachable {
        /// Its host.
        host: String,
        /// Why.
        fault: AskFault,
    },
    /// The service said no.
    #[error("the token service {host} refused with status {status}{}", .code.as_deref().map(|code| format!(" ({code})")).unwrap_or_default())]
    Refused {
        /// Its host.
        host: String,
        /// Its status.
        status: u16,
        /// Its word for it.
        code: Option<String>,
    },
    /// The service failed.
    #[error("the token service {host} failed with status {status}")]
    Failed {
        /// Its host.
        host: String,
        /// Its status.
        status: u16,
    },
    /// The answer is of no use.
    #[error("the token service {host} is of no use: {fault}")]
    Useless {
        /// Its host.
        host: String,
        /// What is wrong with it.
        fault: AnswerFault,
    },
    /// A file is missing or unsound.
    #[error("{0}")]
    File(String),
    /// What was configured cannot be sent.
    #[error("{0}")]
    Unsendable(#[from] SignFault),
    /// The fetch did not come to an end.
    #[error("the token is still being fetched")]
    Pending,
}

impl TokenFault {
    /// Tells whether something must be mended before another try is of use.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        match self {
            TokenFault::Refused { .. } | TokenFault::File(_) | TokenFault::Unsendable(_) => true,
            TokenFault::Unreachable { .. }
            | TokenFault::Failed { .. }
            | TokenFault::Useless { .. }
            | TokenFault::Pending => false,
        }
    }
}

/// What a login remembers from fetch to fetch.
#[derive(Default)]
pub(super) struct Memory {
    /// The refresh token in force, once the store was looked at.
    refresh_token: Option<Secret>,
}

/// Fetches a token.
pub(super) async fn fetch(
    login: &Login,
    signer: Option<&Signer>,
    memory: &mut Memory,
    client: &Client,
    now: WallTime,
) -> Result<Grant, TokenFault> {
    match login {
        Login::Aws(aws) => first_keys(&aws.sources, client, now).await,
        Login::Entra(entra) => {
            let assertion = match &entra.proof {
                EntraProof::Secret(secret) => secret.clone(),
                EntraProof::File(path) => token_in(path).await?,
            };
            let ask = ask::entra(entra, &assertion);
            let reply = put(client, &ask).await?;
            useful(&ask.url, answer::oauth(&reply.body))
        }
        Login::Google(google) => google_token(google, signer, client, now).await,
        Login::Copilot(copilot) => {
            let ask = ask::copilot(copilot)?;
            let reply = put(client, &ask).await?;
            useful(&ask.url, answer::copilot(&reply.body, reply.date.unwrap_or(now), &ask.url.base))
        }
        Login::OAuth(oauth) => renew(oauth, memory, client).await,
    }
}

async fn google_token(
    google: &Google,
    signer: Option<&Signer>,
    client: &Client,
    now: WallTime,
) -> Result<Grant, TokenFault> {
    let ask = match google {
        Google::Metadata { url, scopes } => ask::google_metadata(url, scopes),
        Google::ServiceAccount { token_url, .. } => {
            let unsigned = || TokenFault::File("the service account's key cannot sign".to_owned());
            let claims = ask::google_claims(google, now.0 / 1000);
            let jwt = signer.and_then(|signer| signer.sign(&claims).ok()).ok_or_else(unsigned)?;
            ask::google_account(token_url, &jwt)
        }
    };
    let reply = put(client, &ask).await?;
    useful(&ask.url, answer::oauth(&reply.body))
}

async fn renew(oauth: &OAuth, memory: &mut Memory, client: &Client) -> Result<Grant, TokenFault> {
    let first = &oauth.refresh_token;
    let token = match (&memory.refresh_token, &oauth.store) {
        (Some(token), _) => token.clone(),
        (None, None) => first.clone(),
        (None, Some(path)) => {
            let (path, first) = (path.clone(), first.clone());
            let kept = disk::wait_for(move || store::read(&path, &first)).await?;
            kept.unwrap_or_else(|| oauth.refresh_token.clone())
        }
    };
    memory.refresh_token = Some(token.clone());
    let ask = ask::oauth(oauth, &token);
    let reply = put(client, &ask).await?;
    let grant = useful(&ask.url, answer::oauth(&reply.body))?;
    if let Some(rotated) = grant.rotated.clone().filter(|rotated| *rotated != token) {
        memory.refresh_token = Some(rotated.clone());
        if let Some(path) = oauth.store.clone() {
            let first = first.clone();
            if let Err(fault) = disk::wait_for(move || store::write(&path, &first, &rotated)).await {
                // It still serves from memory; a restart would need a new login.
                tracing::error!(%fault, "a refresh token could not be kept");
            }
        }
    }
    Ok(grant)
}

async fn first_keys(sources: &[AwsSource], client: &Client, now: WallTime) -> Result<Grant, TokenFault> {
    let mut last = TokenFault::File("no source of AWS keys is there".to_owned());
    for source in sources {
        match keys_of(source, client, now).await {
            Ok(grant) => return Ok(grant),
            Err(fault) => {
                tracing::debug!(%fault, "a source of AWS keys has none");
                last = fault;
            }
        }
    }
    Err(last)
}

async fn keys_of(source: &AwsSource, client: &Client, now: WallTime) -> Result<Grant, TokenFault> {
    let lasting =
        |keys| Grant { proof: Proof::Aws(keys), life: None, refresh_in: None, api: None, rotated: None };
    match source {
        AwsSource::Keys(keys) => Ok(lasting(keys.clone())),
        AwsSource::Shared { files, profile } => {
            for path in files {
                if let Ok(text) = token_in(path).await
                    && let Some(keys) = keys_in(text.expose(), profile)
                {
                    return Ok(lasting(keys));
                }
            }
            let profile = profile.escape_debug();
            Err(TokenFault::File(format!("the shared AWS files hold no keys for the profile {profile}")))
        }
        AwsSource::WebIdentity { sts, role, session, token_file } => {
            let token = token_in(token_file).await?;
            let ask = ask::sts(sts, role, session, &token);
            let reply = put(client, &ask).await?;
            useful(&ask.url, answer::aws_xml(&reply.body, reply.date.unwrap_or(now)))
        }
        AwsSource::Container { url, token, token_file } => {
            let read = match token_file {
                Some(path) => Some(token_in(path).await?),
                None => token.clone(),
            };
            let ask = ask::container(url, read.as_ref())?;
            let reply = put(client, &ask).await?;
            useful(&ask.url, answer::aws_json(&reply.body, reply.date.unwrap_or(now)))
        }
        AwsSource::Imds { url } => {
            let opened = put(client, &ask::imds_session(url)?).await?;
            let session = text_of(url, &opened)?;
            let role = text_of(url, &put(client, &ask::imds(url, &session, "")?).await?)?;
            let role = role.expose().lines().next().unwrap_or_default().trim();
            let is_name = |b: u8| b.is_ascii_alphanumeric() || b"+=,.@_-".contains(&b);
            if role.is_empty() || !role.bytes().all(is_name) {
                return useful(url, Err(AnswerFault::NoToken));
            }
            let ask = ask::imds(url, &session, role)?;
            let reply = put(client, &ask).await?;
            useful(&ask.url, answer::aws_json(&reply.body, reply.date.unwrap_or(now)))
        }
    }
}

/// Asks; anything but a 2xx is a fault.
async fn put(client: &Client, ask: &Ask) -> Result<Reply, TokenFault> {
    let host = || ask.url.base.authority();
    match client.ask(ask).await {
        Ok(reply) if (200..300).contains(&reply.status) => Ok(reply),
        // 429 is no judgement of what was sent.
        Ok(reply) if (400..500).contains(&reply.status) && reply.status != 429 => {
            let code = answer::refusal_code(&reply.body);
            Err(TokenFault::Refused { host: host(), status: reply.status, code })
        }
        Ok(reply) => Err(TokenFault::Failed { host: host(), status: reply.status }),
        Err(fault) => Err(TokenFault::Unreachable { host: host(), fault }),
    }
}

fn useful<T>(url: &ServiceUrl, answer: Result<T, AnswerFault>) -> Result<T, TokenFault> {
    answer.map_err(|fault| TokenFault::Useless { host: url.base.authority(), fault })
}

fn text_of(url: &ServiceUrl, reply: &Reply) -> Result<Secret, TokenFault> {
    let text = std::str::from_utf8(&reply.body).map_err(|_| AnswerFault::NoToken);
    useful(url, text.map(|text| Secret::new(text.to_owned())))
}

/// Reads a file that the platform keeps a token in.
async fn token_in(path: &Path) -> Result<Secret, TokenFault> {
    let path = path.to_owned();
    disk::wait_for(move || disk::read(&path)).await
}
