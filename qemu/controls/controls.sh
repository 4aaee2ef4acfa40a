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
	make -C "$K_DIR" M="$folder" CC="$GUEST_CC" CONFIG_DEBUG_INFO_BTF_MODULES= W=1 modules
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
	cp "$OUT/controls/$scenario/config" "$dir/config"
	cp "$SCENARIO_DIR/$scenario/expect" "$dir/expect"
	# init's own limit well before the one from outside, on a slow day too:
	# which of the two it was that ended the guest is what is looked at.
	boot "$dir" "$OUT/controls/$scenario/image" "$OUT/controls/$scenario/initrd.cpio" 1 \
		512 "$limit" quiet \
		nsd.job=control "nsd.limit=$((limit * SLOWER / 2))" "nsd.arg=$name" "${CONTROL_ARGS[@]}" >"$dir/boot.log" 2>&1
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
	other=$(sed 1,2d "$verdict" | grep -vE "^($kinds|note): " | head -n 1 || true)
	[[ -z $other ]] || echo "red, but for another reason as well: $other"
}

# listed quick|all: the controls to run, without the comments. The quick ones
# are those that Debian's kernel is enough for.
listed() {
	awk -v which="$1" '!/^#/ && NF && (which == "all" || $2 == "STOCK")' "$QEMU_DIR/controls/list"
}

prepare_controls() {
	local scenario
	for scenario in $(listed "$1" | awk '!seen[$2]++ { print $2 }'); do
		note "preparing the controls on $scenario"
		prepare_kernel "$scenario@$DEFAULT_LINE"
		mkdir -p "$OUT/controls/$scenario"
		step "building the controls" "$OUT/controls/$scenario/build.log" \
			build_control "$OUT/build/control-$K_ID"
		step "making their root file system" "$OUT/controls/$scenario/guest.log" \
			stage_control "$OUT/controls/root" "$OUT/build/control-$K_ID"
		ln -sfn "$OUT/build/control-$K_ID/initrd.cpio" "$OUT/controls/$scenario/initrd.cpio"
		ln -sfn "$K_IMAGE" "$OUT/controls/$scenario/image"
		cp "$K_CONFIG" "$OUT/controls/$scenario/config"
	done
}

run_controls() {
	local name scenario limit rest
	while read -r name scenario limit rest; do
		wait_for_slot
		note "  [controls] $name"
		run_control "$name" "$scenario" "$limit" &
	done < <(listed "$1")
}

judge_controls() {
	local name scenario limit kinds reason wrong
	note "controls"
	while read -r name scenario limit kinds reason; do
		wrong=$(judge_control "$name" "$kinds" "$reason")
		CONTROLS_RUN=$((CONTROLS_RUN + 1))
		if [[ -n $wrong ]]; then
			CONTROLS_FAILED=$((CONTROLS_FAILED + 1))
			note "  not ok $name: $wrong"
		else
			note "  ok $name: $(head -n 1 "$OUT/controls/$name/verdict")"
		fi
	done < <(listed "$1")
}
