#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# packages.sh [--check]: build the Debian packages into out/deb, and --check them: by
# lintian, and in a guest that is a Debian 12, from the first installation to the
# last purge, on two kernels, one of which takes signed modules only.

# shellcheck source=qemu/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=qemu/systemd-guest.sh
source "$QEMU_DIR/systemd-guest.sh"

DEBS=$TOP/out/deb
OUT=$TOP/out/packages
LIMIT=3600
SYSTEMD_PACKAGES=(systemd systemd-sysv dbus udev kmod procps util-linux crun dkms
	linux-compiler-gcc-12-x86 make openssl efitools)
SYSTEMD_MEGABYTES=1536
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

# boot_guest NAME FLAVOUR ARGUMENT...: one boot of the guest, with what is on its disk
# from the one before. Its job is told the name, and given the packages.
boot_guest() {
	local name=$1 flavour=$2 dir=$OUT/$1 root=$OUT/$1/root package
	shift 2
	stock_kernel 6.1 "$flavour"
	systemd_drivers 6.1
	mkdir -p "$dir"
	stage_systemd "$root" "$QEMU_DIR/packages-guest.sh" $((LIMIT * 8 / 10))
	printf 'BOOT=%s\nRT=%s\nCLOUD=%s\n' "$name" "$RT" "$CLOUD" >"$root/run/nsd/conf"
	mkdir "$root/run/nsd/debs" "$root/run/nsd/upgrade"
	cp "$DEBS"/*.deb "$root/run/nsd/debs/"
	cp "$OUT"/upgrade/*.deb "$root/run/nsd/upgrade/"
	for package in "$RT" "$CLOUD"; do
		mkdir "$root/run/nsd/$package"
		cp "$(newest_deb "linux-headers-$package")" "$(newest_deb "linux-headers-$(common_of "$package")")" \
			"$(newest_deb "linux-kbuild-6.1")" "$root/run/nsd/$package/"
	done
	pack_guest "$root" "$dir/initrd.cpio"
	rm -rf "$root"
	ln -sf "$K_IMAGE" "$dir/image"
	note "booting $K_REL and systemd: $name"
	boot_systemd "$dir" 2 2048 "$LIMIT" progress "$@"
	rm "$dir/initrd.cpio" "$dir/image"
	must_have_ended "$dir" "$LIMIT"
	! grep -q '^not ok' "$dir/results" || FAILED=1
}

# The package that has what flavours of headers share.
common_of() {
	case $1 in
	*-rt-amd64) echo "${1%-rt-amd64}-common-rt" ;;
	*-cloud-amd64) echo "${1%-cloud-amd64}-common" ;;
	esac
}

FAILED=0
[[ ${1:-} == "" || ${1:-} == --check ]] || die "packages.sh takes --check, not \"$1\""
need_packages debhelper dh-dkms git
step "building the Debian packages" "$TOP/out/deb.log" make_debs "$DEBS"
printf '%s\n' "$DEBS"/*.deb | sed "s|^$TOP/|  |"
[[ ${1:-} == --check ]] || exit 0

need_root "packages.sh --check"
need_packages "${RUN_PACKAGES[@]}" lintian ovmf
rm -rf "$OUT"
mkdir -p "$OUT"
step "lintian" "$OUT/lintian.log" lintian --allow-root --fail-on error,warning,info,pedantic "$DEBS"/*.changes
trap 'stop_guests "$OUT"' EXIT
step "building the next version" "$OUT/upgrade.log" make_debs "$OUT/upgrade" 1.0.1
lock_cache fetch
stock_kernel 6.1 cloud-amd64
CLOUD=$K_REL
stock_kernel 6.1 rt-amd64
RT=$K_REL
unlock_cache
systemd_root
cp --sparse=always "$SYSTEMD_ROOT" "$OUT/disk"
SYSTEMD_ROOT=$OUT/disk SYSTEMD_SHARE=on
boot_guest install rt-amd64
cp "$FIRMWARE_VARIABLES" "$OUT/variables"
SYSTEMD_QEMU=(-drive "if=pflash,format=raw,unit=0,readonly=on,file=$FIRMWARE"
	-drive "if=pflash,format=raw,unit=1,file=$OUT/variables")
boot_guest refuse rt-amd64 module.sig_enforce=1 efi=runtime
boot_guest enforce rt-amd64 module.sig_enforce=1 efi=runtime
SYSTEMD_QEMU=()
boot_guest update cloud-amd64
rm "$OUT/disk"
note ""
cat "$OUT"/{install,refuse,enforce,update}/results | grep -E '^(not )?ok ' || true
printf '%d passed, %d failed\n' "$(cat "$OUT"/*/results | grep -c '^ok')" "$(cat "$OUT"/*/results | grep -c '^not ok')"
((FAILED == 0)) || die "a test of the packages failed; its output is in $OUT"
