//! Stub.
use crate::server::Keeper;
/// Stub.
pub fn demo(_keeper: Keeper, _duration: Option<std::time::Duration>) -> Result<u64, String> {
    Err("no".to_owned())
}
