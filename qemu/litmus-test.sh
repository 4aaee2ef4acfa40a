#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Is litmus.sh red where it has to be, and green where not? On a few tests of
# Documentation/litmus-tests with one thing wrong at a time. Says what is wrong, one
# line each.

# shellcheck source=qemu/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

SCRATCH=$(mktemp -d)
trap 'rm -rf "$SCRATCH"' EXIT
CLAIM=$SCRATCH/tests/left-count.litmus
MUTATION=$SCRATCH/tests/left-count+barrier.litmus
FAILED=0

# expect WHAT REGEX: the first thing that is found to be wrong, or nothing.
expect() {
	local said
	said=$("$QEMU_DIR/litmus.sh" "$SCRATCH/tests" 2>&1) && said+=$'\ngreen' || said+=$'\nred'
	if [[ $2 == green ]]; then
		[[ $said == *$'\n2 passed, 0 failed, 0 skipped\ngreen' ]]
	else
		grep -qE "FAILED: $2" <<<"$said" && [[ $said == *red ]]
	fi || {
		printf '%s: it said:\n%s\n' "$1" "$said"
		FAILED=1
	}
	rm -rf "$SCRATCH/tests"
	fresh
}

fresh() {
	mkdir -p "$SCRATCH/tests"
	cp "$TOP/Documentation/litmus-tests/left-count.litmus" "$TOP/Documentation/litmus-tests/left-count+barrier.litmus" \
		"$SCRATCH/tests/"
}

fresh
expect "as it is" green
sed -i 's/Result: Never/Result: Sometimes/' "$CLAIM"
expect "a claim that is not so" "not as expected"
sed -i 's/Result: Sometimes/Result: Never/' "$MUTATION"
expect "a mutation that is not so" "not as expected"
sed -i 's/smp_mb();$/synchronize_rcu();/; s/Result: Sometimes/Result: Never/' "$MUTATION"
expect "a mutation that changes nothing" "a mutation has to come out the other way"
rm "$MUTATION"
expect "a claim that cannot fail" "it has no mutation"
rm "$CLAIM"
expect "a mutation of nothing" "there is no left-count.litmus"
sed -i '/Result:/d' "$CLAIM"
expect "no result" "it has no line"
sed -i 's/rcu_read_unlock/rcu_read_unlok/' "$CLAIM"
expect "what herd7 cannot read" "Warning: "
sed -i '/rcu_read_unlock/d' "$CLAIM"
expect "what herd7 flags" "Flag unbalanced-rcu-locking"
sed -i '1s/left/lost/' "$CLAIM"
expect "another name" "its first line"
for file in "$CLAIM" "$MUTATION"; do
	sed -i '1s/left-count/nobodys-claim/' "$file"
	mv "$file" "${file/left-count/nobodys-claim}"
done
expect "a claim of no code" "no comment in module/ names it"
exit "$FAILED"
