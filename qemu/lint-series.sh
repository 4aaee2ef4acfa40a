# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-only
#
# What lint.sh checks of the series in patches/. Sourced by it.

# Nothing is in the folder that the series does not name, and the other way.
series_is_whole() {
	diff <(series_patches "$1" | sort) \
		<(find "${1%/series}" -name '*.patch' ! -name '0000-*' | sort) || return 1
	[[ -s ${1%/series}/0000-cover-letter.patch ]] || {
		echo "there is no 0000-cover-letter.patch"
		return 1
	}
}

# patch_style PATCH: a person signs a patch, and not before it is sent. The
# collection's sources are checked where they come from.
patch_style() {
	local ignore=FILE_PATH_CHANGES
	! patched_files "$1" | grep -q '^include/trace/' || ignore+=,$TRACE_STYLE
	awk '/^diff --git / { ours = / b\/tools\/testing\/selftests\/nsproxy\/.*\.[ch]$/ } !ours' "$1" |
		(cd "$OUT" && perl "$SOURCE/scripts/checkpatch.pl" --no-tree --root="$SOURCE" --strict --terse \
			--show-types --no-signoff --ignore "$ignore" -) |
		sed "s#^-:#${1#"$TOP"/}:#"
}

# series_style SERIES
series_style() {
	local patch pid pids=() result=0
	while read -r patch; do
		patch_style "$patch" &
		pids+=($!)
	done < <(series_patches "$1")
	for pid in "${pids[@]}"; do
		wait "$pid" || result=1
	done
	return "$result"
}

# series_reverses SERIES TREE: it applies without fuzz, and what it changed is
# as it was when it is taken back.
series_reverses() {
	local scratch patches patch file i result=0
	scratch=$(mktemp -d)
	mkdir "$scratch/old"
	mapfile -t patches < <(series_patches "$1")
	while read -r file; do
		[[ -e $2/$file ]] || continue
		mkdir -p "$scratch/old/${file%/*}"
		cp "$2/$file" "$scratch/old/$file"
	done < <(patched_files "${patches[@]}")
	cp -r "$scratch/old" "$scratch/new"
	for patch in "${patches[@]}"; do
		apply_patch "$scratch/new" "$patch" 0 /dev/stdout || result=1
	done
	for ((i = ${#patches[@]} - 1; i >= 0; i--)); do
		patch -d "$scratch/new" -p1 -F 0 --reverse --batch --no-backup-if-mismatch -i "${patches[i]}" || result=1
	done
	diff -r "$scratch/old" "$scratch/new" || result=1
	rm -rf "$scratch"
	return "$result"
}

# compile_steps: does the tree build after each patch, with the option and
# without it? It is called where bash does not stop at an error.
compile_steps() {
	local patch setting obj
	while read -r patch; do
		echo "== ${patch##*/}"
		apply_patch "$SOURCE" "$patch" 0 /dev/stdout || return 1
		for setting in y n; do
			obj=$(tree_cache steps)/$setting
			mkdir -p "$obj"
			cat "$SCENARIO_DIR/base" "$SCENARIO_DIR/SMP/fragment" >"$obj/fragments"
			grep -hv NSPROXY_DEFER "$SCENARIO_DIR/tree" "$TOP/selftests/nsproxy/config" >>"$obj/fragments"
			echo "CONFIG_NSPROXY_DEFER=$setting" >>"$obj/fragments"
			configure "$obj" SMP && compile "$obj" || return 1
		done
	done < <(series_patches "$T_SERIES")
}

lint_series() {
	local series name line
	# shellcheck disable=SC2153 # tree.sh sets it.
	for series in "$PATCHES"/linux-*.y/series; do
		[[ -r $series ]] || continue
		name=${series%/series}
		name=${name##*/}
		line=${name#linux-}
		line=${line%.y}
		check "$name-whole" series_is_whole "$series"
		check "$name-checkpatch" series_style "$series"
		if [[ -e $CACHE/src/linux-source-$line/Makefile ]]; then
			check "$name-applies" series_reverses "$series" "$CACHE/src/linux-source-$line"
		else
			note "skip    $name-applies: no sources of Linux $line here; STEPS=/path/to/linux names some"
		fi
	done
}

# lint_steps TREE
lint_steps() {
	# shellcheck disable=SC2034 # kernel.sh and tree.sh read it.
	TREE=$1
	choose_tree
	[[ -n $T_SERIES && $T_FUZZ == 0 ]] || die "no series applies without fuzz to STEPS=$T_DIR"
	check "$T_NAME-applies" series_reverses "$T_SERIES" "$T_DIR"
	lock_cache "$(tree_id steps)"
	tree_source steps
	# The patches that come now are no part of the copy as it was made.
	rm -f "$SOURCE.stamp"
	check "$T_NAME-steps" compile_steps
	unlock_cache
}
