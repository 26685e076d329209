//! The providers of the soak, and the configurations that the proxy is given one after another.
//!
//! `shaky` fails in the way that the model's name says, at every third request; `shaky-a` is the same in
//! Anthropic's dialect, `shaky-h` over HTTP/2. `steady` answers well in any dialect and over HTTP/2. Each
//! route of a fault has both, so its clients see no error. `lone` has nothing that works.

use std::fmt::Write as _;
use std::time::Duration;

use pointsman::standin::{GREETING, Provider, Reply, SIXTY_WORDS, Script};
use rcgen::{CertificateParams, KeyPair};

/// Clients with a key of their own.
pub const CLIENTS: usize = 40;
/// The token of the admin address.
pub const TOKEN: &str = "pm-admin-0123456789abcdef";
/// Kinds of providers behind the routes `t-KIND`, and the path of their base URL.
pub const KINDS: [(&str, &str); 5] =
    [("openai", "/v1"), ("anthropic", ""), ("gemini", ""), ("cohere", ""), ("ollama", "")];
/// The name of a fault and what it is.
pub type Fault = (&'static str, fn() -> Reply);
/// Ways to fail of `shaky`, each a route of that name; `a-NAME` and `h-NAME` are the same at `shaky-a` and
/// `shaky-h`.
pub const FAULTS: [Fault; 15] = [
    ("limited", || Reply::rate_limited(None)),
    ("told", || Reply::rate_limited(Some("1"))),
    ("overloaded", || Reply::status(529)),
    ("broken", || Reply::status(500)),
    ("unavailable", || Reply::html(503)),
    ("reset", Reply::reset),
    ("closed", Reply::close),
    ("beheaded", Reply::reset_after_head),
    ("cut", || Reply::reset_after(3)),
    ("left", || Reply::close_after(3)),
    ("stalled", || Reply::stall_after(3)),
    ("silent", Reply::silence),
    ("inband", || Reply::error_event(500)),
    ("late", || Reply::error_after(3, 529)),
    ("stale", || Reply::ok().then_stale()),
];

/// Short enough for a fault to be over soon, long enough for a machine with other work.
const TIMERS: &str = "timeouts: {first_content: 3s, stall: 2s, stall_last: 20s, response: 3s, total: 60s}
breaker: {window: 2s, open: 300ms, open_max: 600ms}
cooldown: {default: 200ms, max: 1s, forget_after: 5s}
retry: {budget_min_per_second: 1000}
";

/// The providers, running.
pub struct Stage {
    steady: Provider,
    shaky: Provider,
    folder: tempfile::TempDir,
}

impl Stage {
    pub async fn open() -> Stage {
        let steady = Script::by_model([("words", Reply::says(SIXTY_WORDS).delay(Duration::from_millis(3)))]);
        let faults = FAULTS.map(|(name, fault)| {
            // A connection that is lost is asked for anew once: the second one fails as well, so that the
            // request moves on in the warm-up and not an hour later.
            let times = if matches!(name, "closed" | "reset") { 2 } else { 1 };
            let good = std::iter::repeat_with(|| Reply::says(GREETING)).take(2 * times);
            (name, Script::round(good.chain(std::iter::repeat_with(fault).take(times))))
        });
        let slow = Script::always(Reply::slow_first_content(Duration::from_millis(150)));
        let lone = Script::round([Reply::status(500), Reply::status(503), Reply::reset()]);
        let shaky = Script::by_model(faults.into_iter().chain([("slow", slow), ("lone", lone)]));
        let start = |script| async { Provider::start(script).await.expect("a provider starts") };
        let (steady, shaky) = (start(steady).await, start(shaky).await);
        steady.record(false);
        shaky.record(false);
        let folder = tempfile::tempdir().expect("a folder for audit, state and certificate");
        write_certificate(folder.path());
        Stage { steady, shaky, folder }
    }

    /// `listen`: cleartext with HTTP/2, and TLS.
    pub fn listen(&self) -> String {
        let at = |name: &str| self.folder.path().join(name).display().to_string();
        format!(
            "{{address: \"127.0.0.1:0\", h2c: true}}, {{address: \"127.0.0.1:0\", tls: {{cert: \"{}\", key: \"{}\"}}}}",
            at("cert.pem"),
            at("key.pem")
        )
    }

    /// The certificate that clients of the TLS address trust.
    pub fn certificate(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("cert.pem")).expect("the certificate was written")
    }

    pub fn environment() -> Vec<(String, String)> {
        let mut all = vec![
            ("SOAK_PROVIDER".to_owned(), "sk-provider-0123456789".to_owned()),
            ("SOAK_ADMIN".to_owned(), TOKEN.to_owned()),
        ];
        all.extend((0..CLIENTS).map(|client| (format!("SOAK_CLIENT_{client}"), key(client))));
        all
    }

    /// Takes the audit log away, as a rotation does; it is opened anew by its name.
    pub fn rotate(&self) {
        // Where nothing was written since, nothing is there.
        let _ = std::fs::remove_file(self.folder.path().join("audit.log"));
    }

    /// The configuration of a season: everything stays but one route, its target and its client.
    pub fn configuration(&self, season: u64) -> String {
        let mut text = String::from(TIMERS);
        let folder = self.folder.path().display();
        let _ =
            writeln!(text, "audit: {{path: \"{folder}/audit.log\"}}\nstate: {{path: \"{folder}/state.db\"}}");
        text.push_str("clients:\n");
        for client in 0..CLIENTS {
            let _ = writeln!(
                text,
                "  - {{name: c{client}, key: {{env: SOAK_CLIENT_{client}}}, routes: [\"*\"]}}"
            );
        }
        let _ = writeln!(
            text,
            "  - {{name: season-{season}, key: \"pm-season-{season}-0123456789\", routes: [chat]}}"
        );
        text.push_str("providers:\n");
        let proof = "credentials: [{name: k, key: {env: SOAK_PROVIDER}}]";
        let mut provider = |name: &str, kind: &str, http: &str, base: String| {
            let _ = writeln!(text, "  {name}: {{kind: {kind}, http: {http}, base_url: \"{base}\", {proof}}}");
        };
        for (kind, path) in KINDS {
            provider(&format!("steady-{kind}"), kind, "1", format!("{}{path}", self.steady.origin()));
        }
        provider("steady-h", "openai", "2", self.steady.base_url());
        provider("shaky", "openai", "1", self.shaky.base_url());
        provider("shaky-a", "anthropic", "1", self.shaky.origin());
        provider("shaky-h", "openai", "2", self.shaky.base_url());
        text.push_str("routes:\n");
        let mut route = |name: &str, more: &str, targets: &[(&str, &str)]| {
            let targets: Vec<String> = targets
                .iter()
                .enumerate()
                .map(|(at, (provider, model))| {
                    format!("{{provider: {provider}, model: {model}, priority: {}}}", at + 1)
                })
                .collect();
            let _ = writeln!(text, "  {name}: {{{more}targets: [{}]}}", targets.join(", "));
        };
        route("chat", "", &[("steady-openai", "plain")]);
        route("words", "", &[("steady-openai", "words")]);
        route("words-h", "", &[("steady-h", "words")]);
        route("t-http2", "", &[("steady-h", "plain")]);
        for (kind, _) in KINDS {
            route(&format!("t-{kind}"), "", &[(&format!("steady-{kind}"), "plain")]);
        }
        for (fault, _) in FAULTS {
            route(fault, "", &[("shaky", fault), ("steady-openai", "plain")]);
            route(&format!("a-{fault}"), "", &[("shaky-a", fault), ("steady-openai", "plain")]);
            route(&format!("h-{fault}"), "", &[("shaky-h", fault), ("steady-h", "plain")]);
        }
        route(
            "hedged",
            "hedge: {after: 50ms, max_ratio: 1}, ",
            &[("shaky", "slow"), ("steady-openai", "plain")],
        );
        route("lone", "", &[("shaky", "lone"), ("shaky-a", "lone")]);
        route(&format!("season-{season}"), "", &[("steady-openai", &format!("season-{season}"))]);
        text
    }

    /// A configuration that is refused, another with every season.
    pub fn broken(&self, season: u64) -> String {
        let sound = self.configuration(season);
        match season % 4 {
            0 => sound.replace("provider: shaky,", "provider: nobody,"),
            1 => format!("{sound}colour: red\n"),
            2 => sound.get(..sound.len() / 2).unwrap_or_default().to_owned() + "\n  - {",
            _ => sound.replace("SOAK_PROVIDER", "NO_SUCH_VARIABLE"),
        }
    }
}

/// Returns the key of a client.
pub fn key(client: usize) -> String {
    format!("pm-client-{client}-0123456789")
}

fn write_certificate(folder: &std::path::Path) {
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    let certificate = params.self_signed(&key).expect("a certificate");
    std::fs::write(folder.join("cert.pem"), certificate.pem()).expect("the certificate is written");
    std::fs::write(folder.join("key.pem"), key.serialize_pem()).expect("the key is written");
}
