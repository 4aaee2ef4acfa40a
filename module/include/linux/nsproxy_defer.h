/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _LINUX_NSPROXY_DEFER_H
#define _LINUX_NSPROXY_DEFER_H

#include <linux/llist.h>
#include <linux/types.h>

struct rcu_head;

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
 * enum nsproxy_defer_stat - what is counted, each a file in the folder stats
 * @NSPROXY_DEFER_STAT_FINISHED: mounts that the caller itself shut down at once
 * @NSPROXY_DEFER_STAT_DROPPED: mounts whose last references are the caller's own
 * @NSPROXY_DEFER_STAT_LEFT: releases that were left to a worker
 * @NSPROXY_DEFER_STAT_RELEASED: of these, those that are done
 * @NSPROXY_DEFER_STAT_LIGHT: the same of what holds next to nothing, see
 *	nsproxy_defer_queue_light()
 * @NSPROXY_DEFER_STAT_LIGHT_RELEASED: of these, those that are done
 * @NSPROXY_DEFER_STAT_WAITED_VISIBLE: the caller waited, since a program could
 *	tell that it did not
 * @NSPROXY_DEFER_STAT_WAITED_FILESYSTEM: the caller waited, since the file system
 *	is not known to be safe without a grace period
 * @NSPROXY_DEFER_STAT_WAITED_SUPERBLOCK: the caller waited for what had been left
 *	of the same superblock
 * @NSPROXY_DEFER_STAT_WAITED_BOUND: the caller waited, since max_pending was
 *	reached or memory was short
 * @NSPROXY_DEFER_STAT_BATCHES: batches, each with a grace period of its own
 * @NSPROXY_DEFER_STAT_FLUSH_USER: flushes that had to wait, and so on in the order
 *	of &enum nsproxy_defer_why
 * @NSPROXY_DEFER_STAT_FLUSH_UMOUNT: see there
 * @NSPROXY_DEFER_STAT_FLUSH_LAST: see there
 * @NSPROXY_DEFER_STAT_FLUSH_UCOUNT: see there
 * @NR_NSPROXY_DEFER_STATS: how many there are
 */
enum nsproxy_defer_stat {
	NSPROXY_DEFER_STAT_FINISHED,
	NSPROXY_DEFER_STAT_DROPPED,
	NSPROXY_DEFER_STAT_LEFT,
	NSPROXY_DEFER_STAT_RELEASED,
	NSPROXY_DEFER_STAT_LIGHT,
	NSPROXY_DEFER_STAT_LIGHT_RELEASED,
	NSPROXY_DEFER_STAT_WAITED_VISIBLE,
	NSPROXY_DEFER_STAT_WAITED_FILESYSTEM,
	NSPROXY_DEFER_STAT_WAITED_SUPERBLOCK,
	NSPROXY_DEFER_STAT_WAITED_BOUND,
	NSPROXY_DEFER_STAT_BATCHES,
	NSPROXY_DEFER_STAT_FLUSH_USER,
	NSPROXY_DEFER_STAT_FLUSH_UMOUNT,
	NSPROXY_DEFER_STAT_FLUSH_LAST,
	NSPROXY_DEFER_STAT_FLUSH_UCOUNT,
	NR_NSPROXY_DEFER_STATS,
};

/**
 * enum nsproxy_defer_why - who asks for a flush
 * @NSPROXY_DEFER_USER: a write to the flush file; waits for as long as it takes
 * @NSPROXY_DEFER_UMOUNT: up to Linux 3.16, umount(2), a barrier for what is pending
 * @NSPROXY_DEFER_LAST: up to Linux 3.16, a release in mode safe, of a namespace to
 *	which nobody but pending releases holds on
 * @NSPROXY_DEFER_UCOUNT: a namespace that could not be made for a limit; waits for
 *	a second at most
 *
 * Those of Linux 3.16 leave alone a release that has not got on for
 * %NSPROXY_DEFER_STALL_SECS: one file system that does not answer must not
 * stop every umount(2) of the machine.
 */
enum nsproxy_defer_why {
	NSPROXY_DEFER_USER,
	NSPROXY_DEFER_UMOUNT,
	NSPROXY_DEFER_LAST,
	NSPROXY_DEFER_UCOUNT,
};

#define NSPROXY_DEFER_STALL_SECS	30

/**
 * struct nsproxy_defer_ops - what the engine needs to know of its kernel
 * @release: release one queued object, after a grace period; light, if that is how
 *	it was queued. Process context, may sleep, runs in parallel with itself. The
 *	object is gone afterwards.
 * @call_rcu: call_rcu(), or call_rcu_hurry() where call_rcu() is lazy.
 * @gp_seq: number of grace periods since load, normal and expedited. Any
 *	context. NULL where the kernel does not count them.
 * @short_of_memory: is so little left that a release that is deferred might take
 *	the last of it? Then nothing is deferred but what holds next to none. Any
 *	context. May be NULL.
 * @engage: called each time that another mode than off is written, before it
 *	holds. An error is the writer's, and the mode stays. Process context,
 *	may sleep, runs in parallel with itself. May be NULL.
 * @settle: finish what releases left to contexts of the kernel's own, after a
 *	flush that somebody asked for by the flush file. Called by a work item,
 *	never in parallel with itself; may sleep. May be NULL.
 * @default_mode: the mode where no mode= parameter was given.
 */
struct nsproxy_defer_ops {
	void (*release)(struct llist_node *node, bool light);
	void (*call_rcu)(struct rcu_head *head,
			 void (*func)(struct rcu_head *head));
	unsigned long (*gp_seq)(void);
	bool (*short_of_memory)(void);
	int (*engage)(void);
	void (*settle)(void);
	enum nsproxy_defer_mode default_mode;
};

int nsproxy_defer_start(const struct nsproxy_defer_ops *ops);
int nsproxy_defer_publish(void);
#ifdef MODULE
bool nsproxy_defer_bad_param(void);
void nsproxy_defer_unpublish(void);
void nsproxy_defer_drain(void);
void nsproxy_defer_stop(void);
#endif

bool nsproxy_defer_enabled(void);
bool nsproxy_defer_all(void);
bool nsproxy_defer_is_worker(void);
bool nsproxy_defer_queue(struct llist_node *node, bool visible);
bool nsproxy_defer_queue_light(struct llist_node *node);
void nsproxy_defer_count(enum nsproxy_defer_stat stat);
unsigned long nsproxy_defer_gps(void);
int nsproxy_defer_flush(enum nsproxy_defer_why why);

#endif /* _LINUX_NSPROXY_DEFER_H */
