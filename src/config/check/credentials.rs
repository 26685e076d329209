//! Is a login whole, and does everything it names exist?
//!
//! Secrets are fetched, variables of the platform (`AWS_…`) are read and addresses are judged
//! here, so that a plan holds everything that `tokens` needs. Files that the platform renews
//! (tokens of workload identities, shared files) are named and not opened: they are read each time.
//!
//! Sources: AWS SDKs and Tools Reference Guide, "Standardized credential providers" (order, names
//! of variables and default addresses); Microsoft identity platform, client credentials flow;
//! Google Cloud, service account key files.

use super::Bench;
use super::providers::Place;
use super::url::BaseUrl;
use crate::base::secret::Secret;
use crate::config::credential::{
    Aws, AwsKeys, AwsSource, Copilot, Entra, EntraProof, Google, Login, OAuth, ServiceUrl,
};
use crate::config::login::{AwsFile, AwsFrom, CopilotFile, EntraFile, GoogleFile, LoginFile, OAuthFile};
use crate::config::path::KeyPath;
use crate::config::reference::SecretRef;
use std::path::PathBuf;

const ENTRA: &str = "https://login.microsoftonline.com";
const ENTRA_SCOPE: &str = "https://cognitiveservices.azure.com/.default";
const GITHUB: &str = "https://api.github.com";
const GOOGLE_SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";
const METADATA_HOST: &str = "http://169.254.169.254";
const CONTAINER_HOST: &str = "http://169.254.170.2";

/// Resolves the one login that is written.
pub(super) fn check(bench: &Bench<'_>, file: LoginFile, place: &Place<'_>) -> Option<Login> {
    let LoginFile { aws, azure_entra, google, copilot, oauth } = file;
    aws.and_then(|file| check_aws(bench, &file, place))
        .or_else(|| azure_entra.and_then(|file| check_entra(bench, &file)))
        .or_else(|| google.and_then(|file| check_google(bench, file)))
        .or_else(|| copilot.and_then(|file| check_copilot(bench, &file)))
        .or_else(|| oauth.and_then(|file| check_oauth(bench, &file)))
}

fn check_aws(bench: &Bench<'_>, file: &AwsFile, place: &Place<'_>) -> Option<Login> {
    if !cfg!(feature = "bedrock") {
        bench.faults.error(&file.at, "needs a build with the feature bedrock; this one is without");
        return None;
    }
    let region = file
        .region
        .clone()
        .or_else(|| place.region.map(str::to_owned))
        .or_else(|| place.url.and_then(region_of))
        .or_else(|| bench.variable("AWS_REGION"))
        .or_else(|| bench.variable("AWS_DEFAULT_REGION"))
        .filter(|region| is_region(region));
    if region.is_none() {
        bench.faults.lacking(
            &file.at.key("region"),
            "is not known or not a region: write it here, such as us-east-1, or set AWS_REGION",
        );
    }
    let sources = aws_sources(bench, file, region.as_deref().unwrap_or("us-east-1"))?;
    let service = file.service.clone().unwrap_or_else(|| "bedrock".to_owned());
    if !is_region(&service) {
        bench.faults.error(&file.at.key("service"), "must be 1 to 64 of a-z 0-9 -, such as bedrock");
        return None;
    }
    Some(Login::Aws(Aws { region: region?.into(), service: service.into(), sources }))
}

fn aws_sources(bench: &Bench<'_>, file: &AwsFile, region: &str) -> Option<Vec<AwsSource>> {
    let error = |key: &str, what: &str| {
        let at = if key.is_empty() { file.at.clone() } else { file.at.key(key) };
        bench.faults.error(&at, what);
        None
    };
    if file.endpoint.is_some()
        && !matches!(file.from, Some(AwsFrom::Imds | AwsFrom::Container | AwsFrom::WebIdentity))
    {
        return error("endpoint", "goes with from: imds, container or web_identity");
    }
    let written = match (file.has_keys, file.from) {
        (true, Some(_)) => return error("from", "stands beside keys; write one or the other"),
        (false, None) => {
            return error("", "has no keys; write access_key_id and secret_access_key, or from: auto");
        }
        (true, None) => return written_keys(bench, file).map(|keys| vec![AwsSource::Keys(keys)]),
        (false, Some(from)) => from,
    };
    let found = match written {
        AwsFrom::Environment => environment_keys(bench),
        AwsFrom::Shared => shared_files(bench, file),
        AwsFrom::WebIdentity => web_identity(bench, file, region),
        AwsFrom::Container => container(bench, file),
        AwsFrom::Imds => imds(bench, file),
        AwsFrom::Auto => {
            let all = [
                environment_keys(bench),
                shared_files(bench, file),
                web_identity(bench, file, region),
                container(bench, file),
                imds(bench, file),
            ];
            return Some(all.into_iter().filter_map(Result::ok).collect());
        }
    };
    match found {
        Ok(source) => Some(vec![source]),
        Err(why) => error("from", &why),
    }
}

