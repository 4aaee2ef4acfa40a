// SPDX-License-Identifier: GPL-2.0-only
/*
 * For the dead that are counted still
 *
 * A namespace counts against its limit until it is freed, and these kinds are freed
 * some time after the last task in them was waited for. The grace period that each such
 * task slept through when it unmounted kept the number of the dead down. So where a
 * limit refuses a namespace, wait for what is dead, and ask again:
 *
 *	ipc	a work item
 *	net	a work item; before it RCU, where it had a netlink socket
 *	pid	RCU, three times
 *	user	the same, a work item, and before it all that it owns
 *
 * And a mount that was left to a worker may hold any of them.
 *
 * No caller of inc_ucount() holds a lock. A fatal signal ends the wait, and so does the
 * clock. As rcu_barrier() and flush_work() know neither of these, a work item does it,
 * the same one for all: a thousand tasks that hammer at their limits cost one
 * rcu_barrier() after the other, and not one each. They ask in between, too, since what
 * others have left may take longer.
 */
#include <linux/atomic.h>
#include <linux/ipc_namespace.h>
#include <linux/jiffies.h>
#include <linux/nsproxy_defer.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/user_namespace.h>
#include <linux/wait.h>
#include <linux/workqueue.h>
#include <net/net_namespace.h>

/* How long one call waits in all, and how long it goes without asking. */
#define WAIT_MAX	HZ
#define PAUSE_MAX	(HZ / 50)
/* For the work items that free user namespaces, of which no more is known. */
#define WAIT_USER	(HZ / 25)

/* Numbers of runs: the one that began last, and the one that ended last. */
static atomic_long_t begun = ATOMIC_LONG_INIT(0);
static atomic_long_t done = ATOMIC_LONG_INIT(0);
static DECLARE_WAIT_QUEUE_HEAD(flushed);

static void flush_dead(struct work_struct *unused)
{
	static unsigned long ended;
	long run;

	/* Where nothing is dead it takes no time, and would be done again at once. */
	if (!time_after(jiffies, ended))
		schedule_timeout_uninterruptible(1);
	/* A full barrier: pairs with the one in begin_flush(). */
	run = atomic_long_inc_return(&begun);
	rcu_barrier();
	ipc_ns_flush();
	net_ns_flush();
	ended = jiffies;
	atomic_long_set_release(&done, run);
	wake_up_all(&flushed);
}

static DECLARE_WORK(flush_dead_work, flush_dead);

/* The number of a run that sees all that is dead now. */
static long begin_flush(void)
{
	long run;

	/* Pairs with the increment in flush_dead(). */
	smp_mb();
	run = atomic_long_read(&begun) + 1;
	schedule_work(&flush_dead_work);
	return run;
}

static bool is_over(long run)
{
	return run && atomic_long_read_acquire(&done) - run >= 0;
}

/* Asks until the run is over, or else (@run is 0) until the time is. */
static struct ucounts *ask(const struct ucount_request *request, long run, unsigned long until)
{
	struct ucounts *ucounts = NULL;
	long pause = 1, left;

	while (!ucounts && time_before(jiffies, until)) {
		left = wait_event_killable_timeout(flushed, is_over(run), pause);
		if (left < 0)
			break;
		ucounts = request->try(request->ns, request->uid, request->type);
		if (left)
			break;
		pause = min(2 * pause, PAUSE_MAX);
	}
	return ucounts;
}

static struct ucounts *flush_and_ask(const struct ucount_request *request,
				     unsigned long until)
{
	static const int runs[UCOUNT_COUNTS] = {
		[UCOUNT_USER_NAMESPACES]	= 3,
		[UCOUNT_PID_NAMESPACES]		= 3,
		[UCOUNT_IPC_NAMESPACES]		= 1,
		[UCOUNT_NET_NAMESPACES]		= 2,
	};
	struct ucounts *ucounts = NULL;
	int i;

	for (i = 0; i < runs[request->type] && !ucounts; i++) {
		if (fatal_signal_pending(current))
			return NULL;
		ucounts = ask(request, begin_flush(), until);
	}
	if (!ucounts && request->type == UCOUNT_USER_NAMESPACES)
		ucounts = ask(request, 0, jiffies + WAIT_USER);
	return ucounts;
}

/**
 * ucount_wait - count one more, after the dead
 * @request: what was refused
 *
 * Context: process context, may sleep for two seconds, holds no lock.
 * Return: as inc_ucount().
 */
struct ucounts *ucount_wait(const struct ucount_request *request)
{
	struct user_namespace *ns;

	if (request->type > UCOUNT_TIME_NAMESPACES || current->flags & PF_KTHREAD ||
	    !nsproxy_defer_enabled())
		return NULL;
	/* A limit of 0 keeps everybody out. */
	for (ns = request->ns; ns; ns = ns->parent)
		if (READ_ONCE(ns->ucount_max[request->type]) <= 0)
			return NULL;
	/* Returns at once where nothing is left, and may take a second where that hangs. */
	if (nsproxy_defer_flush(NSPROXY_DEFER_UCOUNT) == -EINTR)
		return NULL;
	nsproxy_defer_count(NSPROXY_DEFER_STAT_FLUSH_UCOUNT);
	return request->try(request->ns, request->uid, request->type) ?:
	       flush_and_ask(request, jiffies + WAIT_MAX);
}
