//! Which servers, which keys, which models?
//!
//! A provider's `kind` is looked up in the catalogue, which gives its base URL, its models and
//! whether it answers without a key. Providers at the same host and port share one endpoint, so
//! that a dead host is dead for all of them at once; then they must agree on how its certificate
//! is judged.
//!
//! Which models a provider has (this decides implicit routes): those that the file lists, and
//! the catalogue's, except where the base URL is the operator's own *and* the file has `models`:
//! then it is a server of its own and serves what is listed, even if that is nothing.

use super::Bench;
use super::url::BaseUrl;
use crate::base::api::Kind;
use crate::base::ids::{CredentialIdx, EndpointIdx, ProviderIdx};
use crate::catalog::{self, Built, Entry, KnownModel};
use crate::config::SecretRef;
use crate::config::file::{CredentialFile, ModelFile, ProviderFile};
use crate::config::path::{KeyPath, did_you_mean, shown};
use crate::config::plan::{Continues, Credential, Endpoint, Model, Pattern, Provider, Timeouts};
use http::{HeaderName, HeaderValue};
use std::collections::hash_map::Entry::Vacant;
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

/// Everything that routes can name.
#[derive(Default)]
pub(super) struct Inventory {
    pub(super) providers: Vec<Provider>,
    pub(super) endpoints: Vec<Endpoint>,
    pub(super) credentials: Vec<Credential>,
    /// Where each provider stands, by index.
    pub(super) places: Vec<KeyPath>,
    /// Models of each provider, by index, in the order of the file and then the catalogue.
    pub(super) models: Vec<Vec<Arc<str>>>,
    /// How many of those are the file's own.
    pub(super) written_models: Vec<usize>,
    /// Names that stand in the file, also of providers that were refused.
    pub(super) names: HashSet<String>,
}

/// Headers that are ours to set, or that would break the connection.
const OUR_HEADERS: [&str; 14] = [
    "authorization",
    "x-api-key",
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authorization",
    "te",
    "trailer",
    "upgrade",
    "expect",
    "content-type",
];

/// Checks every provider.
pub(super) fn check(
    bench: &Bench<'_>,
    files: Vec<ProviderFile>,
    timeouts: Timeouts,
    patterns: &[Pattern],
) -> Inventory {
    let mut inventory = Inventory::default();
    if files.is_empty() {
        bench.faults.error(
            &KeyPath::root().key("providers"),
            "holds no provider, so nothing can be served; add one, such as openai: {kind: openai, credentials: [{key: {env: OPENAI_API_KEY}}]}",
        );
    }
    for file in files {
        inventory.names.insert(file.name.clone());
        inventory.add(bench, file, timeouts, patterns);
    }
    inventory
}

impl Inventory {
    /// Finds a provider by name.
    pub(super) fn find(&self, name: &str) -> Option<ProviderIdx> {
        self.providers.iter().position(|provider| *provider.name == *name).map(|at| ProviderIdx(index(at)))
    }

    fn add(&mut self, bench: &Bench<'_>, file: ProviderFile, timeouts: Timeouts, patterns: &[Pattern]) {
        let found = file.kind.as_deref().and_then(|kind| find_kind(bench, &file.at, kind));
        let headers = check_headers(bench, file.headers);
        let url = check_url(bench, &file.at, file.base_url.as_deref(), found, file.allow_plaintext);
        let trust = check_trust(bench, &file.at, file.ca.as_deref(), file.insecure_skip_verify, url.as_ref());
        let own_url = found.and_then(|(entry, _)| entry.base_url).and_then(|own| BaseUrl::parse(own).ok());
        let is_elsewhere = file.base_url.is_some() && url != own_url;
        let provider = ProviderIdx(index(self.providers.len()));
        let wanted = found.filter(|(entry, _)| entry.needs_key && !is_elsewhere).map(|(entry, _)| entry);
        let credentials = self.add_credentials(bench, &file.at, file.credentials, provider, wanted);
        let (Some((entry, kind)), Some(url)) = (found, url) else { return };
        let endpoint = self.endpoint(bench, &file.at, &url, trust);
        let known = if is_elsewhere && file.models.is_some() { &[] } else { entry.models };
        let (order, written, models) = collect_models(file.models.unwrap_or_default(), known, entry.models);
        self.models.push(order);
        self.written_models.push(written);
        self.places.push(file.at);
        self.providers.push(Provider {
            name: file.name.into(),
            kind,
            endpoint,
            base_path: url.path.as_str().into(),
            authority: url.authority().into(),
            credentials,
            headers,
            http: file.http,
            spread_credentials: file.spread_credentials,
            timeouts: timeouts.with(&file.timeouts),
            models,
            patterns: file.patterns.into_iter().chain(patterns.iter().cloned()).collect(),
        });
    }

