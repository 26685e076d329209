//! What an outsider sees of the real program while providers fail, with its default configuration.
//!
//! * [`thirty`]: thirty scenarios, a row each: the public sixteen and fourteen of ours.
//! * [`outage`]: every target of a route fails under load, then one returns.
//! * [`kills`]: a provider's process is killed in the middle of its streams, over and over.
//! * [`upgrades`]: the program is upgraded and restarted under load, over and over.
//! * [`soak`]: everything at once for twenty minutes, after which nothing may have grown.
//!
//! `make scenarios`, `outage`, `kills`, `upgrades` and `soak` play them in real time and at full length.
//! Without arguments, as under `cargo test`, each is played once with short timers. Arguments:
//! `--full`, parts of the names below, and names of scenarios (`S08`) to play only these.
//! `POINTSMAN_BIN` names another program to be judged.

#![allow(missing_docs, clippy::expect_used, clippy::panic, reason = "a test")]
#![allow(clippy::disallowed_methods, reason = "dates of the real clock go into headers")]

mod child;
mod kills;
mod listener;
mod ours;
mod outage;
mod process;
mod row;
mod sixteen;
mod soak;
mod thirty;
mod troupe;
mod upgrades;

use std::process::ExitCode;

/// What a test runner sees.
const TESTS: [&str; 5] = [
    "thirty_scenarios_pass_with_short_timers",
    "a_total_outage_is_not_multiplied_and_ends_soon",
    "no_killed_stream_is_sold_as_a_whole_answer",
    "nothing_grows_under_a_soak_of_everything",
    "no_client_notices_upgrades_and_restarts",
];

/// What is to be played.
pub struct Wish {
    pub is_full: bool,
    pub only: Vec<String>,
}

impl Wish {
    #[must_use]
    pub fn has(&self, id: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only.eq_ignore_ascii_case(id))
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [role, port] = arguments.as_slice()
        && role == child::ROLE
    {
        return child::live(port);
    }
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    // What cargo-nextest asks of a program of its own making.
    if has("--list") {
        if !has("--ignored") {
            for test in TESTS {
                println!("{test}: test");
            }
        }
        return ExitCode::SUCCESS;
    }
    let is_scenario = |argument: &&String| argument.starts_with(['S', 's']) && argument.len() == 3;
    let only: Vec<String> = arguments.iter().filter(is_scenario).cloned().collect();
    let filters: Vec<&String> =
        arguments.iter().filter(|argument| !argument.starts_with("--") && !is_scenario(argument)).collect();
    let wish = Wish { is_full: has("--full"), only };
    let is_meant = |test: &str| {
        let is_named = filters.is_empty() || filters.iter().any(|filter| test.contains(filter.as_str()));
        is_named && (wish.only.is_empty() || test == TESTS[0])
    };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let mut are_good = true;
    for test in TESTS.into_iter().filter(|test| is_meant(test)) {
        are_good &= match test {
            test if test == TESTS[0] => runtime.block_on(thirty::play(&wish)),
            test if test == TESTS[1] => runtime.block_on(outage::play(wish.is_full)),
            test if test == TESTS[2] => runtime.block_on(kills::play(wish.is_full)),
            test if test == TESTS[3] => runtime.block_on(soak::play(wish.is_full)),
            // On a worker, so that what blocks can say so.
            _ => {
                runtime.block_on(async { tokio::spawn(upgrades::play(wish.is_full)).await.unwrap_or(false) })
            }
        };
    }
    if are_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
