# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-only
#
# The kernel tree that TREE= names: what it is, which series of patches/ fits
# it, and what its kernels are built from. Nothing in here writes to it.
# Sourced after lib.sh.

# What is set here is used there.
# shellcheck disable=SC2034

# shellcheck source=qemu/compose.sh
source "$QEMU_DIR/compose.sh"

FIXES=$TOP/patches/build-fixes
# What Linux 3.17 did about the wait of class L, to compare with.
UPSTREAM_FIX=$TOP/patches/upstream-fix/linux-3.16.y.patch

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
	elif [[ -z $body ]]; then
		die "there is no switch_task_namespaces() in $T_DIR/kernel/nsproxy.c: no series knows such a kernel"
	else
		die "switch_task_namespaces() in $T_DIR/kernel/nsproxy.c neither waits for RCU nor takes task_lock(): no series knows such a kernel"
	fi
}

# class_of_line 3.16: what mainline is.
class_of_line() {
	if at_least 3.17 "$1"; then echo M; else echo L; fi
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

# series_patches SERIES: the patches of a series file that is composed, in order.
series_patches() { series_entries "$1" | sed "s#^#${1%/*}/#"; }

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
		[[ -r $T_DIR/$file ]] || die "$T_DIR/$file cannot be read"
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

# composed FOLDER: the series file of that folder's series, composed. It is kept in
# the cache, where another run, which has the same or waits, may be reading it.
composed() {
	local out
	out=$CACHE/series/$(cksum <<<"$PATCHES" | cut -d' ' -f1)/${1##*/}
	lock_cache series >&2
	rm -rf "$out.new"
	mkdir -p "$out.new"
	compose_series "$1" "$out.new"
	if diff -rq "$out.new" "$out" >/dev/null 2>&1; then
		rm -rf "$out.new"
	else
		rm -rf "$out"
		mv "$out.new" "$out"
	fi
	unlock_cache
	printf '%s\n' "$out/series"
}

# find_series: sets T_FROM (a folder of patches/), T_SERIES (the same, composed) and
# T_FUZZ (0 or 2), or leaves T_SERIES empty and sets T_WRONG to what is wrong with
# each that was tried. The one of the tree's own line comes first, then all others of
# its class.
find_series() {
	local dir line series candidates=() fuzz
	local -A tried=()
	T_SERIES=''
	T_WRONG=''
	for dir in "$PATCHES/linux-$T_LINE.y" "$PATCHES"/linux-*.y; do
		[[ -r $dir/series && -z ${tried[$dir]:-} ]] || continue
		line=${dir%.y}
		[[ $(class_of_line "${line##*/linux-}") == "$T_CLASS" ]] || continue
		candidates+=("$dir")
		tried[$dir]=$(composed "$dir") || exit 1
	done
	for fuzz in 0 2; do
		for dir in ${candidates[@]+"${candidates[@]}"}; do
			series=${tried[$dir]}
			if try_series "$series" "$fuzz"; then
				T_FROM=$dir
				T_SERIES=$series
				T_FUZZ=$fuzz
				return
			fi
			((fuzz)) || T_WRONG+="${T_WRONG:+; }${dir##*/}/$WRONG"
		done
	done
}

# Could it get 728dba3a39c6 from us?
tree_takes_fix() {
	[[ $T_CLASS == L ]] && patch -d "$T_DIR" -p1 -F 0 --forward --batch --dry-run -i "$UPSTREAM_FIX" >/dev/null
}

# What the runs of a tree are: the tree as it is, the same with the module, and
# patched.
tree_kinds() {
	if [[ -n $T_CARRIES ]]; then
		echo patched
	elif tree_has_fix && [[ -z $T_SERIES ]]; then
		# Nothing here knows such a kernel.
		echo unpatched
	elif [[ -n $T_SERIES || $T_CLASS == L || -e $PATCHES/linux-$T_LINE.y ]]; then
		echo unpatched module patched
	else
		echo unpatched module
	fi
}

# choose_tree: all of the above for TREE, said in a few lines. What the guests
# of an old kernel need besides goes with it.
choose_tree() {
	look_at_tree "$TREE"
	describe_tree
	T_SERIES=''
	[[ -n $T_CARRIES ]] || find_series
	if [[ -n $T_SERIES ]]; then
		note "$(here "$T_FROM") applies$( ((T_FUZZ)) && echo ", but only with fuzz" || echo " without fuzz")."
	elif [[ -z $T_CARRIES ]] && ! tree_has_fix; then
		note "No series of patches/ applies${T_WRONG:+: $T_WRONG}."
	fi
	# Linux 3.x does not boot on all that QEMU has.
	[[ $(class_of_line "$T_LINE") != L ]] || GUEST_CPU=${GUEST_CPU:-qemu64}
	# Nor does it wait long enough for the timer of a machine that is busy.
	BOOT_ARGS+=(slub_nomerge no_timer_check)
}

# tree_id KIND: what its logs and locks are called.
tree_id() {
	local kind=$1
	[[ $kind != module ]] || kind=unpatched
	echo "tree-$(cksum <<<"$T_DIR" | cut -d' ' -f1)-$kind"
}

# tree_cache KIND: where its sources are kept, and its kernels beside them. So
# the way from one to the other is always the same, and ccache finds in the
# unpatched tree what the patches leave alone.
tree_cache() { echo "$CACHE/trees/$(tree_id "$1")"; }

# Trees before 4.6, which have no objtool, are older than any compiler that is
# current. Debian 11 has a gcc 9, which builds kernels of them that boot.
old_compiler() {
	local major dir=$CACHE/gcc-9 package
	[[ -z ${CC:-} && ! -d $SOURCE/tools/objtool ]] || return 1
	major=$(gcc -dumpversion)
	((${major%%.*} > 9)) || return 1
	if [[ ! -x $dir/usr/bin/gcc-9 ]]; then
		apt_for bullseye
		step "fetching gcc 9" "$CACHE/log/fetch-gcc-9.log" fetch_debs gcc-9 cpp-9 libgcc-9-dev
		for package in gcc-9 cpp-9 libgcc-9-dev; do
			dpkg-deb -x "$(newest_deb "$package")" "$dir"
		done
	fi
	K_CC=$dir/usr/bin/gcc-9
}

# copy_tree_source KIND: without what git has, nor what a build left behind.
copy_tree_source() {
	local patch
	mkdir -p "$SOURCE"
	rsync -a --delete --chmod=u+w --exclude=/.git "$T_DIR/" "$SOURCE/"
	if [[ -e $SOURCE/.config || -e $SOURCE/include/config ]]; then
		make -C "$SOURCE" HOSTCFLAGS='-O2 -fcommon' mrproper
	fi
	while read -r patch; do
		patch -d "$SOURCE" -p1 -F 0 --forward --batch --dry-run -i "$patch" >/dev/null || continue
		echo "fix-up ${patch##*/}"
		apply_patch "$SOURCE" "$patch" 0 /dev/stdout
	done < <(series_patches "$FIXES/series")
	if [[ $1 == upstream ]]; then
		apply_patch "$SOURCE" "$UPSTREAM_FIX" 0 /dev/stdout
	fi
	[[ $1 == patched && -z $T_CARRIES ]] || return 0
	while read -r patch; do
		apply_patch "$SOURCE" "$patch" "$T_FUZZ" /dev/stdout
	done < <(series_patches "$T_SERIES")
}

# tree_source KIND: a copy to build from, made anew when the tree or a patch is
# another than last time. Sets SOURCE, K_CC and MAKE_ARGS.
tree_source() {
	local kind=$1 stamp arg
	[[ $kind != patched || -n $T_CARRIES || -n $T_SERIES ]] ||
		die "no series applies to $T_DIR: ${T_WRONG:-there is none for a class $T_CLASS kernel}"
	SOURCE=$(tree_cache "$kind")/src
	stamp=$( {
		find "$T_DIR" -path "$T_DIR/.git" -prune -o -type f -printf '%P %T@ %s\n' | sort
		cat "$FIXES"/*
		[[ $kind != patched || -n $T_CARRIES ]] || cat "${T_SERIES%/series}"/*
		[[ $kind != upstream ]] || cat "$UPSTREAM_FIX"
	} | cksum)
	if [[ $(cat "$SOURCE.stamp" 2>/dev/null) != "$stamp" ]]; then
		need_space 4000
		rm -f "$SOURCE.stamp"
		step "copying $T_DIR, $kind" "$CACHE/log/copy-$(tree_id "$kind").log" copy_tree_source "$kind"
		printf '%s\n' "$stamp" >"$SOURCE.stamp"
	fi
	old_compiler || true
	# shellcheck source=/dev/null
	mapfile -t MAKE_ARGS < <(source "$FIXES/flags.sh" "$SOURCE" "$K_CC")
	for arg in "${!MAKE_ARGS[@]}"; do
		[[ ${MAKE_ARGS[arg]} == CC=* ]] || continue
		K_CC=${MAKE_ARGS[arg]#CC=}
		unset "MAKE_ARGS[arg]"
	done
}

# tree_expect SCENARIO KIND: what verdict.sh is to expect of the run. Where
# nothing is deferred the tests must find the wait.
tree_expect() {
	local scenario=$1 kind=$2 class=$T_CLASS taint sides
	! tree_has_fix || class=F
	taint=$(sed -n 's/^taint //p' "$SCENARIO_DIR/$scenario/expect")
	[[ $kind == module ]] || taint=$((taint - 4096))
	echo "taint $taint"
	sed '/^taint /d;/^sides /d' "$SCENARIO_DIR/$scenario/expect"
	sides=$(sed -n 's/^sides //p' "$SCENARIO_DIR/$scenario/expect")
	# What a patched tree is held to is the tree as it was, or else its own
	# mode off.
	case ${sides:+$kind} in
	unpatched) sides=stock ;;
	patched) sides="${T_CARRIES:-stock} off safe all"; sides=${sides#yes } ;;
	esac
	[[ -z $sides ]] || echo "sides $sides"
	awk -v line="$T_LINE" -v kind="$kind" -v class="$class" '
		function number(version,   v) { split(version, v, "."); return 1000 * v[1] + v[2] }
		function rest(words) { while (words--) sub(/^[^ ]+ /, ""); print }
		$1 == "before" && number(line) < number($2) { rest(2) }
		$1 == "patched" && kind == $1 { rest(1) }
		$1 == "unpatched" && kind == $1 && class == $2 { rest(2) }' "$SCENARIO_DIR/tree-expect"
}
