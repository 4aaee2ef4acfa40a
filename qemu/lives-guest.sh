#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# What lives.sh runs in a guest: lives of real clients, from start to end, and for
# each the grace periods that tasks waited for. First without the module, then
# with it in its default mode and in the others. Where the deferral is built in,
# "stock" is mode off.
#
# Counted are the calls of the functions that wait, of all tasks but the kernel's
# own threads: PID 1 and its children wait for a unit that ends, not the client
# that asked for it. Ours are those of namespace_unlock() and of the module;
# the others, of moves between cgroups or of network devices, are no business of it.
#
# What it prints, by tabs: "life", mode, life, how many, ours, others, median ms,
# same or differs; "wait", mode, life, ours or others, how many, function, caller,
# where that was called, tasks; "mount", mode, life, what the module did with it, file
# system, how many; "stat", mode, life, counter, growth; "device", mode, what, how often it was
# free, of how many. And what must hold of these, as KTAP.

set -eu

NSD=/run/nsd
KNOBS=/sys/kernel/nsproxy_defer
TRACING=/sys/kernel/tracing
WORK=/var/tmp/lives
TREE=$WORK/tree
# How often; one life more, uncounted, comes before all.
LIVES=(crun:10 runc:6 bwrap:10 unit:5 sandboxed-unit:5 unshare-m:10 tmpfs:20 rmdir:20
	netns:5 nsenter:5 stress:3 podman:3 podman-no-network:3 podman-rm:3 podman-rootless:3 nspawn:3)
DEVICES=50
WAITS=(synchronize_rcu synchronize_rcu_expedited rcu_barrier)
MARKER="nsd: the counted part ends here"

say() { echo "# lives: $*"; }
TESTS=0
# result HOLDS TEXT: HOLDS is 1 where it does.
result() {
	TESTS=$((TESTS + 1))
	if [ "$1" = 1 ]; then echo "ok $TESTS $2"; else echo "not ok $TESTS $2"; fi
}
die() {
	echo "# init: FAILED: $*"
	exit 1
}

# The lives. Each gets a number, and says something that must be the same without
# the module and with it.
SAYS='echo "this is life"; exit 7'

prepare_tree() {
	mkdir -p "$TREE"/{bin,dev,etc,proc,root,run,sys,tmp,usr,var}
	cp $NSD/busybox "$TREE/bin/"
	ln -s busybox "$TREE/bin/sh"
	echo 'root:x:0:0:root:/root:/bin/sh' >"$TREE/etc/passwd"
	echo 'ID=life' >"$TREE/etc/os-release"
}

# Once its container has begun, crun reads /proc/PID/stat for its books. If the container
# ended just then, crun would put the last files of its memory, and somebody else held the
# root. So it waits for the end of its input, which is when crun has come to --pid-file.
prepare_bundle() {
	mkdir -p $WORK/bundle
	cp -a "$TREE" $WORK/bundle/rootfs
	(cd $WORK/bundle && runc spec)
	sed -i -e 's/"terminal": true/"terminal": false/' \
		-e 's/"sh"$/"sh", "-c", "echo this is life; read x; exit 7"/' $WORK/bundle/config.json
	mkfifo $WORK/begun
	grep -q 'this is life' $WORK/bundle/config.json || die "runc's config.json is not what it was"
}

crun_life() { cat $WORK/begun | crun run --pid-file $WORK/begun -b $WORK/bundle "c$1"; }
runc_life() { runc run -b $WORK/bundle "r$1" </dev/null; }
bwrap_life() { bwrap --unshare-all --bind / / --dev /dev --proc /proc sh -c "$SAYS"; }
unit_life() { systemd-run --wait --quiet --collect --pipe sh -c "$SAYS"; }
sandboxed_unit_life() {
	systemd-run --wait --quiet --collect --pipe -p PrivateTmp=yes -p ProtectSystem=strict \
		-p ProtectHome=yes -p PrivateDevices=yes sh -c "$SAYS"
}
unshare_m_life() { unshare -m sh -c "$SAYS"; }
tmpfs_life() { mount -t tmpfs life /mnt && umount /mnt; }
netns_life() { ip netns add life && ip netns exec life sh -c 'ip -o link; exit 7'; echo $? && ip netns del life; }
podman_life() { podman run --rm localhost/life sh -c "$SAYS"; }
podman_no_network_life() { podman run --rm --network none localhost/life sh -c "$SAYS"; }
# Removed as soon as it has ended, while its monitor may clean up after it.
podman_rm_life() {
	podman run --quiet -d --name "life$1" --network none localhost/life sh -c "$SAYS" >/dev/null &&
		podman wait "life$1" && podman logs "life$1" && podman rm "life$1"
}
podman_rootless_life() { as_user podman run --rm --network none localhost/life sh -c "$SAYS"; }
nsenter_life() { nsenter -t "$HOLDER" -m -u -i sh -c "$SAYS"; }
stress_life() { stress-ng --quiet --unshare 1 --unshare-ops 2; }
nspawn_life() { systemd-nspawn --quiet --pipe -D "$TREE" sh -c "$SAYS"; }

