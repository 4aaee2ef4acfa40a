/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef NSD_FREE_MNT_NS_H
#define NSD_FREE_MNT_NS_H

struct llist_node;
struct mnt_namespace;

void nsd_replace_free_mnt_ns(struct mnt_namespace *ns);
void nsd_release_mnt_ns(struct llist_node *node);
void nsd_set_free_mnt_ns(unsigned long address);
int nsd_free_mnt_ns_init(void);

#endif /* NSD_FREE_MNT_NS_H */
