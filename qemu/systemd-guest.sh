# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-only
#
# A guest that is a whole Debian 12: systemd is PID 1, and what starts containers
# is there as people install it. Sourced after lib.sh, never run.
#
# The root file system is one image in the cache, the same for every kernel and
# every run. What differs comes in the initrd, and /run has it when systemd starts.
#
# What is set here is used there.
# shellcheck disable=SC2034

SYSTEMD_PACKAGES=(systemd systemd-sysv dbus udev dmsetup e2fsprogs iproute2 iptables util-linux
	kmod runc crun podman netavark bubblewrap uidmap fuse-overlayfs procps stress-ng systemd-container)
SYSTEMD_MEGABYTES=1280

# The modules that the initrd needs for its root, and those that programs ask
# for later, by way of modprobe. A kernel may lack one, or have it built in.
SYSTEMD_BOOT_MODULES=(ext4 "${ROOT_MODULES[@]}")
SYSTEMD_MODULES=(autofs4 overlay fuse loop brd dm-mod dm-snapshot dm-thin-pool ext4 squashfs
	veth bridge dummy tun af_packet nf_tables nft_compat nft_chain_nat nf_nat nf_conntrack
	xt_MASQUERADE xt_addrtype xt_comment xt_conntrack xt_mark xt_nat xt_tcpudp
	ip_tables iptable_nat iptable_filter ipt_REJECT efi_pstore configfs)
# Drivers that stock_kernel leaves out, as patterns for tar.
SYSTEMD_DRIVERS=('*/kernel/drivers/acpi/nfit/*' '*/kernel/drivers/nvdimm/*' '*/kernel/drivers/md/*'
	'*/kernel/drivers/virtio/*' '*/kernel/drivers/net/veth.ko*' '*/kernel/drivers/net/dummy.ko*'
	'*/kernel/drivers/net/tun.ko*')

# What a minimal Debian starts on its own, and a guest without a network, a
# terminal and a tomorrow has no use for.
SYSTEMD_MASKED=(apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer
	e2scrub_reap.service fstrim.timer getty@tty1.service podman-auto-update.timer podman.socket
	podman-restart.service podman.service "serial-getty@$CONSOLE_TTY.service" systemd-timesyncd.service
	systemd-tmpfiles-clean.timer systemd-pstore.service systemd-networkd.service)

# change_architecture FOLDER PACKAGE...: programs of another architecture do not run here,
# but what the scripts of packages make is the same for all. So the packages are unpacked
# over those of this one, and the package manager is told.
change_architecture() {
	local dir=$1 dpkg=$1/var/lib/dpkg new=$1.$DEB_ARCH required=() file
	shift
	mapfile -t required < <(dpkg-query --admindir="$dpkg" -W -f '${Priority} ${Package}\n' |
		awk '$1 == "required" { print $2 }')
	make_debian_root "$new" apt "${required[@]}" "$@"
	rm -rf "$dir/usr/lib/$(gcc -print-multiarch)" "$dir/etc/ld.so.cache" "${new:?}"/{run,var}
	cp -a --remove-destination "$new/." "$dir/"
	rm -rf "$new"
	sed -i "s/^Architecture: $HOST_ARCH\$/Architecture: $DEB_ARCH/" "$dpkg/status"
	sed -i "s/^$HOST_ARCH\$/$DEB_ARCH/" "$dpkg/arch"
	for file in "$dpkg/info"/*":$HOST_ARCH".*; do
		mv "$file" "${file/":$HOST_ARCH."/":$DEB_ARCH."}"
	done
}

make_systemd_root() {
	local image=$1 dir=$1.root sources=()
	shift
	mapfile -t sources <"${APT_CONF%/*}/sources.list"
	rm -rf --one-file-system "$dir" "$image.new"
	mkdir -p "${image%/*}"
	mmdebstrap --variant=minbase --mode=root --include="$*" \
		--dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
		--dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/info/*' \
		bookworm "$dir" "${sources[@]}"
	rm -rf "$dir"/var/cache/apt/* "$dir"/var/lib/apt/lists/*
	[[ $DEB_ARCH == "$HOST_ARCH" ]] || change_architecture "$dir" "$@"
	rm -rf "$dir/usr/lib/modules"
	ln -s /run/modules "$dir/usr/lib/modules"
	echo guest >"$dir/etc/hostname"
	# With none of its own it would take this boot for its first.
	printf '%032d\n' 1 >"$dir/etc/machine-id"
	# Old kernels are to mount it, and without a checksum to look for first.
	mke2fs -q -t ext4 -O '^metadata_csum,^metadata_csum_seed,^orphan_file' -m 0 \
		-E lazy_itable_init=0,lazy_journal_init=0 -J size=8 \
		-L guest -d "$dir" "$image.new" "${SYSTEMD_MEGABYTES}M"
	rm -rf --one-file-system "$dir"
	mv "$image.new" "$image"
}

# systemd_root: the image. Sets SYSTEMD_ROOT.
systemd_root() {
	SYSTEMD_ROOT=$CACHE/root/systemd-$({
		printf '%s\n' "${SYSTEMD_PACKAGES[@]}" "$SYSTEMD_MEGABYTES"
		declare -f make_systemd_root change_architecture
	} | cksum | cut -d' ' -f1)$SUFFIX.img
	[[ ! -e $SYSTEMD_ROOT ]] || return 0
	lock_cache fetch
	if [[ ! -e $SYSTEMD_ROOT ]]; then
		need_root "the making of a Debian with systemd"
		need_packages mmdebstrap e2fsprogs
		need_space 3000
		apt_for bookworm
		HINT=$NETWORK_HINT step "making a Debian with systemd and ${#SYSTEMD_PACKAGES[@]} other packages" \
			"$CACHE/log/${SYSTEMD_ROOT##*/}.log" make_systemd_root "$SYSTEMD_ROOT" "${SYSTEMD_PACKAGES[@]}"
	fi
	unlock_cache
}

