#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# verdict.sh FOLDER...: grade what a run left behind. It reads nothing but the
# folder, so a run can be graded again, by other rules or on another machine.
# Writes FOLDER/verdict, prints it, and exits with 0 only where all are green.
# Where the programs were shared out to two guests, FOLDER/1 and FOLDER/2 are
# graded like this, and then what both say is the verdict of FOLDER.
#
# FOLDER holds console.log, results.ktap, status, config and expect. Lines of
# expect:
#
#	taint NUMBER	what /proc/sys/kernel/tainted must hold at the end
#	skip REGEX	a skip that is allowed, of "PROGRAM TEST REASON"
#	fail REGEX	a failure that there must be, of "PROGRAM TEST: OUTPUT":
#			it passes for that, and if there is none that is red
#	console REGEX	a console line that is allowed
#	race REGEX	KCSAN finds the data races of the whole kernel; those count that
#			have such a line for one of the functions that race, or for its
#			caller. Without this all of them do
#	sides NAME...	the tests are not ours, and some fail on any kernel: they ran
#			once for each of these, and what is red is a difference from
#			the first, whose results may be in stock.ktap
#	differ REGEX	a difference that is allowed, of "SIDE: PROGRAM TEST: OLD -> NEW"
#	void REGEX	a result of theirs that says nothing, of "PROGRAM TEST: RESULT"

# shellcheck source=qemu/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# Every reason is a line "KIND: text"; none is green. What QEMU or init failed by
# comes first, for the others follow from it.
grade_cause() {
	case $(<"$1/status") in
	"exited 0" | timeout) ;;
	*) echo "end: QEMU failed ($(<"$1/status")): $(head -n 1 "$1/qemu.log" 2>/dev/null); see $1/qemu.log" ;;
	esac
	sed -n 's/^# init: FAILED: /init: /p' "$1/results.ktap"
}

grade_ending() {
	local dir=$1 last='Restarting system'
	# There init may have to take the console away, see its finish_console().
	! grep -q '^CONFIG_PREEMPT_RT=y' "$dir/config" || last='init: end'
	[[ $(<"$dir/status") != timeout ]] || echo "end: the guest did not finish within its time limit"
	[[ $(tail -n 1 "$dir/results.ktap") == "# init: end" ]] ||
		echo "end: the results stop before init's last line"
	grep -aq "$last" "$dir/console.log" ||
		echo "end: init did not end the guest in order"
}

# Takes out the title of each report of KCSAN that does not count, for that is the
# line that would be red. What others print in the middle of a report stays.
# shellcheck disable=SC2016 # This is for awk to expand.
races_of_others='
	BEGIN {
		while ((getline line < expect) > 0)
			if (sub(/^race /, "", line))
				ours[++known] = line
	}
	{ sub(/\r$/, "") }
	known && /BUG: KCSAN: / {
		title = $0
		counts = 0
		frames = 0
		next
	}
	{ print }
	title && /(read|write)[^:]* to 0x[0-9a-f]+ of [0-9]+ bytes by [^:]*:$/ { frames = 2 }
	title && frames && / [^ ]+\+0x[0-9a-f]+\/0x[0-9a-f]+( \[[^ ]+\])?$/ {
		frames--
		for (i = 1; i <= known; i++)
			if ($0 ~ ours[i])
				counts = 1
	}
	title && / =====+$/ {
		if (counts) {
			print title
		} else {
			others++
			sub(/.*BUG: KCSAN: /, "", title)
			if (!seen[title]++)
				kinds++
		}
		title = ""
	}
	END {
		if (title)
			print title
		if (others)
			print "note: data races of the kernel alone: " others ", of " kinds " kinds; see console.log"
	}'

grade_console() {
	local dir=$1 allowed
	grep -aq 'Linux version' "$dir/console.log" ||
		echo "console: no kernel log in it"
	allowed=$(sed -n 's/^console //p' "$dir/expect")
	grep -avE -f <(printf '%s\n' "${allowed:-^$}") "$dir/console.log" |
		awk -v expect="$dir/expect" "$races_of_others" >"$dir/console.graded" || true
	console_problems "$dir/console.graded" | sed 's/^/console: /'
	sed -n '/^note: /p' "$dir/console.graded"
	! grep -q '^CONFIG_KCSAN=y' "$dir/config" || grep -aq 'kcsan: enabled early' "$dir/console.log" ||
		echo "console: KCSAN was not on"
	rm -f "$dir/console.graded"
}

