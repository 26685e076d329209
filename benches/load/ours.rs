//! pointsman: as few routes as there are kinds of work, or a thousand.

use crate::process::free_address;
use crate::subject::{Launch, Provider, Road, SILENCE_MS, WORKS, Work};
use anyhow::bail;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Routes of the wide configuration, each with three targets.
pub const ROUTES: usize = 1000;

/// Providers and routes, and the route of each kind of work.
pub struct Configuration {
    text: String,
    works: Vec<(Work, String)>,
}

/// `pointsman 0.1.0`, or where it was looked for.
pub fn version() -> Result<String, String> {
    let binary = binary();
    let output = Command::new(&binary).arg("--version").output();
    match output {
        Ok(output) => Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
        Err(_) => Err(format!("{} is not there: cargo build --release, or POINTSMAN_BIN", binary.display())),
    }
}

fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("POINTSMAN_BIN") {
        return path.into();
    }
    // The bench is `target/release/deps/load-HASH`.
    let beside = std::env::current_exe().ok();
    let folder = beside.as_deref().and_then(Path::parent).and_then(Path::parent);
    folder.unwrap_or(Path::new("target/release")).join("pointsman")
}

/// One route for each kind of work.
pub fn few_routes(provider: &Provider) -> Configuration {
    let (mut providers, mut routes) = (String::new(), String::new());
    for work in WORKS {
        let mut targets = Vec::new();
        for (at, address) in work.behind(provider).iter().enumerate() {
            let name = format!("{}-{at}", work.word());
            let _ = writeln!(providers, "  {name}: {{kind: openai, base_url: \"http://{address}/v1\"}}");
            targets.push(format!("{{provider: {name}, model: m, priority: {}}}", at + 1));
        }
        let _ = writeln!(
            routes,
            "  {}: {{timeouts: {{first_content: {}}}, targets: [{}]}}",
            work.word(),
            if work.word() == "stalled" { format!("{SILENCE_MS}ms") } else { "12s".to_owned() },
            targets.join(", ")
        );
    }
    let works = WORKS.map(|work| (work, work.word().to_owned())).into();
    Configuration { text: format!("providers:\n{providers}routes:\n{routes}"), works }
}

/// A thousand routes of three targets each, three thousand targets on three providers.
pub fn many_routes(provider: &Provider) -> Configuration {
    let mut text = String::from("providers:\n");
    let good = provider.at(crate::provider::Way::Good);
    for at in 1..=3 {
        let _ = writeln!(text, "  p{at}: {{kind: openai, base_url: \"http://{good}/v1\"}}");
    }
    text.push_str("routes:\n");
    for route in 0..ROUTES {
        let target = |at| format!("{{provider: p{at}, model: m{route}, priority: {at}}}");
        let _ = writeln!(text, "  r{route}: {{targets: [{}, {}, {}]}}", target(1), target(2), target(3));
    }
    Configuration { text, works: vec![(Work::Plain, "r0".to_owned())] }
}

/// Breaker and rests are off and extra attempts without a bound, since providers that always fail
/// would be left out instead of failed over; the connections of one client may be as many as are open.
pub fn launch(level: &str, configuration: &Configuration, folder: &Path) -> anyhow::Result<Launch> {
    let (address, admin) = (free_address()?, free_address()?);
    let file = folder.join("pointsman.yaml");
    let text = format!(
        "version: 1
threads: 1
listen:
  - {{address: \"{address}\"}}
admin: {{address: \"{admin}\"}}
retry: {{budget_min_per_second: 100000}}
breaker: {{enabled: false}}
cooldown: {{default: 0s}}
limits: {{connections: 20000, connections_per_address: 20000, in_flight: 20000}}
log: {{level: {level}, format: json}}
{}",
        configuration.text
    );
    std::fs::write(&file, text)?;
    let check = Command::new(binary()).arg("check").arg("-c").arg(&file).output()?;
    if !check.status.success() {
        let words = [check.stdout, check.stderr].concat();
        bail!("pointsman does not take the bench's configuration: {}", String::from_utf8_lossy(&words));
    }
    let mut command = Command::new(binary());
    command.arg("run").arg("-c").arg(&file).env("RUNTIME_DIRECTORY", folder);
    let road = |(work, model): &(Work, String)| {
        (*work, Road { address, model: model.clone(), header: String::new() })
    };
    Ok(Launch { command: Some(command), roads: configuration.works.iter().map(road).collect() })
}
