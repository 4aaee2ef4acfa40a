# SPDX-License-Identifier: GPL-2.0-only
#
# awk -v sides="stock off safe all" -v expect=FILE -f difference.awk RESULTS...:
# where do the results of the same tests differ from one side to the next? Each
# round of a side begins with "# init: side NAME, round N"; what comes before
# the first such line is not looked at. The first side is what the others are
# held to.
#
# The first line out is the count, then the reasons for which this is red, as
# verdict.sh has them, then a line "note: ..." for what is worth reading.
#
# A test that does not always come out the same on the first side says nothing
# of the others, and is named. One that does there, and not on another side, is
# a difference: that is what a race looks like.
#
# From FILE: "differ PATTERN" names a difference, "SIDE: TEST: ONE -> OTHER", that
# may be. "void PATTERN" names a result, "TEST: RESULT", that says nothing,
# because the test itself is a race; what it gives in other rounds is compared.

function reason(kind, text) { reasons[++nr] = kind ": " text }
function note(text) { notes[++nn] = text }

function record(key, text, value) {
	if (!(key in title)) {
		keys[++nk] = key
		title[key] = text
	}
	result[key, side, round] = value
}

function value_of(line) {
	if (line ~ /# *SKIP/)
		return "skip"
	if (line ~ /# *XFAIL/)
		return "xfail"
	return line ~ /^not / ? "not ok" : "ok"
}

# Tests are told apart by their place, since some have a process in their name.
function name_of(line) {
	sub(/^(not )?ok [0-9]+ ?(- )?/, "", line)
	sub(/ *# .*/, "", line)
	return line
}

function end_of_round() {
	if (side != "" && (plan < 0 || seen != plan))
		reason("ktap", side ", round " round ": " seen + 0 " of " (plan < 0 ? "?" : plan) " programs have a result")
}

# outcome KEY SIDE: "ok", or "ok, not ok" where the rounds differ, or "void".
function outcome(key, of,   r, value, all, known) {
	split("", known)
	for (r = 1; r <= rounds[of]; r++) {
		value = (key, of, r) in result ? result[key, of, r] : "missing"
		if (matches(title[key] ": " value, voids))
			continue
		if (!(value in known))
			all = all (all == "" ? "" : ", ") value
		known[value] = 1
	}
	return all == "" ? "void" : all
}

function matches(text, patterns,   i) {
	for (i in patterns)
		if (text ~ patterns[i])
			return 1
	return 0
}

BEGIN {
	split("", differ)
	split("", voids)
	while ((getline line < expect) > 0) {
		if (sub(/^differ /, "", line))
			differ[++differs] = line
		else if (sub(/^void /, "", line))
			voids[++nr_voids] = line
	}
}

{ sub(/\r$/, "") }

/^# init: side / {
	end_of_round()
	side = $4
	sub(/,$/, "", side)
	round = $6 + 0
	rounds[side] = round
	plan = -1
	seen = 0
	program = ""
	next
}

side == "" { next }
/^1\.\.[0-9]+/ { plan = substr($0, 4) + 0 }
/^# selftests: [^:]*: / {
	program = $3 $4
	inner = 0
}
/^# (not )?ok [0-9]+/ {
	inner++
	record(program " " inner, program " " name_of(substr($0, 3)), value_of(substr($0, 3)))
}
/^(not )?ok [0-9]+/ {
	seen++
	record(program, program, value_of($0))
}
/^# init: end/ { end_of_round(); side = "" }

END {
	if (side != "")
		end_of_round()
	n = split(sides, want)
	for (i = 1; i <= n; i++)
		if (!rounds[want[i]] || rounds[want[i]] != rounds[want[1]])
			reason("ktap", "side " want[i] " has " rounds[want[i]] + 0 " rounds, and " want[1] " has " rounds[want[1]] + 0)
	for (k = 1; k <= nk; k++) {
		base = outcome(keys[k], want[1])
		count[base]++
		if (base ~ /,/) {
			for (i = 2; i <= n; i++)
				base = base "; " want[i] ": " outcome(keys[k], want[i])
			note("does not always come out the same: " title[keys[k]] ": " want[1] ": " base)
			skipped++
			continue
		}
		for (i = 2; i <= n; i++) {
			if (!rounds[want[i]])
				continue
			other = outcome(keys[k], want[i])
			text = want[i] ": " title[keys[k]] ": " base " -> " other
			if (base == "void" || other == "void") {
				note("says nothing, as it may: " text)
				skipped++
				continue
			}
			if (other == base) {
				passed++
				continue
			}
			if (matches(text, differ)) {
				note("differs, as it may: " text)
				skipped++
			} else {
				reason("differs", text)
				failed++
			}
		}
	}
	if (!count["ok"])
		reason("ktap", "no test passed")
	printf "tests: %d passed, %d failed, %d skipped\n", passed, failed, skipped
	for (i = 1; i <= nr; i++)
		print reasons[i]
	printf "note: %s: %d results: %d ok, %d not ok, %d skip; %d not always the same\n", want[1], nk,
		count["ok"], count["not ok"], count["skip"], nk - count["ok"] - count["not ok"] - count["skip"] - count["xfail"] - count["void"]
	for (i = 1; i <= nn; i++)
		print "note: " notes[i]
}
