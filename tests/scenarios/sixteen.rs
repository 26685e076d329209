//! S01 to S16: the public bar, against the wall.
//!
//! Each scenario is a model of its own behind one port and one key, as the bar has it, and each
//! route has one fallback. What is checked and how much it weighs is the bar's; what we ask beyond
//! it is marked *ours*.

use std::net::SocketAddr;
use std::time::Duration;

use pointsman::standin::wall::{self, OK, OK_WITHOUT_PREFILL, SCENARIOS};
use pointsman::standin::{Provider, Seen};

use crate::listener::{Heard, is_alive, listen};
use crate::row::{Ending, Row, Verdict, Weight};

/// The wall, and how fast its clock runs.
pub struct Wall {
    provider: Provider,
    second: Duration,
    /// What a busy machine may add to a shortened wait.
    slack: Duration,
}

/// What a request left at the wall.
struct Trace {
    heard: Heard,
    /// Requests for the scenario's own model.
    tries: Vec<Seen>,
    /// When the request began, on the wall's clock.
    began: Duration,
    /// Requests for its fallback; with short timers S15 asks for `fb-ok` at the same time.
    fallback_tries: Vec<Seen>,
    is_alive: bool,
}

const SECOND: Duration = Duration::from_secs(1);

impl Wall {
    pub async fn start(second: Duration) -> Wall {
        let provider = Provider::start(wall::script(second)).await.expect("the wall stands");
        let slack = if second < SECOND { Duration::from_millis(300) } else { Duration::ZERO };
        Wall { provider, second, slack }
    }

    /// Returns the wall's part of a configuration: its provider and a route for each scenario.
    pub fn configuration(&self) -> (String, String) {
        let models: Vec<String> = SCENARIOS
            .iter()
            .chain([&OK, &OK_WITHOUT_PREFILL])
            .map(|model| format!("{model}: {{}}"))
            .collect();
        let provider = format!(
            "  wall: {{kind: openai, base_url: \"{}\", credentials: [{{name: k, key: {{env: WALL_KEY}}}}], models: {{{}}}}}\n",
            self.provider.base_url(),
            models.join(", ")
        );
        let route = |name: &str, models: &[&str]| {
            let targets: Vec<String> = (1..)
                .zip(models)
                .map(|(at, model)| format!("{{provider: wall, model: {model}, priority: {at}}}"))
                .collect();
            format!("  {name}: {{targets: [{}]}}\n", targets.join(", "))
        };
        let mut routes = route(OK, &[OK]);
        for model in SCENARIOS {
            let fallback = if model == SCENARIOS[13] { OK_WITHOUT_PREFILL } else { OK };
            routes.push_str(&route(model, &[model, fallback]));
        }
        (provider, routes)
    }

    fn scaled(&self, seconds: u32) -> Duration {
        self.second * seconds + self.slack
    }

    /// Starts every scenario and the outage of S15 anew.
    pub fn reset(&self) {
        self.provider.reset();
    }

    /// Plays scenario `number`, counted from 1.
    pub async fn play(&self, number: usize, proxy: SocketAddr) -> Row {
        if number == 15 { self.flap(proxy).await } else { self.single(number, proxy).await }
    }

    fn seen(&self, model: &str, since: Duration) -> Vec<Seen> {
        self.provider.seen().into_iter().filter(|seen| seen.model == model && seen.arrived >= since).collect()
    }

    async fn trace(&self, number: usize, limit: u64, proxy: SocketAddr) -> Trace {
        let model = SCENARIOS[number - 1];
        let began = self.provider.now();
        let heard = listen(proxy, model, Duration::from_secs(limit)).await;
        let tries = self.seen(model, began);
        let fallback = if number == 14 { OK_WITHOUT_PREFILL } else { OK };
        let fallback_tries = self.seen(fallback, began);
        Trace { heard, tries, began, fallback_tries, is_alive: is_alive(proxy).await }
    }

    async fn single(&self, number: usize, proxy: SocketAddr) -> Row {
        let limit = [20, 40, 20, 40, 20, 130, 60, 40, 70, 30, 30, 20, 20, 40, 0, 40][number - 1];
        let trace = self.trace(number, limit, proxy).await;
        let mut row = Row::new(&format!("S{number:02}"), trace.heard.total, trace.heard.ttft);
        row.tries = format!("{}", trace.tries.len());
        row.gaps = gaps(&trace.tries);
        let is_error = matches!(trace.heard.ending, Ending::CleanError(_));
        let is_ideal = if number == 13 { is_error } else { trace.heard.ending == Ending::Complete };
        self.checks(number, &trace, &mut row);
        row.check(Weight::Ours, trace.is_alive, "fb-ok does not answer after it");
        row.judge(&trace.heard.ending, is_ideal);
        row
    }

