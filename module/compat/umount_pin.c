// SPDX-License-Identifier: GPL-2.0-only
/*
 * Unmounted mounts that are kept by pins (4.1 to 5.2)
 *
 * Here mnt_umount is a struct fs_pin, which is on two lists: that of what is being
 * unmounted, and that of the mount which this one was mounted on. For it holds the
 * mountpoint, which has to go before the file system that it is in. So whoever shuts the
 * parent down kills what is pinned to it first: lets go of the mountpoint, takes the pin
 * off both lists, and puts the mount. On a stock kernel that waits for a grace period,
 * which ends after the one of the child.
 *
 * What the module takes over gets a reference more, which the list keeps. So whoever
 * kills the pin does no harm: the task that has the list does, before it looks at the
 * mounts, and somebody may have done so before. From then on a mount is as it is on later
 * kernels. And where somebody else's pin is on its list, for which the kernel has promised
 * a grace period (a kernel thread's, or one of mode off), a mount counts as held.
 */
#include <linux/fs_pin.h>
#include <linux/kernel.h>
#include <linux/list.h>
#include <linux/rcupdate.h>
#include <linux/spinlock.h>

#include "../symbols.h"
#include "kcall.h"
#include "umount_pin.h"

/* Called under rcu_read_lock(), which it gives back. */
DEFINE_KCALL(nsd_pin_kill, void (struct fs_pin *pin));
/* For both lists of all pins. */
static spinlock_t *pin_lock;

/* Mounts may have any number of pins, and this is under a spinlock. */
#define MAX_PINS	128

static struct fs_pin *pin_of(struct mount *m)
{
	return (void *)m + nsd_layout.mnt_pin;
}

static struct mount *mount_of(struct hlist_node *pinned)
{
	return (void *)hlist_entry(pinned, struct fs_pin, s_list) - nsd_layout.mnt_pin;
}

/**
 * nsd_take_unmounted - take what is being unmounted from the kernel
 * @unmounted: the kernel's list, of pins
 * @list: where to put the mounts, by mnt_umount and in their order
 * @last: the last one that is there, or NULL
 * @clear: flags that they do not keep, see nsd_mount_let_walkers_hold()
 *
 * Context: any, under namespace_sem and mount_lock.
 * Return: the last one that is there then.
 */
struct hlist_node *nsd_take_unmounted(struct hlist_head *unmounted, struct hlist_head *list,
				      struct hlist_node *last, int clear)
{
	struct hlist_node *node, *next;
	struct mount *m;

	spin_lock(pin_lock);
	hlist_for_each_safe(node, next, unmounted) {
		m = mount_of(node);
		if (unlikely(nsd_mount_is_in_ns(m)))
			continue;
		hlist_del_init(node);
		nsd_mount_get(m);
		nsd_vfsmount(m)->mnt_flags &= ~clear;
		if (last)
			hlist_add_behind(nsd_mnt_umount(m), last);
		else
			hlist_add_head(nsd_mnt_umount(m), list);
		last = nsd_mnt_umount(m);
	}
	spin_unlock(pin_lock);
	return last;
}

/**
 * nsd_put_back_unmounted - the opposite of nsd_take_unmounted()
 * @list: from there
 * @unmounted: the kernel's list
 *
 * Context: any, under namespace_sem and mount_lock.
 */
void nsd_put_back_unmounted(struct hlist_head *list, struct hlist_head *unmounted)
{
	struct hlist_node *node, *next;
	struct mount *m;

	spin_lock(pin_lock);
	hlist_for_each_safe(node, next, list) {
		m = nsd_mount_of_umount(node);
		hlist_del_init(node);
		/* If its pin has been killed, its killer comes for mount_lock to put it. */
		if (!hlist_unhashed(&pin_of(m)->m_list))
			hlist_add_head(&pin_of(m)->s_list, unmounted);
		nsd_mount_drop(m);
	}
	spin_unlock(pin_lock);
}

/**
 * nsd_leave_mountpoints - let go of where mounts were mounted
 * @first: the first mount of a list from nsd_take_unmounted()
 *
 * Context: process context, may sleep.
 */
void nsd_leave_mountpoints(struct hlist_node *first)
{
	struct hlist_node *node;

	for (node = first; node; node = node->next) {
		rcu_read_lock();
		kcall(nsd_pin_kill)(pin_of(nsd_mount_of_umount(node)));
	}
}

/**
 * nsd_mount_is_pinned - is anything pinned to a mount but the children it keeps?
 * @m: the mount, unmounted and under nsd_lock_mounts()
 *
 * Children that stayed connected are, each by one pin. If in doubt, the answer is yes.
 *
 * Context: any.
 */
bool nsd_mount_is_pinned(struct mount *m)
{
	struct hlist_head *pins = (void *)m + nsd_layout.mnt_pins;
	struct list_head *children = (void *)m + nsd_layout.mnt_mounts;
	struct list_head *child = children->next;
	struct hlist_node *pin;
	int i = 0;

	spin_lock(pin_lock);
	hlist_for_each(pin, pins) {
		if (child == children || ++i > MAX_PINS)
			break;
		child = child->next;
	}
	spin_unlock(pin_lock);
	return pin;
}

/**
 * nsd_umount_pin_init - find what that takes
 *
 * Context: process context, after nsd_symbols_init().
 * Return: 0; -ENOENT if the kernel lacks a symbol, which the log names.
 */
int nsd_umount_pin_init(void)
{
	static const char * const names[] = { "pin_kill", "pin_lock" };
	unsigned long found[ARRAY_SIZE(names)] = {};
	int err;

	/* With one CPU there is nothing to a spinlock, and it has no name. */
	err = nsd_symbols_need(names, found, sizeof(*pin_lock) ? 2 : 1);
	if (err)
		return err;
	kcall_set(nsd_pin_kill, found[0]);
	pin_lock = (spinlock_t *)found[1];
	return 0;
}
