#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# trees.sh [FOLDER...]: the kernel trees that make patch TREE= and make check TREE=
# have seen, as a table in reStructuredText: what each left behind in out/trees, or TREES,
# or in FOLDER. VENDOR= in these runs says whose tree it is.

# shellcheck source=qemu/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

shopt -s nullglob
main() {
	local files=() folder file
	(($#)) || set -- "${TREES:-$TOP/out/trees}"
	for folder in "$@"; do
		[[ -d $folder ]] || die "$folder is not there: make patch TREE=/path/to/linux leaves something there"
		files+=("$folder"/*)
	done
	((${#files[@]})) || die "there is no tree yet in $*"
	printf '%s\n' '.. csv-table::' '   :delim: |' \
		'   :header: release, tree, what waits, series, "built, booted, tested"' ''
	# A run is named after its scenario and what was done with the tree.
	for file in "${files[@]}"; do
		awk '
			function cell(text) { gsub(/[*]/, "\\\\&", text); return text == "" ? "." : text }
			{ key = $1; sub(/^[^ ]+ /, "") }
			key ~ /^[A-Z]/ { runs = runs (runs ? "; " : "") key " " $0; next }
			{ field[key] = $0 }
			END {
				print "   " field["release"] "|" \
					cell("vendor" in field ? field["vendor"] : "plain, or not said") "|" \
					cell(field["waits"]) "|" cell(field["series"]) "|" cell(runs)
			}' "$file"
	done | sort -V
}

main "$@"
