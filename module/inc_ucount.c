// SPDX-License-Identifier: GPL-2.0-only
/*
 * Since 4.9: inc_ucount() taken over, for the dead that are counted still
 *
 * A namespace counts against user.max_*_namespaces until it is freed, and four
 * kinds are freed by work items and RCU callbacks of the kernel's own, some time
 * after the last task in them was waited for. On a stock kernel the grace period
 * that each such task sleeps through keeps the number of the dead down. Without it
 * a program that makes one namespace after the other, and keeps none, comes to its
 * limit with nothing but dead ones.
 *
 * So where a limit refuses a namespace, wait for what is dead, and ask again. What
 * comes between the last put and the end of the count:
 *
 *	ipc	free_ipc_work, which takes a grace period; up to 6.1 one for each
 *	net	net_cleanup_work; before it RCU, where it had a netlink socket
 *	pid	RCU (delayed_put_pid()), up to 5.7 and since 6.14 a work item, and
 *		RCU (delayed_free_pidns())
 *	user	RCU (delayed_put_task_struct()), RCU again where put_task_struct()
 *		defers, RCU (put_cred_rcu()) and a work item (free_user_ns()); before
 *		it all of the above for the namespaces that it owns
 *	mnt, uts, cgroup, time
 *		nothing
 *
 * And a mount that was left to the engine may hold any of them: one of a namespace's
 * file, or in mode all that of a proc, an mqueue or a FUSE file system.
 *
 * Nobody suffers from the wait. No caller of inc_ucount() holds a lock that others
 * want: fsmount(2) has that of its own fs context. A fatal signal ends it, and so
 * does the clock. What it takes, rcu_barrier() and flush_work(), knows neither of
 * these, so a work item does it, and the same one for the whole machine: a thousand
 * tasks that hammer at their limits cause one rcu_barrier() after the other and one a
 * jiffy at most, and ask less often than they would on a stock kernel. They ask in
 * between, too, so that it does not matter to them what others have left that takes
 * longer.
 *
 * The limit may really be reached, and that should not take long to find out. It
 * takes one rcu_barrier() for net and three for pid and user, and next to nothing for
 * the others if free_ipc_work and the engine are idle. A limit of 0 keeps everybody
 * out and nobody waiting.
 */
#include <linux/atomic.h>
#include <linux/bits.h>
#include <linux/compiler.h>
#include <linux/jiffies.h>
#include <linux/kernel.h>
#include <linux/nsproxy_defer.h>
#include <linux/ptrace.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/srcu.h>
#include <linux/user_namespace.h>
#include <linux/wait.h>
#include <linux/workqueue.h>

#include "compat/compat.h"
#include "compat/kcall.h"
#include "inc_ucount.h"
#include "symbols.h"
#include "takeover.h"

/* How long one call waits in all. */
#define WAIT_MAX	HZ
/* How long for work items of which no more is known than that they are to run. */
#define WAIT_WORKS	(HZ / 25)
/* One of many may be freed long before the last: how long to go without asking. */
#define PAUSE_MAX	(HZ / 50)

DEFINE_KCALL(nsd_inc_ucount, struct ucounts *(struct user_namespace *ns,
					      kuid_t uid, enum ucount_type type));

/* A wait without an end of its own, by a work item for all who ask. */
struct flush {
	struct work_struct work;
	/* The work item to wait for, if it is one. */
	struct work_struct *target;
	/*
	 * Numbers of runs: the one that began last, the one that ended last, and the
	 * last that had something to wait for.
	 */
	atomic_long_t begun;
	atomic_long_t done;
	long waited;
	/* When the last one ended, in jiffies. */
	unsigned long ended;
};

enum {
	FLUSH_RCU,
	FLUSH_IPC,
	FLUSH_NET,
	FLUSH_LEFT,
	NR_FLUSHES,
};

static struct flush flushes[NR_FLUSHES];
static DECLARE_WAIT_QUEUE_HEAD(flushed);

#define RCU	BIT(FLUSH_RCU)
#define IPC	BIT(FLUSH_IPC)
#define NET	BIT(FLUSH_NET)
#define LEFT	BIT(FLUSH_LEFT)
#define WORKS	BIT(NR_FLUSHES)

/*
 * What to wait for, step by step until one has helped: what a step flushes may
 * leave something to the next.
 */
