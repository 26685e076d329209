//! Placeholder.
pub mod retry_hint;
