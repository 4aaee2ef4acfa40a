#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Measure stock Debian kernels without and with the module, each pair in one
# boot of a guest, and count what lives of real programs wait for. The kernel of
# this machine is not touched. TREE=/path
# measures kernels built from that tree instead, the same tree patched, and
# where it applies with the fix that Linux 3.17 brought.

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

OUT=$OUT_DIR/demo
LIMIT=900
TREE=${TREE:-}
KERNEL=${KERNEL:-$DEFAULT_LINE}
# What is booted: LABEL CPUS KIND. LABEL is the kernel's name in the table, and
# KIND what was done to a tree, or lives.
GUESTS=("$KERNEL-rt 2 lives" "$KERNEL-cloud 2" "$KERNEL-cloud 1" "$KERNEL-rt 2" "$KERNEL-rt 1")
# On arm64 its root is a disk, whose waits a clock that counts instructions would spoil.
[[ $ARCH == x86 ]] || GUESTS=("${GUESTS[@]:1}")
# Enough of each to be seen; lives.sh by itself has more.
LIVES=${LIVES:-crun:3 runc:2 bwrap:3 sandboxed-unit:2 unshare-m:3 tmpfs:5 rmdir:5 netns:2 podman:1}
# What stock is compared with.
MODES=(loaded)
LOOP_HEADER='kernel\tcpus\tmode\tkind\tthreads\tn\ttotal_us\tmean_us\tp50_us\tp99_us\tcaller_gps_per_op\n'
HEADER='kernel\tcpus\tmode\top\tn\tp50_us\tp99_us\tmax_us\tcaller_gps_per_op\n'

progress() {
	case $1 in
	"nsmeasure: "*) TEXT=${1#nsmeasure: } ;;
	"# init: measuring "*) TEXT="now ${1#"# init: measuring "}" ;;
	"# init: FAILED"* | *"Kernel panic"*) TEXT=$1 ;;
	esac
}

# measure LABEL CPUS [KIND]
measure() {
	local label=$1 cpus=$2 kind=${3:-} what mode dir=$OUT/$1-$2cpu${3:+-$3}
	if [[ $kind == lives ]]; then
		note "living in it, stock, then with the module"
		boot_lives "$dir" "$cpus"
		must_have_ended "$dir" "$LIVES_LIMIT"
		return
	fi
	case $kind in
	patched) what=patched mode=(nsd.arg=patched nsproxy_defer.mode=all) ;;
	upstream) what="with upstream's fix" mode=(nsd.arg=upstream) ;;
	*) what="stock, then with the module" mode=(nsd.arg=stock) ;;
	esac
	note "measuring it $what"
	boot "$dir" "$OUT/$label${kind:+-$kind}.image" "$OUT/$label${kind:+-$kind}.cpio" "$cpus" \
		1024 "$LIMIT" progress nsd.job=demo "${mode[@]}"
	must_have_ended "$dir" "$LIMIT"
}

# collect LABEL CPUS [KIND]: what it measured.
collect() {
	local label=$1 cpus=$2 dir=$OUT/$1-$2cpu${3:+-$3}
	if [[ ${3:-} == lives ]]; then
		collect_lives "$dir"
		return
	fi
	awk -F'\t' -v OFS='\t' -v kernel="$label" -v cpus="$cpus" \
		'NF == 7 && $1 ~ /^(stock|loaded|patched|upstream)$/ { print kernel, cpus, $0 }' \
		"$dir/results" >>"$OUT/results.tsv"
	awk -F'\t' -v OFS='\t' -v kernel="$label" -v cpus="$cpus" \
		'NF == 9 && $2 == "net" { print kernel, cpus, $0 }' "$dir/results" >>"$OUT/setns_loop.tsv"
}

