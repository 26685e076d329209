//! What the file says of providers: their keys, models and manners, each with its path.
//!
//! The part of the list of keys under `providers`. As in `file`, single values are judged here and
//! whether they fit together is `check`'s question; what was refused is absent.

use super::classifier::{Pattern, read_classifier};
use super::fault::Faults;
use super::file::{TIERS, check_model, check_name, is_member, read_json_table, read_rates};
use super::login::{LoginFile, read_login};
use super::path::{KeyPath, did_you_mean, shown};
use super::plan::{Continues, HttpVersions, ModelLimits, TimeoutOverrides};
use super::policies::read_overrides;
use super::reference::{SecretRef, read_reference};
use super::walk::Map;
use crate::catalog::{Ability, Tier};

/// One entry of `providers`.
#[derive(Debug)]
pub struct ProviderFile {
    pub at: KeyPath,
    pub name: String,
    pub kind: Option<String>,
    pub base_url: Option<String>,
    /// Bedrock's.
    pub region: Option<String>,
    /// Vertex AI's, as is the location.
    pub project: Option<String>,
    pub location: Option<String>,
    /// Azure's.
    pub api_version: Option<String>,
    pub allow_plaintext: bool,
    /// Absent: as the scheme of the address says.
    pub deny_private_ips: Option<bool>,
    pub ca: Option<String>,
    pub insecure_skip_verify: bool,
    pub addresses: Vec<(KeyPath, String)>,
    /// Absent: none written.
    pub credentials: Option<Vec<CredentialFile>>,
    /// Absent: none written, which is not the same as an empty list (see `check::providers`).
    pub models: Option<Vec<ModelFile>>,
    pub headers: Vec<(KeyPath, String, String)>,
    pub http: HttpVersions,
    pub spread_credentials: bool,
    pub timeouts: TimeoutOverrides,
    /// Whether it is left out where its variables are not set.
    pub optional: bool,
    /// `bearer`, `none` or the name of a header; absent: the kind's own way.
    pub auth: Option<String>,
    /// Call and path.
    pub paths: Vec<(KeyPath, String, String)>,
    pub params: Vec<(String, String)>,
    pub stream_params: Vec<(String, String)>,
    pub patterns: Vec<Pattern>,
}

/// One entry of `providers.*.credentials`.
#[derive(Debug)]
pub struct CredentialFile {
    pub at: KeyPath,
    pub name: Option<String>,
    pub key: Option<SecretRef>,
    /// Whether a key is written, also where it was refused.
    pub has_key: bool,
    pub login: LoginFile,
}

/// One entry of `providers.*.models`.
#[derive(Debug)]
pub struct ModelFile {
    pub continues: Option<Continues>,
    pub name: Option<String>,
    pub tier: Option<Tier>,
    pub context: Option<u64>,
    pub max_output: Option<u64>,
    pub limits: ModelLimits,
    pub capabilities: Option<Vec<String>>,
    pub price_input: Option<f64>,
    pub price_output: Option<f64>,
}

pub(super) fn read_provider(name: &str, m: &mut Map<'_, '_>, faults: &Faults) -> ProviderFile {
    check_name(faults, m.at(), "provider", name);
    let kind = m.text("kind", "what sort of server it is, such as openai or anthropic");
    let base_url = m.maybe_text(
        "base_url",
        "null",
        "as the provider's own SDK takes it (openai with /v1, anthropic the bare origin); null is the kind's own",
    );
    let region = m.maybe_text("region", "null", "region of kind bedrock; null is AWS_REGION");
    let project = m.maybe_text("project", "null", "project of kind vertex; null is GOOGLE_CLOUD_PROJECT");
    let location = m.maybe_text(
        "location",
        "null",
        "location of kind vertex, such as europe-west4 or global; null is GOOGLE_CLOUD_LOCATION",
    );
    let api_version = m.maybe_text(
        "api_version",
        "null",
        "version of kind azure's API, such as 2024-10-21 for the paths below /openai/deployments; null is /openai/v1",
    );
    let allow_plaintext =
        m.boolean("allow_plaintext", false, "whether http:// may be used to another machine");
    let deny_private_ips = m.maybe_boolean(
        "deny_private_ips",
        "whether addresses of inner networks are refused behind its name; null is true for https://; false where the provider is inside",
    );
    let (ca, insecure_skip_verify) = m.section("tls", "how the provider's certificate is judged", |m| {
        let ca = m.maybe_text("ca", "null", "PEM file with authorities to trust instead of the system's");
        (ca, m.boolean("insecure_skip_verify", false, "takes any certificate; only to this machine"))
    });
    let provider = ProviderFile {
        at: m.at().clone(),
        name: name.to_owned(),
        kind,
        base_url,
        region,
        project,
        location,
        api_version,
        allow_plaintext,
        deny_private_ips,
        ca,
        insecure_skip_verify,
        addresses: m
            .texts("addresses", "[]", "IP addresses to connect to instead of looking the host of base_url up")
            .unwrap_or_default(),
        credentials: m.list("credentials", "[]", "keys, in the order in which they are used", |m| {
            let name = m.maybe_text("name", "default", "name for logs and target ids");
            let name = name.unwrap_or_else(|| "default".to_owned());
            CredentialFile {
                at: m.at().clone(),
                name: check_name(faults, &m.at().key("name"), "credential", &name).then_some(name),
                has_key: m.has("key"),
                key: m.secret("key", false, "place of the key; or one of the logins below", read_reference),
                login: read_login(m, faults),
            }
        }),
        models: m.table(
            "models",
            "what is known of models; the catalogue's values are the default",
            |name, m| read_model(name, m, faults),
        ),
        headers: m.text_table("headers", "extra request headers; ${NAME} is a variable of the environment"),
        http: m.choice(
            "http",
            HttpVersions::Auto,
            &[("auto", HttpVersions::Auto), ("1", HttpVersions::One), ("2", HttpVersions::Two)],
            "HTTP version; auto is ALPN over TLS and HTTP/1.1 without",
        ),
        spread_credentials: m.choice(
            "use",
            false,
            &[("ordered", false), ("spread", true)],
            "whether credentials are used in order or in turn",
        ),
        timeouts: m.section("timeouts", "timers for this provider", read_overrides),
        optional: m.boolean(
            "optional",
            false,
            "left out with a warning, not refused, where its variables are not set; without credentials it reads the kind's own",
        ),
        auth: m.maybe_text(
            "auth",
            "null",
            "how the key is sent: bearer, none, or the name of a header; null is the kind's own way",
        ),
        paths: m.text_table(
            "paths",
            "path of a call behind that of base_url, such as {chat_completions: /chat}; {model} stands for the model",
        ),
        params: read_json_table(m, faults, "params", "values set in every request where nobody set one"),
        stream_params: read_json_table(m, faults, "stream_params", "the same for requests that ask for a stream"),
        patterns: m.section("classifier", "your own words for this provider's errors", read_classifier),
    };
    read_rates(m, "limits of providers");
    provider
}

