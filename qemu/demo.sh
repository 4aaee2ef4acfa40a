#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Measure stock Debian kernels without and with the module, each pair in one
# boot of a guest. The kernel of this machine is not touched.

# shellcheck source=qemu/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

OUT=$TOP/out/demo
LIMIT=150
LABELS=(6.1-cloud 6.1-rt)
HEADER='kernel\tcpus\tmode\top\tn\tp50_us\tp99_us\tmax_us\tcaller_gps_per_op\n'

progress() {
	case $1 in
	"nsmeasure: "*) TEXT=${1#nsmeasure: } ;;
	"# init: measuring "*) TEXT="now ${1#"# init: measuring "}" ;;
	"# init: FAILED"* | *"Kernel panic"*) TEXT=$1 ;;
	esac
}

# measure LABEL CPUS: one guest; leaves its rows of the table in a file.
measure() {
	local label=$1 cpus=$2 dir=$OUT/$1-$2cpu problems
	note "measuring stock, then with the module"
	boot "$dir" "$OUT/$label.image" "$OUT/$label.cpio" "$cpus" 1024 "$LIMIT" progress nsd.job=demo
	[[ $(<"$dir/status") != timeout ]] ||
		die "the guest did not finish within $LIMIT s; its console is $dir/console.log"
	[[ $(<"$dir/status") == "exited 0" ]] ||
		die "QEMU failed: $(head -n 1 "$dir/qemu.log"); see $dir/qemu.log"
	problems=$(console_problems "$dir/console.log")
	[[ -z $problems ]] ||
		die "the guest's kernel complained: $(head -n 1 <<<"$problems"); its console is $dir/console.log"
	grep -q '^# init: end$' "$dir/results" ||
		die "the guest stopped early; its console is $dir/console.log, its output $dir/results"
	awk -F'\t' -v OFS='\t' -v kernel="$label" -v cpus="$cpus" \
		'NF == 7 && ($1 == "stock" || $1 == "loaded") { print kernel, cpus, $0 }' \
		"$dir/results" >"$dir/rows"
}

table() {
	awk -F'\t' '
	function us(v) { return sprintf(v < 100 ? "%.1f" : "%.0f", v) }
	NR == 1 { next }
	{
		key = $1 FS $2 FS $4
		if (!(key in known)) { known[key] = 1; order[++keys] = key }
		p50[key, $3] = $6; p99[key, $3] = $7; gps[key, $3] = $9
	}
	END {
		line = "%-10s %4s  %-14s %9s %9s  %9s %9s  %8s  %s\n"
		printf line, "", "", "", "stock", "stock", "loaded", "loaded", "p50", "caller GPs/op"
		printf line, "kernel", "CPUs", "operation", "p50 us", "p99 us", "p50 us", "p99 us", "ratio", "stock -> loaded"
		for (i = 1; i <= keys; i++) {
			key = order[i]
			split(key, k, FS)
			ratio = p50[key, "loaded"] > 0 ? p50[key, "stock"] / p50[key, "loaded"] : 0
			if (i > 1 && k[1] FS k[2] != was) print ""
			was = k[1] FS k[2]
			printf line, k[1], k[2], k[3], us(p50[key, "stock"]), us(p99[key, "stock"]),
				us(p50[key, "loaded"]), us(p99[key, "loaded"]),
				sprintf(ratio < 10 ? "%.2f" : "%.0f", ratio),
				gps[key, "stock"] " -> " gps[key, "loaded"]
		}
	}' "$OUT/results.tsv"
}

meaning() {
	awk -F'\t' '
	{ p50[$1, $2, $3, $4] = $6; gps[$1, $2, $3, $4] = $9 }
	function figures(op,   s, l) {
		s = p50["6.1-rt", 2, "stock", op]
		l = p50["6.1-rt", 2, "loaded", op]
		return sprintf("%.0f us and %s grace periods in the caller to %.0f us and %s (%.0f times faster)",
			s, gps["6.1-rt", 2, "stock", op], l, gps["6.1-rt", 2, "loaded", op], l > 0 ? s / l : 0)
	}
	function change(op) {
		return sprintf("%.2f", p50["6.1-rt", 2, "loaded", op] / p50["6.1-rt", 2, "stock", op])
	}
	END {
		printf "With the module, on the stock 6.1-rt kernel with two CPUs, unshare(CLONE_NEWNS) goes from %s, and fork, unshare(CLONE_NEWNS), exit and wait from %s: the grace periods still pass, but no task waits for them.\n",
			figures("unshare_mnt"), figures("fork_mnt_exit")
		printf "What never waited stays what it was, setns() to the own network namespace at %s and fork, exit and wait at %s times the stock median, which is the price of the hook and the noise of this machine.\n",
			change("setns_net"), change("fork_exit")
	}' "$OUT/results.tsv"
}

# prepare LABEL FLAVOUR: the kernel's image, the module and the guest's files.
prepare() {
	local label=$1 flavour=$2
	lock_cache fetch
	stock_kernel 6.1 "$flavour-amd64"
	unlock_cache
	note "$label is Debian's $K_REL"
	step "building the module for $K_REL" "$OUT/build/$label.log" \
		build_module "$K_DIR" "$OUT/build/$label"
	step "making the guest's root file system" "$OUT/build/$label-guest.log" \
		stage_demo "$OUT/build/$label-root" "$OUT/build/$label/nsproxy_defer.ko" "$OUT/$label.cpio"
}

main() {
	local label cpus
	need_root "make demo"
	rm -rf "$OUT"
	mkdir -p "$OUT/build"
	trap 'stop_guests "$OUT"' EXIT
	need_packages "${RUN_PACKAGES[@]}"
	printf '%b' "$HEADER" >"$OUT/results.tsv"
	for label in "${LABELS[@]}"; do
		prepare "$label" "${label#*-}"
		ln -s "$K_IMAGE" "$OUT/$label.image"
	done
	for cpus in 2 1; do
		for label in "${LABELS[@]}"; do
			wait_for_slot
			measure "$label" "$cpus" 2>&1 | sed -u "s/^ */  [$label, CPUs: $cpus] /" &
		done
	done
	wait
	for label in "${LABELS[@]}"; do
		for cpus in 2 1; do
			cat "$OUT/$label-${cpus}cpu/rows" >>"$OUT/results.tsv" 2>/dev/null ||
				die "no figures for $label with $cpus CPU; the reason is further up"
		done
	done
	note ""
	table
	note ""
	meaning | fold -s -w 100
	note ""
	note "All figures: ${OUT#"$TOP"/}/results.tsv. Consoles: ${OUT#"$TOP"/}/*/console.log."
}

stage_demo() {
	local root=$1 module=$2 archive=$3
	stage_guest "$root"
	guest_cc "$root/bin/nsmeasure" "$TOP/selftests/nsproxy/nsmeasure.c" "$TOP/selftests/nsproxy/gp.c"
	cp "$module" "$root/nsproxy_defer.ko"
	pack_guest "$root" "$archive"
}

main "$@"
