//! What do real clients make of us?
//!
//! SDKs and command-line programs as their users install them, each through the real pointsman at
//! stand-in providers of our own: a plain answer, a streamed one, a 429 of the first target that
//! the client must not notice, a tool call, the lists that it reads, and a 429 with a provider of each
//! other dialect behind it. Then a real inference server behind the route. Two tables, printed and
//! with `--write` kept in `docs/clients.md`; the program fails when a cell does.
//!
//! A cell is good when the client says what the stand-in said, every call was answered 200, the
//! stand-ins got the calls that the cell wants, and the client's own key reached none of them. What
//! could not be installed has its reason in the table.
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
mod server;
mod stage;
mod tap;
mod tools;

use std::process::ExitCode;
use std::sync::Arc;

use cell::{CELLS, Played, Verdict};
use page::Row;
use roster::{Client, ROSTER};
use server::Server;
use tokio::sync::Semaphore;

/// How many clients run at once: most of a run is a program's start.
const BESIDE: usize = 2;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    // Under a test runner, which asks for `--list` or runs everything, there is nothing to do here.
    if !has("--run") {
        return ExitCode::SUCCESS;
    }
    let only: Vec<String> = arguments.iter().filter(|a| !a.starts_with("--")).cloned().collect();
    if has("--write") && !only.is_empty() {
        eprintln!("--write wants all rows; docs/clients.md stays as it is");
        return ExitCode::FAILURE;
    }
    let is_meant = |name: &str| only.is_empty() || only.iter().any(|only| name.starts_with(only.as_str()));
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let (rows, server, bedrock) = runtime.block_on(async {
        let rows = play(&is_meant).await;
        let server = if is_meant(server::NAME) { Server::play().await } else { Server::default() };
        print!("{}", server.lines());
        (rows, server, cell::bedrock().await)
    });
    if has("--write") {
        page::write(&rows, &server, &bedrock);
    }
    let verdicts = rows.iter().flat_map(|row| &row.verdicts).chain(server.verdicts());
    let failures = verdicts.filter(|verdict| verdict.is_failure()).count();
    println!("{failures} cells failed");
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn play(is_meant: &impl Fn(&str) -> bool) -> Vec<Row> {
    println!("{}", page::head());
    let seats = Arc::new(Semaphore::new(BESIDE));
    let row = |client: &'static Client| {
        let seats = Arc::clone(&seats);
        tokio::spawn(async move {
            let _seat = seats.acquire().await;
            whole_row(client).await
        })
    };
    let playing: Vec<_> = ROSTER.iter().filter(|client| is_meant(client.name)).map(row).collect();
    let mut rows = Vec::new();
    for row in playing {
        let row = row.await.expect("a row");
        println!("{}", row.line());
        for note in row.notes() {
            println!("    {note}");
        }
        rows.push(row);
    }
    rows
}

async fn whole_row(client: &'static Client) -> Row {
    let mut row = Row::new(client);
    for cell in CELLS {
        row.add(match client.missing() {
            Some(reason) => Played::only(Verdict::Missing(reason)),
            None => cell::play(client, cell).await,
        });
    }
    row
}
