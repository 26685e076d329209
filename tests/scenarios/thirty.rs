//! The thirty scenarios, in turn or side by side.
//!
//! S01 to S16 are the public bar for LLM gateways, replayed from its description: twice in a row
//! against one process, because what the first run leaves behind (breakers, cooldowns) must not
//! spoil the second. S17 to S30 are ours. One row a scenario is printed. The short profile plays
//! each once with timers shortened to a tenth, S15 beside the others.

use std::time::Duration;

use crate::Wish;
use crate::ours::{self, PLAYS, Scene};
use crate::process::Process;
use crate::row::{self, Row};
use crate::sixteen::Wall;
use crate::troupe::Troupe;

/// Everything that waits, at a tenth.
const SHORT_TIMERS: &str =
    "timeouts: {first_content: 1200ms, stall: 2s, stall_last: 12s, response: 12s, total: 60s}
breaker: {window: 1s, open: 500ms, open_max: 1s}
cooldown: {default: 500ms, max: 1s}
";

/// Plays them; tells whether every row passed.
pub async fn play(wish: &Wish) -> bool {
    let second = Duration::from_millis(if wish.is_full { 1000 } else { 100 });
    let wall = Wall::start(second).await;
    let troupe = Troupe::start(ours::cast()).await;
    let proxy = start(&wall, &troupe, wish.is_full).await;
    println!("{}", row::header());
    let mut are_good = true;
    let mut tell = |row: Row| {
        println!("{}", row.line());
        are_good &= row.is_good();
    };
    if wish.is_full {
        for run in 1..=2 {
            println!("-- run {run}");
            wall.reset();
            for number in 1..=16 {
                if wish.has(&format!("S{number:02}")) {
                    tell(wall.play(number, proxy.data).await);
                }
            }
        }
        println!("-- ours");
        for play in PLAYS.iter().filter(|play| wish.has(play.id)) {
            tell(play.play(&scene(&troupe, &proxy, second)).await);
        }
    } else {
        let flap = async { if wish.has("S15") { Some(wall.play(15, proxy.data).await) } else { None } };
        let others = async {
            let mut rows = Vec::new();
            for number in (1..=16).filter(|number| *number != 15 && wish.has(&format!("S{number:02}"))) {
                rows.push(wall.play(number, proxy.data).await);
            }
            rows
        };
        let ours = async {
            let mut rows = Vec::new();
            for play in PLAYS.iter().filter(|play| wish.has(play.id)) {
                rows.push(play.play(&scene(&troupe, &proxy, second)).await);
            }
            rows
        };
        let (flap, others, ours) = tokio::join!(flap, others, ours);
        others.into_iter().chain(flap).chain(ours).for_each(&mut tell);
    }
    let is_available = proxy.metric("pointsman_target_available", &["wall", "fb-ok\""]).await;
    if is_available != Some(1.0) {
        println!("the fallback is not available at the end: {is_available:?}");
        are_good = false;
    }
    if !are_good {
        for line in proxy.last_lines(if wish.only.is_empty() { 20 } else { 200 }) {
            println!("{line}");
        }
    }
    are_good
}

fn scene<'a>(troupe: &'a Troupe, proxy: &Process, second: Duration) -> Scene<'a> {
    Scene { troupe, proxy: proxy.data, first_content: second * 12 }
}

async fn start(wall: &Wall, troupe: &Troupe, is_full: bool) -> Process {
    let (wall_provider, wall_routes) = wall.configuration();
    let (providers, routes) = troupe.configuration();
    let timers = if is_full { "" } else { SHORT_TIMERS };
    let configuration =
        format!("{timers}providers:\n{wall_provider}{providers}routes:\n{wall_routes}{routes}");
    let mut environment = troupe.environment();
    environment.push(("WALL_KEY".to_owned(), "sk-wall-0123456789".to_owned()));
    Process::start(&configuration, &environment).await
}
