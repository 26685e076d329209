// How the page asks: the admin API of its own origin, with the token where that is wanted.
//
// The token lives in sessionStorage: it goes with the tab, and no other origin can read it.

const TOKEN = "pointsman.token";

const token = {
  get: () => sessionStorage.getItem(TOKEN),
  set: (value) => sessionStorage.setItem(TOKEN, value),
  forget: () => sessionStorage.removeItem(TOKEN),
};

/** Why something asked for did not come: `status` 0 where nobody answered. */
class Refused extends Error {
  constructor(status, detail, errors = []) {
    super(detail);
    this.status = status;
    this.errors = errors;
  }
}

const identity = () => (token.get() ? { authorization: `Bearer ${token.get()}` } : {});

async function ask(path, { method = "GET", accept = "application/json" } = {}) {
  let answer;
  try {
    answer = await fetch(path, {
      method,
      headers: { accept, ...identity() },
      cache: "no-store",
      signal: AbortSignal.timeout(method === "GET" ? 10_000 : 30_000),
    });
  } catch {
    throw new Refused(0, "no answer");
  }
  if (answer.ok) return answer.json().catch(() => Promise.reject(new Refused(0, "the answer broke off")));
  throw await refusal(answer);
}

async function refusal(answer) {
  const told = await answer.json().catch(() => ({}));
  return new Refused(answer.status, told.detail ?? `status ${answer.status}`, told.errors);
}

/**
 * Listens to events until the stream ends. EventSource cannot send a token, hence by hand: the wire
 * is lines of `field: value`, an empty line ends an event (WHATWG HTML, section 9.2).
 */
async function listen(lastId, onEvent, onAlive) {
  // A heartbeat comes every 15 s; a line that is silent for longer than two is dead.
  const dead = new AbortController();
  let timer;
  const alive = () => {
    clearTimeout(timer);
    timer = setTimeout(() => dead.abort(), 40_000);
    onAlive();
  };
  try {
    timer = setTimeout(() => dead.abort(), 10_000);
    const answer = await fetch("/v1/events", {
      headers: { accept: "text/event-stream", ...(lastId ? { "last-event-id": lastId } : {}), ...identity() },
      cache: "no-store",
      signal: dead.signal,
    });
    if (!answer.ok) throw await refusal(answer);
    alive();
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      alive();
      const blocks = (rest + value).split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) {
        const event = readEvent(block);
        if (event) onEvent(event);
      }
    }
  } catch (fault) {
    throw fault instanceof Refused ? fault : new Refused(0, "no answer");
  } finally {
    clearTimeout(timer);
    dead.abort();
  }
}

function readEvent(block) {
  const field = (name) => block.split("\n").find((line) => line.startsWith(`${name}: `))?.slice(name.length + 2);
  try {
    const data = field("data");
    return data ? { id: field("id"), ...JSON.parse(data) } : null;
  } catch {
    return null;
  }
}
