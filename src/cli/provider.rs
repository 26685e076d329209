//! `pointsman provider list`: every provider of the catalogue and of the configuration, and whether
//! it is usable here or what it lacks. Names of variables are told, never their values.

use super::{Exit, complain, file_or_usual, say};
use crate::base::api::Api;
use crate::catalog::{self, Entry};
use crate::config::plan::{Plan, Proof};
use crate::reload::{LoadFault, Origin, load};
use clap::Subcommand;
use serde::Serialize;
use std::path::PathBuf;

/// The verbs below `provider`.
#[derive(Debug, Subcommand)]
pub(super) enum ProviderVerb {
    /// List every known provider: usable, or what it lacks.
    List {
        /// Configuration file (default: /etc/pointsman/pointsman.yaml where it exists, else the environment).
        #[arg(short, long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Print as JSON.
        #[arg(long)]
        json: bool,
    },
}

/// One line of the list.
#[derive(Debug, PartialEq, Serialize)]
struct Row {
    name: String,
    kind: String,
    /// `usable` or `unconfigured`.
    status: &'static str,
    /// Whether it stands in the configuration (or was found in the environment).
    configured: bool,
    /// What it lacks.
    why: Option<String>,
    base_url: Option<String>,
    calls: Vec<&'static str>,
    auth: String,
    /// Variables in which its key is looked for.
    env: Vec<&'static str>,
    credentials: usize,
    models: Vec<String>,
    /// Requests a minute, where it is a member of the fallback chain.
    rpm: Option<u32>,
    /// Whether the catalogue's facts were held against recorded traffic or documentation.
    verified: bool,
}

pub(super) fn provider(verb: ProviderVerb) -> Exit {
    let ProviderVerb::List { config, json } = verb;
    let origin = file_or_usual(config).map_or(Origin::Environment, Origin::File);
    let plan = match load(&origin) {
        Ok(loaded) => Some(loaded.plan),
        // Nothing found is an answer here: the list says what is missing.
        Err(LoadFault::Nothing(_)) => None,
        Err(fault) => {
            for line in fault.lines() {
                complain(&line);
            }
            return Exit::of_load(&fault);
        }
    };
    let rows = rows(plan.as_ref(), &|name| std::env::var(name).ok());
    if json {
        say(&serde_json::json!({ "providers": rows }).to_string());
    } else {
        for line in table(&rows) {
            say(&line);
        }
    }
    Exit::Done
}

/// Lists the configured ones first, then those of the catalogue that are not.
fn rows(plan: Option<&Plan>, env: &dyn Fn(&str) -> Option<String>) -> Vec<Row> {
    let mut rows: Vec<Row> = plan.map(configured).unwrap_or_default();
    for entry in catalog::entries() {
        if !rows.iter().any(|row| row.name == entry.name) {
            rows.push(of_catalogue(entry, env));
        }
    }
    rows
}

fn configured(plan: &Plan) -> Vec<Row> {
    let usable = plan.providers.iter().map(|provider| {
        let entry = catalog::find(provider.word);
        let endpoint = plan.endpoints.get(provider.endpoint.at());
        let mut models: Vec<String> = provider.models.keys().map(ToString::to_string).collect();
        models.sort();
        let credential = |at: &crate::base::ids::CredentialIdx| plan.credentials.get(at.at());
        Row {
            name: provider.name.to_string(),
            kind: provider.word.to_owned(),
            status: "usable",
            configured: true,
            why: None,
            base_url: endpoint.map(|endpoint| format!("{}{}", endpoint.name, provider.base_path)),
            calls: CALLS.iter().filter(|(_, api)| provider.serves.has(*api)).map(|(word, _)| *word).collect(),
            auth: match &provider.proof {
                Proof::AsKind => entry.map_or("", |entry| entry.auth.as_label()).to_owned(),
                Proof::Bearer => "bearer".to_owned(),
                Proof::Header(name) => name.to_string(),
                Proof::None => "none".to_owned(),
            },
            env: entry.map(|entry| entry.env.to_vec()).unwrap_or_default(),
            credentials: provider
                .credentials
                .iter()
                .filter_map(credential)
                .filter(|c| c.key.is_some())
                .count(),
            models,
            rpm: entry.and_then(|entry| entry.chain).map(|chain| chain.rpm),
            verified: entry.is_some_and(|entry| entry.source.is_verified),
        }
    });
    let left_out = plan.left_out.iter().filter_map(|left| {
        let row = of_catalogue(catalog::find(&left.kind)?, &|_| None);
        let why = Some(format!("set {}", left.why));
        Some(Row { name: left.name.clone(), status: "unconfigured", configured: true, why, ..row })
    });
    usable.chain(left_out).collect()
}

