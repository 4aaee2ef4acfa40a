#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# What packages.sh runs on a disk with a Debian 12 before it is booted, and at each of its
# boots: a line for each thing that is to hold, and what a command said that
# failed. A failure does not end it.

# shellcheck disable=SC2317 # Functions are called by name.

set -u

NSD=/run/nsd
MODULE=nsproxy_defer
NUMBER=0
# shellcheck source=/dev/null
. $NSD/conf
# apt asks nobody, and needs no network.
export DEBIAN_FRONTEND=noninteractive

# holds WHAT COMMAND...
holds() {
	local what=$1
	shift
	NUMBER=$((NUMBER + 1))
	if "$@" >/tmp/said 2>&1; then
		echo "ok $NUMBER - $BOOT: $what"
	else
		echo "not ok $NUMBER - $BOOT: $what"
		tail -n 40 /tmp/said | sed 's/^/# /'
	fi
}

not() { ! "$@"; }
loaded() { [ -d /sys/module/$MODULE ]; }
loaded_is() { [ "$(cat /sys/module/$MODULE/version)" = "$1" ]; }
mode_is() { [ "$(cat /sys/kernel/$MODULE/mode)" = "$1" ]; }
install() { apt-get -q -y install "$@"; }
headers() { dpkg -i $NSD/"$1"/*.deb; }

# built VERSION KERNEL...: for these, and no others.
built() {
	local version=$1 kernel status
	shift
	status=$(dkms status)
	echo "$status"
	for kernel in "$@"; do
		grep -qx "$MODULE/$version, $kernel, $(uname -m): installed" <<<"$status" || return
	done
	[ "$(wc -l <<<"$status")" = $# ]
}

built_nothing() { not grep ', ' <(dkms status); }
signed() { modinfo -F signer -k "$1" $MODULE | grep DKMS; }

# waits_are N: that is what nsproxy-waits counts for a life of crun.
waits_are() {
	nsproxy-waits -- crun run -b /root/bundle life >/tmp/report 2>&1
	[ $? = 7 ] || { cat /tmp/report; return 1; }
	cat /tmp/report
	[ "$(awk '/ (synchronize|rcu_barrier)/ { n += $1 } END { print n + 0 }' /tmp/report)" = "$1" ] &&
		grep "^Verdict: .*$2" /tmp/report
}

make_bundle() {
	mkdir -p /root/bundle/rootfs/{bin,dev,proc,sys,etc}
	cp $NSD/busybox /root/bundle/rootfs/bin/
	ln -s busybox /root/bundle/rootfs/bin/sh
	(cd /root/bundle && crun spec) &&
		sed -i -e 's/"terminal": true/"terminal": false/' \
			-e 's/"sh"$/"sh", "-c", "exit 7"/' /root/bundle/config.json
}

# A kernel that nobody can build for, but whose headers look like some.
make_kernel() {
	mkdir -p "/usr/lib/modules/$1" "/usr/src/headers-$1/include"
	ln -s "/usr/src/headers-$1" "/usr/lib/modules/$1/build"
	printf '%s\n' "${@:2}" >"/usr/src/headers-$1/.config"
	printf 'all:\n\tfalse\n' >"/usr/src/headers-$1/Makefile"
}

# skipped KERNEL: with a reason, and 77, which is how DKMS says that it is no failure.
skipped() {
	dkms build -m $MODULE -v 1.0.0 -k "$1" >/tmp/reason 2>&1
	[ $? = 77 ] && grep BUILD_EXCLUSIVE /tmp/reason && not grep "$1" <(dkms status)
}

# What is left of the packages, but for what the package manager remembers.
left() {
	find / -xdev \( -path /proc -o -path /sys -o -path /run -o -path /root -o -path /tmp -o -path /var/log -o \
		-path /var/lib/apt -o -path /var/cache/apt \) -prune -o -iname '*nsproxy*defer*' -print -o -iname '*nsproxy-waits*' -print
	dpkg -l 'nsproxy-defer*' 2>/dev/null | grep '^[a-z][a-z]  *nsproxy' | grep -v '^un'
}
nothing_left() { [ -z "$(left)" ] || { left; return 1; }; }

purge() { apt-get -q -y purge nsproxy-defer-dkms nsproxy-defer-tools; }

run_disk() {
	make_kernel 6.14.0-newer CONFIG_KPROBES=y CONFIG_KALLSYMS_ALL=y CONFIG_DYNAMIC_FTRACE_WITH_REGS=y CONFIG_DEBUG_INFO_BTF=y
	make_kernel 6.1.0-nobtf CONFIG_KPROBES=y CONFIG_KALLSYMS_ALL=y CONFIG_DYNAMIC_FTRACE_WITH_REGS=y
	holds "the packages install, where there is no kernel for them" install $NSD/debs/*.deb
	mv /tmp/said /tmp/skipped
	sed -n 's/^\(Error\|Building\|Skipped\)/# \1/p' /tmp/skipped
	holds "and DKMS says that it was skipped" grep '^Skipped[.]' /tmp/skipped
	holds "nothing is built" built_nothing
	holds "a kernel that the module is not for is left out, with a reason" skipped 6.14.0-newer
	sed 's/^/# /' /tmp/reason
	holds "so is one without BTF" skipped 6.1.0-nobtf
	rm -rf /usr/lib/modules/6.1*-n* /usr/src/headers-*
	holds "a kernel comes" headers "$RT"
	holds "and has the module" built 1.0.0 "$RT"
	holds "signed with the key of DKMS" signed "$RT"
	holds "a purge while it is not loaded" purge
	holds "leaves nothing" nothing_left
	holds "the packages install, where there is a kernel" install $NSD/debs/*.deb
	holds "which has the module" built 1.0.0 "$RT"
	holds "there are manual pages" test -e /usr/share/man/man8/nsproxy-waits.8.gz -a -e /usr/share/man/man4/nsproxy_defer.4.gz
	holds "modules-load.d says nothing" not grep -v '^#' /etc/modules-load.d/nsproxy-defer.conf
	holds "modprobe.d says nothing" not grep -v '^\(#.*\)\?$' /etc/modprobe.d/nsproxy-defer-dkms.conf
	holds "another kernel comes" headers "$CLOUD"
	holds "and has the module" built 1.0.0 "$RT" "$CLOUD"
}

run_load() {
	make_bundle
	holds "the module is not loaded before it is asked for" not loaded
	# The first life of all has controllers of cgroups switched on.
	crun run -b /root/bundle first
	holds "nsproxy-waits counts 3 waits of crun" waits_are 3 "takes away all 3 waits"
	sed 's/^/# /' /tmp/report
	holds "modprobe loads it" modprobe $MODULE
	holds "in mode safe" mode_is safe
	holds "nsproxy-waits counts none" waits_are 0 "with nsproxy_defer in mode safe"
	sed -i 's/^#nsproxy_defer/nsproxy_defer/' /etc/modules-load.d/nsproxy-defer.conf
	sed -i 's/^#options nsproxy_defer mode=safe/options nsproxy_defer mode=all/' /etc/modprobe.d/nsproxy-defer-dkms.conf
}

# All of it in one boot.
run_native() {
	holds "the packages install, where there is no kernel for them" install $NSD/debs/*.deb
	holds "nothing is built" built_nothing
	holds "a kernel comes" headers "$RT"
	holds "and has the module" built 1.0.0 "$RT"
	run_load
	holds "a purge while it is loaded" purge
	holds "takes it out of the kernel" not loaded
	holds "and leaves nothing" nothing_left
}

# A kernel that takes no module with a key that it does not know.
run_refuse() {
	holds "the module is not loaded at boot" not loaded
	holds "modprobe fails" not modprobe $MODULE
	modprobe $MODULE 2>&1 | sed 's/^/# /'
	dmesg | grep -i 'module.*key' | sed 's/^/# /'
	holds "and says that it is the key" grep -E 'Key was rejected|Required key not available' <(modprobe $MODULE 2>&1)
	openssl x509 -inform der -in /var/lib/dkms/mok.pub -out /tmp/mok.pem &&
		cert-to-efi-sig-list /tmp/mok.pem /tmp/mok.esl
	insmod "/run/modules/$(uname -r)/kernel/fs/efivarfs/efivarfs.ko"
	mount -t efivarfs efivarfs /sys/firmware/efi/efivars
	holds "the key of DKMS is enrolled in the firmware" efi-updatevar -e -f /tmp/mok.esl db
}

run_enforce() {
	holds "with the key of DKMS it is loaded at boot" loaded
	holds "as modprobe.d says" mode_is all
	holds "it goes" modprobe -r $MODULE
	cp "$(modinfo -n $MODULE)" /tmp/unsigned.ko
	strip --strip-debug /tmp/unsigned.ko
	holds "without its signature it is refused" not insmod /tmp/unsigned.ko
	insmod /tmp/unsigned.ko 2>&1 | sed 's/^/# /'
	holds "and with it it comes" modprobe $MODULE
}

run_update() {
	holds "on the other kernel it is loaded at boot, too" loaded
	holds "in its version" loaded_is 1.0.0
	holds "a kernel goes" apt-get -q -y purge "linux-headers-$RT"
	holds "an upgrade while it is loaded" install $NSD/upgrade/*.deb
	holds "builds the next version" built 1.0.1 "$CLOUD"
	holds "and leaves the one that is loaded" loaded_is 1.0.0
	holds "with what was set" mode_is all
	holds "it goes" modprobe -r $MODULE
	holds "and the next version comes" modprobe $MODULE
	holds "by its number" loaded_is 1.0.1
	holds "a purge while it is loaded" purge
	holds "takes it out of the kernel" not loaded
	holds "and leaves nothing" nothing_left
}

[ "$BOOT" = disk ] || stty -F /dev/stdout raw -echo
[ "$BOOT" = disk ] || systemctl --failed --no-legend --plain | sed 's/^/# failed unit: /'
"run_$BOOT"
echo "1..$NUMBER"
