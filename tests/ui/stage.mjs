// What the page is looked at with: two stand-in providers, the program, requests through it, and a
// browser. Everything listens on free ports of loopback, and ends with this process.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";

export const folder = mkdtempSync(join(tmpdir(), "pointsman-ui-"));
export const TOKEN = "token-for-the-page-0123456789";
const children = [];

process.on("exit", tidy);
// Else a run that is broken off would leave them behind.
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => process.exit(1));

function tidy() {
  for (const child of children) child.kill("SIGKILL");
  rmSync(folder, { recursive: true, force: true });
}

/** Waits until something is true, for 20 seconds. */
export async function eventually(what, check) {
  const end = Date.now() + 20_000;
  for (;;) {
    const found = await Promise.resolve().then(check).catch(() => false);
    if (found) return found;
    if (Date.now() > end) throw new Error(`in 20 seconds it did not come about that ${what}`);
    await pause(50);
  }
}

function start(program, args, options = {}) {
  const child = spawn(program, args, { stdio: ["ignore", "ignore", "pipe"], ...options });
  let said = "";
  child.stderr.on("data", (text) => (said = (said + text).slice(-4000)));
  child.said = () => said;
  children.push(child);
  return child;
}

export async function provider(name) {
  const file = join(folder, `${name}.port`);
  start("python3", ["tests/walkthroughs/provider.py", file, name]);
  await eventually(`the stand-in ${name} listens`, () => existsSync(file));
  const url = `http://127.0.0.1:${readFileSync(file, "utf8")}`;
  return { url, will: (what) => fetch(`${url}/_do`, { method: "POST", body: JSON.stringify(what) }).then((r) => r.json()) };
}

async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return port;
}

export async function proxy(configuration, environment) {
  const [data, admin] = [await freePort(), await freePort()];
  const file = join(folder, "pointsman.yaml");
  const write = (extra = "") =>
    writeFileSync(file, configuration({ data, admin }) + extra, { mode: 0o600 });
  write();
  const run = () => start(process.env.POINTSMAN_BIN, ["run", "-c", file], { env: { ...process.env, ...environment, XDG_RUNTIME_DIR: folder } });
  const urls = { data: `http://127.0.0.1:${data}`, admin: `http://127.0.0.1:${admin}` };
  const isReady = () => fetch(`${urls.admin}/readyz`).then((answer) => answer.ok);
  let child = run();
  await eventually("the program is ready", () => child.exitCode !== null || isReady());
  if (child.exitCode !== null) throw new Error(`the program ended: ${child.said()}`);
  return {
    ...urls,
    write,
    async stop() {
      child.kill("SIGKILL");
      await once(child, "exit");
    },
    async again() {
      child = run();
      await eventually("the program is ready again", isReady);
    },
  };
}

export async function request(data, { model = "chat", client = "sk-client-desk", device, stream = true } = {}) {
  const answer = await fetch(`${data}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: `Bearer ${client}`, ...(device ? { "x-pointsman-device": device } : {}) },
    body: JSON.stringify({ model, stream, messages: [{ role: "user", content: "hello" }] }),
  });
  await answer.text();
  return answer.status;
}
