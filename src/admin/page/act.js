// What an operator can do: each verb says what it will bring about, and asks before it does.
//
// The token is asked for in the same dialog, once a tab. A dialog that was answered by mistake
// changes nothing: the button that has the focus at first is the one that leaves.

const VERBS = {
  drain: { does: "Drain", done: "is drained", text: (t) => `It gets no new requests; ${t.in_flight ? `the ${plural(t.in_flight, "request")} under way` : "what is under way"} may finish. It stays so until it is made ready.` },
  ready: { does: "Make ready", done: "is ready again", text: () => "It takes part in the choice again." },
  reset: { does: "Reset", done: "is reset", text: () => "Its breaker and its rest are forgotten, its credential's and its endpoint's too. Requests go to it at once, whatever its provider said." },
};

/** Asks for a confirmation, and for the token where there is none, then runs `deed`. */
function confirm({ title, parts, does, deed }) {
  const dialog = $("confirm");
  const fault = el("div", { class: "fault", role: "alert", hidden: true });
  const field = el("input", { id: "token", type: "password", autocomplete: "off", spellcheck: "false", required: true });
  const asksToken = el(
    "p",
    { class: "token" },
    el("label", { for: "token" }, "Admin token"),
    field,
    el("small", {}, "Kept for this tab only. It is admin.token of the configuration, else in the file admin-token of the runtime directory."),
  );
  const showToken = (is) => {
    asksToken.hidden = !is;
    field.disabled = !is;
  };
  showToken(!token.get());
  const leave = el("button", { type: "button", onclick: () => dialog.close() }, "Cancel");
  const go = el("button", { type: "submit", class: "primary" }, does);
  const refuse = (lines) => {
    fault.replaceChildren(...lines.map((line) => el("p", {}, line)));
    fault.hidden = false;
  };
  const run = async (event) => {
    event.preventDefault();
    if (!field.disabled) token.set(field.value.trim());
    go.disabled = true;
    try {
      await deed();
      dialog.close();
    } catch (why) {
      if (why.status === 401) {
        token.forget();
        showToken(true);
        field.focus();
      }
      refuse([why.status === 0 ? "Nobody answers. Whether it was done is not known; look at the state." : why.message, ...why.errors]);
    } finally {
      go.disabled = false;
    }
  };
  dialog.replaceChildren(
    el("form", { onsubmit: run }, el("h2", { id: "confirm-title" }, title), ...parts, asksToken, fault, el("div", { class: "buttons" }, leave, go)),
  );
  if (!dialog.open) dialog.showModal();
  (token.get() ? leave : field).focus();
}

function confirmVerb(verb, target) {
  const { does, done, text } = VERBS[verb];
  const lost = verb === "drain" ? routesWithout(target.id) : [];
  confirm({
    title: `${does} this target?`,
    parts: [
      el("p", { class: "mono" }, target.id),
      el("p", {}, text(target)),
      lost.length ? el("p", { class: "warning" }, `⚠ Nobody else can be asked now for ${lost.join(", ")}.`) : null,
    ].filter(Boolean),
    does,
    deed: async () => {
      await ask(`/v1/targets/${encodeURIComponent(target.id)}:${verb}`, { method: "POST" });
      announce(`${target.id} ${done}`);
      refreshSoon();
    },
  });
}

/** Routes that would have nobody to ask without a target. */
function routesWithout(id) {
  const usable = (other) => other !== id && ["ready", "half_open"].includes(state.byId.get(other)?.state);
  return state.routes.filter((route) => !route.implicit && route.targets.includes(id) && !route.targets.some(usable)).map((route) => route.name);
}

function confirmReload() {
  confirm({
    title: "Read the configuration again?",
    parts: [el("p", {}, "It is checked as a whole. If anything is wrong with it the one in force stays; requests under way are not touched.")],
    does: "Reload",
    deed: async () => {
      const told = await ask("/v1/reload", { method: "POST" });
      noteReload({ generation: told.generation, at: new Date().toISOString(), warnings: told.warnings, needs_restart: told.needs_restart, changes: told.changes });
      announce(`generation ${told.generation} is in force`);
      refreshSoon();
    },
  });
}

/** Where other machines reach the listener, reading wants the token as well. */
function askForToken(message) {
  if ($("confirm").open) return;
  token.forget();
  confirm({
    title: "This listener wants the admin token",
    parts: [el("p", {}, message)],
    does: "Use it",
    deed: async () => {
      await ask("/v1/status");
      refreshSoon();
      drawUsage().catch(() => {});
    },
  });
}
