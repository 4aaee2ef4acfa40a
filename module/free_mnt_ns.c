// SPDX-License-Identifier: GPL-2.0-only
/*
 * Up to 6.12: free_mnt_ns() taken over, for those who look without a reference
 *
 * The grace period in namespace_unlock() has one more use: d_path() and others look
 * into the namespace of a mount under rcu_read_lock(), and put_mnt_ns() frees that
 * after namespace_unlock(). Later kernels leave this to RCU by themselves, and have
 * mnt_ns_release_rcu() for it. Litmus test: ns-readers.
 *
 * Only the memory may go late. That the namespace counts against the limit of a
 * user, and since 6.11 that it is listed, ends at once, as it does on stock.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/atomic.h>
#include <linux/compiler.h>
#include <linux/kernel.h>
#include <linux/nsproxy.h>
#include <linux/nsproxy_defer.h>
#include <linux/printk.h>
#include <linux/proc_ns.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/srcu.h>
#include <linux/string.h>
#include <linux/user_namespace.h>

#include "compat/compat.h"
#include "compat/kcall.h"
#include "free_mnt_ns.h"
#include "mount.h"
#include "symbols.h"
#include "takeover.h"

DEFINE_KCALL(nsd_free_mnt_ns, void (struct mnt_namespace *ns));
DEFINE_KCALL(nsd_dec_ucount, void (struct ucounts *ucounts, enum ucount_type type));

/*
 * What a dead namespace counts against when it is freed. dec_ucount() goes up the
 * user namespaces from there, of which there is one that is nobody's.
 */
static struct user_namespace nowhere;
static struct ucounts uncounted = { .ns = &nowhere };

static struct ns_common *common_of(struct mnt_namespace *ns)
{
	return (void *)ns + nsd_layout.ns_common;
}

static struct ucounts **ucounts_of(struct mnt_namespace *ns)
{
	return (void *)ns + nsd_layout.ns_ucounts;
}

static struct user_namespace *user_ns_of(struct mnt_namespace *ns)
{
	return *(struct user_namespace **)((void *)ns + nsd_layout.ns_user_ns);
}

static refcount_t *passive_of(struct mnt_namespace *ns)
{
	return (void *)ns + nsd_layout.ns_passive;
}

/*
 * In struct ns_common, @stashed is for the dentries of nsfs, each of which holds a
 * reference, so nobody looks at it any more.
 */
static struct llist_node *room_in(struct mnt_namespace *ns)
{
	return (struct llist_node *)&common_of(ns)->stashed;
}

/*
 * Neither is to come down to nothing, ever. They are of other types up to 5.13, but
 * of the same size.
 */
static void uncount(struct mnt_namespace *ns)
{
	struct ucounts **at = ucounts_of(ns), *ucounts = *at;

	WRITE_ONCE(*(int *)&uncounted.count, INT_MAX / 2);
	WRITE_ONCE(uncounted.ucount[UCOUNT_MNT_NAMESPACES].counter, INT_MAX / 2);
	*at = &uncounted;
	kcall(nsd_dec_ucount)(ucounts, UCOUNT_MNT_NAMESPACES);
}

/* All but the memory, if there is a way. */
static void free_what_shows(struct mnt_namespace *ns)
{
	if (nsd_layout.ns_passive) {
		refcount_inc(passive_of(ns));
		kcall(nsd_free_mnt_ns)(ns);
	} else {
		uncount(ns);
	}
}

/* As mnt_ns_release() does it where there is a passive count. */
static void free_memory(struct mnt_namespace *ns)
{
	if (!nsd_layout.ns_passive) {
		kcall(nsd_free_mnt_ns)(ns);
	} else if (refcount_dec_and_test(passive_of(ns))) {
		put_user_ns(user_ns_of(ns));
		kfree(ns);
	}
}

/**
 * nsd_replace_free_mnt_ns - free a mount namespace now, and its memory later
 * @ns: the namespace, to which there is no reference
 *
 * Context: process context, may sleep.
 */
void nsd_replace_free_mnt_ns(struct mnt_namespace *ns)
{
	int idx = srcu_read_lock(&nsd_hook_srcu);

	free_what_shows(ns);
	if (!nsproxy_defer_queue_light(room_in(ns))) {
		nsd_synchronize_rcu();
		free_memory(ns);
	}
	srcu_read_unlock(&nsd_hook_srcu, idx);
}

/**
 * nsd_release_mnt_ns - the rest, after a grace period
 * @node: what was queued
 *
 * Context: process context, may sleep.
 */
void nsd_release_mnt_ns(struct llist_node *node)
{
	struct ns_common *ns = container_of((void *)node, struct ns_common, stashed);

	memset(&ns->stashed, 0, sizeof(ns->stashed));
	free_memory((void *)ns - nsd_layout.ns_common);
}

/**
 * nsd_set_free_mnt_ns - tell where the original is
 * @address: that is
 *
 * Context: process context, may sleep.
 */
void nsd_set_free_mnt_ns(unsigned long address)
{
	kcall_set(nsd_free_mnt_ns, address);
}

/* Look at a namespace of which the answers are known, as check_layout() does. */
static int check_ns_layout(struct mnt_namespace *ns, const struct proc_ns_operations *ops)
{
	struct ns_common *common = common_of(ns);
	const char *what = NULL;

	if (common->ops != ops)
		what = "what namespaces have in common";
	else if (user_ns_of(ns) != ops->owner(common))
		what = "the user namespace";
	else if (!*ucounts_of(ns) || (*ucounts_of(ns))->ns != user_ns_of(ns))
		what = "the counters of its user";
	else if (nsd_layout.ns_passive && !refcount_read(passive_of(ns)))
		what = "the passive count";
	if (!what)
		return 0;
	pr_err("struct mnt_namespace of this kernel is not as it says: %s is not where it should be\n",
	       what);
	return -EOPNOTSUPP;
}

/**
 * nsd_free_mnt_ns_init - find what that takes
 *
 * Context: process context, after nsd_mount_init().
 * Return: 0; a negative errno if the kernel lacks something, which the log names.
 */
int nsd_free_mnt_ns_init(void)
{
	static const char * const names[] = { "dec_ucount", "mntns_operations" };
	unsigned long found[ARRAY_SIZE(names)];
	int err;

	/* Not taken over then; nor has the first namespace anything to look at. */
	if (nsd_symbol("mnt_ns_release_rcu"))
		return 0;
	err = nsd_symbols_need(names, found, ARRAY_SIZE(names));
	if (err)
		return err;
	kcall_set(nsd_dec_ucount, found[0]);
	return check_ns_layout(current->nsproxy->mnt_ns,
			       (const struct proc_ns_operations *)found[1]);
}
