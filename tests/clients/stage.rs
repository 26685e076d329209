//! What stands between a client and its providers?
//!
//! The real program with no policy changed, a tap before it, and a proxy that refuses everything for
//! what the client looks for elsewhere. One route, its targets in the order of their priority.

use std::fmt::Write as _;

use pointsman::standin::{Provider, Reply};

use crate::process::Process;
use crate::roster::Kind;
use crate::tap::Tap;

/// The route that every client asks for.
pub const ROUTE: &str = "chat";
pub const CLIENT_KEY: &str = "person-0123456789abcdef";
pub const PROVIDER_KEY: &str = "sk-provider-0123456789";

/// The program, the tap before it and the proxy beside it.
pub struct Stage {
    pub elsewhere: Provider,
    pub process: Process,
    pub tap: Tap,
}

impl Stage {
    /// Starts the program before these targets: kind, origin and model of each.
    pub async fn build(targets: &[(Kind, String, &str)]) -> Stage {
        let elsewhere = Provider::start(Reply::status(403)).await.expect("a stand-in");
        let (mut providers, mut line) = (String::new(), String::new());
        for (at, (kind, origin, model)) in targets.iter().enumerate() {
            let name = ["first", "second"][at];
            let (lines, base) = (kind.lines(), kind.base(origin));
            let _ = writeln!(
                providers,
                "  {name}: {{{lines}, base_url: \"{base}\", credentials: [{{name: k, key: {{env: PROVIDER_KEY}}}}]}}"
            );
            let _ = writeln!(line, "      - {{provider: {name}, model: {model}, priority: {}}}", at + 1);
        }
        // No timers are changed: this is what an operator has who writes no more than providers.
        let configuration = format!(
            "log: {{format: json}}
clients: [{{name: person, key: {{env: CLIENT_KEY}}, routes: [\"*\"]}}]
providers:
{providers}routes:
  {ROUTE}:
    targets:
{line}default_route: {ROUTE}
"
        );
        let environment = [("CLIENT_KEY", CLIENT_KEY), ("PROVIDER_KEY", PROVIDER_KEY)]
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let process = Process::start(&configuration, &environment).await;
        let tap = Tap::start(process.data).await.expect("a tap");
        Stage { elsewhere, process, tap }
    }
}
