//! Where in a cloud does a provider lie?
//!
//! `region` (Bedrock), `project` and `location` (Vertex AI) make the address where `base_url` is not
//! written, and stand for the variables that the clouds' own tools read; what the file says counts
//! before these. Vertex AI needs both for its path also behind an address that is written, unless
//! that names a project itself. `api_version` (Azure) asks for the classic paths, which name the
//! deployment, instead of those below `/openai/v1`.
//!
//! Each goes with its own kind and is refused beside another, where it would do nothing.

use super::Bench;
use super::url::BaseUrl;
use crate::base::api::{Api, Kind};
use crate::catalog::{self, Entry};
use crate::config::path::KeyPath;
use crate::config::servers::ProviderFile;
use std::sync::Arc;

/// Variables and the keys that stand for them, with an example of each.
const KEYS: [(&str, &str, &str); 3] = [
    ("AWS_REGION", "region", "us-east-1"),
    ("GOOGLE_CLOUD_PROJECT", "project", "my-project"),
    ("GOOGLE_CLOUD_LOCATION", "location", "europe-west4"),
];

/// Versions of Azure's API that are asked for below `/openai/v1`.
const NEW_VERSIONS: [&str; 3] = ["v1", "preview", "latest"];

/// Checks what is written; each key goes with one kind.
pub(super) fn check(bench: &Bench<'_>, file: &ProviderFile, entry: &Entry) {
    if entry.kind == Kind::Bedrock && !cfg!(feature = "bedrock") {
        let at = file.at.key("kind");
        bench.faults.error(&at, "needs a build with the feature bedrock; this one is without");
    }
    let is_azure = entry.name == "azure";
    for (key, value, is_its_own, owner) in [
        ("region", &file.region, entry.kind == Kind::Bedrock, "bedrock"),
        ("project", &file.project, entry.kind == Kind::Vertex, "vertex"),
        ("location", &file.location, entry.kind == Kind::Vertex, "vertex"),
        ("api_version", &file.api_version, is_azure, "azure"),
    ] {
        let Some(value) = value else { continue };
        let at = file.at.key(key);
        if !is_its_own {
            bench.faults.error(&at, format!("goes with kind: {owner}, and this is kind: {}", entry.name));
        } else if !is_plain(value) {
            bench.faults.error(&at, "must be 1 to 64 of A-Z a-z 0-9 . _ : -");
        }
    }
}

fn is_plain(value: &str) -> bool {
    (1..=64).contains(&value.len())
        && value.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:-".contains(&b))
}

/// Returns what stands for a variable: a key of the file, else the variable, or the other that AWS's
/// own tools read.
pub(super) fn value(bench: &Bench<'_>, file: &ProviderFile, name: &str) -> Option<String> {
    let (written, other) = match name {
        "AWS_REGION" => (&file.region, Some("AWS_DEFAULT_REGION")),
        "GOOGLE_CLOUD_PROJECT" => (&file.project, None),
        "GOOGLE_CLOUD_LOCATION" => (&file.location, None),
        _ => return None,
    };
    let written = written.clone().filter(|value| is_plain(value));
    written.or_else(|| bench.variable(name)).or_else(|| bench.variable(other?))
}

/// Tells whether a variable of the kind's address is set, by the file or the environment.
pub(super) fn is_set(bench: &Bench<'_>, file: &ProviderFile, entry: &Entry, name: &str) -> bool {
    value(bench, file, name).is_some() || bench.is_set(entry, name)
}

/// Writes the kind's own address.
pub(super) fn own_address(bench: &Bench<'_>, file: &ProviderFile, own: &'static str) -> Option<String> {
    let mut address = own.to_owned();
    for name in catalog::variables(own) {
        if let Some(value) = value(bench, file, name) {
            address = address.replace(&format!("${{{name}}}"), &value);
        }
    }
    // The location that is none has the host without one.
    let address = address.replace("https://global-aiplatform.", "https://aiplatform.");
    bench.expand(&file.at.key("base_url"), &address)
}

