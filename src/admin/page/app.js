// What is asked when, and what is shown of the line to the program itself.
//
// Events say that something changed; what it is now is always read from the same pages as at the
// start, so that a lost event costs seconds and never the truth. Where no event can be had the page
// asks more often.

const state = {
  status: null,
  routes: [],
  targets: [],
  byId: new Map(),
  // The program's clock may be another than the browser's: until-times are counted by its own.
  skew: 0,
  now: () => Date.now() + state.skew,
  // When data came last, and why none does.
  heard: null,
  fault: null,
  isLive: false,
};

const CALM_MS = 5000;
const ALONE_MS = 2000;
const SLOW_MS = 15_000;

async function refresh() {
  const [status, routes] = await Promise.all([ask("/v1/status"), ask("/v1/routes")]);
  const isOther = state.status && state.status.generation !== status.generation;
  tellChanges(status.targets);
  Object.assign(state, { status, routes: routes.routes, targets: status.targets });
  state.byId = new Map(status.targets.map((target) => [target.id, target]));
  const resting = status.targets.find((target) => target.until && target.retry_in_s !== null);
  if (resting) state.skew = Date.parse(resting.until) - resting.retry_in_s * 1000 - Date.now();
  if (past.newest === null && !past.isRead) {
    past.isRead = true;
    await readHour(status.targets.map((target) => target.id));
    await readOlderFailovers().catch(() => {});
  } else {
    await readSince();
  }
  drawVitals();
  drawRoutes();
  drawTargets();
  drawFailovers();
  if (isOther || !config.shown || !$("config-told").hasChildNodes()) await drawConfig();
}

function tellChanges(targets) {
  for (const target of targets) {
    const before = state.byId.get(target.id);
    if (before && before.state !== target.state) announce(`${target.id} is ${stateOf(target).word}`);
  }
}

function drawVitals() {
  const { status } = state;
  const standing = status.draining ? "▽ draining" : status.ready ? "● ready" : "■ not ready";
  const vitals = [standing, `${count(status.in_flight)} in flight`, `generation ${status.generation}`, `up ${span(status.uptime_s)}`, status.version];
  keep($("vitals"), vitals.map((text, at) => ({ text, at })), (one) => one.at, () => el("span", {}), (node, one) => say(node, one.text));
  document.title = `${status.targets.filter((target) => target.state === "ready").length}/${status.targets.length} ready – pointsman`;
}

/** Says how old what is shown may be. */
function drawLink() {
  const since = state.heard ? `no data since ${clock(state.heard)}` : "no data yet";
  const stale = $("stale");
  stale.hidden = !state.fault;
  document.body.classList.toggle("old", Boolean(state.fault));
  $("give-token").hidden = state.fault?.status !== 401;
  if (state.fault) say(stale.firstChild, `⚠ ${since}, trying again${state.fault.status ? `: ${state.fault.message}` : ""}`);
  say($("link"), state.fault ? "○ no data" : !state.heard ? "○ asking" : state.isLive ? "● live" : `◐ asking every ${ALONE_MS / 1000} s`);
}

// One refresh at a time; what is asked for meanwhile is done once more, behind it.
let running = null;
let isWanted = false;
let timer;

function refreshSoon(after = 0) {
  clearTimeout(timer);
  timer = setTimeout(run, after);
}

async function run() {
  if (running) {
    isWanted = true;
    return;
  }
  // A tab that nobody sees asks for nothing; it catches up when it is seen.
  if (document.hidden) return;
  running = refresh();
  try {
    await running;
    state.heard = Date.now();
    state.fault = null;
  } catch (fault) {
    if (!(fault instanceof Refused)) console.error(fault);
    // Asked for by itself once; who closed the dialog is shown a button instead.
    if (fault.status === 401 && state.fault?.status !== 401) askForToken(fault.message);
    state.fault = fault;
  }
  running = null;
  drawLink();
  refreshSoon(isWanted ? 500 : state.isLive ? CALM_MS : ALONE_MS);
  isWanted = false;
}

// An outage tells many events a second; they are gathered.
let isGathering = false;
function onEvent(event) {
  // Its changes are sentences, the first twenty; the page compares for itself.
  if (event.event === "reload") noteReload({ ...event, changes: undefined });
  if (event.event === "reload_failed") noteRefusal(event);
  if (event.event === "failover" || event.event === "rescue") announce(event.event === "failover" ? `failover from ${event.from} to ${event.to}` : "a stream was taken up");
  if (isGathering) return;
  isGathering = true;
  setTimeout(() => {
    isGathering = false;
    run();
  }, 400);
}

async function follow() {
  let lastId = null;
  for (;;) {
    let wait = 2000;
    try {
      await listen(
        lastId,
        (event) => {
          lastId = event.id ?? lastId;
          onEvent(event);
        },
        () => {
          if (!state.isLive) refreshSoon();
          state.isLive = true;
        },
      );
    } catch (fault) {
      // Refused for good (an older program, or too many listen): asking often does instead.
      if (fault.status && fault.status !== 401) wait = 30_000;
    }
    state.isLive = false;
    drawLink();
    refreshSoon();
    await new Promise((resolve) => setTimeout(resolve, wait));
  }
}

setUpUsage();
drawDiff();
drawLink();
$("target-filter").addEventListener("input", drawTargets);
$("give-token").addEventListener("click", () => askForToken(state.fault?.message ?? ""));
$("reload").addEventListener("click", confirmReload);
$("implicit").addEventListener("toggle", drawRoutes);
document.addEventListener("visibilitychange", () => document.hidden || refreshSoon());
setInterval(countDown, 1000);
setInterval(() => document.hidden || state.fault || drawUsage().catch(() => {}), SLOW_MS);
refreshSoon();
drawUsage().catch(() => {});
follow();
