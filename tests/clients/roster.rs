//! Which clients are there, and how is each pointed at an address?
//!
//! Versions are pinned in `requirements.txt` (Python) and `packages.txt` (npm) beside this file;
//! `scripts/clients` installs them under `target/clients`. Whatever could not be installed has its
//! reason in a file there, and its row says it.
//!
//! The programs are set up by the very blocks of README.md, so that those are known to work. A program gets a home of its own, the variables of its own documentation that
//! silence telemetry and updates, and the address of a proxy that refuses everything, so that
//! nothing leaves the machine and what it looks for elsewhere is known. No variable of the caller
//! is handed on but `PATH`.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tokio::process::Command;

/// The dialect in which a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speech {
    Chat,
    Responses,
    Messages,
    Gemini,
}

impl Speech {
    /// The kind of provider that speaks it.
    pub fn own_kind(self) -> Kind {
        match self {
            Speech::Chat | Speech::Responses => Kind::OpenAi,
            Speech::Messages => Kind::Anthropic,
            Speech::Gemini => Kind::Gemini,
        }
    }

    /// What stands in the path of its calls.
    pub fn path(self) -> &'static str {
        match self {
            Speech::Chat => "/v1/chat/completions",
            Speech::Responses => "/v1/responses",
            Speech::Messages => "/v1/messages",
            // `generateContent` and `streamGenerateContent`.
            Speech::Gemini => "enerateContent",
        }
    }
}

/// A kind of provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    OpenAi,
    Anthropic,
    Gemini,
    Bedrock,
}

impl Kind {
    /// Returns its name in the configuration.
    pub fn word(self) -> &'static str {
        match self {
            Kind::OpenAi => "openai",
            Kind::Anthropic => "anthropic",
            Kind::Gemini => "gemini",
            Kind::Bedrock => "bedrock",
        }
    }

    /// Returns what a provider of it needs in the configuration beside its address and key.
    pub fn lines(self) -> String {
        let region = if self == Kind::Bedrock { ", region: eu-west-1" } else { "" };
        format!("kind: {}{region}", self.word())
    }

    /// Returns the address of a server of it, as the configuration takes it.
    pub fn base(self, origin: &str) -> String {
        if self == Kind::OpenAi { format!("{origin}/v1") } else { origin.to_owned() }
    }
}

/// How a client is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `sdk.py` with this name.
    Sdk(&'static str),
    /// A program of an npm package.
    Program(Program),
}

/// The programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    ClaudeCode,
    Codex,
    Opencode,
    Gemini,
}

/// A client.
pub struct Client {
    /// Name of its row.
    pub name: &'static str,
    /// Name of its package.
    pub package: &'static str,
    pub speech: Speech,
    pub form: Form,
    /// How it is pointed here, as its row says it.
    pub pointed: &'static str,
}

