#!/bin/bash
# From nothing to the first routed request, within a minute.
. "$(dirname "$0")/lib.sh"
task "the first routed request, within 60 seconds"
provider one
started_at=$SECONDS

step "write a configuration: one provider, one name for clients"
export KEY_ONE=sk-first-0123456789
put "$config" <<END
$(head_of_file)
providers:
  one: {kind: openai, base_url: "$one_url/v1", credentials: [{name: k, key: {env: KEY_ONE}}]}
routes:
  chat: {targets: [{provider: one, model: m}]}
default_route: chat
END

step "check it"
"$POINTSMAN_BIN" check -c "$config" >"$walk/checked" 2>&1 || wrong "check refuses it: $(cat "$walk/checked")"

step "run it, and ask"
proxy
request
[ "$status" = 200 ] || wrong "the first request was answered with $status: $(cat "$walk/answer")"
[ "$(field choices.0.message.content <"$walk/answer")" != "" ] || wrong "the answer has no text"
[ "$(header x-used-provider)" = one ] || wrong "x-used-provider is '$(header x-used-provider)', not 'one'"
[ "$(header x-used-fallback)" = false ] || wrong "x-used-fallback is '$(header x-used-fallback)', not 'false'"
[ "$(header x-pointsman-trail)" = one/k:ok ] || wrong "the trail is '$(header x-pointsman-trail)'"
[ -n "$(header x-request-id)" ] || wrong "the answer has no x-request-id"
[ "$(seen "$one_url" by_key.$KEY_ONE)" = 1 ] || wrong "the provider did not get its own key"
took=$((SECONDS - started_at))
[ "$took" -le 60 ] || wrong "it took $took s"

step "the snippet for a tool"
verb client openai-python >"$walk/snippet" 2>&1 || wrong "client openai-python: $(cat "$walk/snippet")"
grep -q "$data_port" "$walk/snippet" || wrong "the snippet does not name the address $data"
good
