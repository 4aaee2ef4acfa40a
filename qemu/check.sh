#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# check.sh [--all|--controls]: run the collection in guests, one scenario after
# the other, and grade each run. From the environment:
#
#	SCENARIOS="UP DEBUG"	these only; SMP@6.12 is of another line than KERNEL,
#				and SMP@patched one of the kinds of TREE
#	KERNEL=6.12		another kernel line: 5.10, 6.1, 6.12, 7.2 or 7.3
#	TREE=/path		a kernel tree: as it is, with the module, and patched
#	ACCEL=kvm		another accelerator
#	CC=clang		another compiler
#	ARCH=arm64		guests of another architecture
#	APPEND="rcu_nocbs=all"	more for the kernel's command line
#	SLOWER=3		three times the time for each guest

# Sourced files read some of what is set here.
# shellcheck disable=SC2034
# shellcheck source=qemu/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=qemu/kernel.sh
source "$QEMU_DIR/kernel.sh"
# shellcheck source=qemu/tree.sh
source "$QEMU_DIR/tree.sh"
# shellcheck source=qemu/systemd-guest.sh
source "$QEMU_DIR/systemd-guest.sh"
# shellcheck source=qemu/lives.sh
source "$QEMU_DIR/lives.sh"

OUT=$OUT_DIR/check
RESULTS=results.ktap
# The longest goes first, since several run at a time.
DEFAULT=(DEBUG STOCK-RT STOCK UP)
KERNEL=${KERNEL:-$DEFAULT_LINE}
TREE=${TREE:-}
# How the check of the packages ended, where there was one.
PACKAGES=

# A scenario is asked for as NAME, or as NAME@LINE for another kernel line. For
# a tree LINE is what is done with it: unpatched, module or patched.
run_name() {
	local scenario=${1%@*} line=${1#*@}
	if [[ $line == 6.1 ]]; then
		echo "$scenario"
	else
		echo "$scenario-$line"
	fi
}

check_request() {
	local run scenario line known
	known=$(cd "$SCENARIO_DIR" && printf '%s ' */)
	for run in "$@"; do
		scenario=${run%@*} line=${run#*@}
		[[ $scenario =~ ^[A-Z0-9-]+$ && -r $SCENARIO_DIR/$scenario/boot ]] ||
			die "no scenario \"$scenario\"; SCENARIOS= takes names with spaces in between: ${known//\//}"
		if [[ -z $TREE ]]; then
			suite_of "$line" >/dev/null
		elif [[ " $(tree_kinds) " != *" $line "* ]]; then
			die "$run: of $TREE there is only $(tree_kinds)"
		elif [[ -z $T_CARRIES && $run == UPSTREAM@patched && " $* " != *" UPSTREAM@unpatched "* ]]; then
			die "$run is held to what the tree does as it is: SCENARIOS=\"UPSTREAM@unpatched UPSTREAM@patched\""
		fi
		if [[ $(setting "$scenario" kernel) == stock* ]]; then
			[[ -z $TREE ]] ||
				die "$scenario boots Debian's own kernel and TREE=$TREE is a tree to build: pick a built scenario, like SCENARIOS=SMP"
		elif [[ $ARCH/$scenario == arm64/UP ]]; then
			die "there is no kernel without SMP for $ARCH; SCENARIOS=SMP1 is one with one CPU"
		fi
	done
}

is_upstream() { [[ $(setting "$1" job) == upstream* ]]; }
is_lives() { [[ $(setting "$1" job) == lives ]]; }

progress() {
	case $1 in
	"# ok "* | "# not ok "* | "# selftests: "* | "# init: "*) TEXT=${1#"# "} ;;
	"ok "* | "not ok "* | *"Kernel panic"* | *"BUG: "* | *"WARNING: "*) TEXT=$1 ;;
	esac
}

# prepare_kernel NAME@LINE
prepare_kernel() {
	local scenario=${1%@*} line=${1#*@} kind name
	read -r kind name <<<"$(setting "$scenario" kernel)"
	case $kind in
	stock)
		lock_cache fetch
		stock_kernel "$line" "$name"
		unlock_cache
		;;
	built) built_kernel "$name" "$line" ;;
	esac
}

# Debian's module signing and BTF are of no use to a module built here.
build_scenario_module() {
	build_module "$K_DIR" "$OUT/build/$K_ID" W=1 "${MAKE_ARGS[@]}" CC="$K_CC" &&
		[[ -e $OUT/build/$K_ID/nsproxy_defer.ko ]]
}

