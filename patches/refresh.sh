#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# refresh.sh [--check]: write the project's own files anew into every series
# that carries them, so that the two never drift apart: the engine, its headers
# and documentation, and the collection. What else a patch changes is kept.
# --check changes nothing, and names the patches that are not up to date.

set -euo pipefail

TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export LC_ALL=C
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT

# own_file PATH: the project's file that is PATH in a kernel tree.
own_file() {
	case $1 in
	kernel/nsproxy_*.c) echo "module/${1#kernel/}" ;;
	include/*) echo "module/$1" ;;
	Documentation/ABI/*) echo "$1" ;;
	tools/testing/selftests/nsproxy/*) echo "${1#tools/testing/}" ;;
	esac
}

# new_file PATH FILE: the part of a patch that adds FILE as PATH.
new_file() {
	local mode=100644
	[[ ! -x $2 ]] || mode=100755
	printf 'diff --git a/%s b/%s\nnew file mode %s\n--- /dev/null\n+++ b/%s\n' "$1" "$1" "$mode" "$1"
	printf '@@ -0,0 +1,%d @@\n' "$(wc -l <"$2")"
	sed 's/^/+/' "$2"
}

# rewrite PATCH: the patch as it should be.
rewrite() {
	local part path own file collection=
	rm -f "$WORK"/part*
	awk -v work="$WORK" '
		/^diff --git / { part++ }
		{ print > sprintf("%s/part%03d", work, part) }' "$1"
	for part in "$WORK"/part*; do
		[[ $part != */part000 ]] || continue
		path=$(sed -n '1s#^diff --git a/.* b/##p' "$part")
		own=$(own_file "$path")
		if [[ -z $own ]] || ! grep -q -m 1 '^new file mode' "$part"; then
			grep -v '^index ' "$part"
		elif [[ $own != selftests/* ]]; then
			new_file "$path" "$TOP/$own"
		elif [[ -z $collection ]]; then
			# Tests come and go, so all of them are written here.
			collection=yes
			while read -r file; do
				new_file "tools/testing/$file" "$TOP/$file"
			done < <(git -C "$TOP" ls-files selftests/nsproxy)
		fi
	done >"$WORK/diff"
	sed '/^---$/q' "$WORK/part000"
	git apply --stat --summary "$WORK/diff"
	echo
	cat "$WORK/diff"
}

case ${1:-} in
"" | --check) ;;
*)
	echo "refresh.sh takes --check or nothing, not \"$1\"" >&2
	exit 2
	;;
esac

stale=0
for patch in "$TOP"/patches/linux-*/*.patch; do
	[[ $patch != */0000-* ]] || continue
	rewrite "$patch" >"$WORK/new"
	if cmp -s "$WORK/new" "$patch"; then
		continue
	fi
	if [[ ${1:-} == --check ]]; then
		echo "${patch#"$TOP"/} does not have the project's files as they are: run patches/refresh.sh" >&2
		stale=1
	else
		cat "$WORK/new" >"$patch"
		echo "${patch#"$TOP"/} written"
	fi
done
exit "$stale"
