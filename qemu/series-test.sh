#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Does series.sh compose the same whoever asks, and refuse what it cannot do in one
# line, changing nothing? Says what is wrong, one line each.

# shellcheck source=qemu/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

SCRATCH=$(mktemp -d)
trap 'rm -rf "$SCRATCH"' EXIT
cd "$SCRATCH"
FAILED=0
unset KERNEL OUT PATCHES

wrong() {
	FAILED=1
	printf '%s\n' "$@"
}

# refused REGEX [VARIABLE=VALUE...]
refused() {
	local regex=$1 before said rc=0
	shift
	before=$(find . | sort)
	said=$(env "$@" "$QEMU_DIR/series.sh" 2>&1) || rc=$?
	[[ $rc == 1 && $said != *$'\n'* && $said =~ $regex ]] ||
		wrong "$*: it ends with $rc, and does not say in one line: $regex" "$said"
	[[ $(find . | sort) == "$before" ]] || wrong "$*: it has changed something"
}

# make_series NAME: a series of a patch and a piece, which lint would find nothing wrong with.
make_series() {
	local dir=$1/linux-6.1.y
	mkdir -p "$dir" "$1/common"
	printf '# Base: Linux 6.1\n# why\nfirst.patch\n# because\npiece\n# so\nthird\n' >"$dir/series"
	printf 'From: a <a@b>\nDate: Sat, 28 Nov 2026 08:00:00 +0000\nSubject: [PATCH] %s\n\ntext\n---\n' first >"$dir/first.patch"
	printf 'diff --git a/f b/f\n--- a/f\n+++ b/f\n@@ -1 +1 @@\n-1\n+2\n-- \n2.39.5\n\n' >>"$dir/first.patch"
	printf 'From: a <a@b>\nDate: Sat, 28 Nov 2026 08:00:00 +0000\nSubject: [PATCH] piece\n\ntext\n---\nx/\tqemu/lib.sh\n' >"$1/common/piece"
	# The line's own diff stands for that of the piece, which does not apply.
	printf 'diff --git a/g b/g\n--- a/g\n+++ b/g\n@@ -1 +1 @@\n-3\n+2\n' >>"$1/common/piece"
	printf 'diff --git a/g b/g\n--- a/g\n+++ b/g\n@@ -1 +1 @@\n-1\n+2\n' >"$dir/piece.diff"
	printf 'From: a <a@b>\nDate: Sat, 28 Nov 2026 08:00:00 +0000\nSubject: [PATCH] third\n\ntext\n---\n' >"$1/common/third"
	printf 'diff --git a/h b/h\n--- a/h\n+++ b/h\n@@ -1 +1 @@\n-1\n+2\n' >>"$1/common/third"
	printf 'From: a <a@b>\nSubject: [PATCH] all\n\ntext\n@LINE@\nends\n' >"$1/cover-letter"
	printf 'of this line\n' >"$dir/cover-letter"
}

refused '^nsproxy_defer: which kernel line\? Give KERNEL=, one of: 3.10 .* 6.1 '
for kernel in 9.9 6.1.192 '3.10 3.16' ../linux-6.1.y 'x[' '*'; do
	refused '^nsproxy_defer: no series for KERNEL=.*; there are: 3.10 ' KERNEL="$kernel"
done
mkdir full
touch full/file
refused 'OUT=full is not empty' KERNEL=6.1 OUT=full
refused 'OUT=.*/file is there and is no folder' KERNEL=6.1 OUT="$PWD/full/file"
refused 'cannot write to OUT=/proc/series' KERNEL=6.1 OUT=/proc/series

# From here on with a series of three, of which one thing is broken at a time.
make_series good
KERNEL=6.1 OUT=good.out PATCHES=$PWD/good "$QEMU_DIR/series.sh" >log || wrong "it does not compose a series" "$(<log)"
[[ $(cd good.out && echo *) == '0000-cover-letter.txt 0001-first.patch 0002-piece.patch 0003-third.patch series' ]] ||
	wrong "it composes other files" "$(ls good.out)"
grep -qx 'Subject: \[PATCH 2/3\] piece' good.out/0002-piece.patch || wrong "the second of three is not called 2/3"
grep -q '^2\.39\.5' good.out/0001-first.patch && wrong "the version of git that made a patch is in it"
[[ $(tail -n 9 good.out/0000-cover-letter.txt) == $'text\nof this line\nends\n\n1/3 first\n2/3 piece\n3/3 third\n\nBase: Linux 6.1' ]] ||
	wrong "the cover letter does not list the patches and the base" "$(<good.out/0000-cover-letter.txt)"
mkdir tree
printf '1\n' | tee tree/f tree/g >tree/h
git -C tree init -q
git -C tree add .
git -C tree -c user.name=a -c user.email=a@b commit -q -m base
git -C tree -c user.name=a -c user.email=a@b am -q "$PWD"/good.out/*.patch || wrong "git am does not take it"
cmp tree/x/lib.sh "$QEMU_DIR/lib.sh" || wrong "the file that a piece adds is another one"
[[ $(cat tree/f tree/g tree/h) == $'2\n2\n2' ]] || wrong "what a patch and a piece change has not changed"

# broken REGEX COMMAND...: the command is run in the folder of the series.
broken() {
	local regex=$1
	shift
	rm -rf bad
	make_series bad
	(cd bad && "$@")
	refused "$regex" KERNEL=6.1 OUT=bad.out PATCHES="$PWD/bad"
}

broken 'series names first.patch, and there is no .*bad/linux-6.1.y/first.patch' rm linux-6.1.y/first.patch
broken 'series names piece, and there is no .*bad/common/piece' rm common/piece
broken 'first.patch is no patch with a message' sed -i /^---$/d linux-6.1.y/first.patch
broken 'common/piece is no patch with a message' sed -i /^Subject/d common/piece
broken 'common/piece names qemu/nothing.sh, and there is no such file' sed -i s/lib.sh/nothing.sh/ common/piece
broken 'common/piece has a line "x/"' sed -i s/qemu.*// common/piece
broken 'qemu/scenarios is no file' sed -i s/lib.sh/scenarios/ common/piece
broken 'series names piece, of which git apply says: .*corrupt patch' sed -i /^+2/d linux-6.1.y/piece.diff

# Whoever asks, in whatever surroundings, gets the same.
cat >gitconfig <<-CONF
	[diff]
		noprefix = true
		external = false
	[apply]
		whitespace = error
	[core]
		quotePath = true
		autocrlf = true
CONF
for series in "$TOP"/patches/linux-*.y; do
	line=${series##*/linux-}
	line=${line%.y}
	rm -rf plain odd
	KERNEL=$line OUT=plain "$QEMU_DIR/series.sh" >log || wrong "$line is not composed" "$(<log)"
	(
		umask 077
		cd tree
		env KERNEL="$line" OUT=../odd TZ=Asia/Kolkata LC_ALL=C.UTF-8 LANG=C COLUMNS=20 USER=nobody \
			HOME="$SCRATCH" GIT_CONFIG_GLOBAL="$SCRATCH/gitconfig" GIT_DIR="$SCRATCH/tree/.git" \
			"$QEMU_DIR/series.sh" >../log
	) || wrong "$line is not composed elsewhere" "$(<log)"
	! grep -qx '+#ifdef MODULE' plain/*.patch || wrong "$line has what is for the module alone"
	diff -r plain odd || wrong "$line is another elsewhere"
done
exit "$FAILED"
