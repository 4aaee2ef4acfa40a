/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef NSD_TAKEOVER_H
#define NSD_TAKEOVER_H

#include <linux/llist.h>
#include <linux/srcu.h>

#include "hook.h"

extern struct srcu_struct nsd_hook_srcu;
extern struct nsd_hook nsd_hooks[];

int nsd_takeover_init(void);
void nsd_release(struct llist_node *node);

#endif /* NSD_TAKEOVER_H */
