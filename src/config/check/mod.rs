//! Does what the file says fit together?
//!
//! [`check`] takes the [`File`] and the outside, resolves every name and secret, and builds the
//! [`Plan`]. Each room below looks at one part and notes every fault it finds with its path; none
//! stops the others, and a thing that was refused already is passed over in silence, so that one
//! mistake is one message.
//!
//! Order: secrets and texts are resolved where they stand, `serve` looks at addresses and
//! clients, `providers` at servers, keys and models, `routes` at everything that names them.

mod cloud;
mod credentials;
mod manners;
mod models;
mod providers;
mod routes;
mod serve;
pub mod url;

use super::fault::Faults;
use super::file::File;
use super::path::{KeyPath, looks_secret};
use super::plan::{Plan, Setting};
use super::reference::{Outside, SecretRef, is_variable_name};
use crate::base::secret::Secret;
use crate::catalog::Entry;
use std::sync::Arc;

/// What every check needs.
pub(super) struct Bench<'a> {
    /// Where faults go.
    pub(super) faults: &'a Faults,
    /// Where secrets and variables come from.
    pub(super) outside: &'a dyn Outside,
    /// Whether only its owner can read the file.
    pub(super) is_private: bool,
    /// What is written in it.
    pub(super) settings: Arc<[Setting]>,
}

/// Builds the plan; what it returns is only good when no error was noted.
pub(super) fn check(bench: &Bench<'_>, file: File) -> Plan {
    let (listen, admin, clients) = serve::check(bench, file.listen, &file.admin, file.clients);
    let inventory = providers::check(bench, file.providers, file.timeouts, &file.patterns);
    let mut directory = routes::Directory::new(&inventory);
    directory.add_written(bench, &file.routes, file.translation);
    if file.implicit_routes {
        directory.add_implicit(file.translation);
    }
    let default_route = directory.find_default(bench, file.default_route.as_deref());
    serve::check_client_routes(bench, &clients, |name| directory.knows(name));
    let has_routes = directory.finish(bench, file.implicit_routes);
    let audit = file.audit.and_then(|(at, path)| bench.audit_path(&at, &path));
    Plan {
        threads: file.threads,
        grace: file.grace,
        listen,
        admin,
        clients: clients.into_iter().map(|(_, client)| client).collect(),
        targets: has_routes.targets,
        routes: has_routes.routes,
        route_names: has_routes.names,
        providers: inventory.providers,
        left_out: inventory.left_out,
        endpoints: inventory.endpoints,
        credentials: inventory.credentials,
        default_route,
        implicit_routes: file.implicit_routes,
        translation: file.translation,
        retry: file.retry,
        breaker: file.breaker.policy,
        permanent: file.breaker.permanent,
        cooldown: file.cooldown,
        rescue: file.rescue,
        hedge: file.hedge,
        pool: file.pool,
        limits: file.limits,
        log: file.log,
        audit,
        settings: bench.settings.clone(),
        usage: file.usage,
        state: serve::check_state(bench, &file.state),
    }
}

impl Bench<'_> {
    /// Fetches a secret; its faults name the place and never the secret.
    fn secret(&self, at: &KeyPath, place: &SecretRef) -> Option<Secret> {
        if let SecretRef::Literal(secret) = place {
            if self.is_private {
                self.faults.warning(
                    at,
                    "the secret itself stands in the file; {env: NAME}, {file: PATH} or {credential: NAME} keeps it out",
                );
                return Some(secret.clone());
            }
            self.faults.error(
                at,
                "a secret stands in a file that others can read; write {env: NAME} or {file: PATH}, or run chmod 600 on the file",
            );
            return None;
        }
        match self.outside.secret(place) {
            Ok(secret) => Some(secret),
            Err(why) => {
                self.faults.error(at, format!("{} {why}", place.describe()));
                None
            }
        }
    }

    /// Puts variables of the environment in place of `${NAME}`.
    fn expand(&self, at: &KeyPath, text: &str) -> Option<String> {
        let mut result = String::with_capacity(text.len());
        let mut rest = text;
        let mut is_whole = true;
        while let Some((before, after)) = rest.split_once("${") {
            result.push_str(before);
            let Some((name, behind)) = after.split_once('}') else {
                self.faults.error(at, "has ${ without a closing }");
                return None;
            };
            rest = behind;
            if !is_variable_name(name) || looks_secret(name) {
                self.faults
                    .error(at, "has something in ${…} that is not the name of an environment variable");
                is_whole = false;
                continue;
            }
            if let Some(value) = self.outside.env(name).filter(|value| !value.is_empty()) {
                result.push_str(&value);
            } else {
                self.faults.error(at, format!("environment variable {name} is not set"));
                is_whole = false;
            }
        }
        result.push_str(rest);
        is_whole.then_some(result)
    }

    /// Tells whether a variable counts as set for a kind.
    fn is_set(&self, entry: &Entry, name: &str) -> bool {
        entry.counts(name, self.outside.env(name).as_deref())
    }

    /// Returns the first variable of a text that is not set.
    fn unset_variable(&self, text: &str) -> Option<String> {
        let names = text.split("${").skip(1).filter_map(|rest| rest.split_once('}')).map(|(name, _)| name);
        let mut unset = names
            .filter(|name| is_variable_name(name) && !looks_secret(name))
            .filter(|name| self.outside.env(name).is_none_or(|value| value.is_empty()));
        unset.next().map(str::to_owned)
    }

    /// Returns the variable of a key that is not set.
    fn unset_key(&self, place: &SecretRef) -> Option<String> {
        match place {
            SecretRef::Env(name) => {
                self.outside.env(name).is_none_or(|value| value.trim().is_empty()).then(|| name.clone())
            }
            SecretRef::File(_) | SecretRef::Credential(_) | SecretRef::Command(_) | SecretRef::Literal(_) => {
                None
            }
        }
    }

    /// Reads the path of the audit log, which must be a file that can be written.
    fn audit_path(&self, at: &KeyPath, text: &str) -> Option<std::path::PathBuf> {
        let path = self.file_path(at, text)?;
        if !path.is_absolute() {
            self.faults.error(at, "must be an absolute path, such as /var/log/pointsman/audit.log");
            return None;
        }
        if let Err(why) = self.outside.may_append(&path) {
            self.faults.error(
                at,
                format!("{} {why}; name a file that the service's account may write", path.display()),
            );
            return None;
        }
        Some(path)
    }

    /// Reads a path to a file: variables expanded, nothing else looked at.
    fn file_path(&self, at: &KeyPath, text: &str) -> Option<std::path::PathBuf> {
        let text = self.expand(at, text)?;
        if text.chars().any(char::is_control) {
            self.faults.error(at, "holds a control character");
            return None;
        }
        Some(text.into())
    }
}
