// SPDX-License-Identifier: GPL-2.0-only
/*
 * Up to 3.16: switch_task_namespaces() and what belongs to it, taken over
 *
 * In these kernels readers of another task's namespaces hold RCU, and
 * switch_task_namespaces() waits for them before it drops anything. It is
 * replaced as a whole, and so is exit_task_namespaces(), of which the compiler
 * may have made a second copy of it. nsproxy_release.c has the rest.
 *
 * Every replacement is an SRCU reader for as long as it runs: it may sleep, and
 * the module must not go away under it.
 */
#include <linux/file.h>
#include <linux/nsproxy.h>
#include <linux/nsproxy_defer.h>
#include <linux/nsproxy_release.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/srcu.h>
#include <linux/syscalls.h>
#include <linux/workqueue.h>

#include "compat/compat.h"
#include "compat/kcall.h"
#include "symbols.h"
#include "takeover.h"

DEFINE_KCALL(nsd_free_nsproxy, void (struct nsproxy *ns));
DEFINE_KCALL(nsd_flush_delayed_fput, void (void));

/* What flush_delayed_fput() finds being done already. */
static struct work_struct *delayed_fput_work;

/* The kernel's own is not exported. */
void free_nsproxy(struct nsproxy *ns)
{
	kcall(nsd_free_nsproxy)(ns);
}

/* The structure is private to fs/; its count comes first. */
int mnt_ns_count(const struct mnt_namespace *ns)
{
	return atomic_read((const atomic_t *)ns);
}

static void replace_switch_task_namespaces(struct task_struct *task,
					   struct nsproxy *new)
{
	int idx = srcu_read_lock(&nsd_hook_srcu);
	struct nsproxy *old;

	/*
	 * Some vendors have the readers of 3.17, which hold this lock, and have
	 * kept task_nsproxy() for modules, so that they look like all others.
	 */
	task_lock(task);
	old = task->nsproxy;
	rcu_assign_pointer(task->nsproxy, new);
	task_unlock(task);
	if (old && atomic_dec_and_test(&old->count))
		nsproxy_release(old);
	srcu_read_unlock(&nsd_hook_srcu, idx);
}

static void replace_exit_task_namespaces(struct task_struct *task)
{
	replace_switch_task_namespaces(task, NULL);
}

/*
 * A kernel thread's last fput() is left to a work item: those of SysV shared
 * memory, and of the file behind a loop device. They belong to the release.
 */
static void release(struct llist_node *node, bool light)
{
	nsproxy_release_queued(node);
	kcall(nsd_flush_delayed_fput)();
	flush_work(delayed_fput_work);
}

/*
 * umount(2) is a barrier. Before the call, so that what is pending neither
 * holds the file system nor makes the mount look busy; and after it, so that
 * the last of several tasks to return finds everything gone, however their
 * calls overlapped.
 */
static void umount_begins(int *idx)
{
	*idx = srcu_read_lock(&nsd_hook_srcu);
	nsproxy_defer_flush(NSPROXY_DEFER_UMOUNT);
}

static long umount_ends(int idx, long ret)
{
	if (!ret)
		nsproxy_defer_flush(NSPROXY_DEFER_UMOUNT);
	srcu_read_unlock(&nsd_hook_srcu, idx);
	return ret;
}

/* The count comes first in both kinds of namespace. */
static void put_by_file(void *ns, void (*put)(void *ns))
{
	int idx = srcu_read_lock(&nsd_hook_srcu);
	bool last = nsproxy_put_begins(ns, ns);

	put(ns);
	nsproxy_put_ends(ns, last);
	srcu_read_unlock(&nsd_hook_srcu, idx);
}

DEFINE_KCALL(nsd_mntns_put, void (void *ns));
DEFINE_KCALL(nsd_ipcns_put, void (void *ns));

static void replace_mntns_put(void *ns)
{
	put_by_file(ns, kcall(nsd_mntns_put));
}

static void replace_ipcns_put(void *ns)
{
	put_by_file(ns, kcall(nsd_ipcns_put));
}