# A user with an engine of its own: Debian gives it the IDs that its containers are made of.
as_user() { (cd / && exec setpriv --reuid=life --regid=life --init-groups env HOME=/home/life "$@"); }
import_life() {
	tar -C "$TREE" -c . | "$@" podman import --quiet - localhost/life >$WORK/import 2>&1 ||
		die "podman import: $(tail -n 1 $WORK/import)"
}
prepare_podman_rootless() {
	id life >/dev/null 2>&1 && return
	useradd -m life
	mkdir -p /home/life/.config/containers
	printf '[engine]\ncgroup_manager = "cgroupfs"\n' >/home/life/.config/containers/containers.conf
	printf '[storage]\ndriver = "overlay"\n' >/home/life/.config/containers/storage.conf
	chown -R life:life /home/life
	import_life as_user
}

prepare_nsenter() {
	unshare -m -u -i sleep 1000000 &
	HOLDER=$!
	until [ "$(readlink "/proc/$HOLDER/ns/ipc")" != "$(readlink /proc/self/ns/ipc)" ]; do sleep 0.1; done
}
end_holder() {
	kill "$HOLDER"
	wait "$HOLDER" || true
}
clean_nsenter() { end_holder; }

# A folder that is a mountpoint in another mount namespace alone: to remove it
# takes the mount away there.
prepare_rmdir() {
	local i
	mkdir -p $WORK/rmdir
	for ((i = 0; i <= $1; i++)); do
		mkdir $WORK/rmdir/$i
	done
	# shellcheck disable=SC2016 # The inner shell expands it.
	unshare -m sh -c 'for i in '$WORK'/rmdir/*; do mount -t tmpfs life $i || exit; done
		touch '$WORK'/rmdir.ready; exec sleep 1000000' &
	HOLDER=$!
	until [ -e $WORK/rmdir.ready ]; do
		kill -0 "$HOLDER" || die "the other mount namespace is not there"
		sleep 0.1
	done
}
rmdir_life() { rmdir "$WORK/rmdir/$1"; }
clean_rmdir() {
	# What is mounted in it now must be nothing but what it began with.
	say "the other mount namespace has $(grep -c rmdir/ "/proc/$HOLDER/mounts") of these mounts left"
	end_holder
	rm -rf $WORK/rmdir $WORK/rmdir.ready
}

prepare() {
	local function
	mkdir -p $WORK
	prepare_tree
	prepare_bundle
	import_life
	mkdir $TRACING/instances/lives $TRACING/instances/known
	cd $TRACING/instances/lives
	echo 0 >tracing_on
	echo 8192 >buffer_size_kb
	for function in "${WAITS[@]}"; do
		echo "$function" >>set_ftrace_filter
	done
	echo 1 >options/func_stack_trace
	echo function >current_tracer
	echo 1 >events/sched/sched_process_fork/enable
	cd /
}

kernel_threads() {
	cat /proc/[0-9]*/stat 2>/dev/null | awk '
		{ pid = $1; sub(/.*\) /, ""); if (int($7 / 2097152) % 2) print pid }'
}

start_counting() {
	kernel_threads >$WORK/kthreads
	echo >$TRACING/instances/lives/trace
	echo 1 >$TRACING/instances/lives/tracing_on
}

# A 0 is worth something only if the tracer would have seen a wait: to empty a
# trace takes one.
stop_counting() {
	echo "$MARKER" >$TRACING/instances/lives/trace_marker
	: >$TRACING/instances/known/trace
	echo 0 >$TRACING/instances/lives/tracing_on
	cat $TRACING/instances/lives/trace >$WORK/trace
}