# stage_check ROOT ARCHIVE TESTS MODULE DEBIAN EDIT: EDIT is what sed does to the
# list of programs.
stage_check() {
	local root=$1 archive=$2 tests=$3 module=$4 debian=$5 edit=$6
	stage_guest "$root" "$debian"
	stage_modules "$root"
	# A guest with the programs of Debian has ours, too.
	[[ -z $debian ]] || cp "$TOP/tools/nsproxy-waits" "$root/usr/sbin/"
	cp -r "$tests" "$root/kselftest"
	# Without the ioctl that came with 6.18 its tests wait until their time is
	# over, or end by a signal, as chance has it.
	at_least 6.18 "$K_REL" || edit+='; /:ns_active_ref_test$/d'
	sed -i -E "$edit" "$root/kselftest/kselftest-list.txt"
	[[ -z $module ]] || cp "$module" "$root/"
	pack_guest "$root" "$archive"
	rm -rf "$root"
}

# guests NAME@LINE: the folder of each of its guests. That is the run's own, but
# where a scenario sets programs apart these have a guest to themselves, so that
# two processors can share what takes long. Plain "make check" goes without that
# guest, since its other runs have these programs, and unpatched only one of them runs.
guests() {
	local dir
	dir=$OUT/$(run_name "$1")
	if [[ $which/$KERNEL/$ARCH == quick/6.1/x86 || $1 == *@unpatched ||
		-z $(setting "${1%@*}" apart) ]]; then
		echo "$dir"
	else
		printf '%s\n' "$dir/1" "$dir/2"
	fi
}

# programs_of GUEST APART: what sed does to the list of programs.
programs_of() {
	case $1 in
	*/1) echo "/:(${2// /|})\$/!d" ;;
	*) [[ -z $2 ]] || echo "/:(${2// /|})\$/d" ;;
	esac
}

