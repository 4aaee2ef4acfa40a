/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef NSD_OWN_H
#define NSD_OWN_H

struct files_struct;
struct fs_struct;
struct vfsmount;

/* More than these make a mount look as if others held it, too. */
#define NSD_OWN_FILES	16

/**
 * struct nsd_own - the references of a task to mounts that are in no tree
 * @fs: its root and working directory, locked
 * @files: its table of files, locked
 * @file: those of its files that are on an unmounted mount, each once
 * @nr: how many
 */
struct nsd_own {
	struct fs_struct *fs;
	struct files_struct *files;
	struct file *file[NSD_OWN_FILES];
	int nr;
};

void nsd_own_lock(struct nsd_own *own);
int nsd_own_count(const struct nsd_own *own, const struct vfsmount *mnt);
void nsd_own_unlock(struct nsd_own *own);

#endif /* NSD_OWN_H */
