#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# packages.sh [--check]: build the Debian packages into out/deb, and --check them: by
# lintian, and on a disk with a fresh Debian 12, from the first installation to the
# last purge. What takes no kernel of its own, most of what DKMS builds, is done before
# the disk is booted, by the processor and not by QEMU; then come two kernels, and one of
# them with signed modules only.

# shellcheck source=qemu/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=qemu/systemd-guest.sh
source "$QEMU_DIR/systemd-guest.sh"

DEBS=$TOP/out/deb
OUT=$TOP/out/packages
LIMIT=3600
# With what the headers of a kernel depend on.
PACKAGES=(systemd systemd-sysv dbus udev kmod procps util-linux crun dkms
	linux-compiler-gcc-12-x86 libelf1 make openssl efitools)
SYSTEMD_MEGABYTES=2048
SYSTEMD_MODULES+=(efivarfs)
# A guest with firmware, which has a place for keys. That image lets them in without a
# signature, as a machine does that is in setup mode.
FIRMWARE=/usr/share/OVMF/OVMF_CODE_4M.fd
FIRMWARE_VARIABLES=/usr/share/OVMF/OVMF_VARS_4M.fd

# dpkg-buildpackage leaves its results beside the folder that it builds in, and files
# in it, so that is a copy. Another VERSION is for the test of an upgrade.
make_debs() {
	local out=$1 version=${2:-} source=$1/nsproxy-defer
	rm -rf "$out"
	mkdir -p "$source"
	(cd "$TOP" && git ls-files --cached --others --exclude-standard | xargs cp -p --parents -t "$source") || return
	if [[ -n $version ]]; then
		sed -i "s/^PACKAGE_VERSION=.*/PACKAGE_VERSION=\"$version\"/" "$source/dkms.conf"
		sed -i "s/^MODULE_VERSION(.*/MODULE_VERSION(\"$version\");/" "$source/module/main.c"
		sed -i "1s/(.*)/($version)/" "$source/debian/changelog"
	fi
	(cd "$source" && dpkg-buildpackage --build=binary --no-sign) || return
	rm -rf "$source"
}

progress() {
	case $1 in
	"ok "* | "not ok "* | *"Kernel panic"*) TEXT=$1 ;;
	"# init: "* | "# failed unit"*) TEXT=${1#"# "} ;;
	esac
}

make_root() {
	local sources=()
	mapfile -t sources <"${APT_CONF%/*}/sources.list"
	mkdir -p "${1%/*}"
	mmdebstrap --variant=minbase --mode=root --include="${PACKAGES[*]}" bookworm "$1.new.tar" "${sources[@]}"
	mv "$1.new.tar" "$1"
}

# A Debian 12 with nothing of ours, in the cache. Sets ROOT.
debian_with_dkms() {
	ROOT=$CACHE/root/packages-$({
		printf '%s\n' "${PACKAGES[@]}"
		declare -f make_root
	} | cksum | cut -d' ' -f1).tar
	lock_cache fetch
	if [[ ! -e $ROOT ]]; then
		need_space 2000
		apt_for bookworm
		HINT=$NETWORK_HINT step "making a Debian with DKMS" "$CACHE/log/${ROOT##*/}.log" make_root "$ROOT"
	fi
	unlock_cache
}

