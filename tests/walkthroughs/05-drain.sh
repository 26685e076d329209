#!/bin/bash
# A target is taken out for maintenance: its streams finish, new requests go elsewhere.
. "$(dirname "$0")/lib.sh"
task "drain a target with a live stream"
provider one
provider two
put "$config" <<END
$(head_of_file)
providers:
  one: {kind: openai, base_url: "$one_url/v1"}
  two: {kind: openai, base_url: "$two_url/v1"}
routes:
  chat:
    targets:
      - {provider: one, model: m, priority: 1}
      - {provider: two, model: m, priority: 2}
default_route: chat
END
proxy

operate() {
    verb target "$1" "$target" >"$walk/operated" 2>&1 || wrong "target $1 does not work: $(cat "$walk/operated")"
}
# A provider without credentials has a credential with a name all the same; the list tells it.
target=$(ask GET /v1/targets | grep -o '"id":"one/[^"]*/m"' | cut -d'"' -f4 | head -n 1)
[ -n "$target" ] || wrong "no target of one is listed"

step "a stream of some seconds runs at one"
tell "$one_url" '{"words": 60, "pause": 0.05}'
stream long
eventually "the stream has begun" stream_has long word3

step "drain it: new requests go to two"
operate drain
is_in_state "$target" drained || wrong "the target is '$(state_of "$target")', not 'drained'"
stream_has long DONE && wrong "the stream was over before the drain, so this shows nothing"
for _ in 1 2 3; do
    request
    [ "$status" = 200 ] && [ "$(header x-used-provider)" = two ] ||
        wrong "a new request was answered with $status by '$(header x-used-provider)'"
done
[ "$(seen "$one_url" answered)" = 1 ] || wrong "the drained target got new requests"

step "it survives a reload"
reload || wrong "the reload was refused: $(cat "$walk/reloaded")"
is_in_state "$target" drained || wrong "after a reload the target is '$(state_of "$target")'"

step "the stream finishes whole"
stream_ends long || wrong "the stream broke: $(cat "$walk/long.end")"
[ "$(told long)" = "$(words 60)" ] || wrong "the stream is not whole: $(told long)"
stream_has long DONE || wrong "the stream has no end"
[ "$(metric pointsman_in_flight "target=\"$target\"")" = 0 ] || wrong "in_flight of the drained target is not 0"

step "ready again"
operate ready
is_in_state "$target" ready || wrong "the target is '$(state_of "$target")', not 'ready'"
tell "$one_url" '{"pause": 0}'
request
[ "$(header x-used-provider)" = one ] || wrong "'$(header x-used-provider)' answers, not 'one'"
good
