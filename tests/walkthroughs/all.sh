#!/bin/bash
# Walks all of them; a failure does not stop the others. `make walkthroughs` calls it.
set -uo pipefail
cd "$(dirname "$0")" || exit 1
passed=0 failed=0
for walk in [0-9]*.sh; do
    if "./$walk"; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