# table MODE: it against stock.
table() {
	awk -F'\t' -v mode="$1" '
	function us(v) { return sprintf(v < 100 ? "%.1f" : "%.0f", v) }
	NR == 1 { next }
	{
		key = $1 FS $2 FS $4
		if (!(key in known)) { known[key] = 1; order[++keys] = key }
		p50[key, $3] = $6; p99[key, $3] = $7; gps[key, $3] = $9
	}
	END {
		line = "%-10s %4s  %-14s %9s %9s  %9s %9s  %8s  %s\n"
		printf line, "", "", "", "stock", "stock", mode, mode, "p50", "caller GPs/op"
		printf line, "kernel", "CPUs", "operation", "p50 us", "p99 us", "p50 us", "p99 us", "ratio", "stock -> " mode
		for (i = 1; i <= keys; i++) {
			key = order[i]
			split(key, k, FS)
			ratio = p50[key, mode] > 0 ? p50[key, "stock"] / p50[key, mode] : 0
			if (i > 1 && k[1] FS k[2] != was) print ""
			was = k[1] FS k[2]
			printf line, k[1], k[2], k[3], us(p50[key, "stock"]), us(p99[key, "stock"]),
				us(p50[key, mode]), us(p99[key, mode]),
				sprintf(ratio < 10 ? "%.2f" : "%.0f", ratio),
				gps[key, "stock"] " -> " gps[key, mode]
		}
	}' "$OUT/results.tsv"
}

# loop_table MODE: the program of the report.
loop_table() {
	note "The program of the report LIN6-8313, 10000 calls of setns() on /proc/self/ns/net:"
	awk -F'\t' -v mode="$1" '
	NR == 1 { next }
	{
		key = $1 FS $2
		if (!(key in known)) { known[key] = 1; order[++keys] = key }
		total[key, $3] = $7; gps[key, $3] = $11
	}
	END {
		line = "%-10s %4s  %9s %9s  %s\n"
		printf line, "kernel", "CPUs", "stock s", mode " s", "caller GPs/call"
		for (i = 1; i <= keys; i++) {
			key = order[i]
			split(key, k, FS)
			printf line, k[1], k[2], sprintf("%.3f", total[key, "stock"] / 1e6),
				sprintf("%.3f", total[key, mode] / 1e6), gps[key, "stock"] " -> " gps[key, mode]
		}
	}' "$OUT/setns_loop.tsv"
}

meaning() {
	awk -F'\t' -v rt="$KERNEL-rt" '
	{ p50[$1, $2, $3, $4] = $6; gps[$1, $2, $3, $4] = $9 }
	function figures(op,   s, l) {
		s = p50[rt, 2, "stock", op]
		l = p50[rt, 2, "loaded", op]
		return sprintf("%.0f us and %s grace periods in the caller to %.0f us and %s (%.0f times faster)",
			s, gps[rt, 2, "stock", op], l, gps[rt, 2, "loaded", op], l > 0 ? s / l : 0)
	}
	function change(op) {
		return sprintf("%.2f", p50[rt, 2, "loaded", op] / p50[rt, 2, "stock", op])
	}
	END {
		printf "With the module, on the stock %s kernel with two CPUs, unshare(CLONE_NEWNS) goes from %s, and fork, unshare(CLONE_NEWNS), exit and wait from %s: the grace periods still pass, but no task waits for them.\n",
			rt, figures("unshare_mnt"), figures("fork_mnt_exit")
		printf "What never waited stays what it was, setns() to the own network namespace at %s and fork, exit and wait at %s times the stock median, which is the price of the hook.\n",
			change("setns_net"), change("fork_exit")
	}' "$OUT/results.tsv"
}

# tree_meaning MODE
tree_meaning() {
	awk -F'\t' -v mode="$1" -v label="$T_LINE-SMP" '
	$1 == label { p50[$3, $4] = $6; gps[$3, $4] = $9 }
	function change(what, op) {
		return sprintf("%s from %.1f us and %s grace periods in the caller to %.1f us and %s", what,
			p50["stock", op], gps["stock", op], p50[mode, op], gps[mode, op])
	}
	END {
		names["loaded"] = "With the module"
		names["patched"] = "Patched"
		names["upstream"] = "With upstream\047s fix"
		printf "%s on %s with two CPUs: %s; %s; %s.\n", names[mode], label,
			change("setns() to the own network namespace", "setns_net"),
			change("unshare(CLONE_NEWNS)", "unshare_mnt"),
			change("fork, unshare(CLONE_NEWNS), exit and wait", "fork_mnt_exit")
	}' "$OUT/results.tsv"
	[[ $1 != loaded || $T_CLASS != L ]] ||
		note "On $T_LINE-UP the module is in mode off, its default where a grace period costs nothing."
}

# The same module serves all guests of a kernel.
build_demo_module() {
	[[ -e $1/nsproxy_defer.ko ]] || build_module "$K_DIR" "$1" "${MAKE_ARGS[@]}" CC="$K_CC"
}

