# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-only
#
# The kernel tree that TREE= names: what it is, and which series of patches/
# fits it. Nothing in here writes to it. Sourced after lib.sh.

# What is set here is used there.
# shellcheck disable=SC2034

# Somebody else may have series of their own.
PATCHES=${PATCHES:-$TOP/patches}

# Git as a reader: a tree may belong to another user, and is not locked.
tree_git() { GIT_OPTIONAL_LOCKS=0 git -c safe.directory="$T_DIR" -c core.hooksPath=/dev/null -C "$T_DIR" "$@"; }

tree_variable() { sed -n "/^$1[[:space:]]*=[[:space:]]*/{s///p;q}" "$T_DIR/Makefile"; }

# tree_function NAME: its body in kernel/nsproxy.c.
tree_function() {
	awk -v name="$1" '
		$0 ~ "^[a-z].*[ *]" name "\\(" && !/;/ { on = 1 }
		on { print }
		on && /^}/ { exit }' "$T_DIR/kernel/nsproxy.c"
}

# look_at_tree PATH: sets T_DIR, T_NAME, T_VERSION (3.16.7-vendor), T_LINE
# (3.16), T_GIT (the commit, or nothing), T_CARRIES (a series, in full) and
# T_CLASS:
#
#	L	switch_task_namespaces() waits for RCU
#	M	it takes task_lock() instead, as since 3.17 (728dba3a39c6)
#
# A vendor may have that commit in a 3.x, so it is the sources that tell.
look_at_tree() {
	local body kconfig=
	[[ -n $1 ]] || die "which tree? Give TREE=/path/to/linux"
	[[ -e $1 ]] || die "TREE=$1 is not there"
	[[ -d $1 && -r $1 && -x $1 ]] || die "TREE=$1 is not a folder that can be read"
	T_DIR=$(cd -- "$1" && pwd -P)
	[[ $T_DIR != *[[:space:]:]* ]] ||
		die "TREE=$T_DIR has a space or a colon in its path, which no kernel can be built with; move it, or bind-mount it elsewhere"
	T_NAME=${T_DIR##*/}
	[[ -r $T_DIR/Makefile && -r $T_DIR/Kconfig && -r $T_DIR/kernel/nsproxy.c && -n $(tree_variable VERSION) ]] ||
		die "TREE=$T_DIR is no kernel source tree: Makefile (with VERSION), Kconfig and kernel/nsproxy.c must be in it"
	T_LINE=$(tree_variable VERSION).$(tree_variable PATCHLEVEL)
	T_VERSION=$T_LINE.$(tree_variable SUBLEVEL)$(tree_variable EXTRAVERSION)

	T_GIT=
	if [[ $(tree_git rev-parse --show-toplevel 2>/dev/null) == "$T_DIR" ]]; then
		T_GIT=$(tree_git rev-parse --short --verify -q HEAD) || T_GIT=
	fi

	T_CARRIES=
	T_CLASS=
	grep -qs '^config NSPROXY_DEFER$' "$T_DIR/init/Kconfig" "$T_DIR/kernel/Kconfig"* && kconfig=yes
	if [[ -e $T_DIR/include/linux/nsproxy_defer.h && -n $kconfig ]]; then
		T_CARRIES=yes
		return
	fi
	[[ ! -e $T_DIR/include/linux/nsproxy_defer.h && -z $kconfig ]] ||
		die "$T_DIR has a part of a series: include/linux/nsproxy_defer.h and config NSPROXY_DEFER come together; apply the rest of it or take it back"
	body=$(tree_function switch_task_namespaces)
	if grep -qE '^[[:space:]]+synchronize_[a-z_]+\(\);' <<<"$body"; then
		T_CLASS=L
	elif grep -qE '^[[:space:]]+task_lock\(' <<<"$body"; then
		T_CLASS=M
	else
		die "switch_task_namespaces() in $T_DIR/kernel/nsproxy.c neither waits for RCU nor takes task_lock(): no series knows such a kernel"
	fi
}

# class_of_line 3.16: what mainline is.
class_of_line() {
	if [[ $(printf '%s\n' "$1" 3.17 | sort -V | head -n 1) == 3.17 ]]; then echo M; else echo L; fi
}

# Is it an old kernel that has got 728dba3a39c6?
tree_has_fix() { [[ $T_CLASS == M && $(class_of_line "$T_LINE") == L ]]; }

describe_tree() {
	note "$T_DIR is Linux $T_VERSION, $( [[ -n $T_GIT ]] && echo "git $T_GIT" || echo "not a git repository")."
	if [[ -n $T_CARRIES ]]; then
		note "It carries a series already: CONFIG_NSPROXY_DEFER is there."
	elif [[ $T_CLASS == L ]]; then
		note "Its switch_task_namespaces() waits for RCU, so setns(), unshare() and exit do (class L)."
	elif tree_has_fix; then
		note "Its switch_task_namespaces() takes task_lock(): it has the fix of Linux 3.17, 728dba3a39c6 (class M)."
	else
		note "Its switch_task_namespaces() takes task_lock(); what waits is the end of a mount namespace (class M)."
	fi
}

# series_patches SERIES: the patches of a series file, in order.
series_patches() {
	local dir=${1%/*} patch rest
	while read -r patch rest; do
		[[ -z $patch || $patch == "#"* ]] || printf '%s\n' "$dir/$patch"
	done <"$1"
}

patched_files() { sed -nE 's#^(---|\+\+\+) [ab]/([^[:space:]]+).*#\2#p' "$@" | sort -u; }

# apply_patch DIR PATCH FUZZ LOG: the program's words are in LOG.
apply_patch() {
	patch -d "$1" -p1 -F "$3" --forward --batch --no-backup-if-mismatch -i "$2" >"$4" 2>&1
}

# why_not PATCH LOG DIR: which hunk it was.
why_not() {
	local name=${1##*/} wrong file
	while read -r file; do
		[[ -e $3/$file ]] || {
			echo "$name: $file, which it changes, is not in this tree"
			return
		}
	done < <(sed -nE 's#^--- a/([^[:space:]]+).*#\1#p' "$1")
	wrong=$(awk '
		/^patching file / { file = substr($0, 15) }
		/^Hunk #[0-9]+ (FAILED|ignored) at / {
			print file ": hunk " substr($2, 2) " (line " $5 + 0 ") does not apply"
			exit
		}' "$2")
	[[ -n $wrong ]] || wrong=$(sed -nE 's/^The next patch would create the file (.*),$/\1: it is to be made, and is there already/p' "$2" | head -n 1)
	echo "$name: ${wrong:-$(tail -n 1 "$2")}"
}

# try_series SERIES FUZZ: does it apply? Tried on copies of the files that it
# changes. Sets WRONG to what does not, or FUZZY to what takes fuzz.
try_series() {
	local scratch patches patch file result=0
	scratch=$(mktemp -d)
	mkdir "$scratch/tree"
	mapfile -t patches < <(series_patches "$1")
	while read -r file; do
		[[ -e $T_DIR/$file ]] || continue
		mkdir -p "$scratch/tree/${file%/*}"
		cp "$T_DIR/$file" "$scratch/tree/$file"
	done < <(patched_files "${patches[@]}")
	chmod -R u+w "$scratch/tree"
	WRONG=''
	FUZZY=''
	for patch in "${patches[@]}"; do
		apply_patch "$scratch/tree" "$patch" "$2" "$scratch/log" || {
			WRONG=$(why_not "$patch" "$scratch/log" "$scratch/tree")
			result=1
			break
		}
		! grep -q 'with fuzz' "$scratch/log" || FUZZY+=" ${patch##*/}"
	done
	rm -rf "$scratch"
	return "$result"
}

# find_series: sets T_SERIES and T_FUZZ (0 or 2), or leaves T_SERIES empty and
# sets T_WRONG to what is wrong with each that was tried. The one of the tree's
# own line comes first, then all others of its class.
find_series() {
	local series line candidates=() fuzz
	T_SERIES=''
	T_WRONG=''
	for series in "$PATCHES/linux-$T_LINE.y/series" "$PATCHES"/linux-*.y/series; do
		[[ -r $series && " ${candidates[*]:-} " != *" $series "* ]] || continue
		line=${series%.y/series}
		[[ $(class_of_line "${line##*/linux-}") != "$T_CLASS" ]] || candidates+=("$series")
	done
	for fuzz in 0 2; do
		for series in ${candidates[@]+"${candidates[@]}"}; do
			if try_series "$series" "$fuzz"; then
				T_SERIES=$series
				T_FUZZ=$fuzz
				return
			fi
			((fuzz)) || T_WRONG+="${T_WRONG:+; }$(basename "${series%/series}")/$WRONG"
		done
	done
}
