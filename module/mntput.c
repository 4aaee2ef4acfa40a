// SPDX-License-Identifier: GPL-2.0-only
/*
 * Mounts whose last reference a kernel thread dropped
 *
 * A task that drops the last reference to a mount shuts the file system down
 * itself, on its way back to user space. A kernel thread has no such way, so
 * mntput() puts the mount on delayed_mntput_list, and one work item, the same
 * for the whole machine, takes them one after the other. Once releases run in a
 * kernel thread that is not good enough: a flush would have to outlast it, and
 * one file system that does not answer would stop all the others.
 *
 * So the slots of the engine take these mounts, one at a time each, and the
 * kernel's own work item only sees to it that a slot is up.
 */
#include <linux/file.h>
#include <linux/kernel.h>
#include <linux/llist.h>
#include <linux/nsproxy_defer.h>
#include <linux/spinlock.h>
#include <linux/types.h>
#include <linux/workqueue.h>

#include "compat/kcall.h"
#include "mntput.h"
#include "symbols.h"

DEFINE_KCALL(nsd_cleanup_mnt, void (struct callback_head *head));

static struct llist_head *delayed_list;
/* What flush_delayed_fput() finds being done already, and on old kernels leaves alone. */
static struct work_struct *delayed_fput_work;
static DEFINE_SPINLOCK(taken_lock);
static struct llist_node *taken;

/**
 * nsd_mntput_finish - shut down one mount that a kernel thread let go
 *
 * Context: process context, may sleep for as long as the file system takes.
 * Return: false if there was none.
 */
bool nsd_mntput_finish(void)
{
	struct llist_node *node;

	spin_lock(&taken_lock);
	if (!taken)
		taken = llist_del_all(delayed_list);
	node = taken;
	if (node)
		taken = node->next;
	spin_unlock(&taken_lock);
	if (!node)
		return false;

	/*
	 * In struct mount, mnt_llist and mnt_rcu share their place. They must:
	 * mntput() uses the one or the other for the same purpose.
	 */
	kcall(nsd_cleanup_mnt)((struct callback_head *)node);
	/* The file behind a loop device, for one, is put in the same roundabout way. */
	flush_delayed_fput();
	flush_work(delayed_fput_work);
	return true;
}

/**
 * nsd_delayed_mntput - what delayed_mntput() does while the module is loaded
 *
 * Context: process context, may sleep.
 */
void nsd_delayed_mntput(void)
{
	if (nsproxy_defer_kick())
		return;
	/* Every slot is busy or stuck, so do as the kernel does. */
	while (nsd_mntput_finish())
		;
}

/**
 * nsd_mntput_init - find the list of delayed mounts, and what ends one and its files
 *
 * Context: process context, after nsd_symbols_init().
 * Return: 0; -ENOENT if the kernel lacks a symbol, which the log names.
 */
int nsd_mntput_init(void)
{
	static const char * const names[] = {
		"__cleanup_mnt", "delayed_mntput_list", "delayed_fput_work",
	};
	unsigned long found[ARRAY_SIZE(names)];
	int err;

	err = nsd_symbols_need(names, found, ARRAY_SIZE(names));
	if (err)
		return err;
	kcall_set(nsd_cleanup_mnt, found[0]);
	delayed_list = (struct llist_head *)found[1];
	delayed_fput_work = (struct work_struct *)found[2];
	return 0;
}