grade_kmemleak() {
	local dir=$1 found
	found=$(sed -n 's/^# init: kmemleak: //p' "$dir/results.ktap")
	if grep -q '^CONFIG_DEBUG_KMEMLEAK=y' "$dir/config"; then
		[[ $found == "0 leaks after two scans" ]] ||
			echo "kmemleak: ${found:-no scan after the last test}"
	fi
}

grade_taint() {
	local dir=$1 found expected
	found=$(sed -n 's/^# init: tainted //p' "$dir/results.ktap")
	expected=$(sed -n 's/^taint //p' "$dir/expect")
	[[ -n $found && $found == "$expected" ]] ||
		echo "taint: ${found:-unknown}, expected ${expected:-unknown}"
}

# KTAP as kselftest's runner writes it: one result a program at the margin, the
# program's own results behind "# ". The first line out is the count, of tests
# and not of programs, where a program tells its tests apart.
grade_ktap() {
	awk -v expect="$1/expect" '
	function reason(kind, text) { reasons[++nr] = kind ": " text }
	function skipped(what,   i) {
		gsub(/ +/, " ", what)
		skips++
		for (i = 1; i <= allowed; i++)
			if (what ~ skip_ok[i])
				return
		reason("skip", what)
	}
	function has_to_fail(what,   i, found) {
		for (i = 1; i <= musts; i++)
			if (what ~ must_fail[i])
				found = seen_failing[i] = 1
		return found
	}
	function program_begins(name) {
		program = name
		inner_plan = -1
		inner_seen = 0
		test = ""
		why = ""
	}
	function program_ends(ok, line,   is_skip) {
		is_skip = line ~ /# SKIP/
		outer_seen++
		if (line !~ "^(not )?ok " outer_seen "( |$)")
			reason("ktap", "result " outer_seen " is missing: " line)
		if (inner_plan > 0 && inner_seen != inner_plan)
			reason("ktap", program ": " inner_seen " of " inner_plan " results")
		if (!ok) {
			if (inner_failed[program] || !failed_as_due[program])
				reason("ktap", line)
			if (!inner_failed[program] && !failed_as_due[program])
				failed++
		} else if (is_skip && !inner_seen) {
			skipped(program " " why)
		} else if (!inner_seen) {
			passed++
		}
		program_begins("")
	}
	function inner_result(ok, line,   name) {
		inner_seen++
		if (line !~ "^(not )?ok " inner_seen "( |$)")
			reason("ktap", program ": result " inner_seen " is missing: " line)
		name = line
		sub(/^(not )?ok [0-9]+ ?(- )?/, "", name)
		if (name == "" || name ~ /^# /)
			name = test " " name
		if (!ok && has_to_fail(program " " name ": " said)) {
			passed++
			failed_as_due[program]++
		} else if (!ok) {
			failed++
			inner_failed[program]++
			reason("ktap", program ": not ok " name)
		} else if (name ~ /# SKIP/) {
			sub(/# SKIP */, "", name)
			skipped(program " " name)
		} else {
			passed++
		}
	}
	BEGIN {
		outer_plan = -1
		program_begins("")
		while ((getline line < expect) > 0)
			if (sub(/^skip /, "", line))
				skip_ok[++allowed] = line
			else if (sub(/^fail /, "", line))
				must_fail[++musts] = line
	}
	{ sub(/\r$/, "") }
	/^TAP version / { version++ }
	/^1\.\.[0-9]+/ {
		if (outer_plan >= 0)
			reason("ktap", "a second plan: " $0)
		outer_plan = substr($0, 4) + 0
	}
	/^# selftests: [^:]*: / { program_begins($NF) }
	/^# 1\.\.[0-9]+/ {
		if (inner_plan >= 0)
			reason("ktap", program ": a second plan: " $0)
		inner_plan = substr($0, 6) + 0
		if ($0 ~ /# SKIP/) {
			why = $0
			sub(/.*# SKIP */, "", why)
		}
	}
	/^# # +RUN / {
		test = $4
		said = ""
	}
	/^# # [^ ]/ { said = said " " substr($0, 5) }
	/^# ok [0-9]+/ { inner_result(1, substr($0, 3)) }
	/^# not ok [0-9]+/ { inner_result(0, substr($0, 3)) }
	/^ok [0-9]+/ { program_ends(1, $0) }
	/^not ok [0-9]+/ { program_ends(0, $0) }
	END {
		if (version != 1)
			reason("ktap", "no \"TAP version\" line, or several")
		if (outer_plan < 0)
			reason("ktap", "no plan")
		else if (outer_seen != outer_plan)
			reason("ktap", outer_seen + 0 " of " outer_plan " programs have a result")
		if (!passed)
			reason("ktap", "no test passed")
		for (i = 1; i <= musts; i++)
			if (!seen_failing[i])
				reason("fail", "this did not fail, as it has to: " must_fail[i])
		printf "tests: %d passed, %d failed, %d skipped\n", passed, failed, skips
		for (i = 1; i <= nr; i++)
			print reasons[i]
	}' "$1/results.ktap"
}

# The results of each side are left in a file of their own as well.
grade_sides() {
	local dir=$1 sides=$2 files=("$1/results.ktap")
	[[ ! -e $dir/stock.ktap ]] || files=("$dir/stock.ktap" "${files[@]}")
	awk -v dir="$dir" '
		/^# init: side / { file = dir "/side-" substr($4, 1, length($4) - 1) ".ktap" }
		file { print > file }' "${files[@]}"
	awk -v sides="$sides" -v expect="$dir/expect" -f "$QEMU_DIR/difference.awk" "${files[@]}"
}

grade() {
	local dir=$1 file counts reasons notes sides
	for file in console.log results.ktap status config expect; do
		[[ -r $dir/$file ]] || die "no $dir/$file: this is not the folder of a run"
	done
	sides=$(sed -n 's/^sides //p' "$dir/expect")
	if [[ -n $sides ]]; then counts=$(grade_sides "$dir" "$sides"); else counts=$(grade_ktap "$dir"); fi
	reasons=$(
		grade_cause "$dir"
		sed 1d <<<"$counts"
		grade_ending "$dir"
		grade_console "$dir"
		grade_kmemleak "$dir"
		grade_taint "$dir"
	)
	notes=$(sed -n '/^note: /p' <<<"$reasons")
	reasons=$(sed '/^note: /d' <<<"$reasons")
	{
		if [[ -z $reasons ]]; then echo green; else echo red; fi
		head -n 1 <<<"$counts"
		[[ -z $reasons ]] || printf '%s\n' "$reasons"
		[[ -z $notes ]] || printf '%s\n' "$notes"
	} >"$dir/verdict"
	cat "$dir/verdict"
	[[ -z $reasons ]]
}

# The counts of both added up, and their reasons.
grade_guests() {
	local dir=$1 guest red=0
	# What cannot be graded any more is not to keep the verdict that it had.
	rm -f "$dir/verdict" "$dir"/[12]/verdict
	for guest in 1 2; do
		grade "$dir/$guest" >/dev/null || red=1
	done
	awk -v red="$red" '
		FNR == 1 { guest++ }
		FNR == 2 { gsub(/[^0-9]+/, " "); passed += $1; failed += $2; skipped += $3 }
		FNR > 2 { says[++lines] = $0 " (guest " guest ")" }
		END {
			print red ? "red" : "green"
			printf "tests: %d passed, %d failed, %d skipped\n", passed, failed, skipped
			for (i = 1; i <= lines; i++)
				print says[i]
		}' "$dir/1/verdict" "$dir/2/verdict" >"$dir/verdict"
	cat "$dir/verdict"
	((!red))
}

(($#)) || die "which run? verdict.sh takes folders like out/check/UP"
status=0
for folder in "$@"; do
	[[ -d $folder ]] || die "no such folder: $folder"
	if [[ -d $folder/1 ]]; then
		grade_guests "$folder" || status=1
	else
		grade "$folder" || status=1
	fi
done
exit "$status"
