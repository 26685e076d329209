//! What does it look like?
//!
//! `pointsman demo`: the whole thing with nothing to set up, in one process. Two stand-in providers
//! on loopback, of which the first fails in turns ([`flaky`]), the real proxy before them on real
//! sockets, five requests a second through it, and the state of it all on the terminal.
//!
//! | room | its part |
//! |---|---|
//! | [`traffic`] | requests in both dialects, half of them streamed, and what became of each |
//! | [`screen`] | a block of lines that is drawn anew, or one line a second where nobody watches |
//!
//! The proxy listens where `run` would, and on free ports where those are taken. The targets on the
//! screen are those of `/v1/status`, asked over HTTP like anyone else would. Rests and timers are
//! shorter than the defaults, so that a turn of trouble and recovery takes seconds ([`yaml`]).
//!
//! A request counts as answered when the whole text came and ended as its dialect wants it; the
//! demo ends well only if all of them did. It writes no log, which would run over the screen, and
//! leaves no file: its admin token is made up and told to nobody.

mod screen;
mod traffic;

use crate::clock::Clock;
use crate::config::plan::Plan;
use crate::config::{self, Source};
use crate::observe::log::Log;
use crate::reload::Origin;
use crate::secrets::Host;
use crate::server::{self, Keeper, Running, Sockets, StartFault};
use crate::standin::caller::Call;
use crate::standin::{Provider, flaky};
use screen::{Scene, Screen};
use serde_json::Value;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};
use traffic::Traffic;

/// How long the first provider stays as it is: healthy at first, so trouble begins after this.
const SPAN: Duration = Duration::from_secs(3);
/// Time between two requests.
const BEAT: Duration = Duration::from_millis(200);
/// Time between two drawings on a terminal.
const REDRAW: Duration = Duration::from_millis(250);
/// Time between two lines elsewhere.
const LINE: Duration = Duration::from_secs(1);
/// How long the last requests may take once the demo is told to end.
const LAST_ANSWERS: Duration = Duration::from_secs(5);
/// How long our own admin plane may take to tell the state.
const STATUS_LIMIT: Duration = Duration::from_secs(1);

/// Runs the demo for `duration`, or until INT or TERM. Returns how many client requests failed.
///
/// # Errors
/// Where the providers or the proxy cannot be started, as a line for people.
pub fn demo(keeper: &Keeper, duration: Option<Duration>) -> Result<u64, String> {
    let providers = keeper.block_on(Providers::start()).map_err(|fault| format!("cannot start: {fault}"))?;
    let (running, clock) = start_proxy(&providers).map_err(|fault| fault.to_string())?;
    running.wait_until_ready().map_err(|fault| format!("cannot start: {fault}"))?;
    let (Some(data), Some(admin)) = (running.data.first().copied(), running.admin) else {
        return Err("cannot start: the addresses of the listeners are not known".to_owned());
    };
    let stage = Stage { providers, clock, data, admin };
    let failed = keeper.block_on(stage.play(duration));
    keeper.block_on(running.drain());
    failed.map_err(|fault| format!("the demo broke off: {fault}"))
}

/// The two stand-ins.
struct Providers {
    first: Provider,
    second: Provider,
}

impl Providers {
    async fn start() -> io::Result<Providers> {
        let providers = Providers {
            first: Provider::start(flaky::script(SPAN)).await?,
            second: Provider::start(flaky::steady()).await?,
        };
        // Counts will do; a demo may run for days.
        providers.first.record(false);
        providers.second.record(false);
        Ok(providers)
    }
}

/// Starts the proxy as `run` does, on the usual ports or on free ones.
fn start_proxy(providers: &Providers) -> Result<(Running, Clock), StartFault> {
    let text = yaml(&providers.first, &providers.second);
    let reading =
        config::read(&Source { name: "demo", text: &text, is_private: true, is_variable: false }, &Host);
    let mut plan = reading.plan.ok_or_else(|| {
        let problems: Vec<String> = reading.problems.iter().map(ToString::to_string).collect();
        StartFault::System(io::Error::other(problems.join("; ")))
    })?;
    let sockets = bind(&mut plan)?;
    let clock = Clock::new();
    // Not installed, and at a level that request lines do not reach: nothing of it is written.
    let log = Log::start(plan.log, Arc::new(move || clock.wall())).map_err(StartFault::System)?;
    let house = server::open(plan, clock, log)?;
    // There is no file to read again; nobody has the token that a reload wants.
    Ok((server::start(house, Origin::Environment, sockets)?, clock))
}

