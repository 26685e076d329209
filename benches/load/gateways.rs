//! The gateways for language models: LiteLLM's proxy and Portkey's, one process each.
//!
//! Both move on after 429, 500 and resets; LiteLLM after silence as well. Neither goes on in the middle
//! of a stream.

use crate::plain::rivals;
use crate::process::free_address;
use crate::provider::Way;
use crate::subject::{Launch, Provider, Road, SILENCE_MS, WORKS, Work};
use serde_json::json;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What is said of one that was looked for where `make rivals` puts it.
fn missing(name: &str) -> String {
    let reason = std::fs::read_to_string(rivals().join(format!("{name}.failed"))).unwrap_or_default();
    let reason = reason.trim();
    if reason.is_empty() {
        "not installed: make rivals".to_owned()
    } else {
        format!("not installed: {reason}")
    }
}

fn litellm_program() -> PathBuf {
    std::env::var_os("LITELLM_BIN").map_or_else(|| rivals().join("litellm/bin/litellm"), PathBuf::from)
}

/// `LiteLLM 1.106.2`, or why it is not there.
pub fn litellm_version() -> Result<String, String> {
    let program = litellm_program();
    if !program.exists() {
        return Err(missing("litellm"));
    }
    // The program itself takes ten seconds to say it.
    let named = std::fs::read_dir(
        program.parent().and_then(Path::parent).map_or_else(PathBuf::new, |p| p.join("lib")),
    );
    let folders = named.into_iter().flatten().flatten().map(|python| python.path().join("site-packages"));
    let names = folders.filter_map(|folder| std::fs::read_dir(folder).ok()).flatten().flatten();
    let version = names
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .find_map(|name| Some(name.strip_prefix("litellm-")?.strip_suffix(".dist-info")?.to_owned()));
    Ok(format!("LiteLLM {}", version.unwrap_or_default()))
}

/// A model for each kind of work and one for its second target. Rests are off, as with the others.
pub fn litellm(provider: &Provider, folder: &Path) -> anyhow::Result<Launch> {
    let address = free_address()?;
    let (mut models, mut fallbacks) = (String::new(), Vec::new());
    for work in WORKS {
        let word = work.word();
        for (at, server) in work.behind(provider).iter().enumerate() {
            let name = if at == 0 { word.to_owned() } else { format!("{word}-{at}") };
            let is_stalled = work == Work::Failover(Way::Stalled) && at == 0;
            let limit = if is_stalled { f64::from(SILENCE_MS) / 1000.0 } else { 120.0 };
            let _ = writeln!(
                models,
                "  - model_name: {name}
    litellm_params: {{model: openai/m, api_base: \"http://{server}/v1\", api_key: none, timeout: {limit}, stream_timeout: {limit}, max_retries: 0}}"
            );
            if at > 0 {
                fallbacks.push(format!("{{{word}: [{name}]}}"));
            }
        }
    }
    let file = folder.join("litellm.yaml");
    std::fs::write(
        &file,
        format!(
            "model_list:\n{models}router_settings: {{num_retries: 0, disable_cooldowns: true, fallbacks: [{}]}}\nlitellm_settings: {{telemetry: false, num_retries: 0}}\n",
            fallbacks.join(", ")
        ),
    )?;
    let mut command = Command::new(litellm_program());
    command.args([
        "--host",
        "127.0.0.1",
        "--num_workers",
        "1",
        "--port",
        &address.port().to_string(),
        "--config",
    ]);
    command.arg(&file).env("LITELLM_LOCAL_MODEL_COST_MAP", "True").env("LITELLM_LOG", "ERROR");
    // Nobody else asks anybody for a key here.
    command.env("LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY", "true");
    // Whatever it looks for elsewhere is refused at once.
    command.env("HTTPS_PROXY", "http://127.0.0.1:9").env("HTTP_PROXY", "http://127.0.0.1:9");
    command.env("NO_PROXY", "127.0.0.1,localhost").env("HOME", folder).current_dir(folder);
    let road = |work: Work| (work, Road { address, model: work.word().to_owned(), header: String::new() });
    Ok(Launch { command: Some(command), roads: WORKS.map(road).into() })
}

fn portkey_program() -> PathBuf {
    let installed = rivals().join("portkey/node_modules/@portkey-ai/gateway/build/start-server.js");
    std::env::var_os("PORTKEY_JS").map_or(installed, PathBuf::from)
}

/// `Portkey 1.15.2`, or why it is not there.
pub fn portkey_version() -> Result<String, String> {
    let program = portkey_program();
    if !program.exists() {
        return Err(missing("portkey"));
    }
    let package = program.parent().and_then(Path::parent).map(|folder| folder.join("package.json"));
    let package = package.and_then(|path| std::fs::read_to_string(path).ok()).unwrap_or_default();
    let package: serde_json::Value = serde_json::from_str(&package).unwrap_or_default();
    Ok(format!("Portkey {}", package["version"].as_str().unwrap_or_default()))
}

/// Each request brings its own configuration in a header.
pub fn portkey(provider: &Provider) -> anyhow::Result<Launch> {
    let address = free_address()?;
    let roads = WORKS.map(|work| {
        let target = |server: &std::net::SocketAddr| {
            let mut target =
                json!({"provider": "openai", "api_key": "none", "custom_host": format!("http://{server}/v1")});
            if work == Work::Failover(Way::Stalled) && *server == provider.at(Way::Stalled) {
                target["request_timeout"] = SILENCE_MS.into();
            }
            target
        };
        let targets: Vec<_> = work.behind(provider).iter().map(target).collect();
        let strategy = json!({"mode": "fallback", "on_status_codes": [408, 429, 500, 502, 503, 504]});
        let config = match targets.as_slice() {
            [one] => one.clone(),
            _ => json!({"strategy": strategy, "targets": targets}),
        };
        (work, Road { address, model: "m".to_owned(), header: format!("x-portkey-config: {config}\r\n") })
    });
    let mut command = Command::new("node");
    command.arg(portkey_program()).arg(format!("--port={}", address.port())).arg("--headless");
    command.env("NODE_ENV", "production").env("TRUSTED_CUSTOM_HOSTS", "127.0.0.1");
    Ok(Launch { command: Some(command), roads: roads.into() })
}
