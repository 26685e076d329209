//! Which of the things that can be asked does a method and a path ask?
//!
//! A target's id may stand in the path raw or percent-encoded, and holds slashes and colons
//! (`ollama/main/llama3:8b`), so everything behind `/v1/targets/` is decoded first and the verb is
//! what follows the last colon. A trailing slash is the same path; `HEAD` is `GET`.

use super::page::Asset;
use super::view::Verb;
use crate::base::percent;

/// What can be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    Live,
    Ready,
    Metrics,
    Page(Asset),
    Status,
    Routes,
    Targets,
    Target(String),
    Config,
    Events,
    OpenApi,
    Reload,
    /// Going back to the configuration before.
    Restore,
    Act(String, Verb),
    ProvidersStatus,
    Usage,
    ReportUsage,
    Accounts,
    ResetProvider {
        model: String,
        provider: String,
    },
    Decisions,
    Decision(String),
    Explain,
}

/// Why a method and a path ask nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lost {
    NotFound,
    MalformedPath,
    MethodNotAllowed(&'static str),
}

const ALLOW_READ: &str = "GET, HEAD";
pub(super) const ALLOW_WRITE: &str = "POST";

impl Ask {
    /// Heeds what the query says.
    pub(super) fn with_query(self, query: Option<&str>) -> Ask {
        let is_back = query.is_some_and(|query| query.split('&').any(|pair| pair == "previous=true"));
        if self == Ask::Reload && is_back { Ask::Restore } else { self }
    }

    /// Whether it changes something.
    pub(super) fn is_writing(&self) -> bool {
        self.deed().is_some()
    }

    /// Whether it is asked by `POST`: what changes something, and what is asked with a body.
    fn is_posted(&self) -> bool {
        self.is_writing() || *self == Ask::Explain
    }

    /// What a writing one does in one word, and to what; nothing for one that reads.
    pub(super) fn deed(&self) -> Option<(&'static str, Option<String>)> {
        match self {
            Ask::Reload | Ask::Restore => Some(("reload", None)),
            Ask::ReportUsage => Some(("report_usage", None)),
            Ask::Act(id, verb) => Some((verb.as_label(), Some(id.clone()))),
            Ask::ResetProvider { model, provider } => {
                Some((Verb::Reset.as_label(), Some(format!("{provider}/{model}"))))
            }
            Ask::Live
            | Ask::Ready
            | Ask::Metrics
            | Ask::Page(_)
            | Ask::Status
            | Ask::Routes
            | Ask::Targets
            | Ask::Target(_)
            | Ask::Config
            | Ask::Events
            | Ask::OpenApi
            | Ask::Usage
            | Ask::Accounts
            | Ask::Decisions
            | Ask::Decision(_)
            | Ask::Explain
            | Ask::ProvidersStatus => None,
        }
    }
}

/// Returns a parameter of a query, decoded; the first where it stands there twice.
pub(super) fn parameter(query: Option<&str>, name: &str) -> Option<String> {
    let mut pairs = query?.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let (_, value) = pairs.find(|(key, _)| *key == name)?;
    // A malformed escape is no word that anybody expects, and is told as such.
    Some(percent::decode_utf8(&value.replace('+', "%20")).map_or_else(|| value.to_owned(), Into::into))
}

/// Finds what a method and a path (without the query) ask.
pub(super) fn read(method: &str, path: &str) -> Result<Ask, Lost> {
    let path = percent::decode_utf8(path).ok_or(Lost::MalformedPath)?;
    let path = path.strip_suffix('/').unwrap_or(&path);
    let fixed = match path {
        "/livez" => Some(Ask::Live),
        "/readyz" => Some(Ask::Ready),
        "/metrics" => Some(Ask::Metrics),
        "/v1/status" => Some(Ask::Status),
        "/v1/routes" => Some(Ask::Routes),
        "/v1/targets" => Some(Ask::Targets),
        "/v1/config" => Some(Ask::Config),
        "/v1/events" => Some(Ask::Events),
        "/v1/openapi.json" => Some(Ask::OpenApi),
        "/v1/reload" => Some(Ask::Reload),
        "/v1/usage" => Some(Ask::Usage),
        "/v1/usage/reports" => Some(Ask::ReportUsage),
        "/v1/accounts" => Some(Ask::Accounts),
        "/v1/decisions" => Some(Ask::Decisions),
        "/v1/explain" => Some(Ask::Explain),
        "/admin/providers/status" => Some(Ask::ProvidersStatus),
        _ => Asset::at(path).map(Ask::Page),
    };
    if let Some(ask) = fixed {
        return by_method(method, ask);
    }
    if let Some(rest) = path.strip_prefix("/v1/targets/") {
        return below_targets(method, rest);
    }
    if let Some(id) = path.strip_prefix("/v1/decisions/") {
        return by_method(method, Ask::Decision(id.to_owned()));
    }
    let reset = path.strip_prefix("/admin/providers/").and_then(|rest| rest.strip_suffix("/reset"));
    match reset.and_then(|rest| rest.rsplit_once('/')) {
        Some((model, provider)) if !model.is_empty() && !provider.is_empty() => {
            by_method(method, Ask::ResetProvider { model: model.to_owned(), provider: provider.to_owned() })
        }
        _ => Err(Lost::NotFound),
    }
}

