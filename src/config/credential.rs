//! How does a credential prove us, where it is not a plain key?
//!
//! A [`Login`] is everything that must be known to get a token, or to sign, without asking the
//! environment again: `check` has read variables, files of keys and addresses by then, so that a
//! file that passes the check is one that can be used. What is fetched, when and how is the room
//! `tokens`' business, what is signed that of `sign`.
//!
//! The shapes as written are in `login`. The address of each token service can be overridden, for
//! private clouds and for tests; `http://` goes to this machine only, but for the metadata services
//! of clouds, whose link-local addresses ([`METADATA`]) have no certificates and never leave the
//! host.

use super::check::url::BaseUrl;
use crate::base::secret::Secret;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::sync::Arc;

/// Addresses of metadata services, which speak plain HTTP by nature: AWS, Azure and Google
/// instances; AWS ECS; AWS EKS pod identity; and AWS's two in IPv6.
pub const METADATA: [IpAddr; 5] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 2)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 23)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23)),
];

/// A credential whose proof is signed or fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Login {
    /// Requests are signed with AWS keys (SigV4).
    Aws(Aws),
    /// A token of Microsoft Entra ID.
    Entra(Entra),
    /// A token of Google.
    Google(Google),
    /// A Copilot token for a GitHub token.
    Copilot(Copilot),
    /// An access token for a refresh token.
    OAuth(OAuth),
}

impl Login {
    /// Returns the word used in the configuration.
    #[must_use]
    pub fn as_label(&self) -> &'static str {
        match self {
            Login::Aws(_) => "aws",
            Login::Entra(_) => "azure_entra",
            Login::Google(_) => "google",
            Login::Copilot(_) => "copilot",
            Login::OAuth(_) => "oauth",
        }
    }
}

/// Where a token service listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceUrl {
    /// Scheme, host and port; its path is not used.
    pub base: BaseUrl,
    /// Path as written, a slash at its end kept; `/` at least.
    pub path: String,
}

impl ServiceUrl {
    /// Takes an address apart.
    ///
    /// # Errors
    /// Says what is wrong without repeating it; `http://` is refused but to this machine and,
    /// where `may_be_metadata`, to [`METADATA`].
    pub fn parse(text: &str, may_be_metadata: bool) -> Result<Self, &'static str> {
        let base = BaseUrl::parse(text)?;
        let is_metadata =
            may_be_metadata && base.host.parse::<IpAddr>().is_ok_and(|ip| METADATA.contains(&ip));
        if !base.tls && !base.is_loopback() && !is_metadata {
            return Err("would send a secret unencrypted to another machine; use https://");
        }
        let slash = if text.ends_with('/') || base.path.is_empty() { "/" } else { "" };
        let path = format!("{}{slash}", base.path);
        Ok(ServiceUrl { base, path })
    }

    /// Returns the same service at a path below this one.
    #[must_use]
    pub fn below(&self, path: &str) -> ServiceUrl {
        let path = format!("{}{path}", self.path.trim_end_matches('/'));
        ServiceUrl { base: self.base.clone(), path }
    }
}

/// Keys of AWS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AwsKeys {
    /// Access key id.
    pub access_key_id: Secret,
    /// Secret access key; it signs and is never sent.
    pub secret_access_key: Secret,
    /// Session token of keys that are lent for a time.
    pub session_token: Option<Secret>,
}

/// `aws`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aws {
    /// Region that requests are signed for.
    pub region: Arc<str>,
    /// Service that requests are signed for; Bedrock's is `bedrock`.
    pub service: Arc<str>,
    /// Where the keys come from; the first that has some is used.
    pub sources: Vec<AwsSource>,
}

/// Where keys of AWS come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AwsSource {
    /// The configuration or the environment.
    Keys(AwsKeys),
    /// The files that the AWS command line writes.
    Shared {
        /// `credentials` and `config`, in the order in which they are looked at.
        files: Vec<PathBuf>,
        /// Profile in them.
        profile: String,
    },
    /// A role for a token that the platform keeps in a file (EKS).
    WebIdentity {
        /// The security token service.
        sts: ServiceUrl,
        /// ARN of the role.
        role: String,
        /// Name of the session, for AWS's own log.
        session: String,
        /// The file.
        token_file: PathBuf,
    },
    /// The agent beside a container (ECS, EKS pod identity).
    Container {
        /// Its address.
        url: ServiceUrl,
        /// What it wants to see, where it wants something.
        token: Option<Secret>,
        /// The file in which that is.
        token_file: Option<PathBuf>,
    },
    /// The metadata service of an instance, version 2.
    Imds {
        /// Its address.
        url: ServiceUrl,
    },
}

/// `azure_entra`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entra {
    /// The token endpoint of the tenant.
    pub token_url: ServiceUrl,
    /// The application.
    pub client_id: String,
    /// What proves the application.
    pub proof: EntraProof,
    /// What the token is for.
    pub scope: String,
}

/// What proves an application to Entra.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntraProof {
    /// Its secret.
    Secret(Secret),
    /// A token that the platform keeps in a file (workload identity).
    File(PathBuf),
}

/// `google`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Google {
    /// A service account's key signs a request for a token.
    ServiceAccount {
        /// The token endpoint.
        token_url: ServiceUrl,
        /// What the signed request is addressed to: the token endpoint that the key file names.
        audience: String,
        /// Who.
        client_email: String,
        /// Which of its keys, where the key file says.
        key_id: Option<String>,
        /// The key, PEM (PKCS #8).
        private_key: Secret,
        /// What the token is for, joined by blanks.
        scopes: String,
    },
    /// The metadata service of an instance.
    Metadata {
        /// Its address.
        url: ServiceUrl,
        /// What the token is for, joined by commas; empty leaves it to the instance.
        scopes: String,
    },
}

/// `copilot`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copilot {
    /// GitHub's API.
    pub endpoint: ServiceUrl,
    /// The GitHub token.
    pub token: Secret,
}

/// `oauth`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OAuth {
    /// The token endpoint.
    pub token_url: ServiceUrl,
    /// The application.
    pub client_id: String,
    /// Its secret, where it has one.
    pub client_secret: Option<Secret>,
    /// The first refresh token.
    pub refresh_token: Secret,
    /// What to ask for, where it is asked for at a refresh.
    pub scope: Option<String>,
    /// File (mode 0600) that keeps refresh tokens that the service hands out anew.
    pub store: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_go_unencrypted_to_this_machine_and_to_metadata_services_only() {
        for (text, may_be_metadata, want) in [
            ("https://login.example/token", false, Some("/token")),
            ("https://login.example/token/", false, Some("/token/")),
            ("https://login.example", false, Some("/")),
            ("http://127.0.0.1:9/x", false, Some("/x")),
            ("http://169.254.169.254", true, Some("/")),
            ("http://[fd00:ec2::254]", true, Some("/")),
            ("http://169.254.169.254", false, None),
            ("http://169.254.169.253", true, None),
            ("http://metadata.google.internal", true, None),
            ("http://login.example", true, None),
            ("https://user@login.example", true, None),
        ] {
            let got = ServiceUrl::parse(text, may_be_metadata);
            assert_eq!(got.as_ref().ok().map(|url| url.path.as_str()), want, "{text}: {got:?}");
        }
    }
}
