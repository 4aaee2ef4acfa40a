# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Kernels that are built here: allnoconfig and the fragments of a scenario.
# Sourced after lib.sh.

# What is set here is used there.
# shellcheck disable=SC2034

SCENARIO_DIR=$QEMU_DIR/scenarios

# setting NAME KEY: what the scenario's boot file says.
setting() { sed -n "s/^$2 //p" "$SCENARIO_DIR/$1/boot"; }

# configure OBJ NAME: the .config of a built kernel, and does it hold?
configure() {
	local obj=$1 name=$2 wanted
	make -C "$SOURCE" O="$obj" KCONFIG_ALLCONFIG="$obj/fragments" allnoconfig
	while read -r wanted; do
		grep -qxF -- "$wanted" "$obj/.config" || {
			echo "the final .config lacks: $wanted (scenario $name)"
			return 1
		}
	done < <(sed -n 's/^#CHECK# //p' "$obj/fragments")
}

compile() {
	local obj=$1
	CCACHE_DIR=$CACHE/ccache CCACHE_MAXSIZE=5G CCACHE_BASEDIR=$CACHE \
		KBUILD_BUILD_TIMESTAMP=@0 KBUILD_BUILD_USER=check KBUILD_BUILD_HOST=check \
		make -C "$SOURCE" O="$obj" -j"$JOBS" CC="ccache ${CC:-gcc}" bzImage modules
}

# built_kernel NAME LINE: build it if its sources or its fragments are others
# than last time, and set what stock_kernel sets.
built_kernel() {
	local name=$1 line=$2 obj what stamp
	if [[ -n $TREE ]]; then
		SOURCE=$(cd "$TREE" && pwd)
		what=$SOURCE
		K_ID=tree-$(cksum <<<"$SOURCE" | cut -d' ' -f1)-$name
	else
		lock_cache fetch
		source_tree "$line"
		unlock_cache
		what=linux-source-$line
		K_ID=$line-$name
	fi
	obj=$CACHE/obj/$K_ID
	mkdir -p "$obj"
	lock_cache "$K_ID"
	cat "$SCENARIO_DIR/base" "$TOP/selftests/nsproxy/config" \
		"$SCENARIO_DIR/$name/fragment" >"$obj/fragments"
	stamp=$(cat "$obj/fragments" "$SOURCE/Makefile" <("${CC:-gcc}" --version) | cksum)
	if [[ ! -e $obj/stamp || $(<"$obj/stamp") != "$stamp" || -n $TREE ]]; then
		rm -f "$obj/stamp"
		need_space 3000
		step "configuring $name from $what" "$CACHE/log/config-$K_ID.log" configure "$obj" "$name"
		step "building the kernel $name from $what" "$CACHE/log/build-$K_ID.log" compile "$obj"
		printf '%s\n' "$stamp" >"$obj/stamp"
	fi
	unlock_cache
	K_REL=$(<"$obj/include/config/kernel.release")
	K_ROOT=$obj
	K_IMAGE=$obj/arch/x86/boot/bzImage
	K_CONFIG=$obj/.config
	K_DIR=$obj
	K_MODULES=()
}
