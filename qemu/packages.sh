#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# packages.sh [--check]: build the Debian packages into out/deb, and --check them: by
# lintian, and on a disk with a fresh Debian 12, from the first installation to the
# last purge. What takes no kernel of its own, most of what DKMS builds, is done before
# the disk is booted, by the processor and not by QEMU; then come two kernels, and one of
# them with signed modules only. Of another architecture it is one boot, with one kernel.

# shellcheck source=qemu/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=qemu/systemd-guest.sh
source "$QEMU_DIR/systemd-guest.sh"

DEBS=$TOP/out/deb
OUT=$OUT_DIR/packages
LIMIT=3600
# With what the headers of a kernel depend on.
PACKAGES=(systemd systemd-sysv dbus udev kmod procps util-linux crun dkms
	libelf1 make openssl)
if [[ $ARCH == x86 ]]; then
	PACKAGES+=(linux-compiler-gcc-12-x86 efitools)
else
	PACKAGES+=(gcc-12 linux-base pahole)
fi
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
	cp "$BUSYBOX" "$nsd/busybox"
	cp "$DEBS"/*.deb "$nsd/debs/"
	[[ -z $CLOUD ]] || cp "$OUT"/upgrade/*.deb "$nsd/upgrade/"
	for package in "$RT" ${CLOUD:+"$CLOUD"}; do
		mkdir "$nsd/$package"
		headers_of "$package" | xargs cp -t "$nsd/$package"
	done
	[[ -n $CLOUD ]] || make_image_deb "$nsd/$RT"
}

# headers_of RELEASE: the files of its headers and of the parts that they depend on.
headers_of() {
	local headers package
	headers=$(newest_deb "linux-headers-$1")
	echo "$headers"
	dpkg-deb -f "$headers" Depends | grep -oE 'linux-(headers|kbuild)-[^ ,]+' | while read -r package; do
		newest_deb "$package"
	done
}

# make_image_deb FOLDER: later headers want their kernel to be installed, too.
make_image_deb() {
	local version
	version=$(dpkg-deb -f "$(newest_deb "linux-headers-$RT")" Version)
	mkdir -p "$OUT/image/DEBIAN"
	printf '%s\n' "Package: linux-image-$RT" "Version: $version" "Architecture: $DEB_ARCH" \
		"Maintainer: nobody" "Description: the kernel that was booted" >"$OUT/image/DEBIAN/control"
	dpkg-deb -b "$OUT/image" "$1/linux-image.deb" >/dev/null
	rm -r "$OUT/image"
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
	stock_kernel "$DEFAULT_LINE" "$flavour"
	systemd_drivers "$DEFAULT_LINE"
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

# Of another architecture, whose programs do not run here.
check_native() {
	CLOUD=
	BOOTS=(native)
	SYSTEMD_PACKAGES=("${PACKAGES[@]}")
	lock_cache fetch
	stock_kernel "$DEFAULT_LINE" rt
	RT=$K_REL
	apt_for "$(stock_suite "$DEFAULT_LINE")"
	HINT=$NETWORK_HINT step "fetching what builds modules there" "$CACHE/log/fetch-kbuild$SUFFIX.log" \
		fetch_debs "linux-kbuild-${RT%-rt-*}"
	unlock_cache
	systemd_root
	boot_disk native rt
}

check_disk() {
	BOOTS=(disk load refuse enforce update)
	need_packages ovmf
	step "building the next version" "$OUT/upgrade.log" make_debs "$OUT/upgrade" 1.0.1
	lock_cache fetch
	stock_kernel "$DEFAULT_LINE" cloud
	CLOUD=$K_REL
	stock_kernel "$DEFAULT_LINE" rt
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
}

main() {
	local passed failed
	[[ ${1:-} == "" || ${1:-} == --check ]] || die "packages.sh takes --check, not \"$1\""
	need_packages debhelper dh-dkms git
	step "building the Debian packages" "$TOP/out/deb.log" make_debs "$DEBS"
	printf '%s\n' "$DEBS"/*.deb | sed "s|^$TOP/|  |"
	[[ ${1:-} == --check ]] || exit 0

	need_root "packages.sh --check"
	need_packages "${RUN_PACKAGES[@]}" lintian mmdebstrap e2fsprogs
	guest_busybox
	rm -rf "$OUT"
	mkdir -p "$OUT"
	step "lintian" "$OUT/lintian.log" lintian --allow-root --fail-on error,warning,info,pedantic "$DEBS"/*.changes
	trap 'stop_guests "$OUT"' EXIT
	if [[ $DEB_ARCH == "$HOST_ARCH" ]]; then
		check_disk
	else
		check_native
	fi
	note ""
	(cd "$OUT" && cat "${BOOTS[@]/%//results}") | grep -E '^(not )?ok '
	passed=$(cat "$OUT"/*/results | grep -c '^ok ') || true
	failed=$(cat "$OUT"/*/results | grep -c '^not ok ') || true
	note "$passed passed, $failed failed"
	((failed == 0)) || die "a test of the packages failed; what it said is in $OUT/*/results"
}

main "$@"
