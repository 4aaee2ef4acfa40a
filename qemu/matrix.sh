#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# matrix.sh [FOLDER...]: which row of the promise held on which kernel and in
# which mode, from the results that runs have left in these folders, or in all
# of out/check. Nothing in it is written by hand but the rows, in "contract".

# shellcheck source=qemu/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# results NUMBER FOLDER: "NUMBER PROGRAM MODE TEST RESULT" a line. A run that was
# shared out to two guests has a folder for each.
results() {
	find "$2" -maxdepth 2 -name results.ktap -exec cat {} + | awk -v run="$1" '
		{ sub(/\r$/, "") }
		/^# selftests: [^:]*: / { program = $NF }
		!/^# (not )?ok / { next }
		{
			result = $2 == "not" ? "no" : /# *SKIP/ ? "skip" : "yes"
			split($2 == "not" ? $5 : $4, name, ".")
			kind = name[2]
			sub(/_.*/, "", kind)
		}
		kind ~ /^(off|safe|all)$/ { print run, program, kind, name[3], result }
		# These compare the modes with each other.
		program == "limits" && name[3] == "no_more_refused" {
			print run, program, "off", kind, result
			print run, program, "safe", kind, result
			print run, program, "all", kind, result
		}'
}

# describe FOLDER: the kernel, and who defers on it.
describe() {
	local dir=$1 release what
	[[ ! -d $dir/1 ]] || dir=$dir/1
	release=$(grep -aom 1 'Linux version [^ ]*' "$dir/console.log" | cut -d' ' -f3)
	case $(grep -m 1 -E '^# init: (module loaded|the kernel carries)' "$dir/results.ktap") in
	*loaded) what="the module" ;;
	*) what="the patches" ;;
	esac
	printf '%s, %s CPU, %s\n' "$release" "$(sed -nE 's/.*(Brought|Booted) up (1 node, )?([0-9]+) CPU.*/\3/p' "$dir/console.log" | grep . || echo 1)" "$what"
}

runs=()
for folder in "${@:-$TOP/out/check/*/}"; do
	# shellcheck disable=SC2066,SC2231 # the pattern is one word until here
	for run in $folder; do
		run=${run%/}
		! grep -qs 'fidelity[.]off[.]' "$run"/results.ktap "$run"/[12]/results.ktap || runs+=("$run")
	done
done
((${#runs[@]})) || die "no run of the test \"fidelity\" in ${*:-out/check}: make check makes some"
cat <<'RST'
.. SPDX-License-Identifier: GPL-2.0-only
.. Made by "make matrix" of what runs of "make check" left behind. Do not edit.

=================================
The promise, and where it is kept
=================================

In each mode, off, safe and all: ``=`` as the row says, ``f`` so after a write to flush,
``X`` not so, ``.`` not tested there.

RST
number=0
for run in "${runs[@]}"; do
	number=$((number + 1))
	printf '%d. %s: %s\n' "$number" "$(basename "$run")" "$(describe "$run")"
done
number=0
for run in "${runs[@]}"; do
	number=$((number + 1))
	results "$number" "$run"
done | awk -v runs="${#runs[@]}" '
	function rule(   i) {
		printf "%s", "============================================================"
		for (i = 1; i <= runs; i++)
			printf "  ==="
		print ""
	}
	function cell(run, program, test, flush, mode,   result) {
		result = held[run, program, mode, test]
		if (result == "yes")
			return mode == "all" && flush == "flush" ? "f" : "="
		return result == "no" ? "X" : "."
	}
	from == "runs" {
		# One that failed says more than another that did not.
		if (held[$1, $2, $3, $4] != "no")
			held[$1, $2, $3, $4] = $5
		next
	}
	/^#/ || NF == 0 { next }
	/^[^ ]/ {
		if (heads++)
			rule()
		print "\n" $0
		gsub(/./, "-")
		print $0 "\n"
		rule()
		printf "%-60s", "run"
		for (i = 1; i <= runs; i++)
			printf (i < runs ? "  %-3s" : "  %s"), i
		print ""
		rule()
		next
	}
	{
		flush = $1
		split($2, name, ":")
		$1 = $2 = ""
		sub(/^ +/, "")
		printf "%-60s", $0
		for (i = 1; i <= runs; i++)
			printf "  %s%s%s", cell(i, name[1], name[2], flush, "off"),
				cell(i, name[1], name[2], flush, "safe"), cell(i, name[1], name[2], flush, "all")
		print ""
	}
	END { rule() }' from=runs - from=rows "$QEMU_DIR/contract"
