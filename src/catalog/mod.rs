//! What do we know of providers before anyone configures them?
//!
//! One [`Entry`] for every word that `kind` may take (contract section 5): where it is reached,
//! which calls it takes below which path, how it wants to be proved to, in which environment
//! variables its users keep keys, its oddities and its models.
//!
//! The rows are data in Rust's own form (`data`): a wrong word does not compile, nothing is read at
//! start, nothing can be missing at run time. Every row says where its facts come from and when
//! they were read; what was never held against the provider's own pages says so, and such facts
//! decide nothing alone: a file may override each, and a believed lack only makes room for another
//! target (see [`Skills`]).

mod ability;
mod data;
mod tier;

pub use ability::{Abilities, Ability, Skills};
pub use data::models::KnownModel;
pub use tier::{Tier, pick};

use crate::base::api::{Api, Kind};

/// One word that `kind` may take.
#[derive(Debug)]
pub struct Entry {
    /// The word.
    pub name: &'static str,
    /// What sort of server it is.
    pub kind: Kind,
    /// Where it is reached, as its own SDK takes it: the first whose variables (`${NAME}`) are all
    /// set is used. One that is nothing but `${…_BRIDGE_URL}` is a bridge and wants no key.
    pub urls: &'static [&'static str],
    /// Path that is put behind the address where it does not end in it already.
    pub prefix: &'static str,
    /// Calls it takes in their own dialect; on Vertex the model decides between them.
    pub serves: &'static [Api],
    /// How it wants to be proved to.
    pub auth: Auth,
    /// Environment variables with the key; the first that is set is used.
    pub env: &'static [&'static str],
    /// Environment variable with another base URL, where its SDK reads one; zero configuration
    /// reads it too.
    pub env_base_url: Option<&'static str>,
    /// Environment variable that must be `true` before it counts as configured.
    pub switch: Option<&'static str>,
    /// Whether the server at the default address answers nobody without a key.
    pub needs_key: bool,
    /// Whether it must be spoken to in HTTP/1.1.
    pub is_http1_only: bool,
    /// Request members that it is said to refuse; told to operators (`limits.drop_params`), and never
    /// taken out of a request by itself.
    pub drop_params: &'static [&'static str],
    /// Where it stands in the fallback chain of thirteen, and how often a minute it may be asked.
    pub chain: Option<Chain>,
    /// Well-known models, the first being the one that is meant where none is named.
    pub models: &'static [KnownModel],
    /// What else is odd about it.
    pub note: &'static str,
    /// Where all this comes from.
    pub source: Source,
}

/// How a provider wants to be proved to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auth {
    /// `Authorization: Bearer KEY`.
    Bearer,
    /// `x-api-key`, or a bearer where the key is an OAuth token.
    Anthropic,
    /// The key in a header of this name.
    Header(&'static str),
    /// Not at all.
    None,
    /// AWS Signature Version 4.
    Aws,
    /// A token made from a Google service account.
    Google,
    /// A GitHub token exchanged for Copilot's own.
    Copilot,
}

impl Auth {
    /// Returns the word for lists.
    #[must_use]
    pub fn as_label(self) -> &'static str {
        match self {
            Auth::Bearer => "bearer",
            Auth::Anthropic => "x-api-key or OAuth bearer",
            Auth::Header(name) => name,
            Auth::None => "none",
            Auth::Aws => "AWS signature",
            Auth::Google => "Google service account",
            Auth::Copilot => "Copilot token exchange",
        }
    }
}

/// How a model goes on from an assistant message that the request ends with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Continues {
    /// It does not, or nobody knows.
    #[default]
    None,
    /// It goes on from it (Anthropic, vLLM).
    Prefill,
    /// It goes on where the message is marked with `"prefix": true` (Mistral, DeepSeek).
    Prefix,
}

/// A place in the fallback chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chain {
    /// 1 comes first.
    pub place: u8,
    /// Requests a minute.
    pub rpm: u32,
}

/// Where facts come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// The document.
    pub what: &'static str,
    /// The day on which it was read.
    pub read: &'static str,
    /// Whether it was held against recorded traffic or the provider's own pages.
    pub is_verified: bool,
}

/// Every word that `kind` may take, in the order in which zero configuration tries them.
pub fn entries() -> impl Iterator<Item = &'static Entry> {
    data::TABLES.iter().copied().flatten()
}

/// Finds what is known under a word.
#[must_use]
pub fn find(name: &str) -> Option<&'static Entry> {
    entries().find(|entry| entry.name == name)
}

/// Lists the members of the fallback chain in its order.
#[must_use]
pub fn chain() -> Vec<&'static Entry> {
    let mut chain: Vec<&'static Entry> = entries().filter(|entry| entry.chain.is_some()).collect();
    chain.sort_by_key(|entry| entry.chain.map(|chain| chain.place));
    chain
}

impl Entry {
    /// Returns the address that counts, and whether it is a bridge's: the first whose variables are
    /// all set. Variables stay in it as `${NAME}`.
    #[must_use]
    pub fn url(&self, is_set: &dyn Fn(&str) -> bool) -> Option<(&'static str, bool)> {
        let url = self.urls.iter().find(|url| variables(url).all(is_set))?;
        Some((url, is_bridge(url)))
    }

    /// Tells whether a variable of this value counts as set: a switch must be `true`.
    #[must_use]
    pub fn counts(&self, name: &str, value: Option<&str>) -> bool {
        value.is_some_and(|value| {
            !value.trim().is_empty() && (self.switch != Some(name) || value.trim() == "true")
        })
    }

    /// Returns the address that needs no variable, where there is one.
    #[must_use]
    pub fn fixed_url(&self) -> Option<&'static str> {
        self.urls.iter().copied().find(|url| variables(url).next().is_none())
    }

    /// Lists ways to configure it from the environment that are not taken yet, each as the names
    /// that are missing together; nothing where it is configured.
    #[must_use]
    pub fn missing(&self, is_set: &dyn Fn(&str) -> bool) -> Option<String> {
        let mut missing: Vec<String> =
            self.switch.filter(|name| !is_set(name)).map(str::to_owned).into_iter().collect();
        let url = self.url(is_set);
        if url.is_none() {
            let ways = self
                .urls
                .iter()
                .map(|url| variables(url).filter(|name| !is_set(name)).collect::<Vec<_>>().join(" and "));
            missing.push(either(ways));
        }
        let is_bridge = url.is_some_and(|(_, is_bridge)| is_bridge);
        if self.needs_key && !is_bridge && !self.env.iter().any(|name| is_set(name)) {
            missing.push(either(self.env.iter().map(|name| (*name).to_owned())));
        }
        missing.retain(|names| !names.is_empty());
        (!missing.is_empty()).then(|| missing.join(" and "))
    }
}

fn either(ways: impl Iterator<Item = String>) -> String {
    ways.filter(|way| !way.is_empty()).collect::<Vec<_>>().join(" or ")
}

/// Tells whether an address is nothing but a bridge's variable.
fn is_bridge(url: &str) -> bool {
    url.starts_with("${") && url.ends_with("_BRIDGE_URL}")
}

/// Lists the variables in an address.
pub fn variables(url: &'static str) -> impl Iterator<Item = &'static str> {
    url.split("${").skip(1).filter_map(|rest| rest.split_once('}')).map(|(name, _)| name)
}

#[cfg(test)]
mod tests;
