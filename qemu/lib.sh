# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-only
#
# What demo.sh, check.sh and lint.sh have in common: packages, kernels, module
# builds, initramfs, boot. Sourced, never run.
#
# What is set here is used there.
# shellcheck disable=SC2034

set -euo pipefail

TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
QEMU_DIR=$TOP/qemu
CACHE=${NSPROXY_DEFER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/nsproxy_defer}
JOBS=$(nproc)
export LC_ALL=C

# A make that runs this script must not hand its own job server and variables
# to the kernel builds.
unset MAKEFLAGS MFLAGS MAKEOVERRIDES MAKELEVEL

# The architecture of the guests, by the name that the kernel's own make has for it, which
# reads ARCH and CROSS_COMPILE, too. What is particular to one is here, in
# module/arch.h and in scenarios/base-ARCH. For another than this machine's a cross compiler builds.
HOST_ARCH=$(dpkg --print-architecture 2>/dev/null || echo amd64)
case ${ARCH:=x86} in
x86 | x86_64)
	ARCH=x86
	DEB_ARCH=amd64
	DEFAULT_LINE=6.1
	SUFFIX=
	CROSS_PACKAGES=()
	KERNEL_IMAGE=arch/x86/boot/bzImage
	QEMU_PACKAGE=qemu-system-x86
	QEMU_FIRMWARE=(seabios)
	QEMU=(qemu-system-x86_64)
	# QEMU up to 7.2 gets the flags of a cmpxchg16b wrong, on which the slab
	# allocator of 6.12 dies of a double fault. None of these kernels needs it.
	TCG_CPU=max,-cx16
	CONSOLE_TTY=ttyS0
	RESULTS_TTY=ttyS1
	RESULTS_PORT=(-serial chardev:results)
	# The disk of a guest that is a whole Debian, and what drives it; see boot_systemd.
	ROOT_DISK=pmem0
	ROOT_MODULES=(nfit nd_pmem)
	SLOWER=${SLOWER:-1}
	# A kernel does not wait long enough for the timer of a machine that is busy.
	ARCH_ARGS=(no5lvl no_timer_check)
	COUNTED_ARGS=(tsc=reliable)
	export -n ARCH
	;;
arm64)
	DEB_ARCH=arm64
	# Those before it take their debug symbols, see fetch_map.
	DEFAULT_LINE=6.12
	SUFFIX=-arm64
	CROSS_COMPILE=${CROSS_COMPILE:-aarch64-linux-gnu-}
	CROSS_PACKAGES=(gcc-aarch64-linux-gnu libc6-dev-arm64-cross)
	KERNEL_IMAGE=arch/arm64/boot/Image
	QEMU_PACKAGE=qemu-system-arm
	# It takes longer to emulate: a guest has so many times the limit that is given.
	SLOWER=${SLOWER:-2}
	QEMU_FIRMWARE=()
	QEMU=(qemu-system-aarch64 -M "virt,gic-version=max")
	# Pointers are signed by a hash that is cheap to emulate.
	TCG_CPU=max,pauth-impdef=on
	CONSOLE_TTY=ttyAMA0
	# The machine has one port of its own, and that is the console.
	RESULTS_TTY=ttyS0
	RESULTS_PORT=(-device "pci-serial,chardev=results")
	ROOT_DISK=vda
	ROOT_MODULES=(virtio_pci virtio_blk)
	ARCH_ARGS=()
	COUNTED_ARGS=()
	export ARCH CROSS_COMPILE
	;;
*)
	echo "nsproxy_defer: no guests of ARCH=$ARCH: it takes x86 or arm64" >&2
	exit 1
	;;
esac
if [[ ${ACCEL:-tcg} != @(tcg|kvm)* ]]; then
	echo "nsproxy_defer: ACCEL=$ACCEL is no accelerator: it takes kvm or tcg" >&2
	exit 1
fi
if [[ ! $SLOWER =~ ^[1-9][0-9]?$ ]]; then
	echo "nsproxy_defer: SLOWER=$SLOWER is no number of 1 to 99: guests get so many times the time" >&2
	exit 1
fi
OUT_DIR=$TOP/out${SUFFIX:+/$ARCH}
GUEST_CC=${CC:-${CROSS_COMPILE:-}gcc}

NETWORK_HINT="does this machine reach its Debian mirror? apt-get update tells"
note() { printf '%s\n' "$*"; }
die() { printf 'nsproxy_defer: %s\n' "$*" >&2; exit 1; }

# at_least 6.12 VERSION
at_least() { [[ $(printf '%s\n' "$1" "$2" | sort -V | head -n 1) == "$1" ]]; }