# count MODE LIFE N: what the trace tells.
count() {
	awk '$4 == "[nsproxy_defer]" { print $3 }' /proc/kallsyms >$WORK/symbols
	awk -v OFS='\t' -v mode="$1" -v life="$2" -v n="$3" -v marker="$MARKER" -v shell=$$ -v waits="${WAITS[*]}" \
		-v kthreads=$WORK/kthreads -v symbols=$WORK/symbols '
	BEGIN {
		while ((getline line < kthreads) > 0)
			kthread[line] = 1
		while ((getline line < symbols) > 0)
			ours[line] = 1
		split("namespace_unlock put_unmounted look_later first_look second_look wait_for_mounts ucount_wait", builtin, " ")
		for (i in builtin)
			ours[builtin[i]] = 1
		split(waits, list, " ")
		for (i in list)
			is_wait[list[i]] = 1
	}
	/^# entries-in-buffer\/entries-written: / {
		split($3, entries, "/")
		if (entries[1] != entries[2])
			problem = "the trace buffer overflowed: " $3 " entries"
	}
	/LOST.*EVENTS/ { problem = "the trace lost events" }
	/^#/ { next }
	/^ => / {
		if (!now)
			next
		# Who called the caller; and the innermost that tells the system
		# call, but for the end of a task.
		if ($2 == from[now])
			above = 1
		else if (above && via[now] == "")
			via[now] = $2
		if ($2 ~ /^(__(x64|ia32|arm64)_sys|ksys|__sys)_/ && place[now] == "")
			place[now] = substr($2, match($2, /sys_/) + 4)
		else if ($2 == "task_work_run" && place[now] == "")
			place[now] = "return to user space"
		else if ($2 == "do_exit")
			place[now] = "exit"
		next
	}
	{
		now = 0
		if (!match($0, /-[0-9]+ +(\([ 0-9-]+\) +)?\[[0-9]+\]/))
			next
		comm = substr($0, 1, RSTART - 1)
		sub(/^ +/, "", comm)
		pid = substr($0, RSTART + 1) + 0
		what = substr($0, RSTART + RLENGTH)
		sub(/^[^:]*: /, "", what)
	}
	what ~ /^<stack trace>/ {
		now = last[pid]
		above = 0
		next
	}
	what ~ /^sched_process_fork: / {
		if (match(what, / pid=[0-9]+/) && substr(what, RSTART + 5) + 0 == 2 && match(what, /child_pid=[0-9]+/))
			kthread[substr(what, RSTART + 10) + 0] = 1
		next
	}
	index(what, marker) {
		marked = 1
		next
	}
	what ~ /^nsproxy_defer_mount: / {
		# dev=MAJOR:MINOR type=TYPE FATE
		split(what, part, " ")
		key = part[4] OFS substr(part[3], 6)
		if (!(key in mounts))
			mount[++mount_kinds] = key
		mounts[key] += !marked
		next
	}
	what !~ / <-/ { next }
	{
		last[pid] = 0
		function_ = what
		sub(/ <-.*/, "", function_)
		caller = what
		sub(/.* <-/, "", caller)
		# One that hands over to another is one wait.
		plain = function_ == "synchronize_rcu"
		if (!is_wait[function_] || is_wait[caller] ||
		    (function_ ~ /expedited/ && was_plain[pid] && was_caller[pid] == caller)) {
			was_plain[pid] = 0
			next
		}
		was_plain[pid] = plain
		was_caller[pid] = caller
		if (marked) {
			after += pid == shell
			next
		}
		last[pid] = ++events
		who[events] = pid
		name[events] = comm
		call[events] = function_ OFS caller
		from[events] = caller
		whose[events] = caller in ours ? "ours" : "others"
	}
	END {
		if (!marked)
			problem = "the end of the counted part is missing in the trace"
		else if (!after)
			problem = "the tracer missed a wait that there was"
		if (problem) {
			print problem > "/dev/stderr"
			exit 1
		}
		total["ours"] = total["others"] = 0
		for (i = 1; i <= events; i++) {
			if (who[i] in kthread)
				continue
			total[whose[i]]++
			key = whose[i] SUBSEP call[i] SUBSEP via[i] (via[i] == "" ? "" : ", ") (place[i] == "" ? "-" : place[i])
			if (!(key in number))
				order[++keys] = key
			number[key]++
			if (!((key, name[i]) in by))
				names[key] = names[key] (names[key] == "" ? "" : ",") name[i]
			by[key, name[i]] = 1
		}
		for (i = 1; i <= keys; i++) {
			split(order[i], part, SUBSEP)
			print "wait", mode, life, part[1], number[order[i]], part[2], part[3], names[order[i]]
		}
		for (i = 1; i <= mount_kinds; i++)
			print "mount", mode, life, mount[i], mounts[mount[i]]
		print "total", total["ours"], total["others"]
	}' $WORK/trace
}

