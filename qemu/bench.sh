#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# bench.sh: what many namespaces cost until all of them are gone, on stock
# kernels, on the same with the module, and on patched ones, each kernel in one
# boot of a guest. From the environment:
#
#	BENCH="rt cloud-up"	these kernels only, see GUESTS
#	N="1 10 100"		how many namespaces
#	REPEATS=5		rounds, of which the medians are shown
#	PARTS="scale fast"	what is measured: scale, fast, beside, clients, lives
#	KERNEL=6.12		Debian's kernels of another line
#	TREE=/path		for "unpatched" and "patched": that tree, not Debian's source
#	ACCEL=kvm		another accelerator

# shellcheck source=qemu/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=qemu/kernel.sh
source "$QEMU_DIR/kernel.sh"
# shellcheck source=qemu/tree.sh
source "$QEMU_DIR/tree.sh"
# shellcheck source=qemu/systemd-guest.sh
source "$QEMU_DIR/systemd-guest.sh"
# shellcheck source=qemu/lives.sh
source "$QEMU_DIR/lives.sh"

OUT=$OUT_DIR/bench
KERNEL=${KERNEL:-6.1}
TREE=${TREE:-}
N=${N:-1 10 100 1000}
REPEATS=${REPEATS:-3}
# Where no TREE says otherwise, this line's Debian source is patched, and built
# for PREEMPT_RT, which it has without further patches.
PATCHED_LINE=6.12

# What is booted, with how many CPUs.
declare -A GUESTS=(
	[rt]="stock rt 2" [rt-up]="stock rt 1"
	[cloud]="stock cloud 2" [cloud-up]="stock cloud 1"
	[patched]="built RT 2" [patched-up]="built RT 1"
)
[[ -z $TREE ]] || GUESTS+=(
	[patched]="built SMP 2" [patched-up]="built UP 1"
	[unpatched]="built SMP 2" [unpatched-up]="built UP 1"
	[upstream]="built SMP 2" [upstream-up]="built UP 1"
)
ALL_PARTS="scale fast beside clients lives"
CLIENTS=(bubblewrap crun e2fsprogs iproute2 mount stress-ng util-linux)
UP_PARTS="scale fast beside"

HEADER="kernel cpus config round what op n jobs p50_us p99_us max_us callers_ms gone_ms gps cpu_ms peak_pending slab_kb used_kb beside caller_gps"
FIELDS=$(wc -w <<<"$HEADER")
DIST_HEADER="kernel cpus config round what op n percent us"
DIST_FIELDS=$(wc -w <<<"$DIST_HEADER")

progress() {
	case $1 in
	"bench: "*) TEXT=${1#bench: } ;;
	"# init: FAILED"* | *"Kernel panic"*) TEXT=$1 ;;
	esac
}

check_request() {
	local word
	for word in $BENCH; do
		[[ -n ${GUESTS[$word]:-} ]] ||
			die "BENCH=$word: there are $(printf '%s\n' "${!GUESTS[@]}" | sort | tr '\n' ' ')and, with TREE=, unpatched, upstream and the same with -up"
	done
	for word in $N $REPEATS; do
		[[ $word =~ ^[1-9][0-9]{0,3}$ ]] || die "N= and REPEATS= take numbers from 1 to 9999, not \"$word\""
	done
	for word in ${PARTS:-}; do
		[[ " $ALL_PARTS " == *" $word "* ]] || die "PARTS=$word: there are $ALL_PARTS"
	done
	suite_of "$KERNEL" >/dev/null
}

choose_source() {
	if [[ -z $TREE ]]; then
		lock_cache fetch
		source_tree "$PATCHED_LINE"
		unlock_cache
		TREE=$SOURCE
	fi
	choose_tree
	[[ -z $T_CARRIES ]] || die "$T_DIR carries a series already; give the tree without it"
	[[ $BENCH != *upstream* ]] || tree_takes_fix || die "upstream's fix of Linux 3.17 is not for $T_DIR"
}

