//! One binary for all black-box tests: real proxy, real sockets, scripted providers.

#![allow(missing_docs, reason = "test names say it")]

mod client_side;
mod failover;
mod first_light;
mod http2;
mod pass_through;
mod priorities;
mod rescue;
mod scene;
mod sdk;
mod stage;