    /// Resolves the keys. `wanted` is the catalogue's entry where there must be at least one.
    fn add_credentials(
        &mut self,
        bench: &Bench<'_>,
        at: &KeyPath,
        files: Option<Vec<CredentialFile>>,
        provider: ProviderIdx,
        wanted: Option<&Entry>,
    ) -> Vec<CredentialIdx> {
        let files = files.unwrap_or_default();
        if files.is_empty() {
            if let Some(entry) = wanted {
                let env = entry.env.unwrap_or("NAME");
                bench.faults.error(
                    at,
                    format!("has no credentials; add credentials: [{{name: main, key: {{env: {env}}}}}]"),
                );
            }
            // A server that wants no key still needs a name in target ids.
            let only =
                self.push_credential(Credential { name: "default".into(), provider, key: None, file: None });
            return vec![only];
        }
        let mut seen: HashMap<String, KeyPath> = HashMap::new();
        let mut credentials = Vec::new();
        for file in files {
            let secret = file.key.as_ref().and_then(|place| bench.secret(&file.at.key("key"), place));
            let Some(name) = file.name else { continue };
            if let Some(first) = seen.get(&name) {
                let what = format!("credential {} is named already at {first}", shown(&name));
                bench.faults.error(&file.at.key("name"), what);
                continue;
            }
            seen.insert(name.clone(), file.at);
            if secret.is_some() {
                credentials.push(self.push_credential(Credential {
                    name: name.into(),
                    provider,
                    key: secret,
                    file: file.key.filter(SecretRef::is_file),
                }));
            }
        }
        credentials
    }

    fn push_credential(&mut self, credential: Credential) -> CredentialIdx {
        self.credentials.push(credential);
        CredentialIdx(index(self.credentials.len() - 1))
    }

    /// Finds or makes the endpoint; whoever shares one must agree on trust.
    fn endpoint(&mut self, bench: &Bench<'_>, at: &KeyPath, url: &BaseUrl, trust: Trust) -> EndpointIdx {
        let name = url.endpoint_name();
        let Trust { ca, insecure_skip_verify } = trust;
        if let Some(found) = self.endpoints.iter().position(|endpoint| *endpoint.name == *name) {
            let same = self.endpoints.get(found).is_some_and(|endpoint| {
                endpoint.ca == ca && endpoint.insecure_skip_verify == insecure_skip_verify
            });
            if !same {
                let other = self.providers.iter().position(|provider| provider.endpoint.at() == found);
                let other = other.and_then(|other| self.places.get(other)).map_or("another", KeyPath::as_str);
                bench.faults.error(
                    &at.key("tls"),
                    format!("differs from that of {other}, which has the same host and port"),
                );
            }
            return EndpointIdx(index(found));
        }
        self.endpoints.push(Endpoint {
            name: name.into(),
            host: url.host.as_str().into(),
            port: url.port,
            tls: url.tls,
            ca,
            insecure_skip_verify,
        });
        EndpointIdx(index(self.endpoints.len() - 1))
    }
}

/// How a certificate is judged.
struct Trust {
    ca: Option<PathBuf>,
    insecure_skip_verify: bool,
}

fn find_kind(bench: &Bench<'_>, at: &KeyPath, word: &str) -> Option<(&'static Entry, Kind)> {
    let at = at.key("kind");
    let Some(entry) = catalog::find(word) else {
        let near = did_you_mean(word, catalog::ENTRIES.iter().map(|entry| entry.name));
        let near = if near.is_empty() {
            "; a server that speaks like OpenAI is kind: openai with its base_url".to_owned()
        } else {
            near
        };
        bench.faults.error(&at, format!("{} is not a known kind{near}", shown(word)));
        return None;
    };
    match entry.built {
        Built::Now(kind) => Some((entry, kind)),
        Built::Later(remedy) => {
            bench.faults.error(&at, format!("{word} is not built yet; {remedy}"));
            None
        }
    }
}

