/* SPDX-License-Identifier: GPL-2.0-only */
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
 *
 * Who includes this has lock_fs() and unlock_fs(), which keep the root and working
 * directory of a struct fs_struct as they are.
 */
#include <linux/fdtable.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/fs_struct.h>
#include <linux/mount.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/spinlock.h>

/* More than these make a mount look as if others held it, too. */
#define MAX_OWN_FILES	16
/* Tables can have a million entries, and this is under their lock. */
#define MAX_FDS		4096

/* Root, working directory and table of files, locked, and those on unmounted mounts, once. */
struct own {
	struct fs_struct *fs;
	struct files_struct *files;
	const struct file *file[MAX_OWN_FILES];
	int nr;
};

static void find_own_files(struct own *own)
{
	struct fdtable *fdt = files_fdtable(own->files);
	unsigned int fd, end = min_t(unsigned int, fdt->max_fds, MAX_FDS);
	const struct file *file;
	int i;

	for (fd = 0; fd < end && own->nr < MAX_OWN_FILES; fd++) {
		file = rcu_dereference_check_fdtable(own->files, fdt->fd[fd]);
		if (!file || !(READ_ONCE(file->f_path.mnt->mnt_flags) & MNT_UMOUNT))
			continue;
		/* One that stands there twice holds its mount once. */
		for (i = 0; i < own->nr && own->file[i] != file; i++)
			;
		own->file[i] = file;
		own->nr = max(own->nr, i + 1);
	}
}

/* Of the current task, until unlock_own(). mount_lock comes after these locks. */
static void lock_own(struct own *own)
{
	own->nr = 0;
	own->files = current->files;
	own->fs = current->fs;
	if (own->files) {
		spin_lock(&own->files->file_lock);
		find_own_files(own);
	}
	if (own->fs)
		lock_fs(own->fs);
}

/* How many of the references to @mnt, which was unmounted before lock_own(), are these? */
static int count_own(const struct own *own, const struct vfsmount *mnt)
{
	int i, count = 0;

	if (own->fs)
		count = (own->fs->root.mnt == mnt) + (own->fs->pwd.mnt == mnt);
	for (i = 0; i < own->nr; i++)
		count += own->file[i]->f_path.mnt == mnt;
	return count;
}

static void unlock_own(struct own *own)
{
	if (own->fs)
		unlock_fs(own->fs);
	if (own->files)
		spin_unlock(&own->files->file_lock);
}