    fn checks(&self, number: usize, trace: &Trace, row: &mut Row) {
        use Weight::{Advisory, Ours, Required};
        let count = trace.tries.len();
        let within = |span: Duration| {
            trace.tries.iter().filter(|seen| seen.arrived.saturating_sub(trace.began) <= span).count()
        };
        let total = trace.heard.total;
        match number {
            1 => {
                row.check(Advisory, count >= 2, "the primary was not tried again");
                let waited =
                    trace.tries.get(1).map(|second| second.arrived.saturating_sub(trace.tries[0].arrived));
                let has_waited = waited.is_some_and(|waited| waited >= Duration::from_millis(1800));
                row.check(Advisory, has_waited, format!("tried again after {waited:?}"));
                row.check(Required, within(Duration::from_millis(1500)) <= 2, "hammered");
            }
            2 => {
                row.check(Required, within(SECOND * 3) <= 4 && count <= 6, "hammered");
                row.check(Ours, total <= SECOND * 5, "slow");
            }
            3 => row.check(Advisory, count >= 2, "no retry of the primary"),
            4 => row.check(Required, count <= 6, "hammered"),
            5 | 8 | 14 => {}
            6 => {
                row.check(Required, total <= self.scaled(100), format!("took {total:?}"));
                row.check(Advisory, count <= 1, "asked the silent target again");
                row.check(Ours, total <= self.scaled(31), "slower than 31 s");
            }
            7 => row.check(Advisory, total <= self.scaled(15), format!("took {total:?}")),
            9 => {
                row.check(Required, total <= self.scaled(45), format!("took {total:?}"));
                row.check(Required, trace.is_alive, "not alive after it");
            }
            10 => row.check(Required, trace.is_alive, "not alive after it"),
            11 => {
                row.check(Required, total <= SECOND * 8, format!("took {total:?}"));
                row.check(Advisory, trace.heard.usage.is_some(), "no usage");
                let is_own = trace.heard.model.as_deref() == Some(SCENARIOS[10]);
                row.check(Ours, count == 1 && is_own, format!("answered by {:?}", trace.heard.model));
            }
            12 => {
                let sizes: Vec<usize> = trace.tries.iter().map(|seen| seen.body.len()).collect();
                let shrinks = sizes.windows(2).all(|pair| pair[1] < pair[0]);
                row.check(Required, shrinks && count <= 2, format!("tries of {sizes:?} bytes"));
            }
            13 => {
                row.check(Required, count == 1, "retried");
                let code = trace.heard.error.as_ref().and_then(|error| error["code"].as_str());
                row.check(Ours, code == Some("content_policy_violation"), format!("told as {code:?}"));
            }
            16 => {
                let model = trace.heard.model.as_deref().unwrap_or_default();
                row.check(Required, model.contains(OK), format!("model {model:?}"));
                row.check(Advisory, trace.heard.usage.is_some(), "no usage");
                row.check(Required, count <= 6, "hammered");
            }
            _ => unreachable!("S{number:02} is no single scenario"),
        }
        if number == 14 {
            let was_refused = trace.fallback_tries.iter().any(|seen| {
                seen.json()["messages"]
                    .as_array()
                    .and_then(|m| m.last())
                    .is_some_and(|m| m["role"] == "assistant")
            });
            let is_error = matches!(trace.heard.ending, Ending::CleanError(_));
            row.check(Required, !(was_refused && is_error), "a refused prefill ended the request");
        }
        if matches!(number, 8 | 9 | 14) {
            let lag = first_token_lag(trace);
            let is_quick = lag.is_some_and(|lag| lag <= Duration::from_millis(50));
            row.check(Ours, is_quick, format!("the first token came {lag:?} after the provider's"));
        }
    }

    /// S15: an outage of a minute under twenty requests, one every four seconds.
    async fn flap(&self, proxy: SocketAddr) -> Row {
        use Weight::{Ours, Required};
        let model = SCENARIOS[14];
        self.reset();
        let reset = self.provider.now();
        let recovery = reset + self.second * 60;
        let began = tokio::time::Instant::now();
        let mut endings = Vec::new();
        let mut sent_in_outage = 0;
        for turn in 0..20 {
            tokio::time::sleep_until(began + self.second * 4 * turn).await;
            let is_in_outage = self.provider.now() < recovery;
            sent_in_outage += usize::from(is_in_outage);
            let heard = listen(proxy, model, SECOND * 30).await;
            endings.push((is_in_outage, heard.ending));
        }
        let mut row = Row::new("S15", began.elapsed(), None);
        let tries = self.seen(model, reset);
        let well: Vec<&Seen> = tries.iter().filter(|seen| seen.arrived >= recovery).collect();
        row.tries = format!("{}+{}", tries.len() - well.len(), well.len());
        row.gaps = well.first().map_or_else(String::new, |seen| {
            format!("back +{:.1}", seen.arrived.saturating_sub(recovery).as_secs_f64())
        });
        let is_complete = |ending: &Ending| *ending == Ending::Complete;
        let hangs = endings.iter().any(|(_, ending)| *ending == Ending::Hang);
        row.check(Required, !hangs, "a request hung");
        let missed = endings.iter().filter(|(outage, ending)| *outage && !is_complete(ending)).count();
        row.check(Required, missed == 0, format!("{missed} requests failed in the outage"));
        let is_back = well.first().is_some_and(|seen| seen.arrived <= recovery + self.second * 30);
        row.check(Required, is_back, "the primary was never used again");
        let in_outage = tries.len() - well.len();
        row.check(
            Ours,
            in_outage <= sent_in_outage,
            format!("{in_outage} tries for {sent_in_outage} requests"),
        );
        row.check(Ours, is_alive(proxy).await, "fb-ok does not answer after it");
        let late = endings.iter().find(|(_, ending)| !is_complete(ending)).map(|(_, ending)| ending.clone());
        let ending = late.unwrap_or(Ending::Complete);
        row.judge(&ending, ending == Ending::Complete);
        debug_assert!(row.verdict != Verdict::Partial);
        row
    }
}

/// Returns how long after the primary's first bytes the caller had its first token.
fn first_token_lag(trace: &Trace) -> Option<Duration> {
    let sent = trace.tries.first()?.answered?;
    Some((trace.began + trace.heard.ttft?).saturating_sub(sent))
}

fn gaps(tries: &[Seen]) -> String {
    let gaps: Vec<String> = tries
        .windows(2)
        .map(|pair| format!("{:.3}", pair[1].arrived.saturating_sub(pair[0].arrived).as_secs_f64()))
        .collect();
    gaps.join(" ")
}