fn read_model(name: &str, m: &mut Map<'_, '_>, faults: &Faults) -> ModelFile {
    let is_sound = check_model(faults, m.at(), name);
    let tier = m.maybe_choice("tier", "null", &TIERS, "size class");
    let context = m.maybe_integer(
        "context",
        1..=100_000_000,
        "context window in tokens; a request that seems longer goes elsewhere",
    );
    let max_output = m.maybe_integer("max_output", 1..=100_000_000, "most tokens of one answer");
    let capabilities = m.texts(
        "capabilities",
        "[]",
        "chat completions embeddings tools vision json: what is not listed it cannot; none means unknown",
    );
    let mut words = Vec::new();
    for (at, word) in capabilities.iter().flatten() {
        if word.len() <= 32 && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        {
            if Ability::from_word(word).is_none() && !OTHER_WORDS.contains(&word.as_str()) {
                let known = Ability::ALL.map(Ability::as_label);
                let near = did_you_mean(word, known);
                let list = known.join(", ");
                faults.warning(at, format!("{} says nothing here; known are {list}{near}", shown(word)));
            }
            words.push(word.clone());
        } else {
            faults.error(at, "must be a word of a-z, 0-9 and _");
        }
    }
    let (price_input, price_output) = m.section("price", "US dollars per million tokens", |m| {
        let input = m.maybe_number("input", 0.0..=100_000.0, "for what goes in");
        (input, m.maybe_number("output", 0.0..=100_000.0, "for what comes out"))
    });
    let limits = m.section("limits", "what a request to it is cut to", |m| ModelLimits {
        max_tokens: m.maybe_integer("max_tokens", 1..=100_000_000, "most tokens that may be asked for"),
        drop_params: read_members(m, faults),
    });
    let continues =
        [("none", Continues::None), ("prefill", Continues::Prefill), ("prefix", Continues::Prefix)];
    let continues = m.maybe_choice(
        "continues",
        "null",
        &continues,
        "how it goes on from an assistant message at the end: prefill, prefix (marked) or none",
    );
    ModelFile {
        continues,
        name: is_sound.then(|| name.to_owned()),
        tier,
        context,
        max_output,
        limits,
        capabilities: capabilities.map(|_| words),
        price_input,
        price_output,
    }
}

/// Words beside those of the abilities that `capabilities` may hold: this one says what a tier says too.
const OTHER_WORDS: [&str; 1] = ["reasoning"];

/// Reads `drop_params`: names of request members.
fn read_members(m: &mut Map<'_, '_>, faults: &Faults) -> Vec<String> {
    let mut members = Vec::new();
    for (at, name) in
        m.texts("drop_params", "[]", "members that are taken out of a request").unwrap_or_default()
    {
        if !is_member(&name) {
            faults.error(&at, "must be the name of a request parameter");
        } else if matches!(name.as_str(), "model" | "stream" | "messages" | "prompt" | "input" | "contents") {
            faults.error(&at, "cannot be taken out: without it there is no request");
        } else {
            members.push(name);
        }
    }
    members
}
