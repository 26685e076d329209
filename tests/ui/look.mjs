// Looks at /ui as an operator does, in Chromium, with a real program behind it. `scripts/ui` runs it.
//
//   POINTSMAN_BIN=target/debug/pointsman node tests/ui/look.mjs PLAYWRIGHT [PICTURES]
//
// PLAYWRIGHT is the folder of playwright-core; PICTURES a folder for screenshots. It ends with 1 at
// the first thing that is not as it should be, and says which.

import assert from "node:assert/strict";
import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join, resolve } from "node:path";
import { TOKEN, eventually, provider, proxy, request } from "./stage.mjs";

const [, , tools, pictures] = process.argv;
const { chromium } = createRequire(join(resolve(tools), "package.json"))("playwright-core");
if (pictures) mkdirSync(pictures, { recursive: true });

// What browsers complained of, for the last words of a look that failed.
const complaints = [];
const said = (text) => console.log(`    ${text}`);

const first = await provider("north");
const second = await provider("south");
const house = await proxy(({ data, admin }) => `version: 1
threads: 2
grace: 5s
listen: [{address: "127.0.0.1:${data}"}]
admin: {address: "127.0.0.1:${admin}", token: {env: UI_TOKEN}}
clients:
  - {name: desk, key: {env: UI_DESK}}
  - {name: night-batch, key: {env: UI_NIGHT}}
providers:
  north:
    kind: openai
    base_url: "${first.url}/v1"
    credentials: [{name: work, key: {env: UI_WORK}}, {name: home, key: {env: UI_HOME}}]
    models: {large: {price: {input: 2.5, output: 10}}, small: {price: {input: 0.15, output: 0.6}}}
  south:
    kind: openai
    base_url: "${second.url}/v1"
    credentials: [{name: main, key: {env: UI_MAIN}}]
    models: {large: {price: {input: 3, output: 15}}}
routes:
  chat:
    targets:
      - {provider: north, model: large, priority: 1}
      - {provider: south, model: large, priority: 2}
  drafts:
    targets:
      - {provider: north, model: small, priority: 1}
      - {provider: south, model: large, priority: 2}
log: {level: error}
`, {
  UI_TOKEN: TOKEN,
  UI_DESK: "sk-client-desk",
  UI_NIGHT: "sk-client-night",
  UI_WORK: "sk-north-work-1",
  UI_HOME: "sk-north-home-1",
  UI_MAIN: "sk-south-main-1",
});

/** Requests of two clients and their devices, some at once. */
async function traffic(rounds) {
  for (let round = 0; round < rounds; round += 1) {
    const all = await Promise.all([
      request(house.data, { device: "laptop" }),
      request(house.data, { device: "laptop", stream: false }),
      request(house.data, { model: "drafts", stream: false, client: "sk-client-night", device: "build-7" }),
    ]);
    assert.deepEqual(all, [200, 200, 200], "every request of the traffic is answered");
  }
}

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
});

/** A page that fails the whole look where it breaks the policy, errs, or asks another host. */
async function open({ width = 1600, height = 1000, colorScheme = "light", before, awaits = ".card" } = {}) {
  const context = await browser.newContext({ viewport: { width, height }, colorScheme, reducedMotion: "reduce" });
  const page = await context.newPage();
  page.setDefaultTimeout(15_000);
  const wrong = [];
  complaints.push(wrong);
  // While the program is away on purpose, a browser complains of each try.
  page.mayFail = awaits !== ".card";
  page.on("console", (line) => {
    if (line.type() === "error" && !(page.mayFail && /Failed to load resource|net::ERR/.test(line.text()))) wrong.push(line.text());
  });
  page.on("pageerror", (fault) => wrong.push(String(fault)));
  page.on("request", (asked) => {
    if (!asked.url().startsWith(house.admin) && !asked.url().startsWith("data:")) wrong.push(`asks ${asked.url()}`);
  });
  await page.addInitScript(() => addEventListener("securitypolicyviolation", (event) => console.error(`policy: ${event.violatedDirective}`)));
  await fromSource(page);
  await before?.(page);
  await page.goto(`${house.admin}/ui`);
  await page.locator(awaits).first().waitFor();
  return Object.assign(page, {
    isClean: () => assert.deepEqual(wrong, [], "no error, no breach of the policy, no other host"),
  });
}

