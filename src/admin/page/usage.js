// Requests, tokens and cost, added up by one thing at a time.

const BY = ["route", "model", "client", "device"];
const SINCE = [["today", "today"], ["7d", "7 days"], ["30d", "30 days"]];
const usage = { by: "route", since: "today" };

function setUpUsage() {
  for (const by of BY) {
    const choice = el("input", { type: "radio", name: "usage-by", value: by, checked: by === usage.by, onchange: () => change({ by }) });
    $("usage-by").append(el("label", {}, choice, el("span", {}, by)));
  }
  $("usage-since").append(...SINCE.map(([value, label]) => el("option", { value }, label)));
  $("usage-since").addEventListener("change", (event) => change({ since: event.target.value }));
  const change = (what) => {
    Object.assign(usage, what);
    drawUsage().catch(() => {});
  };
}

async function drawUsage() {
  const { by, since } = usage;
  const told = await ask(`/v1/usage?by=${by}&since=${since}`);
  // Another choice was made while this one was on its way.
  if (by !== usage.by || since !== usage.since) return;
  const rows = [...told.rows].sort((a, b) => (b.cost_usd ?? 0) - (a.cost_usd ?? 0) || b.requests - a.requests);
  const shape = JSON.stringify([rows, told.total, by, since]);
  if ($("usage-told").shape === shape) return;
  $("usage-told").shape = shape;
  if (!rows.length) {
    $("usage-told").replaceChildren(el("p", { class: "none" }, `Nothing was used since ${clock(told.since)}.`));
    return;
  }
  const heads = [by, "Cost", "Requests", "Failed", "Tokens in", "Tokens out"];
  const most = Math.max(...rows.map((row) => row.requests), 1);
  $("usage-told").replaceChildren(
    el(
      "div",
      { class: "scroll", tabindex: "0", role: "region", "aria-label": `Usage by ${by}` },
      el(
        "table",
        { class: "usage" },
        el("thead", {}, el("tr", {}, heads.map((head, at) => el("th", { scope: "col", class: at ? "number" : null }, head)))),
        el("tbody", {}, rows.map((row) => usageRow(row[by] || "(none named)", row, most))),
        el("tfoot", {}, usageRow("all", told.total, 0)),
      ),
    ),
    el("p", { class: "fine" }, `Since ${clock(told.since)}; days as in ${told.time_zone}.`, rows.some((row) => row.unpriced_requests) ? " ≥: of some requests the cost is not known." : ""),
  );
}

function usageRow(name, sums, most) {
  const number = (value) => el("td", { class: "number" }, count(value));
  const bar = most
    ? svg("svg", { class: "share", viewBox: "0 0 100 2", preserveAspectRatio: "none", "aria-hidden": "true" }, svg("rect", { width: (100 * sums.requests) / most, height: 2 }))
    : null;
  return el(
    "tr",
    {},
    el("th", { scope: "row" }, name, bar),
    // First, as it would be out of sight on a narrow screen else.
    el("td", { class: "number" }, cost(sums)),
    number(sums.requests),
    el("td", { class: sums.failed_requests ? "number bad" : "number" }, count(sums.failed_requests)),
    number(sums.input_tokens),
    number(sums.output_tokens),
  );
}

/** Dollars; unknown is said to be unknown, and what is known only in part to be at least that. */
function cost({ cost_usd: dollars, unpriced_requests: unpriced }) {
  if (dollars === null) return "unknown";
  const amount = dollars === 0 ? "$0" : dollars < 0.001 ? "< $0.001" : `$${dollars.toFixed(dollars < 100 ? 4 : 2)}`;
  return unpriced && dollars > 0 ? `≥ ${amount}` : amount;
}
