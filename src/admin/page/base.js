// pointsman's page for operators. One module, put together from the parts in src/admin/page; no
// framework, no build step. Every text from outside becomes a text node: there is no innerHTML here.

const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";

/** Makes an element: el("p", {class: "x", onclick: f, "aria-label": "y"}, "text", child, null). */
function el(tag, props = {}, ...kids) {
  return dress(document.createElement(tag), props, kids);
}

function svg(tag, props = {}, ...kids) {
  return dress(document.createElementNS(SVG, tag), props, kids);
}

function dress(node, props, kids) {
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...kids.flat().filter((kid) => kid !== null && kid !== undefined && kid !== false));
  return node;
}

/** Sets a text only where it differs, so that selections and screen readers are left alone. */
function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/**
 * Brings the children of a list in line with items: made once per key, then only updated and moved.
 * What has the focus keeps it.
 */
function keep(list, items, keyOf, make, update) {
  const known = (list.known ??= new Map());
  const wanted = new Set(items.map(keyOf));
  for (const [key, node] of known) {
    if (!wanted.has(key)) {
      node.remove();
      known.delete(key);
    }
  }
  let before = null;
  for (const item of items) {
    const key = keyOf(item);
    let node = known.get(key);
    if (!node) known.set(key, (node = make(item)));
    const place = before ? before.nextSibling : list.firstChild;
    // Moving a node takes the focus from it, so only what is out of place is moved.
    if (place !== node) list.insertBefore(node, place);
    update?.(node, item);
    before = node;
  }
}

/** Shows a sentence in place of a list that is empty. */
function empty(list, text) {
  list.note ??= list.parentNode.insertBefore(el("p", { class: "none" }), list);
  list.note.hidden = !text;
  list.hidden = Boolean(text);
  if (text) say(list.note, text);
}

const two = (number) => String(number).padStart(2, "0");

/** A time as the clock on the wall here says it; with the day where it is not today's. */
function clock(at) {
  const date = new Date(at);
  const time = `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
  const isToday = date.toDateString() === new Date().toDateString();
  return isToday ? time : `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())} ${time}`;
}

const moment = (at) => el("time", { datetime: at, title: at }, clock(at));

function span(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${two(s % 60)} s`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${two(Math.floor((s % 3600) / 60))} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
}

const milliseconds = (ms) =>
  ms >= 9950 ? `${Math.round(ms / 1000)} s` : ms >= 995 ? `${(ms / 1000).toFixed(1)} s` : `${Math.round(ms)} ms`;

const grouped = new Intl.NumberFormat("en-US");
const count = (number) => grouped.format(number);
const plural = (number, one, many = `${one}s`) => `${count(number)} ${number === 1 ? one : many}`;
const words = (word) => word.replaceAll("_", " ");

function median(numbers) {
  const sorted = [...numbers].sort((a, b) => a - b);
  return sorted.length ? sorted[Math.floor((sorted.length - 1) / 2)] : null;
}

/** Tells a change to those who do not see it. Several within a moment are told together. */
function announce(text) {
  announce.waiting ??= [];
  announce.waiting.push(text);
  announce.timer ??= setTimeout(() => {
    say($("news"), announce.waiting.slice(-3).join(". "));
    announce.waiting = [];
    announce.timer = undefined;
  }, 500);
}