# prepare LABEL CPUS [KIND]: the kernel's image, the module and the guest's files.
prepare() {
	local label=$1 kind=${3:-} id=$1${3:+-$3} module='' dir
	if [[ -n $TREE ]]; then
		built_kernel "${label#*-}" "$kind"
	else
		lock_cache fetch
		stock_kernel "${label%-*}" "${label#*-}"
		unlock_cache
		note "$label is Debian's $K_REL"
	fi
	if [[ $kind != patched && $kind != upstream ]]; then
		step "building the module for $K_REL" "$OUT/build/$label.log" \
			build_demo_module "$OUT/build/$label"
		module=$OUT/build/$label/nsproxy_defer.ko
	fi
	if [[ $kind == lives ]]; then
		systemd_root
		systemd_drivers "${label%-*}"
		dir=$OUT/$label-$2cpu-lives
		mkdir -p "$dir"
		prepare_lives "$dir" "$module"
		return
	fi
	step "making the guest's root file system" "$OUT/build/$id-guest.log" \
		stage_demo "$OUT/build/$id-root" "$module" "$OUT/$id.cpio"
	ln -s "$K_IMAGE" "$OUT/$id.image"
}

choose_guests() {
	local label kind
	choose_tree
	[[ -z $T_CARRIES ]] || die "$T_DIR carries a series already, so there is nothing to compare it with; give the tree without it"
	! tree_has_fix || die "$T_DIR has the fix of Linux 3.17 already, so there is nothing to compare it with; give the tree without it"
	GUESTS=()
	MODES+=(${T_SERIES:+patched})
	! tree_takes_fix || MODES+=(upstream)
	for label in "$T_LINE-SMP 2" "$T_LINE-UP 1"; do
		for kind in unpatched "${MODES[@]:1}"; do
			GUESTS+=("$label $kind")
		done
	done
}

main() {
	local guest label cpus kind mode dir prepared=''
	need_root "make demo"
	if [[ -n $TREE ]]; then choose_guests; else suite_of "${KERNEL:-$DEFAULT_LINE}" >/dev/null; fi
	rm -rf "$OUT"
	mkdir -p "$OUT/build"
	trap 'stop_guests "$OUT"' EXIT
	need_packages "${RUN_PACKAGES[@]}" ${TREE:+"${BUILD_PACKAGES[@]}"}
	choose_clock
	printf '%b' "$HEADER" >"$OUT/results.tsv"
	printf '%b' "$LOOP_HEADER" >"$OUT/setns_loop.tsv"
	for guest in "${GUESTS[@]}"; do
		read -r label cpus kind <<<"$guest"
		[[ " $prepared " != *" $label$kind "* ]] || continue
		prepare "$label" "$cpus" "$kind"
		prepared+=" $label$kind"
	done
	note "The guests: kernel and CPUs"
	each_guest measure "${GUESTS[@]}"
	for guest in "${GUESTS[@]}"; do
		# shellcheck disable=SC2086 # words
		collect $guest
	done
	note ""
	for dir in "$OUT"/*-lives; do
		[[ -d $dir ]] || continue
		kind=${dir##*/}
		note "Lives of real programs on ${kind%-lives}, and the grace periods that they wait for:"
		lives_table "$dir"
		lives_devices "$dir"
		note ""
	done
	for mode in "${MODES[@]}"; do
		table "$mode"
		note ""
		loop_table "$mode"
		note ""
	done
	for mode in "${MODES[@]}"; do
		if [[ -n $TREE ]]; then tree_meaning "$mode"; else meaning; fi | fold -s -w 100
	done
	about_clock | fold -s -w 100
	note ""
	note "All figures: ${OUT#"$TOP"/}/*.tsv. Consoles: ${OUT#"$TOP"/}/*/console.log."
}

stage_demo() {
	local root=$1 module=$2 archive=$3
	stage_guest "$root"
	guest_cc "$root/bin/nsmeasure" "$TOP/selftests/nsproxy/nsmeasure.c" "$TOP/selftests/nsproxy/gp.c"
	guest_cc "$root/bin/setns_loop" "$TOP/selftests/nsproxy/setns_loop.c" "$TOP/selftests/nsproxy/gp.c"
	[[ -z $module ]] || cp "$module" "$root/nsproxy_defer.ko"
	pack_guest "$root" "$archive"
}

main "$@"
