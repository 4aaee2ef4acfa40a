#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Does difference.awk find each kind of difference, and no other? On made-up
# results. Says what is wrong, one line each.

# shellcheck source=qemu/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

SCRATCH=$(mktemp -d)
trap 'rm -rf "$SCRATCH"' EXIT
FAILED=0
# What stands at the end of a pipe sets it.
shopt -s lastpipe

# side NAME ROUND FIRST SECOND: two tests of one program, with these results.
side() {
	printf '# init: side %s, round %d\nTAP version 13\n1..1\n# selftests: col: prog\n' "$1" "$2"
	printf '# %s 1 first\n# %s 2 second # a remark\n' "$3" "$4"
	printf 'ok 1 selftests: col: prog\n# Totals: 1\n# init: /run: exit code 0\n'
}

# expect WHAT LINES [ALLOWED]: what difference.awk says of the results that it
# is given. LINES are those that are to be in it, and no other reason.
expect() {
	local said
	printf '%s\n' "${3:-}" >"$SCRATCH/expect"
	said=$( (
		cat
		echo '# init: end'
	) | awk -v sides="stock safe" -v expect="$SCRATCH/expect" -f "$QEMU_DIR/difference.awk" |
		grep -v '^note: stock: ' || true)
	[[ $said == "$2" ]] || {
		printf '%s: it said:\n%s\nnot:\n%s\n' "$1" "$said" "$2"
		FAILED=1
	}
}

twice() { # STOCK'S FIRST, SECOND ROUND, SAFE'S FIRST, SECOND ROUND
	side stock 1 ok "$1"
	side safe 1 ok "$3"
	side stock 2 ok "$2"
	side safe 2 ok "$4"
}

twice ok ok ok ok | expect "no difference" "tests: 3 passed, 0 failed, 0 skipped"
twice "not ok" "not ok" "not ok" "not ok" | expect "a failure on both" "tests: 3 passed, 0 failed, 0 skipped"
twice ok ok "not ok" "not ok" | expect "a failure on one" "tests: 2 passed, 1 failed, 0 skipped
differs: safe: col:prog second: ok -> not ok"
twice ok ok ok "not ok" | expect "a failure in one round" "tests: 2 passed, 1 failed, 0 skipped
differs: safe: col:prog second: ok -> ok, not ok"
twice "not ok" "not ok" ok ok | expect "a success on one" "tests: 2 passed, 1 failed, 0 skipped
differs: safe: col:prog second: not ok -> ok"
twice ok "not ok" ok ok | expect "not the same on stock" "tests: 2 passed, 0 failed, 1 skipped
note: does not always come out the same: col:prog second: stock: ok, not ok; safe: ok"
twice ok ok "not ok" "not ok" | expect "one that is allowed" "tests: 2 passed, 0 failed, 1 skipped
note: differs, as it may: safe: col:prog second: ok -> not ok" "differ ^safe: col:prog second: "
twice ok ok ok "not ok" | expect "a result that says nothing" "tests: 3 passed, 0 failed, 0 skipped" \
	"void ^col:prog second: not ok"
twice ok ok "not ok" "not ok" | expect "no other result" "tests: 2 passed, 0 failed, 1 skipped
note: says nothing, as it may: safe: col:prog second: ok -> void" "void ^col:prog second: not ok"
side stock 1 ok ok | expect "a side is missing" "tests: 0 passed, 0 failed, 0 skipped
ktap: side safe has 0 rounds, and stock has 1"
(
	side stock 1 ok ok
	side safe 1 ok ok | sed '/^# ok 2/,$d'
) | expect "a side that stops" "tests: 1 passed, 2 failed, 0 skipped
ktap: safe, round 1: 0 of 1 programs have a result
differs: safe: col:prog second: ok -> missing
differs: safe: col:prog: ok -> missing"
exit "$FAILED"
