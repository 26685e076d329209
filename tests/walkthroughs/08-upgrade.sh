#!/bin/bash
# The package is upgraded: the new program checks the configuration before the old one is stopped, the
# streams under way end whole, and clients that try again where nobody listens see no failure.
#
# This walks the order of the package's scripts with the program out of a package; scripts/walk-systemd
# does it with dpkg and systemd. POINTSMAN_DEB names a package; else one is made of POINTSMAN_BIN where
# cargo-deb is installed; else the program itself plays the new version, and this says so.
. "$(dirname "$0")/lib.sh"
task "upgrade of the package"
new=$walk/new/usr/bin/pointsman
if [ -z "${POINTSMAN_DEB:-}" ] && command -v dpkg-deb >/dev/null && command -v "${CARGO_DEB:-cargo-deb}" >/dev/null; then
    step "make a package"
    POINTSMAN_BIN=$POINTSMAN_BIN "$root/scripts/package" deb --out "$walk/packages" >"$walk/made" 2>&1 ||
        wrong "no package: $(tail -n 3 "$walk/made")"
    POINTSMAN_DEB=$(find "$walk/packages" -name 'pointsman_*.deb')
fi
if [ -n "${POINTSMAN_DEB:-}" ]; then
    dpkg-deb -x "$POINTSMAN_DEB" "$walk/new"
else
    step "  (no cargo-deb: the program itself plays the new version)"
    install -D -m 755 "$POINTSMAN_BIN" "$new"
fi
[ -x "$new" ] || wrong "the package has no /usr/bin/pointsman"

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
old_pid=$proxy_pid
tell "$one_url" '{"words": 60, "pause": 0.05}'
stream under_way
eventually "the stream has begun" stream_has under_way word3
tell "$one_url" '{"pause": 0}'
load 3 patient
load_more 20

step "the new program reads the configuration in force"
"$new" check -c "$config" >"$walk/checked" 2>&1 || wrong "the new program refuses the configuration: $(cat "$walk/checked")"
step "a configuration that it refuses stops the upgrade here, the old one serves on"
sed 's/^grace: .*/grace: soon/' "$config" | put "$walk/faulty.yaml"
! "$new" check -c "$walk/faulty.yaml" >/dev/null 2>&1 || wrong "the new program takes a faulty file"
load_more 5

step "TERM: the old one takes no more and ends its stream; then the new one starts"
kill -TERM "$old_pid"
gone() { ! kill -0 "$old_pid" 2>/dev/null; }
eventually "the old one leaves" gone
code=0
wait "$old_pid" || code=$?
[ "$code" = 0 ] || wrong "the old one ended with $code"
stream_ends under_way || wrong "the stream under way broke: $(cat "$walk/under_way.end")"
[ "$(told under_way)" = "$(words 60)" ] || wrong "the stream under way is not whole"
proxy "$new"
load_more 20
load_ends
[ "$load_bad" = 0 ] || wrong "$load_bad of $load_all requests failed"
step "$load_all requests across the change, none failed; $load_again connections were tried again"
good
