//! `pointsman client NAME`: the snippet that points a tool here, with the address and a route that are
//! in force.
//!
//! They come from the running process where there is one, else from the configuration file, else they
//! are what zero configuration has. The snippets of opencode, Codex and Claude Code are those of
//! README.md, which `make clients` plays with the real programs; a test compares them. KEY stands for
//! the client's key: no key is ever printed.

use super::ask::{Desk, Fault, Whom};
use super::settings::{texts, unsound};
use super::status::{list, text};
use super::{Exit, complain, say};
use crate::config::settings;
use crate::server::Keeper;
use clap::ValueEnum;
use serde_json::{Value, json};
use std::net::SocketAddr;

/// Tools that are known.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Tool {
    Opencode,
    ClaudeCode,
    Codex,
    GeminiCli,
    Aider,
    OpenaiPython,
    OpenaiNode,
    AnthropicPython,
    AnthropicNode,
    GoogleGenai,
    Litellm,
    Curl,
}

/// Arguments of `client`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The tool.
    #[arg(value_name = "TOOL")]
    tool: Tool,
    /// Route or model to put in (default: the default route, else the first).
    #[arg(long, value_name = "ROUTE")]
    model: Option<String>,
    /// Address to put in, such as <https://llm.example> (default: where the process or the file listens).
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    #[command(flatten)]
    whom: Whom,
    /// Print as JSON.
    #[arg(long)]
    json: bool,
}

/// What goes into a snippet.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    /// Scheme, host and port.
    origin: String,
    route: String,
    /// Names of the clients that may call; none where everybody may.
    clients: Vec<String>,
}

/// What a configuration says of it.
#[derive(Default)]
struct Known {
    address: Option<String>,
    is_tls: bool,
    default_route: Option<String>,
    first_route: Option<String>,
    clients: Vec<String>,
}

pub(super) fn client(keeper: &Keeper, arguments: &Arguments) -> Exit {
    let known = match known(keeper, arguments) {
        Ok(known) => known,
        Err(fault) => return fault.tell(),
    };
    let place = place(known, arguments);
    let snippet = snippet(arguments.tool, &place);
    if arguments.json {
        let tool = arguments.tool.to_possible_value().map(|value| value.get_name().to_owned());
        say(&json!({ "client": tool, "url": place.origin, "model": place.route, "text": snippet })
            .to_string());
    } else {
        say(snippet.trim_end());
    }
    // Beside the snippet, so that it can be sent into a file.
    if place.clients.is_empty() {
        complain("KEY may be any text: no clients are configured");
    } else {
        complain(&format!("KEY is the key of one of the clients {}", place.clients.join(", ")));
    }
    Exit::Done
}

/// Looks where it may be said. What was named must be there; what is only usual need not.
fn known(keeper: &Keeper, arguments: &Arguments) -> Result<Known, Fault> {
    let whom = &arguments.whom;
    match of_process(keeper, whom) {
        Ok(known) => Ok(known),
        Err(fault) if whom.is_by_address() => Err(fault),
        Err(_) => match of_file(arguments) {
            Err(fault) if whom.config.is_some() => Err(fault),
            known => Ok(known.unwrap_or_default()),
        },
    }
}

fn of_process(keeper: &Keeper, whom: &Whom) -> Result<Known, Fault> {
    let desk = Desk::find(keeper, whom)?;
    let config = desk.get("/v1/config")?;
    let routes = desk.get("/v1/routes").unwrap_or_default();
    // Not what the file says: a reload may have read addresses that wait for a restart.
    let bound = list(&config, "bound").first().or(list(&config, "listen").first());
    let listen = bound.cloned().unwrap_or_default();
    let named = |value: &Value| text(value, "name").to_owned();
    Ok(Known {
        address: Some(text(&listen, "address").to_owned()),
        is_tls: listen.get("tls").and_then(Value::as_bool).unwrap_or(false),
        default_route: config.get("default_route").and_then(Value::as_str).map(str::to_owned),
        first_route: list(&routes, "routes").first().map(named),
        clients: list(&config, "clients").iter().map(named).collect(),
    })
}

