#!/bin/bash
# A provider's key is replaced and the old one revoked, under load, and no client sees a failure.
. "$(dirname "$0")/lib.sh"
task "rotate a key with no failed request"
provider one
old=sk-old-0123456789 new=sk-new-0123456789
printf %s $old | put "$walk/key"
tell "$one_url" "{\"keys\": [\"$old\"]}"
put "$config" <<END
$(head_of_file)
providers:
  one: {kind: openai, base_url: "$one_url/v1", credentials: [{name: k, key: {file: "$walk/key"}}]}
routes:
  chat: {targets: [{provider: one, model: m}]}
default_route: chat
END
proxy
load 4
load_more 50

step "the provider makes the new key; both are good for a while"
tell "$one_url" "{\"keys\": [\"$old\", \"$new\"]}"
step "write the new key beside the old one, rename it, reload"
printf %s $new | put "$walk/key"
reload || wrong "the reload was refused: $(cat "$walk/reloaded")"
load_more 50
step "the old key is no longer sent; revoke it at the provider"
before=$(seen "$one_url" by_key.$old)
load_more 50
[ "$(seen "$one_url" by_key.$old)" = "$before" ] || wrong "the old key is still sent after the reload"
tell "$one_url" "{\"keys\": [\"$new\"]}"
load_more 50
load_ends
[ "$load_bad" = 0 ] || wrong "$load_bad of $load_all requests failed"
[ "$(seen "$one_url" by_status.401)" = "" ] || wrong "the provider refused a key $(seen "$one_url" by_status.401) times"
step "$load_all requests, none failed, none was refused by the provider"

step "and where it was revoked first: the file is read again when the key is refused"
newer=sk-newer-0123456789
printf %s $newer | put "$walk/key"
tell "$one_url" "{\"keys\": [\"$newer\"]}"
request
[ "$status" = 200 ] || wrong "a request after the sudden change was answered with $status"
[ "$(header x-pointsman-trail)" = "one/k:401,one/k:ok" ] || wrong "the trail is '$(header x-pointsman-trail)'"
! grep -q -e $old -e $new -e $newer "$walk/log" || wrong "a key is in the log"
good
