/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef NSD_HOOK_H
#define NSD_HOOK_H

#include <linux/types.h>

#include "compat/compat.h"

/**
 * struct nsd_hook - a kernel function that the module takes over
 * @names: what it is called, in the kernels that have it; NULL ends the list
 * @replacement: what runs in its place; same signature
 * @wanted: decides for one call, from its arguments, whether the replacement
 *	runs; NULL means always. Called from ftrace, so it must not sleep.
 * @set_original: told the address by which the replacement reaches the original; NULL
 *	if it does not
 * @optional: a kernel without this function is no reason to refuse
 * @unless: a kernel with this symbol does by itself what the replacement is for, and
 *	the function is left alone
 * @address: where the function is, or 0
 */
struct nsd_hook {
	const char * const *names;
	void *replacement;
	bool (*wanted)(struct nsd_ftrace_regs *fregs);
	void (*set_original)(unsigned long address);
	bool optional;
	const char *unless;
	unsigned long address;
};

int nsd_hooks_init(void);
void nsd_hooks_exit(void);
int nsd_hooks_resolve(void);
int nsd_hooks_take(void);
void nsd_hooks_quiesce(void);
void nsd_hooks_give_back(void);

#endif /* NSD_HOOK_H */
