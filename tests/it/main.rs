//! One binary for all black-box tests: real proxy, real sockets, scripted providers.

#![allow(missing_docs, reason = "test names say it")]

mod corpus;
mod first_light;
mod matrix;
mod rescue;
mod sdk;
mod stage;
