//! One binary for all black-box tests: real proxy, real sockets, scripted providers.

#![allow(missing_docs, reason = "test names say it")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod demo;
mod first_light;
mod ops;
mod readme;
mod rescue;
mod sdk;
mod stage;
