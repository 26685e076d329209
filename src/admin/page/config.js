// The configuration in force, and what the last reload changed in it.
//
// A reload that is asked for here answers with its changes. Of one by HUP the API tells only what is
// in force then, so the page keeps what it saw last, for the tab, and compares by the same rule: key
// by key, the default standing in where one of the two says nothing. Secrets are `***` or the names
// of their places before they come here.

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
    const own = config.reload?.generation === shown.generation ? config.reload : {};
    config.diff = own.changes?.map(({ path, was, is }) => ({ path, before: was, after: is })) ?? differences(before, shown);
    // A program that was started anew counts generations from 1 again, mostly with the same file.
    if (shown.generation <= before.generation && !config.diff.length) config.diff = undefined;
    config.from = before.generation;
    config.at = own.at ?? new Date().toISOString();
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
  const [old, now] = [written(before), written(after)];
  const paths = [...new Set([...old.keys(), ...now.keys()])].sort();
  return paths
    .map((path) => ({ path, before: old.get(path), after: now.get(path) }))
    .map(({ path, before: was, after: is }) => ({ path, before: was?.value ?? is?.default ?? null, after: is?.value ?? was?.default ?? null }))
    .filter((change) => change.before !== change.after);
}

/** What the file says, by its path; without a file, what was found in its place. */
function written(shown) {
  const settings = Object.entries(shown.settings ?? {});
  if (settings.length) return new Map(settings);
  const { generation, ...rest } = shown;
  return new Map([...flat(rest)].map(([path, value]) => [path, { value }]));
}

function drawDiff() {
  const parts = [];
  const { refused, diff, reload, shown } = config;
  if (refused) {
    const more = refused.faults > 1 ? ` (and ${plural(refused.faults - 1, "more fault")})` : "";
    parts.push(el("p", { class: "warning" }, `✕ Refused at ${clock(refused.at)}, nothing changed: ${refused.text}${more}`));
  }
  if (diff) {
    parts.push(el("p", {}, `Generation ${config.from} → ${shown.generation} at ${clock(config.at)}: ${diff.length ? plural(diff.length, "value") : "nothing"} changed.`));
    if (diff.length) parts.push(el("ul", { class: "diff" }, diff.slice(0, 200).map(diffLine)));
  } else if (shown) {
    parts.push(el("p", { class: "none" }, `Generation ${shown.generation}. It has not changed since this tab first saw it; the next reload's changes will stand here.`));
  }
  if (reload?.needs_restart?.length) parts.push(el("p", { class: "warning" }, `⚠ After a restart only: ${reload.needs_restart.join(", ")}`));
  const warnings = Array.isArray(reload?.warnings) ? reload.warnings : [];
  if (warnings.length) parts.push(el("details", {}, el("summary", { class: "warning" }, `⚠ ${plural(warnings.length, "warning")}`), el("ul", {}, warnings.map((line) => el("li", {}, line)))));
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

/** What the file says, by its first word; then what is in force beside that. */
function drawSections(shown) {
  const { settings: said = {}, generation, ...rest } = shown;
  const groups = new Map();
  for (const [path, { value, default: usual }] of Object.entries(said)) {
    const [group] = path.split(/[.[]/);
    const own = path === group ? group : path.slice(group.length).replace(/^\./, "");
    groups.set(group, [...(groups.get(group) ?? []), [own, value, usual === value || !usual ? null : usual]]);
  }
  const single = [];
  for (const [name, value] of Object.entries(rest)) {
    if (groups.has(name)) continue;
    if (value !== null && typeof value === "object") groups.set(name, [...flat(value)]);
    else single.push([name, value === null ? "–" : String(value)]);
  }
  for (const [name, lines] of groups) {
    if (lines.length > 1 || lines[0][0] !== name) continue;
    single.unshift(lines[0]);
    groups.delete(name);
  }
  const sections = [...groups].map(([name, lines]) =>
    el("details", {}, el("summary", {}, name, " ", el("small", {}, plural(lines.length, "value"))), settings(lines)));
  $("config-told").replaceChildren(settings([["generation", String(generation)], ...single]), ...sections);
}

const settings = (lines) =>
  el("dl", { class: "settings" }, lines.map(([path, value, usual]) =>
    el("div", {}, el("dt", {}, path || "–"), el("dd", {}, value, usual ? el("small", {}, ` default ${usual}`) : null))));
