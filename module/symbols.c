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
#include <linux/pid_namespace.h>
#include <linux/printk.h>
#include <linux/string.h>
#include <linux/user_namespace.h>
#include <linux/utsname.h>

#include "compat/kcall.h"
#include "symbols.h"

DEFINE_KCALL(nsd_lookup_name, unsigned long (const char *name));

#ifdef NSD_SYSTEM_MAP
/*
 * Without CONFIG_KALLSYMS_ALL the kernel tells where its functions are, but not its
 * data. That is from its System.map then, when the module was built: system_map.awk.
 */
static const struct mapped {
	const char *name;
	unsigned long address;
} map[] = {
#include "system_map.h"
};

/* How far from there the kernel runs. */
static unsigned long slide;

static unsigned long find_in_map(const char *name)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(map); i++)
		if (!strcmp(map[i].name, name))
			return map[i].address + slide;
	return 0;
}

/* The map of another build would have all of these elsewhere, and some not as far. */
static int check_map(unsigned long lookup_name)
{
	const struct mapped known[] = {
		{ "init_pid_ns", (unsigned long)&init_pid_ns },
		{ "init_user_ns", (unsigned long)&init_user_ns },
		{ "init_uts_ns", (unsigned long)&init_uts_ns },
		{ "cleanup_net", kcall(nsd_lookup_name)("cleanup_net") },
		{ "inc_ucount", kcall(nsd_lookup_name)("inc_ucount") },
		{ "namespace_unlock", kcall(nsd_lookup_name)("namespace_unlock") },
	};
	int i;

	slide = lookup_name - find_in_map("kallsyms_lookup_name");
	for (i = 0; i < ARRAY_SIZE(known); i++) {
		if (find_in_map(known[i].name) == known[i].address)
			continue;
		pr_err("the System.map that the module was built with is not of this kernel: %s is elsewhere; build it with SYSTEM_MAP= of this very kernel\n",
		       known[i].name);
		return -EINVAL;
	}
	return 0;
}
#else
static unsigned long find_in_map(const char *name)
{
	return 0;
}

static int check_map(unsigned long lookup_name)
{
	if (IS_ENABLED(CONFIG_KALLSYMS_ALL))
		return 0;
	pr_err("this kernel was built without CONFIG_KALLSYMS_ALL, and does not tell where its data is: build the module with SYSTEM_MAP=/path/to/its/System.map\n");
	return -EOPNOTSUPP;
}
#endif

/**
 * nsd_symbols_init - find the kernel's symbol table
 *
 * Context: process context, may sleep.
 * Return: 0; -EOPNOTSUPP if this kernel has no kprobes or no symbol table, or
 * -EINVAL if the System.map is not its own; the log says which.
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

	if (!IS_ENABLED(CONFIG_KPROBES)) {
		pr_err("this kernel was built without CONFIG_KPROBES, which finding its functions takes\n");
		return -EOPNOTSUPP;
	}
	err = register_kprobe(&probe);
	if (err) {
		pr_err("cannot find kallsyms_lookup_name by a kprobe: error %d\n", err);
		return err;
	}
	kcall_set(nsd_lookup_name, (unsigned long)probe.addr);
	unregister_kprobe(&probe);
	return check_map((unsigned long)probe.addr);
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
	/* The kernel knows the symbols of modules, too, and ours have such names. */
	return find_in_map(name) ?: kcall(nsd_lookup_name)(name);
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
