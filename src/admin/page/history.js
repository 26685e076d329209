// The last hour, by the minute: reckoned from decisions, as the API keeps no series.
//
// At most 1,000 decisions come in one answer. Where the hour has more, each target is asked for by
// itself, and what lies before the oldest that came is drawn as not known, not as nothing.

const MINUTES = 60;
const FAILOVERS = 100;
// What an attempt came to without a fault of its target.
const NO_FAULT = new Set(["ok", "called_off", "client_gone"]);

const past = {
  targets: new Map(),
  failovers: [],
  seen: new Set(),
  newest: null,
};

const minuteOf = (at) => Math.floor(at / 60_000);

function tracked(target) {
  let track = past.targets.get(target);
  if (!track) past.targets.set(target, (track = { minutes: new Map(), since: 0 }));
  return track;
}

/** Counts a decision's attempts, all or those of one target. */
function countDecision(decision, only) {
  const minute = minuteOf(Date.parse(decision.at));
  for (const attempt of decision.attempts) {
    if (!attempt.target || (only && attempt.target !== only)) continue;
    const { minutes } = tracked(attempt.target);
    let slot = minutes.get(minute);
    if (!slot) minutes.set(minute, (slot = { attempts: 0, failed: 0, firsts: [] }));
    slot.attempts += 1;
    if (!NO_FAULT.has(attempt.outcome)) slot.failed += 1;
    // A median of some hundred is as good as one of all.
    if (attempt.ttfc_ms !== null && slot.firsts.length < 500) slot.firsts.push(attempt.ttfc_ms);
  }
}

/** Finds the changes of target in a decision: each attempt elsewhere that a fault led to. */
function failoversOf(decision) {
  const found = [];
  decision.attempts.forEach((attempt, at) => {
    const before = decision.attempts[at - 1];
    if (!before || before.target === attempt.target || attempt.cause === "hedge") return;
    found.push({
      at: decision.at,
      route: decision.route,
      from: before.target,
      to: attempt.target,
      reason: before.outcome,
      id: decision.request_id,
      isRescue: attempt.cause.startsWith("rescue"),
    });
  });
  return found;
}

const failoverKey = (one) => `${one.id} ${one.from} ${one.to}`;

function noteFailovers(list) {
  if (!list.length) return;
  const known = new Map(past.failovers.map((one) => [failoverKey(one), one]));
  for (const one of list) if (!known.has(failoverKey(one))) known.set(failoverKey(one), one);
  const all = [...known.values()].sort((a, b) => (a.at < b.at ? 1 : a.at > b.at ? -1 : 0));
  past.failovers = all.slice(0, FAILOVERS);
}

/** Says which decisions have not been counted yet. Request ids may be a client's, hence the time. */
function unseen(decisions) {
  const fresh = decisions.filter((one) => !past.seen.has(`${one.at} ${one.request_id}`));
  for (const one of fresh) past.seen.add(`${one.at} ${one.request_id}`);
  // Only what the next answer may hold again is needed.
  if (past.seen.size > 8000) past.seen = new Set([...past.seen].slice(-4000));
  if (decisions[0] && (!past.newest || decisions[0].at > past.newest)) past.newest = decisions[0].at;
  return fresh;
}

async function readHour(targets) {
  const told = await ask("/v1/decisions?since=1h&limit=1000");
  const fresh = unseen(told.decisions);
  noteFailovers(fresh.flatMap(failoversOf));
  if (!told.left_off) {
    for (const decision of fresh) countDecision(decision);
    return;
  }
  for (const target of targets.slice(0, 32)) {
    const own = await ask(`/v1/decisions?since=1h&limit=1000&target=${encodeURIComponent(target)}`);
    for (const decision of own.decisions) {
      if (decision.at <= past.newest) countDecision(decision, target);
    }
    const oldest = own.left_off ? own.decisions.at(-1)?.at : own.kept >= 10_000 ? own.kept_since : null;
    tracked(target).since = oldest ? Date.parse(oldest) : 0;
  }
}

/** Reads what has ended since. Two seconds twice, as ends may be written out of their order. */
async function readSince() {
  const from = past.newest ? new Date(Date.parse(past.newest) - 2000).toISOString() : "1h";
  const told = await ask(`/v1/decisions?since=${encodeURIComponent(from)}&limit=1000`);
  const fresh = unseen(told.decisions);
  for (const decision of fresh) countDecision(decision);
  noteFailovers(fresh.flatMap(failoversOf));
  const oldest = minuteOf(Date.now()) - MINUTES;
  for (const { minutes } of past.targets.values()) {
    for (const minute of minutes.keys()) if (minute <= oldest) minutes.delete(minute);
  }
}

/** Older failovers than the decisions go back to are among the events that are kept. */
async function readOlderFailovers() {
  if (past.failovers.length >= FAILOVERS) return;
  const told = await ask("/v1/events?limit=1000");
  noteFailovers((told.events ?? []).filter((event) => event.event === "failover").map(failoverOfEvent));
}

const failoverOfEvent = (event) => ({
  at: event.at,
  route: event.route ?? null,
  from: event.from,
  to: event.to,
  reason: event.reason,
  id: event.request_id,
  isRescue: false,
});

/** A target's hour, oldest minute first: `known` false where it cannot be said. */
function hourOf(target) {
  const { minutes, since } = past.targets.get(target) ?? { minutes: new Map(), since: 0 };
  const now = minuteOf(Date.now());
  return Array.from({ length: MINUTES }, (_, at) => {
    const minute = now - MINUTES + 1 + at;
    const slot = minutes.get(minute) ?? { attempts: 0, failed: 0, firsts: [] };
    return { ...slot, first: median(slot.firsts), known: minute >= minuteOf(since) };
  });
}