/// Parts what stands below `/v1/targets/` into a target and a verb.
pub(super) fn act_in(rest: &str) -> Option<(&str, Verb)> {
    rest.rsplit_once(':').and_then(|(id, word)| Some((id, Verb::from_word(word)?)))
}

/// What is read may end like a verb; the method decides, and then whether there is such a target.
fn below_targets(method: &str, rest: &str) -> Result<Ask, Lost> {
    match (method, act_in(rest)) {
        ("GET" | "HEAD", _) => Ok(Ask::Target(rest.to_owned())),
        ("POST", Some((id, verb))) => Ok(Ask::Act(id.to_owned(), verb)),
        // Without a colon no verb was meant; with one, one that is not there.
        ("POST", None) if rest.contains(':') => Err(Lost::NotFound),
        (_, Some(_)) => Err(Lost::MethodNotAllowed(ALLOW_WRITE)),
        (_, None) => Err(Lost::MethodNotAllowed(ALLOW_READ)),
    }
}

fn by_method(method: &str, ask: Ask) -> Result<Ask, Lost> {
    let (is_allowed, allow) = if ask.is_posted() {
        (method == "POST", ALLOW_WRITE)
    } else {
        (matches!(method, "GET" | "HEAD"), ALLOW_READ)
    };
    if is_allowed { Ok(ask) } else { Err(Lost::MethodNotAllowed(allow)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_listed_is_not_found_and_wrong_methods_are_told_the_right_ones() {
        for (method, path, want) in [
            ("GET", "/", Lost::NotFound),
            ("GET", "/v1", Lost::NotFound),
            ("GET", "/v1/targetsx", Lost::NotFound),
            ("POST", "/v1/targets/a/b/c:explode", Lost::NotFound),
            ("POST", "/v1/targets/a/b/c", Lost::MethodNotAllowed("GET, HEAD")),
            ("POST", "/admin/providers/reset", Lost::NotFound),
            ("POST", "/admin/providers/x/reset", Lost::NotFound),
            ("POST", "/admin/providers//x/reset", Lost::NotFound),
            ("GET", "/v1/targets/%zz", Lost::MalformedPath),
            ("GET", "/v1/targets/%ff", Lost::MalformedPath),
            ("GET", "/ui/index.html", Lost::NotFound),
            ("POST", "/ui", Lost::MethodNotAllowed("GET, HEAD")),
            ("POST", "/v1/status", Lost::MethodNotAllowed("GET, HEAD")),
            ("OPTIONS", "/metrics", Lost::MethodNotAllowed("GET, HEAD")),
            ("GET", "/v1/reload", Lost::MethodNotAllowed("POST")),
            ("GET", "/v1/usage/reports", Lost::MethodNotAllowed("POST")),
            ("GET", "/v1/explain", Lost::MethodNotAllowed("POST")),
            ("POST", "/v1/decisions/x", Lost::MethodNotAllowed("GET, HEAD")),
            ("DELETE", "/v1/targets/a/b/c", Lost::MethodNotAllowed("GET, HEAD")),
            ("PUT", "/v1/targets/a/b/c:drain", Lost::MethodNotAllowed("POST")),
            ("GET", "/admin/providers/m/p/reset", Lost::MethodNotAllowed("POST")),
        ] {
            assert_eq!(read(method, path), Err(want), "{method} {path}");
        }
    }

    #[test]
    fn a_query_turns_a_reload_into_a_step_back_and_nothing_else() {
        for (ask, query, want) in [
            (Ask::Reload, Some("previous=true"), Ask::Restore),
            (Ask::Reload, Some("a=b&previous=true"), Ask::Restore),
            (Ask::Reload, Some("previous=false"), Ask::Reload),
            (Ask::Reload, None, Ask::Reload),
            (Ask::Status, Some("previous=true"), Ask::Status),
        ] {
            assert_eq!(ask.with_query(query), want, "{query:?}");
        }
        assert!(Ask::Restore.is_writing());
    }

    #[test]
    fn ids_stand_raw_or_encoded_and_the_verb_follows_the_last_colon() {
        let act = |id: &str, verb| Ask::Act(id.to_owned(), verb);
        for (method, path, want) in [
            ("POST", "/v1/targets/openai/work/gpt-4o:drain", act("openai/work/gpt-4o", Verb::Drain)),
            ("POST", "/v1/targets/openai%2Fwork%2fgpt-4o:disable", act("openai/work/gpt-4o", Verb::Disable)),
            ("POST", "/v1/targets/ollama/main/llama3:8b:ready", act("ollama/main/llama3:8b", Verb::Ready)),
            (
                "POST",
                "/v1/targets/ollama%2Fmain%2Fllama3%3A8b%3Areset/",
                act("ollama/main/llama3:8b", Verb::Reset),
            ),
            (
                "GET",
                "/v1/targets/groq/main/openai/gpt-oss",
                Ask::Target("groq/main/openai/gpt-oss".to_owned()),
            ),
            ("HEAD", "/v1/targets/a/b/c:drain", Ask::Target("a/b/c:drain".to_owned())),
        ] {
            assert_eq!(read(method, path), Ok(want), "{method} {path}");
        }
    }

    #[test]
    fn a_parameter_is_found_by_its_whole_name_and_decoded() {
        for (query, name, want) in [
            (None, "for", None),
            (Some(""), "for", None),
            (Some("before=1&for=30m"), "for", Some("30m")),
            (Some("for"), "for", Some("")),
            (Some("route=a%2Fb+c&route=d"), "route", Some("a/b c")),
            (Some("route=%zz"), "route", Some("%zz")),
            (Some("a=b=c"), "a", Some("b=c")),
        ] {
            assert_eq!(parameter(query, name).as_deref(), want, "{query:?}");
        }
    }

    #[test]
    fn every_fixed_path_is_found_with_and_without_a_trailing_slash() {
        let reset = Ask::ResetProvider { model: "a/b".to_owned(), provider: "openai".to_owned() };
        for (method, path, want) in [
            ("GET", "/livez", Ask::Live),
            ("HEAD", "/readyz", Ask::Ready),
            ("GET", "/metrics", Ask::Metrics),
            ("GET", "/ui", Ask::Page(Asset::Page)),
            ("HEAD", "/ui/app.js", Ask::Page(Asset::Script)),
            ("GET", "/ui/style.css", Ask::Page(Asset::Style)),
            ("GET", "/v1/status", Ask::Status),
            ("GET", "/v1/routes", Ask::Routes),
            ("GET", "/v1/targets", Ask::Targets),
            ("GET", "/v1/config", Ask::Config),
            ("GET", "/v1/events", Ask::Events),
            ("GET", "/v1/openapi.json", Ask::OpenApi),
            ("POST", "/v1/reload", Ask::Reload),
            ("GET", "/v1/usage", Ask::Usage),
            ("POST", "/v1/usage/reports", Ask::ReportUsage),
            ("GET", "/v1/accounts", Ask::Accounts),
            ("GET", "/v1/decisions", Ask::Decisions),
            ("GET", "/v1/decisions/0199-a.b_c", Ask::Decision("0199-a.b_c".to_owned())),
            ("POST", "/v1/explain", Ask::Explain),
            ("GET", "/admin/providers/status", Ask::ProvidersStatus),
            ("POST", "/admin/providers/a/b/openai/reset", reset),
        ] {
            assert_eq!(read(method, path), Ok(want.clone()), "{method} {path}");
            assert_eq!(read(method, &format!("{path}/")), Ok(want), "{method} {path}/");
        }
    }
}
