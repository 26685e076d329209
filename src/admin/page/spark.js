// Two small drawings of a target's last hour. Each says in words what it shows.

const WIDE = 180;
const HIGH = 34;
const STEP = WIDE / MINUTES;

function drawing(label, parts) {
  const box = { viewBox: `0 0 ${WIDE} ${HIGH}`, preserveAspectRatio: "none", role: "img", "aria-label": label };
  return svg("svg", { class: "spark", ...box }, svg("title", {}, label), ...parts);
}

/** What is not known is hatched by a line at the bottom that is broken. */
function unknown(hour) {
  const until = hour.findIndex((slot) => slot.known);
  const end = (until < 0 ? MINUTES : until) * STEP;
  return end > 0 ? svg("path", { class: "unknown", d: `M0 ${HIGH - 1}H${end.toFixed(1)}` }) : null;
}

/** Median time to first content, a line through the minutes that have one. */
function firstContent(hour) {
  const told = hour.map((slot, at) => ({ at, value: slot.first })).filter((point) => point.value !== null);
  if (!told.length) return { text: "none yet", node: drawing("time to first content: none in the last hour", [unknown(hour)]) };
  const most = Math.max(...told.map((point) => point.value));
  const middle = median(told.map((point) => point.value));
  const y = (value) => (HIGH - 3 - (value / Math.max(most, 1)) * (HIGH - 6)).toFixed(1);
  const x = (at) => ((at + 0.5) * STEP).toFixed(1);
  let line = "";
  told.forEach((point, at) => {
    const goesOn = at > 0 && told[at - 1].at === point.at - 1;
    // A minute by itself is a short stroke, or nobody would see it.
    line += goesOn ? `L${x(point.at)} ${y(point.value)}` : `M${(x(point.at) - 1).toFixed(1)} ${y(point.value)}h2`;
  });
  const label = `time to first content in the last hour: median ${milliseconds(middle)}, highest minute ${milliseconds(most)}`;
  return {
    text: `${milliseconds(middle)} · max ${milliseconds(most)}`,
    node: drawing(label, [unknown(hour), svg("path", { class: "line", d: line })]),
  };
}

/** Attempts by the minute, the failed ones of them from below and in another pattern of height. */
function errors(hour) {
  const attempts = hour.reduce((sum, slot) => sum + slot.attempts, 0);
  const failed = hour.reduce((sum, slot) => sum + slot.failed, 0);
  if (!attempts) return { text: "no attempts", node: drawing("errors: no attempts in the last hour", [unknown(hour)]) };
  const most = Math.max(...hour.map((slot) => slot.attempts));
  const bar = (name, at, from, to) => {
    const scale = (value) => (value / most) * (HIGH - 3);
    const place = { x: (at * STEP + 0.4).toFixed(1), y: (HIGH - 1 - scale(to)).toFixed(1) };
    return svg("rect", { class: name, ...place, width: (STEP - 0.8).toFixed(1), height: Math.max(scale(to - from), 0.8).toFixed(1) });
  };
  const bars = hour.flatMap((slot, at) => [
    slot.attempts > slot.failed ? bar("attempts", at, slot.failed, slot.attempts) : null,
    slot.failed ? bar("failed", at, 0, slot.failed) : null,
  ]);
  const share = (100 * failed) / attempts;
  const percent = failed === 0 ? "0 %" : share < 0.1 ? "< 0.1 %" : `${share.toFixed(share < 10 ? 1 : 0)} %`;
  const label = `errors in the last hour: ${count(failed)} of ${plural(attempts, "attempt")}, ${percent}`;
  return { text: `${count(failed)} of ${count(attempts)} · ${percent}`, node: drawing(label, [unknown(hour), ...bars]) };
}
