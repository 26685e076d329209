// The configuration in force, and what the last reload changed in it.
//
// The API tells what is in force and not what was before, so the page keeps what it saw last, for
// the tab, and compares when the generation changes. Secrets are `***` before they come here.

const SEEN = "pointsman.configuration";
const config = { ...readSeen(), refused: null };

function readSeen() {
  try {
    return JSON.parse(sessionStorage.getItem(SEEN)) ?? {};
  } catch {
    return {};
  }
}

/** Remembers what came of a reload: from our own button, or from the event about somebody's. */
function noteReload(reload) {
  config.refused = null;
  if (config.reload?.generation !== reload.generation || reload.needs_restart) config.reload = { ...config.reload, ...reload };
  drawDiff();
}

function noteRefusal(event) {
  config.refused = { at: event.at, text: event.fault, faults: event.faults };
  drawDiff();
}

async function drawConfig() {
  const shown = await ask("/v1/config");
  const before = config.shown;
  const isOther = before && JSON.stringify(before) !== JSON.stringify(shown);
  if (isOther) {
    config.diff = differences(flat(before), flat(shown));
    config.from = before.generation;
    config.at = config.reload?.generation === shown.generation && config.reload.at ? config.reload.at : new Date().toISOString();
  }
  config.shown = shown;
  const { diff, from, at, reload } = config;
  sessionStorage.setItem(SEEN, JSON.stringify({ shown, diff, from, at, reload }));
  drawDiff();
  if (isOther || !$("config-told").hasChildNodes()) drawSections(shown);
}

/** A tree as lines of path and value. Lists of named things are told by name, not by number. */
function flat(value, path = "", lines = new Map()) {
  if (value === null || typeof value !== "object") {
    lines.set(path, value === null ? "–" : String(value));
    return lines;
  }
  const isList = Array.isArray(value);
  const entries = isList ? value.map((one, at) => [nameOf(one, at), one]) : Object.entries(value);
  if (!entries.length) lines.set(path, isList ? "[]" : "{}");
  for (const [name, one] of entries) {
    const isName = isList && one !== null && typeof one === "object";
    flat(isName ? withoutName(one) : one, path ? `${path}.${name}` : name, lines);
  }
  return lines;
}

const NAMES = ["name", "target", "address", "priority"];
const nameKey = (one) => (one !== null && typeof one === "object" ? NAMES.find((key) => key in one) : undefined);
const nameOf = (one, at) => {
  const key = nameKey(one);
  return key === undefined ? String(at) : key === "priority" ? `priority ${one.priority}` : one[key];
};
const withoutName = (one) => Object.fromEntries(Object.entries(one).filter(([key]) => key !== nameKey(one)));

function differences(before, after) {
  const paths = new Set([...before.keys(), ...after.keys()]);
  paths.delete("generation");
  return [...paths]
    .filter((path) => before.get(path) !== after.get(path))
    .map((path) => ({ path, before: before.get(path) ?? null, after: after.get(path) ?? null }));
}

function drawDiff() {
  const parts = [];
  const { refused, diff, reload, shown } = config;
  if (refused) {
    const more = refused.faults > 1 ? ` (and ${plural(refused.faults - 1, "more fault")})` : "";
    parts.push(el("p", { class: "warning" }, `✕ Refused at ${clock(refused.at)}, nothing changed: ${refused.text}${more}`));
  }
  if (diff) {
    parts.push(el("p", {}, `Generation ${config.from} → ${shown.generation} at ${clock(config.at)}: ${diff.length ? plural(diff.length, "value") : "nothing of what is shown here"} changed.`));
    if (diff.length) parts.push(el("ul", { class: "diff" }, diff.slice(0, 200).map(diffLine)));
  } else if (shown) {
    parts.push(el("p", { class: "none" }, `Generation ${shown.generation}. It has not changed since this tab first saw it; the next reload's changes will stand here.`));
  }
  if (reload?.needs_restart?.length) parts.push(el("p", { class: "warning" }, `⚠ After a restart only: ${reload.needs_restart.join(", ")}`));
  if (Array.isArray(reload?.warnings)) for (const warning of reload.warnings) parts.push(el("p", { class: "warning" }, `⚠ ${warning}`));
  $("config-diff").replaceChildren(...parts);
}

function diffLine({ path, before, after }) {
  return el(
    "li",
    {},
    el("code", {}, path),
    before === null ? null : el("del", {}, el("span", { class: "sign" }, "− "), before),
    after === null ? null : el("ins", {}, el("span", { class: "sign" }, "+ "), after),
  );
}

function drawSections(shown) {
  const single = [];
  const sections = [];
  for (const [name, value] of Object.entries(shown)) {
    if (value === null || typeof value !== "object") {
      single.push([name, value === null ? "–" : String(value)]);
    } else {
      const lines = [...flat(value)];
      sections.push(
        el("details", {}, el("summary", {}, name, " ", el("small", {}, Array.isArray(value) ? plural(value.length, "entry", "entries") : plural(Object.keys(value).length, "key"))), settings(lines)),
      );
    }
  }
  $("config-told").replaceChildren(settings(single), ...sections);
}

const settings = (lines) =>
  el("dl", { class: "settings" }, lines.map(([path, value]) => el("div", {}, el("dt", {}, path || "–"), el("dd", {}, value))));
