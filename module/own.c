// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a task itself holds of the mounts that it has unmounted
 *
 * Container runtimes stand in the old root, and have it open, while they detach
 * it. If these are all the references that there are, nobody has to wait: the
 * task will drop them, and the last one shuts the file system down, as ever.
 *
 * That takes that none of them is being put already, by a task that saw the mount
 * in its namespace and does not come for mount_lock any more. A file that stands
 * in the table is not: it holds its mount until it has gone from there. Nor is a
 * root or working directory. Who takes them away does so under the lock of table
 * or fs_struct, which threads may share, and which is held here until the tree's
 * own reference is dropped; so whoever comes later sees mnt_ns NULL. Litmus test:
 * own-file.
 */
#include <linux/fdtable.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/fs_struct.h>
#include <linux/mount.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/spinlock.h>

#include "compat/compat.h"
#include "own.h"

/* Tables can have a million entries, and this is under their lock. */
#define MAX_FDS_LOOKED_AT	4096

static bool known(const struct nsd_own *own, const struct file *file)
{
	int i;

	for (i = 0; i < own->nr; i++)
		if (own->file[i] == file)
			return true;
	return false;
}

static void find_files(struct nsd_own *own)
{
	struct fdtable *fdt = files_fdtable(own->files);
	unsigned int fd, end = min_t(unsigned int, fdt->max_fds, MAX_FDS_LOOKED_AT);
	struct file *file;

	for (fd = 0; fd < end && own->nr < NSD_OWN_FILES; fd++) {
		file = rcu_dereference_check_fdtable(own->files, fdt->fd[fd]);
		/* A file that stands there twice holds its mount once. */
		if (file && READ_ONCE(file->f_path.mnt->mnt_flags) & MNT_UMOUNT &&
		    !known(own, file))
			own->file[own->nr++] = file;
	}
}

/**
 * nsd_own_lock - find what the current task holds, and keep it as it is
 * @own: where to put it
 *
 * Context: process context; takes file_lock and the lock of the fs_struct, in
 * this order, until nsd_own_unlock(). mount_lock comes after them.
 */
void nsd_own_lock(struct nsd_own *own)
{
	own->nr = 0;
	own->files = current->files;
	own->fs = current->fs;
	if (own->files) {
		spin_lock(&own->files->file_lock);
		find_files(own);
	}
	if (own->fs)
		nsd_lock_fs(own->fs);
}

/**
 * nsd_own_count - how many references to a mount the current task has
 * @own: from nsd_own_lock()
 * @mnt: the mount, unmounted before nsd_own_lock()
 *
 * Context: any.
 */
int nsd_own_count(const struct nsd_own *own, const struct vfsmount *mnt)
{
	int i, count = 0;

	if (own->fs)
		count = (own->fs->root.mnt == mnt) + (own->fs->pwd.mnt == mnt);
	for (i = 0; i < own->nr; i++)
		count += own->file[i]->f_path.mnt == mnt;
	return count;
}

/**
 * nsd_own_unlock - the opposite of nsd_own_lock()
 * @own: from nsd_own_lock()
 *
 * Context: process context.
 */
void nsd_own_unlock(struct nsd_own *own)
{
	if (own->fs)
		nsd_unlock_fs(own->fs);
	if (own->files)
		spin_unlock(&own->files->file_lock);
}
