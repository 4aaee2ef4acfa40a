// SPDX-License-Identifier: GPL-2.0-only
/*
 * The module's life: load all or nothing, unload with nothing left behind
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/errno.h>
#include <linux/init.h>
#include <linux/module.h>
#include <linux/nsproxy_defer.h>

#include "compat/compat.h"
#include "hook.h"
#include "symbols.h"
#include "takeover.h"

static int __init find_symbols(void)
{
	int err;

	err = nsd_symbols_init();
	if (!err)
		err = nsd_hooks_resolve();
	if (!err)
		err = nsd_takeover_init();
	return err;
}

/*
 * From mode off on every release is the caller's own. What is pending ends with the
 * replacements in place, and so does what tasks have with them: one that has been
 * through namespace_unlock() comes to free_mnt_ns() next. Then nobody is sent to a
 * replacement any more, nobody is left in one, and the last are waited for.
 */
static void end(void)
{
	nsproxy_defer_unpublish();
	nsd_hooks_quiesce();
	nsproxy_defer_drain();
	nsd_takeover_drain();
	nsd_hooks_give_back();
	nsd_takeover_drain();
	nsd_synchronize_tasks();
	nsproxy_defer_stop();
}

static int __init nsproxy_defer_module_init(void)
{
	const char *missing = nsd_missing_option();
	int err;

	if (nsproxy_defer_bad_param())
		return -EINVAL;
	if (missing) {
		pr_err("this kernel was built without %s, which redirecting its functions takes\n",
		       missing);
		return -EOPNOTSUPP;
	}
	if (nsd_kernel_kobj_has("nsproxy_defer")) {
		pr_err("this kernel defers namespaces by itself, see /sys/kernel/nsproxy_defer; the module is not needed\n");
		/* Not EEXIST, which modprobe takes for a module that is loaded. */
		return -EBUSY;
	}

	err = find_symbols();
	if (err)
		return err;
	err = nsproxy_defer_start(&nsd_ops);
	if (err)
		return err;
	if (nsproxy_defer_enabled())
		err = nsd_hooks_take();
	if (err)
		goto stop;
	err = nsproxy_defer_publish();
	if (err)
		goto give_back;
	if (!nsproxy_defer_enabled())
		pr_info("mode off: nothing is redirected until another one is written to /sys/kernel/nsproxy_defer/mode\n");
	return 0;

give_back:
	end();
	return err;
stop:
	nsproxy_defer_stop();
	return err;
}

static void __exit nsproxy_defer_module_exit(void)
{
	end();
}

module_init(nsproxy_defer_module_init);
module_exit(nsproxy_defer_module_exit);
MODULE_DESCRIPTION("Takes the RCU grace period out of setns(), unshare(), umount() and exit");
MODULE_VERSION("1.0.0");
MODULE_LICENSE("GPL");