/** POINTSMAN_PAGE=src/admin/page shows the files as they are there, without a build. */
async function fromSource(page) {
  const folder = process.env.POINTSMAN_PAGE;
  if (!folder) return;
  const text = (name) => readFileSync(join(folder, name), "utf8");
  const parts = [...readFileSync(`${folder}.rs`, "utf8").matchAll(/page\/(\w+\.js)/g)].map(([, name]) => name);
  const files = { "/ui": () => text("index.html"), "/ui/style.css": () => text("style.css"), "/ui/app.js": () => parts.map(text).join("") };
  for (const [path, body] of Object.entries(files)) {
    await page.route(house.admin + path, async (route) => route.fulfill({ response: await route.fetch(), body: body() }));
  }
}

const fits = (page) => page.evaluate(() => document.documentElement.scrollWidth <= innerWidth);
const focused = (page) => page.evaluate(() => document.activeElement?.textContent ?? "");
const card = (page, id) => page.locator(`.card[data-target="${id}"]`);

async function shoot(page, name) {
  if (pictures) await page.screenshot({ path: join(pictures, `${name}.png`) });
}

/** Presses Tab until the focus is where a predicate of the page says, as somebody without a mouse. */
async function tabTo(page, what, predicate, most = 120) {
  for (let presses = 0; presses < most; presses += 1) {
    await page.keyboard.press("Tab");
    if (await page.evaluate(predicate)) return;
  }
  assert.fail(`${most} times Tab did not lead to ${what}`);
}

