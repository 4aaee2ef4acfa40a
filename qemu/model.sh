#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# model.sh [--quick]: search every order of the steps of the models in
# Documentation/model, as the list there says. The protocol must hold, and with a
# switch that breaks it spin must find how: a counterexample to the property that
# the list names.

# shellcheck source=qemu/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

MODELS=$TOP/Documentation/model
OUT=$TOP/out/model
# Of the whole search one gigabyte is used.
MEGABYTES=4000

# search OUT N quick|all MODEL EXPECTED SWITCH...: leaves result, and seconds, in the
# folder OUT/N, and where there is a counterexample, that. For a quick one gcc would
# take longer to optimise the search than that takes.
search() {
	local dir=$1/$2 model=$4 defines level=-O2 start=$EPOCHREALTIME
	[[ $3 != quick ]] || level=-O0
	shift 5
	defines=("${@/#/-D}")
	rm -rf "$dir"
	mkdir -p "$dir"
	cp "$MODELS/$model.pml" "$dir/"
	(
		cd "$dir" || exit
		if ! { spin -a "${defines[@]}" "$model.pml" &&
			gcc -w $level -DSAFETY -DCOLLAPSE -DMEMLIM="$MEGABYTES" -o pan pan.c; } >build.log 2>&1; then
			echo "error"
		elif ! ./pan -m1000000 >pan.log 2>&1; then
			echo "error"
		elif grep -q 'errors: 0$' pan.log && ! grep -qE 'not completed|too small' pan.log; then
			echo holds
		elif grep -q '^pan:1: invalid end state' pan.log; then
			echo WAITS
		elif grep -q '^pan:1: assertion violated' pan.log; then
			spin -t "${defines[@]}" "$model.pml" 2>&1 | broken "$model.pml"
		else
			echo "error"
		fi >result
		[[ ! -e $model.pml.trail ]] ||
			spin -t -p -g -l "${defines[@]}" "$model.pml" >counterexample 2>&1
		rm -f pan pan.[bchmpt] ./*.trail
	)
	awk -v a="$start" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.1f\n", b - a }' >"$dir/seconds"
}

# broken MODEL: the name of the property, which stands behind the assertion in the
# line that spin names on its standard input.
broken() {
	local line name
	line=$(sed -nE "s/^spin: $1:([0-9]+), Error: assertion violated.*/\1/p" | head -n 1)
	name=$(sed -nE "${line:-1}s:.*/\* ([A-Z]+) \*/\$:\1:p" "$1")
	echo "${name:-error}"
}

# Each switch and each property of a model is on the list, or it shows nothing.
unlisted() {
	local model word
	for model in "$MODELS"/*.pml; do
		{
			sed -nE 's/^#(ifdef|ifndef) ([A-Z_]+)$/\2/p' "$model"
			sed -nE 's:.*/\* ([A-Z]+) \*/$:\1:p' "$model"
		} | sort -u | while read -r word; do
			awk -v model="$(basename "$model" .pml)" '!/^#/ && $2 == model' "$MODELS/list" | grep -qw "$word" ||
				echo "no line for $word of $(basename "$model")"
		done
	done
}

# listed: the lines to run.
listed() { awk -v which="$1" '!/^#/ && NF && (which == "all" || $1 == "quick")' "$MODELS/list"; }

main() {
	local which=all n=0 model expected switches found passed=0 failed=0
	case ${1:-} in
	"") ;;
	--search)
		shift
		search "$@"
		return
		;;
	--quick) which=quick ;;
	*) die "model.sh takes --quick, not \"$1\"" ;;
	esac
	OUT+=/$which
	need_packages "${PROOF_PACKAGES[@]}"
	rm -rf "$OUT"
	mkdir -p "$OUT"
	# Not as jobs of this shell, which an interrupt would leave behind.
	listed "$which" | nl | xargs -L 1 -P "$JOBS" "$0" --search "$OUT" || true
	printf '%-7s %-62s %-8s %-8s %9s %7s\n' model switches expected found states seconds
	n=0
	while read -r _ model expected switches; do
		n=$((n + 1))
		found=$(cat "$OUT/$n/result" 2>/dev/null || echo error)
		printf '%-7s %-62s %-8s %-8s %9s %7s' "$model" "$switches" "$expected" "$found" \
			"$(sed -nE 's/^ *([0-9.e+]+) states, stored.*/\1/p' "$OUT/$n/pan.log" 2>/dev/null)" "$(cat "$OUT/$n/seconds" 2>/dev/null)"
		if [[ $found == "$expected" ]]; then
			passed=$((passed + 1))
			echo
		else
			failed=$((failed + 1))
			echo "  FAILED: see ${OUT#"$TOP"/}/$n/"
		fi
	done < <(listed "$which")
	while read -r switches; do
		failed=$((failed + 1))
		echo "FAILED: $switches in Documentation/model/list"
	done < <(unlisted)
	printf '\nThe counterexamples, step by step: %s/N/counterexample, where N is the line of this table.\n' \
		"${OUT#"$TOP"/}"
	printf '%d passed, %d failed, %d skipped\n' "$passed" "$failed" 0
	((failed == 0))
}

main "$@"