/// Returns the demo's configuration. One route over both providers in both dialects, all with the
/// same model, so that a request moves on at once. Breaker, rests and timers are shortened to
/// seconds, below the phases of the first provider.
fn yaml(first: &Provider, second: &Provider) -> String {
    let (first_v1, first, second_v1, second) =
        (first.base_url(), first.origin(), second.base_url(), second.origin());
    let token = uuid::Builder::from_random_bytes(rand::random()).into_uuid();
    format!(
        r#"version: 1
threads: 1
grace: 2s
listen: [{{address: "127.0.0.1:8080"}}]
admin: {{address: "127.0.0.1:9901", token: "{token}"}}
providers:
  flaky-openai: {{kind: openai, base_url: "{first_v1}", credentials: [{{name: key, key: sk-demo-first}}]}}
  flaky-anthropic: {{kind: anthropic, base_url: "{first}", credentials: [{{name: key, key: sk-demo-first}}]}}
  steady-openai: {{kind: openai, base_url: "{second_v1}", credentials: [{{name: key, key: sk-demo-second}}]}}
  steady-anthropic: {{kind: anthropic, base_url: "{second}", credentials: [{{name: key, key: sk-demo-second}}]}}
routes:
  demo:
    targets:
      - {{provider: flaky-openai, model: demo-model, priority: 1}}
      - {{provider: flaky-anthropic, model: demo-model, priority: 1}}
      - {{provider: steady-openai, model: demo-model, priority: 2}}
      - {{provider: steady-anthropic, model: demo-model, priority: 2}}
default_route: demo
implicit_routes: false
timeouts: {{first_content: 1s, response: 2s}}
breaker: {{consecutive_failures: 3, open: 1s, open_max: 2s}}
cooldown: {{default: 1s}}
log: {{level: error}}
"#
    )
}

/// Binds the plan's addresses; one that is in use gives way to a free port.
fn bind(plan: &mut Plan) -> Result<Sockets, StartFault> {
    loop {
        match Sockets::bind(plan) {
            Err(StartFault::Bind { address, reason, .. })
                if address.port() != 0 && reason.kind() == io::ErrorKind::AddrInUse =>
            {
                let places = plan.listen.iter_mut().map(|listen| &mut listen.address);
                places
                    .chain([&mut plan.admin.address])
                    .filter(|place| **place == address)
                    .for_each(|place| place.set_port(0));
            }
            bound => return bound,
        }
    }
}

/// Everything that plays along.
struct Stage {
    providers: Providers,
    clock: Clock,
    data: SocketAddr,
    admin: SocketAddr,
}

impl Stage {
    /// Sends requests and shows what happens, until time or a signal ends it.
    async fn play(&self, duration: Option<Duration>) -> io::Result<u64> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut screen = Screen::of_stdout();
        let mut traffic = Traffic::to(self.data, self.clock);
        let mut beat = interval(BEAT);
        let mut redraw = interval(if screen.is_terminal() { REDRAW } else { LINE });
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        redraw.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let end = async {
            match duration {
                Some(duration) => tokio::time::sleep(duration).await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(end);
        // Nobody reads any more: a closed pipe is an end like any other.
        let mut is_read = screen.greet(self.data, self.admin).is_ok();
        while is_read {
            tokio::select! {
                _ = beat.tick() => traffic.send(),
                () = traffic.next() => {}
                _ = redraw.tick() => is_read = self.draw(&mut screen, &traffic).await.is_ok(),
                _ = interrupt.recv() => break,
                _ = terminate.recv() => break,
                () = &mut end => break,
            }
        }
        traffic.settle(LAST_ANSWERS).await;
        // What cannot be written now is in the exit code.
        let _ = self.draw(&mut screen, &traffic).await;
        let _ = screen.close(traffic.tally());
        Ok(traffic.tally().failed)
    }

    async fn draw(&self, screen: &mut Screen, traffic: &Traffic) -> io::Result<()> {
        let ask = async |path| Call::get(path).limit(STATUS_LIMIT).send(self.admin).await;
        // Without an answer the block has no targets this once.
        let status = ask("/v1/status").await.map_or(Value::Null, |answer| answer.json());
        let metrics = ask("/metrics").await.map(|answer| answer.body_text()).unwrap_or_default();
        let phase = flaky::phase(self.providers.first.now(), SPAN);
        let rescued = rescued(&metrics);
        screen.draw(&Scene {
            elapsed: traffic.elapsed(),
            tally: traffic.tally(),
            status: &status,
            phase,
            rescued,
        })
    }
}

/// Reads how many streams were taken up by another target. No header tells: they were out before
/// the stream broke.
fn rescued(metrics: &str) -> u64 {
    let series = metrics
        .lines()
        .filter(|line| line.starts_with("pointsman_rescues_total{") && line.contains("result=\"rescued\""));
    series.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_demo_moves_to_free_ports_where_the_usual_ones_are_taken() {
        let providers = Providers::start().await.unwrap();
        let text = yaml(&providers.first, &providers.second);
        let reading =
            config::read(&Source { name: "demo", text: &text, is_private: true, is_variable: false }, &Host);
        let mut plan = reading.plan.unwrap_or_else(|| panic!("{:?}", reading.problems));
        let taken = [(); 2].map(|()| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
        plan.listen[0].address = taken[0].local_addr().unwrap();
        plan.admin.address = taken[1].local_addr().unwrap();
        let sockets = bind(&mut plan).unwrap();
        let (data, admin) = (sockets.data_addresses()[0], sockets.admin_address().unwrap());
        assert_ne!(data.port(), 0);
        assert_ne!(data, admin);
        assert!(taken.iter().all(|other| ![data, admin].contains(&other.local_addr().unwrap())));
    }
}
