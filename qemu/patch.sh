#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# patch.sh: put the series of patches/ that fits into a copy of a kernel tree.
# From the environment:
#
#	TREE=/path	the kernel tree
#	DEST=/path	where the patched copy goes (out/patch/NAME)
#	INPLACE=1	no copy: patch the tree itself
#	PATCHES=/path	other series than ours
#
# Of a git repository the copy is a worktree, and each patch a commit.

# shellcheck source=qemu/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=qemu/tree.sh
source "$QEMU_DIR/tree.sh"

need_programs() {
	local program
	for program in "$@"; do
		command -v "$program" >/dev/null || die "no program $program here: install the package of that name"
	done
}

# A worktree of HEAD would lack what is not committed, and a tree patched in
# place would mix with it.
need_clean() {
	local dirty
	[[ -n $T_GIT ]] || return 0
	dirty=$(tree_git status --porcelain --untracked-files=no | sed -n '1s/^...//p')
	[[ -z $dirty ]] ||
		die "$T_DIR has changes that are not committed ($dirty, for one): commit or stash them first"
}

need_writable() {
	local file path
	while read -r file; do
		path=$T_DIR/$file
		until [[ -e $path ]]; do path=${path%/*}; done
		[[ -w $path ]] || die "$path cannot be written to; without INPLACE=1 a copy is patched"
	done < <(tree_patches | xargs cat | patched_files)
}

# The tree's own repository keeps the list of its worktrees.
can_have_worktree() { [[ -n $T_GIT && -w $(tree_git rev-parse --path-format=absolute --git-common-dir) ]]; }

copy_tree() {
	local dest=$1
	if can_have_worktree; then
		tree_git -c core.autocrlf=false worktree add -f --detach --quiet "$dest" HEAD
	elif [[ -n $T_GIT ]]; then
		mkdir "$dest"
		tree_git archive HEAD | tar -x -C "$dest"
	else
		mkdir "$dest"
		cp -a --reflink=auto "$T_DIR/." "$dest/"
		chmod -R u+w "$dest"
	fi
}

# in_copy DIR ARGUMENT...: git in the worktree DIR, which needs to know who commits.
in_copy() {
	local dir=$1 who=()
	shift
	git var GIT_COMMITTER_IDENT >/dev/null 2>&1 ||
		who=(-c user.name=nsproxy_defer -c user.email=nsproxy_defer@localhost)
	git -c safe.directory="$dir" -c core.hooksPath=/dev/null -c commit.gpgSign=false \
		${who[@]+"${who[@]}"} -C "$dir" "$@"
}

apply_series() {
	local dir=$1 patches patch
	mapfile -t patches < <(tree_patches)
	if [[ -e $dir/.git && -n $T_GIT ]]; then
		in_copy "$dir" am "${patches[@]}" || {
			in_copy "$dir" am --abort
			return 1
		}
		return
	fi
	for patch in "${patches[@]}"; do
		apply_patch "$dir" "$patch" || return 1
	done
}

drop_copy() {
	if [[ -e $1/.git && -n $T_GIT ]]; then
		tree_git worktree remove --force "$1" 2>/dev/null || true
	fi
	rm -rf "$1"
}

# destination: where the copy goes.
destination() {
	local dest=${DEST:-$TOP/out/patch/$T_NAME}
	[[ $dest == /* ]] || dest=$PWD/$dest
	[[ $dest != *[[:space:]:]* ]] || die "DEST=$dest has a space or a colon in it, which no kernel can be built with"
	[[ ! -e $dest ]] || die "$dest is there already: remove it, or give DEST=/another/path"
	[[ $dest != "$T_DIR"/* ]] || die "DEST=$dest is inside of the tree; give a path outside of it"
	[[ -z ${DEST:-} || -d ${dest%/*}/ ]] || die "DEST=$dest: ${dest%/*} is not there; make it, or give another path"
	printf '%s\n' "$dest"
}

BETWEEN="For a Linux from 3.17 to 4.8, or one with the setns() of these, there is neither a series nor a module."

main() {
	local dest log
	need_programs git patch
	case ${INPLACE:-0} in 0 | 1) ;; *) die "INPLACE=$INPLACE: it is 1 or not there" ;; esac
	[[ ${INPLACE:-0} == 0 || -z ${DEST:-} ]] || die "DEST= is where a copy goes, and INPLACE=1 makes none: give one of them"
	look_at_tree "${TREE:-}"
	describe_tree
	if [[ -n $T_CARRIES ]]; then
		note "Nothing to do."
		return
	fi
	if tree_is_quick; then
		note "So no call waits for what a series takes away. Nothing to do."
		return
	fi
	need_clean
	dest=
	[[ ${INPLACE:-0} == 1 ]] || dest=$(destination)
	find_series
	tree_record series "$(series_word)"
	[[ -z $T_INEXACT ]] ||
		die "no series is for $T_DIR, which is unchanged:"$'\n'"$T_WRONG."$'\n'"Until then no hunk that fits is right, nor is the module. $(tree_is_between && echo "$BETWEEN" || echo "Do that first, and run this again.")"
	[[ -n $T_SERIES ]] ||
		die "no series is for $T_DIR, which is unchanged:"$'\n'"${T_WRONG:-there is none for a class $T_CLASS kernel in $PATCHES}"$'\n'"$(tree_is_between && echo "$BETWEEN" || echo "Apply the nearest by hand, from make series KERNEL=; or use the module, see README.md for which kernels.")"
	describe_series

	if [[ ${INPLACE:-0} == 1 ]]; then
		need_writable
		log=$TOP/out/patch/$T_NAME.log
		step "patching $T_DIR itself" "$log" apply_series "$T_DIR"
		note "Patched in place. Turn on CONFIG_NSPROXY_DEFER in its configuration."
		return
	fi

	mkdir -p "${dest%/*}" 2>/dev/null || true
	log=$dest.log
	{ : >"$log"; } 2>/dev/null || die "cannot write to ${dest%/*}; give DEST=/another/path"
	# shellcheck disable=SC2064 # when it runs dest is out of scope
	trap "drop_copy ${dest@Q}" EXIT
	step "copying $T_DIR" "$log" copy_tree "$dest"
	step "patching the copy" "$log" apply_series "$dest"
	trap - EXIT
	note "The patched copy: $(here "$dest")$( [[ ! -e $dest/.git ]] || echo ", a git worktree with $(tree_patches | wc -l) commits on top of $T_GIT")"
	note "What patch(1) and git said: $(here "$log")"
	note "Turn on CONFIG_NSPROXY_DEFER in its configuration. $T_DIR is unchanged."
}

main "$@"
