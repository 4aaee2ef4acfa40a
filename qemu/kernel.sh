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

# configure OBJ NAME: the .config of a built kernel, and does it hold? What a
# tree is too old to know is not asked of it, but for what the scenario is there for.
configure() {
	local obj=$1 name=$2 kind wanted option
	make -C "$SOURCE" O="$obj" "${MAKE_ARGS[@]}" KCONFIG_ALLCONFIG="$obj/fragments" allnoconfig
	while read -r kind wanted; do
		grep -qxF -- "$wanted" "$obj/.config" && continue
		option=$(grep -oE 'CONFIG_[A-Z0-9_]+' <<<"$wanted")
		[[ -n $TREE && $kind == CHECK ]] && ! knows_option "${option#CONFIG_}" && continue
		echo "the final .config lacks: $wanted (scenario $name)"
		return 1
	done < <(sed -nE 's/^#(CHECK|NEEDS)#/\1/p' "$obj/fragments")
}

knows_option() { grep -rqE --include='Kconfig*' "^[[:space:]]*(menu)?config $1\$" "$SOURCE"; }

# fragments NAME FILE...: what the scenario's kernel is configured by. What ftrace has for
# whoever takes a function over is another thing on arm64 since 6.2.
fragments() {
	local ftrace=WITH_REGS
	grep -qs HAVE_DYNAMIC_FTRACE_WITH_REGS "$SOURCE/arch/$ARCH/Kconfig" || ftrace=WITH_ARGS
	cat "$SCENARIO_DIR/base" "$SCENARIO_DIR/base-$ARCH" "$TOP/selftests/nsproxy/config" "${@:2}" \
		"$SCENARIO_DIR/$1/fragment" |
		sed "s/FTRACE_WITH_REGS/FTRACE_$ftrace/"
}

# compile OBJ TARGET...: in depend mode ccache preprocesses nothing by itself, which takes a
# third of a build.
compile() {
	local obj=$1
	shift
	CCACHE_DIR=$CACHE/ccache CCACHE_MAXSIZE=5G CCACHE_BASEDIR=$CACHE CCACHE_DEPEND=1 \
		KBUILD_BUILD_TIMESTAMP=@0 KBUILD_BUILD_USER=check KBUILD_BUILD_HOST=check \
		make -C "$SOURCE" O="$obj" -j"$JOBS" "${MAKE_ARGS[@]}" CC="ccache $K_CC" "$@"
}

# built_kernel NAME LINE: build it if its sources or its fragments are others
# than last time, and set what stock_kernel sets, the compiler K_CC, and what
# else make must be told, MAKE_ARGS. Of a tree, LINE says whether to patch it.
built_kernel() {
	local name=$1 line=$2 obj what stamp own=()
	K_CC=$GUEST_CC
	MAKE_ARGS=()
	if [[ -n $TREE ]]; then
		lock_cache "$(tree_id "$line")"
		tree_source "$line"
		what="$T_NAME, $line"
		K_ID=$(tree_id "$line")-$name$SUFFIX
		obj=$(tree_cache "$line")/$name$SUFFIX
		# Trees of RHEL do not build without more, or with what they leave out.
		own=("$SCENARIO_DIR/tree")
		[[ ! -e $SOURCE/Makefile.rhelver || ! -e $SCENARIO_DIR/rhel-$T_LINE ]] || own+=("$SCENARIO_DIR/rhel-$T_LINE")
	else
		lock_cache fetch
		source_tree "$line"
		unlock_cache
		what=linux-source-$line
		K_ID=$line-$name
		obj=$CACHE/obj/$K_ID$SUFFIX
		lock_cache "$K_ID$SUFFIX"
	fi
	command -v "${K_CC%% *}" >/dev/null || die "no compiler ${K_CC%% *} here; CC= names another"
	mkdir -p "$obj"
	fragments "$name" "${own[@]}" >"$obj/fragments"
	stamp=$(cat "$obj/fragments" "$SOURCE/Makefile" ${TREE:+"$SOURCE.stamp"} \
		<($K_CC --version) ${TREE:+<(echo "$K_CC ${MAKE_ARGS[*]}")} | cksum)
	if [[ ! -e $obj/stamp || $(<"$obj/stamp") != "$stamp" ]]; then
		rm -f "$obj/stamp"
		need_space 3000
		step "configuring $name from $what" "$CACHE/log/config-$K_ID.log" configure "$obj" "$name"
		step "building the kernel $name from $what" "$CACHE/log/build-$K_ID.log" \
			compile "$obj" "${KERNEL_IMAGE##*/}" modules
		printf '%s\n' "$stamp" >"$obj/stamp"
	fi
	unlock_cache
	K_REL=$(<"$obj/include/config/kernel.release")
	K_ROOT=$obj
	K_IMAGE=$obj/$KERNEL_IMAGE
	K_CONFIG=$obj/.config
	K_DIR=$obj
	K_MODULES=()
}