# step WHAT LOG COMMAND...: run the command with its output in LOG, with a sign
# of life after ten seconds and every minute, and say why when it fails, with HINT if there is one.
step() {
	local what=$1 log=$2 pid start=$SECONDS next=10
	shift 2
	mkdir -p "$(dirname "$log")"
	note "  $what"
	"$@" >"$log" 2>&1 </dev/null &
	pid=$!
	until timeout --foreground "$next" tail -s 0.2 -f --pid="$pid" /dev/null; do
		note "    still at it: $what ($((SECONDS - start)) s)"
		next=60
	done
	if ! wait "$pid"; then
		tail -n 15 "$log" >&2
		die "failed: $what${HINT:+; $HINT}; all of it is in $log"
	fi
}

# need_space MEGABYTES: before anything is fetched into the cache.
need_space() {
	local free
	mkdir -p "$CACHE" 2>/dev/null || die "cannot make the cache folder $CACHE; NSPROXY_DEFER_CACHE= names another"
	free=$(df -Pm "$CACHE" | awk 'NR == 2 { print $4 }')
	((free >= $1)) ||
		die "$CACHE has $free MB free and this needs $1 MB; make room or let NSPROXY_DEFER_CACHE= name another folder"
}

need_root() {
	[[ $EUID -eq 0 ]] ||
		die "$1 must run as root: it installs packages where they are missing and builds the guests' root file system"
}

# lock_cache WHAT: two runs may use the cache at a time, but only one of them
# fetches, and only one builds in the same folder. The guests do not meet.
lock_cache() {
	mkdir -p "$CACHE/locks" 2>/dev/null ||
		die "cannot make the cache folder $CACHE; NSPROXY_DEFER_CACHE= names another"
	exec {CACHE_LOCK}>"$CACHE/locks/$1"
	until flock -w 10 "$CACHE_LOCK"; do
		note "  another run is at it ($CACHE/locks/$1); waiting for it"
	done
}

unlock_cache() { exec {CACHE_LOCK}>&-; }

