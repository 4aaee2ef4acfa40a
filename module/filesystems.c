// SPDX-License-Identifier: GPL-2.0-only
/* File systems that are shut down with no grace period: umount_walkers.h */
#include <linux/fs.h>

#include "compat/compat.h"
#include "filesystems.h"

#ifndef NSD_HAVE_FREE_INODE
#define NO_FREE_INODE
#endif
#ifndef NSD_HAVE_SB_ENCODING
#define NO_SB_ENCODING
#endif
#ifdef NSD_HAVE_RCU_SCHED
#define MODULES_GO_BY_RCU_SCHED
#endif
#ifdef NSD_HAVE_SB_CONNECTORS
#define sb_watches(sb)	atomic_long_read(&(sb)->s_fsnotify_connectors)
#elif defined(NSD_HAVE_SB_FSNOTIFY_INFO)
/* It stays once there was one. */
#define sb_watches(sb)	READ_ONCE((sb)->s_fsnotify_info)
#endif
#include "umount_walkers.h"

/**
 * nsd_filesystem_is_safe - may a file system be shut down without a grace period?
 * @sb: its superblock, with a mount that is not doomed yet
 *
 * That is, after its last mount has been unmounted, though a walk in RCU mode may
 * still be in one of its hooks. If in doubt, the answer is no.
 *
 * Context: any, under mount_lock; does not sleep.
 * Return: true if it is known to be safe.
 */
bool nsd_filesystem_is_safe(const struct super_block *sb)
{
	return sb_survives_walkers(sb);
}

/**
 * nsd_root_is_safe - may the root of a mount be put without a grace period?
 * @root: the dentry
 *
 * Context: any; does not sleep.
 * Return: true if its memory outlasts walkers that may still be there.
 */
bool nsd_root_is_safe(const struct dentry *root)
{
	return root_survives_walkers(root);
}

/**
 * nsd_filesystem_may_be_late - can no program tell when it is shut down?
 * @sb: its superblock
 *
 * Such a one may be left to a worker, instead of having the caller wait. That is proc,
 * of which every container has its own: it has no device, no data, and is not found
 * again by another mount. It holds its pid namespace, which counts against a limit, and
 * inc_ucount.c sees to that. Who watches a file in it is told of the end, though.
 *
 * Context: any; does not sleep.
 * Return: true if nobody can tell.
 */
bool nsd_filesystem_may_be_late(struct super_block *sb)
{
	return sb_may_be_late(sb);
}
