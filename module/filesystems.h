/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef NSD_FILESYSTEMS_H
#define NSD_FILESYSTEMS_H

#include <linux/types.h>

struct dentry;
struct super_block;

bool nsd_root_is_safe(const struct dentry *root);
bool nsd_filesystem_is_safe(const struct super_block *sb);
bool nsd_filesystem_may_be_late(struct super_block *sb);

#endif /* NSD_FILESYSTEMS_H */