#define NR_STEPS	4
static const unsigned int plans[][NR_STEPS] = {
	[UCOUNT_USER_NAMESPACES] = {
		RCU | IPC | NET, RCU | IPC | NET, RCU | IPC | NET, WORKS,
	},
	[UCOUNT_PID_NAMESPACES] = { RCU, RCU, RCU, WORKS },
	[UCOUNT_IPC_NAMESPACES] = { IPC },
	[UCOUNT_NET_NAMESPACES] = { NET, RCU, NET },
	[NSD_LAST_NAMESPACE] = { 0 },
};

/* A call that was refused. */
struct request {
	struct user_namespace *ns;
	kuid_t uid;
	enum ucount_type type;
	bool counted;
	/* How long it may still wait. */
	long left;
	/* What the step at hand waits for. */
	unsigned int running;
	long runs[NR_FLUSHES];
};

static void run_flush(struct work_struct *work)
{
	struct flush *flush = container_of(work, struct flush, work);
	unsigned long since;
	long run;

	/*
	 * Where nothing is queued it takes next to no time, and those who hammer
	 * would have it done again at once.
	 */
	if (!flush->target && !time_after(jiffies, flush->ended))
		schedule_timeout_uninterruptible(1);
	since = jiffies;
	/*
	 * A full barrier: pairs with the one in begin_flush(). Litmus tests: run-begun,
	 * run-over.
	 */
	run = atomic_long_inc_return(&flush->begun);
	if (flush == &flushes[FLUSH_RCU])
		rcu_barrier();
	else if (flush == &flushes[FLUSH_LEFT])
		nsproxy_defer_flush(NSPROXY_DEFER_UCOUNT);
	else
		flush_work(flush->target);
	flush->ended = jiffies;
	if (time_after(flush->ended, since))
		WRITE_ONCE(flush->waited, run);
	atomic_long_set_release(&flush->done, run);
	wake_up_all(&flushed);
}

/*
 * Returns the number of a run that begins after now. If it is the next one that is
 * seen to come, that one sees all that was to be flushed before.
 */
static long begin_flush(struct flush *flush)
{
	long run;

	/* Pairs with the increment in run_flush(). */
	smp_mb();
	run = atomic_long_read(&flush->begun) + 1;
	schedule_work(&flush->work);
	return run;
}

/* Is the work item? A kernel without such namespaces has none. */
static bool is_busy(const struct flush *flush)
{
	return flush->target && work_busy(flush->target);
}

/* Returns false if there is nothing to wait for. */
static bool begin_step(struct request *request, unsigned int step)
{
	int i;

	request->running = 0;
	for (i = 0; i < NR_FLUSHES; i++) {
		struct flush *flush = &flushes[i];

		if (!(step & BIT(i)))
			continue;
		if (BIT(i) & (IPC | NET) && !is_busy(flush))
			continue;
		request->runs[i] = begin_flush(flush);
		request->running |= BIT(i);
	}
	return request->running || step & WORKS;
}

static bool step_is_over(const struct request *request)
{
	int i;

	if (!request->running)
		return false;
	for (i = 0; i < NR_FLUSHES; i++)
		if (request->running & BIT(i) &&
		    atomic_long_read_acquire(&flushes[i].done) - request->runs[i] < 0)
			return false;
	return true;
}

static struct ucounts *ask(const struct request *request)
{
	return kcall(nsd_inc_ucount)(request->ns, request->uid, request->type);
}

/*
 * Asks again and again, for @most jiffies or until the step is over. What counts are
 * the pauses, and not the clock: a guest that the host did not run has not waited.
 */
static struct ucounts *ask_during_step(struct request *request, long most)
{
	struct ucounts *ucounts = NULL;
	long pause = 1, left = 0;

	most = min(most, request->left);
	while (most > 0 && !ucounts && !left) {
		pause = min(pause, most);
		left = wait_event_killable_timeout(flushed, step_is_over(request), pause);
		if (left < 0)
			break;
		ucounts = ask(request);
		most -= pause;
		request->left -= pause;
		pause = min(2 * pause, (long)PAUSE_MAX);
	}
	return ucounts;
}

