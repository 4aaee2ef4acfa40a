// SPDX-License-Identifier: GPL-2.0-only
/*
 * For the dead that are counted still
 *
 * A namespace counts against its limit until it is freed, and some kinds are freed some
 * time after the last task in them was waited for: ipc by a work item, net by RCU and one,
 * pid by RCU, three times, and on some lines by a work item, user by the same, after all
 * that it owns, and a work item. And a mount that was left may hold any of them. The grace
 * period that each such task slept through when it unmounted kept the number of the dead
 * down. So where a limit refuses one, wait for what is dead, and ask again.
 *
 * Nobody who asks for a namespace holds a lock but fsmount(2), which has that of its own fs
 * context. A fatal signal ends the wait, and so does the clock, by steps: a guest that the
 * host did not run for a second has not waited. rcu_barrier() and flush_work() know neither
 * of these, so a work item does it, and a thousand tasks that hammer at their limits cost
 * one after the other, and not one each.
 */
#include <linux/jiffies.h>
#include <linux/nsproxy_defer.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/user_namespace.h>
#include <linux/wait.h>
#include <linux/workqueue.h>

/* Numbers of runs: the one that began last, and the one that ended last. */
static atomic_long_t begun = ATOMIC_LONG_INIT(0);
static atomic_long_t done = ATOMIC_LONG_INIT(0);
static DECLARE_WAIT_QUEUE_HEAD(flushed);

static void flush_dead(struct work_struct *unused)
{
	long run;

	/* Where nothing is dead the rest takes no time, and would be done again at once. */
	schedule_timeout_uninterruptible(1);
	/* A full barrier: pairs with the one in ucount_wait(). */
	run = atomic_long_inc_return(&begun);
	rcu_barrier();
	if (IS_ENABLED(CONFIG_IPC_NS))
		ipc_ns_flush();
	if (IS_ENABLED(CONFIG_NET_NS))
		net_ns_flush();
	atomic_long_set_release(&done, run);
	wake_up_all(&flushed);
}

static DECLARE_WORK(flush_dead_work, flush_dead);

/* The first kinds are namespaces; this one may come later. */
static bool is_namespace(enum ucount_type type)
{
#ifdef CONFIG_TIME_NS
	if (type == UCOUNT_TIME_NAMESPACES)
		return true;
#endif
	return type <= UCOUNT_CGROUP_NAMESPACES;
}

/* Where nobody may be let in, or wait, there is nothing to wait for. */
static bool may_wait(const struct user_namespace *ns, enum ucount_type type)
{
	while (ns && READ_ONCE(ns->ucount_max[type]) > 0)
		ns = ns->parent;
	return !ns && is_namespace(type) && !(current->flags & PF_KTHREAD) &&
	       nsproxy_defer_enabled();
}

/*
 * A limit refused a namespace: waits for some of the dead, a second or two in all, and
 * tells whether to ask again. @wait is zero at first.
 */
bool ucount_wait(struct ucount_wait *wait, const struct user_namespace *ns, enum ucount_type type)
{
	/* Runs of flush_dead(), for the steps in the comment above. */
	static const int runs[UCOUNT_COUNTS] = {
		[UCOUNT_USER_NAMESPACES]	= 5,
		[UCOUNT_PID_NAMESPACES]		= 4,
		[UCOUNT_IPC_NAMESPACES]		= 1,
		[UCOUNT_NET_NAMESPACES]		= 2,
	};
	long left;

	/* What is left may hang. That takes a second. */
	if (!wait->asked++)
		return may_wait(ns, type) && nsproxy_defer_flush(NSPROXY_DEFER_UCOUNT) != -EINTR;
	if (wait->runs == runs[type] || wait->asked > 50)
		return false;
	if (!wait->run) {
		/*
		 * The run after this one sees all that is dead now: pairs with the increment in
		 * flush_dead(). Litmus test: run-begun.
		 */
		smp_mb();
		wait->run = atomic_long_read(&begun) + 1;
		schedule_work(&flush_dead_work);
		if (!wait->runs)
			nsproxy_defer_count(NSPROXY_DEFER_STAT_FLUSH_UCOUNT);
	}
	/* What others have left may take longer, so ask in between. */
	left = wait_event_killable_timeout(flushed,
					   atomic_long_read_acquire(&done) - wait->run >= 0,
					   DIV_ROUND_UP(HZ, 50));
	if (left > 0) {
		wait->run = 0;
		wait->runs++;
	}
	return left >= 0;
}
