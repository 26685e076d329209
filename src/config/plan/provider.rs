//! Who can be asked: providers, their endpoints, credentials and models, and the targets made of them.
//!
//! Three scopes of health hang on them: an [`Endpoint`] is that of connect, DNS and TLS faults, a
//! [`Credential`] that of quota and refused keys, a [`Target`] that of everything else.

use super::{Pattern, Timeouts};
use crate::base::api::{Api, Kind};
use crate::base::ids::{CredentialIdx, EndpointIdx, ProviderIdx, TargetId};
use crate::base::reach::Reach;
use crate::base::secret::Secret;
use crate::catalog::{Abilities, Ability, Continues, Skills, Tier};
use crate::config::SecretRef;
use crate::config::credential::Login;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

/// A company or server.
#[derive(Clone, Debug)]
pub struct Provider {
    /// Name in the file; first part of a target's id.
    pub name: Arc<str>,
    /// What sort of server it is.
    pub kind: Kind,
    /// The catalogue's word for it, as the file has it.
    pub word: &'static str,
    /// Scheme, host, port.
    pub endpoint: EndpointIdx,
    /// Path of the base URL without a trailing slash, such as `/v1` or nothing.
    pub base_path: Arc<str>,
    /// `host` or `host:port` for the Host header, port left out where it is the scheme's own.
    pub authority: Arc<str>,
    /// Credentials in order; at least one (a provider without keys has one that sends nothing).
    pub credentials: Vec<CredentialIdx>,
    /// Extra request headers, lower-case names.
    pub headers: Vec<(http::HeaderName, http::HeaderValue)>,
    /// The words of their values that hold what a variable held: nobody is to read them in an answer.
    pub header_secrets: Vec<Secret>,
    /// Which HTTP versions to speak.
    pub http: HttpVersions,
    /// Whether credentials are used in order or in turn.
    pub spread_credentials: bool,
    /// Timers for this provider's attempts.
    pub timeouts: Timeouts,
    /// Models known of it, by the provider's name for them. A request looks its own up a few times,
    /// and a walk down a small tree costs less than one hash.
    pub models: BTreeMap<Arc<str>, Model>,
    /// The calls that it takes.
    pub serves: Calls,
    /// Paths that the file gives for calls, below the origin; `{model}` stands for the model.
    pub paths: Vec<(Api, Arc<str>)>,
    /// How it wants to be proved to.
    pub proof: Proof,
    /// Values set in every request where nobody else set one: key and JSON text.
    pub params: Vec<(String, String)>,
    /// The same for requests that ask for a stream.
    pub stream_params: Vec<(String, String)>,
    /// The operator's words for its errors, in the order in which they are asked: its own, then the
    /// file's.
    pub patterns: Vec<Pattern>,
}

/// An optional provider that is not configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// Its name in the file.
    pub name: String,
    /// The word of its kind.
    pub kind: String,
    /// What is missing: names of variables.
    pub why: String,
}

/// How a provider wants to be proved to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Proof {
    /// As its kind does.
    #[default]
    AsKind,
    /// `Authorization: Bearer KEY`.
    Bearer,
    /// The key in a header of this name.
    Header(http::HeaderName),
    /// Not at all.
    None,
}

impl Provider {
    /// Returns what decides whether a request fits one of its models. A bridge is given one prompt,
    /// whatever stands behind it: neither tools nor images nor a schema can be said to it.
    #[must_use]
    pub fn traits(&self, model: &str) -> Traits {
        let known = self.models.get(model).map(Model::traits).unwrap_or_default();
        if self.kind == Kind::GenerateBridge {
            return Traits { skills: Skills::written(Abilities::of(&[Ability::Chat])), ..known };
        }
        known
    }

    /// Returns the calls that one of its models takes.
    #[must_use]
    pub fn takes(&self, model: &str) -> Calls {
        match self.kind.call_of(model) {
            None => self.serves,
            Some(api) if self.serves.has(api) => Calls::default().with(api),
            Some(_) => Calls::default(),
        }
    }
}

/// A set of calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Calls(u16);

impl Calls {
    /// Returns the set with one more.
    #[must_use]
    pub fn with(self, api: Api) -> Self {
        Calls(self.0 | 1 << api as u8)
    }