/// Says what an address lacks, at the keys that would give it; tells whether there are such keys.
pub(super) fn tell_missing(bench: &Bench<'_>, file: &ProviderFile, entry: &Entry) -> bool {
    let mut told = Vec::new();
    for name in entry.urls.iter().flat_map(|url| catalog::variables(url)) {
        let Some((_, key, example)) = KEYS.iter().find(|(known, ..)| *known == name) else { continue };
        if value(bench, file, name).is_none() && !told.contains(key) {
            told.push(*key);
            if is_written(file, key) {
                continue;
            }
            bench
                .faults
                .lacking(&file.at.key(key), format!("is missing: write {key}: {example}, or set {name}"));
        }
    }
    !told.is_empty()
}

/// Tells whether the file has a key, also one that was refused.
fn is_written(file: &ProviderFile, key: &str) -> bool {
    match key {
        "region" => file.region.is_some(),
        "project" => file.project.is_some(),
        _ => file.location.is_some(),
    }
}

/// Puts project and location behind an address of Vertex AI that is written without.
pub(super) fn complete(bench: &Bench<'_>, file: &ProviderFile, entry: &Entry, url: &mut BaseUrl) {
    if entry.kind != Kind::Vertex || url.path.contains("/projects/") || tell_missing(bench, file, entry) {
        return;
    }
    let value = |name| value(bench, file, name).unwrap_or_default();
    let version = if url.path.ends_with("/v1") || url.path.ends_with("/v1beta1") { "" } else { "/v1" };
    let (project, location) = (value("GOOGLE_CLOUD_PROJECT"), value("GOOGLE_CLOUD_LOCATION"));
    url.path = format!("{}{version}/projects/{project}/locations/{location}", url.path);
}

/// Makes the paths of a version of Azure's API; none where none is asked for.
pub(super) fn azure_paths(file: &ProviderFile, entry: &Entry, url: &BaseUrl) -> Vec<(Api, Arc<str>)> {
    let Some(version) = file.api_version.as_ref().filter(|_| entry.name == "azure") else {
        return Vec::new();
    };
    let endings = ["/openai/v1", "/openai"];
    let base = endings.iter().find_map(|ending| url.path.strip_suffix(ending)).unwrap_or(&url.path);
    let is_new = NEW_VERSIONS.contains(&version.as_str());
    let calls = [
        (Api::ChatCompletions, "/chat/completions"),
        (Api::Embeddings, "/embeddings"),
        (Api::Responses, "/responses"),
    ];
    let path = |(api, call): (Api, &str)| {
        let before = match api {
            _ if is_new => "/openai/v1",
            // Its classic form names the deployment in the body all the same.
            Api::Responses => "/openai",
            _ => "/openai/deployments/{model}",
        };
        (api, format!("{base}{before}{call}?api-version={version}").into())
    };
    calls.into_iter().map(path).collect()
}

impl Bench<'_> {
    /// Says that a provider has no credentials, with the kind's own way to write one.
    pub(super) fn missing_credentials(&self, at: &KeyPath, entry: &Entry) {
        let env = entry.env.first().unwrap_or(&"NAME");
        let proof = match entry.auth {
            catalog::Auth::Google => "google: {service_account: {file: PATH}}".to_owned(),
            catalog::Auth::Copilot => format!("copilot: {{token: {{env: {env}}}}}"),
            catalog::Auth::Aws => format!("aws: {{from: auto}}}}] or [{{name: main, key: {{env: {env}}}"),
            catalog::Auth::Bearer
            | catalog::Auth::Anthropic
            | catalog::Auth::Header(_)
            | catalog::Auth::None => format!("key: {{env: {env}}}"),
        };
        self.faults.lacking(at, format!("has no credentials; add credentials: [{{name: main, {proof}}}]"));
    }
}

#[cfg(test)]
mod tests {
    use crate::base::api::Api;
    use crate::config::credential::Login;
    use crate::config::plan::Plan;
    use crate::config::tests::Stage;
    use crate::config::{Source, read};