# prepare WORD: the kernel's image, the module and the guest's files. Sets
# LABELS[WORD].
declare -A LABELS=()
prepare() {
	local word=$1 dir=$OUT/$1 kind name cpus module=''
	read -r kind name cpus <<<"${GUESTS[$word]}"
	if [[ $kind == stock ]]; then
		lock_cache fetch
		stock_kernel "$KERNEL" "$name"
		unlock_cache
		LABELS[$word]=$KERNEL-$name
	else
		built_kernel "$name" "${word%-up}"
		LABELS[$word]=$T_LINE-${word%-up}
	fi
	note "$word: ${LABELS[$word]} is Linux $K_REL"
	if [[ $word != patched* && $word != upstream* ]]; then
		step "building the module for $K_REL" "$OUT/build/$K_ID.log" \
			build_module "$K_DIR" "$OUT/build/$K_ID" "${MAKE_ARGS[@]}" CC="$K_CC"
		module=$OUT/build/$K_ID/nsproxy_defer.ko
	fi
	if has_lives "$word"; then
		mkdir -p "$dir/lives"
		systemd_root
		systemd_drivers "$KERNEL"
		EXPEDITED=1 DEVICES=0 prepare_lives "$dir/lives" "$module"
	fi
	debian_root "${CLIENTS[@]}"
	step "making the guest's root file system" "$dir/guest.log" stage_bench "$dir" "$module" "$cpus"
	ln -s "$K_IMAGE" "$dir/image"
}

# They have a guest of their own, which is a whole Debian.
has_lives() {
	[[ " ${PARTS:-$ALL_PARTS} " == *" lives "* && ${GUESTS[$1]} == stock* ]]
}

stage_bench() {
	local dir=$1 module=$2 cpus=$3 root=$1/root parts=$ALL_PARTS
	((cpus > 1)) || parts=$UP_PARTS
	stage_guest "$root" "$DEBIAN_ROOT"
	stage_modules "$root"
	guest_cc "$root/bin/nsbench" "$TOP/selftests/nsproxy/nsbench.c" "$TOP/selftests/nsproxy/gp.c"
	guest_cc "$root/bin/setns_loop" "$TOP/selftests/nsproxy/setns_loop.c" "$TOP/selftests/nsproxy/gp.c"
	cp "$QEMU_DIR/bench-guest.sh" "$root/bench.sh"
	printf '%s="%s"\n' COUNTS "$N" REPEATS "$REPEATS" PARTS "${PARTS:-$parts}" >"$root/bench.conf"
	[[ -z $module ]] || cp "$module" "$root/nsproxy_defer.ko"
	pack_guest "$root" "$dir/initrd.cpio"
	rm -rf "$root"
}

