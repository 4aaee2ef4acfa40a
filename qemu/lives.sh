#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# lives.sh [LINE FLAVOUR CPUS [MODULE.ko]]: count the grace periods that tasks wait
# for in lives of crun, runc, bwrap, podman, systemd units and others, on a stock
# Debian kernel (6.1 rt 2) without the module and with it in each mode, in one
# boot. Others source it for its functions. From the environment:
#
#	LIVES="crun:3 tmpfs:9"	these lives only, so many times each
#	DEVICES=10		so many tries of the devices, or 0 for none
#	EXPEDITED=1		with rcu_expedited=1 and rcu_normal=0, too
#	ACCEL=kvm		another accelerator

# shellcheck source=qemu/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=qemu/systemd-guest.sh
source "$QEMU_DIR/systemd-guest.sh"

LIVES_LIMIT=2700

lives_progress() {
	case $1 in
	"# lives: "*) TEXT=${1#"# lives: "} ;;
	"not ok "* | "# init: "* | "# failed unit"* | *"Kernel panic"*) TEXT=$1 ;;
	esac
}

stage_lives() {
	local root=$1 module=$2 archive=$3
	rm -rf "$root"
	stage_systemd "$root" "$QEMU_DIR/lives-guest.sh" $((LIVES_LIMIT * 8 / 10))
	printf '%s="%s"\n' CHOSEN "${LIVES:-}" DEVICES "${DEVICES:-50}" EXPEDITED "${EXPEDITED:-0}" >"$root/run/nsd/conf"
	[[ -z $module ]] || cp "$module" "$root/run/nsd/nsproxy_defer.ko"
	pack_guest "$root" "$archive"
	rm -rf "$root"
}

# collect_lives FOLDER: lives.tsv, and the kinds of wait and the module's own counters
# beside it.
collect_lives() {
	local dir=$1 kind
	tr -d '\r' <"$dir/$RESULTS" >"$dir/results.clean"
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
	for kind in wait mount stat device; do
		sed -n "s/^$kind\t//p" "$dir/results.clean" >"$dir/${kind}s.tsv"
	done
	rm "$dir/results.clean"
}

# lives_table FOLDER: a line a life, and a column a mode in the order in which they ran.
lives_table() {
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

# lives_devices FOLDER: how often a device was free.
lives_devices() {
	awk -F'\t' '
	{
		if (!($2 in seen)) { seen[$2] = 1; what[++whats] = $2 }
		if (!($1 in known)) { known[$1] = 1; mode[++modes] = $1 }
		free[$2, $1] = $3 " of " $4
	}
	END {
		for (i = 1; i <= whats; i++) {
			printf "device free after exit + wait, %s:", what[i]
			for (j = 1; j <= modes; j++)
				printf "%s %s %s", (j > 1 ? "," : ""), mode[j], free[what[i], mode[j]]
			print ""
		}
	}' "$1/devices.tsv"
}

# prepare_lives FOLDER [MODULE]: all that the boot needs of the kernel that was chosen.
prepare_lives() {
	local dir=$1
	step "making the guest's initrd" "$dir/guest.log" \
		stage_lives "$dir/root" "${2:-}" "$dir/initrd.cpio"
	ln -s "$K_IMAGE" "$dir/image"
	cp "$K_CONFIG" "$dir/config"
}

# boot_lives FOLDER CPUS ARGUMENT...
boot_lives() {
	local dir=$1 cpus=$2
	shift 2
	# It may have been prepared in a subshell, and what that has set is lost.
	systemd_root
	boot_systemd "$dir" "$cpus" 2048 "$LIVES_LIMIT" lives_progress "$@"
	rm -f "$dir/initrd.cpio" "$dir/image"
}

main() {
	local line=${1:-6.1} flavour=${2:-rt} cpus=${3:-2} module=${4:-} dir
	OUT=$OUT_DIR/lives
	need_root "lives.sh"
	dir=$OUT/$line-$flavour-${cpus}cpu
	rm -rf "$dir"
	mkdir -p "$dir"
	trap 'stop_guests "$OUT"' EXIT
	need_packages "${RUN_PACKAGES[@]}"
	# A guest waits for a disk, and a clock that counts instructions would not.
	[[ $ROOT_DISK != pmem* ]] || choose_clock
	lock_cache fetch
	stock_kernel "$line" "$flavour"
	unlock_cache
	systemd_root
	systemd_drivers "$line"
	if [[ -z $module ]]; then
		step "building the module for $K_REL" "$dir/module.log" \
			build_module "$K_DIR" "$dir/build" "${MAKE_ARGS[@]}" CC="$K_CC"
		module=$dir/build/nsproxy_defer.ko
	fi
	prepare_lives "$dir" "$module"
	note "booting $K_REL and systemd with $cpus CPU$( ((cpus == 1)) || echo s)"
	boot_lives "$dir" "$cpus"
	must_have_ended "$dir" "$LIVES_LIMIT"
	collect_lives "$dir"
	note ""
	lives_table "$dir"
	note ""
	lives_devices "$dir"
	[[ ! -s $dir/devices.tsv ]] || note ""
	about_clock | fold -s -w 100
	note "Where the waits were: ${dir#"$TOP"/}/lives.tsv."
}

[[ ${BASH_SOURCE[0]} != "$0" ]] || main "$@"