static void set_mntns_put(unsigned long address)
{
	kcall_set(nsd_mntns_put, address);
}

static void set_ipcns_put(unsigned long address)
{
	kcall_set(nsd_ipcns_put, address);
}

DEFINE_KCALL(nsd_sys_umount, long (char __user *name, int flags));
DEFINE_KCALL(nsd_sys_oldumount, long (char __user *name));

static long replace_sys_umount(char __user *name, int flags)
{
	int idx;

	umount_begins(&idx);
	return umount_ends(idx, kcall(nsd_sys_umount)(name, flags));
}

static long replace_sys_oldumount(char __user *name)
{
	int idx;

	umount_begins(&idx);
	return umount_ends(idx, kcall(nsd_sys_oldumount)(name));
}

static void set_sys_umount(unsigned long address)
{
	kcall_set(nsd_sys_umount, address);
}

static void set_sys_oldumount(unsigned long address)
{
	kcall_set(nsd_sys_oldumount, address);
}

/* For replacements that do all of the work themselves. */
static void set_nothing(unsigned long address)
{
}

static const char * const switch_task_namespaces_names[] = {
	"switch_task_namespaces", NULL
};

static const char * const exit_task_namespaces_names[] = {
	"exit_task_namespaces", NULL
};

static const char * const mntns_put_names[] = { "mntns_put", NULL };
static const char * const ipcns_put_names[] = { "ipcns_put", NULL };
static const char * const sys_umount_names[] = { "sys_umount", NULL };
static const char * const sys_oldumount_names[] = { "sys_oldumount", NULL };

struct nsd_hook nsd_hooks[] = {
	{
		.names = switch_task_namespaces_names,
		.replacement = replace_switch_task_namespaces,
		.set_original = set_nothing,
	},
	{
		.names = exit_task_namespaces_names,
		.replacement = replace_exit_task_namespaces,
		.set_original = set_nothing,
	},
	{
		.names = mntns_put_names,
		.replacement = replace_mntns_put,
		.set_original = set_mntns_put,
	},
	{
		.names = ipcns_put_names,
		.replacement = replace_ipcns_put,
		.set_original = set_ipcns_put,
		/* Without CONFIG_IPC_NS nobody counts. */
		.optional = true,
	},
	{
		.names = sys_umount_names,
		.replacement = replace_sys_umount,
		.set_original = set_sys_umount,
	},
	{
		.names = sys_oldumount_names,
		.replacement = replace_sys_oldumount,
		.set_original = set_sys_oldumount,
		.optional = true,
	},
	{}
};

static unsigned long gp_at_load;

static unsigned long gp_seq(void)
{
	return rcu_batches_completed() - gp_at_load;
}

struct nsproxy_defer_ops nsd_ops = {
	.release	= release,
	.call_rcu	= call_rcu,
	.gp_seq		= gp_seq,
	.engage		= nsd_hooks_take,
	/* On one CPU a grace period costs nothing, and the redirect does. */
	.default_mode	= IS_ENABLED(CONFIG_TINY_RCU) ? NSPROXY_DEFER_OFF :
							NSPROXY_DEFER_ALL,
};

/**
 * nsd_takeover_init - find what the replacements need besides their originals
 *
 * Context: process context, after nsd_symbols_init().
 * Return: 0; -ENOENT if the kernel lacks a symbol, which the log names.
 */
int nsd_takeover_init(void)
{
	static const char * const names[] = {
		"free_nsproxy", "flush_delayed_fput", "delayed_fput_work",
	};
	unsigned long found[ARRAY_SIZE(names)];
	int err;

	err = nsd_symbols_need(names, found, ARRAY_SIZE(names));
	if (err)
		return err;
	kcall_set(nsd_free_nsproxy, found[0]);
	kcall_set(nsd_flush_delayed_fput, found[1]);
	delayed_fput_work = (struct work_struct *)found[2];
	gp_at_load = rcu_batches_completed();
	return 0;
}

/**
 * nsd_takeover_drain - wait for what tasks have with them; here they have nothing
 *
 * Context: any.
 */
void nsd_takeover_drain(void)
{
}