fn written_keys(bench: &Bench<'_>, file: &AwsFile) -> Option<AwsKeys> {
    let at = &file.at;
    let fetch = |key: &str, place: &Option<SecretRef>| {
        place.as_ref().and_then(|place| bench.secret(&at.key(key), place))
    };
    for (key, place) in
        [("access_key_id", &file.access_key_id), ("secret_access_key", &file.secret_access_key)]
    {
        if place.is_none() {
            bench.faults.error(at, format!("{key} is missing: keys are access_key_id and secret_access_key"));
        }
    }
    let session_token = fetch("session_token", &file.session_token);
    Some(AwsKeys {
        access_key_id: fetch("access_key_id", &file.access_key_id)?,
        secret_access_key: fetch("secret_access_key", &file.secret_access_key)?,
        session_token,
    })
}

fn environment_keys(bench: &Bench<'_>) -> Result<AwsSource, String> {
    let fetch = |name: &str| {
        let place = SecretRef::Env(name.to_owned());
        bench.outside.secret(&place).map_err(|why| format!("{} {why}", place.describe()))
    };
    Ok(AwsSource::Keys(AwsKeys {
        access_key_id: fetch("AWS_ACCESS_KEY_ID")?,
        secret_access_key: fetch("AWS_SECRET_ACCESS_KEY")?,
        session_token: fetch("AWS_SESSION_TOKEN").ok(),
    }))
}

fn shared_files(bench: &Bench<'_>, file: &AwsFile) -> Result<AwsSource, String> {
    let home = bench.variable("HOME");
    let place = |name: &str, usual: &str| {
        bench.variable(name).or_else(|| home.as_ref().map(|home| format!("{home}/.aws/{usual}")))
    };
    let files: Vec<PathBuf> =
        [place("AWS_SHARED_CREDENTIALS_FILE", "credentials"), place("AWS_CONFIG_FILE", "config")]
            .into_iter()
            .flatten()
            .map(PathBuf::from)
            .collect();
    if files.is_empty() {
        return Err("shared needs HOME or AWS_SHARED_CREDENTIALS_FILE, and neither is set".to_owned());
    }
    let profile = file.profile.clone().or_else(|| bench.variable("AWS_PROFILE"));
    Ok(AwsSource::Shared { files, profile: profile.unwrap_or_else(|| "default".to_owned()) })
}

fn web_identity(bench: &Bench<'_>, file: &AwsFile, region: &str) -> Result<AwsSource, String> {
    let variable =
        |name: &str| bench.variable(name).ok_or_else(|| format!("environment variable {name} is not set"));
    let own = format!("https://sts.{region}.amazonaws.com");
    let endpoint = file.endpoint.clone().or_else(|| bench.variable("AWS_ENDPOINT_URL_STS"));
    let sts = service(endpoint.as_deref().unwrap_or(&own), false)?;
    Ok(AwsSource::WebIdentity {
        sts,
        role: variable("AWS_ROLE_ARN")?,
        session: bench.variable("AWS_ROLE_SESSION_NAME").unwrap_or_else(|| "pointsman".to_owned()),
        token_file: variable("AWS_WEB_IDENTITY_TOKEN_FILE")?.into(),
    })
}

