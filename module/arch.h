/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef NSD_ARCH_H
#define NSD_ARCH_H

/*
 * What the module is told of an architecture. Another one takes
 *
 * - an ftrace that lets its callback change the instruction pointer, and what is below;
 * - calls to functions that expect none by pointer, where that is checked: compat/kcall.h;
 * - stores that reach all CPUs at once, unless struct mount counts gets and puts apart:
 *   see the top of mount.c. Power has these not.
 */
#if defined(CONFIG_X86_64)
/* The ftrace call is the first instruction, or the second after an ENDBR. */
#define NSD_ENTRY_BYTES	8
#elif defined(CONFIG_ARM64)
/* It is the second, after one that saves the link register, or the third after a BTI. */
#define NSD_ENTRY_BYTES	12
#else
#error "nsproxy_defer: the module is for x86-64 and arm64; this header says what another takes"
#endif

#endif /* NSD_ARCH_H */