# need_packages PACKAGE...: install what is missing, and say what that is.
need_packages() {
	local missing=() package
	if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
		die "no apt-get and dpkg here: this runs on Debian 12"
	fi
	for package in "$@"; do
		[[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] ||
			missing+=("$package")
	done
	((${#missing[@]})) || return 0
	need_root "the installation of ${missing[*]}"
	note "Installing: ${missing[*]}"
	HINT=$NETWORK_HINT step "apt-get update" "$CACHE/log/apt-update.log" \
		env DEBIAN_FRONTEND=noninteractive apt-get -q update
	step "apt-get install" "$CACHE/log/apt-install.log" \
		env DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends install "${missing[@]}"
}

RUN_PACKAGES=("$QEMU_PACKAGE" "${CROSS_PACKAGES[@]}" busybox-static cpio kmod xz-utils gcc libc6-dev make libelf1 procps)
BUILD_PACKAGES=(flex bison bc libelf-dev libssl-dev ccache rsync perl)
LINT_PACKAGES=(sparse shellcheck perl mandoc yamllint)
PROOF_PACKAGES=(spin gcc libc6-dev git patch)

# mirror main|security: the address this machine itself uses for Debian.
mirror() {
	local codename suite site
	# shellcheck source=/dev/null
	codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
	suite=$codename
	[[ $1 == main ]] || suite=$codename-security
	# shellcheck disable=SC2016 # apt, not the shell, fills these in.
	site=$(apt-get indextargets --format '$(SITE) $(RELEASE) $(ORIGIN)' 'Created-By: Packages' |
		awk -v suite="$suite" '$2 == suite && ($3 == "Debian" || $3 == "") { print $1; exit }')
	if [[ -z $site && $1 == security ]]; then
		site=$(mirror main)
		site=${site%/debian*}/debian-security
	fi
	[[ -n $site ]] || die "apt on this machine knows no Debian mirror for \"$suite\", so there is no address to fetch kernels from; add one to its sources"
	printf '%s\n' "$site"
}

# apt_for SUITE: make an apt configuration of our own for one Debian suite, in
# the cache, so that the machine's sources and lists stay as they are. A package
# is that of the guests' architecture, where its name does not end in :$HOST_ARCH.
# Sets APT_CONF.
declare -A APT_READY=()
apt_for() {
	local suite=$1 dir=$CACHE/apt/$1$SUFFIX main security
	local keyring=/usr/share/keyrings/debian-archive-keyring.gpg
	APT_CONF=$dir/apt.conf
	[[ -z ${APT_READY[$suite]:-} ]] || return 0
	[[ -r $keyring ]] || die "no $keyring: install debian-archive-keyring"
	main=$(mirror main)
	mkdir -p "$dir/lists/partial" "$dir/cache/archives/partial"
	: >"$dir/status"
	printf 'deb [signed-by=%s] %s %s main\n' "$keyring" "$main" "$suite" >"$dir/sources.list"
	if [[ $suite == bookworm || $suite == bullseye ]]; then
		security=$(mirror security)
		printf 'deb [signed-by=%s] %s %s-security main\n' "$keyring" "$security" "$suite" >>"$dir/sources.list"
	fi
	# A suite that has reached its end is not signed anew any more, hence
	# no look at the date; the signature itself is checked.
	cat >"$APT_CONF" <<-CONF
		Dir::Etc::sourcelist "$dir/sources.list";
		Dir::Etc::sourceparts "-";
		Dir::Etc::preferencesparts "-";
		Dir::Etc::preferences "-";
		Dir::State::Lists "$dir/lists";
		Dir::State::status "$dir/status";
		Dir::Cache "$dir/cache";
		APT::Architecture "$DEB_ARCH";
		APT::Architectures { "$DEB_ARCH"; "$HOST_ARCH"; };
		APT::Sandbox::User "root";
		APT::Update::Error-Mode "any";
		Acquire::Check-Valid-Until "false";
		Acquire::Languages "none";
		Acquire::Retries "3";
		Acquire::http::Timeout "30";
	CONF
	HINT=$NETWORK_HINT step "reading the package lists of Debian $suite" "$CACHE/log/apt-$suite.log" \
		apt-get -q -c "$APT_CONF" update
	APT_READY[$suite]=1
}

# depends PACKAGE: what it depends on, by the lists of APT_CONF.
depends() {
	apt-cache -c "$APT_CONF" depends --no-recommends --no-suggests --no-conflicts \
		--no-breaks --no-replaces --no-enhances "$1" 2>/dev/null |
		awk '$1 == "Depends:" { print $2 }'
}

# fetch_debs PACKAGE...: into the cache, with the names they have in the archive.
fetch_debs() {
	mkdir -p "$CACHE/debs/new"
	(cd "$CACHE/debs/new" && apt-get -q -c "$APT_CONF" download "$@") || return
	mv "$CACHE/debs/new"/*.deb "$CACHE/debs/"
}

# fetch_first FILE PACKAGE...: the first of these that can be had; FILE gets its
# name. Mirrors lack some of what their lists name.
fetch_first() {
	local file=$1 package
	shift
	for package in "$@"; do
		fetch_debs "$package" || continue
		printf '%s\n' "$package" >"$file"
		return 0
	done
	return 1
}

# newest_deb PACKAGE: the file of a package that fetch_debs brought.
newest_deb() {
	local file newest='' arch=$DEB_ARCH
	[[ $1 != *:* ]] || arch=${1#*:}
	for file in "$CACHE/debs/${1%:*}"_*_{"$arch",all}.deb; do
		[[ -e $file && (-z $newest || $file -nt $newest) ]] && newest=$file
	done
	[[ -n $newest ]] || die "the package $1 is not in $CACHE/debs; remove $CACHE/debs and try again"
	printf '%s\n' "$newest"
}

suite_of() {
	case $1 in
	5.10) echo bullseye ;;
	6.1) echo bookworm ;;
	6.12) echo bookworm-backports ;;
	7.2) echo sid ;;
	7.3) echo trixie-backports ;;
	*) die "no kernel line $1: KERNEL= takes 5.10, 6.1, 6.12, 7.2 or 7.3" ;;
	esac
}

# stock_suite LINE: where its kernels are from. Those of sid are for a compiler of no release.
stock_suite() {
	local suite
	suite=$(suite_of "$1")
	echo "${suite/#sid/trixie-backports}"
}

make_build_root() {
	local dir=$1 sources=()
	mapfile -t sources <"${APT_CONF%/*}/sources.list"
	rm -rf "$dir.new"
	mkdir -p "${dir%/*}"
	mmdebstrap --variant=essential --mode=root --include=gcc,make,libelf1t64,libssl3t64 \
		trixie "$dir.new" "${sources[@]}"
	rm -rf "$dir.new"/usr/share/{doc,man,locale} "$dir.new"/var/{lib/apt/lists,cache/apt}/*
	mv "$dir.new" "$dir"
}

# The programs of kbuild in newer headers want a newer C library than Debian 12 has, and
# their kernels a newer compiler. So modules for these are built in an unpacked Debian 13.
BUILD_ROOT=$CACHE/root/build-trixie
build_root() {
	[[ ! -d $BUILD_ROOT ]] || return 0
	need_root "the making of a Debian 13 to build in"
	need_packages mmdebstrap
	need_space 1000
	apt_for trixie
	HINT=$NETWORK_HINT step "unpacking a Debian 13 with gcc to build in" "$CACHE/log/root-build-trixie.log" \
		make_build_root "$BUILD_ROOT"
}

unpack_stock() {
	local dir=$1 deb
	shift
	rm -rf "$dir"
	mkdir -p "$dir"
	# The drivers are most of an image's size, and no guest needs one but
	# those of block devices and the device mapper, which may want DAX.
	for deb in "$@"; do
		dpkg-deb --fsys-tarfile "$deb" |
			tar -x -C "$dir" --exclude='*/kernel/drivers/[!bdm]*' --exclude='*/kernel/drivers/m[!d]*' \
				--exclude='*/kernel/drivers/d[!a]*' \
				--exclude='*/kernel/sound' --exclude='./usr/share'
	done
}

unpack_headers() {
	local root=$1 package
	shift
	for package in "$@"; do
		dpkg-deb -x "$(newest_deb "$package")" "$root"
	done
}

has_kallsyms_all() { grep -qx CONFIG_KALLSYMS_ALL=y "$1/boot/config-$K_REL"; }

# fetch_map FOLDER: the System.map of a kernel that does not tell where its data is.
# What Debian has in /boot is but a note.
fetch_map() {
	local package=linux-image-$K_REL-dbg deb
	fetch_debs "$package" || return
	deb=$(newest_deb "$package")
	dpkg-deb --fsys-tarfile "$deb" |
		tar -xO "./usr/lib/debug/boot/System.map-$K_REL" >"$1/boot/System.map-$K_REL" || return
	rm "$deb"
}

# stock_kernel LINE FLAVOUR: a Debian kernel (rt or cloud) and its headers, unpacked
# in the cache. Sets K_ID, K_REL, K_ROOT, K_IMAGE, K_CONFIG, K_DIR (to build modules
# against, with the compiler K_CC and what MAKE_ARGS says) and K_MODULES.
stock_kernel() {
	local line=$1 flavour=$2-$DEB_ARCH suite dir file image images package headers=() pieces=() debs=() todo root=
	K_ID=stock-$line-$flavour
	dir=$CACHE/stock/$line-$flavour
	suite=$(stock_suite "$line")
	if [[ $suite == trixie* ]]; then
		[[ $ARCH == x86 ]] || die "the headers of $line are for a newer Debian, and what that builds is for x86-64 alone so far; KERNEL= takes another"
		build_root
		root=$BUILD_ROOT
	fi
	if [[ ! -e $dir/release ]]; then
		need_space 2000
		apt_for "$suite"
		# What that suite would install, if it is of this line, and others, the newest first.
		mapfile -t images < <({
			depends "linux-image-$flavour"
			apt-cache -c "$APT_CONF" pkgnames linux-image- | sort -rV
		} | grep -E "^linux-image-${line/./[.]}[.][^-]*(-[0-9]+)?-$flavour\$" | awk '!seen[$0]++')
		((${#images[@]})) ||
			die "Debian's $suite has no linux-image-$line-$flavour; see $CACHE/log/apt-$suite.log"
		HINT=$NETWORK_HINT step "fetching ${images[0]}" "$CACHE/log/fetch-$K_ID.log" \
			fetch_first "$CACHE/debs/$K_ID" "${images[@]}"
		image=$(<"$CACHE/debs/$K_ID")
		K_REL=${image#linux-image-}
		todo=("linux-headers-$K_REL")
		while ((${#todo[@]})); do
			package=${todo[0]}
			todo=("${todo[@]:1}")
			[[ " ${headers[*]:-} " != *" $package "* ]] || continue
			headers+=("$package")
			# The programs of kbuild run here.
			mapfile -t -O "${#todo[@]}" todo < <(depends "$package" | grep -E '^linux-(headers|kbuild)-' |
				sed '/^linux-kbuild/s/$/:'"$HOST_ARCH"'/' || true)
		done
		# Since 7.1 an image is in parts, none of them in /boot.
		mapfile -t pieces < <(depends "$image" | grep -E '^linux-(base|binary|modules)-[0-9]' || true)
		HINT=$NETWORK_HINT step "fetching the headers of $image" "$CACHE/log/fetch-$K_ID-headers.log" \
			fetch_debs "${headers[@]}" ${pieces[@]+"${pieces[@]}"}
		[[ -n $root ]] || pieces+=("${headers[@]}")
		for package in "$image" "${pieces[@]}"; do
			debs+=("$(newest_deb "$package")")
		done
		step "unpacking $image" "$CACHE/log/unpack-$K_ID.log" unpack_stock "$dir" "${debs[@]}"
		for file in "$dir/usr/lib/modules/$K_REL"/{vmlinuz,config,System.map}; do
			[[ ! -e $file ]] || install -D "$file" "$dir/boot/${file##*/}-$K_REL"
		done
		[[ -z $root ]] || step "unpacking its headers in that Debian 13" "$CACHE/log/unpack-$K_ID-headers.log" \
			unpack_headers "$root" "${headers[@]}"
		has_kallsyms_all "$dir" || HINT=$NETWORK_HINT \
			step "fetching the System.map of $image, with its debug symbols (800 MB)" \
			"$CACHE/log/fetch-$K_ID-map.log" fetch_map "$dir"
		# These Makefiles name the folder they would have been installed to.
		# shellcheck disable=SC2016 # This is for make to expand.
		[[ -n $root ]] || sed -i -E 's#(^|[[:space:]])/usr/src/#\1$(dir $(firstword $(MAKEFILE_LIST)))../#' \
			"$dir/usr/src/linux-headers-$K_REL/Makefile"
		printf '%s\n' "$K_REL" >"$dir/release"
	fi
	K_REL=$(<"$dir/release")
	K_ROOT=$dir
	K_IMAGE=$dir/boot/vmlinuz-$K_REL
	K_CONFIG=$dir/boot/config-$K_REL
	K_DIR=${root:-$dir}/usr/src/linux-headers-$K_REL
	K_CC=$GUEST_CC
	MAKE_ARGS=()
	has_kallsyms_all "$dir" || MAKE_ARGS+=("SYSTEM_MAP=$dir/boot/System.map-$K_REL")
	K_MODULES=(fuse overlay loop brd dm-mod ext4 vfat nls_cp437 nls_ascii)
	[[ -r $K_IMAGE && -r $K_DIR/Makefile &&
		-n $(find "$dir"/{,usr/}lib/modules -name 'dm-mod.ko*' 2>/dev/null) ]] ||
		die "the kernel unpacked in $dir is not complete; remove that folder and try again"
}

unpack_source() {
	local deb=$1 line=$2 dir=$3
	rm -rf "$dir.new"
	mkdir -p "$dir.new"
	dpkg-deb --fsys-tarfile "$deb" |
		tar -xO "./usr/src/linux-source-$line.tar.xz" |
		xz -dc -T0 | tar -x -C "$dir.new" --strip-components=1
	rm -rf "$dir"
	mv "$dir.new" "$dir"
}

# source_tree LINE: Debian's linux-source, unpacked in the cache. Sets SOURCE.
source_tree() {
	local line=$1 deb
	SOURCE=$CACHE/src/linux-source-$line
	[[ ! -e $SOURCE/Makefile ]] || return 0
	need_space 6000
	apt_for "$(suite_of "$line")"
	HINT=$NETWORK_HINT step "fetching linux-source-$line" "$CACHE/log/fetch-source-$line.log" \
		fetch_debs "linux-source-$line"
	deb=$(newest_deb "linux-source-$line")
	step "unpacking linux-source-$line" "$CACHE/log/unpack-source-$line.log" \
		unpack_source "$deb" "$line" "$SOURCE"
}

# build_module KDIR FOLDER [VARIABLE=VALUE...]: the project's module, built
# beside the sources and not among them. BTF is of no use to it and takes a
# program that Debian 12 has too old.
build_module() {
	local kdir=$1 folder=$2 build
	shift 2
	mkdir -p "$folder"
	[[ -r $TOP/Kbuild && -d $TOP/module ]] || {
		echo "no Kbuild and module/ in $TOP"
		return 1
	}
	cp -pr "$TOP/Kbuild" "$TOP/module" "$folder/"
	if [[ $kdir == "$BUILD_ROOT"/* ]]; then
		build=$BUILD_ROOT/build/${folder##*/}
		rm -rf "$build"
		mkdir -p "${build%/*}"
		cp -pr "$folder" "$build"
		# objtool asks /proc how much stack it has.
		# shellcheck disable=SC2016 # for that shell to expand
		unshare --mount sh -c 'mount -t proc proc "$0/proc" && exec chroot "$0" "$@"' "$BUILD_ROOT" \
			make -C "${kdir#"$BUILD_ROOT"}" M="${build#"$BUILD_ROOT"}" -j"$JOBS" \
			"$@" CC=gcc CONFIG_DEBUG_INFO_BTF_MODULES= modules && cp -p "$build"/*.ko "$folder/"
		return
	fi
	make -C "$kdir" M="$folder" -j"$JOBS" CC="$GUEST_CC" CONFIG_DEBUG_INFO_BTF_MODULES= "$@" modules
}

# guest_cc OUTPUT SOURCE...: a static program for the guests.
guest_cc() {
	local output=$1
	shift
	mkdir -p "$(dirname "$output")"
	"$GUEST_CC" -Wall -Wextra -O2 -static -o "$output" "$@"
}

make_debian_root() {
	local dir=$1 sources=()
	shift
	mapfile -t sources <"${APT_CONF%/*}/sources.list"
	rm -rf "$dir.new"
	mkdir -p "${dir%/*}"
	mmdebstrap --variant=extract --mode=root --architectures="$DEB_ARCH" --include="$*" \
		--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr \
		bookworm "$dir.new" "${sources[@]}"
	rm -rf "$dir.new"/usr/share/{doc,man,locale}
	mv "$dir.new" "$dir"
}

# debian_root PACKAGE...: a folder of the cache that holds these packages of
# Debian 12 and what they depend on, unpacked but not configured, for
# stage_guest. Sets DEBIAN_ROOT.
debian_root() {
	DEBIAN_ROOT=$CACHE/root/$(printf '%s\n' "$@" | sort | cksum | cut -d' ' -f1)$SUFFIX
	lock_cache fetch
	if [[ ! -d $DEBIAN_ROOT ]]; then
		need_packages mmdebstrap
		need_space 1000
		apt_for bookworm
		HINT=$NETWORK_HINT step "unpacking $* and what they need" "$CACHE/log/root-${DEBIAN_ROOT##*/}.log" \
			make_debian_root "$DEBIAN_ROOT" "$@"
	fi
	unlock_cache
}

# guest_busybox: sets BUSYBOX. This machine's own is of the same release.
guest_busybox() {
	local dir=$CACHE/busybox$SUFFIX
	BUSYBOX=$(command -v busybox)
	[[ $ARCH != x86 ]] || return 0
	BUSYBOX=$dir/bin/busybox
	[[ ! -e $BUSYBOX ]] || return 0
	lock_cache fetch
	apt_for bookworm
	HINT=$NETWORK_HINT step "fetching busybox" "$CACHE/log/fetch-busybox.log" fetch_debs busybox-static
	dpkg-deb -x "$(newest_deb busybox-static)" "$dir"
	unlock_cache
}

# stage_guest FOLDER [DEBIAN_ROOT]: the root file system every guest starts
# from, with the programs of Debian in it if there is such a folder.
stage_guest() {
	local root=$1 applet
	rm -rf "$root"
	mkdir -p "$root"
	[[ -z ${2:-} ]] || cp -a "$2/." "$root/"
	mkdir -p "$root"/{bin,sbin,usr/bin,usr/sbin,dev,proc,sys,tmp,run,etc,root,mnt,lib/modules}
	guest_cc "$root/init" "$QEMU_DIR/init.c" -DCONSOLE_TTY="\"$CONSOLE_TTY\"" -DRESULTS_TTY="\"$RESULTS_TTY\""
	ln -f "$root/init" "$root/usr/bin/timeout"
	guest_busybox
	cp "$BUSYBOX" "$root/bin/busybox"
	busybox --list | while read -r applet; do
		[[ $applet == timeout || $applet == init || -L $root/bin/$applet ||
			-e $root/bin/$applet || -e $root/sbin/$applet ]] || ln -s busybox "$root/bin/$applet"
	done
	# Some of upstream's tests ask for it, and use nothing of it.
	printf '#!/bin/sh\nexec sh "$@"\n' >"$root/bin/bash"
	chmod 755 "$root/bin/bash"
	echo 'root:x:0:0:root:/root:/bin/sh' >"$root/etc/passwd"
	echo 'root:x:0:' >"$root/etc/group"
}

# stage_modules FOLDER: the kernel's own modules that K_MODULES names, with
# what they need, in the order that init loads them.
stage_modules() {
	local root=$1 base=$K_ROOT module path
	((${#K_MODULES[@]})) || return 0
	[[ -d $base/lib/modules ]] || base=$K_ROOT/usr
	depmod -b "$base" "$K_REL" 2>/dev/null
	for module in "${K_MODULES[@]}"; do
		modprobe -d "$base" -S "$K_REL" --show-depends "$module"
	done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' | while read -r path; do
		module=$(basename "$path")
		case $module in
		*.xz) xz -dc "$path" >"$root/lib/modules/${module%.xz}" ;;
		*.zst) zstd -qdc "$path" >"$root/lib/modules/${module%.zst}" ;;
		*) cp "$path" "$root/lib/modules/$module" ;;
		esac
		module=${module%.xz}
		printf '/lib/modules/%s\n' "${module%.zst}" >>"$root/modules.list"
	done
}

pack_guest() { (cd "$1" && find . | cpio -o -H newc --quiet -R 0:0) >"$2"; }

# KVM may be there and not work: a software-only /dev/kvm opens and then hangs
# a guest. It is good only where the processor says that it virtualises.
#
# With a thread for each virtual CPU, QEMU's translator drops what it has of a
# code page before the new byte is in memory. A CPU that comes by in between
# keeps the old one: it then goes on for ever in a breakpoint that another CPU
# has taken out again. Every ftrace site and static key is patched that way
# (seen with QEMU 7.2 and 10.0). So one thread takes turns for
# all CPUs, and changes over at each timer tick, halt and pause.
accelerator() {
	if [[ -n ${ACCEL:-} ]]; then
		echo "$ACCEL"
	elif [[ $ARCH == x86 ]] && grep -qE '^flags.* (vmx|svm)( |$)' /proc/cpuinfo && [[ -w /dev/kvm ]]; then
		echo kvm
	else
		echo tcg,thread=single
	fi
}

# What every guest gets: panic ends the guest instead of restarting it, and
# what would leave it in a coma is a panic. A WARN does not stop the run: the
# verdict finds it, and the rest of the run is worth having.
BOOT_ARGS=("console=$CONSOLE_TTY" loglevel=7 panic=-1 oops=panic softlockup_panic=1
	nmi_watchdog=panic hung_task_panic=1 printk.devkmsg=on random.trust_cpu=on
	mitigations=off slab_nomerge "${ARCH_ARGS[@]}")
# What the caller adds, for one run.
# shellcheck disable=SC2206 # its words
BOOT_ARGS+=(${APPEND:-})

unpack_qemu() {
	local dir=$1 deb
	shift
	rm -rf "$dir.new"
	mkdir -p "$dir.new"
	for deb in "$@"; do
		dpkg-deb -x "$deb" "$dir.new"
	done
	depends "$QEMU_PACKAGE:$HOST_ARCH" | tr -d '<>' | grep -vE '^(qemu-|seabios|ipxe-)' >"$dir.new/libraries"
	mv "$dir.new" "$dir"
}

# backported_qemu: the one of bookworm-backports, in the cache and not installed;
# only the libraries that it needs are. Sets QEMU.
backported_qemu() {
	local dir=$CACHE/qemu$SUFFIX package debs=() libraries
	local packages=("$QEMU_PACKAGE:$HOST_ARCH" qemu-system-data "${QEMU_FIRMWARE[@]}")
	lock_cache fetch
	if [[ ! -d $dir ]]; then
		need_space 300
		apt_for bookworm-backports
		HINT="$NETWORK_HINT; ACCEL=tcg,thread=single does without it, and times by this machine's clock" \
			step "fetching a newer QEMU to measure with" "$CACHE/log/fetch-qemu.log" fetch_debs "${packages[@]}"
		for package in "${packages[@]}"; do
			debs+=("$(newest_deb "$package")")
		done
		step "unpacking it" "$CACHE/log/unpack-qemu.log" unpack_qemu "$dir" "${debs[@]}"
	fi
	unlock_cache
	mapfile -t libraries <"$dir/libraries"
	need_packages "${libraries[@]}"
	QEMU=("$dir/usr/bin/${QEMU[0]}" "${QEMU[@]:1}" -L "$dir/usr/share/qemu" -L "$dir/usr/share/seabios")
}

# choose_clock: for guests whose times count. Under TCG their clock is made to
# count instructions, a nanosecond each, and to go on to the next timer where every
# CPU is idle: then no figure tells how fast this machine is, or how busy. An ACCEL=
# is taken at its word, and at this machine's clock.
#
# Before 8.1 QEMU lets all CPUs of such a guest but one starve (83ecdb18eb65,
# "accel/tcg/tcg-accel-ops-rr: ensure fairness with icount").
COUNTED=
choose_clock() {
	local version
	[[ -z ${ACCEL:-} && $(accelerator) == tcg* ]] || return 0
	version=$("${QEMU[@]}" --version | sed -n 's/^QEMU emulator version \([0-9.]*\).*/\1/p')
	at_least 8.1 "$version" || backported_qemu
	QEMU+=(-icount "shift=0,sleep=off")
	BOOT_ARGS+=("${COUNTED_ARGS[@]}")
	COUNTED=yes
}

# about_clock: what the times of a guest are.
about_clock() {
	if [[ -n $COUNTED ]]; then
		echo "The guests' clock counts instructions, one a nanosecond (qemu -icount), so the times are those of no real processor, and hardly depend on how busy the machine is."
	else
		echo "The guests' clock is this machine's: what else runs on it shows in the times."
	fi
}

# each_guest FUNCTION GUEST...: the function with the words of each guest, which
# stand in front of what it says. Where the clock is this machine's it is one guest
# at a time, since two would share what its processors share.
each_guest() {
	local function=$1 guest pid pids=() slots=1
	shift
	[[ -z $COUNTED ]] || slots=$JOBS
	for guest in "$@"; do
		while (($(jobs -rp | wc -l) >= slots)); do
			wait -n || exit 1
		done
		# shellcheck disable=SC2086 # words
		"$function" $guest | sed -u "s/^ */  [$guest] /" &
		pids+=($!)
	done
	for pid in "${pids[@]}"; do
		wait "$pid" || exit 1
	done
}

# boot FOLDER IMAGE INITRD CPUS MEGABYTES LIMIT FILTER ARGUMENT...: run one
# guest. FOLDER gets cmdline, console.log, $RESULTS and status, which is
# "exited N" or "timeout". FILTER is called with each line of both ports, and
# sets TEXT to what of it is worth showing.
RESULTS=results
# More for QEMU, where a guest needs it.
QEMU_EXTRA=()
boot() {
	local dir=$1 image=$2 initrd=$3 cpus=$4 memory=$5 limit=$(($6 * SLOWER)) filter=$7
	local accel cpu=$TCG_CPU args pid line shown=$SECONDS start=$SECONDS
	shift 7
	accel=$(accelerator)
	[[ $accel != kvm* ]] || cpu=host
	cpu=${GUEST_CPU:-$cpu}
	mkdir -p "$dir"
	args="${BOOT_ARGS[*]} nsd.limit=$((limit * 8 / 10)) $*"
	printf '%s\n' "$args" >"$dir/cmdline"
	: >"$dir/console.log"
	: >"$dir/$RESULTS"
	{
		# The limits are from outside, for a guest that can no longer
		# end itself, or that writes without end.
		ulimit -f "${GUEST_WRITES:-65536}"
		rc=0
		timeout --foreground --kill-after=10 "$limit" \
			"${QEMU[@]}" -accel "$accel" -cpu "$cpu" -smp "$cpus" -m "$memory" \
			-nographic -no-reboot -nodefaults -monitor none -pidfile "$dir/qemu.pid.$$" \
			-serial "file:$dir/console.log" \
			-chardev "file,id=results,path=$dir/$RESULTS" "${RESULTS_PORT[@]}" \
			-kernel "$image" -initrd "$initrd" -append "$args" "${QEMU_EXTRA[@]}" \
			>"$dir/qemu.log" 2>&1 </dev/null || rc=$?
		case $rc in
		124 | 137) echo timeout ;;
		*) echo "exited $rc" ;;
		esac >"$dir/status"
	} &
	pid=$!
	while :; do
		TEXT=
		if read -r -t 0.5 line; then
			"$filter" "${line%$'\r'}"
		elif (($? <= 128)); then
			break
		fi
		if [[ -n $TEXT ]]; then
			note "    $TEXT"
			shown=$SECONDS
		elif ((SECONDS - shown >= 60)); then
			note "    the guest runs ($((SECONDS - start)) s of at most $limit s)"
			shown=$SECONDS
		fi
	done < <(tail -q -n +1 -s 0.2 -f --pid="$pid" "$dir/console.log" "$dir/$RESULTS")
	wait "$pid"
}

# wait_below N: until fewer than N jobs of this shell run.
wait_below() { while (($(jobs -rp | wc -l) >= $1)); do wait -n || true; done; }

# stop_below PID: what it started, and what that did, but not itself.
stop_below() {
	local pid pids
	mapfile -t pids < <(pgrep -P "$1")
	[[ $1 == "$BASHPID" ]] || kill "$1" 2>/dev/null || true
	for pid in "${pids[@]}"; do
		stop_below "$pid"
	done
}

# stop_guests FOLDER: those of this very run that it leaves behind there when it
# is interrupted, and all else that it still runs.
stop_guests() {
	local file
	while read -r file; do
		kill "$(<"$file")" 2>/dev/null || true
	done < <(find "$1" -name "qemu.pid.$$")
	stop_below "$BASHPID"
}

# console_problems FILE: what a kernel log must not hold, each kind once.
console_problems() {
	grep -aE -f "$QEMU_DIR/console-bad" "$1" | tr -d '\r' |
		sed -E 's/^(<[0-9]+>)?\[ *[0-9.]+\](\[[^]]*\])? //' |
		awk '{ key = $0; gsub(/[0-9]+/, "N", key) } !seen[key]++' | cut -c 1-160 | head -n 12 || true
}

# must_have_ended FOLDER LIMIT: die unless the guest that boot() ran there, for at
# most LIMIT seconds, came to its end, and its kernel had nothing to complain of.
must_have_ended() {
	local dir=$1 limit=$(($2 * SLOWER)) problems
	[[ $(<"$dir/status") != timeout ]] ||
		die "the guest did not finish within $limit s: is this machine busy? SLOWER=$((SLOWER + 2)) waits longer; its console is $dir/console.log"
	[[ $(<"$dir/status") == "exited 0" ]] ||
		die "QEMU failed: $(head -n 1 "$dir/qemu.log"); see $dir/qemu.log (ACCEL=tcg does without KVM)"
	problems=$(console_problems "$dir/console.log")
	[[ -z $problems ]] ||
		die "the guest's kernel complained: $(head -n 1 <<<"$problems"); its console is $dir/console.log"
	grep -q '^# init: end$' "$dir/results" ||
		die "the guest stopped early: $(tail -n 1 "$dir/results"); its console is $dir/console.log, its output $dir/results"
}
