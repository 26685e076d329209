//! One binary for all black-box tests: real proxy, real sockets, scripted providers.

#![allow(missing_docs, reason = "test names say it")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails; the lint sees tests in test functions only"
)]
#![allow(clippy::disallowed_methods, reason = "tests watch the program by a clock of their own")]

mod agreement;
mod audit;
#[cfg(feature = "bedrock")]
mod aws;
mod bombs;
mod carried;
mod classifier;
mod client_side;
mod config_page;
mod contract;
mod corpus;
mod corpus_live;
mod corpus_page;
mod corpus_sdk;
mod corpus_table;
mod deadline;
mod decisions;
mod demo;
mod described;
mod edge;
mod events;
mod exits;
mod eyeballs;
mod failover;
mod filtered;
mod first_light;
mod framing;
#[cfg(feature = "bedrock")]
mod fuzzed;
mod guards;
mod handshakes;
mod hedge;
mod house;
mod http2;
mod keys;
mod kinds;
mod life;
mod losses;
mod matrix;
mod ops;
mod papers;
mod pass_through;
mod pass_through_faults;
mod presets;
mod priorities;
mod process;
mod provider_page;
mod providers;
mod readme;
mod recordings;
mod refusals;
mod reload;
mod rescue;
mod scene;
mod scrape;
mod sdk;
mod sdks;
mod secrets;
mod slow;
mod stage;
mod states;
mod tokens;
mod tongues;
#[cfg(feature = "top")]
mod top;
mod translate;
mod translate_clouds;
mod unit;
mod upgrade;
mod upgrade_by_socket;
mod uploads;
mod usage;
mod verbs;
mod warm;
mod words;
