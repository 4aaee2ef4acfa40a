# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-only
#
# The negative controls of check.sh: see the file "list". Sourced by it.

CONTROLS_RUN=0
CONTROLS_FAILED=0
# So that what the kernel finds by waiting is found before the limit.
CONTROL_ARGS=(sysctl.kernel.hung_task_timeout_secs=4 sysctl.kernel.watchdog_thresh=3)

build_control() {
	local folder=$1
	mkdir -p "$folder"
	cp -p "$QEMU_DIR/controls/Kbuild" "$QEMU_DIR/controls/nsd_control.c" "$folder/"
	make -C "$K_DIR" M="$folder" CC="${CC:-gcc}" W=1 modules
	guest_cc "$folder/control" "$QEMU_DIR/controls/control.c"
}

stage_control() {
	local root=$1 folder=$2
	stage_guest "$root"
	cp "$folder/control" "$root/bin/control"
	cp "$folder/nsd_control.ko" "$root/"
	pack_guest "$root" "$folder/initrd.cpio"
	rm -rf "$root"
}

quiet() { :; }

# run_control NAME SCENARIO LIMIT: leaves OUT/controls/NAME behind.
run_control() {
	local name=$1 scenario=$2 limit=$3 dir=$OUT/controls/$1
	rm -rf "$dir"
	mkdir -p "$dir"
	cp "$K_CONFIG" "$dir/config"
	cp "$SCENARIO_DIR/$scenario/expect" "$dir/expect"
	boot "$dir" "$K_IMAGE" "$OUT/build/control-$K_ID/initrd.cpio" 1 \
		"$(setting "$scenario" memory)" "$limit" quiet \
		nsd.job=control "nsd.arg=$name" "${CONTROL_ARGS[@]}" >"$dir/boot.log" 2>&1
	"$QEMU_DIR/verdict.sh" "$dir" >/dev/null || true
}

# judge_control NAME KINDS REASON: was it red, for the right reason and for no
# other? Says what is wrong, or nothing.
judge_control() {
	local verdict=$OUT/controls/$1/verdict kinds=${2//,/|} reason=$3 other
	[[ -r $verdict ]] || {
		echo "it did not run; see $OUT/controls/$1"
		return
	}
	grep -qE -- "$reason" "$verdict" || {
		echo "the verdict ($(head -n 1 "$verdict")) does not say: $reason"
		return
	}
	other=$(sed 1,2d "$verdict" | grep -vE "^($kinds): " | head -n 1 || true)
	[[ -z $other ]] || echo "red, but for another reason as well: $other"
}

# run_controls quick|all: those for Debian's kernel, or all of them.
run_controls() {
	local which=$1 scenario names name from limit kinds reason wrong
	for scenario in STOCK DEBUG; do
		[[ $scenario == STOCK || $which == all ]] || continue
		note "controls on $scenario:"
		prepare_kernel "$scenario" 6.1
		mkdir -p "$OUT/controls"
		step "building the controls" "$OUT/controls/build-$scenario.log" \
			build_control "$OUT/build/control-$K_ID"
		step "making their root file system" "$OUT/controls/guest-$scenario.log" \
			stage_control "$OUT/controls/root" "$OUT/build/control-$K_ID"
		names=()
		while read -r name from limit kinds reason; do
			[[ $name != \#* && -n $name && $from == "$scenario" ]] || continue
			# One CPU each, so as many at a time as there are here.
			while (($(jobs -rp | wc -l) >= JOBS)); do wait -n || true; done
			note "  $name"
			run_control "$name" "$scenario" "$limit" &
			names+=("$name")
		done <"$QEMU_DIR/controls/list"
		note "  waiting for the last of them"
		wait
		while read -r name from limit kinds reason; do
			[[ $name != \#* && -n $name && $from == "$scenario" ]] || continue
			wrong=$(judge_control "$name" "$kinds" "$reason")
			CONTROLS_RUN=$((CONTROLS_RUN + 1))
			if [[ -n $wrong ]]; then
				CONTROLS_FAILED=$((CONTROLS_FAILED + 1))
				note "  not ok: $name: $wrong"
			else
				note "  ok: $name: $(head -n 1 "$OUT/controls/$name/verdict")"
			fi
		done <"$QEMU_DIR/controls/list"
	done
}
