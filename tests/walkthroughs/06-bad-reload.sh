#!/bin/bash
# The new configuration is wrong. The old one goes on, and the operator hears of it.
. "$(dirname "$0")/lib.sh"
task "a bad reload keeps serving"
provider one
put "$config" <<END
$(head_of_file)
providers:
  one: {kind: openai, base_url: "$one_url/v1"}
routes:
  chat: {targets: [{provider: one, model: m}]}
default_route: chat
END
proxy
good_file=$(cat "$config")
generation=$(ask GET /v1/status | field generation)

step "a file with two faults: check names both, with their lines"
sed -e 's/provider: one,/provider: onee,/' -e 's/^grace: .*/grace: soon/' "$config" | put "$config.edited"
mv "$config.edited" "$config"
code=0
"$POINTSMAN_BIN" check -c "$config" >"$walk/checked" 2>&1 || code=$?
[ "$code" = 78 ] || wrong "check exits with $code, not 78"
grep -q 'did you mean' "$walk/checked" || wrong "check does not say what was meant: $(cat "$walk/checked")"
grep -q grace "$walk/checked" || wrong "check does not name grace: $(cat "$walk/checked")"

load 2
load_more 20
step "reload it all the same: refused"
! reload || wrong "the reload of a faulty file was taken"
step "and by a signal: refused as well"
kill -HUP "$proxy_pid"
errors_counted() { [ "$(metric pointsman_config_reloads_total 'result="error"')" -ge 2 ]; }
eventually "both refusals are counted" errors_counted
[ "$(metric pointsman_config_last_reload_successful)" = 0 ] || wrong "last_reload_successful is not 0"
[ "$(ask GET /v1/status | field generation)" = "$generation" ] || wrong "the generation changed"

step "half a file, and no file"
printf 'version: 1\nprovid' | put "$config"
! reload || wrong "half a file was taken"
rm "$config"
! reload || wrong "a missing file was taken"
load_more 20

step "mended: the next reload takes it"
put "$config" <<<"$good_file"
reload || wrong "the mended file was refused: $(cat "$walk/reloaded")"
[ "$(metric pointsman_config_last_reload_successful)" = 1 ] || wrong "last_reload_successful is not 1 again"
load_more 20
load_ends
[ "$load_bad" = 0 ] || wrong "$load_bad of $load_all requests failed meanwhile"
step "$load_all requests meanwhile, none failed"
good
