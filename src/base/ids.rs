//! Identities: indices into one plan, and the name a target keeps from plan to plan.
//!
//! Indices are only good together with the plan that issued them; [`TargetId`] is what survives a
//! reload, appears in metrics and logs, and is typed by operators: `provider/credential/model`.

use std::fmt;
use std::sync::Arc;

macro_rules! index {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u32);

        impl $name {
            /// Returns the index for use with a slice of the same plan.
            #[must_use]
            pub fn at(self) -> usize {
                self.0 as usize
            }
        }
    };
}

index!(
    /// A provider of the plan.
    ProviderIdx
);
index!(
    /// A credential of the plan.
    CredentialIdx
);
index!(
    /// An endpoint (host and port) of the plan.
    EndpointIdx
);
index!(
    /// A target of the plan.
    TargetIdx
);
index!(
    /// A route of the plan.
    RouteIdx
);
index!(
    /// A client of the plan.
    ClientIdx
);

/// The lasting name of a target: `provider/credential/model`; the model may hold slashes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TargetId(pub Arc<str>);

impl TargetId {
    /// Joins the three names.
    #[must_use]
    pub fn new(provider: &str, credential: &str, model: &str) -> Self {
        TargetId(format!("{provider}/{credential}/{model}").into())
    }

    /// Returns the name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TargetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
