#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# checkpatch --strict, shellcheck, the manual pages, the module with W=1 and sparse,
# and whether the series in patches/ are in order.
# STEPS=/path/to/linux compiles that tree after each patch of the series that fits it.

# shellcheck source=qemu/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=qemu/kernel.sh
source "$QEMU_DIR/kernel.sh"
# shellcheck source=qemu/tree.sh
source "$QEMU_DIR/tree.sh"
# shellcheck source=qemu/lint-series.sh
source "$QEMU_DIR/lint-series.sh"

OUT=$TOP/out/lint
FAILED=0

# check WHAT COMMAND...: keep its output, and show it when the check fails.
check() {
	local what=$1 log=$OUT/$1.log
	shift
	if "$@" >"$log" 2>&1; then
		note "ok      $what"
	else
		FAILED=1
		note "FAILED  $what; $log says:"
		grep -vE '^(make|total:|NOTE:|$)' "$log" | head -n 30 || true
	fi
}

sources() { git -C "$TOP" ls-files --cached --others --exclude-standard -- "$@"; }

# style IGNORE FILE...: checkpatch without the types in IGNORE.
style() {
	local ignore=FILE_PATH_CHANGES,$1
	shift
	# It leaves a file of its own in the current folder.
	(cd "$OUT" && printf '%s\n' "${@/#/$TOP/}" | xargs -P "$JOBS" -n 4 \
		perl "$SOURCE/scripts/checkpatch.pl" --no-tree --root="$SOURCE" --strict --terse \
		--show-types --ignore "$ignore" -f | sed "s|^$TOP/||")
}

# Kernel code meets every check. Tracepoints and macros that define things are
# laid out as they are all over the kernel, which is not what checkpatch asks
# for. Programs for the guests have no kernel headers to take __printf() from,
# flags that a signal handler sets, the names of ELF, and macros in the manner of kselftest's, after
# some of which an else needs braces.
TRACE_STYLE=OPEN_ENDED_LINE,PARENTHESIS_ALIGNMENT
MACRO_STYLE=COMPLEX_MACRO,MACRO_ARG_REUSE,MACRO_ARG_PRECEDENCE,SPACING
USER_STYLE=PREFER_DEFINED_ATTRIBUTE_MACRO,VOLATILE,COMPLEX_MACRO,MACRO_WITH_FLOW_CONTROL
USER_STYLE=$USER_STYLE,ENOSYS,NAKED_SSCANF,BRACES,CAMELCASE,SPACING,MULTISTATEMENT_MACRO_USE_DO_WHILE,MACRO_ARG_REUSE

c_style() {
	local kernel user result=0
	mapfile -t kernel < <(sources 'module/*.c' 'module/*.h' 'qemu/controls/*.c' |
		grep -vE '^module/(include/trace|compat/(compat|kcall|quiesce)|umount_walkers\.h)')
	mapfile -t user < <(sources 'qemu/*.c' 'selftests/*.c' 'selftests/*.h' | grep -v '^qemu/controls/')
	style , "${kernel[@]}" || result=1
	style "$TRACE_STYLE" module/include/trace/events/nsproxy_defer.h || result=1
	style "$MACRO_STYLE" module/compat/kcall.h || result=1
	style MACRO_ARG_REUSE module/compat/compat.h || result=1
	# On 3.x synchronize_sched() is not the same as synchronize_rcu().
	style DEPRECATED_API module/compat/quiesce.c || result=1
	# When something is freed can be told by the version alone.
	style LINUX_VERSION_CODE module/umount_walkers.h || result=1
	style "$USER_STYLE" "${user[@]}" || result=1
	return "$result"
}

shell_style() {
	sources qemu selftests patches tools debian Documentation .ci | (cd "$TOP" &&
		xargs grep -lE -m 1 '^#!.*(bash|sh)$|^# shellcheck shell' |
		xargs -P "$JOBS" -n 4 shellcheck -x)
}

# DKMS reads what is set there, and sets what is asked for.
dkms_style() { shellcheck -s bash -e SC2034 -e SC2154 "$TOP/dkms.conf"; }

# The version stands where each of its readers looks for it.
versions() {
	local found
	found=$(cd "$TOP" && {
		sed -n 's/^MODULE_VERSION("\(.*\)");/\1/p' module/main.c
		sed -n 's/^PACKAGE_VERSION="\(.*\)"/\1/p' dkms.conf
		sed -n '1s/.*(\(.*\)).*/\1/p' debian/changelog
		sed -n 's/^## \([0-9.]*\).*/\1/p' CHANGELOG.md | head -n 1
	})
	echo "module/main.c, dkms.conf, debian/changelog and CHANGELOG.md say:" "$found"
	[[ $(wc -l <<<"$found") == 4 && $(uniq <<<"$found" | wc -l) == 1 ]]
}

ci_jobs() { yamllint -d '{extends: relaxed, rules: {line-length: {max: 100}}}' "$TOP"/Documentation/ci/*.yml; }

# What a page refers to may be in a package that is not installed here.
manual_pages() {
	[[ -z $(sources 'Documentation/man/*' | (cd "$TOP" && xargs mandoc -Tlint 2>&1) |
		grep -vE 'referenced manual not found|outdated mandoc.db' | tee /dev/stderr) ]]
}

# A warning is a failure: out of tree make does not stop for one.
module_build() {
	local folder=$CACHE/build/lint log
	# CC= is for the tree then.
	[[ -z ${STEPS:-} ]] || local CC=gcc
	rm -rf "$folder"
	log=$(build_module "$K_DIR" "$folder" "$@" CONFIG_DEBUG_INFO_BTF_MODULES= 2>&1) || {
		printf '%s\n' "$log"
		return 1
	}
	! grep -E 'warning:|error:' <<<"$log"
}

# The module is refused where a count of one is not exact: right sources are let through,
# and the same with either of the two fixes taken out are not.
exact_counts() {
	local file=$SOURCE/fs/namespace.c order=(awk -f "$TOP/module/compat/mntput-order.awk")
	[[ -z $("${order[@]}" "$file") ]] || return 1
	sed '/^static void mntput_no_expire(/,/^}/s/rcu_read_lock();/&\n\tmnt_add_count(mnt, -1);/' "$file" |
		"${order[@]}" | grep 9ea0a46ca2c3 || return 1
	sed '/__legitimize_mnt(/,/^}/s/MNT_DOOMED/0/' "$file" | "${order[@]}" | grep 119e1ef80ecf
}

# A wrong one is told at once.
[[ -z ${STEPS:-} || -r $STEPS/Makefile ]] || die "STEPS=$STEPS is no kernel source tree"
trap 'stop_below "$BASHPID"' EXIT
need_packages "${RUN_PACKAGES[@]}" "${LINT_PACKAGES[@]}" git
lock_cache fetch
source_tree 6.1
stock_kernel 6.1 cloud
unlock_cache
mkdir -p "$OUT"
check checkpatch c_style
check shellcheck shell_style
check "manual pages" manual_pages
check dkms.conf dkms_style
check "jobs for CI" ci_jobs
check "the version" versions
check W=1 module_build W=1
check "which kernels are refused" exact_counts
# Locks that one function takes and another gives back, if there is anything to lock,
# are beyond what sparse follows.
check sparse module_build C=2 "CF=-D__CHECK_ENDIAN__ -Wno-context"
lint_series
[[ -z ${STEPS:-} ]] || lint_steps "$STEPS"
((FAILED == 0)) || die "lint found something; see above"
