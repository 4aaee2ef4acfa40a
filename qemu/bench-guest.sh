#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# What "make bench" measures in a guest: every configuration once a round, so
# that what changes with time changes all of them alike. Configuration, round, and
# what it is about stand in front of what nsbench -h explains.
#
# /bench.conf says COUNTS, REPEATS and PARTS.

set -eu
# shellcheck source=/dev/null
. /bench.conf

KNOBS=/sys/kernel/nsproxy_defer
RCU=/sys/kernel

say() { echo "bench: $*"; }
has_part() { case " $PARTS " in *" $1 "*) ;; *) return 1 ;; esac; }
knob() { cat "$RCU/$1" 2>/dev/null || echo 0; }

# The boot argument rcupdate.rcu_expedited=1 sets what this file shows. It does
# nothing where rcu_normal is set, as on PREEMPT_RT, which "forced" takes back.
configurations() {
	if [ -d "$KNOBS" ]; then
		echo off safe all
		return
	fi
	echo stock
	[ ! -e "$RCU/rcu_expedited" ] || echo expedited
	[ "$NORMAL" = 0 ] || echo forced
	[ ! -e /nsproxy_defer.ko ] || echo module
}

enter() {
	case $1 in
	off | safe | all) echo "$1" >"$KNOBS/mode" ;;
	expedited) echo 1 >"$RCU/rcu_expedited" ;;
	forced)
		echo 1 >"$RCU/rcu_expedited"
		echo 0 >"$RCU/rcu_normal"
		;;
	module) insmod /nsproxy_defer.ko ;;
	esac
}

leave() {
	case $1 in
	expedited) echo 0 >"$RCU/rcu_expedited" ;;
	forced)
		echo "$NORMAL" >"$RCU/rcu_normal"
		echo 0 >"$RCU/rcu_expedited"
		;;
	module) rmmod nsproxy_defer ;;
	esac
}

# bench WHAT ARGUMENT...
bench() {
	what=$1
	shift
	nsbench -m "$CONFIG	$ROUND	$what" "$@"
}

# Where it has no effect, the longest runs would only show a second time what
# stock does.
no_effect() { [ "$CONFIG" = expedited ] && [ "$NORMAL" != 0 ]; }

scale() {
	for n in $COUNTS; do
		[ "$n" -le 100 ] || ! no_effect || continue
		say "$CONFIG: $n namespaces"
		bench alone -n "$n" -d unshare
		# What a life costs besides is the same however many there are.
		[ "$n" -gt 100 ] || bench alone -n "$n" -d life
		bench alone -n "$n" crowd
	done
}

fast() {
	say "$CONFIG: what releases nothing"
	bench alone -n 2000 setns
	bench alone -n 300 fork
	# The program of the report, as it was reported.
	bench LIN6-8313 -n 1 command setns_loop -n 10000 -g 0
}

# Four processes that end a namespace every 50 ms each is what a stock kernel
# with grace periods of 20 ms can do as well.
#
# With one CPU what is not SCHED_FIFO would wait for its turn, and tell of the
# scheduler.
beside() {
	set -- "-i 1000 -n 500 setns" "-i 10000 -n 100 umount" "-n 500 wake"
	[ "$(nproc)" -gt 1 ] || shift 2
	for op; do
		say "$CONFIG: ${op##* } beside others that end namespaces"
		# shellcheck disable=SC2086 # words
		bench idle $op
		# shellcheck disable=SC2086
		bench paced -f 4 -p 50000 $op
		# shellcheck disable=SC2086
		bench flooded -f 4 $op
	done
	for what in hung loops; do
		say "$CONFIG: umount beside $what"
		beside_$what
	done
}

# A task that hangs in the shutdown of a FUSE file system which never answers.
beside_hung() {
	make_images 1
	device=$(/usr/sbin/losetup --find --show /tmp/image.1)
	bench hung -F "$device" -i 10000 -n 100 umount
	/usr/sbin/losetup -d "$device"
}

make_images() {
	for image in $(seq "$1"); do
		[ ! -e "/tmp/image.$image" ] || continue
		dd if=/dev/zero of="/tmp/image.$image" bs=1024k count=1 2>/dev/null
		/usr/sbin/mke2fs -q -t ext2 "/tmp/image.$image"
	done
}

