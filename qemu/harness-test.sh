#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# The tests of what runs on this machine and not in a guest. out/harness has what they say.

# shellcheck source=qemu/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

OUT=$TOP/out/harness
PASSED=0 FAILED=0

trap 'stop_below "$BASHPID"' EXIT
mkdir -p "$OUT"
for test in "$QEMU_DIR"/*-test.sh; do
	name=$(basename "$test" -test.sh)
	[[ $name != harness ]] || continue
	if "$test" >"$OUT/$name.log" 2>&1; then
		note "ok      $name"
		PASSED=$((PASSED + 1))
	else
		note "FAILED: $name: $(grep -m 1 . "$OUT/$name.log"); see $OUT/$name.log"
		FAILED=$((FAILED + 1))
	fi
done
note "$PASSED passed, $FAILED failed, 0 skipped"
((FAILED == 0))