# stage_job FOLDER NAME: what the job named NAME is given.
stage_job() {
	local nsd=$1 package
	mkdir -p "$nsd"/{debs,upgrade}
	printf 'BOOT=%s\nRT=%s\nCLOUD=%s\n' "$2" "$RT" "$CLOUD" >"$nsd/conf"
	cp "$QEMU_DIR/packages-guest.sh" "$nsd/job"
	cp "$(command -v busybox)" "$nsd/busybox"
	cp "$DEBS"/*.deb "$nsd/debs/"
	cp "$OUT"/upgrade/*.deb "$nsd/upgrade/"
	for package in "$RT" "$CLOUD"; do
		mkdir "$nsd/$package"
		cp "$(newest_deb "linux-headers-$package")" "$(newest_deb "linux-headers-$(common_of "$package")")" \
			"$(newest_deb "linux-kbuild-6.1")" "$nsd/$package/"
	done
}

# What is mounted there goes with the mount namespace.
run_on_disk() {
	local root=$1
	mkdir -p "$root"
	tar -x -C "$root" -f "$ROOT"
	stage_job "$OUT/job" disk
	# shellcheck disable=SC2016 # The inner shell expands it.
	unshare --mount sh -ec 'mount -t proc proc "$1/proc"
		mount --rbind /dev "$1/dev"
		mount -t tmpfs run "$1/run"
		cp -r "$2" "$1/run/nsd"
		chroot "$1" env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C /run/nsd/job' sh "$root" "$OUT/job" || return
	rm -rf "$OUT/job"
	echo guest >"$root/etc/hostname"
	printf '%032d\n' 1 >"$root/etc/machine-id"
}

make_disk() {
	mke2fs -q -t ext4 -L guest -d "$1" "$SYSTEMD_ROOT" "${SYSTEMD_MEGABYTES}M"
	rm -rf --one-file-system "$1"
}

# boot_disk NAME FLAVOUR ARGUMENT...: one boot of the guest, with what is on its disk
# from the one before.
boot_disk() {
	local name=$1 flavour=$2 dir=$OUT/$1 root=$OUT/$1/root
	shift 2
	stock_kernel 6.1 "$flavour"
	systemd_drivers 6.1
	mkdir -p "$dir"
	stage_systemd "$root" "$QEMU_DIR/packages-guest.sh" $((LIMIT * 8 / 10))
	stage_job "$root/run/nsd" "$name"
	pack_guest "$root" "$dir/initrd.cpio"
	rm -rf "$root"
	ln -sf "$K_IMAGE" "$dir/image"
	note "booting $K_REL and systemd: $name"
	# A guest that begins with firmware on a busy machine may not see the timer in time.
	boot_systemd "$dir" 2 2048 "$LIMIT" progress no_timer_check "$@"
	rm "$dir/initrd.cpio" "$dir/image"
	must_have_ended "$dir" "$LIMIT"
}

# The package that has what flavours of headers share.
common_of() {
	case $1 in
	*-rt-amd64) echo "${1%-rt-amd64}-common-rt" ;;
	*-cloud-amd64) echo "${1%-cloud-amd64}-common" ;;
	esac
}

main() {
	local passed failed
	[[ ${1:-} == "" || ${1:-} == --check ]] || die "packages.sh takes --check, not \"$1\""
	need_packages debhelper dh-dkms git
	step "building the Debian packages" "$TOP/out/deb.log" make_debs "$DEBS"
	printf '%s\n' "$DEBS"/*.deb | sed "s|^$TOP/|  |"
	[[ ${1:-} == --check ]] || exit 0

	need_root "packages.sh --check"
	need_packages "${RUN_PACKAGES[@]}" lintian ovmf mmdebstrap e2fsprogs
	rm -rf "$OUT"
	mkdir -p "$OUT"
	step "lintian" "$OUT/lintian.log" lintian --allow-root --fail-on error,warning,info,pedantic "$DEBS"/*.changes
	trap 'stop_guests "$OUT"' EXIT
	step "building the next version" "$OUT/upgrade.log" make_debs "$OUT/upgrade" 1.0.1
	lock_cache fetch
	stock_kernel 6.1 cloud
	CLOUD=$K_REL
	stock_kernel 6.1 rt
	RT=$K_REL
	unlock_cache
	debian_with_dkms
	mkdir "$OUT/disk"
	run_on_disk "$OUT/root" >"$OUT/disk/results" 2>&1 ||
		die "the job on the disk failed: $(tail -n 1 "$OUT/disk/results"); see $OUT/disk/results"
	SYSTEMD_ROOT=$OUT/guest.img SYSTEMD_SHARE=on
	step "making a disk of it" "$OUT/image.log" make_disk "$OUT/root"
	boot_disk load rt
	cp "$FIRMWARE_VARIABLES" "$OUT/variables"
	SYSTEMD_QEMU=(-drive "if=pflash,format=raw,unit=0,readonly=on,file=$FIRMWARE"
		-drive "if=pflash,format=raw,unit=1,file=$OUT/variables")
	boot_disk refuse rt module.sig_enforce=1 efi=runtime
	boot_disk enforce rt module.sig_enforce=1 efi=runtime
	SYSTEMD_QEMU=()
	boot_disk update cloud
	rm "$SYSTEMD_ROOT"
	note ""
	cat "$OUT"/{disk,load,refuse,enforce,update}/results | grep -E '^(not )?ok '
	passed=$(cat "$OUT"/*/results | grep -c '^ok ') || true
	failed=$(cat "$OUT"/*/results | grep -c '^not ok ') || true
	note "$passed passed, $failed failed"
	((failed == 0)) || die "a test of the packages failed; what it said is in $OUT/*/results"
}

main "$@"