stats() {
	[ ! -d $KNOBS/stats ] || (cd $KNOBS/stats && grep -H . -- *) | tr ':' ' '
}

# once LIFE NUMBER: what it said goes to $WORK/said.
once() {
	local function=${1//-/_}_life status=0
	"$function" "$2" >$WORK/said 2>&1 </dev/null || status=$?
	echo "exit status $status" >>$WORK/said
}

# The waits of ours that there may be in a life, where others hold at that moment what
# ends or may be removed with the mount: an nsfs of podman's network; the root of
# nspawn's container, and the directory that it gets mounts by. Before 5.11 users mount
# no overlay, so podman takes FUSE for that, which the patches have made safe there.
may_wait() {
	case $1.$2@$(uname -r) in
	safe.podman@*) echo 1 ;;
	safe.nspawn@*) echo 2 ;;
	*.podman-rootless@5.10.*) [ -e $NSD/nsproxy_defer.ko ] && echo 1 || echo 0 ;;
	*) echo 0 ;;
	esac
}

# judge MODE LIFE N OURS SAME
judge() {
	local same=0
	[ "$1" != expedited ] || return 0
	if [ "$1" = stock ]; then
		# But who asks for no new namespace has nothing to wait for.
		[ "$2" = unit ] || [ "$2" = nsenter ] || result $(($4 > 0)) "stock.$2 waits: $4 grace periods in $3 lives"
		return
	fi
	result $(($4 <= $3 * $(may_wait "$1" "$2"))) "$1.$2 does not wait: $4 grace periods in $3 lives"
	[ "$5" != same ] || same=1
	result $same "$1.$2 ends, and says, as on stock"
}

median() { sort -n | awk '{ v[NR] = $1 } END { printf "%.1f", v[int((NR + 1) / 2)] / 1000 }'; }

# Until PID 1 has tidied up: units and scopes that a life had, and cgroups.
settle() {
	until [ -z "$(systemctl list-units --all --plain --no-legend --type=service,scope \
		'run-*' 'libpod-*' 'machine-*' 'crun-*' 'runc-*')" ]; do
		sleep 0.1
	done
}

