// SPDX-License-Identifier: GPL-2.0-only
/*
 * The only doorway to symbols that the kernel does not export
 *
 * kallsyms_lookup_name() itself has not been exported since 5.7. A kprobe on a
 * function tells its address, and register_kprobe() is exported everywhere.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/errno.h>
#include <linux/kprobes.h>
#include <linux/printk.h>

#include "compat/kcall.h"
#include "symbols.h"

DEFINE_KCALL(nsd_lookup_name, unsigned long (const char *name));

/**
 * nsd_symbols_init - find the kernel's symbol table
 *
 * Context: process context, may sleep.
 * Return: 0; -EOPNOTSUPP if this kernel has no kprobes or no symbol table, and
 * the log says which.
 */
int nsd_symbols_init(void)
{
	/*
	 * Disabled, so that nothing is redirected for it. That would be done by
	 * ftrace, and where kernel.ftrace_enabled is 0 a kprobe that comes and
	 * goes leaves ftrace with a mark of it, at which it gives up later.
	 */
	struct kprobe probe = {
		.symbol_name = "kallsyms_lookup_name",
		.flags = KPROBE_FLAG_DISABLED,
	};
	int err;

	if (!IS_ENABLED(CONFIG_KPROBES) || !IS_ENABLED(CONFIG_KALLSYMS_ALL)) {
		pr_err("this kernel was built without %s, which finding its functions takes\n",
		       IS_ENABLED(CONFIG_KPROBES) ? "CONFIG_KALLSYMS_ALL" :
						    "CONFIG_KPROBES");
		return -EOPNOTSUPP;
	}
	err = register_kprobe(&probe);
	if (err) {
		pr_err("cannot find kallsyms_lookup_name by a kprobe: error %d\n", err);
		return err;
	}
	kcall_set(nsd_lookup_name, (unsigned long)probe.addr);
	unregister_kprobe(&probe);
	return 0;
}

/**
 * nsd_symbol - the address of a function or variable of the kernel
 * @name: its name
 *
 * Context: process context, after nsd_symbols_init().
 * Return: the address, or 0 if the kernel has no such symbol.
 */
unsigned long nsd_symbol(const char *name)
{
	return kcall(nsd_lookup_name)(name);
}

/**
 * nsd_symbols_need - the addresses of symbols that the module cannot do without
 * @names: what they are called
 * @found: where the addresses go
 * @nr: how many there are
 *
 * Context: process context, after nsd_symbols_init().
 * Return: 0; -ENOENT if the kernel lacks one, which the log names.
 */
int nsd_symbols_need(const char * const *names, unsigned long *found, int nr)
{
	int i;

	for (i = 0; i < nr; i++) {
		found[i] = nsd_symbol(names[i]);
		if (!found[i]) {
			pr_err("this kernel has no symbol %s\n", names[i]);
			return -ENOENT;
		}
	}
	return 0;
}