measure() {
	local word=$1 dir=$OUT/$1 cpus=${GUESTS[$1]##* } args=() limit=$((1200 + 800 * REPEATS))
	# A tree is not built for PREEMPT_RT, but told to wait like one.
	[[ ${GUESTS[$word]} == stock* || $T_CLASS == L ]] || args=(rcupdate.rcu_normal=1)
	note "measuring ${LABELS[$word]} with $cpus CPU$( ((cpus == 1)) || echo s)"
	boot "$dir" "$dir/image" "$dir/initrd.cpio" "$cpus" 2048 "$limit" progress nsd.job=bench "${args[@]}"
	rm "$dir/initrd.cpio" "$dir/image"
	must_have_ended "$dir" "$limit"
	has_lives "$word" || return 0
	boot_lives "$dir/lives" "$cpus"
	must_have_ended "$dir/lives" "$LIVES_LIMIT"
	collect_lives "$dir/lives"
}

# collect WORD FIELDS [KIND]: the lines that begin with KIND, or else those that
# are nothing but results, with kernel and CPUs in front.
collect() {
	tr -d '\r' <"$OUT/$1/results" | awk -F'\t' -v OFS='\t' -v fields="$2" -v kind="${3:-}" \
		-v label="${LABELS[$1]}" -v cpus="${GUESTS[$1]##* }" '
		kind != "" && !sub("^" kind FS, "") { next }
		NF == fields - 2 { print label, cpus, $0 }'
}

# timeline WORD: what the trace of a container's life tells, one bar a line: which
# configuration, from and to in ms, the row, and what it is.
timeline() {
	tr -d '\r' <"$OUT/$1/results" | awk -F'\t' -v OFS='\t' \
		-v label="${LABELS[$1]}" -v cpus="${GUESTS[$1]##* }" '
	function bar(from, to, row, kind) {
		print label, cpus, config, sprintf("%.3f", (from - zero) * 1000), sprintf("%.3f", (to - zero) * 1000), row, kind
	}
	function finish(   p) {
		if (config == "")
			return
		for (p in born) {
			bar(born[p], last[p], row[p], "task")
			for (i = 1; i <= waits[p]; i++)
				bar(from[p, i], to[p, i], row[p], "wait")
		}
		for (i = 1; i <= gps; i++)
			bar(gp_from[i], gp_to[i], 0, "gp")
		for (i = 1; i <= releases; i++)
			bar(queued[i], released[i], rows + 1, "pending")
		split("", born); split("", waits); split("", waiting); split("", place)
		gps = gp_start = releases = rows = zero = 0
	}
	$1 != "trace" { next }
	$2 != config { finish(); config = $2 }
	{
		if (!match($3, /-[0-9]+ +(\([ 0-9-]+\) +)?\[[0-9]+\]/))
			next
		pid = substr($3, RSTART + 1) + 0
		rest = substr($3, RSTART + RLENGTH)
		if (!match(rest, /[0-9]+\.[0-9]+: /))
			next
		time = substr(rest, RSTART) + 0
		what = substr(rest, RSTART + RLENGTH)
		if (pid in born)
			last[pid] = time
	}
	what ~ /^sched_process_fork: / {
		# What kthreadd forks is no part of it.
		if (pid == 2 || !match(what, /child_pid=/))
			next
		child = substr(what, RSTART + 10) + 0
		if (!rows)
			zero = time
		born[child] = last[child] = time
		row[child] = ++rows
	}
	what ~ /^synchronize_rcu/ && (pid in born) && !(pid in waiting) { waiting[pid] = time }
	what ~ /^mntput/ && (pid in waiting) {
		n = ++waits[pid]
		from[pid, n] = waiting[pid]
		to[pid, n] = time
		delete waiting[pid]
	}
	what ~ /^rcu_gp_init/ { gp_start = time }
	what ~ /^rcu_gp_cleanup/ && gp_start && rows { gp_from[++gps] = gp_start; gp_to[gps] = time }
	what ~ /^nsproxy_defer_(queue|release): / {
		match(what, /object=[^ ]+/)
		object = substr(what, RSTART, RLENGTH)
		if (what ~ /_queue/)
			place[object] = time
		else if (object in place) {
			queued[++releases] = place[object]
			released[releases] = time
		}
	}
	END { finish() }'
}

# medians: of the rounds of results.tsv, with the smallest and the largest
# gone_ms, and what share of stock it is: of the time until all is gone, of the
# median where nothing is released and of commands one after the other, of the
# 99th percentile for those beside.
medians() {
	awk -F'\t' -v OFS='\t' '
	function sorted(list, v,   n, i, j, t) {
		n = split(list, v, " ")
		for (i = 2; i <= n; i++)
			for (j = i; j > 1 && v[j - 1] + 0 > v[j] + 0; j--) {
				t = v[j]; v[j] = v[j - 1]; v[j - 1] = t
			}
		return n
	}
	NR == 1 {
		print "kernel", "cpus", "what", "op", "n", "jobs", "config", "p50_us", "p99_us", "max_us",
			"callers_ms", "gone_ms", "gps", "cpu_ms", "peak_pending", "slab_kb", "used_kb",
			"beside", "caller_gps", "least_gone_ms", "most_gone_ms", "of_stock"
		next
	}
	{
		group = $1 OFS $2 OFS $5 OFS $6 OFS $7 OFS $8
		key = group OFS $3
		if (!(key in group_of)) {
			group_of[key] = group
			order[++keys] = key
			if (!(group in place)) { place[group] = ++groups; name[groups] = group }
			if ($3 == "stock" || $3 == "off")
				stock[group] = key
			measure[group] = $5 != "alone" && ($6 == "setns" || $6 == "umount" || $6 == "wake") ? 10 : \
				($6 == "setns" || $6 == "fork" || ($6 == "command" && $8 == 1) ? 9 : 13)
		}
		for (f = 9; f <= NF; f++)
			list[key, f] = list[key, f] " " $f
	}
	END {
		for (g = 1; g <= groups; g++)
			for (i = 1; i <= keys; i++) {
				key = order[i]
				if (group_of[key] != name[g])
					continue
				line = key
				for (f = 9; f <= 20; f++) {
					n = sorted(list[key, f], v)
					line = line OFS v[int((n + 1) / 2)]
					if (f == 13) { least = v[1]; most = v[n] }
				}
				f = measure[name[g]]
				n = sorted(list[key, f], v)
				ours = v[int((n + 1) / 2)]
				n = sorted(list[stock[name[g]], f], v)
				theirs = v[int((n + 1) / 2)]
				print line, least, most, (theirs > 0 ? sprintf("%.3f", ours / theirs) : "-")
			}
	}' "$OUT/results.tsv"
}

table() {
	awk -F'\t' '
	function short(v) { return v ~ /^-?[0-9.]+$/ ? sprintf(v < 100 ? "%.1f" : "%.0f", v) : v }
	BEGIN {
		line = "%-10s %4s %-14s %-8s %5s %4s %-10s %9s %9s %10s %19s %9s %6s %8s %7s %8s %6s\n"
		printf line, "kernel", "CPUs", "what", "op", "n", "jobs", "config", "p50 us", "p99 us",
			"gone ms", "least..most", "of stock", "GPs", "CPU ms", "pending", "slab kB", "GPs/op"
	}
	NR > 1 {
		group = $1 $2 $3 $4 $5 $6
		if (group != was && NR > 2)
			print ""
		was = group
		printf line, $1, $2, $3, $4, $5, $6, $7, short($8), short($9), short($12), short($20) ".." short($21),
			$22, $13, $14, $15, $16, $19
	}' "$OUT/medians.tsv"
}

draw() {
	local kernel cpus where lives
	while IFS=$'\t' read -r kernel cpus; do
		where=$OUT/$kernel-${cpus}cpu
		lives=$(awk -F'\t' -v k="$kernel" -v c="$cpus" '$1 == k && $2 == c && $3 !~ /expedited|forced/ && !seen[$3]++ { print $3 }' "$OUT/timeline.tsv" | xargs)
		gnuplot -e "results='$OUT/medians.tsv'; distribution='$OUT/distribution.tsv'; bars='$OUT/timeline.tsv'" \
			-e "kernel='$kernel'; cpus='$cpus'; where='$where'; most='${N##* }'; timeline='$lives'" \
			"$QEMU_DIR/bench.gnuplot"
	done < <(sed 1d "$OUT/results.tsv" | cut -f 1,2 | sort -u)
}

main() {
	local word
	[[ -z $TREE ]] || BENCH=${BENCH:-unpatched patched}
	BENCH=${BENCH:-rt rt-up cloud patched}
	check_request
	need_root "make bench"
	rm -rf "$OUT"
	mkdir -p "$OUT"
	trap 'stop_guests "$OUT"' EXIT
	[[ $BENCH != *@(patched|upstream)* ]] || need_packages "${BUILD_PACKAGES[@]}"
	need_packages "${RUN_PACKAGES[@]}" gnuplot-nox
	choose_clock
	[[ $BENCH != *@(patched|upstream)* ]] || choose_source
	tr ' ' '\t' <<<"$HEADER" >"$OUT/results.tsv"
	tr ' ' '\t' <<<"$DIST_HEADER" >"$OUT/distribution.tsv"
	tr ' ' '\t' <<<"kernel cpus config from_ms to_ms row kind" >"$OUT/timeline.tsv"
	for word in $BENCH; do
		prepare "$word"
	done
	# shellcheck disable=SC2086 # words
	each_guest measure $BENCH
	for word in $BENCH; do
		collect "$word" "$FIELDS" >>"$OUT/results.tsv"
		collect "$word" "$DIST_FIELDS" dist >>"$OUT/distribution.tsv"
		timeline "$word" >>"$OUT/timeline.tsv"
	done
	medians >"$OUT/medians.tsv"
	table >"$OUT/table.txt"
	for word in $BENCH; do
		has_lives "$word" || continue
		printf '\nLives on %s, %s CPUs:\n' "${LABELS[$word]}" "${GUESTS[$word]##* }"
		lives_table "$OUT/$word/lives"
		gnuplot -e "lives='$OUT/$word/lives/lives.tsv'; where='$OUT/${LABELS[$word]}-${GUESTS[$word]##* }cpu-lives'" \
			-e "name='${LABELS[$word]}, ${GUESTS[$word]##* } CPUs'" "$QEMU_DIR/lives.gnuplot"
	done >>"$OUT/table.txt"
	draw
	cat "$OUT/table.txt"
	note ""
	note "\"of stock\" is the share of the stock kernel's time until all is gone; of its median for setns and fork,"
	note "which release nothing, and for commands; of its 99th percentile for what ran beside others."
	about_clock | fold -s -w 100
	note "All figures: ${OUT#"$TOP"/}/results.tsv. Pictures: ${OUT#"$TOP"/}/*.svg."
}

main "$@"
