//! Placeholder until the wire room arrives.
use std::time::Duration;
/// Hint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum RetryHint {
    /// None.
    #[default]
    None,
    /// After.
    After(Duration),
    /// Absurd.
    Absurd,
}