# Sixteen that mount an image, each in a namespace which ends with them.
beside_loops() {
	make_images 16
	loops=
	for image in $(seq 16); do
		while :; do
			/usr/bin/unshare -m /usr/bin/mount -t ext4 -o loop "/tmp/image.$image" /mnt
		done 2>/dev/null &
		loops="$loops $!"
	done
	bench loops -i 10000 -n 100 umount
	# shellcheck disable=SC2086 # words
	kill $loops
	wait 2>/dev/null || true
}

# The container that crun itself proposes, with a command that needs no terminal.
make_bundle() {
	mkdir -p /tmp/bundle/rootfs
	mountpoint -q /tmp/bundle/rootfs || mount --bind / /tmp/bundle/rootfs
	(cd /tmp/bundle && rm -f config.json && crun spec)
	sed -i -e 's/"terminal": true/"terminal": false/' -e 's/"sh"/"\/bin\/true"/' /tmp/bundle/config.json
}

# Programs as people use them; busybox has others of the same names.
clients() {
	! no_effect || return 0
	say "$CONFIG: crun, bwrap, unshare, nsenter, ip, stress-ng"
	make_bundle
	set -- crun --root /tmp/crun --cgroup-manager disabled run --bundle /tmp/bundle @
	bench crun -n 20 -i 10000 -g 3 -d command "$@"
	bench crun -n 16 -j 16 command "$@"
	set -- bwrap --unshare-all --die-with-parent --dev-bind / / true
	bench bwrap -n 20 -i 10000 -g 3 -d command "$@"
	bench bwrap -n 32 -j 16 command "$@"
	bench unshare -n 20 -i 10000 -g 3 command /usr/bin/unshare --mount --uts --ipc --pid --fork true

	/usr/bin/unshare --mount --uts --ipc sleep 1000000 &
	target=$!
	until [ "$(readlink "/proc/$target/ns/mnt")" != "$(readlink /proc/self/ns/mnt)" ]; do :; done
	bench nsenter -n 20 -i 10000 -g 3 command /usr/bin/nsenter --target $target --mount --uts --ipc true
	kill $target
	wait $target 2>/dev/null || true

	/usr/sbin/ip netns add bench
	bench ip-netns -n 20 -i 10000 -g 3 command /usr/sbin/ip netns exec bench true
	/usr/sbin/ip netns delete bench

	bench stress-unshare -n 1 command stress-ng --quiet --unshare 2 --unshare-ops 2
	bench stress-clone -n 1 command stress-ng --quiet --clone 2 --clone-ops 20
}

# One life of a container, traced: who runs and waits when, and the grace
# periods beside it. The first mntput() after a wait tells its end.
timeline() {
	trace=/sys/kernel/tracing/instances/timeline
	say "$CONFIG: the life of a container, traced"
	make_bundle
	mkdir $trace
	echo mono >$trace/trace_clock
	for function in rcu_gp_init rcu_gp_cleanup synchronize_rcu synchronize_rcu_expedited mntput; do
		echo $function >>$trace/set_ftrace_filter
	done
	echo function >$trace/current_tracer
	for event in sched/sched_process_fork sched/sched_process_exec sched/sched_process_exit \
		nsproxy_defer/nsproxy_defer_queue nsproxy_defer/nsproxy_defer_release; do
		[ ! -d $trace/events/$event ] || echo 1 >$trace/events/$event/enable
	done
	# The first life loads what the second finds in memory.
	for name in first second; do
		echo >$trace/trace
		crun --root /tmp/crun --cgroup-manager disabled run --bundle /tmp/bundle $name </dev/null
		[ ! -e "$KNOBS/flush" ] || echo 1 >"$KNOBS/flush"
	done
	echo 0 >$trace/tracing_on
	grep -v '^#' $trace/trace | sed "s/^/trace	$CONFIG	/"
	echo nop >$trace/current_tracer
	echo 0 >$trace/events/enable
	rmdir $trace
}

main() {
	NORMAL=$(knob rcu_normal)
	say "rcu_normal is $NORMAL, rcu_expedited $(knob rcu_expedited), configurations $(configurations | tr '\n' ' ')"
	ROUND=0
	while [ $ROUND -lt "$REPEATS" ]; do
		ROUND=$((ROUND + 1))
		for CONFIG in $(configurations); do
			say "round $ROUND of $REPEATS: $CONFIG"
			enter "$CONFIG"
			for part in scale fast beside clients; do
				! has_part $part || $part
			done
			! has_part clients || [ $ROUND -gt 1 ] || timeline
			leave "$CONFIG"
		done
	done
}

main
