// SPDX-License-Identifier: GPL-2.0-only
/*
 * Where struct mount and others have their members, by fs/mount.h
 *
 * For kernels without BTF. That file is there where KDIR is, or belongs to, a full
 * source tree; the headers that distributions ship do not have it.
 */
#include <fs/mount.h>
#include <linux/stddef.h>

#include "layout.h"
#include "mount.h"

const struct nsd_mount_layout nsd_built_layout = {
	.mnt		= offsetof(struct mount, mnt),
	.mnt_rcu	= offsetof(struct mount, mnt_rcu),
#ifdef NSD_HAVE_MNT_NODE
	/* See find_room() in layout.c. */
	.room		= offsetof(struct mount, mnt_node) +
			  offsetofend(struct rb_node, __rb_parent_color),
#else
	.room		= offsetof(struct mount, mnt_rcu),
#endif
	.mnt_ns		= offsetof(struct mount, mnt_ns),
#ifdef NSD_HAVE_UMOUNT_PIN
	.mnt_umount	= offsetof(struct mount, mnt_mp_list),
	.mnt_pin	= offsetof(struct mount, mnt_umount),
#else
	.mnt_umount	= offsetof(struct mount, mnt_umount),
#endif
	.mnt_pins	= offsetof(struct mount, mnt_pins),
#ifdef CONFIG_FSNOTIFY
	.mnt_marks	= offsetof(struct mount, mnt_fsnotify_marks),
#endif
	.mnt_parent	= offsetof(struct mount, mnt_parent),
	.mnt_mounts	= offsetof(struct mount, mnt_mounts),
	.mnt_child	= offsetof(struct mount, mnt_child),
#ifdef NSD_HAVE_MNT_COVERS
	.mnt_covers	= offsetof(struct mount, mnt_covers),
#endif
	.mnt_expire	= offsetof(struct mount, mnt_expire),
#ifdef NSD_HAVE_SB_MOUNT_LIST
	.sb_next	= offsetof(struct mount, mnt_instance),
#else
	.sb_next	= offsetof(struct mount, mnt_next_for_sb),
	.sb_pprev	= offsetof(struct mount, mnt_pprev_for_sb),
#endif
#ifndef CONFIG_SMP
	.gets		= offsetof(struct mount, mnt_count),
	.puts		= offsetof(struct mount, mnt_count),
#elif defined(NSD_HAVE_MNT_GETS)
	.pcp		= offsetof(struct mount, mnt_pcp),
	.gets		= offsetof(struct mnt_pcp, mnt_gets),
	.puts		= offsetof(struct mnt_pcp, mnt_puts),
#else
	.pcp		= offsetof(struct mount, mnt_pcp),
	.gets		= offsetof(struct mnt_pcp, mnt_count),
	.puts		= offsetof(struct mnt_pcp, mnt_count),
#endif
	.ns_common	= offsetof(struct mnt_namespace, ns),
	.ns_user_ns	= offsetof(struct mnt_namespace, user_ns),
	.ns_ucounts	= offsetof(struct mnt_namespace, ucounts),
#ifdef NSD_HAVE_MNT_NS_PASSIVE
	.ns_passive	= offsetof(struct mnt_namespace, passive),
#endif
};
