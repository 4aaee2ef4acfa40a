#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Does patch.sh do what it says, and nothing else? On trees of a few files and
# with series of two patches. Says what is wrong, one line each.

# shellcheck source=qemu/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

SCRATCH=$(mktemp -d)
trap 'rm -rf "$SCRATCH"' EXIT
cd "$SCRATCH"
FAILED=0
export PATCHES=$SCRATCH/patches TREES=$SCRATCH/trees NSPROXY_DEFER_CACHE=$SCRATCH/cache
export GIT_AUTHOR_NAME=test GIT_AUTHOR_EMAIL=test@localhost GIT_CONFIG_GLOBAL=/dev/null
export GIT_COMMITTER_NAME=test GIT_COMMITTER_EMAIL=test@localhost GIT_CONFIG_NOSYSTEM=1
unset TREE DEST INPLACE

# make_tree NAME LINE WAIT [WAIT_OF_UMOUNT]: as little of a kernel as can be told for one.
make_tree() {
	mkdir -p "$1/kernel" "$1/init" "$1/fs"
	printf 'VERSION = %s\nPATCHLEVEL = %s\nSUBLEVEL = 7\nEXTRAVERSION = -test\n' "${2%.*}" "${2#*.}" >"$1/Makefile"
	echo 'source "init/Kconfig"' >"$1/Kconfig"
	printf 'config %s\n\tbool "%s"\n\tdefault %s\n' NAMESPACES Namespaces y MORE More n >"$1/init/Kconfig"
	printf '%s\n' '/* one */' '/* two */' '/* three */' \
		'void switch_task_namespaces(struct task_struct *p, struct nsproxy *new)' '{' \
		$'\tmight_sleep();' $'\tp->nsproxy = new;' "$3" $'\tfree_nsproxy(ns);' '}' \
		'/* four */' '/* five */' '/* six */' >"$1/kernel/nsproxy.c"
	printf '%s\n' 'static void namespace_unlock(void)' '{' "${4-$'\tsynchronize_rcu();'}" '}' \
		'static void mntput_no_expire(struct mount *mnt)' '{' $'\tif (likely(READ_ONCE(mnt->mnt_ns))) {' \
		$'\t\tmnt_add_count(mnt, -1);' $'\t}' '}' \
		'int __legitimize_mnt(struct vfsmount *bastard, unsigned seq)' '{' $'\treturn MNT_DOOMED;' '}' >"$1/fs/namespace.c"
}

# decrement_first TREE: as mntput() did it once.
decrement_first() {
	sed -i -e '/mnt_add_count/d' -e 's/^\tif (likely/\tmnt_add_count(mnt, -1);\n&/' "$1/fs/namespace.c"
}

make_git() {
	git -C "$1" init -q
	git -C "$1" add .
	git -C "$1" commit -q -m base
}

