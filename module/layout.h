/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef NSD_LAYOUT_H
#define NSD_LAYOUT_H

#include <linux/errno.h>
#include <linux/types.h>

#include "mount.h"

#ifdef NSD_HAVE_BTF
int nsd_layout_from_btf(struct nsd_mount_layout *layout, const void *btf, size_t size);
#else
static inline int nsd_layout_from_btf(struct nsd_mount_layout *layout, const void *btf,
				      size_t size)
{
	return -EOPNOTSUPP;
}
#endif

#ifdef NSD_HAVE_MOUNT_H
extern const struct nsd_mount_layout nsd_built_layout;

/**
 * nsd_layout_from_build - where fs/mount.h had the members at build time
 * @layout: where to put it
 *
 * Context: any.
 * Return: false if there was no such file.
 */
static inline bool nsd_layout_from_build(struct nsd_mount_layout *layout)
{
	*layout = nsd_built_layout;
	return true;
}
#else
static inline bool nsd_layout_from_build(struct nsd_mount_layout *layout)
{
	return false;
}
#endif

#endif /* NSD_LAYOUT_H */