fn of_file(arguments: &Arguments) -> Result<Known, Fault> {
    let texts = texts(arguments.whom.config.clone())?;
    let shown = settings::show(&texts.sources()).map_err(|problems| unsound(&problems))?;
    let value = |wanted: &str| shown.iter().find(|s| s.path == wanted).map(|s| s.value.clone());
    let inside = |start: &str, end: &str| -> Vec<String> {
        let values = shown.iter().filter(|s| s.path.starts_with(start) && s.path.ends_with(end));
        values.map(|s| s.value.clone()).collect()
    };
    let route = shown.iter().find_map(|s| s.path.strip_prefix("routes.")?.strip_suffix(".strategy"));
    Ok(Known {
        address: inside("listen[", "].address").into_iter().next(),
        is_tls: !inside("listen[", "].tls.cert").is_empty(),
        default_route: value("default_route").filter(|route| route != "null"),
        first_route: route.map(|route| route.trim_matches('"').to_owned()),
        clients: inside("clients[", "].name"),
    })
}

fn place(known: Known, arguments: &Arguments) -> Place {
    let reachable = |address: &str| -> Option<String> {
        let address: SocketAddr = address.parse().ok()?;
        let host = match address {
            SocketAddr::V4(v4) if v4.ip().is_unspecified() => "127.0.0.1".to_owned(),
            SocketAddr::V6(v6) if v6.ip().is_unspecified() => "[::1]".to_owned(),
            SocketAddr::V4(v4) => v4.ip().to_string(),
            SocketAddr::V6(v6) => format!("[{}]", v6.ip()),
        };
        Some(format!("{host}:{}", address.port()))
    };
    let host = known.address.as_deref().and_then(reachable).unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let origin = format!("{}://{host}", if known.is_tls { "https" } else { "http" });
    let route = arguments.model.clone().or(known.default_route).or(known.first_route);
    let url =
        arguments.url.as_deref().map(|url| url.trim_end_matches('/').trim_end_matches("/v1").to_owned());
    Place {
        origin: url.unwrap_or(origin),
        route: route.unwrap_or_else(|| "MODEL".to_owned()),
        clients: known.clients,
    }
}

fn snippet(tool: Tool, place: &Place) -> String {
    let template = match tool {
        Tool::Opencode => OPENCODE,
        Tool::ClaudeCode => CLAUDE_CODE,
        Tool::Codex => CODEX,
        Tool::GeminiCli => GEMINI_CLI,
        Tool::Aider => AIDER,
        Tool::OpenaiPython => OPENAI_PYTHON,
        Tool::OpenaiNode => OPENAI_NODE,
        Tool::AnthropicPython => ANTHROPIC_PYTHON,
        Tool::AnthropicNode => ANTHROPIC_NODE,
        Tool::GoogleGenai => GOOGLE_GENAI,
        Tool::Litellm => LITELLM,
        Tool::Curl => CURL,
    };
    template.replace("ORIGIN", &place.origin).replace("ROUTE", &place.route)
}

const OPENCODE: &str = r#"{
  "$schema": "https://opencode.ai/config.json",
  "model": "pointsman/ROUTE",
  "provider": {
    "pointsman": {
      "npm": "@ai-sdk/openai-compatible",
      "options": {"baseURL": "ORIGIN/v1", "apiKey": "KEY"},
      "models": {"ROUTE": {"name": "ROUTE"}}
    }
  }
}
"#;

const CLAUDE_CODE: &str = "export ANTHROPIC_BASE_URL=ORIGIN
export ANTHROPIC_API_KEY=KEY
export ANTHROPIC_MODEL=ROUTE
export ANTHROPIC_DEFAULT_HAIKU_MODEL=ROUTE
claude
";

const CODEX: &str = r#"# ~/.codex/config.toml; and in the shell: export POINTSMAN_KEY=KEY
model = "ROUTE"
model_provider = "pointsman"

[model_providers.pointsman]
name = "pointsman"
base_url = "ORIGIN/v1"
env_key = "POINTSMAN_KEY"
wire_api = "responses"
"#;

const GEMINI_CLI: &str = r#"# ~/.gemini/settings.json: {"security": {"auth": {"selectedType": "gemini-api-key"}}}
export GOOGLE_GEMINI_BASE_URL=ORIGIN
export GEMINI_API_KEY=KEY
gemini --model ROUTE
"#;

