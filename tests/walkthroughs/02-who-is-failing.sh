#!/bin/bash
# A provider fails, and nobody complains. Who is it, since when, until when, and why?
. "$(dirname "$0")/lib.sh"
task "who is failing now"
provider one
provider two
put "$config" <<END
$(head_of_file)
providers:
  one: {kind: openai, base_url: "$one_url/v1", credentials: [{name: k, key: {env: KEY_ONE}}]}
  two: {kind: openai, base_url: "$two_url/v1", credentials: [{name: k, key: {env: KEY_TWO}}]}
routes:
  chat:
    targets:
      - {provider: one, model: m, priority: 1}
      - {provider: two, model: m, priority: 2}
default_route: chat
END
export KEY_ONE=sk-one-0123456789 KEY_TWO=sk-two-0123456789
proxy

step "the first provider says 429, come again in 120 s"
tell "$one_url" '{"status": 429, "retry_after": 120}'
request -H 'x-request-id: walk-02'
[ "$status" = 200 ] || wrong "the client saw $status, not the second provider's answer"
[ "$(header x-used-provider)" = two ] || wrong "'$(header x-used-provider)' answered, not 'two'"
[ "$(header x-pointsman-trail)" = "one/k:429,two/k:ok" ] || wrong "the trail is '$(header x-pointsman-trail)'"

step "who: status"
verb status >"$walk/status" || wrong "status does not work"
grep -E '^chat .*two/k/m.*one/k/m cooling: rate_limited' "$walk/status" >/dev/null ||
    wrong "status does not say that one rests, and why: $(cat "$walk/status")"
verb status --json >"$walk/status.json" || wrong "status --json does not work"
python3 - "$walk/status.json" <<'END' || wrong "status --json does not tell it: $(cat "$walk/status.json")"
import json, sys
told = json.load(open(sys.argv[1]))
one = next(t for t in told["targets"] if t["id"] == "one/k/m")
two = next(t for t in told["targets"] if t["id"] == "two/k/m")
assert one["state"] == "cooling", one
assert 60 < one["retry_in_s"] <= 120, one
assert one["until"] and one["reason"], one
assert one["last_error"]["outcome"] == "rate_limited" and one["last_error"]["status"] == 429, one
assert two["state"] == "ready", two
assert next(r for r in told["routes"] if r["name"] == "chat")["target"] == "two/k/m", told["routes"]
END

step "since when, and how much: the metrics"
[ "$(metric pointsman_target_available 'target="one/k/m"')" = 0 ] || wrong "target_available of one is not 0"
[ "$(metric pointsman_failovers_total 'from="one/k/m"' 'to="two/k/m"' 'reason="rate_limited"')" = 1 ] ||
    wrong "failovers_total does not count the change from one to two"

step "why did that request go where it went"
eventually "the decision is kept" verb why walk-02
verb why walk-02 >"$walk/why" || wrong "why does not know the request: $(cat "$walk/why")"
grep -E 'one/k/m.*rate.limited' "$walk/why" >/dev/null && grep -E 'two/k/m.*ok' "$walk/why" >/dev/null ||
    wrong "why does not say what became of both targets: $(cat "$walk/why")"
eventually "the log has its trail" grep -q '"id":"walk-02".*one/k:429,two/k:ok' "$walk/log"

step "and where would the next one go"
verb explain --model chat >"$walk/explained" || wrong "explain does not work: $(cat "$walk/explained")"
grep -E 'one/k/m.*cooling' "$walk/explained" >/dev/null && grep -E 'would go to two/k/m' "$walk/explained" >/dev/null ||
    wrong "explain does not say where it would go: $(cat "$walk/explained")"

step "the next request does not touch the one that rests"
request
[ "$status" = 200 ] && [ "$(header x-attempts)" = 1 ] || wrong "it was asked again while it rests"
[ "$(seen "$one_url" answered)" = 1 ] || wrong "the resting provider was asked $(seen "$one_url" answered) times"
good
