#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# lives.sh [LINE FLAVOUR CPUS [MODULE.ko]]: count the grace periods that tasks wait
# for in lives of crun, runc, bwrap, podman, systemd units and others, on a stock
# Debian kernel (6.1 rt 2) without the module and with it in each mode, in one
# boot. From the environment:
#
#	LIVES="crun:3 tmpfs:9"	these lives only, so many times each
#	ACCEL=kvm		another accelerator

# shellcheck source=qemu/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=qemu/systemd-guest.sh
source "$QEMU_DIR/systemd-guest.sh"

OUT=$TOP/out/lives
LIMIT=1800

progress() {
	case $1 in
	"# lives: "*) TEXT=${1#"# lives: "} ;;
	"# init: "* | "# failed unit"* | *"Kernel panic"*) TEXT=$1 ;;
	esac
}

stage_lives() {
	local root=$1 module=$2 archive=$3
	rm -rf "$root"
	stage_systemd "$root" "$QEMU_DIR/lives-guest.sh" $((LIMIT * 8 / 10))
	printf 'CHOSEN="%s"\n' "${LIVES:-}" >"$root/run/nsd/conf"
	[[ -z $module ]] || cp "$module" "$root/run/nsd/nsproxy_defer.ko"
	pack_guest "$root" "$archive"
	rm -rf "$root"
}

# collect FOLDER: lives.tsv, and the kinds of wait and the module's own counters
# beside it.
collect() {
	local dir=$1
	tr -d '\r' <"$dir/results" >"$dir/results.clean"
	{
		printf 'life\tmode\tlives\tours\tothers\tms\tas_on_stock\twhere\n'
		awk -F'\t' -v OFS='\t' '
		$1 == "wait" {
			key = $3 FS $2
			where[key] = where[key] (where[key] == "" ? "" : "; ") $5 " " $6 " <- " $7 " in " $8 " (" $9 ")"
		}
		$1 == "life" {
			key = $3 FS $2
			print $3, $2, $4, sprintf("%.2f", $5 / $4), sprintf("%.2f", $6 / $4), $7, $8,
				(where[key] == "" ? "-" : where[key])
		}' "$dir/results.clean"
	} >"$dir/lives.tsv"
	grep '^wait' "$dir/results.clean" | cut -f 2- >"$dir/waits.tsv" || true
	grep '^stat' "$dir/results.clean" | cut -f 2- >"$dir/stats.tsv" || true
	rm "$dir/results.clean"
}

# table FOLDER: a line a life, and a column a mode in the order in which they ran.
table() {
	awk -F'\t' '
	NR == 1 { next }
	{
		if (!($1 in seen)) { seen[$1] = 1; life[++lives] = $1 }
		if (!($2 in known)) { known[$2] = 1; mode[++modes] = $2 }
		n[$1] = $3
		ours[$1, $2] = $4
		others[$1, $2] = $5
		ms[$1, $2] = $6
		if ($7 != "same") differs[$1] = differs[$1] " " $2
	}
	END {
		printf "%-18s %5s ", "", ""
		printf "%-*s %-*s %-*s\n", 9 * modes, " GPs waited for, ours", 9 * modes + 1, "  others", 9 * modes + 1, "  median ms"
		printf "%-18s %5s", "life", "lives"
		for (k = 1; k <= 3; k++) {
			for (j = 1; j <= modes; j++)
				printf " %8s", mode[j]
			printf " "
		}
		print " as on stock"
		for (i = 1; i <= lives; i++) {
			printf "%-18s %5s", life[i], n[life[i]]
			for (j = 1; j <= modes; j++)
				printf " %8s", ours[life[i], mode[j]]
			printf " "
			for (j = 1; j <= modes; j++)
				printf " %8s", others[life[i], mode[j]]
			printf " "
			for (j = 1; j <= modes; j++)
				printf " %8s", ms[life[i], mode[j]]
			print "  " (life[i] in differs ? "not in" differs[life[i]] : "yes")
		}
	}' "$1/lives.tsv"
}

main() {
	local line=${1:-6.1} flavour=${2:-rt} cpus=${3:-2} module=${4:-} dir
	need_root "lives.sh"
	dir=$OUT/$line-$flavour-${cpus}cpu
	rm -rf "$dir"
	mkdir -p "$dir"
	trap 'stop_guests "$OUT"' EXIT
	need_packages "${RUN_PACKAGES[@]}"
	[[ -n ${NO_CLOCK:-} ]] || choose_clock
	lock_cache fetch
	stock_kernel "$line" "$flavour-amd64"
	unlock_cache
	systemd_root
	systemd_drivers "$line"
	if [[ -z $module ]]; then
		step "building the module for $K_REL" "$dir/module.log" \
			build_module "$K_DIR" "$dir/build" "${MAKE_ARGS[@]}" CC="$K_CC"
		module=$dir/build/nsproxy_defer.ko
	fi
	step "making the guest's initrd" "$dir/guest.log" \
		stage_lives "$dir/root" "$module" "$dir/initrd.cpio"
	ln -s "$K_IMAGE" "$dir/image"
	cp "$K_CONFIG" "$dir/config"
	note "booting $K_REL and systemd with $cpus CPU$( ((cpus == 1)) || echo s)"
	boot_systemd "$dir" "$cpus" 2048 "$LIMIT" progress
	rm "$dir/initrd.cpio" "$dir/image"
	must_have_ended "$dir" "$LIMIT"
	collect "$dir"
	note ""
	table "$dir"
	note ""
	about_clock | fold -s -w 100
	note "Where the waits were: ${dir#"$TOP"/}/lives.tsv."
}

main "$@"
