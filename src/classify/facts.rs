//! Placeholder.
use http::HeaderMap;

use super::ProviderType;

pub(super) struct Facts;

impl Facts {
    pub(super) fn read(_headers: &HeaderMap, _body: &[u8]) -> Self {
        Facts
    }
    pub(super) fn status(&self) -> Option<u16> {
        None
    }
    pub(super) fn provider_type(&self) -> Option<ProviderType> {
        None
    }
}
