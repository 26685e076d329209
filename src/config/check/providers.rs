//! Which servers, which keys, which models?
//!
//! A provider's `kind` is looked up in the catalogue, which gives its base URL, its models and
//! whether it answers without a key. Providers at the same host and port share one endpoint, so
//! that a dead host is dead for all of them at once; then they must agree on how its certificate
//! is judged.
//!
//! An optional provider whose variables are not set is left out; so is every target that names it.
//!
//! Which models a provider has (this decides implicit routes): those that the file lists, and
//! the catalogue's, except where the base URL is the operator's own *and* the file has `models`:
//! then it is a server of its own and serves what is listed, even if that is nothing.

use super::url::BaseUrl;
use super::{Bench, cloud, credentials, manners, models};
use crate::base::api::Kind;
use crate::base::ids::{CredentialIdx, EndpointIdx, ProviderIdx};
use crate::catalog::{self, Auth, Entry};
use crate::config::login::{GoogleFile, LoginFile};
use crate::config::path::{KeyPath, did_you_mean, shown};
use crate::config::plan::{Credential, Endpoint, HttpVersions, LeftOut, Pattern, Provider, Timeouts};
use crate::config::reference::SecretRef;
use crate::config::servers::{CredentialFile, ProviderFile};
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

/// Most addresses of one endpoint.
const ADDRESSES_MAX: usize = 16;

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
    /// Optional ones that are not configured.
    pub(super) left_out: Vec<LeftOut>,
}

