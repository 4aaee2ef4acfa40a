// SPDX-License-Identifier: GPL-2.0-only
/*
 * The module's life: load all or nothing, unload with nothing left behind
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/errno.h>
#include <linux/init.h>
#include <linux/jiffies.h>
#include <linux/kernel.h>
#include <linux/module.h>
#include <linux/nsproxy_defer.h>
#include <linux/workqueue.h>

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
 * Once delete_module(2) has called the module's exit there is no way back: it frees
 * the module when that returns, whatever signal there was. So it waits for whoever is
 * still to come back here, and if that takes long, the log says who. The wait is one
 * that khungtaskd sees.
 */
#define PATIENCE_SECS	10

static const char *awaited;

static void say_what(struct work_struct *work)
{
	pr_warn("unloading waits for %s; \"echo w > /proc/sysrq-trigger\" shows what hangs\n",
		READ_ONCE(awaited));
}

static DECLARE_DELAYED_WORK(say_what_work, say_what);

static void wait_next_for(const char *what)
{
	WRITE_ONCE(awaited, what);
	mod_delayed_work(system_wq, &say_what_work, PATIENCE_SECS * HZ);
}

/*
 * From mode off on every release is the caller's own. What is pending ends with the
 * replacements in place, and so does what tasks have with them: one that has been
 * through namespace_unlock() comes to free_mnt_ns() next. Then nobody is sent to a
 * replacement any more, nobody is left in one, and the last are waited for.
 */
static void end(void)
{
	wait_next_for("tasks that use the files in /sys/kernel/nsproxy_defer");
	nsproxy_defer_unpublish();
	wait_next_for("tasks inside a function that it has taken over");
	nsd_hooks_quiesce();
	wait_next_for("releases that were left to a worker");
	nsproxy_defer_drain();
	/* Nobody is on the way to namespace_unlock() any more, with free_mnt_ns() to come. */
	nsd_hooks_quiesce();
	wait_next_for("tasks that have unmounted something and are in that system call still");
	nsd_takeover_drain();
	wait_next_for("tasks on their way out of a function that it has taken over");
	nsd_hooks_give_back();
	nsd_takeover_drain();
	nsd_synchronize_tasks();
	nsproxy_defer_stop();
	cancel_delayed_work_sync(&say_what_work);
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

	err = nsd_hooks_init();
	if (err)
		return err;
	err = find_symbols();
	if (err)
		goto exit;
	err = nsproxy_defer_start(&nsd_ops);
	if (err)
		goto exit;
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
	goto exit;
stop:
	nsproxy_defer_stop();
exit:
	nsd_hooks_exit();
	return err;
}

static void __exit nsproxy_defer_module_exit(void)
{
	end();
	nsd_hooks_exit();
}

module_init(nsproxy_defer_module_init);
module_exit(nsproxy_defer_module_exit);
MODULE_DESCRIPTION("Takes the RCU grace period out of setns(), unshare(), umount() and exit");
MODULE_VERSION("1.0.0");
MODULE_LICENSE("GPL");