async function seesHowItStands() {
  const page = await open();
  await page.locator("#failover-list button").first().waitFor();
  const chat = page.locator(".route", { hasText: "chat" });
  await chat.locator(".current .name", { hasText: "south/main/large" }).waitFor();
  const resting = card(page, "north/work/large");
  await resting.locator(".state", { hasText: "cooling" }).waitFor();
  assert.match(await resting.locator(".why").innerText(), /rate limited 429, until .*\(in \d+/);
  assert.match(await resting.locator("svg[role=img]").last().getAttribute("aria-label"), /errors in the last hour: [1-9]/);
  assert.match(await card(page, "south/main/large").locator("svg[role=img]").first().getAttribute("aria-label"), /median \d+/);
  await page.locator("#link", { hasText: "live" }).waitFor();
  said("routes, targets, until when and why, the last hour");

  for (const [by, name] of [["route", "drafts"], ["model", "large"], ["client", "night-batch"], ["device", "laptop"]]) {
    await page.locator("#usage-by label", { hasText: by }).click();
    await page.locator("#usage-told tbody th", { hasText: name }).first().waitFor();
  }
  assert.match(await page.locator("#usage-told tfoot").innerText(), /\$/);
  said("usage by route, model, client and device, with its cost");

  await page.locator("#config-told summary", { hasText: "providers" }).click();
  const config = await page.locator("#config").innerText();
  assert.ok(/north.*key/.test(config) && config.includes("UI_WORK") && !config.includes("sk-north"), "keys are not shown");
  said("the configuration, without a key");
  page.isClean();
  await page.context().close();
}

async function asksWhy() {
  const page = await open();
  await page.locator("#failover-list button").first().waitFor();
  // By keyboard: to the first failover, in, and out again.
  await tabTo(page, "a failover", () => document.activeElement.classList.contains("failover"));
  await page.keyboard.press("Enter");
  await page.locator("#why .attempts li").first().waitFor();
  const told = await page.locator("#why").innerText();
  assert.match(told, /rate limited 429/);
  assert.match(told, /Candidates, in the order of choice/);
  await shoot(page, "why-1600-light");
  await page.keyboard.press("Escape");
  assert.equal(await page.evaluate(() => document.activeElement.classList.contains("failover")), true, "the focus is back");
  page.isClean();
  await page.context().close();
  said("a failover opens its decision, and leads back");
}

async function drainsByKeyboard() {
  const page = await open();
  const target = card(page, "south/main/large");
  const isDrain = () => document.activeElement.getAttribute("aria-label") === "Drain south/main/large";
  await tabTo(page, "the drain of south", isDrain);
  await page.keyboard.press("Enter");
  await page.locator("#confirm[open]").waitFor();
  assert.match(await page.locator("#confirm").innerText(), /Nobody else can be asked now for chat, drafts/);
  await page.keyboard.press("Escape");
  await page.locator("#confirm[open]").waitFor({ state: "detached" });
  assert.equal(await page.evaluate(isDrain), true, "the focus is back at the button");
  assert.match(await target.locator(".state").innerText(), /ready/, "leaving the dialog drains nothing");

  page.mayFail = true;
  await page.keyboard.press("Enter");
  await page.keyboard.type("not the token");
  await page.keyboard.press("Enter");
  await page.locator("#confirm .fault", { hasText: "wrong" }).waitFor();
  assert.equal(await page.evaluate(() => sessionStorage.getItem("pointsman.token")), null, "a wrong token is not kept");
  page.mayFail = false;
  await shoot(page, "confirm-1600-light");
  await page.locator("#token").fill("");
  await page.keyboard.type(TOKEN);
  await page.keyboard.press("Enter");
  await target.locator(".state", { hasText: "drained" }).waitFor();
  await eventually("the change is told to a screen reader", async () => /drained/.test(await page.locator("#news").textContent()));
  const kept = await page.evaluate(() => [Object.keys(localStorage).length, document.cookie, location.href]);
  assert.deepEqual([kept[0], kept[1], kept[2].includes(TOKEN)], [0, "", false], "the token is in the tab's storage only");
  const status = await fetch(`${house.admin}/v1/targets/south/main/large`).then((answer) => answer.json());
  assert.equal(status.state, "drained", "the program says so too");
  await eventually("the focus went to the button that undoes it", async () => (await focused(page)) === "Make ready");
  await page.keyboard.press("Enter");
  await page.locator("#confirm[open]").waitFor();
  assert.equal(await focused(page), "Cancel", "the way out has the focus");
  await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  await target.locator(".state", { hasText: "ready" }).waitFor();

  const cooling = card(page, "north/home/large");
  await cooling.locator("button", { hasText: "Reset" }).click();
  await page.locator("#confirm button[type=submit]").click();
  await cooling.locator(".state", { hasText: "ready" }).waitFor();
  page.isClean();
  await page.context().close();
  said("drain, ready and reset, each confirmed; the token asked for once");
}

async function seesAReload() {
  const page = await open();
  await page.locator("#config-told dl").first().waitFor();
  house.write("usage: {keep_days: 30}\n");
  await page.locator("#reload").click();
  await page.locator("#token").fill(TOKEN);
  await page.keyboard.press("Enter");
  const diff = page.locator("#config-diff");
  await diff.locator("code", { hasText: "usage.keep_days" }).waitFor();
  assert.match(await diff.innerText(), /Generation 1 → 2[^]*\+ 30/);
  await page.reload();
  await page.locator("#config-diff code", { hasText: "usage.keep_days" }).waitFor();
  said("a reload shows what it changed, after the page is loaded anew as well");

  page.mayFail = true;
  house.write("routes_: {}\n");
  await page.locator("#reload").click();
  await page.locator("#confirm button[type=submit]").click();
  await page.locator("#confirm .fault", { hasText: "routes_" }).waitFor();
  await page.keyboard.press("Escape");
  await page.locator("#config-diff .warning", { hasText: "Refused" }).waitFor();
  house.write();
  page.mayFail = false;
  page.isClean();
  await page.context().close();
  said("a refused configuration shows its faults");
}

async function isLive() {
  const page = await open();
  await page.locator("#link", { hasText: "live" }).waitFor();
  const began = Date.now();
  await fetch(`${house.admin}/v1/targets/south/main/large:disable`, { method: "POST", headers: { authorization: `Bearer ${TOKEN}` } });
  await card(page, "south/main/large").locator(".state", { hasText: "disabled" }).waitFor();
  assert.ok(Date.now() - began < 3000, "an event brings it before the next round of asking");
  await fetch(`${house.admin}/v1/targets/south/main/large:ready`, { method: "POST", headers: { authorization: `Bearer ${TOKEN}` } });
  page.mayFail = true;
  await house.stop();
  await page.locator("#stale", { hasText: /no data since \d\d:\d\d:\d\d, trying again/ }).waitFor();
  await shoot(page, "lost-1600-light");
  await house.again();
  await page.locator("#stale").waitFor({ state: "hidden" });
  await page.locator("#link", { hasText: "live" }).waitFor();
  page.isClean();
  await page.context().close();
  said("changes come by themselves; a lost line is said, and found again");
}

/** As where other machines reach the listener: without the token nothing is told but the page itself. */
async function asksForTheTokenWhereReadingWantsIt() {
  const page = await open({
    awaits: "#confirm[open]",
    before: (page) =>
      page.route("**/v1/**", async (route) => {
        if ((await route.request().headerValue("authorization")) === `Bearer ${TOKEN}`) return route.continue();
        return route.fulfill({ status: 401, contentType: "application/problem+json", body: '{"status": 401, "detail": "this wants the admin token"}' });
      }),
  });
  await page.keyboard.press("Escape");
  await page.locator("#stale", { hasText: "no data yet, trying again: this wants the admin token" }).waitFor();
  await page.locator("#give-token").click();
  await page.keyboard.type(TOKEN);
  await page.keyboard.press("Enter");
  await page.locator(".card").first().waitFor();
  await page.locator("#link", { hasText: "live" }).waitFor();
  await page.locator("#stale").waitFor({ state: "hidden" });
  page.isClean();
  await page.context().close();
  said("where reading wants the token it is asked for, and events come with it");
}

/** Sets decisions of some seconds over an hour, for pictures only: nobody waits an hour for one. */
async function overAnHour(page) {
  await page.route("**/v1/decisions?since=1h*", async (route) => {
    const answer = await route.fetch();
    const told = await answer.json();
    const now = Date.now();
    told.decisions.forEach((one, at) => (one.at = new Date(now - (at / told.decisions.length) ** 0.9 * 59.5 * 60_000).toISOString()));
    await route.fulfill({ response: answer, json: told });
  });
}

async function pleasesEverywhere() {
  for (const [name, width, height] of [["1600", 1600, 1000], ["390", 390, 844]]) {
    for (const colorScheme of ["light", "dark"]) {
      const page = await open({ width, height, colorScheme, before: overAnHour });
      await page.locator("#failover-list button").first().waitFor();
      await page.locator("#usage-told tbody").first().waitFor();
      assert.ok(await fits(page), `${width} px: nothing stands out to the side`);
      const faint = await page.evaluate(contrasts);
      assert.deepEqual(faint, [], `${width} px ${colorScheme}: every text has a contrast of 4.5`);
      await shoot(page, `page-${name}-${colorScheme}`);
      if (pictures) await page.screenshot({ path: join(pictures, `whole-${name}-${colorScheme}.png`), fullPage: true });
      if (width === 390) {
        await page.locator("#failover-list button").first().click();
        await page.locator("#why .attempts li").first().waitFor();
        assert.ok(await fits(page), "the dialog fits");
        await shoot(page, `why-${name}-${colorScheme}`);
      }
      page.isClean();
      await page.context().close();
    }
  }
  said("390 and 1600 px, light and dark: fits, and can be read");
}

/** Texts whose contrast is below 4.5 (WCAG 2.2, 1.4.3); runs in the page. */
function contrasts() {
  const parse = (text) => text.match(/[\d.]+/g).map(Number);
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((c) => ((c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const behind = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const color = parse(getComputedStyle(at).backgroundColor);
      if (color.length < 4 || color[3] > 0.9) return color;
    }
    return [255, 255, 255];
  };
  const faint = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const node = walk.currentNode.parentElement;
    if (!walk.currentNode.textContent.trim() || !node.checkVisibility() || node.closest("svg, :disabled, noscript")) continue;
    const [a, b] = [light(parse(getComputedStyle(node).color)), light(behind(node))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) faint.push(`${node.tagName}.${node.className} "${walk.currentNode.textContent.slice(0, 30)}" ${ratio.toFixed(2)}`);
  }
  return faint;
}

async function trouble() {
  await first.will({ wait: 0.02, pause: 0.002 });
  await second.will({ wait: 0.04, pause: 0.002 });
  await traffic(8);
  await first.will({ status: 429, retry_after: 240 });
  await traffic(6);
}

/** For pictures: an hour's worth of ups and downs in some seconds. */
async function lively() {
  const reset = (id) => fetch(`${house.admin}/v1/targets/${id}:reset`, { method: "POST", headers: { authorization: `Bearer ${TOKEN}` } });
  for (const [status, rounds] of [[200, 25], [503, 3], [200, 30], [429, 2], [200, 20], [429, 5]]) {
    for (const id of ["north/work/large", "north/home/large", "north/work/small", "north/home/small"]) await reset(id);
    for (let round = 0; round < rounds; round += 1) {
      await first.will({ status, retry_after: 240, wait: 0.01 + 0.03 * Math.abs(Math.sin(round / 4)) });
      await traffic(1);
    }
  }
}

try {
  await trouble();
  await seesHowItStands();
  await asksWhy();
  if (pictures) await lively();
  await pleasesEverywhere();
  await drainsByKeyboard();
  await asksForTheTokenWhereReadingWantsIt();
  await seesAReload();
  await isLive();
  console.log("ok ui");
} catch (fault) {
  for (const page of browser.contexts().flatMap((one) => one.pages())) await shoot(page, "failed").catch(() => {});
  console.error(`not ok ui: ${fault.stack}`, complaints.flat());
  process.exitCode = 1;
} finally {
  await browser.close();
}
// The stand-ins and the program would keep this process waiting.
process.exit();
