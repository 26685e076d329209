//! What a login section says, as written: `credentials: [{name, aws: {…}}]`.
//!
//! One section a sort of login, of which an entry has exactly one, or a `key`. Every secret inside
//! is a reference. Whether a section is whole is `check`'s question; what it then means, and why
//! addresses can be overridden, is said in `credential`.

use super::fault::Faults;
use super::path::KeyPath;
use super::reference::{SecretRef, read_reference};
use super::walk::Map;
use std::path::PathBuf;

/// The login sections of one entry of `providers.*.credentials`, as written.
#[derive(Debug, Default)]
pub struct LoginFile {
    pub aws: Option<AwsFile>,
    pub azure_entra: Option<EntraFile>,
    pub google: Option<GoogleFile>,
    pub copilot: Option<CopilotFile>,
    pub oauth: Option<OAuthFile>,
}

/// `aws` as written.
#[derive(Debug)]
pub struct AwsFile {
    pub at: KeyPath,
    pub access_key_id: Option<SecretRef>,
    pub secret_access_key: Option<SecretRef>,
    pub session_token: Option<SecretRef>,
    /// Whether any of the three is written, also where it was refused.
    pub has_keys: bool,
    pub from: Option<AwsFrom>,
    pub profile: Option<String>,
    pub region: Option<String>,
    pub service: Option<String>,
    pub endpoint: Option<String>,
}

/// `aws.from`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AwsFrom {
    Environment,
    Shared,
    Container,
    Imds,
    WebIdentity,
    Auto,
}

/// `azure_entra` as written.
#[derive(Debug)]
pub struct EntraFile {
    pub at: KeyPath,
    pub tenant: Option<String>,
    pub client_id: Option<String>,
    pub client_secret: Option<SecretRef>,
    /// Whether a secret is written, also where it was refused.
    pub has_secret: bool,
    pub federated_token_file: Option<String>,
    pub scope: Option<String>,
    pub endpoint: Option<String>,
}

/// `google` as written.
#[derive(Debug)]
pub struct GoogleFile {
    pub at: KeyPath,
    pub service_account: Option<SecretRef>,
    /// Whether a key file is written, also where it was refused.
    pub has_account: bool,
    pub metadata: bool,
    pub scopes: Option<Vec<(KeyPath, String)>>,
    pub endpoint: Option<String>,
}

/// `copilot` as written.
#[derive(Debug)]
pub struct CopilotFile {
    pub at: KeyPath,
    pub token: Option<SecretRef>,
    pub endpoint: Option<String>,
}

/// `oauth` as written.
#[derive(Debug)]
pub struct OAuthFile {
    pub at: KeyPath,
    pub token_url: Option<String>,
    pub client_id: Option<String>,
    pub client_secret: Option<SecretRef>,
    pub refresh_token: Option<SecretRef>,
    pub scope: Option<String>,
    pub store: Option<String>,
}

impl GoogleFile {
    /// Makes the section that names a key file and nothing else.
    #[must_use]
    pub fn of_file(at: KeyPath, path: PathBuf) -> Self {
        let service_account = Some(SecretRef::File(path));
        GoogleFile { at, service_account, has_account: true, metadata: false, scopes: None, endpoint: None }
    }
}

impl LoginFile {
    /// Returns the words of the sections that are written.
    #[must_use]
    pub fn written(&self) -> Vec<&'static str> {
        let all = [
            ("aws", self.aws.is_some()),
            ("azure_entra", self.azure_entra.is_some()),
            ("google", self.google.is_some()),
            ("copilot", self.copilot.is_some()),
            ("oauth", self.oauth.is_some()),
        ];
        all.into_iter().filter_map(|(word, is_written)| is_written.then_some(word)).collect()
    }
}

/// Walks the login sections of a credential.
pub fn read_login(m: &mut Map<'_, '_>, faults: &Faults) -> LoginFile {
    LoginFile {
        aws: m.maybe_section(
            "aws",
            "keys of AWS, with which requests are signed, instead of a key",
            read_aws,
        ),
        azure_entra: m.maybe_section(
            "azure_entra",
            "a token of Microsoft Entra ID, fetched and renewed, instead of a key",
            |m| read_entra(m, faults),
        ),
        google: m.maybe_section(
            "google",
            "a token of Google, fetched and renewed, instead of a key",
            read_google,
        ),
        copilot: m.maybe_section(
            "copilot",
            "a GitHub token that is exchanged for Copilot tokens, instead of a key",
            read_copilot,
        ),
        oauth: m.maybe_section(
            "oauth",
            "a refresh token that is exchanged for access tokens, instead of a key",
            |m| read_oauth(m, faults),
        ),
    }
}