unpack_drivers() {
	local deb=$1
	# What a kernel has built in is not there to be found.
	dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$K_ROOT" --wildcards "${SYSTEMD_DRIVERS[@]}" || true
	printf '%s\n' "${SYSTEMD_DRIVERS[@]}" >"$K_ROOT/drivers"
}

# A kernel that is built here has everything built in.
has_no_modules() { [[ $K_ROOT == "$K_DIR" ]]; }

# systemd_drivers LINE: those of the kernel that stock_kernel has chosen, beside its other modules.
systemd_drivers() {
	local package=linux-image-$K_REL
	! has_no_modules || return 0
	! at_least 7.1 "$K_REL" || package=linux-modules-$K_REL
	lock_cache fetch
	if [[ $(cat "$K_ROOT/drivers" 2>/dev/null) != "$(printf '%s\n' "${SYSTEMD_DRIVERS[@]}")" ]]; then
		if ! compgen -G "$CACHE/debs/${package}_*.deb" >/dev/null; then
			apt_for "$(stock_suite "$1")"
			HINT=$NETWORK_HINT step "fetching $package" "$CACHE/log/fetch-$K_ID.log" fetch_debs "$package"
		fi
		step "unpacking more drivers of $package" "$CACHE/log/drivers-$K_ID.log" \
			unpack_drivers "$(newest_deb "$package")"
	fi
	unlock_cache
}

