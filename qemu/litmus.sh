#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# litmus.sh [FOLDER]: does the memory model say of each test of FOLDER, which is
# Documentation/litmus-tests, what the test's "Result:" line says? CLAIM.litmus is
# what the code relies on. CLAIM+MUTATION.litmus is the same with one thing taken
# away, and has to come out the other way; each claim needs one at least.
#
# KERNEL=7.2 takes the memory model of another kernel line than 6.1.

# shellcheck source=qemu/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

TESTS=${1:-$TOP/Documentation/litmus-tests}
KERNEL=${KERNEL:-6.1}
OUT=$TOP/out/litmus/$KERNEL
[[ -z ${1:-} ]] || OUT=$TESTS.out
HERD_DIR=$CACHE/herd

unpack_herd() {
	local deb
	rm -rf "$HERD_DIR.new"
	mkdir -p "$HERD_DIR.new"
	# Of its many programs one is wanted.
	dpkg-deb --fsys-tarfile "$1" | tar -x -C "$HERD_DIR.new" ./usr/bin/herd7 ./usr/share/herdtools7/herd
	for deb in "${@:2}"; do
		dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$HERD_DIR.new" --exclude='./usr/share'
	done
	rm -rf "$HERD_DIR"
	mv "$HERD_DIR.new" "$HERD_DIR"
}

# herd7 comes from sid, in the cache and not installed, with the C library of its
# own suite.
get_herd() {
	local packages=(herdtools7 libc6 libgmp10) package debs=()
	[[ ! -d $HERD_DIR ]] || return 0
	need_space 500
	apt_for sid
	HINT=$NETWORK_HINT step "fetching herd7" "$CACHE/log/fetch-herd.log" fetch_debs "${packages[@]}"
	for package in "${packages[@]}"; do
		debs+=("$(newest_deb "$package")")
	done
	step "unpacking it" "$CACHE/log/unpack-herd.log" unpack_herd "${debs[@]}"
}

# The model of the Linux kernel for C, and for assembly those of the processors
# that herd7 brings.
herd() {
	local model=()
	[[ $(head -n 1 "$1") != "C "* ]] || model=(-I "$MODEL" -conf "$MODEL/linux-kernel.cfg")
	timeout 600 "$HERD_DIR/usr/lib64/ld-linux-x86-64.so.2" --library-path "$HERD_DIR/usr/lib/x86_64-linux-gnu" \
		"$HERD_DIR/usr/bin/herd7" -set-libdir "$HERD_DIR/usr/share/herdtools7/herd" "${model[@]}" "$1"
}

# run_test FILE FOLDER: leaves FOLDER/NAME.out, what herd7 said, and
# FOLDER/NAME.seconds.
run_test() {
	local name start=$EPOCHREALTIME
	name=$(basename "$1" .litmus)
	herd "$1" >"$2/$name.out" 2>&1 || echo "Error: herd7 ended with status $?" >>"$2/$name.out"
	awk -v a="$start" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.1f\n", b - a }' >"$2/$name.seconds"
}

# run_tests FOLDER FILE...: as many at a time as there are processors.
run_tests() {
	local folder=$1 file
	shift
	rm -rf "$folder"
	mkdir -p "$folder"
	for file in "$@"; do
		while (($(jobs -rp | wc -l) >= JOBS)); do
			wait -n
		done
		run_test "$file" "$folder" &
	done
	wait
}

# What the test says has to come out.
expected() { sed -n 's/^ \* Result: //p' "$1" | head -n 1; }

# What herd7 complained of. That all processors share one domain is what it says of
# each test of arm64.
complaint() {
	grep -E '^(Warning|Error|Fatal error|Flag)' "$1" |
		grep -vx 'Flag Assuming-common-inner-shareable-domain' | head -n 1 || true
}

# What came out.
found() {
	if [[ -n $(complaint "$1") ]]; then
		echo error
	else
		sed -nE 's/^Observation [^ ]+ ([A-Za-z]+) .*/\1/p' "$1"
	fi
}

# wrong FILE FOUND: what is wrong with the test, or nothing.
wrong() {
	local name claim result mutations=()
	name=$(basename "$1" .litmus)
	claim=${name%%+*}
	result=$(expected "$1")
	if [[ ! $result =~ ^(Never|Sometimes|Always)$ ]]; then
		echo "it has no line \" * Result: Never\" (or Sometimes, or Always)"
	elif [[ $(sed -n '1s/^[^ ]* //p' "$1") != "$name" ]]; then
		echo "its first line does not give it the name of the file"
	elif [[ $2 == error ]]; then
		complaint "$OUT/tests/$name.out"
	elif [[ $2 != "$result" ]]; then
		echo "not as expected; see $OUT/tests/$name.out"
	elif [[ $name == *+* ]]; then
		if [[ ! -e $TESTS/$claim.litmus ]]; then
			echo "there is no $claim.litmus, of which it is a mutation"
		elif [[ $result == "$(expected "$TESTS/$claim.litmus")" ]]; then
			echo "a mutation has to come out the other way than $claim"
		fi
	else
		mutations=("$TESTS/$claim"+*.litmus)
		if [[ ! -e ${mutations[0]} ]]; then
			echo "it has no mutation, $claim+WHAT.litmus: can it fail?"
		elif ! grep -rqwF -- "$claim" "$TOP/module"; then
			echo "no comment in module/ names it: what is it about?"
		fi
	fi
}

# The kernel's own tests: do this herd7 and this model understand each other?
check_tool() {
	local file result name
	run_tests "$OUT/kernel" "$MODEL"/litmus-tests/*.litmus
	for file in "$MODEL"/litmus-tests/*.litmus; do
		result=$(expected "$file")
		name=$(basename "$file" .litmus)
		[[ $(found "$OUT/kernel/$name.out") == "$result" ]] ||
			die "herd7 does not find $result in the kernel's own $name, so it says nothing of other tests; see $OUT/kernel/$name.out"
	done
}

main() {
	local file name title result problem passed=0 failed=0 files=() tests=("$TESTS"/*.litmus)
	[[ -e ${tests[0]} ]] || die "there is no test in $TESTS"
	suite_of "$KERNEL" >/dev/null
	lock_cache fetch
	source_tree "$KERNEL"
	get_herd
	unlock_cache
	MODEL=$SOURCE/tools/memory-model
	mkdir -p "$OUT"
	check_tool
	# Each claim, and its mutations after it.
	mapfile -t files < <(printf '%s\n' "${tests[@]}" | sed 's/\.litmus$//' | sort | sed 's/$/.litmus/')
	run_tests "$OUT/tests" "${files[@]}"
	printf '%-36s %-10s %-10s %7s\n' "claim, and its mutations" expected found seconds
	for file in "${files[@]}"; do
		name=$(basename "$file" .litmus)
		title=$name
		[[ $name != *+* ]] || title="  +${name#*+}"
		result=$(found "$OUT/tests/$name.out")
		problem=$(wrong "$file" "$result")
		printf '%-36s %-10s %-10s %7s%s\n' "$title" "$(expected "$file")" "$result" \
			"$(<"$OUT/tests/$name.seconds")" "${problem:+  FAILED: $problem}"
		if [[ -n $problem ]]; then failed=$((failed + 1)); else passed=$((passed + 1)); fi
	done
	printf '\nThe memory model is that of Linux %s. What herd7 said of each: %s/tests/\n' \
		"$KERNEL" "${OUT#"$TOP"/}"
	printf '%d passed, %d failed, %d skipped\n' "$passed" "$failed" 0
	((failed == 0))
}

main
