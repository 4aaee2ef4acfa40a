# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-only
#
# What lint.sh checks of the series in patches/, as they are there and composed.
# Sourced by it.

# series_is_whole FOLDER: nothing is in it that the series does not name, each
# patch that not all have comes with a reason above it, and it says what it was made for.
series_is_whole() {
	local entry result=0
	diff --unchanged-line-format= --old-line-format=$'series names %l, which is not there\n' \
		--new-line-format=$'%l is named by no line of series\n' <(while read -r entry; do
		case $entry in
		*.patch) echo "$entry" ;;
		*) [[ ! -e $1/$entry.diff ]] || echo "$entry.diff" ;;
		esac
	done < <(series_entries "$1/series") | sort) \
		<(find "$1" -mindepth 1 ! -name series ! -name cover-letter -printf '%P\n' | sort) || result=1
	awk '
		/^#/ || /^$/ { reason = /^#/; next }
		$1 ~ /^(engine|mnt-last|walkers|ucount|umount|documentation|selftests)$/ { reason = 1 }
		!reason { print $1 " has no reason above it in series"; wrong = 1 }
		{ reason = 0 }
		END { exit wrong }' "$1/series" || result=1
	grep -q '^# Base: Linux [0-9]' "$1/series" || {
		echo "series has no line \"# Base: Linux ...\""
		result=1
	}
	[[ -s $1/cover-letter ]] || {
		echo "there is no cover-letter"
		result=1
	}
	return "$result"
}

# patch_style PATCH: a person signs a patch, and not before it is sent. The
# collection's sources are checked where they come from. No for_each macro can do
# without using its argument again. What series have in common is looked at once.
patch_style() {
	local ignore=FILE_PATH_CHANGES,MACRO_ARG_REUSE,LINUX_VERSION_CODE checked
	checked=$OUT/checked/$(sed -E 's|^Subject: \[PATCH [0-9/]+\] ||' "$1" | cksum | tr ' ' -)
	[[ ! -e $checked ]] || return 0
	! patched_files "$1" | grep -q '^include/trace/' || ignore+=,$TRACE_STYLE
	awk '/^diff --git / { ours = / b\/tools\/testing\/selftests\/nsproxy\/.*\.[ch]$/ } !ours' "$1" |
		(cd "$OUT" && perl "$SOURCE/scripts/checkpatch.pl" --no-tree --root="$SOURCE" --strict --terse \
			--show-types --no-signoff --ignore "$ignore" -) |
		sed "s#^-:#${1#"$TOP"/}:#" || return 1
	touch "$checked"
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

# lint_git ARGUMENT...: in $tree, with the user's settings left out.
lint_git() { bare_git "$tree" -c user.name=lint -c user.email=lint@localhost "$@"; }

# series_applies FOLDER SERIES TREE: git am takes what is composed, each of our files
# is in the tree as it is here, and what was changed is as it was when all is taken
# back. Done with the files that are changed.
series_applies() {
	local patches patch entry file path tree=$OUT/tree-${1##*/} result=0 i
	rm -rf "$tree"
	mkdir "$tree"
	mapfile -t patches < <(series_patches "$2")
	while read -r file; do
		[[ ! -e $3/$file ]] || (cd "$3" && cp --parents --no-preserve=mode "$file" "$tree")
	done < <(patched_files "${patches[@]}")
	lint_git init -q
	lint_git add .
	lint_git commit -q -m "as it was"
	lint_git tag base
	lint_git am -q "${patches[@]}" || return 1
	# shellcheck disable=SC2153 # compose.sh sets PATCHES.
	for entry in $(series_entries "$1/series" | grep -v '\.patch$'); do
		while read -r path file; do
			cmp "$tree/$path" <(built_in "$file") || result=1
		done < <(piece_files "$PATCHES/common/$entry")
	done
	for ((i = ${#patches[@]} - 1; i >= 0; i--)); do
		lint_git apply --index --reverse "${patches[i]}" || result=1
	done
	lint_git diff --cached --exit-code base || result=1
	rm -rf "$tree"
	return "$result"
}

# touched_folders PATCH...: those whose sources they change, but none inside another.
touched_folders() {
	patched_files "$@" | sed -nE '/^tools\//d;s#/[^/]*\.c$#/#p' | sort -u |
		awk 'last == "" || index($0, last) != 1 { print last = $0 }'
}

# compile_steps: do the folders that the series changes compile after each patch, with
# the option and without it? Whole kernels are built and booted by make check TREE=. It is
# called where bash does not stop at an error.
compile_steps() {
	local patches patch setting obj folders
	mapfile -t patches < <(series_patches "$T_SERIES")
	mapfile -t folders < <(touched_folders "${patches[@]}")
	for patch in "${patches[@]}"; do
		echo "== ${patch##*/}"
		apply_patch "$SOURCE" "$patch" || return 1
		for setting in y n; do
			obj=$(tree_cache steps)/$setting$SUFFIX
			mkdir -p "$obj"
			fragments SMP "$SCENARIO_DIR/tree" | grep -v NSPROXY_DEFER >"$obj/fragments"
			echo "CONFIG_NSPROXY_DEFER=$setting" >>"$obj/fragments"
			configure "$obj" SMP && compile "$obj" "${folders[@]}" || return 1
		done
	done
}

# lint_composed FOLDER: composes it, and looks at what comes of it.
lint_composed() {
	local name=${1##*/} line
	line=${name#linux-}
	line=${line%.y}
	check "$name-whole" series_is_whole "$1"
	rm -rf "$OUT/series/$name"
	check "$name-composed" env KERNEL="$line" OUT="$OUT/series/$name" "$QEMU_DIR/series.sh"
	[[ -e $OUT/series/$name/series ]] || return 0
	check "$name-checkpatch" series_style "$OUT/series/$name/series"
	if [[ -e $CACHE/src/linux-source-$line/Makefile ]]; then
		check "$name-applies" series_applies "$1" "$OUT/series/$name/series" "$CACHE/src/linux-source-$line"
	else
		note "skip    $name-applies: no sources of Linux $line here; STEPS=/path/to/linux names some"
	fi
}

# pieces_are_used: each piece is named by a series, or else it is forgotten.
pieces_are_used() {
	local piece result=0
	for piece in "$PATCHES"/common/*; do
		[[ ! -f $piece ]] || grep -qxF -- "${piece##*/}" "$PATCHES"/linux-*.y/series || {
			echo "${piece#"$TOP"/} is named by no series"
			result=1
		}
	done
	return "$result"
}

lint_series() {
	local series said=$OUT/series.said
	check "pieces-used" pieces_are_used
	rm -rf "$said"
	mkdir -p "$OUT/checked" "$said"
	for series in "$PATCHES"/linux-*.y; do
		wait_below "$JOBS"
		lint_composed "$series" >"$said/${series##*/}" &
	done
	wait
	cat "$said"/*
	# shellcheck disable=SC2034 # lint.sh reads it.
	! grep -qs '^FAILED' "$said"/* || FAILED=1
}

# lint_steps TREE
lint_steps() {
	# shellcheck disable=SC2034 # kernel.sh and tree.sh read it.
	TREE=$1
	choose_tree
	[[ -n $T_SERIES ]] || die "no series applies to STEPS=$T_DIR"
	check "$T_NAME-applies" series_applies "$T_FROM" "$T_SERIES" "$T_DIR"
	lock_cache "$(tree_id steps)"
	tree_source steps
	# The patches that come now are no part of the copy as it was made.
	rm -f "$SOURCE.stamp"
	check "$T_NAME-steps" compile_steps
	unlock_cache
}