/// Every client, in the order of the rows.
pub static ROSTER: [Client; 9] = [
    Client {
        name: "openai, chat",
        package: "openai",
        speech: Speech::Chat,
        form: Form::Sdk("openai-chat"),
        pointed: "`OpenAI(base_url=\"http://127.0.0.1:8080/v1\")` or `OPENAI_BASE_URL`",
    },
    Client {
        name: "openai, responses",
        package: "openai",
        speech: Speech::Responses,
        form: Form::Sdk("openai-responses"),
        pointed: "the same",
    },
    Client {
        name: "anthropic",
        package: "anthropic",
        speech: Speech::Messages,
        form: Form::Sdk("anthropic"),
        pointed: "`Anthropic(base_url=\"http://127.0.0.1:8080\")` or `ANTHROPIC_BASE_URL`",
    },
    Client {
        name: "google-genai",
        package: "google-genai",
        speech: Speech::Gemini,
        form: Form::Sdk("google-genai"),
        pointed: "`Client(http_options=HttpOptions(base_url=\"http://127.0.0.1:8080\"))`",
    },
    Client {
        name: "litellm",
        package: "litellm",
        speech: Speech::Chat,
        form: Form::Sdk("litellm"),
        pointed: "`completion(model=\"openai/chat\", api_base=\"http://127.0.0.1:8080/v1\")`",
    },
    Client {
        name: "Claude Code",
        package: "@anthropic-ai/claude-code",
        speech: Speech::Messages,
        form: Form::Program(Program::ClaudeCode),
        pointed: "`ANTHROPIC_BASE_URL`, `ANTHROPIC_API_KEY`, `ANTHROPIC_MODEL`",
    },
    Client {
        name: "Codex CLI",
        package: "@openai/codex",
        speech: Speech::Responses,
        form: Form::Program(Program::Codex),
        pointed: "`model_providers` in `config.toml`, `wire_api = \"responses\"`",
    },
    Client {
        name: "opencode",
        package: "opencode-ai",
        speech: Speech::Chat,
        form: Form::Program(Program::Opencode),
        pointed: "`provider` in `opencode.json`, `@ai-sdk/openai-compatible`",
    },
    Client {
        name: "Gemini CLI",
        package: "@google/gemini-cli",
        speech: Speech::Gemini,
        form: Form::Program(Program::Gemini),
        pointed: "`GOOGLE_GEMINI_BASE_URL`, `GEMINI_API_KEY`",
    },
];

/// What a client needs to know for one run.
pub struct Call<'a> {
    /// Bare origin.
    pub origin: &'a str,
    pub key: &'a str,
    /// The route.
    pub model: &'a str,
    /// The answer that the stand-in gives.
    pub text: &'a str,
    /// What an SDK is to do, comma-separated.
    pub steps: &'a str,
    /// A folder of its own.
    pub home: &'a Path,
    /// The proxy that refuses everything.
    pub elsewhere: &'a str,
}

const PROMPT: &str = "Say hello.";

impl Client {
    /// Returns the folder in which its package was installed.
    fn folder(&self) -> PathBuf {
        installed().join("npm").join(self.package.replace(['@', '/'], "_"))
    }

    /// Tells why it is not installed, where it is not.
    pub fn missing(&self) -> Option<String> {
        let place = match self.form {
            Form::Sdk(_) => installed().join("python").join(self.package),
            Form::Program(_) => self.folder(),
        };
        let reason = std::fs::read_to_string(place.with_extension("failed")).ok()?;
        Some(reason.lines().last().unwrap_or("no reason given").trim().to_owned())
    }

