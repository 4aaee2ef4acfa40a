/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _LINUX_NSPROXY_RELEASE_H
#define _LINUX_NSPROXY_RELEASE_H

#include <linux/types.h>

struct llist_node;
struct mnt_namespace;
struct nsproxy;

void nsproxy_release(struct nsproxy *ns);
void nsproxy_release_queued(struct llist_node *node);

#ifndef CONFIG_TINY_RCU
bool nsproxy_put_begins(void *ns, const atomic_t *count);
void nsproxy_put_ends(void *ns, bool last);
#else
/* One CPU: nothing but a last hold is ever left to the worker. */
static inline bool nsproxy_put_begins(void *ns, const atomic_t *count)
{
	return false;
}

static inline void nsproxy_put_ends(void *ns, bool last)
{
}
#endif

/* What fs/namespace.c knows: how many references the namespace has. */
int mnt_ns_count(const struct mnt_namespace *ns);

#endif /* _LINUX_NSPROXY_RELEASE_H */