    /// Tells whether it is in the set.
    #[must_use]
    pub fn has(self, api: Api) -> bool {
        self.0 & (1 << api as u8) != 0
    }
}

impl FromIterator<Api> for Calls {
    fn from_iter<T: IntoIterator<Item = Api>>(apis: T) -> Self {
        apis.into_iter().fold(Calls::default(), Calls::with)
    }
}

/// What is known of a model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Model {
    /// Context window in tokens, where known.
    pub context: Option<u64>,
    /// The same where the file says it: nothing that seems longer is sent there.
    pub written_context: Option<u64>,
    /// Most tokens of one answer, where known.
    pub max_output: Option<u64>,
    /// US dollars per million input tokens.
    pub price_input: Option<f64>,
    /// US dollars per million output tokens.
    pub price_output: Option<f64>,
    /// Whether the model thinks before it answers, so that first content may take long.
    pub reasoning: bool,
    /// Capabilities as the file lists them, such as `chat`, `tools`, `vision`; empty means unknown.
    pub capabilities: Vec<String>,
    /// What it can and cannot, by the file or the catalogue.
    pub skills: Skills,
    /// Size class.
    pub tier: Option<Tier>,
    /// How the model goes on from an answer that it is given the beginning of.
    pub continues: Continues,
    /// What a request to it is cut to.
    pub limits: ModelLimits,
}

/// What a request to a model is cut to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelLimits {
    /// Most tokens that may be asked for.
    pub max_tokens: Option<u64>,
    /// Members that are taken out.
    pub drop_params: Vec<String>,
}

/// What of a model decides whether a request fits it; kept at the target so that no look-up is paid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traits {
    /// What it can and cannot.
    pub skills: Skills,
    /// Its window in tokens where the file says it.
    pub written_context: Option<u64>,
    /// Its size class.
    pub tier: Option<Tier>,
}

impl Model {
    /// Returns what decides whether a request fits.
    #[must_use]
    pub fn traits(&self) -> Traits {
        Traits { skills: self.skills, written_context: self.written_context, tier: self.tier }
    }
}

/// HTTP versions towards a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpVersions {
    /// ALPN over TLS, HTTP/1.1 in cleartext.
    Auto,
    /// HTTP/1.1 only.
    One,
    /// HTTP/2 only (with prior knowledge in cleartext).
    Two,
}

/// A host and port: the scope of connect, DNS and TLS faults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// `scheme://host:port`, the name that survives a reload.
    pub name: Arc<str>,
    /// Host name or address literal (without brackets).
    pub host: Arc<str>,
    /// Port.
    pub port: u16,
    /// Whether TLS is spoken.
    pub tls: bool,
    /// PEM file with the certificate authorities to trust instead of the system's.
    pub ca: Option<PathBuf>,
    /// Whether the certificate is not verified; only possible to loopback.
    pub insecure_skip_verify: bool,
    /// Addresses to use instead of looking the host up; none is to look it up.
    pub addresses: Vec<IpAddr>,
    /// Whether addresses of inner networks are refused behind its name, where the file says so.
    pub deny_private_ips: Option<bool>,
}

impl Endpoint {
    /// Returns what its name may stand for.
    #[must_use]
    pub fn reach(&self) -> Reach {
        Reach::of(&self.host, self.tls, self.deny_private_ips)
    }
}

/// One key or login at a provider.
#[derive(Clone, Debug)]
pub struct Credential {
    /// Name in the file; second part of a target's id.
    pub name: Arc<str>,
    /// Its provider.
    pub provider: ProviderIdx,
    /// The key; none for a provider that wants no authentication, and where there is a login.
    pub key: Option<Secret>,
    /// Where the key stands, if that is a file and can be read again while requests are served.
    pub file: Option<SecretRef>,
    /// What a token is fetched or a request is signed with, instead of a key.
    pub login: Option<Login>,
}

/// Provider × credential × model: the unit of choice and of health.
#[derive(Clone, Debug)]
pub struct Target {
    /// Lasting name.
    pub id: TargetId,
    /// Its provider.
    pub provider: ProviderIdx,
    /// Its credential.
    pub credential: CredentialIdx,
    /// Its endpoint (the provider's).
    pub endpoint: EndpointIdx,
    /// The provider's name for the model.
    pub model: Arc<str>,
    /// What of the model decides whether a request fits it.
    pub traits: Traits,
}