# prepare_run NAME@LINE: all that the boots need, in the folder of each guest.
prepare_run() {
	local scenario=${1%@*} line=${1#*@} dir guest expect module='' tests=$OUT/build/kselftest
	local packages=() modules=() folders=()
	dir=$OUT/$(run_name "$1")
	mapfile -t folders < <(guests "$1")
	! is_upstream "$scenario" || tests=$OUT/build/upstream/install
	prepare_kernel "$1"
	read -ra modules <<<"$(setting "$scenario" modules)"
	K_MODULES+=(${modules[@]+"${modules[@]}"})
	read -ra packages <<<"$(setting "$scenario" packages)"
	DEBIAN_ROOT=
	((${#packages[@]} == 0)) || debian_root "${packages[@]}"
	if [[ $line != *patched ]]; then
		step "building the module for $K_REL" "$dir/module.log" build_scenario_module
		module=$OUT/build/$K_ID/nsproxy_defer.ko
	fi
	for guest in "${folders[@]}"; do
		if is_lives "$scenario"; then
			systemd_root
			systemd_drivers "$line"
			prepare_lives "$guest" "$module"
		else
			step "making the guest's root file system" "$guest/guest.log" \
				stage_check "$guest/root" "$guest/initrd.cpio" "$tests" "$module" \
				"$DEBIAN_ROOT" "$(programs_of "$guest" "$(setting "$scenario" apart)")"
			ln -s "$K_IMAGE" "$guest/image"
			cp "$K_CONFIG" "$guest/config"
		fi
		if [[ -n $TREE ]]; then
			tree_expect "$scenario" "$line" >"$guest/expect"
		else
			for expect in "$SCENARIO_DIR"/{"$scenario/expect","$line-expect","$ARCH-expect"}; do
				[[ ! -e $expect ]] || cat "$expect"
			done >"$guest/expect"
		fi
	done
}

# A run that got nowhere is red too, with the reason that it gave.
give_up() {
	local dir=$1 reason
	reason=$(sed -n 's/^nsproxy_defer: //p' "$dir/error" | tail -n 1)
	printf 'red\ntests: 0 passed, 0 failed, 0 skipped\nbuild: %s\n' \
		"${reason:-it ended without a reason; see $dir}" >"$dir/verdict"
}

# attempt FUNCTION NAME@LINE: RC says how it went; what went wrong makes the run red.
attempt() {
	local dir
	dir=$OUT/$(run_name "$2")
	# The subshell has its own errexit, which an if or || would lift.
	set +e
	(trap 'stop_below "$BASHPID"' EXIT; set -e; "$@") 2>"$dir/error"
	RC=$?
	set -e
	if ((RC != 0)); then
		cat "$dir/error" >&2
		give_up "$dir"
	fi
}

# run NAME@LINE GUEST: boot what prepare_run left there, and grade it.
run() {
	local scenario=${1%@*} dir=$2 cpus job arg
	read -r job arg <<<"$(setting "$scenario" job)"
	[[ -n $job || $1 != *@unpatched ]] || job="wait"
	cpus=$(setting "$scenario" cpus)
	{
		note "booting with $cpus CPU$( ((cpus == 1)) || echo s)"
		if is_lives "$scenario"; then
			# shellcheck disable=SC2046 # the arguments are words
			boot_lives "$dir" "$cpus" $(setting "$scenario" args)
			collect_lives "$dir"
		else
			# shellcheck disable=SC2046 # the arguments are words
			boot "$dir" "$dir/image" "$dir/initrd.cpio" "$cpus" \
				"$(setting "$scenario" memory)" "$(setting "$scenario" limit)" progress \
				nsd.job="${job:-check}" ${arg:+"nsd.arg=$arg"} $(setting "$scenario" args)
		fi
		# What a patched tree is held to is the tree without the patches.
		[[ ! ($job == upstream && $1 == *@patched && -e ${dir%-patched}-unpatched/results.ktap) ]] ||
			cp "${dir%-patched}-unpatched/results.ktap" "$dir/stock.ktap"
		"$QEMU_DIR/verdict.sh" "$dir" || true
	} 2>&1 | sed -u "s|^ *|  [${dir#"$OUT"/}] |"
	rm -f "$dir/initrd.cpio" "$dir/image"
}

# As many guests at a time as there are processors for them. A guest of one
# thread is idle for a third of its time, waiting for grace periods, so that
# there is room for three of these on two processors.
wait_for_slot() {
	local slots=$((JOBS * 3 / 2))
	[[ $(accelerator) == *thread=single ]] || slots=$(((JOBS + 1) / 2))
	wait_below "$slots"
}

# build_collection TREE FOLDER: with kselftest from TREE.
build_collection() {
	rm -rf "$2"
	make --no-print-directory -C "$TOP/selftests" -j"$JOBS" KSRC="$1" OUTPUT="$2.obj" \
		INSTALL_PATH="$2" install
}

# The collections of upstream that are about namespaces and mounts, and that
# build with what Debian has as a static library.
UPSTREAM_LINE=7.2
UPSTREAM=(clone3 core filesystems filesystems/empty_mntns filesystems/fscontext_ns
	filesystems/fsmount_ns filesystems/mount-notify filesystems/move_mount filesystems/nsfs
	filesystems/open_tree_ns filesystems/overlayfs filesystems/statmount ipc mount
	mount_setattr namespaces pid_namespace pidfd proc timens tmpfs)

# Some of their Makefiles link by rules of their own, hence -static in CC.
build_upstream() {
	local build=$OUT/build/upstream
	rm -rf "$build/install"
	mkdir -p "$build"
	make -C "$1" O="$build" -j"$JOBS" headers
	make -C "$1/tools/testing/selftests" O="$build" -j"$JOBS" FORCE_TARGETS=1 \
		TARGETS="${UPSTREAM[*]}" KSFT_INSTALL_PATH="$build/install" \
		CC="$GUEST_CC -static -s" install
	# These two take long, and are about nothing of this.
	sed -i '/:file_stressor$/d;/:proc-maps-race$/d' "$build/install/kselftest-list.txt"
}

prepare_collections() {
	local run ours='' theirs=''
	for run in "$@"; do
		if is_upstream "${run%@*}"; then theirs=yes; else is_lives "${run%@*}" || ours=yes; fi
	done
	if [[ -n $ours ]]; then
		lock_cache fetch
		source_tree 6.1
		unlock_cache
		step "building the collection" "$OUT/build/selftests.log" \
			build_collection "$SOURCE" "$OUT/build/kselftest"
	fi
	if [[ -n $theirs ]]; then
		need_packages libcap-dev
		lock_cache fetch
		source_tree "$UPSTREAM_LINE"
		unlock_cache
		step "building upstream's tests of $UPSTREAM_LINE" "$OUT/build/upstream.log" build_upstream "$SOURCE"
	fi
}

# The proofs, and the tests of what runs here, need no guest, and run beside them.
PROOFS=()
prove() {
	local name=$1
	shift
	PROOFS+=("$name")
	wait_for_slot
	note "  [$name]"
	env ARCH=x86 "$@" >"$OUT/$name.log" 2>&1 &
}

# run_proofs quick|all
run_proofs() {
	prove litmus KERNEL=6.1 "$QEMU_DIR/litmus.sh"
	prove harness KERNEL=6.1 "$QEMU_DIR/harness-test.sh"
	if [[ $1 == all ]]; then
		prove litmus-7.2 KERNEL=7.2 "$QEMU_DIR/litmus.sh"
		prove model "$QEMU_DIR/model.sh"
		# No proof, but a run of this very script, with a last line as theirs.
		prove arm64 ARCH=arm64 KERNEL="6.1 6.12" SCENARIOS="STOCK-RT STOCK SMP@6.12 SMP1@6.12 DEBUG@6.12 LIVES@6.12" "$QEMU_DIR/check.sh"
	else
		prove model "$QEMU_DIR/model.sh" --quick
	fi
}

# What a proof came to: passed, failed, skipped, and what failed first. Where it
# came to no end, that failed.
judge_proof() {
	local counts
	counts=$(sed -nE '$s/^([0-9]+) passed, ([0-9]+) failed, ([0-9]+) skipped$/\1 \2 \3/p' "$OUT/$1.log")
	printf '%s %s\n' "${counts:-0 1 0}" "$(grep -m 1 -E 'FAILED: |^nsproxy_defer: ' "$OUT/$1.log" | tr -s ' ')"
}

# table RUN...: and the last line. Every test counts, and every verdict.
table() {
	local name dir verdict passed failed skipped reason P=0 F=0 S=0
	printf '\n%-16s %-8s %7s %7s %8s  %s\n' run verdict passed failed skipped reason
	for name in "$@"; do
		dir=$OUT/$name
		verdict=$(sed -n 1p "$dir/verdict")
		read -r passed failed skipped < <(sed -nE '2s/[^0-9]+/ /gp' "$dir/verdict")
		printf '%-16s %-8s %7d %7d %8d  %s\n' "$name" "$verdict" "$passed" "$failed" "$skipped" \
			"$(sed -n '3s/\(.\{100\}\).*/\1/;3p' "$dir/verdict")"
		[[ -z $TREE ]] || tree_record "$name" "$verdict: $passed passed, $failed failed, $skipped skipped"
		P=$((P + passed)) F=$((F + failed)) S=$((S + skipped))
		if [[ $verdict == green ]]; then P=$((P + 1)); else F=$((F + 1)); fi
	done
	for name in ${PROOFS[@]+"${PROOFS[@]}"}; do
		read -r passed failed skipped reason < <(judge_proof "$name")
		printf '%-16s %-8s %7d %7d %8d  %s\n' "$name" "$( ((failed)) && echo red || echo green)" \
			"$passed" "$failed" "$skipped" "${reason:0:100}"
		P=$((P + passed)) F=$((F + failed)) S=$((S + skipped))
	done
	if ((CONTROLS_RUN)); then
		printf '%-16s %-8s %7d %7d %8d  %s\n' controls \
			"$( ((CONTROLS_FAILED)) && echo red || echo green)" \
			$((CONTROLS_RUN - CONTROLS_FAILED)) "$CONTROLS_FAILED" 0 ""
		P=$((P + CONTROLS_RUN - CONTROLS_FAILED)) F=$((F + CONTROLS_FAILED))
	fi
	if [[ -n $PACKAGES ]]; then
		passed=$(cat "$TOP"/out/packages/*/results 2>/dev/null | grep -c '^ok') || true
		failed=$(cat "$TOP"/out/packages/*/results 2>/dev/null | grep -c '^not ok') || true
		printf '%-16s %-8s %7d %7d %8d  %s\n' packages "$PACKAGES" "$passed" "$failed" 0 ""
		P=$((P + passed)) F=$((F + failed))
		if [[ $PACKAGES == green ]]; then P=$((P + 1)); else F=$((F + 1)); fi
	fi
	if (($#)) && "$QEMU_DIR/matrix.sh" "${@/#/$OUT/}" >"$OUT/matrix.rst" 2>/dev/null; then
		printf '\nWhich row of the promise held in which mode: %s/matrix.rst\n' "${OUT#"$TOP"/}"
	fi
	printf '\nEach run: %s/NAME/, to be graded again with qemu/verdict.sh. This took %d min %02d s.\n' \
		"${OUT#"$TOP"/}" $((SECONDS / 60)) $((SECONDS % 60))
	printf '%d passed, %d failed, %d skipped\n' "$P" "$F" "$S"
	((F == 0))
}

main() {
	local runs=() names=() ready=() folders=() run name line guest which=quick
	case ${1:-} in
	"") ;;
	--all) which=all ;;
	--controls) which=all ;;
	*) die "check.sh takes --all or --controls, not \"$1\"" ;;
	esac
	if [[ ${1:-} != --controls ]]; then
		# Debug kernels are built of one line.
		[[ $KERNEL == 6.1 ]] || DEFAULT=(STOCK-RT STOCK SMP UP)
		if [[ $ARCH != x86 ]]; then
			DEFAULT=(STOCK-RT STOCK)
			[[ $KERNEL != 6.12 ]] || DEFAULT+=(SMP SMP1)
		fi
		if [[ -n $TREE ]]; then
			choose_tree
			DEFAULT=(SMP "$( [[ $ARCH == x86 ]] && echo UP || echo SMP1)")
			KERNEL=$(tree_kinds)
		fi
		for run in ${SCENARIOS:-${DEFAULT[*]}}; do
			case $run in
			*@*) runs+=("$run") ;;
			*) for line in $KERNEL; do runs+=("$run@$line"); done ;;
			esac
		done
		# What was picked by name is wanted alone, without the controls,
		# and a tree's control is what it does unpatched.
		[[ -z ${SCENARIOS:-}$TREE ]] || which=
		if [[ ${1:-} == --all && -z ${SCENARIOS:-}$TREE ]]; then
			runs+=(SMP@6.1 SMP1@6.1 CLIENTS@6.1 LIVES@6.1 KCSAN@6.1 PREEMPT@6.1 NOTRACER@6.1)
			for line in 5.10 6.12; do
				runs+=("LIVES@$line" "STOCK@$line" "STOCK-RT@$line" "SMP@$line" "UP@$line")
			done
			runs+=(SMP@7.2 UP@7.2 UPSTREAM-STOCK@6.1 UPSTREAM@7.2 STOCK@7.3 STOCK-RT@7.3)
		fi
		check_request "${runs[@]}"
	fi
	need_root "make check"
	trap 'stop_guests "$OUT"' EXIT
	need_packages "${RUN_PACKAGES[@]}" "${BUILD_PACKAGES[@]}" "${PROOF_PACKAGES[@]}"
	mkdir -p "$OUT/build"
	prepare_collections ${runs[@]+"${runs[@]}"}
	for run in ${runs[@]+"${runs[@]}"}; do
		name=$(run_name "$run")
		names+=("$name")
		rm -rf "${OUT:?}/$name"
		mkdir -p "$OUT/$name"
		note "preparing the kernel of $name"
		attempt prepare_kernel "$run"
		((RC)) || ready+=("$run")
	done
	# Guests run while the next one is prepared, which takes seconds, but not
	# while kernels are built.
	for run in ${ready[@]+"${ready[@]}"}; do
		note "preparing $(run_name "$run")"
		attempt prepare_run "$run"
		((RC == 0)) || continue
		mapfile -t folders < <(guests "$run")
		for guest in "${folders[@]}"; do
			wait_for_slot
			[[ $run != *@patched ]] || ! is_upstream "${run%@*}" || wait
			run "$run" "$guest" &
		done
	done
	if [[ -n $which ]]; then
		((${#runs[@]} == 0)) || run_proofs "$which"
		prepare_controls "$which"
		run_controls "$which"
	fi
	wait
	for name in ${names[@]+"${names[@]}"}; do
		[[ ! -d $OUT/$name/1 || -e $OUT/$name/verdict ]] ||
			"$QEMU_DIR/verdict.sh" "$OUT/$name" >/dev/null || true
		[[ -e $OUT/$name/verdict ]] || give_up "$OUT/$name"
	done
	[[ -z $which ]] || judge_controls "$which"
	if [[ ${1:-} == --all && -z ${SCENARIOS:-}$TREE ]]; then
		PACKAGES=green
		"$QEMU_DIR/packages.sh" --check || PACKAGES=red
	fi
	table ${names[@]+"${names[@]}"}
}

# shellcheck source=qemu/controls/controls.sh
source "$QEMU_DIR/controls/controls.sh"

main "$@"
