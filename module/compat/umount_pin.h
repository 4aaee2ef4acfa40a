/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef NSD_COMPAT_UMOUNT_PIN_H
#define NSD_COMPAT_UMOUNT_PIN_H

#include <linux/list.h>

#include "../mount.h"

#ifdef NSD_HAVE_UMOUNT_PIN
int nsd_umount_pin_init(void);
struct hlist_node *nsd_take_unmounted(struct hlist_head *unmounted, struct hlist_head *list,
				      struct hlist_node *last, int clear);
void nsd_put_back_unmounted(struct hlist_head *list, struct hlist_head *unmounted);
void nsd_leave_mountpoints(struct hlist_node *first);
bool nsd_mount_is_pinned(struct mount *m);
#else
static inline int nsd_umount_pin_init(void)
{
	return 0;
}

static inline void nsd_leave_mountpoints(struct hlist_node *first)
{
}

static inline bool nsd_mount_is_pinned(struct mount *m)
{
	return false;
}
#endif

#endif /* NSD_COMPAT_UMOUNT_PIN_H */