fn read_aws(m: &mut Map<'_, '_>) -> AwsFile {
    let from = [
        ("environment", AwsFrom::Environment),
        ("shared", AwsFrom::Shared),
        ("container", AwsFrom::Container),
        ("imds", AwsFrom::Imds),
        ("web_identity", AwsFrom::WebIdentity),
        ("auto", AwsFrom::Auto),
    ];
    AwsFile {
        at: m.at().clone(),
        has_keys: ["access_key_id", "secret_access_key", "session_token"].iter().any(|key| m.has(key)),
        access_key_id: m.secret("access_key_id", false, "place of the access key id", read_reference),
        secret_access_key: m.secret(
            "secret_access_key",
            false,
            "place of the secret access key",
            read_reference,
        ),
        session_token: m.secret("session_token", false, "place of the session token", read_reference),
        from: m.maybe_choice("from", "null", &from, "where keys come from that are not written here"),
        profile: m.maybe_text(
            "profile",
            "null",
            "profile in the shared files; null is AWS_PROFILE, then default",
        ),
        region: m.maybe_text(
            "region",
            "null",
            "region to sign for; null is that of the base_url, then AWS_REGION, then AWS_DEFAULT_REGION",
        ),
        service: m.maybe_text("service", "bedrock", "service to sign for"),
        endpoint: m.maybe_text(
            "endpoint",
            "null",
            "address of the service that gives keys out (imds, container, web_identity); null is AWS's own",
        ),
    }
}

fn read_entra(m: &mut Map<'_, '_>, faults: &Faults) -> EntraFile {
    let at = m.at().clone();
    EntraFile {
        at: at.clone(),
        tenant: m
            .text("tenant", "id or domain of the tenant")
            .filter(|tenant| is_plain(faults, &at.key("tenant"), tenant)),
        client_id: m
            .text("client_id", "id of the application")
            .filter(|id| is_plain(faults, &at.key("client_id"), id)),
        has_secret: m.has("client_secret"),
        client_secret: m.secret("client_secret", false, "place of the application's secret", read_reference),
        federated_token_file: m.maybe_text(
            "federated_token_file",
            "null",
            "file with the token of a workload identity, instead of a secret",
        ),
        scope: m.maybe_text("scope", "https://cognitiveservices.azure.com/.default", "what the token is for"),
        endpoint: m.maybe_text(
            "endpoint",
            "https://login.microsoftonline.com",
            "address of Entra; national clouds have their own",
        ),
    }
}

fn read_google(m: &mut Map<'_, '_>) -> GoogleFile {
    GoogleFile {
        at: m.at().clone(),
        has_account: m.has("service_account"),
        service_account: m.secret(
            "service_account",
            false,
            "place of the key file of a service account (JSON)",
            read_reference,
        ),
        metadata: m.boolean("metadata", false, "whether the instance's metadata service gives the token"),
        scopes: m.texts(
            "scopes",
            "[\"https://www.googleapis.com/auth/cloud-platform\"]",
            "what the token is for",
        ),
        endpoint: m.maybe_text(
            "endpoint",
            "null",
            "address of the token service; null is what the key file says, or the metadata service's own",
        ),
    }
}

fn read_copilot(m: &mut Map<'_, '_>) -> CopilotFile {
    CopilotFile {
        at: m.at().clone(),
        token: m.secret("token", true, "place of the GitHub token", read_reference),
        endpoint: m.maybe_text("endpoint", "https://api.github.com", "address of GitHub's API"),
    }
}

fn read_oauth(m: &mut Map<'_, '_>, faults: &Faults) -> OAuthFile {
    let at = m.at().clone();
    OAuthFile {
        at: at.clone(),
        token_url: m.text("token_url", "address of the token endpoint"),
        client_id: m
            .text("client_id", "id of the application")
            .filter(|id| is_plain(faults, &at.key("client_id"), id)),
        client_secret: m.secret("client_secret", false, "place of the application's secret", read_reference),
        refresh_token: m.secret("refresh_token", true, "place of the refresh token", read_reference),
        scope: m.maybe_text("scope", "null", "what to ask for; null asks for nothing"),
        store: m.maybe_text(
            "store",
            "null",
            "file that keeps refresh tokens handed out anew (mode 0600); null is memory only",
        ),
    }
}

/// Ids stand in paths, forms and messages.
fn is_plain(faults: &Faults, at: &KeyPath, id: &str) -> bool {
    let is_plain = id.len() <= 256 && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    if !is_plain {
        faults.error(at, "must be 1 to 256 of A-Z a-z 0-9 . _ -");
    }
    is_plain
}
