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
#include "compat/kcall.h"
#include "hook.h"
#include "mntput.h"
#include "symbols.h"
#include "takeover.h"

/* Both are exported, but declared in a header of RCU's own; UP kernels may lack them. */
DEFINE_KCALL(nsd_gp_seq, unsigned long (void));
DEFINE_KCALL(nsd_exp_seq, unsigned long (void));
/* A sequence number's low bits hold a state, see kernel/rcu/rcu.h. */
#define SEQ_STATE_BITS	2

/*
 * Where the numbers stood at load. They start below zero and wrap soon after
 * boot, which is lost when the state is shifted out; the difference is not.
 */
static unsigned long gp_seq_at_load;
static unsigned long exp_seq_at_load;

static unsigned long gp_seq(void)
{
	unsigned long normal = kcall(nsd_gp_seq)();
	unsigned long expedited = kcall(nsd_exp_seq)();

	return ((normal - gp_seq_at_load) >> SEQ_STATE_BITS) +
	       ((expedited - exp_seq_at_load) >> SEQ_STATE_BITS);
}

static struct nsproxy_defer_ops ops = {
	.release	= nsd_release,
	.finish		= nsd_mntput_finish,
	.call_rcu	= nsd_call_rcu,
	.default_mode	= NSPROXY_DEFER_ALL,
	.safe_note	=
		"mode safe: nothing is deferred, only a patched kernel knows what is safe",
};

static int __init find_symbols(void)
{
	unsigned long normal, expedited;
	int err;

	err = nsd_symbols_init();
	if (!err)
		err = nsd_hooks_resolve();
	if (!err)
		err = nsd_takeover_init();
	if (!err)
		err = nsd_mntput_init();
	if (err)
		return err;

	normal = nsd_symbol("rcu_get_gp_seq");
	expedited = nsd_symbol("rcu_exp_batches_completed");
	if (normal && expedited) {
		kcall_set(nsd_gp_seq, normal);
		kcall_set(nsd_exp_seq, expedited);
		gp_seq_at_load = kcall(nsd_gp_seq)();
		exp_seq_at_load = kcall(nsd_exp_seq)();
		ops.gp_seq = gp_seq;
	}
	return 0;
}

static int __init nsproxy_defer_module_init(void)
{
	const char *missing = nsd_missing_option();
	int err;

	if (missing) {
		pr_err("this kernel was built without %s, which redirecting its functions takes\n",
		       missing);
		return -EOPNOTSUPP;
	}
	if (nsd_kernel_kobj_has("nsproxy_defer")) {
		pr_err("this kernel defers namespaces by itself, see /sys/kernel/nsproxy_defer; the module is not needed\n");
		return -EEXIST;
	}

	err = find_symbols();
	if (err)
		return err;
	err = nsproxy_defer_start(&ops);
	if (err)
		return err;
	err = nsd_hooks_take();
	if (err)
		goto stop;
	err = nsproxy_defer_publish();
	if (err)
		goto give_back;
	return 0;

give_back:
	nsproxy_defer_unpublish();
	nsd_hooks_quiesce();
	nsproxy_defer_drain();
	nsd_hooks_give_back();
stop:
	nsproxy_defer_stop();
	return err;
}

static void __exit nsproxy_defer_module_exit(void)
{
	/* From here on every release that begins is the caller's own. */
	nsproxy_defer_unpublish();
	nsd_hooks_quiesce();
	/* The rest still goes through our delayed_mntput(). */
	nsproxy_defer_drain();
	nsd_hooks_give_back();
	nsproxy_defer_stop();
}

module_init(nsproxy_defer_module_init);
module_exit(nsproxy_defer_module_exit);
MODULE_DESCRIPTION("Takes the RCU grace period out of setns(), unshare() and exit");
MODULE_LICENSE("GPL");
