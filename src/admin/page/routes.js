// The routes: each a line of its targets in the order of choice, with the one that is used now.

function drawRoutes() {
  const named = state.routes.filter((route) => !route.implicit);
  const implicit = state.routes.filter((route) => route.implicit);
  keep($("route-list"), named, (route) => route.name, makeRoute, updateRoute);
  empty($("route-list"), named.length ? "" : "There are no routes of your own; clients name provider/model.");
  const box = $("implicit");
  box.hidden = implicit.length === 0;
  say(box.querySelector("summary"), `${plural(implicit.length, "more route")} that the models make by themselves`);
  if (box.open) drawImplicit(implicit);
}

function drawImplicit(implicit) {
  keep($("implicit").querySelector("ul"), implicit, (route) => route.name, () => el("li", {}), (node, route) =>
    say(node, `${route.name} → ${route.target ?? "nobody can be asked"}`));
}

function makeRoute(route) {
  const part = {};
  const row = el(
    "li",
    { class: "route" },
    el("h3", {}, route.name),
    (part.now = el("p", { class: "now" })),
    (part.line = el("ol", { class: "line", "aria-label": `Targets of ${route.name}, in the order of choice` })),
  );
  row.parts = part;
  return row;
}

function updateRoute(row, route) {
  row.classList.toggle("lost", !route.target);
  const pinned = route.pinned ? `, pinned to ${route.pinned}` : "";
  say(row.parts.now, route.target ? `now at ${route.target}${pinned}` : `✕ no target can be used now${pinned}`);
  // The same target may stand in a route twice, so its place is part of the key.
  const stops = route.targets.map((id, at) => ({ id, key: `${at} ${id}` }));
  keep(row.parts.line, stops, (stop) => stop.key, makeStop, (node, stop) => updateStop(node, stop.id, route));
}

function makeStop() {
  const stop = el("li", {}, el("span", { class: "sign", "aria-hidden": "true" }), el("span", { class: "name" }), el("small", {}));
  [stop.sign, stop.name, stop.note] = stop.children;
  return stop;
}

function updateStop(node, id, route) {
  const { sign, word, tone } = stateOf(state.byId.get(id));
  const isNow = id === route.target;
  node.dataset.tone = tone;
  node.classList.toggle("current", isNow);
  if (isNow) node.setAttribute("aria-current", "true");
  else node.removeAttribute("aria-current");
  say(node.sign, sign);
  say(node.name, id);
  say(node.note, isNow ? `in use, ${word}` : word);
}