    fn plan(provider: &str, variables: &[(&str, &str)]) -> Plan {
        let text = format!(
            "version: 1\nproviders: {{p: {{{provider}}}}}\nroutes: {{r: {{targets: [{{provider: p, model: m}}]}}}}\n"
        );
        let source = Source { name: "f", text: &text, is_private: true, is_variable: false };
        let reading = read(&source, &Stage::with(variables));
        reading.plan.unwrap_or_else(|| panic!("{provider}: {:#?}", reading.problems))
    }

    #[cfg(feature = "bedrock")]
    #[test]
    fn the_file_comes_before_the_environment_and_a_written_address_before_both() {
        let key = "credentials: [{key: sk-0123456789}]";
        let google = [("GOOGLE_CLOUD_PROJECT", "env"), ("GOOGLE_CLOUD_LOCATION", "us-east5")];
        for (provider, variables, host, path) in [
            (
                "kind: bedrock, region: eu-west-1",
                &[("AWS_REGION", "x")][..],
                "bedrock-runtime.eu-west-1.amazonaws.com",
                "",
            ),
            (
                "kind: bedrock",
                &[("AWS_DEFAULT_REGION", "us-west-2")],
                "bedrock-runtime.us-west-2.amazonaws.com",
                "",
            ),
            ("kind: bedrock, base_url: \"https://vpce.example\"", &[], "vpce.example", ""),
            (
                "kind: vertex",
                &google,
                "us-east5-aiplatform.googleapis.com",
                "/v1/projects/env/locations/us-east5",
            ),
            (
                "kind: vertex, project: own, location: global",
                &google,
                "aiplatform.googleapis.com",
                "/v1/projects/own/locations/global",
            ),
            (
                "kind: vertex, location: eu, base_url: \"https://h/v1\"",
                &google,
                "h",
                "/v1/projects/env/locations/eu",
            ),
            (
                "kind: vertex, base_url: \"https://h/v1beta1/projects/a/locations/b\"",
                &[],
                "h",
                "/v1beta1/projects/a/locations/b",
            ),
        ] {
            let plan = plan(&format!("{provider}, {key}"), variables);
            assert_eq!((&*plan.endpoints[0].host, &*plan.providers[0].base_path), (host, path), "{provider}");
        }
    }

    #[test]
    fn a_version_of_azures_api_chooses_the_paths() {
        let resource = "kind: azure, base_url: \"https://h/openai/v1\", credentials: [{key: sk-0123456789}]";
        for (more, api, want) in [
            ("", Api::ChatCompletions, None),
            (
                ", api_version: 2024-10-21",
                Api::ChatCompletions,
                Some("/openai/deployments/{model}/chat/completions?api-version=2024-10-21"),
            ),
            (", api_version: 2024-10-21", Api::Responses, Some("/openai/responses?api-version=2024-10-21")),
            (", api_version: preview", Api::Embeddings, Some("/openai/v1/embeddings?api-version=preview")),
            (", api_version: v1, paths: {embeddings: /own}", Api::Embeddings, Some("/openai/v1/own")),
        ] {
            let plan = plan(&format!("{resource}{more}"), &[]);
            let found = plan.providers[0].paths.iter().find(|(known, _)| *known == api);
            assert_eq!(found.map(|(_, path)| &**path), want, "{more}");
        }
    }

    #[test]
    fn a_key_of_copilots_is_a_github_token_and_signing_takes_the_providers_region() {
        let copilot = plan("kind: copilot, credentials: [{key: gho-0123456789}]", &[]);
        let only = &copilot.credentials[0];
        assert!(only.key.is_none() && matches!(only.login, Some(Login::Copilot(_))));
        if !cfg!(feature = "bedrock") {
            return;
        }
        let aws = "kind: bedrock, region: eu-west-1, base_url: \"https://h\", credentials: [{aws: {access_key_id: id-0123456789, secret_access_key: secret-0123456789}}]";
        match &plan(aws, &[]).credentials[0].login {
            Some(Login::Aws(aws)) => assert_eq!(&*aws.region, "eu-west-1"),
            other => panic!("{other:?}"),
        }
    }
}
