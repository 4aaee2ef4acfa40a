/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _LINUX_NSPROXY_RELEASE_H
#define _LINUX_NSPROXY_RELEASE_H

#include <linux/types.h>

struct llist_node;
struct mnt_namespace;
struct nsproxy;

void nsproxy_release(struct nsproxy *ns);
void nsproxy_release_queued(struct llist_node *node);
bool nsproxy_put_begins(void *ns, const atomic_t *count);
void nsproxy_put_ends(void *ns, bool last);

/* What fs/namespace.c knows: how many references the namespace has. */
int mnt_ns_count(const struct mnt_namespace *ns);

#endif /* _LINUX_NSPROXY_RELEASE_H */