# lives MODE LIFE N
lives() {
	local mode=$1 life=$2 n=$3 i start same=same totals
	local said=$WORK/$2.$1.said
	say "$mode: $n lives of $life"
	[ "$(type -t "prepare_${life//-/_}")" != function ] || "prepare_${life//-/_}" "$n"
	once "$life" 0
	: >"$said"
	: >$WORK/times
	stats >$WORK/stats
	settle
	start_counting
	for ((i = 1; i <= n; i++)); do
		start=${EPOCHREALTIME/./}
		once "$life" $i
		echo $((${EPOCHREALTIME/./} - start)) >>$WORK/times
		cat $WORK/said >>"$said"
	done
	settle
	stop_counting
	count "$mode" "$life" "$n" >$WORK/counted 2>$WORK/problem || die "$life: $(cat $WORK/problem)"
	if ! cmp -s "$said" $WORK/"$life".stock.said; then
		same=differs
		diff $WORK/"$life".stock.said "$said" | sed 's/^/# /' || true
	fi
	grep -v '^total' $WORK/counted || true
	[ ! -s $WORK/stats ] || stats | awk -v OFS='\t' -v mode="$mode" -v life="$life" '
		NR == FNR { before[$1] = $2; next }
		$2 != before[$1] { print "stat", mode, life, $1, $2 - before[$1] }' $WORK/stats -
	totals=$(sed -n 's/^total\t//p' $WORK/counted)
	printf 'life\t%s\t%s\t%s\t%s\t%s\t%s\n' "$mode" "$life" "$n" "$totals" "$(median <$WORK/times)" "$same"
	judge "$mode" "$life" "$n" "${totals%%$'\t'*}" "$same"
	[ "$(type -t "clean_${life//-/_}")" != function ] || "clean_${life//-/_}"
}

# A file system of a device that only a namespace which has ended had mounted:
# is the device free when wait(2) has returned? To open it with O_EXCL, as mkfs does,
# and for dmsetup to remove, as an engine that keeps its containers on such devices does.
prepare_device() {
	# Who writes to a device makes udev look what is on it, and have it open.
	mkdir -p /run/udev/rules.d
	echo 'KERNEL=="dm-*", OPTIONS:="nowatch"' >/run/udev/rules.d/99-life.rules
	udevadm control --reload
	truncate -s 16M $WORK/disk
	LOOP=$(losetup --find --show $WORK/disk)
	dmsetup create life --table "0 $(blockdev --getsz "$LOOP") linear $LOOP 0"
	mke2fs -q -t ext4 /dev/mapper/life
	dmsetup remove life
}

# shellcheck disable=SC2016 # These are perl's.
take_alone() { perl -MFcntl -e 'sysopen(DEVICE, $ARGV[0], O_RDONLY | O_EXCL) or die "$!\n"' "$1"; }

mount_for_a_life() {
	unshare -m mount -t ext4 "$1" /mnt || die "mount $1: exit status $?"
}

# A worker of udev's looks what is on a new one.
make_mapping() {
	dmsetup create life --table "0 $(blockdev --getsz "$LOOP") linear $LOOP 0"
	udevadm settle
}

remove_mapping() {
	dmsetup remove life || { dmsetup remove --retry life && false; }
}

# devices MODE N: and the slower of the two a fifth as often.
devices() {
	local i free=0 removed=0 removals=$((($2 + 4) / 5))
	say "$1: $2 times a device that a namespace had mounted"
	for ((i = 0; i < $2; i++)); do
		mount_for_a_life "$LOOP"
		if take_alone "$LOOP"; then free=$((free + 1)); fi
	done
	# In mode all the file system of the last round may be there still.
	[ "$1" != all ] || echo 1 >/sys/kernel/nsproxy_defer/flush
	for ((i = 0; i < removals; i++)); do
		make_mapping
		mount_for_a_life /dev/mapper/life
		if remove_mapping; then removed=$((removed + 1)); fi
	done
	printf 'device\t%s\t%s\t%s\t%s\n' "$1" "open(O_EXCL)" $free "$2" "$1" "dmsetup remove" $removed $removals
	# In mode all what must wait for a grace period, as ext4 on 6.12, goes soon after.
	[ "$1" != all ] || return 0
	result $((free == $2)) "$1.device is free after exit and wait, $free of $2"
	result $((removed == removals)) "$1.mapping can be removed after exit and wait, $removed of $removals"
}

# all_lives MODE
all_lives() {
	local life
	for life in ${CHOSEN:-"${LIVES[@]}"}; do
		lives "$1" "${life%:*}" "${life#*:}"
	done
	[ "$DEVICES" = 0 ] || [ "$1" = expedited ] || devices "$1" "$DEVICES"
	if [ "$1" = stock ]; then
		for life in "${LIVES[@]}"; do
			life=${life%:*}
			[ ! -e $WORK/"$life".stock.said ] || sort $WORK/"$life".stock.said | uniq -c | sed "s/^ */# $life said, times /"
		done
	fi
}

main() {
	local mode event normal
	stty -F /dev/stdout raw -echo
	# shellcheck source=/dev/null
	[ ! -e $NSD/conf ] || . $NSD/conf
	echo "TAP version 13"
	say "Linux $(uname -r), $(nproc) CPUs, rcu_normal $(cat /sys/kernel/rcu_normal), up for $(cut -d' ' -f1 /proc/uptime) s"
	systemctl --failed --no-legend --plain | sed 's/^/# failed unit: /'
	prepare
	[ "$DEVICES" = 0 ] || prepare_device
	[ ! -e $KNOBS ] || echo off >$KNOBS/mode
	all_lives stock
	if [ "${EXPEDITED:-0}" = 1 ]; then
		normal=$(cat /sys/kernel/rcu_normal)
		echo 0 >/sys/kernel/rcu_normal
		echo 1 >/sys/kernel/rcu_expedited
		all_lives expedited
		echo 0 >/sys/kernel/rcu_expedited
		echo "$normal" >/sys/kernel/rcu_normal
	fi
	if [ -e $NSD/nsproxy_defer.ko ]; then
		insmod $NSD/nsproxy_defer.ko || die "insmod: the module does not load"
		echo "# init: module loaded"
		say "insmod alone has mode $(cat $KNOBS/mode)"
	fi
	if [ -e $KNOBS ]; then
		event=$TRACING/instances/lives/events/nsproxy_defer/nsproxy_defer_mount/enable
		[ ! -e $event ] || echo 1 >$event
		for mode in safe all; do
			[ "$mode" = "$(cat $KNOBS/mode)" ] || echo "$mode" >$KNOBS/mode
			all_lives "$mode"
		done
		[ ! -e $event ] || echo 0 >$event
	fi
	if [ -e $NSD/nsproxy_defer.ko ]; then
		rmmod nsproxy_defer || die "rmmod: the module does not go"
		echo "# init: module unloaded"
	fi
	echo "1..$TESTS"
}

main
