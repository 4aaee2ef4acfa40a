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

tree_variable() { sed -n "/^$1[[:space:]]*=[[:space:]]*/{s///;s/\r$//;p;q}" "$T_DIR/Makefile"; }

# What a vendor or another patch set calls its tree: -rt42, -cip7.
tree_localversion() {
	local file
	for file in "$T_DIR"/localversion*; do
		[[ ! -f $file || $file == *~ ]] || tr -d '[:space:]' <"$file"
	done
}

# tree_function NAME FILE: its body.
tree_function() {
	[[ ! -e $T_DIR/$2 ]] || awk -v name="$1" '
		$0 ~ "^[a-z].*[ *]" name "\\(" && !/;/ { on = 1 }
		on { print }
		on && /^}/ { exit }' "$T_DIR/$2"
}

# look_at_tree PATH: sets T_DIR, T_NAME, T_VERSION (3.16.7-vendor), T_LINE
# (3.16), T_GIT (the commit, or nothing), T_CARRIES (a series, in full) and what the
# sources say, for vendors carry commits from one line to another:
#
#	T_CLASS		L: switch_task_namespaces() waits for RCU; M: it takes
#			task_lock() instead, as since 3.17 (728dba3a39c6)
#	T_UMOUNT	what namespace_unlock() waits for: nothing (up to 3.12), full (a
#			grace period), or expedited (since 5.0)
#	T_INEXACT	why nobody can count who holds a mount, neither the module nor a
#			series whose hunks fit, and what to do; or nothing if it can be done
look_at_tree() {
	local body parts=
	[[ -n $1 ]] || die "which tree? Give TREE=/path/to/linux"
	[[ -e $1 ]] || die "TREE=$1 is not there"
	[[ -d $1 && -r $1 && -x $1 ]] || die "TREE=$1 is not a folder that can be read"
	T_DIR=$(cd -- "$1" && pwd -P)
	[[ $T_DIR != *[[:space:]:]* ]] ||
		die "TREE=$T_DIR has a space or a colon in its path, which no kernel can be built with; move it, or bind-mount it elsewhere"
	T_NAME=${T_DIR##*/}
	[[ -r $T_DIR/Makefile && -r $T_DIR/kernel/nsproxy.c && -n $(tree_variable VERSION) ]] ||
		die "TREE=$T_DIR is no kernel source tree: Makefile (with VERSION) and kernel/nsproxy.c must be in it"
	T_LINE=$(tree_variable VERSION).$(tree_variable PATCHLEVEL)
	T_VERSION=$T_LINE.$(tree_variable SUBLEVEL)$(tree_variable EXTRAVERSION)$(tree_localversion)

	T_GIT=
	if [[ $(tree_git rev-parse --show-toplevel 2>/dev/null) == "$T_DIR" ]]; then
		T_GIT=$(tree_git rev-parse --short --verify -q HEAD) || T_GIT=
	fi

	T_CARRIES=
	T_CLASS=
	T_UMOUNT=
	T_INEXACT=
	grep -qs '^config NSPROXY_DEFER$' "$T_DIR/init/Kconfig" "$T_DIR/kernel/Kconfig"* && parts+=1
	[[ ! -e $T_DIR/include/linux/nsproxy_defer.h ]] || parts+=1
	[[ ! -e $T_DIR/fs/namespace_unlock.h ]] && ! grep -qs nsproxy_defer "$T_DIR/kernel/nsproxy.c" || parts+=1
	if [[ $parts == 111 ]]; then
		T_CARRIES=yes
		return
	fi
	[[ -z $parts ]] ||
		die "$T_DIR has a part of a series: config NSPROXY_DEFER, include/linux/nsproxy_defer.h and what uses it (fs/namespace_unlock.h, up to 3.16 kernel/nsproxy.c) come together; apply the rest of it or take it back"
	body=$(tree_function switch_task_namespaces kernel/nsproxy.c)
	if grep -qE '^[[:space:]]+synchronize_[a-z_]+\(\);' <<<"$body"; then
		T_CLASS=L
	elif grep -qE '^[[:space:]]+task_lock\(' <<<"$body"; then
		T_CLASS=M
	elif [[ -z $body ]]; then
		die "there is no switch_task_namespaces() in $T_DIR/kernel/nsproxy.c: no series knows such a kernel"
	else
		die "switch_task_namespaces() in $T_DIR/kernel/nsproxy.c neither waits for RCU nor takes task_lock(): no series knows such a kernel"
	fi
	case $T_CLASS$(tree_function namespace_unlock fs/namespace.c) in
	M) die "there is no namespace_unlock() in $T_DIR/fs/namespace.c: no series knows such a kernel" ;;
	*synchronize_rcu_expedited*) T_UMOUNT=expedited ;;
	*synchronize_*) T_UMOUNT=full ;;
	*) T_UMOUNT=nothing ;;
	esac
	[[ ! -e $T_DIR/fs/namespace.c ]] ||
		T_INEXACT=$(awk -v class="$T_CLASS" -f "$TOP/module/compat/mntput-order.awk" "$T_DIR/fs/namespace.c")
}