fn of_catalogue(entry: &'static Entry, env: &dyn Fn(&str) -> Option<String>) -> Row {
    let missing = entry.missing(&|name| entry.counts(name, env(name).as_deref()));
    let why = match missing {
        Some(missing) => format!("set {missing}"),
        None => format!("add providers.{name}: {{kind: {name}}}", name = entry.name),
    };
    Row {
        name: entry.name.to_owned(),
        kind: entry.name.to_owned(),
        status: "unconfigured",
        configured: false,
        why: Some(why),
        base_url: entry.urls.last().map(|url| (*url).to_owned()),
        calls: CALLS.iter().filter(|(_, api)| entry.serves.contains(api)).map(|(word, _)| *word).collect(),
        auth: entry.auth.as_label().to_owned(),
        env: entry.env.to_vec(),
        credentials: 0,
        models: entry.models.iter().map(|model| model.name.to_owned()).collect(),
        rpm: entry.chain.map(|chain| chain.rpm),
        verified: entry.source.is_verified,
    }
}

const CALLS: [(&str, Api); 11] = [
    ("chat", Api::ChatCompletions),
    ("completions", Api::Completions),
    ("embeddings", Api::Embeddings),
    ("responses", Api::Responses),
    ("messages", Api::Messages),
    ("count_tokens", Api::CountTokens),
    ("generate_content", Api::GenerateContent),
    ("converse", Api::Converse),
    ("cohere_chat", Api::CohereChat),
    ("ollama_chat", Api::OllamaChat),
    ("generate", Api::Generate),
];

fn table(rows: &[Row]) -> Vec<String> {
    let width = rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
    let line = |row: &Row| {
        let told = match &row.why {
            Some(why) => why.clone(),
            None => format!(
                "{}  {} keys  {} models  {}",
                row.base_url.as_deref().unwrap_or_default(),
                row.credentials,
                row.models.len(),
                row.calls.join(" ")
            ),
        };
        format!("{:<width$}  {:<12}  {told}", row.name, row.status)
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, set: &[(&str, &str)]) -> Row {
        let env =
            |wanted: &str| set.iter().find(|(name, _)| *name == wanted).map(|(_, value)| (*value).to_owned());
        rows(None, &env).into_iter().find(|row| row.name == name).unwrap()
    }

    #[test]
    fn every_provider_of_the_catalogue_is_told_with_what_it_lacks() {
        for (name, set, status, why) in [
            ("groq", &[][..], "unconfigured", "set GROQ_API_KEY"),
            ("cloudflare", &[("CLOUDFLARE_AI_TOKEN", "x")], "unconfigured", "set CLOUDFLARE_ACCOUNT_ID"),
            (
                "claude-bridge",
                &[("CLAUDE_BRIDGE_URL", "http://127.0.0.1:1")],
                "unconfigured",
                "set CLAUDE_BRIDGE_ENABLED",
            ),
            ("bedrock", &[], "unconfigured", "set AWS_REGION and AWS_BEARER_TOKEN_BEDROCK"),
        ] {
            let row = row(name, set);
            assert_eq!(row.status, status, "{name}");
            assert!(row.why.unwrap().starts_with(why), "{name}");
        }
        assert_eq!(rows(None, &|_| None).len(), catalog::entries().count());
    }

    #[test]
    fn no_value_of_a_variable_is_told() {
        let rows = rows(None, &|name| Some(format!("canary-{name}")));
        let told = format!("{}{}", serde_json::json!(rows), table(&rows).join("\n"));
        assert!(!told.contains("canary"), "{told}");
    }
}
