# What the walk-throughs share: a folder, stand-in providers, a proxy, and sentences when they fail.
#
#   . "$(dirname "$0")/lib.sh"
#   task "what an operator wants to do"
#
# POINTSMAN_BIN names the program (default: target/release/pointsman). Everything listens on free
# ports of loopback; whatever was started is ended by its id when the script ends, however it does.
# Wants bash, curl, python3. What an operator does is done with the verbs of the command line; the admin
# address is asked with curl for what is counted and compared.
# shellcheck shell=bash disable=SC2154 # `provider one` sets one_url and one_pid
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
POINTSMAN_BIN=${POINTSMAN_BIN:-${CARGO_TARGET_DIR:-$root/target}/release/pointsman}
walk=$(mktemp -d)
config=$walk/pointsman.yaml
# Where the program leaves the admin token, and where its verbs find it.
export XDG_RUNTIME_DIR=$walk/run
unset RUNTIME_DIRECTORY
mkdir -m 700 "$XDG_RUNTIME_DIR"
started=()
task_name=$(basename "$0" .sh)
# A command that fails where nobody expected it ends the script; this says where.
trap 'printf "not ok %s: line %s failed: %s\n" "$task_name" "$LINENO" "$BASH_COMMAND" >&2' ERR

task() { printf '# %s: %s\n' "$task_name" "$*"; }
step() { printf '    %s\n' "$*"; }
good() { printf 'ok %s\n' "$task_name"; }
# Ends the script with a sentence, and with what the proxy said last.
wrong() {
    printf 'not ok %s: %s\n' "$task_name" "$*" >&2
    [ ! -s "$walk/log" ] || { echo "the proxy's last words:" && tail -n 8 "$walk/log"; } >&2
    exit 1
}

tidy() {
    local pid
    for pid in "${started[@]}"; do kill -KILL "$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
    rm -rf "$walk"
}
trap tidy EXIT
trap 'exit 130' INT TERM HUP PIPE

[ -x "$POINTSMAN_BIN" ] || wrong "$POINTSMAN_BIN is not there: build it (make build) or set POINTSMAN_BIN"
for tool in curl python3; do command -v "$tool" >/dev/null || wrong "$tool is not installed"; done

# Waits up to 20 seconds until a command is true: eventually "what is awaited" command...
eventually() {
    local what=$1 end=$((SECONDS + 20))
    shift
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $end ] || wrong "in 20 seconds it did not come about that $what"
        sleep 0.05
    done
}

# Starts a stand-in provider: its address is in $<name>_url, its process in $<name>_pid.
provider() {
    local name=$1 pid
    python3 "$here/provider.py" "$walk/$name.port" "$name" 2>"$walk/$name.err" &
    pid=$!
    started+=("$pid")
    # No word from the shell when a walk-through kills it.
    disown "$pid"
    eventually "the stand-in $name listens" test -s "$walk/$name.port"
    printf -v "${name}_pid" %s "$pid"
    printf -v "${name}_url" %s "http://127.0.0.1:$(cat "$walk/$name.port")"
}

# Tells a stand-in what to do, or asks what it saw: tell "$one_url" '{"status": 503}'
tell() { curl -sS -m 5 -o "$walk/told" "$1/_do" -d "$2" || wrong "the stand-in at $1 does not listen"; }
seen() { curl -sS -m 5 "$1/_seen" | field "$2"; }

# Prints one field of the JSON on standard input, by a path with dots; nothing where there is none.
field() {
    python3 -c '
import json, sys
try:
    value = json.load(sys.stdin)
    for part in sys.argv[1].split("."):
        value = value[int(part)] if isinstance(value, list) else value[part]
    print(value if isinstance(value, str) else json.dumps(value))
except (ValueError, KeyError, IndexError, TypeError):
    pass' "$1"
}

