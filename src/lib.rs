//! # pointsman
//!
//! An LLM provider failover proxy for the edge. A client calls one stable address and names a
//! route; pointsman picks a provider by priority and health, rewrites path, authentication and
//! model for it, streams the answer, and moves on when it fails.
//!
//! ## The way of a request
//!
//! The modules stand in the order in which a request meets them.
//!
//! | floor | room | its question |
//! |---|---|---|
//! | 0 | [`base`] | which words do several rooms share? |
//! | 0 | [`catalog`] | what do we know of providers before anyone configures them? |
//! | 1 | [`config`] | what did the operator say, and is it sound? |
//! | 1 | [`wire`] | what do the bytes of each dialect mean? |
//! | 2 | [`authenticate`] | whose request is this? |
//! | 2 | [`parse`] | what does the body ask for, and may it be sent twice? |
//! | 2 | [`health`] | may this target be used now? |
//! | 2 | [`sign`] | which headers prove us to the provider? |
//! | 2 | [`rewrite`] | what do path, headers and body become for this target? |
//! | 2 | [`translate`] | how is what one dialect says said in another? |
//! | 2 | [`classify`] | what does this failure mean? |
//! | 3 | [`route`] | which route does this request name? |
//! | 3 | [`select`] | which targets, in which order? |
//! | 4 | [`exchange`] | what next: try, repeat, wait, move on, give up? |
//! | 5 | [`clock`] | what time is it? |
//! | 5 | [`observe`] | how is what happened told? |
//! | 5 | [`layers`] | what lies on a connection, between a session and its socket? |
//! | 5 | [`pem`] | which certificates and keys does a file hold? |
//! | 6 | [`pools`], [`resolve`], [`secrets`] | which connections, addresses and keys stand behind the names? |
//! | 6 | [`tokens`] | which token proves us now? |
//! | 7 | [`live`] | which plan is in force, and what stands behind its names? |
//! | 8 | [`reload`] | how does the next plan take over? |
//! | 9 | [`proxy`] | how do bytes move between client and provider? |
//! | 9 | [`admin`] | what may the operator see and do? |
//! | 10 | [`server`], [`standin`] | how does the process live, and what stands in for a provider? |
//! | 11 | [`demo`] | what does it look like? |
//! | 12 | [`cli`] | what does the operator type? |
//!
//! ## Invariants
//!
//! * Uses point down: a room uses only lower floors; rooms on one floor do not know each other.
//!   The words of [`base`] are everybody's.
//! * Floors 0 to 4 do no I/O: no Pingora, no tokio, no socket, file, environment, clock or random
//!   source. Time and randomness are arguments. `tests/it/house.rs` reads the source and holds
//!   this line and the one above.
//! * Only `main.rs` exits the process; only [`clock`] reads the clocks.
//! * No `unwrap`, `expect` or `panic!` outside tests; `unsafe` is forbidden, but for what the
//!   program asks its allocator by (`src/allocator.rs`, no part of this library).
//! * The core returns facts; [`observe`] tells them.
//! * A request sees one plan from its first byte to its last.
//! * The client's bytes are never changed in place; unknown fields pass byte for byte.
//! * After content went downstream an attempt never starts over visibly.
//! * A secret has no `Display`, redacts in `Debug`, enters no error, label, log or page.
//! * Everything has a limit.
//! * A bad reload changes nothing.

#![forbid(unsafe_code)]

pub mod base;
pub mod catalog;

pub mod config;
pub mod wire;

pub mod authenticate;
pub mod classify;
pub mod health;
pub mod parse;
pub mod rewrite;
pub mod sign;
pub mod translate;

pub mod route;
pub mod select;

pub mod exchange;

pub mod clock;
pub mod layers;
pub mod observe;
pub mod pem;

pub mod pools;
pub mod resolve;
pub mod secrets;
pub mod tokens;

pub mod live;
pub mod reload;

pub mod admin;
pub mod proxy;

pub mod server;
pub mod standin;

pub mod demo;

pub mod cli;