# class_of_line 3.16: what mainline is.
class_of_line() {
	if at_least 3.17 "$1"; then echo M; else echo L; fi
}

# Is it an old kernel that has got 728dba3a39c6?
tree_has_fix() { [[ $T_CLASS == M && $(class_of_line "$T_LINE") == L ]]; }

# Does no call wait?
tree_is_quick() { [[ $T_CLASS$T_UMOUNT == Mnothing ]]; }

# Has it what 3.17 brought, but not what module and series need besides, of 4.9?
tree_is_between() { [[ $T_CLASS == M ]] && ! at_least 4.9 "$T_LINE"; }

tree_takes_module() { [[ -z $T_INEXACT ]] && ! tree_is_quick && ! tree_is_between; }

# tree_record KEY TEXT: for the table of trees, see trees.sh.
tree_record() {
	local file=${TREES:-$TOP/out/trees}/${T_DIR//\//+} key=$1
	shift
	mkdir -p "${file%/*}"
	[[ ! -e $file ]] || sed -i "/^$key /d" "$file"
	printf '%s %s\n' "$key" "$*" >>"$file"
}

# What waits in it, in a few words.
tree_waits() {
	local waits=()
	[[ $T_CLASS != L ]] || waits+=("setns()")
	case $T_UMOUNT in
	full) waits+=("umount()") ;;
	expedited) waits+=("umount(), expedited") ;;
	esac
	printf '%s%s\n' "${waits[0]:-nothing}" "${waits[1]:+, ${waits[1]}}"
}

describe_tree() {
	tree_record release "$T_VERSION"
	[[ -z ${VENDOR:-} ]] || tree_record vendor "$VENDOR"
	[[ -n $T_CARRIES ]] || tree_record waits "$(tree_waits)"
	note "$T_DIR is Linux $T_VERSION, $( [[ -n $T_GIT ]] && echo "git $T_GIT" || echo "not a git repository")."
	if [[ -n $T_CARRIES ]]; then
		note "It carries a series already: CONFIG_NSPROXY_DEFER is there."
	elif [[ $T_CLASS == L ]]; then
		note "Its switch_task_namespaces() waits for RCU, so setns(), unshare() and exit do (class L)."
	elif tree_has_fix; then
		note "Its switch_task_namespaces() takes task_lock(): it has the fix of Linux 3.17, 728dba3a39c6 (class M)."
	else
		note "Its switch_task_namespaces() takes task_lock() (class M)."
	fi
	[[ -z $T_CARRIES ]] || return 0
	case $T_UMOUNT in
	nothing) note "Its namespace_unlock() waits for nothing." ;;
	full) note "Its namespace_unlock() waits for a grace period, so umount() and the end of a mount namespace do." ;;
	expedited) note "Its namespace_unlock() waits for an expedited grace period, which is a full one with PREEMPT_RT or rcu_normal." ;;
	esac
}

# series_patches SERIES: the patches of a series file that is composed, in order.
series_patches() { series_entries "$1" | sed "s#^#${1%/*}/#"; }

patched_files() { sed -nE 's#^(---|\+\+\+) [ab]/([^[:space:]]+).*#\2#p' "$@" | sort -u; }

# apply_patch DIR PATCH: without fuzz, by which a hunk once went into code of a vendor's
# that keeps the flags of a mount elsewhere.
apply_patch() {
	patch -d "$1" -p1 -F 0 --forward --batch --no-backup-if-mismatch -i "$2" 2>&1
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
		/^Reversed \(or previously applied\) patch detected/ {
			print file ": it has this change already, and the tree has not all of the patch"
			exit
		}
		/^Hunk #[0-9]+ (FAILED|ignored) at / {
			print file ": hunk " substr($2, 2) " (line " $5 + 0 ") does not apply"
			exit
		}' "$2")
	[[ -n $wrong ]] || wrong=$(sed -nE 's/^The next patch would create the file (.*),$/\1: it is to be made, and is there already/p' "$2" | head -n 1)
	echo "$name: ${wrong:-$(tail -n 1 "$2")}"
}

