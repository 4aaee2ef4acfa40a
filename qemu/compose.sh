# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Composing a series. patches/linux-X.Y.y holds what is particular to that line of
# kernels: a file series, patches, a cover letter. What all lines have stands once,
# where the module and the tests have it. Needs no kernel tree. Sourced after lib.sh.
#
# A line of series names a patch of that folder, NAME.patch, or a piece, NAME:
#
#	patches/common/NAME	is a patch as git format-patch has it; before the diff,
#				below "---", may be lines with a file's name in the
#				kernel, or a folder's with a slash at its end, and which
#				of our files it is
#	NAME.diff		in the line's own folder stands for the diff in the piece
#
# patches/cover-letter has a line @LINE@ for what a line's own cover-letter says, if that
# is not a letter by itself.
#
# What comes of it depends on these files alone.

# Somebody else may have series of their own.
PATCHES=${PATCHES:-$TOP/patches}

# here PATH: how to name it to the user.
here() { printf '%s\n' "${1#"$TOP"/}"; }

# series_entries SERIES: what the file names, in order.
series_entries() { sed -E 's/^[[:space:]]+//; /^(#|$)/d; s/[[:space:]].*//' "$1"; }

# bare_git DIR ARGUMENT...: whatever the user has set, and wherever this is.
bare_git() (
	unset "${!GIT_@}"
	GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null git -C "$@"
)

# built_in FILE: without what is for a module alone, and the blank line before that.
built_in() {
	awk '
		/^#ifdef MODULE$/ { skip = 1; blank = 0 }
		!skip {
			if (blank) print ""
			blank = /^$/
			if (!blank) print
		}
		/^#endif$/ { skip = 0 }
		END { if (blank) print "" }' "$1"
}

# new_file PATH FILE: the part of a patch that adds FILE as PATH.
new_file() {
	[[ -f $2 && -z $(tail -c 1 "$2") && -s $2 ]] || die "$(here "$2") is no file, is empty, or does not end with a newline: no patch can add it"
	printf 'diff --git a/%s b/%s\nnew file mode %s\n' "$1" "$1" "$([[ -x $2 ]] && echo 100755 || echo 100644)"
	printf -- '--- /dev/null\n+++ b/%s\n@@ -0,0 +1,%d @@\n' "$1" "$(built_in "$2" | wc -l)"
	built_in "$2" | sed 's/^/+/'
}

# piece_files PIECE: what it adds, a line each: the name in the kernel, and our file.
piece_files() {
	local path pattern file files
	while read -r path pattern; do
		[[ -n $pattern ]] || die "$(here "$1") has a line \"$path\": it takes the name of a file in the kernel and that of ours"
		mapfile -t files < <(compgen -G "$TOP/$pattern")
		((${#files[@]})) || die "$(here "$1") names $pattern, and there is no such file"
		for file in "${files[@]}"; do
			printf '%s %s\n' "$path$([[ $path != */ ]] || echo "${file##*/}")" "$file"
		done
	done < <(sed '1,/^---$/d; /^diff --git /,$d' "$1") | LC_ALL=C sort
}

# diff_of PATCH: without the signature of git format-patch.
diff_of() { sed -n '/^diff --git /,$p' "$1" | sed -e ':a' -e '$!{N;ba}' -e 's/\n-- \n[^\n]*\n*$//'; }

# entry_diff FOLDER ENTRY: what the patch changes.
entry_diff() {
	local path file files diff=$PATCHES/common/$2
	if [[ $2 == *.patch ]]; then
		diff_of "$1/$2"
		return
	fi
	files=$(piece_files "$diff") || exit 1
	[[ ! -e $1/$2.diff ]] || diff=$1/$2.diff
	diff_of "$diff"
	while read -r path file; do
		[[ -z $path ]] || new_file "$path" "$file"
	done <<<"$files"
}

# cover_letter FOLDER
cover_letter() {
	if grep -q '^Subject: ' "$1/cover-letter"; then
		cat "$1/cover-letter"
	else
		sed -e "/^@LINE@\$/{r $1/cover-letter" -e 'd}' "$PATCHES/cover-letter"
	fi
}

# entry_message FOLDER ENTRY: where it is.
entry_message() {
	local file=$1/$2 line
	[[ $2 == *.patch ]] || file=$PATCHES/common/$2
	[[ -e $file ]] || die "$(here "$1")/series names $2, and there is no $(here "$file")"
	for line in '^From: ' '^Subject: ' '^---$'; do
		grep -q -- "$line" "$file" ||
			die "$(here "$file") is no patch with a message: it takes lines From: and Subject:, a text, and a line ---"
	done
	printf '%s\n' "$file"
}

# subject FILE: in one line, without the brackets.
subject() {
	awk '
		/^Subject: / { sub(/^Subject: *(\[PATCH[^]]*\] *)?/, ""); subject = $0; next }
		subject && !/^ / { print subject; exit }
		subject { subject = subject $0 }' "$1"
}

# mail FILE NUMBER TOTAL: its head and text, numbered.
mail() {
	sed -E -e "/^From [0-9a-f]{40} /d; /^---\$/,\$d" \
		-e "0,/^Subject: /s|^Subject: (\[PATCH[^]]*\] *)?|Subject: [PATCH $(printf "%0${#3}d" "$2")/$3] |" "$1" |
		sed '1s/^/From 0000000000000000000000000000000000000000 Mon Sep 17 00:00:00 2001\n/'
}

# compose_series FOLDER OUT: into OUT, a folder with nothing in it, go 0001-NAME.patch
# and so on, series with their order, and what is no patch, 0000-cover-letter.txt.
compose_series() {
	local dir=$1 out=$2 line entry rest file message stat number=0 total
	command -v git >/dev/null || die "no program git here: install the package of that name"
	total=$(series_entries "$dir/series" | wc -l)
	while IFS= read -r line || [[ -n $line ]]; do
		read -r entry rest <<<"$line"
		if [[ -z $entry || $entry == "#"* ]]; then
			printf '%s\n' "$line"
			continue
		fi
		number=$((number + 1))
		file=${entry%.patch}
		file=$(printf '%04d-%s.patch' "$number" "${file#[0-9][0-9][0-9][0-9]-}")
		message=$(entry_message "$dir" "$entry") || exit 1
		entry_diff "$dir" "$entry" >"$out/diff" || exit 1
		stat=$(bare_git / apply --stat --summary - <"$out/diff" 2>&1) ||
			die "$(here "$dir")/series names $entry, of which git apply says: ${stat##*$'\n'}"
		{
			mail "$message" "$number" "$total"
			printf -- '---\n%s\n\n' "$stat"
			cat "$out/diff"
		} >"$out/$file"
		rm "$out/diff"
		printf '%s\n' "$file${rest:+ $rest}"
		printf '%*d/%d %s\n' "${#total}" "$number" "$total" "$(subject "$message")" >>"$out/list"
	done <"$dir/series" >"$out/series"
	if [[ -e $dir/cover-letter ]]; then
		{
			mail <(cover_letter "$dir") 0 "$total"
			echo
			cat "$out/list"
			sed -n 's/^# Base: /\nBase: /p' "$dir/series"
		} >"$out/0000-cover-letter.txt"
	fi
	rm "$out/list"
}