    /// Returns the pinned version.
    pub fn version(&self) -> &'static str {
        let pins = match self.form {
            Form::Sdk(_) => include_str!("requirements.txt"),
            Form::Program(_) => include_str!("packages.txt"),
        };
        let of_package = |line: &'static str| {
            let rest = line.strip_prefix(self.package)?;
            rest.strip_prefix("==").or_else(|| rest.strip_prefix('@'))
        };
        pins.lines().find_map(of_package).unwrap_or("?")
    }

    /// Returns the command of one run.
    pub fn command(&self, call: &Call<'_>) -> Command {
        let mut command = match self.form {
            Form::Sdk(name) => {
                let mut command = Command::new(installed().join("venv/bin/python"));
                command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/sdk.py"));
                command.args([name, call.steps, call.origin, call.key, call.model, call.text]);
                // litellm reads its list of prices from its own package, not from the network.
                command.env("LITELLM_LOCAL_MODEL_COST_MAP", "True");
                command
            }
            Form::Program(program) => self.program(program, call),
        };
        if let Some(path) = std::env::var_os("PATH") {
            // First what is set above, then what must not be missing: `env_clear` would undo both.
            let set: Vec<_> = command
                .as_std()
                .get_envs()
                .filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())))
                .collect();
            command.env_clear().envs(set).env("PATH", path);
        }
        command.env("HOME", call.home).env("TMPDIR", call.home).env("LANG", "C.UTF-8").current_dir(call.home);
        for name in ["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"] {
            command.env(name, call.elsewhere);
        }
        for name in ["NO_PROXY", "no_proxy"] {
            command.env(name, "127.0.0.1,localhost");
        }
        command
    }

    fn program(&self, program: Program, call: &Call<'_>) -> Command {
        let bin = |name: &str| Command::new(self.folder().join("node_modules/.bin").join(name));
        match program {
            Program::ClaudeCode => {
                let mut command = bin("claude");
                command.args(["-p", PROMPT]).envs(exports(call));
                command.env("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1").env("DISABLE_AUTOUPDATER", "1");
                command
            }
            Program::Codex => {
                let shown = block("toml", call);
                let config =
                    format!("check_for_update_on_startup = false\n{shown}\n[analytics]\nenabled = false\n");
                write(call.home, ".codex/config.toml", &config);
                let mut command = bin("codex");
                command.args(["exec", "--skip-git-repo-check", "--sandbox", "read-only", PROMPT]);
                command.env("POINTSMAN_KEY", call.key);
                command
            }
            Program::Opencode => {
                let shown = block("json", call);
                let mut config: Value = serde_json::from_str(&shown).expect("README.md shows JSON");
                config["autoupdate"] = json!(false);
                config["share"] = json!("disabled");
                write(call.home, "opencode.json", &config.to_string());
                let mut command = bin("opencode");
                command.args(["run", PROMPT]);
                command.env("OPENCODE_DISABLE_AUTOUPDATE", "1").env("OPENCODE_DISABLE_MODELS_FETCH", "1");
                command
            }
            Program::Gemini => {
                let settings = json!({
                    "security": {"auth": {"selectedType": "gemini-api-key"}},
                    "general": {"enableAutoUpdate": false, "enableAutoUpdateNotification": false},
                    "privacy": {"usageStatisticsEnabled": false},
                    "telemetry": {"enabled": false},
                });
                write(call.home, ".gemini/settings.json", &settings.to_string());
                let mut command = bin("gemini");
                command.args(["-p", PROMPT, "-m", call.model, "--skip-trust"]);
                command.env("GOOGLE_GEMINI_BASE_URL", call.origin).env("GEMINI_API_KEY", call.key);
                command
            }
        }
    }
}

const README: &str = include_str!("../../README.md");

/// Returns what README.md shows in this language, pointed at this address with this key: the last
/// block of it, as the clients come last.
fn block(language: &str, call: &Call<'_>) -> String {
    let opening = format!("```{language}\n");
    let (_, rest) = README.rsplit_once(&opening).expect("README.md has such a block");
    let (shown, _) = rest.split_once("```").expect("the block ends");
    shown.replace("http://127.0.0.1:8080", call.origin).replace("\"KEY\"", &format!("\"{}\"", call.key))
}

/// Returns the variables that README.md exports for Claude Code.
fn exports(call: &Call<'_>) -> Vec<(String, String)> {
    let shown = block("sh", call);
    let exports = shown.lines().filter_map(|line| line.strip_prefix("export ")?.split_once('='));
    let value = |value: &str| match value {
        "KEY" => call.key.to_owned(),
        // The route of the configuration that README.md shows.
        "code" => call.model.to_owned(),
        value => value.to_owned(),
    };
    exports.map(|(name, of_it)| (name.to_owned(), value(of_it))).collect()
}

/// Returns the folder into which `scripts/clients` installs.
pub fn installed() -> PathBuf {
    // CARGO_TARGET_TMPDIR is `tmp` in the target folder.
    Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("clients")
}

fn write(home: &Path, name: &str, text: &str) {
    let path = home.join(name);
    let folder = path.parent().expect("it is below the home");
    std::fs::create_dir_all(folder).expect("a folder for its settings");
    std::fs::write(path, text).expect("its settings are written");
}