/// Checks every provider.
pub(super) fn check(
    bench: &Bench<'_>,
    files: Vec<ProviderFile>,
    timeouts: Timeouts,
    patterns: &[Pattern],
) -> Inventory {
    let mut inventory = Inventory::default();
    if files.is_empty() {
        bench.faults.lacking(
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

    /// Tells whether a provider is optional and not configured.
    pub(super) fn is_left_out(&self, name: &str) -> bool {
        self.left_out.iter().any(|left| left.name == name)
    }

    fn add(&mut self, bench: &Bench<'_>, mut file: ProviderFile, timeouts: Timeouts, patterns: &[Pattern]) {
        let found = file.kind.as_deref().and_then(|kind| find_kind(bench, &file.at, kind));
        if let Some(entry) = found {
            cloud::check(bench, &file, entry);
        }
        if file.optional
            && let Some(entry) = found
        {
            if let Some(why) = missing(bench, &file, entry) {
                bench.faults.warning(&file.at, format!("is left out: {why} is not set (optional: true)"));
                self.left_out.push(LeftOut { name: file.name, kind: entry.name.to_owned(), why });
                return;
            }
            keep_what_is_set(bench, &mut file, entry);
        }
        let (headers, header_secrets) = manners::check_headers(bench, std::mem::take(&mut file.headers));
        let own = found.and_then(|entry| entry.url(&|name| cloud::is_set(bench, &file, entry, name)));
        let url = check_url(bench, &file, found, own);
        let trust = check_trust(bench, &file, url.as_ref());
        let addresses = check_addresses(bench, &file.at, &file.addresses, url.as_ref());
        let own_url = found.and_then(Entry::fixed_url).and_then(|own| BaseUrl::parse(own).ok());
        let is_elsewhere = file.base_url.is_some() && url != own_url;
        let is_bridge = file.base_url.is_none() && own.is_some_and(|(_, is_bridge)| is_bridge);
        let provider = ProviderIdx(index(self.providers.len()));
        let needs_key = |entry: &&Entry| {
            entry.needs_key && !is_elsewhere && !is_bridge && file.auth.as_deref() != Some("none")
        };
        let wanted = found.filter(needs_key);
        let written = file.credentials.take();
        let has_keys = written.as_ref().is_some_and(|list| !list.is_empty());
        let place = Place { url: url.as_ref(), region: file.region.as_deref(), kind: found.map(|e| e.kind) };
        let credentials = self.add_credentials(bench, &file.at, written, provider, wanted, &place);
        let (Some(entry), Some(url)) = (found, url) else { return };
        let kind = entry.kind;
        let proof = manners::check_proof(bench, &file.at, file.auth.as_deref(), entry, has_keys);
        let mut paths = manners::check_paths(bench, &url.path, kind, std::mem::take(&mut file.paths));
        for (api, path) in cloud::azure_paths(&file, entry, &url) {
            if !paths.iter().any(|(written, _)| *written == api) {
                paths.push((api, path));
            }
        }
        let serves = entry.serves.iter().copied().chain(paths.iter().map(|(api, _)| *api)).collect();
        let endpoint = self.endpoint(bench, &file.at, &url, trust, addresses);
        let known = if is_elsewhere && file.models.is_some() { &[] } else { entry.models };
        let (order, written, models) = models::collect(file.models.unwrap_or_default(), known, entry.models);
        self.models.push(order);
        self.written_models.push(written);
        self.places.push(file.at);
        let is_http1_only = entry.is_http1_only && file.http == HttpVersions::Auto;
        self.providers.push(Provider {
            name: file.name.into(),
            kind,
            word: entry.name,
            endpoint,
            base_path: manners::join(kind, &url.path, entry.prefix).into(),
            authority: url.authority().into(),
            credentials,
            headers,
            header_secrets,
            http: if is_http1_only { HttpVersions::One } else { file.http },
            spread_credentials: file.spread_credentials,
            timeouts: timeouts.with(&file.timeouts),
            models,
            serves,
            paths,
            proof,
            params: file.params,
            stream_params: file.stream_params,
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
        place: &Place<'_>,
    ) -> Vec<CredentialIdx> {
        let files = files.unwrap_or_default();
        if files.is_empty() {
            if let Some(entry) = wanted {
                bench.missing_credentials(at, entry);
            }
            // A server that wants no key still needs a name in target ids.
            let name = "default".into();
            let only =
                self.push_credential(Credential { name, provider, key: None, file: None, login: None });
            return vec![only];
        }
        let mut seen: HashMap<String, KeyPath> = HashMap::new();
        let mut found = Vec::new();
        for file in files {
            let logins = file.login.written();
            if usize::from(file.has_key) + logins.len() != 1 {
                bench.faults.error(&file.at, one_proof(file.has_key, &logins));
                continue;
            }
            let mut key = file.key.as_ref().and_then(|place| bench.secret(&file.at.key("key"), place));
            let mut login = credentials::check(bench, file.login, place);
            if place.kind == Some(Kind::Copilot) && key.is_some() {
                // What people have is a GitHub token, and Copilot takes none.
                login = key.take().and_then(|token| credentials::copilot(bench, &file.at, token));
            }
            let Some(name) = file.name else { continue };
            if let Some(first) = seen.get(&name) {
                let what = format!("credential {} is named already at {first}", shown(&name));
                bench.faults.error(&file.at.key("name"), what);
                continue;
            }
            seen.insert(name.clone(), file.at);
            if key.is_some() || login.is_some() {
                found.push(self.push_credential(Credential {
                    name: name.into(),
                    provider,
                    key,
                    file: file.key.filter(|place| login.is_none() && place.is_file()),
                    login,
                }));
            }
        }
        found
    }

    fn push_credential(&mut self, credential: Credential) -> CredentialIdx {
        self.credentials.push(credential);
        CredentialIdx(index(self.credentials.len() - 1))
    }

    /// Finds or makes the endpoint; whoever shares one must agree on trust.
    fn endpoint(
        &mut self,
        bench: &Bench<'_>,
        at: &KeyPath,
        url: &BaseUrl,
        trust: Trust,
        addresses: Vec<IpAddr>,
    ) -> EndpointIdx {
        let name = url.endpoint_name();
        if let Some(found) = self.endpoints.iter().position(|endpoint| *endpoint.name == *name) {
            let known = self.endpoints.get(found);
            let differs = [
                (
                    "tls",
                    known.is_none_or(|e| {
                        e.ca != trust.ca || e.insecure_skip_verify != trust.insecure_skip_verify
                    }),
                ),
                ("deny_private_ips", known.is_none_or(|e| e.reach() != url.reach(trust.deny_private_ips))),
                ("addresses", known.is_none_or(|e| e.addresses != addresses)),
            ];
            for (key, _) in differs.into_iter().filter(|(_, differs)| *differs) {
                let other = self.providers.iter().position(|provider| provider.endpoint.at() == found);
                let other = other.and_then(|other| self.places.get(other)).map_or("another", KeyPath::as_str);
                bench.faults.lacking(
                    &at.key(key),
                    format!("differs from that of {other}, which has the same host and port"),
                );
            }
            return EndpointIdx(index(found));
        }
        let Trust { ca, insecure_skip_verify, deny_private_ips } = trust;
        self.endpoints.push(Endpoint {
            name: name.into(),
            host: url.host.as_str().into(),
            port: url.port,
            tls: url.tls,
            ca,
            insecure_skip_verify,
            addresses,
            deny_private_ips,
        });
        EndpointIdx(index(self.endpoints.len() - 1))
    }
}

/// What is wrong with an entry that proves us in no way, or in several.
fn one_proof(has_key: bool, logins: &[&str]) -> String {
    if !has_key && logins.is_empty() {
        return "key is missing: place of the key (or one of aws, azure_entra, google, copilot, oauth)"
            .to_owned();
    }
    let key = if has_key { &["key"][..] } else { &[] };
    format!("proves us in several ways ({}); write one of them", [key, logins].concat().join(", "))
}

/// What a login may take from its provider.
pub(super) struct Place<'a> {
    /// The address, whose name may hold the region.
    pub(super) url: Option<&'a BaseUrl>,
    /// The region that is written.
    pub(super) region: Option<&'a str>,
    /// What sort of server it is.
    pub(super) kind: Option<Kind>,
}

/// How an endpoint is judged: its certificate, the addresses behind its name.
struct Trust {
    ca: Option<PathBuf>,
    insecure_skip_verify: bool,
    deny_private_ips: Option<bool>,
}

fn find_kind(bench: &Bench<'_>, at: &KeyPath, word: &str) -> Option<&'static Entry> {
    let found = catalog::find(word);
    if found.is_none() {
        let near = did_you_mean(word, catalog::entries().map(|entry| entry.name));
        let near = if near.is_empty() {
            "; a server that speaks like OpenAI is kind: openai with its base_url".to_owned()
        } else {
            near
        };
        bench.faults.error(&at.key("kind"), format!("{} is not a known kind{near}", shown(word)));
    }
    found
}

/// Says what an optional provider lacks: names of variables.
fn missing(bench: &Bench<'_>, file: &ProviderFile, entry: &Entry) -> Option<String> {
    let unset = |text: &str| bench.unset_variable(text);
    if let Some(name) = file.base_url.as_deref().and_then(unset) {
        return Some(name);
    }
    if let Some(name) = file.headers.iter().find_map(|(_, _, value)| unset(value)) {
        return Some(name);
    }
    let is_set = |name: &str| cloud::is_set(bench, file, entry, name);
    let Some(credentials) = file.credentials.as_ref().filter(|list| !list.is_empty()) else {
        // Its own address, or one that wants a key of its own.
        return if file.base_url.is_some() { None } else { entry.missing(&is_set) };
    };
    let names: Vec<String> =
        credentials.iter().filter_map(|one| bench.unset_key(one.key.as_ref()?)).collect();
    if names.len() == credentials.len() {
        return Some(names.join(" or "));
    }
    let has_address = file.base_url.is_some() || entry.url(&is_set).is_some();
    if has_address { None } else { entry.missing(&is_set) }
}

/// Takes out of an optional provider the keys that are not there, and puts in the kind's own where
/// none are written.
fn keep_what_is_set(bench: &Bench<'_>, file: &mut ProviderFile, entry: &Entry) {
    if let Some(list) = &mut file.credentials {
        list.retain(|one| one.key.as_ref().is_none_or(|place| bench.unset_key(place).is_none()));
    }
    let is_bridge = entry.url(&|name| bench.is_set(entry, name)).is_some_and(|(_, is_bridge)| is_bridge);
    if file.credentials.as_ref().is_some_and(|list| !list.is_empty()) || is_bridge || file.base_url.is_some()
    {
        return;
    }
    let Some(name) = entry.env.iter().find(|name| bench.is_set(entry, name)) else { return };
    let at = file.at.key("credentials").index(0);
    let mut only = CredentialFile {
        at: at.clone(),
        name: Some("default".to_owned()),
        key: None,
        has_key: false,
        login: LoginFile::default(),
    };
    if entry.auth == Auth::Google {
        // The variable holds the path of the key file.
        let path = bench.variable(name).unwrap_or_default();
        only.login.google = Some(GoogleFile::of_file(at.key("google"), path.into()));
    } else {
        only.key = Some(SecretRef::Env((*name).to_owned()));
        only.has_key = true;
    }
    file.credentials = Some(vec![only]);
}

fn check_url(
    bench: &Bench<'_>,
    file: &ProviderFile,
    found: Option<&Entry>,
    own: Option<(&'static str, bool)>,
) -> Option<BaseUrl> {
    let at = file.at.key("base_url");
    let text = match (&file.base_url, own) {
        (Some(written), _) => bench.expand(&at, written)?,
        (None, Some((own, _))) => cloud::own_address(bench, file, own)?,
        (None, None) => {
            let entry = found?;
            if cloud::tell_missing(bench, file, entry) {
                return None;
            }
            let names = entry.urls.iter().flat_map(|url| catalog::variables(url)).collect::<Vec<_>>();
            let ways =
                if names.is_empty() { String::new() } else { format!(", or set {}", names.join(" or ")) };
            bench.faults.lacking(&at, format!("is missing, and {} has none of its own{ways}", entry.name));
            return None;
        }
    };
    match BaseUrl::parse(&text) {
        Ok(url) if !url.tls && !url.is_loopback() && !file.allow_plaintext => {
            bench.faults.lacking(
                &at,
                "sends keys and prompts unencrypted to another machine; use https://, or set allow_plaintext: true beside it",
            );
            None
        }
        Ok(mut url) => {
            if file.base_url.is_some()
                && let Some(call) = manners::call_of(&url.path)
            {
                bench.faults.warning(
                    &at,
                    format!(
                        "ends with the path of a call ({call}), and calls are put behind it; take {call} off, as the provider's own SDK takes its base URL"
                    ),
                );
            }
            if let Some(entry) = found {
                cloud::complete(bench, file, entry, &mut url);
            }
            Some(url)
        }
        Err(why) => {
            bench.faults.error(&at, why);
            None
        }
    }
}

fn check_trust(bench: &Bench<'_>, file: &ProviderFile, url: Option<&BaseUrl>) -> Trust {
    let (insecure_skip_verify, denies) = (file.insecure_skip_verify, file.deny_private_ips);
    if denies == Some(true) && url.is_some_and(BaseUrl::is_inside) {
        bench.faults.error(
            &file.at.key("deny_private_ips"),
            "contradicts base_url, which is such an address itself; take one of them out",
        );
    }
    let at = file.at.key("tls");
    if insecure_skip_verify && url.is_some_and(|url| !url.is_loopback()) {
        bench.faults.error(
            &at.key("insecure_skip_verify"),
            "is only possible to this machine; name the authority of such a certificate in tls.ca",
        );
    }
    if insecure_skip_verify && url.is_some_and(BaseUrl::is_loopback) {
        bench.faults.warning(
            &at.key("insecure_skip_verify"),
            "is on: whoever answers at this address gets the provider's keys and every prompt",
        );
    }
    let ca = file.ca.as_deref().and_then(|ca| bench.file_path(&at.key("ca"), ca));
    if let Some(path) = &ca
        && let Err(why) = bench.outside.authorities(path)
    {
        let remedy = "name a PEM file of certificate authorities that the service's account may read";
        bench.faults.error(&at.key("ca"), format!("{} {why}; {remedy}", path.display()));
    }
    Trust { ca, insecure_skip_verify, deny_private_ips: denies }
}

/// Reads the addresses that stand in the place of a look-up.
fn check_addresses(
    bench: &Bench<'_>,
    at: &KeyPath,
    written: &[(KeyPath, String)],
    url: Option<&BaseUrl>,
) -> Vec<IpAddr> {
    let at = at.key("addresses");
    if written.len() > ADDRESSES_MAX {
        bench.faults.error(&at, format!("has more than {ADDRESSES_MAX} entries"));
        return Vec::new();
    }
    if !written.is_empty() && url.is_some_and(|url| url.host.parse::<IpAddr>().is_ok()) {
        bench.faults.error(&at, "cannot be told for an address; base_url must hold a name");
        return Vec::new();
    }
    let mut found = Vec::new();
    for (at, text) in written {
        match text.parse::<IpAddr>() {
            Ok(address) if found.contains(&address) => {
                bench.faults.error(at, "is there twice");
            }
            Ok(address) if !address.is_loopback() && url.is_some_and(BaseUrl::is_loopback) => {
                bench.faults.error(at, "is not on this machine, as base_url says");
            }
            Ok(address) => found.push(address),
            Err(_) => bench.faults.error(at, "must be an IP address, such as 192.0.2.7 or 2001:db8::7"),
        }
    }
    found
}

/// Indices are `u32`; the file's bounds keep every list far below that.
pub(super) fn index(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}