fn container(bench: &Bench<'_>, file: &AwsFile) -> Result<AwsSource, String> {
    let relative = bench.variable("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
    let full = bench.variable("AWS_CONTAINER_CREDENTIALS_FULL_URI");
    let url = match (&file.endpoint, relative, full) {
        (Some(written), _, _) => written.clone(),
        (None, Some(relative), _) => format!("{CONTAINER_HOST}{relative}"),
        (None, None, Some(full)) => full,
        (None, None, None) => {
            return Err(
                "container needs AWS_CONTAINER_CREDENTIALS_RELATIVE_URI or …_FULL_URI, and neither is set"
                    .to_owned(),
            );
        }
    };
    let place = SecretRef::Env("AWS_CONTAINER_AUTHORIZATION_TOKEN".to_owned());
    Ok(AwsSource::Container {
        url: service(&url, true)?,
        token: bench.outside.document(&place).ok(),
        token_file: bench.variable("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE").map(PathBuf::from),
    })
}

fn imds(bench: &Bench<'_>, file: &AwsFile) -> Result<AwsSource, String> {
    if bench.variable("AWS_EC2_METADATA_DISABLED").is_some_and(|word| word.eq_ignore_ascii_case("true")) {
        return Err("imds is switched off by AWS_EC2_METADATA_DISABLED".to_owned());
    }
    let endpoint = file.endpoint.clone().or_else(|| bench.variable("AWS_EC2_METADATA_SERVICE_ENDPOINT"));
    Ok(AwsSource::Imds { url: service(endpoint.as_deref().unwrap_or(METADATA_HOST), true)? })
}

fn check_entra(bench: &Bench<'_>, file: &EntraFile) -> Option<Login> {
    let at = &file.at;
    let proof = match (&file.client_secret, &file.federated_token_file) {
        (_, Some(_)) if file.has_secret => {
            bench.faults.error(at, "has both client_secret and federated_token_file; write one of them");
            None
        }
        (Some(place), None) => bench.secret(&at.key("client_secret"), place).map(EntraProof::Secret),
        (_, Some(path)) => bench.file_path(&at.key("federated_token_file"), path).map(EntraProof::File),
        (None, None) if file.has_secret => None,
        (None, None) => {
            bench.faults.error(at, "has no proof; write client_secret or federated_token_file");
            None
        }
    };
    let url = bench.service(&at.key("endpoint"), file.endpoint.as_deref().unwrap_or(ENTRA), false);
    Some(Login::Entra(Entra {
        token_url: url?.below(&format!("/{}/oauth2/v2.0/token", file.tenant.as_ref()?)),
        client_id: file.client_id.clone()?,
        proof: proof?,
        scope: file.scope.clone().unwrap_or_else(|| ENTRA_SCOPE.to_owned()),
    }))
}

fn check_google(bench: &Bench<'_>, file: GoogleFile) -> Option<Login> {
    let at = file.at;
    let scopes: Vec<String> = match file.scopes {
        None => vec![GOOGLE_SCOPE.to_owned()],
        Some(scopes) => scopes.into_iter().map(|(_, scope)| scope).collect(),
    };
    if scopes.iter().any(|scope| !scope.bytes().all(|b| b.is_ascii_graphic() && b != b',')) {
        bench.faults.error(&at.key("scopes"), "must be scopes without blanks and commas");
        return None;
    }
    let place = match (file.service_account, file.metadata) {
        (Some(_), true) => {
            bench.faults.error(&at, "has both service_account and metadata; write one of them");
            return None;
        }
        (None, true) => {
            let own = file.endpoint.as_deref().unwrap_or(METADATA_HOST);
            let url = bench.service(&at.key("endpoint"), own, true)?;
            return Some(Login::Google(Google::Metadata { url, scopes: scopes.join(",") }));
        }
        (None, false) => {
            if !file.has_account {
                bench.faults.error(&at, "has no proof; write service_account or metadata: true");
            }
            return None;
        }
        (Some(place), false) => place,
    };
    let key_at = at.key("service_account");
    let text = bench.document(&key_at, &place)?;
    let Some(account) = Account::read(&text) else {
        let what = "is no key file of a service account (JSON with client_email, private_key and token_uri)";
        bench.faults.error(&key_at, format!("{} {what}", place.describe()));
        return None;
    };
    let own = file.endpoint.unwrap_or_else(|| account.token_uri.clone());
    Some(Login::Google(Google::ServiceAccount {
        token_url: bench.service(&at.key("endpoint"), &own, false)?,
        audience: account.token_uri,
        client_email: account.client_email,
        key_id: account.key_id,
        private_key: account.private_key,
        scopes: scopes.join(" "),
    }))
}

/// What is needed of a service account's key file.
struct Account {
    client_email: String,
    private_key: Secret,
    key_id: Option<String>,
    token_uri: String,
}

impl Account {
    fn read(text: &Secret) -> Option<Account> {
        let json: serde_json::Value = serde_json::from_str(text.expose()).ok()?;
        let word = |key: &str| json.get(key).and_then(serde_json::Value::as_str).map(str::to_owned);
        let private_key = word("private_key").filter(|key| key.contains("-----BEGIN PRIVATE KEY-----"))?;
        Some(Account {
            client_email: word("client_email").filter(|email| !email.is_empty())?,
            private_key: Secret::new(private_key),
            key_id: word("private_key_id"),
            token_uri: word("token_uri")?,
        })
    }
}

fn check_copilot(bench: &Bench<'_>, file: &CopilotFile) -> Option<Login> {
    let token = file.token.as_ref().and_then(|place| bench.secret(&file.at.key("token"), place));
    let own = file.endpoint.as_deref().unwrap_or(GITHUB);
    let endpoint = bench.service(&file.at.key("endpoint"), own, false);
    Some(Login::Copilot(Copilot { endpoint: endpoint?, token: token? }))
}

/// Makes the login of a GitHub token that is written as a key.
pub(super) fn copilot(bench: &Bench<'_>, at: &KeyPath, token: Secret) -> Option<Login> {
    let endpoint = bench.service(at, GITHUB, false)?;
    Some(Login::Copilot(Copilot { endpoint, token }))
}

fn check_oauth(bench: &Bench<'_>, file: &OAuthFile) -> Option<Login> {
    let at = &file.at;
    let secret = |key: &str, place: &Option<SecretRef>| {
        place.as_ref().and_then(|place| bench.secret(&at.key(key), place))
    };
    let token_url = file.token_url.as_ref().and_then(|url| bench.service(&at.key("token_url"), url, false));
    let refresh_token = secret("refresh_token", &file.refresh_token);
    let client_secret = secret("client_secret", &file.client_secret);
    let store = file.store.as_ref().and_then(|path| bench.file_path(&at.key("store"), path));
    Some(Login::OAuth(OAuth {
        token_url: token_url?,
        client_id: file.client_id.clone()?,
        client_secret,
        refresh_token: refresh_token?,
        scope: file.scope.clone(),
        store,
    }))
}

/// The region in the name of an AWS host: `bedrock-runtime.eu-west-1.amazonaws.com`.
fn region_of(url: &BaseUrl) -> Option<String> {
    let before = [".amazonaws.com", ".amazonaws.com.cn", ".api.aws"]
        .iter()
        .find_map(|suffix| url.host.strip_suffix(suffix))?;
    let region = before.rsplit('.').next()?;
    (before.contains('.') && is_region(region)).then(|| region.to_owned())
}

fn is_region(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

fn service(text: &str, may_be_metadata: bool) -> Result<ServiceUrl, String> {
    ServiceUrl::parse(text, may_be_metadata).map_err(|why| format!("names an address that {why}"))
}

impl Bench<'_> {
    /// Returns a variable of the environment that is there and not empty.
    pub(super) fn variable(&self, name: &str) -> Option<String> {
        self.outside.env(name).filter(|value| !value.is_empty())
    }

    /// Reads the address of a token service.
    fn service(&self, at: &KeyPath, text: &str, may_be_metadata: bool) -> Option<ServiceUrl> {
        let text = self.expand(at, text)?;
        match ServiceUrl::parse(&text, may_be_metadata) {
            Ok(url) => Some(url),
            Err(why) => {
                self.faults.error(at, why);
                None
            }
        }
    }

    /// Fetches a secret of several lines.
    fn document(&self, at: &KeyPath, place: &SecretRef) -> Option<Secret> {
        if let SecretRef::Literal(_) = place {
            self.faults.error(at, "must be the place of a key file: {file: PATH} or {credential: NAME}");
            return None;
        }
        match self.outside.document(place) {
            Ok(secret) => Some(secret),
            Err(why) => {
                self.faults.error(at, format!("{} {why}", place.describe()));
                None
            }
        }
    }
}