# make_series LINE WAIT: a header and an option, then the call.
make_series() {
	local dir=$PATCHES/linux-$1.y
	make_tree base "$1" "$2"
	make_git base
	mkdir -p base/include/linux "$dir"
	echo '/* header */' >base/include/linux/nsproxy_defer.h
	sed -i '3a\\nconfig NSPROXY_DEFER\n\tbool "Defer"' base/init/Kconfig
	git -C base add .
	git -C base commit -q -m 'Add an option'
	sed -i 's/^\tfree_nsproxy/\tnsproxy_defer_queue/' base/kernel/nsproxy.c
	git -C base commit -q -a -m 'Defer'
	git -C base format-patch -q -2 -o "$dir"
	(cd "$dir" && printf '# why\n%s # because\n' ./*.patch | sed 's#^\./##') >"$dir/series"
	rm -rf base
}

sum_of() { find "$1" -path "$1/.git" -prune -o -type f -print0 | sort -z | xargs -0 cksum; }

# document SERIES: one more patch, that a kernel does without.
document() {
	local dir=$PATCHES/linux-$1.y
	make_tree base "$1" ''
	mkdir -p base/Documentation
	echo index | tee base/Documentation/index.rst >base/Documentation/more.rst
	make_git base
	echo nsproxy_defer | tee -a base/Documentation/index.rst >>base/Documentation/more.rst
	git -C base commit -q -a -m 'Document'
	git -C base format-patch -q --start-number 3 -1 -o "$dir"
	echo 0003-Document.patch >>"$dir/series"
	rm -rf base
}

# expect CODE REGEX TREE [VARIABLE=VALUE...]: the tree is as it was before.
expect() {
	local code=$1 regex=$2 tree=$3 before after output rc=0
	shift 3
	before=$([[ ! -d $tree ]] || sum_of "$tree")
	output=$(env "$@" TREE="$tree" "$QEMU_DIR/patch.sh" 2>&1) || rc=$?
	after=$([[ ! -d $tree ]] || sum_of "$tree")
	[[ $rc == "$code" ]] || wrong "$tree $*: it ends with $rc and not with $code" "$output"
	grep -qE -- "$regex" <<<"$output" || wrong "$tree $*: it does not say: $regex" "$output"
	[[ $before == "$after" ]] || wrong "$tree $*: it changed the tree" "$output"
}

# patched FOLDER: is the whole series in it?
patched() {
	[[ -e $1/include/linux/nsproxy_defer.h ]] || wrong "$1 has not the header of the series"
	grep -qs '^config NSPROXY_DEFER$' "$1/init/Kconfig" || wrong "$1 has not the option of the series"
	grep -qs nsproxy_defer_queue "$1/kernel/nsproxy.c" || wrong "$1 has not the call of the series"
}

wrong() {
	FAILED=1
	printf '%s\n' "$@"
}

L=$'\tsynchronize_rcu();'
M=$'\ttask_lock(p);'
make_series 3.16 "$L"
make_series 6.1 "$M"

make_tree plain 3.16 "$L"
expect 0 'is Linux 3\.16\.7-test, not a git' plain DEST=plain.out
patched plain.out
expect 1 'plain.out is there already' plain DEST=plain.out
expect 0 'Nothing to do' plain.out DEST=again
expect 1 'is inside of the tree' plain DEST=plain/out
expect 1 'has a space' plain DEST='a b'
expect 1 'cannot write to /proc; give DEST=' plain DEST=/proc/copy
expect 1 '/dev/null is not there' plain DEST=/dev/null/copy
expect 1 'it is 1 or not there' plain INPLACE=yes
expect 1 'give one of them' plain INPLACE=1 DEST=both.out

make_tree git 6.1 "$M"
make_git git
expect 0 'a git worktree with 2 commits' git DEST=git.out
patched git.out
[[ $(git -C git.out log --format=%s) == $'Defer\nAdd an option\nbase' ]] || wrong "git.out has not the commits of the series"
echo '/* mine */' >>git/kernel/nsproxy.c
expect 1 'not committed \(kernel/nsproxy.c' git DEST=dirty.out
expect 1 'not committed' git INPLACE=1

expect 1 'which tree' ''
expect 1 'is not there' nowhere
expect 1 'is not a folder' plain/Makefile
expect 1 'is no kernel source tree' plain/kernel
make_tree 'a b' 3.16 "$L"
expect 1 'has a space' 'a b'

make_tree other-line 3.12 "$L"
expect 0 'linux-3.16.y applies without fuzz' other-line DEST=other.out
make_tree backport 3.16 "$M"
expect 0 'the fix of Linux 3\.17' backport DEST=backport.out
patched backport.out
make_tree quick 3.10 "$M" ''
expect 0 'namespace_unlock\(\) waits for nothing' quick DEST=quick.out
expect 0 'Nothing to do' quick DEST=quick.out
[[ ! -e quick.out ]] || wrong "a kernel in which nothing waits was patched"
make_tree early 6.1 "$M"
decrement_first early
expect 1 'bring 9ea0a46ca2c3 to the tree' early DEST=early.out
expect 1 'Do that first, and run this again' early INPLACE=1
sed -i 's/MNT_DOOMED/0/' early/fs/namespace.c
expect 1 'decrements, and a path walk .* doomed: bring 9ea0a46ca2c3 and 119e1ef80ecf to the tree' early
make_tree dos 6.1 "$M"
sed -i 's/$/\r/' dos/fs/namespace.c dos/Makefile
expect 1 'is Linux 6\.1\.7-test, not' dos
expect 1 'has the line ends of DOS: convert the tree' dos
make_tree merge 6.1 "$M"
sed -i '3i<<<<<<< HEAD' merge/fs/namespace.c
expect 1 'has a merge that is not finished \(line 3\)' merge
make_tree moved 6.1 "$M"
sed -i '3i#ifdef CONFIG_KDP_NS' moved/fs/namespace.c
expect 1 'take its code out with unifdef -m -UCONFIG_KDP_NS fs/' moved
make_tree expedited 6.1 "$M" $'\tsynchronize_rcu_expedited();'
echo -rt42 >expedited/localversion-rt
echo -cip7 >expedited/localversion-cip
expect 0 'is Linux 6\.1\.7-test-cip7-rt42, not a git' expedited DEST=expedited.out
expect 0 'waits for an expedited grace period' expedited DEST=expedited2.out
make_tree older 2.6 "$L"
rm older/Kconfig older/init/Kconfig
expect 1 'is Linux 2\.6\.7' older
expect 1 'init/Kconfig, which it changes, is not in this tree' older
make_tree neither 3.16 ''
expect 1 'neither waits for RCU nor takes' neither
sed -i 's/switch_task_namespaces/change_task_namespaces/' neither/kernel/nsproxy.c
expect 1 'there is no switch_task_namespaces' neither
make_tree renamed 6.1 "$M"
sed -i 's/namespace_unlock/unlock_namespaces/' renamed/fs/namespace.c
expect 1 'there is no namespace_unlock' renamed

make_tree hunk 3.16 "$L"
sed -i 's/^\tfree_nsproxy/\tput_nsproxy/' hunk/kernel/nsproxy.c
expect 1 '0002-Defer.patch: kernel/nsproxy.c: hunk 1 \(line [0-9]+\) does not apply' hunk DEST=hunk.out
expect 1 'does not apply' hunk INPLACE=1
# All hunks fit, and yet it is for another kernel.
make_tree counts 6.1 "$M"
sed -i '1i# Where: kernel/rcu/tree.c gp_seq' "$PATCHES/linux-6.1.y/series"
expect 1 '6.1.y: 2 of 2 hunks fit; but it is for another kernel: kernel/rcu/tree.c has no gp_seq' counts
mkdir counts/kernel/rcu
echo 'return rsp->gp_seq;' >counts/kernel/rcu/tree.c
expect 0 'linux-6.1.y applies without fuzz' counts DEST=counts.out
sed -i '1s/Where:/Where not:/' "$PATCHES/linux-6.1.y/series"
expect 1 'but it is for another kernel: kernel/rcu/tree.c has gp_seq' counts
sed -i 1d "$PATCHES/linux-6.1.y/series"
# That of the next line is taken, not of the first that fits.
make_series 5.10 "$M"
make_series 6.12 "$M"
make_tree between 6.2 "$M"
expect 0 'linux-6.1.y applies' between DEST=between.out
make_tree below 6.9 "$M"
expect 0 'linux-6.12.y applies' below DEST=below.out
rm -rf "$PATCHES"/linux-{5.10,6.12}.y
# The nearest comes first.
make_series 3.10 "$L"
sed -i 's/^-\tfree_nsproxy/-\tdrop_nsproxy/' "$PATCHES/linux-3.10.y/0002-Defer.patch"
make_tree ranked 3.10 "$L"
sed -i 's/^\tfree_nsproxy/\tput_nsproxy/' ranked/kernel/nsproxy.c
sed -i 's/^ \tdefault y/ \tdefault x/; s/^ \tbool "Namespaces"/ \tbool "Nothing"/' "$PATCHES/linux-3.10.y/0001-Add-an-option.patch"
expect 1 '^linux-3.16.y: 1 of 2 hunks fit' ranked
expect 1 '^linux-3.10.y: 0 of 2 hunks fit' ranked
[[ $(TREE=ranked "$QEMU_DIR/patch.sh" 2>&1 | grep -n 'hunks fit' | sed 's/:.*//;1q') == \
	$(TREE=ranked "$QEMU_DIR/patch.sh" 2>&1 | grep -n '3.16.y: 1 of' | sed 's/:.*//') ]] || wrong "the nearest series does not come first"
rm -rf "$PATCHES/linux-3.10.y"
[[ ! -e hunk.out ]] || wrong "a copy is left of a series that did not apply"
make_tree lacks 3.16 "$L"
rm lacks/init/Kconfig
expect 1 '0001-Add-an-option.patch: init/Kconfig, which it changes, is not in this tree' lacks
# Fuzz would do here, and may put a hunk where it does not belong.
make_tree fuzzy 3.16 "$L"
sed -i 's/might_sleep/may_sleep/' fuzzy/kernel/nsproxy.c
expect 1 '1 of 2 hunks fit; the first that does not: 0002-Defer.patch: kernel/nsproxy.c: hunk 1' fuzzy DEST=fuzzy.out
[[ $(grep -c '^patching file' plain.out.log) == 3 ]] || wrong "plain.out.log does not tell of each patch" "$(<plain.out.log)"
document 3.16
make_tree undocumented 3.16 "$L"
expect 0 'Left out, since it does not apply and a kernel can do without: 0003-Document.patch' undocumented DEST=undocumented.out
patched undocumented.out
make_git undocumented
expect 0 'a git worktree with 2 commits' undocumented DEST=undocumented2.out
mkdir undocumented/Documentation
echo index | tee undocumented/Documentation/index.rst >undocumented/Documentation/more.rst
git -C undocumented add Documentation
git -C undocumented commit -q -m index
expect 0 'a git worktree with 3 commits' undocumented DEST=documented.out
sed -i 's#Documentation/#tools/#g' "$PATCHES/linux-3.16.y/0003-Document.patch"
expect 0 'a kernel can do without: 0003-Document.patch' undocumented DEST=toolless.out
# The same of what is compiled, if the series says so, and of nothing but that.
sed -i 's#tools/#lib/#g' "$PATCHES/linux-3.16.y/0003-Document.patch"
make_tree without 3.16 "$L"
expect 1 'lib/index.rst, which it changes, is not in this tree' without
# A patch that the tree has already is left out, but not for a half of it.
make_tree there 3.16 "$L"
mkdir there/lib
echo index >there/lib/more.rst
printf 'index\nnsproxy_defer\n' >there/lib/index.rst
expect 1 '0003-Document.patch: lib/index.rst: it has this change already, and the tree has not all of' there
cp there/lib/index.rst there/lib/more.rst
expect 0 'Left out, since this tree has it already: 0003-Document.patch' there DEST=there.out
# In other words it has to be said how that shows.
printf 'index of another kind\nwith_all_of_it\n' >there/lib/index.rst
expect 1 '0003-Document.patch: lib/index.rst: hunk 1 .* does not apply' there
sed -i '$i # Done where: lib/index.rst with_all_of_it' "$PATCHES/linux-3.16.y/series"
expect 0 'Left out, since this tree has it already: 0003-Document.patch' there DEST=there2.out
expect 1 'lib/index.rst, which it changes, is not in this tree' without
sed -i '$i # Optional: some have that' "$PATCHES/linux-3.16.y/series"
expect 0 'Left out, .*: 0003-Document.patch' without DEST=without.out
make_tree cosmo 4.4 "$M"
decrement_first cosmo
expect 1 'from 3.17 to 4.8.* there is neither a series nor a module' cosmo
make_tree rustuh 6.1 "$M"
sed -i '3i#if defined(CONFIG_KDP_NS) || defined(CONFIG_RUSTUH_KDP_NS)' rustuh/fs/namespace.c
expect 1 'unifdef -m -UCONFIG_KDP_NS -UCONFIG_RUSTUH_KDP_NS fs/' rustuh
make_tree part 3.16 "$L"
mkdir -p part/include/linux
touch part/include/linux/nsproxy_defer.h
expect 1 'has a part of a series' part
echo 'config NSPROXY_DEFER' >>part/init/Kconfig
expect 1 'has a part of a series' part

[[ $("$QEMU_DIR/trees.sh" "$TREES" | grep -c '^   [0-9].*|') -gt 10 ]] || wrong "the table of trees lacks some"
TREE=plain INPLACE=1 "$QEMU_DIR/patch.sh" >/dev/null || wrong "it does not patch in place"
patched plain
exit "$FAILED"
