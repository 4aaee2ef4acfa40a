# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-only
#
# source flags.sh TREE CC: what else make must be told to build TREE with the
# compiler CC, one argument a line. Most is for trees before 4.6, which have no
# objtool.
#
# It is CC, not KCFLAGS, that has the options which change what the compiler
# can do. The tree asks it "can you -mfentry?" without KCFLAGS, and a compiler
# that makes position independent code by default says no, to that and to all
# else, since it is asked with -mcmodel=kernel. The ftrace call would then come
# after a function's prologue, where the module cannot use it. Upstream has
# -fno-PIE in the Makefile since 4.9 (8ae94224c9d7 and c6a385539175).
#
# Stack protector and CET are on by default in some distributions. The host's
# programs define variables in headers, as dtc does up to e33a814e772c (5.6).
# And what a compiler of today finds to warn of in them is nobody's concern.
[[ -d $1/tools/objtool ]] || printf '%s\n' \
	"CC=$2 -fno-pie -fcf-protection=none -fno-stack-protector" \
	"HOSTCFLAGS=-O2 -fcommon -w" "KCFLAGS=-w"
# RHEL 8 has -Werror, but for who says so.
! grep -q DISABLE_WERROR "$1/Makefile" || echo DISABLE_WERROR=1
