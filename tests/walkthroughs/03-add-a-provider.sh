#!/bin/bash
# A second provider for a route that has one, without a restart.
. "$(dirname "$0")/lib.sh"
task "add a provider"
provider one
provider two
mkdir "$walk/conf.d"
printf %s sk-two-0123456789 | put "$walk/key-two"
export KEY_ONE=sk-one-0123456789
put "$config" <<END
$(head_of_file)
providers:
  one: {kind: openai, base_url: "$one_url/v1", credentials: [{name: k, key: {env: KEY_ONE}}]}
routes:
  chat: {targets: [{provider: one, model: m, priority: 1}]}
default_route: chat
END
proxy
generation=$(ask GET /v1/status | field generation)

step "one fails, and there is nobody else"
tell "$one_url" '{"status": 503}'
request
[ "$status" != 200 ] || wrong "a request succeeded although the only provider fails"

step "a fragment brings the second provider; the route gets a target"
put "$walk/conf.d/two.yaml" <<END
providers:
  two: {kind: openai, base_url: "$two_url/v1", credentials: [{name: k, key: {file: "$walk/key-two"}}]}
END
sed 's|priority: 1}\]|priority: 1}, {provider: two, model: m, priority: 2}]|' "$config" | put "$config.edited"
mv "$config.edited" "$config"

step "check, see what would change, then reload"
"$POINTSMAN_BIN" check -c "$config" >"$walk/checked" 2>&1 || wrong "check refuses it: $(cat "$walk/checked")"
! verb config diff >"$walk/differs" 2>&1 || wrong "config diff sees no difference"
grep -q '^+ providers.two' "$walk/differs" || wrong "config diff does not tell the provider: $(cat "$walk/differs")"
reload || wrong "the reload was refused: $(cat "$walk/reloaded")"
grep -q '+ providers.two' "$walk/reloaded" || wrong "reload does not say what changed: $(cat "$walk/reloaded")"
now=$(ask GET /v1/status | field generation)
[ "$now" = $((generation + 1)) ] || wrong "generation $now is in force, not $((generation + 1))"
is_in_state two/k/m ready || wrong "the new target is '$(state_of two/k/m)', not 'ready'"
verb target list >"$walk/targets" && grep -q two/k/m "$walk/targets" || wrong "target list does not show two/k/m"

step "the same request now succeeds, by the new provider"
request
[ "$status" = 200 ] || wrong "it was answered with $status"
[ "$(header x-used-provider)" = two ] || wrong "'$(header x-used-provider)' answered, not 'two'"
[ "$(header x-used-fallback)" = true ] || wrong "x-used-fallback is not 'true'"
[ "$(seen "$two_url" by_key.sk-two-0123456789)" = 1 ] || wrong "the new provider did not get its own key"
good