const AIDER: &str = "export OPENAI_API_BASE=ORIGIN/v1
export OPENAI_API_KEY=KEY
aider --model openai/ROUTE
";

const OPENAI_PYTHON: &str = r#"from openai import OpenAI

client = OpenAI(base_url="ORIGIN/v1", api_key="KEY")
answer = client.chat.completions.create(
    model="ROUTE", messages=[{"role": "user", "content": "hello"}]
)
print(answer.choices[0].message.content)
"#;

const OPENAI_NODE: &str = r#"import OpenAI from "openai";

const client = new OpenAI({ baseURL: "ORIGIN/v1", apiKey: "KEY" });
const answer = await client.chat.completions.create({
  model: "ROUTE",
  messages: [{ role: "user", content: "hello" }],
});
console.log(answer.choices[0].message.content);
"#;

const ANTHROPIC_PYTHON: &str = r#"from anthropic import Anthropic

client = Anthropic(base_url="ORIGIN", api_key="KEY")
answer = client.messages.create(
    model="ROUTE", max_tokens=1024, messages=[{"role": "user", "content": "hello"}]
)
print(answer.content[0].text)
"#;

const ANTHROPIC_NODE: &str = r#"import Anthropic from "@anthropic-ai/sdk";

const client = new Anthropic({ baseURL: "ORIGIN", apiKey: "KEY" });
const answer = await client.messages.create({
  model: "ROUTE",
  max_tokens: 1024,
  messages: [{ role: "user", content: "hello" }],
});
console.log(answer.content[0].text);
"#;

const GOOGLE_GENAI: &str = r#"from google import genai
from google.genai import types

client = genai.Client(api_key="KEY", http_options=types.HttpOptions(base_url="ORIGIN"))
answer = client.models.generate_content(model="ROUTE", contents="hello")
print(answer.text)
"#;

const LITELLM: &str = r#"from litellm import completion

answer = completion(
    model="openai/ROUTE",
    api_base="ORIGIN/v1",
    api_key="KEY",
    messages=[{"role": "user", "content": "hello"}],
)
print(answer.choices[0].message.content)
"#;

const CURL: &str = r#"curl -isN ORIGIN/v1/chat/completions \
  -H 'authorization: Bearer KEY' \
  -H 'content-type: application/json' \
  -d '{"model": "ROUTE", "stream": true, "messages": [{"role": "user", "content": "hello"}]}'
"#;

#[cfg(test)]
mod tests {
    use super::*;

    fn in_readme(tool: Tool, route: &str) -> String {
        let origin = "http://127.0.0.1:8080".to_owned();
        snippet(tool, &Place { origin, route: route.to_owned(), clients: Vec::new() })
    }

    #[test]
    fn the_snippets_are_those_that_are_played_with_the_real_programs() {
        let readme = include_str!("../../README.md");
        for (tool, route) in [(Tool::Opencode, "chat"), (Tool::Codex, "chat"), (Tool::ClaudeCode, "code")] {
            let snippet = in_readme(tool, route);
            let without_comment: Vec<&str> = snippet.lines().filter(|line| !line.starts_with('#')).collect();
            assert!(readme.contains(&without_comment.join("\n")), "README.md has not\n{snippet}");
        }
    }

    #[test]
    fn every_snippet_has_the_address_and_the_route_put_in() {
        for tool in Tool::value_variants() {
            let snippet = in_readme(*tool, "my-route");
            assert!(snippet.contains("http://127.0.0.1:8080") && snippet.contains("my-route"), "{snippet}");
            assert!(!snippet.contains("ORIGIN") && !snippet.contains("ROUTE"), "{snippet}");
        }
    }

    #[test]
    fn an_address_that_listens_everywhere_is_called_on_this_machine() {
        for (address, is_tls, want) in [
            ("0.0.0.0:8080", false, "http://127.0.0.1:8080"),
            ("[::]:443", true, "https://[::1]:443"),
            ("192.0.2.1:80", false, "http://192.0.2.1:80"),
            ("", false, "http://127.0.0.1:8080"),
        ] {
            let known = Known { address: Some(address.to_owned()), is_tls, ..Known::default() };
            let arguments =
                Arguments { tool: Tool::Curl, model: None, url: None, whom: Whom::default(), json: false };
            assert_eq!(place(known, &arguments).origin, want);
        }
    }
}
