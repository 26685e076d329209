//! What do real clients make of us?
//!
//! SDKs and command-line programs as their users install them, each through the real pointsman at
//! stand-in providers of our own: a plain answer, a streamed one, a 429 of the first target that
//! the client must not notice, a tool call, the lists that it reads, and a provider of another
//! dialect behind the route. One table, printed and with `--write` kept in `docs/clients.md`; the
//! program fails when a cell does.
//!
//! A cell is good when the client says what the stand-in said, every call was answered 200, the
//! stand-ins got the calls that the cell wants, and the client's own key reached none of them.
//! `not yet` is our own `capability_not_supported`, asked for by a call of the least form before the
//! client runs. What could not be installed has its reason in the table.
//!
//! It wants what `scripts/clients` installs, so it does nothing without `--run`: `make clients`.
//! Other arguments: `--write`, and names of rows. `POINTSMAN_BIN` names another program to be judged.

#![allow(missing_docs, clippy::expect_used, clippy::panic, reason = "a test")]

mod cell;
mod page;
#[path = "../scenarios/process.rs"]
#[allow(dead_code, reason = "the scenarios read metrics too")]
mod process;
mod roster;
mod tap;
mod tools;

use std::process::ExitCode;

use cell::{CELLS, Cell, Played, Verdict};
use page::Row;
use roster::ROSTER;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    // Under a test runner, which asks for `--list` or runs everything, there is nothing to do here.
    if !has("--run") {
        return ExitCode::SUCCESS;
    }
    let only: Vec<String> = arguments.iter().filter(|a| !a.starts_with("--")).cloned().collect();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let (rows, bedrock) = runtime.block_on(play(&only));
    if has("--write") {
        if !only.is_empty() {
            eprintln!("--write wants all rows; docs/clients.md stays as it is");
            return ExitCode::FAILURE;
        }
        page::write(&rows, &bedrock);
    }
    let failures = rows.iter().flat_map(|row| &row.verdicts).filter(|verdict| verdict.is_failure()).count();
    println!("{failures} cells failed");
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn play(only: &[String]) -> (Vec<Row>, String) {
    let is_meant = |name: &str| only.is_empty() || only.iter().any(|only| name.starts_with(only.as_str()));
    let mut rows = Vec::new();
    println!("{}", page::head());
    for client in ROSTER.iter().filter(|client| is_meant(client.name)) {
        let mut row = Row::new(client);
        for cell in CELLS {
            let played = match client.missing() {
                Some(reason) => Played::only(Verdict::Missing(reason)),
                // Where its own dialect is not served, no call can be asked of us in it.
                None if row.is_not_served() && !matches!(cell, Cell::Other | Cell::Lists) => {
                    cell::without(client, cell)
                }
                None => cell::play(client, cell).await,
            };
            row.add(played);
        }
        println!("{}", row.line());
        for note in row.notes() {
            println!("    {note}");
        }
        rows.push(row);
    }
    (rows, cell::bedrock().await)
}