# Writes a file whole and at once, as an editor does; only its owner can read it: put PATH <text
put() {
    (umask 077 && cat >"$1.next")
    mv "$1.next" "$1"
}

# Picks two free ports for data and admin. Somebody else may take one before the proxy does, which is
# why `proxy` tries again.
ports() {
    read -r data_port admin_port < <(python3 -c '
import socket
sockets = [socket.socket() for _ in range(2)]
for one in sockets: one.bind(("127.0.0.1", 0))
print(*(one.getsockname()[1] for one in sockets))')
    data=http://127.0.0.1:$data_port
    admin=http://127.0.0.1:$admin_port
}
ports

# The head of every configuration here.
head_of_file() {
    cat <<END
version: 1
threads: 2
grace: 10s
listen: [{address: "127.0.0.1:$data_port"}]
admin: {address: "127.0.0.1:$admin_port"}
log: {format: json}
END
}

# Starts the proxy on $config and waits until it is ready; the process is in $proxy_pid.
proxy() {
    local program=${1:-$POINTSMAN_BIN} try
    for try in 1 2 3; do
        "$program" run -c "$config" >>"$walk/log" 2>&1 &
        proxy_pid=$!
        started+=("$proxy_pid")
        local end=$((SECONDS + 20))
        while kill -0 "$proxy_pid" 2>/dev/null && [ $SECONDS -lt $end ]; do
            # A 200 alone could be another's who has the port.
            ! curl -sf -m 2 "$admin/readyz" >/dev/null 2>&1 || ! kill -0 "$proxy_pid" 2>/dev/null || return 0
            sleep 0.05
        done
        [ "$try" -lt 3 ] || break
        # 71: the port was taken. Another pair, in the file as well.
        local code=0
        wait "$proxy_pid" 2>/dev/null || code=$?
        [ "$code" = 71 ] || break
        local old_data=$data_port old_admin=$admin_port
        ports
        sed -i "s/127.0.0.1:$old_data\"/127.0.0.1:$data_port\"/; s/127.0.0.1:$old_admin\"/127.0.0.1:$admin_port\"/" "$config"
    done
    wrong "pointsman does not get ready"
}

# Runs a verb of the running proxy. The verbs find the admin address in the file and the token in the
# runtime directory.
verb() { POINTSMAN_CONFIG=$config "$POINTSMAN_BIN" "$@" -c "$config"; }

# Asks the admin address, with the token where there is one: ask GET /v1/status; ask POST /v1/reload
ask() {
    local token=()
    [ ! -r "$XDG_RUNTIME_DIR/pointsman/admin-token" ] ||
        token=(-H "authorization: Bearer $(cat "$XDG_RUNTIME_DIR/pointsman/admin-token")")
    curl -sS -m 20 -X "$1" "${token[@]}" "$admin$2"
}

# Prints the sum of a metric's series that have these words in them: metric NAME [WORD...]
metric() {
    local name=$1 word lines
    shift
    lines=$(curl -sS -m 5 "$admin/metrics" | grep -E "^$name(\{| )" || true)
    for word in "$@"; do lines=$(grep -F -- "$word" <<<"$lines" || true); done
    awk '{sum += $NF} END {print sum + 0}' <<<"$lines"
}

# Reads the configuration again. Returns 1 where it was refused; what was said is in $walk/reloaded.
reload() { verb reload --wait >"$walk/reloaded" 2>&1; }

# What a target is doing, in the words of /v1/targets: state_of one/k/m
state_of() {
    ask GET /v1/targets | python3 -c '
import json, sys
shown = json.load(sys.stdin)
shown = shown.get("targets", []) if isinstance(shown, dict) else shown
print(next((one["state"] for one in shown if one["id"] == sys.argv[1]), "unknown"))' "$1"
}
is_in_state() { [ "$(state_of "$1")" = "$2" ]; }

# One request; the status goes to $status, the answer to $walk/answer, its head to $walk/head.
request() {
    status=$(curl -sS -m 30 -o "$walk/answer" -D "$walk/head" -w '%{http_code}' "$data/v1/chat/completions" \
        -H 'content-type: application/json' "$@" \
        -d '{"model": "chat", "messages": [{"role": "user", "content": "hello"}]}') || status=000
}
# A header of the last answer: header x-used-provider
header() { tr -d '\r' <"$walk/head" | sed -n "s/^$1: //Ip" | tail -n 1; }

# Starts a streamed request that runs beside the script: stream NAME; wait for it with stream_ends NAME.
stream() {
    curl -sS -N -m 60 -o "$walk/$1.sse" -D "$walk/$1.head" -w '%{http_code} %{errormsg}' \
        "$data/v1/chat/completions" -H 'content-type: application/json' \
        -d '{"model": "chat", "stream": true, "temperature": 0, "messages": [{"role": "user", "content": "hello"}]}' \
        >"$walk/$1.end" 2>/dev/null &
    printf -v "stream_$1" %s "$!"
    started+=("$!")
}
stream_has() { grep -q "$2" "$walk/$1.sse"; }
stream_ends() {
    local pid="stream_$1" code=0
    wait "${!pid}" || code=$?
    return "$code"
}
# The text that a client put together from a stream.
told() {
    python3 -c '
import json, sys
text = ""
for line in open(sys.argv[1], encoding="utf-8"):
    if line.startswith("data: {"):
        for choice in json.loads(line[6:]).get("choices", []):
            text += choice["delta"].get("content") or ""
print(text.strip())' "$walk/$1.sse"
}
words() { python3 -c 'import sys; print(" ".join(f"word{n}" for n in range(1, int(sys.argv[1]) + 1)))' "$1"; }

# Sends requests one after the other until `load_ends`, some at once. Each line of $walk/load.N is a
# status, or `cut`. A connection that is refused or lost before any answer counts as a failure (000), but
# with `load N patient`: then it is tried again for 20 s, as every SDK does, and noted in $walk/again.
load() {
    local lanes=${1:-4} patience=${2:-} lane
    rm -f "$walk"/load.* "$walk/again"
    load_pids=()
    for lane in $(seq "$lanes"); do
        lane "$walk/load.$lane" "$patience" &
        load_pids+=("$!")
        started+=("$!")
    done
}
lane() {
    local code=0 answered tries
    while [ ! -e "$walk/load.stop" ]; do
        for tries in $(seq 200); do
            code=0
            answered=$(curl -sS -m 20 -o /dev/null -w '%{http_code}' "$data/v1/chat/completions" \
                -H 'content-type: application/json' \
                -d '{"model": "chat", "messages": [{"role": "user", "content": "hello"}]}' \
                2>>"$walk/load_errors") || code=$?
            [ "$code" = 0 ] || [ "$answered" = 000 ] || answered='cut'
            [ "$answered" = 000 ] && [ "$2" = patient ] && [ "$tries" -lt 200 ] || break
            echo "$code" >>"$walk/again"
            sleep 0.1
        done
        echo "$answered" >>"$1"
    done
}
load_has() { [ "$(cat "$walk"/load.[0-9]* 2>/dev/null | wc -l)" -ge "$1" ]; }
load_count() { cat "$walk"/load.[0-9]* 2>/dev/null | wc -l; }
load_more() {
    local want=$(($(load_count) + $1))
    eventually "$1 more requests are answered" load_has "$want"
}
# Ends the load: how many were answered is in $load_all, how many of them not with 200 in $load_bad, and how
# often a connection was tried again in $load_again.
load_ends() {
    touch "$walk/load.stop"
    wait "${load_pids[@]}" 2>/dev/null || true
    load_all=$(load_count)
    load_bad=$(cat "$walk"/load.[0-9]* | grep -cvx 200 || true)
    touch "$walk/again"
    load_again=$(wc -l <"$walk/again")
}
