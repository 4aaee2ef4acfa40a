/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef NSD_TAKEOVER_H
#define NSD_TAKEOVER_H

#include <linux/nsproxy_defer.h>
#include <linux/srcu.h>

#include "hook.h"

extern struct srcu_struct nsd_hook_srcu;
extern struct nsd_hook nsd_hooks[];

/* One of namespace_unlock.c and switch_task_namespaces.c, see compat/probe.mk. */
extern struct nsproxy_defer_ops nsd_ops;

int nsd_takeover_init(void);
void nsd_takeover_drain(void);

#endif /* NSD_TAKEOVER_H */
