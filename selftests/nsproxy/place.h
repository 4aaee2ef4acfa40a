/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A place for tests that mount: a directory in a mount namespace of the test's
 * own, which goes with it, and a disk, if one is made.
 */
#ifndef NSPROXY_PLACE_H
#define NSPROXY_PLACE_H

#include "disk.h"

struct place {
	struct nsp_knobs knobs;
	struct disk disk;
	char dir[64];
	char mnt[80];
};

static inline int place_make_dir(struct place *place)
{
	snprintf(place->dir, sizeof(place->dir), "/tmp/nsproxy.XXXXXX");
	if (!mkdtemp(place->dir) || nsp_own_mounts() ||
	    mount("none", place->dir, "tmpfs", 0, NULL))
		return -1;
	snprintf(place->mnt, sizeof(place->mnt), "%s/mnt", place->dir);
	return mkdir(place->mnt, 0700);
}

static inline void place_drop_dir(struct place *place)
{
	disk_drop(&place->disk);
	umount2(place->dir, MNT_DETACH);
	rmdir(place->dir);
}

/* With nothing pending, and in @mode; 0 or -1. */
static inline int place_make(struct place *place, const char *mode)
{
	if (nsp_save(&place->knobs) || nsp_set("mode", mode) ||
	    nsp_set("max_pending", "1024") || nsp_flush())
		return -1;
	return place_make_dir(place);
}

static inline int place_drop(struct place *place)
{
	place_drop_dir(place);
	return nsp_restore(&place->knobs);
}

#endif /* NSPROXY_PLACE_H */