# stage_module_tree FOLDER: the modules that programs in the guest ask for, as
# modprobe looks for them, in FOLDER/modules.
stage_module_tree() {
	local root=$1 base=$K_ROOT tree=$1/lib/modules/$K_REL module path
	[[ -d $base/lib/modules ]] || base=$K_ROOT/usr
	depmod -b "$base" "$K_REL" 2>/dev/null
	mkdir -p "$tree"
	cp "$base/lib/modules/$K_REL"/modules.{builtin,builtin.modinfo,order} "$tree/"
	for module in "${SYSTEMD_MODULES[@]}"; do
		modprobe -d "$base" -S "$K_REL" --show-depends "$module" 2>/dev/null || true
	done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' | while read -r path; do
		module=$tree/${path#*"/$K_REL/"}
		mkdir -p "${module%/*}"
		cp "$path" "$module"
	done
	depmod -b "$root" "$K_REL"
	mv "$root/lib/modules" "$root/modules"
	rmdir "$root/lib"
}

# stage_systemd FOLDER JOB LIMIT: the initrd's files. FOLDER/run becomes /run, with
# JOB as /run/nsd/job, which is a unit of systemd, started when everything else is,
# and for which a caller may leave more files there. LIMIT is for it, in the guest's seconds.
stage_systemd() {
	local root=$1 job=$2 limit=$(($3 * SLOWER)) unit K_MODULES=("${SYSTEMD_BOOT_MODULES[@]}")
	local units=$1/run/systemd/system
	mkdir -p "$root"/{bin,dev,proc,sys,new,lib/modules} "$root/run/nsd" "$units/multi-user.target.wants"
	guest_busybox
	cp "$BUSYBOX" "$root/bin/busybox"
	cp "$BUSYBOX" "$root/run/nsd/busybox"
	cp "$job" "$root/run/nsd/job"
	: >"$root/modules.list"
	if ! has_no_modules; then
		stage_modules "$root"
		stage_module_tree "$root/run"
	fi
	for unit in "${SYSTEMD_MASKED[@]}"; do
		ln -s /dev/null "$units/$unit"
	done
	cat >"$units/nsd-job.service" <<-UNIT
		[Unit]
		Description=The job of this guest
		After=multi-user.target
		StartLimitIntervalSec=0

		[Service]
		Type=oneshot
		ExecStart=/run/nsd/job
		ExecStopPost=/run/nsd/end
		TimeoutStartSec=$limit
		StandardInput=null
		StandardOutput=file:/dev/$RESULTS_TTY
		StandardError=inherit
		OOMPolicy=continue
		Environment=HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C

		[Install]
		WantedBy=multi-user.target
	UNIT
	ln -s ../nsd-job.service "$units/multi-user.target.wants/"
	# What qemu/init.c says at the end, so that the same verdict reads it.
	cat >"$root/run/nsd/end" <<-'END'
		#!/bin/sh
		[ "$SERVICE_RESULT" = success ] ||
			echo "# init: FAILED: the job: $SERVICE_RESULT, $EXIT_CODE $EXIT_STATUS"
		echo "# init: tainted $(cat /proc/sys/kernel/tainted)"
		[ "$SERVICE_RESULT" != success ] || echo "# init: end"
		echo "init: end" >/dev/kmsg
		exec systemctl --force reboot
	END
	cat >"$root/init" <<-INIT
		#!/bin/busybox sh
		# SPDX-License-Identifier: GPL-2.0-only
		set -e
		/bin/busybox --install -s /bin
		export PATH=/bin
		mount -t devtmpfs dev /dev
		mount -t proc proc /proc
		mount -t sysfs sys /sys
		while read -r module; do
			insmod "\$module" || echo "init: \$module does not load" >/dev/console
		done </modules.list
		until [ -b /dev/$ROOT_DISK ]; do sleep 0.1; done
		mount -t ext4 -o noatime /dev/$ROOT_DISK /new
		mount -t tmpfs -o mode=755,nosuid,nodev run /new/run
		cp -a /run/. /new/run/
		mount --move /dev /new/dev
		umount /proc /sys
		exec switch_root /new /sbin/init
	INIT
	chmod 755 "$root/init" "$root/run/nsd/end" "$root/run/nsd/job"
}

# boot_systemd FOLDER CPUS MEGABYTES LIMIT FILTER ARGUMENT...: boot() with that root.
# Where there is one it is an NVDIMM, which is memory to the guest: there is no request that
# the guest waits for while its clock, where it counts instructions, runs on from timer to
# timer. What the guest writes is its own, unless SYSTEMD_SHARE=on. SYSTEMD_QEMU is more for QEMU.
SYSTEMD_SHARE=off
SYSTEMD_QEMU=()
boot_systemd() {
	local dir=$1 cpus=$2 memory=$3 limit=$4 filter=$5 snapshot=on GUEST_WRITES=
	local QEMU_EXTRA=("${SYSTEMD_QEMU[@]}")
	shift 5
	if [[ $ROOT_DISK == pmem* ]]; then
		QEMU_EXTRA+=(-machine "pc,nvdimm=on" -device "nvdimm,memdev=root"
			-object "memory-backend-file,id=root,share=$SYSTEMD_SHARE,mem-path=$SYSTEMD_ROOT,size=${SYSTEMD_MEGABYTES}M")
		memory=$memory,slots=1,maxmem=$((memory + 8192))M
	else
		[[ $SYSTEMD_SHARE == off ]] || snapshot=off
		QEMU_EXTRA+=(-drive "if=virtio,format=raw,snapshot=$snapshot,file=$SYSTEMD_ROOT")
		GUEST_WRITES=$((SYSTEMD_MEGABYTES * 1024))
	fi
	boot "$dir" "$dir/image" "$dir/initrd.cpio" "$cpus" "$memory" "$limit" "$filter" \
		systemd.show_status=no "$@"
}
