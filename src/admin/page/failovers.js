// The last hundred changes of target, newest first; each opens the decision of a request that made it.

function drawFailovers() {
  const list = $("failover-list");
  keep(list, past.failovers, failoverKey, makeFailover);
  empty(list, past.failovers.length ? "" : "No failover is known: no request has had to change its target.");
  say($("failover-count"), past.failovers.length ? `the last ${past.failovers.length}` : "");
}

function makeFailover(one) {
  return el(
    "li",
    {},
    el(
      "button",
      { type: "button", class: "failover", onclick: () => showWhy(one.id), title: "Why did it go there?" },
      el("span", { class: "at" }, moment(one.at)),
      el("span", { class: "reason" }, `${one.isRescue ? "rescue: " : ""}${words(one.reason)}`),
      el("span", { class: "for" }, one.route ?? ""),
      el("span", { class: "way" }, el("span", { class: "from" }, one.from), el("span", { class: "to" }, "→ ", one.to)),
    ),
  );
}
