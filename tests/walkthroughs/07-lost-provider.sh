#!/bin/bash
# A provider dies while it streams. The client reads on as if nothing had been.
. "$(dirname "$0")/lib.sh"
task "a provider is lost in mid-stream"
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
tell "$one_url" '{"words": 200, "pause": 0.05}'
tell "$two_url" '{"words": 200, "pause": 0}'

step "a stream runs at one; its process is killed"
stream cut
eventually "the client has some words" stream_has cut word10
kill -KILL "$one_pid"

step "two goes on; the client has every word once, and an end"
stream_ends cut || wrong "the client's stream broke: $(cat "$walk/cut.end")"
[ "$(told cut)" = "$(words 200)" ] || wrong "the text is not whole, or said twice: $(told cut | cut -c 1-300)"
[ "$(grep -c '^data: \[DONE\]' "$walk/cut.sse")" = 1 ] || wrong "the stream has not one end"
[ "$(metric pointsman_rescues_total 'result="rescued"')" = 1 ] || wrong "rescues_total does not count it"

step "new requests are answered by two"
request
[ "$status" = 200 ] && [ "$(header x-used-provider)" = two ] ||
    wrong "a new request was answered with $status by '$(header x-used-provider)'"

step "and with nobody to go on: the stream ends with an error, never as if it were whole"
tell "$two_url" '{"words": 200, "pause": 0.05}'
stream lost
eventually "the client has some words" stream_has lost word10
kill -KILL "$two_pid"
! stream_ends lost || wrong "the client cannot tell that the stream broke"
grep -q upstream_stream_lost "$walk/lost.sse" || wrong "the stream has no error event: $(tail -n 3 "$walk/lost.sse")"
! stream_has lost 'data: \[DONE\]' || wrong "a broken stream has a proper end"
good
