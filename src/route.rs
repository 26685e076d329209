//! Which route does this request name?
//!
//! Two questions, both answered from text alone: [`endpoint()`] says what sort of request a method
//! and a path are (contract section 3), [`resolve`] what the `model` in its body names.
//!
//! A model is looked up in this order (design.md section 4, rule 4):
//!
//! 1. a route of the file with exactly this name;
//! 2. `provider/rest`, where the first segment is a configured provider: that provider's model
//!    `rest` with its credentials in order and no failover to other targets;
//! 3. an implicit route: a model that configured providers list or the catalogue gives them;
//! 4. the default route, also for an empty model and for `auto`;
//! 5. nothing: 404 with the nearest names.
//!
//! Steps 2 and 3 exist only with `implicit_routes: true`. Step 2 comes before step 3 because
//! `groq` may list a model called `openai/gpt-oss-120b`: who writes a provider's name means it.
//!
//! A model is an untrusted string (threat C2). It is only ever a key of a map; what step 2 passes
//! on is at most [`MODEL_BYTES_MAX`] bytes of `[A-Za-z0-9._:/@+-]` without dot segments, and a
//! name with control characters, or longer than that, names nothing, not even the default route.

mod endpoint;
#[cfg(test)]
pub(crate) mod fixture;

pub use endpoint::{ALLOW_ANY, Call, Endpoint, InPath, endpoint, is_passed_through};

use crate::base::ids::{ProviderIdx, RouteIdx};
use crate::config::plan::Plan;

/// Longest model name that is looked at. The longest real ones (fine-tuned models, inference
/// profile ARNs) stay under 200.
pub const MODEL_BYTES_MAX: usize = 256;

/// Most names that an [`Unknown`] suggests.
const NEAREST_MAX: usize = 3;

/// Least likeness (Jaro-Winkler, 0 to 1) of a name that is suggested: `gpt-5o` finds `gpt-5`,
/// `hello` finds nothing.
const NEAREST_LIKENESS: f64 = 0.8;

/// What a model names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named {
    /// A route of the plan.
    Route(RouteIdx),
    /// One model of one provider, with that provider's credentials in order.
    Direct {
        /// The provider.
        provider: ProviderIdx,
        /// The provider's name for the model, as the client wrote it.
        model: String,
    },
}

/// A model that names nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown {
    /// Names that were perhaps meant, the likeliest first; at most three.
    pub nearest: Vec<String>,
}

/// Finds what `model` names.
///
/// # Errors
/// [`Unknown`] where nothing has this name and there is no default route.
pub fn resolve(plan: &Plan, model: Option<&str>) -> Result<Named, Unknown> {
    let model = model.unwrap_or_default();
    if model.len() > MODEL_BYTES_MAX || model.chars().any(char::is_control) {
        return Err(Unknown { nearest: Vec::new() });
    }
    let exact = plan.route_names.get(model).copied();
    let direct = plan.implicit_routes.then(|| direct(plan, model)).flatten();
    match (exact, direct) {
        (Some(route), None) => return Ok(Named::Route(route)),
        (Some(route), Some((provider, rest))) if comes_before_direct(plan, route, provider, rest) => {
            return Ok(Named::Route(route));
        }
        (_, Some((provider, rest))) => return Ok(Named::Direct { provider, model: rest.to_owned() }),
        (None, None) => {}
    }
    plan.default_route.map(Named::Route).ok_or_else(|| Unknown { nearest: nearest(plan, model, |_| true) })
}

/// Lists the names of routes most like `model`, the likeliest first, at most three. Only names
/// that `is_allowed` are told, so that a client does not learn of routes it may not use.
pub fn nearest(plan: &Plan, model: &str, is_allowed: impl Fn(&str) -> bool) -> Vec<String> {
    if model.is_empty() || model.len() > MODEL_BYTES_MAX {
        return Vec::new();
    }
    let model = model.to_lowercase();
    let mut found: Vec<(f64, &str)> = plan
        .route_names
        .keys()
        .filter(|name| is_allowed(name))
        .map(|name| (strsim::jaro_winkler(&model, &name.to_lowercase()), name.as_ref()))
        .filter(|(likeness, _)| *likeness >= NEAREST_LIKENESS)
        .collect();
    // The name decides between equals: the map's own order changes from start to start.
    found.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(b.1)));
    found.into_iter().take(NEAREST_MAX).map(|(_, name)| name.to_owned()).collect()
}

/// A route of the file always comes first; an implicit one only where it is that very model of
/// that very provider, and then it has health and counters of its own already.
fn comes_before_direct(plan: &Plan, route: RouteIdx, provider: ProviderIdx, model: &str) -> bool {
    let route = plan.route(route);
    let mut targets = route.groups.iter().flat_map(|group| &group.entries).flat_map(|entry| &entry.targets);
    !route.is_implicit
        || targets.all(|at| {
            let target = plan.target(*at);
            target.provider == provider && *target.model == *model
        })
}

