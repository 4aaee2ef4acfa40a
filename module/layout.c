// SPDX-License-Identifier: GPL-2.0-only
/*
 * Where struct mount and others have their members, by the kernel's own BTF
 *
 * BTF describes the kernel that runs, with whatever the configuration, a vendor or
 * CONFIG_RANDSTRUCT made of the structures.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/errno.h>
#include <linux/fs_pin.h>
#include <linux/kernel.h>
#include <linux/list.h>
#include <linux/mount.h>
#include <linux/ns_common.h>
#include <linux/printk.h>
#include <linux/rbtree.h>
#include <linux/refcount.h>
#include <linux/slab.h>
#include <linux/types.h>

#include "btf.h"
#include "layout.h"
#include "mount.h"

struct wanted {
	const char *name;
	size_t offset;
	u32 size;
};

#define WANT(_name, _to, _size) { \
	.name = _name, \
	.offset = offsetof(struct nsd_mount_layout, _to), \
	.size = _size, \
}

static const struct wanted in_mount[] = {
	WANT("mnt", mnt, sizeof(struct vfsmount)),
	WANT("mnt_rcu", mnt_rcu, sizeof(struct callback_head)),
	WANT("mnt_ns", mnt_ns, sizeof(void *)),
#ifdef NSD_HAVE_UMOUNT_PIN
	WANT("mnt_mp_list", mnt_umount, sizeof(struct hlist_node)),
	WANT("mnt_umount", mnt_pin, sizeof(struct fs_pin)),
#else
	WANT("mnt_umount", mnt_umount, sizeof(struct hlist_node)),
#endif
	WANT("mnt_pins", mnt_pins, sizeof(struct hlist_head)),
#ifdef CONFIG_FSNOTIFY
	WANT("mnt_fsnotify_marks", mnt_marks, sizeof(void *)),
#endif
	WANT("mnt_parent", mnt_parent, sizeof(void *)),
	WANT("mnt_mounts", mnt_mounts, sizeof(struct list_head)),
	WANT("mnt_child", mnt_child, sizeof(struct list_head)),
	WANT("mnt_expire", mnt_expire, sizeof(struct list_head)),
#ifdef NSD_HAVE_SB_MOUNT_LIST
	WANT("mnt_instance", sb_next, sizeof(struct list_head)),
#else
	WANT("mnt_next_for_sb", sb_next, sizeof(void *)),
	WANT("mnt_pprev_for_sb", sb_pprev, sizeof(void *)),
#endif
#ifdef CONFIG_SMP
	WANT("mnt_pcp", pcp, sizeof(void *)),
#else
	WANT("mnt_count", gets, sizeof(int)),
#endif
};

struct reader {
	struct nsd_btf btf;
	struct nsd_btf_struct mount;
	struct nsd_btf_struct pcp;
	struct nsd_btf_struct ns;
};

static int find(struct reader *r, const struct nsd_btf_struct *of, const char *name,
		u32 size, u32 *offset)
{
	u32 found;
	int err;

	err = nsd_btf_member(&r->btf, of, name, offset, &found);
	if (!err && found != size)
		err = -EINVAL;
	return err;
}

#ifdef CONFIG_SMP
static int find_counters(struct reader *r, struct nsd_mount_layout *layout)
{
	int err;

	err = nsd_btf_struct(&r->btf, "mnt_pcp", &r->pcp);
	if (err)
		return err;
	if (find(r, &r->pcp, "mnt_count", sizeof(int), &layout->gets)) {
		err = find(r, &r->pcp, "mnt_gets", sizeof(int), &layout->gets) ?:
		      find(r, &r->pcp, "mnt_puts", sizeof(int), &layout->puts);
		return err;
	}
	layout->puts = layout->gets;
	return 0;
}
#else
static int find_counters(struct reader *r, struct nsd_mount_layout *layout)
{
	layout->puts = layout->gets;
	return 0;
}
#endif

static int find_in_ns(struct reader *r, struct nsd_mount_layout *layout)
{
	int err;

	err = nsd_btf_struct(&r->btf, "mnt_namespace", &r->ns);
	if (err)
		return err;
	err = find(r, &r->ns, "ns", sizeof(struct ns_common), &layout->ns_common) ?:
	      find(r, &r->ns, "user_ns", sizeof(void *), &layout->ns_user_ns) ?:
	      find(r, &r->ns, "ucounts", sizeof(void *), &layout->ns_ucounts);
	if (!err && find(r, &r->ns, "passive", sizeof(refcount_t), &layout->ns_passive))
		layout->ns_passive = 0;
	return err;
}

/*
 * The callback of the final put shares its place with the node in the tree of the
 * mount namespace (since 6.8), and somebody may still ask whether that is in a tree:
 * its first word answers, so the room begins after that.
 */
static void find_room(struct reader *r, struct nsd_mount_layout *layout)
{
	u32 node;

	layout->room = layout->mnt_rcu;
	if (!find(r, &r->mount, "mnt_node", sizeof(struct rb_node), &node) &&
	    node == layout->mnt_rcu)
		layout->room += offsetofend(struct rb_node, __rb_parent_color);
	BUILD_BUG_ON(offsetof(struct rb_node, __rb_parent_color));
	BUILD_BUG_ON(sizeof(struct rb_node) - offsetofend(struct rb_node, __rb_parent_color) <
		     sizeof(struct callback_head));
}

static int read_layout(struct reader *r, struct nsd_mount_layout *layout,
		       const void *btf, size_t size, const char **at)
{
	int err, i;
	u32 *to;

	*at = "the whole";
	err = nsd_btf_open(&r->btf, btf, size);
	if (err)
		return err;
	*at = "struct mount";
	err = nsd_btf_struct(&r->btf, "mount", &r->mount);
	if (err)
		return err;
	for (i = 0; i < ARRAY_SIZE(in_mount); i++) {
		*at = in_mount[i].name;
		to = (void *)layout + in_mount[i].offset;
		err = find(r, &r->mount, in_mount[i].name, in_mount[i].size, to);
		if (err)
			return err;
	}
	/* Since 7.3. */
	if (find(r, &r->mount, "mnt_covers", sizeof(struct hlist_head), &layout->mnt_covers))
		layout->mnt_covers = 0;
	find_room(r, layout);
	*at = "struct mnt_pcp";
	err = find_counters(r, layout);
	if (err)
		return err;
	*at = "struct mnt_namespace";
	return find_in_ns(r, layout);
}

/**
 * nsd_layout_from_btf - look the members up in BTF
 * @layout: where to put it
 * @btf: the BTF of the kernel
 * @size: its size in bytes
 *
 * Context: process context, may sleep.
 * Return: 0, -ENOMEM, or what is wrong with the BTF, which the log says.
 */
int nsd_layout_from_btf(struct nsd_mount_layout *layout, const void *btf, size_t size)
{
	struct reader *r = kzalloc(sizeof(*r), GFP_KERNEL);
	const char *at;
	int err;

	if (!r)
		return -ENOMEM;
	err = read_layout(r, layout, btf, size, &at);
	if (err)
		pr_err("the BTF of this kernel is of no use: %s: %s (error %d)\n", at,
		       r->btf.reason ?: "not of the size it has here", err);
	kfree(r);
	return err;
}
