// Why a request went where it went: the decision of /v1/decisions/{id}, in a dialog.

async function showWhy(id) {
  const dialog = $("why");
  const close = el("button", { type: "button", class: "close", onclick: () => dialog.close() }, "Close");
  const body = el("div", { class: "why-body" }, el("p", { class: "none" }, "Asking…"));
  dialog.replaceChildren(
    el("div", { class: "bar" }, el("h2", { id: "why-title" }, "Why it went there"), close),
    el("p", { class: "mono id" }, id),
    body,
  );
  dialog.showModal();
  close.focus();
  try {
    body.replaceChildren(...decisionParts(await ask(`/v1/decisions/${encodeURIComponent(id)}`)));
  } catch (fault) {
    body.replaceChildren(el("p", { class: "none" }, fault.status === 0 ? "Nobody answers; try again." : fault.message));
  }
}

function decisionParts(decision) {
  const { attempts, candidates } = decision;
  const facts = [
    ["route", decision.route],
    ["model", decision.model],
    ["client", decision.client],
    ["dialect", decision.dialect],
    ["stream", decision.stream ? "yes" : "no"],
    ["generation", decision.generation],
  ].filter(([, value]) => value !== null && value !== undefined);
  return [
    el("p", { class: "lead" }, ending(decision)),
    el("dl", { class: "facts" }, facts.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, String(value))))),
    el("h3", {}, plural(attempts.length, "attempt")),
    attempts.length ? timeline(attempts, decision.dur_ms) : el("p", { class: "none" }, "Nobody was asked."),
    el("h3", {}, "Candidates, in the order of choice"),
    el(
      "div",
      { class: "scroll", tabindex: "0", role: "region", "aria-label": "Candidates" },
      el(
        "table",
        {},
        el("thead", {}, el("tr", {}, ...["Target", "Priority", "State", "Why"].map((name) => el("th", { scope: "col", class: name === "Priority" ? "number" : null }, name)))),
        el("tbody", {}, candidates.map(candidateRow)),
      ),
    ),
  ];
}

function ending(decision) {
  const ends = {
    answered: "answered",
    relayed: "got a provider's own error",
    refused: "was answered by pointsman itself",
    broken_off: "broke off after it had begun",
    client_gone: "was left by its client",
  };
  const what = ends[decision.ended] ?? words(decision.ended ?? "ended");
  const status = decision.status ? ` with ${decision.status}` : "";
  const error = decision.error ? ` (${decision.error})` : "";
  return `At ${clock(decision.at)} it ${what === "answered" ? "was answered" : what}${status}${error}, after ${milliseconds(decision.dur_ms ?? 0)}.`;
}

/** Attempts under each other on one scale of time. */
function timeline(attempts, whole) {
  const end = Math.max(whole ?? 0, ...attempts.map((a) => a.started_ms + (a.dur_ms ?? 0)), 1);
  return el("ol", { class: "attempts" }, attempts.map((attempt) => {
    const x = (100 * attempt.started_ms) / end;
    const width = Math.max((100 * (attempt.dur_ms ?? end - attempt.started_ms)) / end, 0.6);
    const first = attempt.ttfc_ms === null ? null : x + (100 * attempt.ttfc_ms) / end;
    const isGood = NO_FAULT.has(attempt.outcome);
    return el(
      "li",
      { class: isGood ? "good" : "bad" },
      el("span", { class: "mono" }, attempt.target ?? "?"),
      el("span", { class: "outcome" }, `${isGood ? "✓" : "✕"} ${words(attempt.outcome)}${attempt.status ? ` ${attempt.status}` : ""}`),
      svg(
        "svg",
        { class: "span", viewBox: "0 0 100 6", preserveAspectRatio: "none", "aria-hidden": "true" },
        svg("rect", { class: "rail", x: 0, y: 2.5, width: 100, height: 1 }),
        svg("rect", { class: "took", x: Math.min(x, 99.4), y: 0, width, height: 6 }),
        first === null ? null : svg("rect", { class: "first", x: Math.min(first, 99.5), y: 0, width: 0.5, height: 6 }),
      ),
      el("span", { class: "note" }, attemptNote(attempt)),
    );
  }));
}

function attemptNote(attempt) {
  const first = attempt.ttfc_ms === null ? "" : `, first content after ${milliseconds(attempt.ttfc_ms)}`;
  const took = attempt.dur_ms === null ? "not ended" : `took ${milliseconds(attempt.dur_ms)}`;
  return `${words(attempt.cause)}, at ${milliseconds(attempt.started_ms)}, ${took}${first}`;
}

const CANDIDATE_SIGNS = { chosen: "●", tried: "✕", skipped: "○", not_reached: "·" };

function candidateRow(candidate) {
  const more = [
    candidate.detail,
    candidate.cause && words(candidate.cause),
    candidate.until && `until ${clock(candidate.until)}`,
    candidate.loses && `loses ${candidate.loses.map(words).join(", ")}`,
  ].filter(Boolean);
  return el(
    "tr",
    { class: candidate.state },
    el("th", { scope: "row", class: "mono" }, candidate.target),
    el("td", { class: "number" }, String(candidate.priority ?? "")),
    el("td", {}, `${CANDIDATE_SIGNS[candidate.state] ?? ""} ${words(candidate.state)}`),
    el("td", {}, words(candidate.reason ?? ""), more.length ? el("small", {}, ` ${more.join("; ")}`) : null),
  );
}
