/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _LINUX_NSPROXY_DEFER_H
#define _LINUX_NSPROXY_DEFER_H

#include <linux/llist.h>
#include <linux/types.h>

struct rcu_head;
struct work_struct;

/**
 * enum nsproxy_defer_mode - what is deferred
 * @NSPROXY_DEFER_OFF: nothing, the kernel behaves as stock does
 * @NSPROXY_DEFER_SAFE: releases of which no program can see that they are late
 * @NSPROXY_DEFER_ALL: every release that would wait
 */
enum nsproxy_defer_mode {
	NSPROXY_DEFER_OFF,
	NSPROXY_DEFER_SAFE,
	NSPROXY_DEFER_ALL,
};

/**
 * enum nsproxy_defer_why - who asks for a flush
 * @NSPROXY_DEFER_USER: a write to the flush file; waits for as long as it takes
 * @NSPROXY_DEFER_UMOUNT: umount(2), a barrier for what is pending
 * @NSPROXY_DEFER_UCOUNT: a namespace that could not be made for a limit
 * @NSPROXY_DEFER_LAST: a release in mode safe, of a namespace to which nobody
 *	but pending releases holds on
 *
 * All but the first leave alone a release that has been stuck for
 * %NSPROXY_DEFER_STALL_SECS: one file system that does not answer must not
 * stop every umount(2) of the machine.
 */
enum nsproxy_defer_why {
	NSPROXY_DEFER_USER,
	NSPROXY_DEFER_UMOUNT,
	NSPROXY_DEFER_UCOUNT,
	NSPROXY_DEFER_LAST,
};

#define NSPROXY_DEFER_STALL_SECS	30

/**
 * struct nsproxy_defer_ops - what the engine needs to know of its kernel
 * @release: release one queued object, after a grace period. Process context,
 *	may sleep, runs in parallel with itself. The object is gone afterwards.
 * @finish: finish one thing that a release handed to some other context, such
 *	as a mount whose last reference a kernel thread dropped. Returns false
 *	when there is nothing left. Process context, may sleep, runs in parallel
 *	with itself. May be NULL.
 * @call_rcu: call_rcu(), or call_rcu_hurry() where call_rcu() is lazy.
 * @gp_seq: number of grace periods since load, normal and expedited. Any
 *	context. NULL where the kernel does not count them.
 * @short_of_memory: is so little left that a release that is deferred might take
 *	the last of it? Then nothing is deferred but what holds next to none. Any
 *	context. May be NULL.
 * @engage: called each time that another mode than off is written, before it
 *	holds. An error is the writer's, and the mode stays. Process context,
 *	may sleep, runs in parallel with itself. May be NULL.
 * @default_mode: the mode where no mode= parameter was given.
 * @safe_note: what the log says when mode safe is chosen, or NULL.
 */
struct nsproxy_defer_ops {
	void (*release)(struct llist_node *node);
	bool (*finish)(void);
	void (*call_rcu)(struct rcu_head *head,
			 void (*func)(struct rcu_head *head));
	unsigned long (*gp_seq)(void);
	bool (*short_of_memory)(void);
	int (*engage)(void);
	enum nsproxy_defer_mode default_mode;
	const char *safe_note;
};

int nsproxy_defer_start(const struct nsproxy_defer_ops *ops);
int nsproxy_defer_publish(void);
void nsproxy_defer_unpublish(void);
void nsproxy_defer_drain(void);
void nsproxy_defer_stop(void);

bool nsproxy_defer_bad_param(void);
bool nsproxy_defer_enabled(void);
bool nsproxy_defer_all(void);
bool nsproxy_defer_busy(void);
bool nsproxy_defer_owns(const struct work_struct *work);
bool nsproxy_defer_queue(struct llist_node *node, bool visible);
bool nsproxy_defer_queue_light(struct llist_node *node);
void nsproxy_defer_count_inline(void);
unsigned long nsproxy_defer_gps(void);
void nsproxy_defer_wait(void (*wait)(void));
bool nsproxy_defer_kick(void);
int nsproxy_defer_flush(enum nsproxy_defer_why why);

#endif /* _LINUX_NSPROXY_DEFER_H */