fn check_url(
    bench: &Bench<'_>,
    at: &KeyPath,
    written: Option<&str>,
    found: Option<(&Entry, Kind)>,
    allow_plaintext: bool,
) -> Option<BaseUrl> {
    let at = at.key("base_url");
    let text = match written {
        Some(written) => bench.expand(&at, written)?,
        None => found?.0.base_url?.to_owned(),
    };
    match BaseUrl::parse(&text) {
        Ok(url) if !url.tls && !url.is_loopback() && !allow_plaintext => {
            bench.faults.error(
                &at,
                "sends keys and prompts unencrypted to another machine; use https://, or set allow_plaintext: true beside it",
            );
            None
        }
        Ok(url) => Some(url),
        Err(why) => {
            bench.faults.error(&at, why);
            None
        }
    }
}

fn check_trust(
    bench: &Bench<'_>,
    at: &KeyPath,
    ca: Option<&str>,
    insecure_skip_verify: bool,
    url: Option<&BaseUrl>,
) -> Trust {
    let at = at.key("tls");
    if insecure_skip_verify && url.is_some_and(|url| !url.is_loopback()) {
        bench.faults.error(
            &at.key("insecure_skip_verify"),
            "is only possible to this machine; name the authority of such a certificate in tls.ca",
        );
    }
    let ca = ca.and_then(|ca| bench.file_path(&at.key("ca"), ca));
    Trust { ca, insecure_skip_verify }
}

fn check_headers(bench: &Bench<'_>, table: Vec<(KeyPath, String, String)>) -> Vec<(HeaderName, HeaderValue)> {
    let mut headers: Vec<(HeaderName, HeaderValue)> = Vec::new();
    for (at, name, value) in table {
        let value = bench.expand(&at, &value);
        let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else {
            bench.faults.error(&at, "is not the name of an HTTP header");
            continue;
        };
        if OUR_HEADERS.contains(&name.as_str()) {
            bench.faults.error(
                &at,
                "cannot be set here: keys belong under credentials, and the rest is the proxy's to say",
            );
            continue;
        }
        if headers.iter().any(|(other, _)| *other == name) {
            bench.faults.error(&at, "is given twice, in different letters");
            continue;
        }
        let Some(value) = value else { continue };
        let is_plain = value.bytes().all(|b| (b' '..=b'~').contains(&b)) && value.trim() == value;
        match HeaderValue::from_str(&value) {
            Ok(mut value) if is_plain => {
                // It may be a key; this keeps it out of every `Debug`.
                value.set_sensitive(true);
                headers.push((name, value));
            }
            Ok(_) | Err(_) => bench.faults.error(&at, "has a value that cannot be sent in an HTTP header"),
        }
    }
    headers
}

type Models = HashMap<Arc<str>, Model>;

/// Joins the file's models with the catalogue's: names in order, how many of them the file wrote,
/// and what is known of each. `known` are offered, `described` only fill in.
fn collect_models(
    files: Vec<ModelFile>,
    known: &[KnownModel],
    described: &[KnownModel],
) -> (Vec<Arc<str>>, usize, Models) {
    let mut order: Vec<Arc<str>> = Vec::new();
    let mut models = Models::new();
    for file in files {
        let Some(name) = file.name.as_deref().map(Arc::<str>::from) else { continue };
        let base = described.iter().find(|known| *known.name == *name).map(of_catalogue).unwrap_or_default();
        order.push(Arc::clone(&name));
        models.insert(name, overlay(base, file));
    }
    let written = order.len();
    for known in known {
        let name: Arc<str> = known.name.into();
        if let Vacant(vacant) = models.entry(Arc::clone(&name)) {
            order.push(name);
            vacant.insert(of_catalogue(known));
        }
    }
    (order, written, models)
}

fn of_catalogue(known: &KnownModel) -> Model {
    Model {
        context: known.context,
        price_input: known.price.map(|(input, _)| input),
        price_output: known.price.map(|(_, output)| output),
        reasoning: known.reasoning,
        capabilities: Vec::new(),
        tier: known.tier.map(str::to_owned),
        continues: Continues::None,
    }
}

fn overlay(base: Model, file: ModelFile) -> Model {
    let capabilities = file.capabilities.unwrap_or(base.capabilities);
    Model {
        context: file.context.or(base.context),
        price_input: file.price_input.or(base.price_input),
        price_output: file.price_output.or(base.price_output),
        reasoning: base.reasoning
            || file.tier == Some("reasoning")
            || capabilities.iter().any(|word| word == "reasoning"),
        capabilities,
        tier: file.tier.map(str::to_owned).or(base.tier),
        continues: file.continues.unwrap_or(base.continues),
    }
}

/// Indices are `u32`; the file's bounds keep every list far below that.
pub(super) fn index(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}