static struct ucounts *take_step(struct request *request, unsigned int step)
{
	if (fatal_signal_pending(current) || !begin_step(request, step))
		return NULL;
	/* The engine counts for itself. */
	if (!request->counted && step != LEFT) {
		nsproxy_defer_count(NSPROXY_DEFER_STAT_FLUSH_UCOUNT);
		request->counted = true;
	}
	return ask_during_step(request, step & WORKS ? WAIT_WORKS : WAIT_MAX);
}

static struct ucounts *take_steps(struct request *request)
{
	const unsigned int *plan = plans[request->type];
	struct ucounts *ucounts = NULL;
	int i;

	for (i = 0; i < NR_STEPS && !ucounts; i++)
		ucounts = take_step(request, plan[i]);
	/* A work item may have got idle after the last answer. */
	return ucounts ?: ask(request);
}

/*
 * The engine comes last: mostly it is not the reason, and in mode all a file system
 * that does not answer may keep it busy. What it lets go may take all the steps then.
 */
static struct ucounts *wait_and_ask(struct request *request)
{
	struct ucounts *ucounts;

	request->left = WAIT_MAX;
	ucounts = take_steps(request);
	if (!ucounts)
		ucounts = take_step(request, LEFT);
	if (!ucounts && READ_ONCE(flushes[FLUSH_LEFT].waited) -
			request->runs[FLUSH_LEFT] >= 0)
		ucounts = take_steps(request);
	return ucounts;
}

static bool is_out_of_the_question(const struct request *request)
{
	struct user_namespace *ns;

	for (ns = request->ns; ns; ns = ns->parent)
		if (READ_ONCE(ns->ucount_max[request->type]) <= 0)
			return true;
	return false;
}

/**
 * nsd_replace_inc_ucount - count one more, after the dead if need be
 * @ns: the user namespace in which to count
 * @uid: the user for whom
 * @type: what, one that nsd_wants_inc_ucount() wants
 *
 * Context: process context, may sleep for a second or so, holds no lock.
 * Return: as inc_ucount().
 */
struct ucounts *nsd_replace_inc_ucount(struct user_namespace *ns, kuid_t uid,
				       enum ucount_type type)
{
	int idx = srcu_read_lock(&nsd_hook_srcu);
	struct request request = { .ns = ns, .uid = uid, .type = type };
	struct ucounts *ucounts;

	ucounts = ask(&request);
	if (!ucounts && !is_out_of_the_question(&request))
		ucounts = wait_and_ask(&request);
	srcu_read_unlock(&nsd_hook_srcu, idx);
	return ucounts;
}

/**
 * nsd_wants_inc_ucount - is it a namespace, and somebody who may wait?
 * @fregs: the arguments of inc_ucount()
 *
 * Context: any, called from ftrace.
 */
bool nsd_wants_inc_ucount(struct nsd_ftrace_regs *fregs)
{
	enum ucount_type type = nsd_ftrace_argument(fregs, 2);

	return type <= NSD_LAST_NAMESPACE && nsproxy_defer_enabled() &&
	       !(current->flags & PF_KTHREAD);
}

/**
 * nsd_set_inc_ucount - tell where the original is
 * @address: that is
 *
 * Context: process context, may sleep.
 */
void nsd_set_inc_ucount(unsigned long address)
{
	kcall_set(nsd_inc_ucount, address);
}

/**
 * nsd_inc_ucount_init - find the work items that free namespaces
 *
 * Nothing has to be undone if what comes after fails.
 *
 * Context: process context, after nsd_symbols_init().
 * Return: 0.
 */
int nsd_inc_ucount_init(void)
{
	int i;

	for (i = 0; i < NR_FLUSHES; i++)
		INIT_WORK(&flushes[i].work, run_flush);
	flushes[FLUSH_IPC].target = (struct work_struct *)nsd_symbol("free_ipc_work");
	flushes[FLUSH_NET].target = (struct work_struct *)nsd_symbol("net_cleanup_work");
	return 0;
}

/**
 * nsd_inc_ucount_exit - wait until nothing of this file runs
 *
 * Context: process context, may sleep for as long as dead network namespaces take
 * to be freed. Nobody is in the replacement, nor will be.
 */
void nsd_inc_ucount_exit(void)
{
	int i;

	for (i = 0; i < NR_FLUSHES; i++)
		cancel_work_sync(&flushes[i].work);
}