# said_of PATCH SERIES KEY: the rest of the line "# KEY: " above its name.
said_of() { grep -xF -B1 -- "${1##*/}" "$2" | sed -n "s/^# $3: //p"; }

# is_optional SERIES PATCH: can a tree do without it? So it is if nothing that it changes
# is compiled into a kernel, or if the series says so, "# Optional: REASON" above its name.
is_optional() {
	! patched_files "$2" | grep -qvE '^(Documentation/|tools/|MAINTAINERS$)' ||
		[[ -n $(said_of "$2" "$1" Optional) ]]
}

# has_patch SERIES DIR PATCH: is all that it does done there already? Vendors, and late stable
# kernels, bring what a series brings, too; in other words, if the series says how that shows,
# in a line "# Done where: FILE WORD" above its name.
has_patch() {
	local file word
	while read -r file word; do
		! grep -qsw -- "$word" "$2/$file" || return 0
	done < <(said_of "$3" "$1" "Done where")
	patch -d "$2" -p1 -F 0 --reverse --force --dry-run -i "$3" >/dev/null 2>&1
}

# hunks PATCH: how many there are in files that must be there.
hunks() { grep -cE '^@@ -[^0]' "$1" || true; }

# try_series SERIES: does it apply? Tried on copies of the files that it changes. A line
# "# Where: FILE WORD" of it is about what the tree must have besides, and one "# Where
# not: FILE WORD" about what it must not. Sets WRONG to that, or to the first hunk that does
# not, LEFT_OUT to the patches that do not apply and need not, or are there already, FIT
# and HUNKS to how many hunks do, of how many, and OFFSET to how many of these not as they
# stand.
try_series() {
	local scratch patches patch file word
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
	WRONG='' LEFT_OUT=() FIT=0 HUNKS=0 OFFSET=0
	while read -r file word; do
		grep -qsw -- "$word" "$T_DIR/$file" || WRONG="but it is for another kernel: $file has no $word"
	done < <(sed -n 's/^# Where: //p' "$1")
	while read -r file word; do
		! grep -qsw -- "$word" "$T_DIR/$file" || WRONG="but it is for another kernel: $file has $word"
	done < <(sed -n 's/^# Where not: //p' "$1")
	for patch in "${patches[@]}"; do
		HUNKS=$((HUNKS + $(hunks "$patch")))
		# What fits in part leaves that behind.
		rm -rf "$scratch/before"
		cp -r "$scratch/tree" "$scratch/before"
		if apply_patch "$scratch/tree" "$patch" >"$scratch/log"; then
			FIT=$((FIT + $(hunks "$patch")))
			OFFSET=$((OFFSET + $(grep -c '(offset' "$scratch/log" || true)))
		elif is_optional "$1" "$patch" || has_patch "$1" "$scratch/before" "$patch"; then
			rm -rf "$scratch/tree"
			mv "$scratch/before" "$scratch/tree"
			LEFT_OUT+=("$patch")
			HUNKS=$((HUNKS - $(hunks "$patch")))
		else
			FIT=$((FIT + $(grep -cE '^Hunk #[0-9]+ succeeded' "$scratch/log" || true)))
			WRONG=${WRONG:-the first that does not: $(why_not "$patch" "$scratch/log" "$scratch/tree")}
		fi
	done
	rm -rf "$scratch"
	[[ -z $WRONG ]]
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

# lines_by_distance: the series of the tree's own line, then the others, the next first:
# what a line has that another lacks, and no hunk shows, most often has its neighbour, too.
lines_by_distance() {
	local dir
	for dir in "$PATCHES"/linux-*.y; do
		[[ ! -r $dir/series ]] || printf '%s %s\n' "${dir##*/linux-}" "$dir"
	done | awk -v own="$T_LINE" '
		function number(version,   v) { split(version, v, "."); return 1000 * v[1] + v[2] }
		{ distance = number($1) - number(own); print (distance < 0 ? -distance : distance), $2 }' | sort -n
}

# find_series: sets T_FROM (a folder of patches/), T_SERIES (the same, composed), and
# T_LEFT_OUT (the patches that need not apply, and do not), or leaves T_SERIES empty
# and sets T_WRONG to what is wrong with the four nearest, a line each, the
# nearest first, but with T_INEXACT to that and the nearest. All of the tree's class are tried.
find_series() {
	local dir line series ranked=
	[[ -d $PATCHES ]] || die "PATCHES=$PATCHES is not there: give a folder with series in linux-X.Y.y, or leave it out"
	T_SERIES=''
	T_WRONG=''
	while read -r _ dir; do
		line=${dir%.y}
		[[ $(class_of_line "${line##*/linux-}") == "$T_CLASS" ]] || continue
		series=$(composed "$dir") || exit 1
		if try_series "$series" && [[ -z $T_INEXACT ]]; then
			T_FROM=$dir
			T_SERIES=$series
			T_HUNKS=$HUNKS T_OFFSET=$OFFSET
			T_LEFT_OUT=(${LEFT_OUT[@]+"${LEFT_OUT[@]}"})
			return
		fi
		ranked+="$((FIT * 1000 / HUNKS)) ${dir##*/}: $FIT of $HUNKS hunks fit; ${WRONG:-that is all}"$'\n'
	done < <(lines_by_distance)
	[[ -z $ranked ]] || T_WRONG=$(sort -rns <<<"${ranked%$'\n'}" | sed 's/^[^ ]* //; 4q')
	[[ -z $T_INEXACT ]] || T_WRONG=$T_INEXACT${T_WRONG:+$'\n'as it is, the nearest is ${T_WRONG%%$'\n'*}}
}

# The patches that are applied to the tree.
tree_patches() {
	local patch
	while read -r patch; do
		[[ " ${T_LEFT_OUT[*]-} " == *" $patch "* ]] || echo "$patch"
	done < <(series_patches "$T_SERIES")
}

# Could it get 728dba3a39c6 from us?
tree_takes_fix() {
	[[ $T_CLASS == L ]] && patch -d "$T_DIR" -p1 -F 0 --forward --batch --dry-run -i "$UPSTREAM_FIX" >/dev/null
}

# What the runs of a tree are: the tree as it is, the same with the module, and
# patched.
tree_kinds() {
	local kinds=unpatched
	if [[ -n $T_CARRIES ]]; then
		echo patched
		return
	fi
	! tree_takes_module || kinds+=" module"
	# The series of its own line has to apply. With the fix of 3.17 it needs none.
	if [[ -n $T_SERIES ]] ||
		{ ! tree_has_fix && [[ $T_CLASS == L || -e $PATCHES/linux-$T_LINE.y ]]; }; then
		kinds+=" patched"
	fi
	echo "$kinds"
}

# What came of the series, in a few words.
series_word() {
	if [[ -n $T_SERIES ]]; then
		echo "${T_FROM##*/linux-}: $T_HUNKS hunks, $T_OFFSET with an offset"
	elif [[ -n $T_INEXACT ]]; then
		echo "none: $T_INEXACT"
	else
		sed -E '1!d; s/^linux-/none; /; s/; the first that does not.*//; s/; but it is for another kernel:/, but/' <<<"$T_WRONG"
	fi
}

# describe_series: what find_series found.
describe_series() {
	local patch
	if [[ -z $T_SERIES ]]; then
		note "No series of patches/ applies$( [[ -z $T_WRONG ]] || printf ':\n%s' "$T_WRONG")."
		return
	fi
	note "$(here "$T_FROM") applies without fuzz ($(tree_patches | wc -l) patches)."
	for patch in ${T_LEFT_OUT[@]+"${T_LEFT_OUT[@]}"}; do
		if is_optional "$T_SERIES" "$patch"; then
			note "Left out, since it does not apply and a kernel can do without: ${patch##*/}."
		else
			note "Left out, since this tree has it already: ${patch##*/}."
		fi
	done
}

# choose_tree: all of the above for TREE, said in a few lines. What the guests
# of an old kernel need besides goes with it.
choose_tree() {
	look_at_tree "$TREE"
	describe_tree
	T_SERIES=''
	if [[ -n $T_CARRIES ]]; then
		:
	elif tree_is_quick; then
		note "So there is nothing to patch."
	else
		find_series
		tree_record series "$(series_word)"
		describe_series
		[[ -n $T_SERIES || $T_CLASS == L || -e $PATCHES/linux-$T_LINE.y ]] ||
			note "There is none for Linux $T_LINE, so it is not run patched."
		tree_takes_module || note "It is not run with the module."
	fi
	# Linux 3.x does not boot on all that QEMU has.
	[[ $(class_of_line "$T_LINE") != L ]] || GUEST_CPU=${GUEST_CPU:-qemu64}
	BOOT_ARGS+=(slub_nomerge)
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
		make -C "$SOURCE" ARCH="$ARCH" CROSS_COMPILE= HOSTCFLAGS='-O2 -fcommon' mrproper
	fi
	while read -r patch; do
		patch -d "$SOURCE" -p1 -F 0 --forward --batch --dry-run -i "$patch" >/dev/null || continue
		echo "fix-up ${patch##*/}"
		apply_patch "$SOURCE" "$patch"
	done < <(series_patches "$FIXES/series")
	if [[ $1 == upstream ]]; then
		apply_patch "$SOURCE" "$UPSTREAM_FIX"
	fi
	[[ $1 == patched && -z $T_CARRIES ]] || return 0
	while read -r patch; do
		apply_patch "$SOURCE" "$patch"
	done < <(tree_patches)
}

# tree_source KIND: a copy to build from, made anew when the tree or a patch is
# another than last time. Sets SOURCE, K_CC and MAKE_ARGS.
tree_source() {
	local kind=$1 stamp arg
	[[ $kind != patched || -n $T_CARRIES || -n $T_SERIES ]] ||
		die "no series applies to $T_DIR:"$'\n'"${T_WRONG:-there is none for a class $T_CLASS kernel}"
	SOURCE=$(tree_cache "$kind")/src
	stamp=$( {
		find "$T_DIR" -path "$T_DIR/.git" -prune -o -type f -printf '%P %T@ %s\n' | sort
		cat "$FIXES"/*
		[[ $kind != patched || -n $T_CARRIES ]] || tree_patches | xargs -d '\n' cat
		[[ $kind != upstream ]] || cat "$UPSTREAM_FIX"
	} | cksum)
	if [[ $(cat "$SOURCE.stamp" 2>/dev/null) != "$stamp" ]]; then
		need_space 4000
		rm -f "$SOURCE.stamp"
		step "copying $T_DIR, $kind" "$CACHE/log/copy-$(tree_id "$kind").log" copy_tree_source "$kind"
		printf '%s\n' "$stamp" >"$SOURCE.stamp"
	fi
	old_compiler || true
	# A vendor's Makefile may name the processor of his board, and a compiler for it.
	# shellcheck source=/dev/null
	mapfile -t MAKE_ARGS < <(echo "ARCH=$ARCH"; echo "CROSS_COMPILE=${SUFFIX:+$CROSS_COMPILE}"; source "$FIXES/flags.sh" "$SOURCE" "$K_CC")
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
	! tree_is_quick || class=Q
	taint=$(sed -n 's/^taint //p' "$SCENARIO_DIR/$scenario/expect")
	[[ $kind == module ]] || taint=$((taint - 4096))
	echo "taint $taint"
	sed '/^taint /d;/^sides /d' "$SCENARIO_DIR/$scenario/expect" ${SUFFIX:+"$SCENARIO_DIR/$ARCH-expect"}
	cat "$SCENARIO_DIR/$T_LINE-expect" 2>/dev/null || true
	sides=$(sed -n 's/^sides //p' "$SCENARIO_DIR/$scenario/expect")
	# What a patched tree is held to is the tree as it was, or else its own
	# mode off.
	case ${sides:+$kind} in
	unpatched) sides=stock ;;
	patched) sides="${T_CARRIES:-stock} off safe all"; sides=${sides#yes } ;;
	esac
	[[ -z $sides ]] || echo "sides $sides"
	awk -v line="$T_LINE" -v kind="$kind" -v class="$class" -v rhel="$(ls "$T_DIR/Makefile.rhelver" 2>/dev/null)" '
		function number(version,   v) { split(version, v, "."); return 1000 * v[1] + v[2] }
		function drop(words) { while (words--) sub(/^[^ ]+ /, "") }
		!/^(before|patched|rhel|unpatched) / { next }
		$1 == "before" { if (number(line) >= number($2)) next; drop(2) }
		$1 == "rhel" { if (!rhel) next; drop(1) }
		$1 == "patched" { if (kind != $1) next; drop(1) }
		$1 == "unpatched" { if (kind != $1 || class != $2) next; drop(2) }
		{ print }' "$SCENARIO_DIR/tree-expect"
}