/// Splits `provider/rest` where the first segment is a configured provider.
fn direct<'m>(plan: &Plan, model: &'m str) -> Option<(ProviderIdx, &'m str)> {
    let (first, rest) = model.split_once('/')?;
    let at = (0u32..).zip(&plan.providers).find(|(_, provider)| *provider.name == *first)?.0;
    may_be_passed_on(rest).then_some((ProviderIdx(at), rest))
}

fn may_be_passed_on(model: &str) -> bool {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"._:/@+-".contains(&b);
    !model.is_empty()
        && model.bytes().all(is_plain)
        && model.split('/').all(|segment| !matches!(segment, "" | "." | ".."))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `groq` lists a model that looks like one of the provider `openai`.
    fn plan() -> Plan {
        fixture::plan(
            &["openai", "groq"],
            &[
                ("chat", false, &[("openai", "gpt-4o")]),
                ("openai/pinned", false, &[("groq", "llama")]),
                ("gpt-4o", true, &[("openai", "gpt-4o")]),
                ("openai/gpt-4o", true, &[("openai", "gpt-4o")]),
                ("openai/gpt-oss-120b", true, &[("groq", "openai/gpt-oss-120b")]),
            ],
        )
    }

    /// `Route` by name, or `Direct` as `provider -> model`.
    fn told(plan: &Plan, model: Option<&str>) -> Result<String, Vec<String>> {
        match resolve(plan, model) {
            Ok(Named::Route(at)) => Ok(plan.route(at).name.to_string()),
            Ok(Named::Direct { provider, model }) => {
                Ok(format!("{} -> {model}", plan.provider(provider).name))
            }
            Err(Unknown { nearest }) => Err(nearest),
        }
    }

    #[test]
    fn a_model_is_looked_up_in_the_order_of_the_rule() {
        let plan = plan();
        for (model, want, why) in [
            ("chat", "chat", "the route's own name"),
            ("openai/pinned", "openai/pinned", "a route of the file beats provider/model"),
            ("gpt-4o", "gpt-4o", "a known model is a route of its own"),
            ("openai/gpt-4o", "openai/gpt-4o", "the implicit route of that very model"),
            ("openai/gpt-oss-120b", "openai -> gpt-oss-120b", "a provider's name is meant"),
            ("groq/openai/gpt-oss-120b", "groq -> openai/gpt-oss-120b", "models may hold slashes"),
            ("groq/@cf/meta/llama-3.1:8b", "groq -> @cf/meta/llama-3.1:8b", "and odd characters"),
        ] {
            assert_eq!(told(&plan, Some(model)), Ok(want.to_owned()), "{model}: {why}");
        }
    }

    #[test]
    fn without_implicit_routes_only_the_files_routes_have_names() {
        let mut plan = fixture::plan(&["openai"], &[("chat", false, &[("openai", "gpt-4o")])]);
        plan.implicit_routes = false;
        assert_eq!(told(&plan, Some("chat")), Ok("chat".to_owned()));
        assert_eq!(told(&plan, Some("openai/gpt-4o")), Err(vec![]));
    }

    #[test]
    fn what_nothing_names_goes_to_the_default_route_if_there_is_one() {
        let mut plan = plan();
        for model in [None, Some(""), Some("auto"), Some("mistral-large"), Some("openai/"), Some("my model")]
        {
            assert!(told(&plan, model).is_err(), "{model:?} without a default");
        }
        plan.default_route = Some(RouteIdx(0));
        for model in [None, Some(""), Some("auto"), Some("mistral-large"), Some("openai/"), Some("my model")]
        {
            assert_eq!(told(&plan, model), Ok("chat".to_owned()), "{model:?} with a default");
        }
    }

    #[test]
    fn a_hostile_model_is_never_passed_on_and_never_a_route() {
        let mut plan = plan();
        plan.default_route = Some(RouteIdx(0));
        let long = "x".repeat(MODEL_BYTES_MAX + 1);
        for model in ["gpt\u{0}4o", "a\r\nb", "\u{1b}[31m", "\u{85}", long.as_str()] {
            assert_eq!(told(&plan, Some(model)), Err(vec![]), "{model:?}");
        }
        for model in
            ["openai/../admin", "openai/a/../b", "openai//x", "openai/x y", "openai/%2e", "openai/x?y#z"]
        {
            assert_eq!(told(&plan, Some(model)), Ok("chat".to_owned()), "{model:?} is not passed on");
        }
    }

    #[test]
    fn the_nearest_names_are_told_likeliest_first_and_only_the_allowed_ones() {
        let plan = plan();
        assert_eq!(told(&plan, Some("GPT-4")).unwrap_err().first().map(String::as_str), Some("gpt-4o"));
        assert_eq!(told(&plan, Some("chta")), Err(vec!["chat".to_owned()]));
        assert_eq!(told(&plan, Some("zzz")), Err(vec![]));
        assert!(nearest(&plan, "gpt-4", |name| name != "gpt-4o").iter().all(|name| name != "gpt-4o"));
        assert!(nearest(&plan, "openai/gpt", |_| true).len() <= NEAREST_MAX);
    }
}
