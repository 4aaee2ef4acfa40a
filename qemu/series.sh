#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# series.sh: compose the patch series of a kernel line. From the environment:
#
#	KERNEL=6.1	which line
#	OUT=/path	where it goes (out/series/linux-6.1.y)
#	PATCHES=/path	other series than ours

# shellcheck source=qemu/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=qemu/compose.sh
source "$QEMU_DIR/compose.sh"

known_lines() {
	local series line
	for series in "$PATCHES"/linux-*.y/series; do
		line=${series%.y/series}
		[[ ! -r $series ]] || printf '%s\n' "${line##*/linux-}"
	done | sort -V | paste -sd ' '
}

main() {
	local kernel=${KERNEL:-} out=${OUT:-} dir scratch patches
	[[ -n $kernel ]] || die "which kernel line? Give KERNEL=, one of: $(known_lines)"
	dir=$PATCHES/linux-$kernel.y
	[[ $kernel =~ ^[0-9]+\.[0-9]+$ && -r $dir/series ]] || die "no series for KERNEL=$kernel in $PATCHES; there are: $(known_lines)"
	if [[ -z $out ]]; then
		# What is below out/ is ours.
		out=$TOP/out/series/linux-$kernel.y
		rm -rf "$out"
	fi
	[[ ! -e $out || -d $out ]] || die "OUT=$out is there and is no folder; give another"
	[[ ! -d $out || -z $(ls -A "$out") ]] || die "OUT=$out is not empty; give another, or empty it"
	scratch=$(mktemp -d)
	# shellcheck disable=SC2064 # when it runs scratch is out of scope
	trap "rm -rf ${scratch@Q}" EXIT
	compose_series "$dir" "$scratch"
	if ! mkdir -p "$out" 2>/dev/null || ! cp "$scratch"/* "$out/" 2>/dev/null; then
		die "cannot write to OUT=$out; give another"
	fi
	patches=$(series_entries "$out/series" | wc -l)
	note "$(here "$out"): $patches patches for $(sed -n 's/^# Base: //p' "$dir/series")$( [[ ! -e $out/0000-cover-letter.txt ]] || echo ", and a cover letter")."
	note "In a tree of that: git am $(realpath "$out")/*.patch"
}

main "$@"
