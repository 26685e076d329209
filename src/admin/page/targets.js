// The targets, a card each: how it stands, until when and why, and its last hour.

// A sign by shape and a word, so that colour only repeats what they say.
const STATES = {
  ready: { sign: "●", word: "ready", tone: "good" },
  half_open: { sign: "◐", word: "half open", tone: "warn" },
  cooling: { sign: "◔", word: "cooling", tone: "warn" },
  open: { sign: "■", word: "open", tone: "bad" },
  auth_failed: { sign: "✕", word: "auth failed", tone: "bad" },
  quota_spent: { sign: "✕", word: "quota spent", tone: "bad" },
  drained: { sign: "▽", word: "drained", tone: "held" },
  disabled: { sign: "⊘", word: "disabled", tone: "held" },
};
const stateOf = (target) => STATES[target?.state] ?? { sign: "?", word: words(target?.state ?? "unknown"), tone: "warn" };

function drawTargets() {
  const list = $("target-list");
  const wanted = $("target-filter").value.trim().toLowerCase();
  const fits = (t) => !wanted || [t.id, t.state, ...t.routes].some((text) => text.toLowerCase().includes(wanted));
  const shown = state.targets.filter(fits);
  keep(list, shown, (target) => target.id, makeCard, updateCard);
  empty(list, shown.length ? "" : state.targets.length ? "No target fits the filter." : "There are no targets yet.");
  const ready = state.targets.filter((target) => target.state === "ready").length;
  say($("target-count"), state.targets.length ? `${ready} of ${state.targets.length} ready` : "");
}

function makeCard(target) {
  const part = {};
  const stat = (name, label) => el("div", {}, el("dt", {}, label), (part[name] = el("dd", {})));
  const graph = (name, label) => el("figure", {}, el("figcaption", {}, label, " ", (part[`${name}Text`] = el("span", {}))), (part[name] = el("div", {})));
  const button = (verb) =>
    (part[verb] = el("button", { type: "button", onclick: () => confirmVerb(verb, card.target), "aria-label": `${VERBS[verb].does} ${target.id}` }, VERBS[verb].does));
  const card = el(
    "li",
    { class: "card", "data-target": target.id },
    el(
      "div",
      { class: "head" },
      el("h3", {}, el("span", { class: "whose" }, `${target.provider}/${target.credential}/`), el("wbr"), target.model),
      (part.state = el("span", { class: "state" })),
    ),
    (part.why = el("p", { class: "why" })),
    el("dl", { class: "stats" }, stat("flight", "in flight"), stat("attempts", "attempts"), stat("failed", "failed"), stat("mean", "mean time")),
    el("div", { class: "graphs" }, graph("first", "First content"), graph("errors", "Errors")),
    el("div", { class: "buttons" }, button("drain"), button("ready"), button("reset")),
  );
  card.parts = part;
  return card;
}

function updateCard(card, target) {
  const { parts: part } = card;
  const { sign, word, tone } = stateOf(target);
  card.target = target;
  card.dataset.tone = tone;
  say(part.state, `${sign} ${word}`);
  part.state.title = target.endpoint;
  tellWhy(part.why, target);
  say(part.flight, count(target.in_flight));
  say(part.attempts, count(target.counts.attempts));
  say(part.failed, count(target.counts.failed));
  say(part.mean, target.counts.ok ? milliseconds(target.counts.average_ms) : "–");
  const isHeld = tone === "held";
  const [shown, gone] = isHeld ? [part.ready, part.drain] : [part.drain, part.ready];
  shown.hidden = false;
  // A button that hides under the keyboard's focus would drop it to the top of the page.
  if (document.activeElement === gone) shown.focus();
  gone.hidden = true;
  part.reset.disabled = target.state === "ready" && target.breaker === "closed";
  drawHour(card, target.id);
}

/** Why it is so and until when; the seconds that are left are counted down by the page. */
function tellWhy(node, target) {
  const last = target.last_error;
  const status = last?.status ? ` ${last.status}` : "";
  const pins = (target.pinned ?? []).map((pin) => `pinned first on ${pin.route}${pin.until ? ` until ${clock(pin.until)}` : ""}`);
  let parts;
  if (target.state === "ready") {
    parts = last ? [`last error ${words(last.outcome)}${status} at `, moment(last.at)] : ["no error since the start"];
  } else {
    const named = target.reason && words(target.reason) !== stateOf(target).word ? words(target.reason) : null;
    const why = named ? `${named}${last?.outcome === target.reason ? status : ""}` : last && stateOf(target).tone !== "held" ? `last ${words(last.outcome)}${status}` : "by an operator";
    parts = target.until ? [`${why}, until `, moment(target.until), el("span", { class: "left", "data-until": target.until })] : [why];
  }
  if (pins.length) parts.push(`; ${pins.join("; ")}`);
  const told = parts.map((part) => part.textContent ?? part).join("");
  if (node.told === `${told} ${target.until}`) return;
  node.told = `${told} ${target.until}`;
  node.replaceChildren(...parts);
  countDown();
}

function countDown() {
  for (const node of document.querySelectorAll("[data-until]")) {
    const left = (Date.parse(node.dataset.until) - state.now()) / 1000;
    say(node, left > 0.5 ? ` (in ${span(left)})` : " (now)");
  }
}

function drawHour(card, id) {
  const hour = hourOf(id);
  const shape = JSON.stringify(hour);
  if (card.shape === shape) return;
  card.shape = shape;
  for (const [name, drawn] of [["first", firstContent(hour)], ["errors", errors(hour)]]) {
    card.parts[name].replaceChildren(drawn.node);
    say(card.parts[`${name}Text`], drawn.text);
  }
}
