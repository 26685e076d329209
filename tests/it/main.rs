//! One binary for all black-box tests: real proxy, real sockets, scripted providers.

#![allow(missing_docs, reason = "test names say it")]

mod corpus;
mod corpus_live;
mod exits;
mod first_light;
mod house;
mod life;
mod process;
mod reload;
mod rescue;
mod scrape;
mod sdk;
mod sdks;
mod secrets;
mod stage;
mod unit;
