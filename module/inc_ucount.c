// SPDX-License-Identifier: GPL-2.0-only
/*
 * Since 5.10: inc_ucount() taken over, for the dead that are counted still
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
 *	pid	RCU (delayed_put_pid()), since 6.14 a work item, and RCU
 *		(delayed_free_pidns())
 *	user	RCU (delayed_put_task_struct()), RCU again where put_task_struct()
 *		defers, RCU (put_cred_rcu()) and a work item (free_user_ns()); before
 *		it all of the above for the namespaces that it owns
 *	mnt, uts, cgroup, time
 *		nothing
 *
 * A mount that was left to the engine may hold any of them: one of a namespace's
 * file, or in mode all that of a proc, an mqueue or a FUSE file system.
 *
 * Nobody suffers from the wait. No caller of inc_ucount() holds a lock. A fatal
 * signal ends it, and so does the clock. What it takes, rcu_barrier() and
 * flush_work(), knows neither of these, so a work item does it, and the same one for
 * the whole machine: a thousand tasks that hammer at their limits cause one
 * rcu_barrier() after the other and one a jiffy at most, and ask less often than they
 * would on a stock kernel.
 *
 * The limit may really be reached, and that should not take long to find out. It
 * takes nothing for ipc, when free_ipc_work is idle, and for those that nothing comes
 * between; one rcu_barrier() for net, and three for pid and user. A limit of 0 keeps
 * everybody out and nobody waiting.
 *
 * RCU keeps pace with whoever makes namespaces, but the two work items may not. Up
 * to 6.1 each ipc namespace costs one of them a grace period, as each net namespace
 * may cost the other. A single loop that does not wait piles up thousands, with their
 * memory, and whoever comes to a limit then, with nothing but dead ones of their own,
 * has all of these before them. So where a work item has fallen behind, those who
 * make its kind together with a mount namespace wait for RCU, about as long as each
 * such life does on a stock kernel. How many may be made before it falls behind is
 * found out as TCP finds out what a network can take. Where a stock kernel expedites
 * the wait, it keeps nobody from that pile, and the module does not either.
 */
#include <linux/atomic.h>
#include <linux/bits.h>
#include <linux/compiler.h>
#include <linux/hash.h>
#include <linux/jiffies.h>
#include <linux/kernel.h>
#include <linux/nsproxy_defer.h>
#include <linux/ptrace.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/srcu.h>
#include <linux/user_namespace.h>
#include <linux/wait.h>
#include <linux/workqueue.h>

#include "compat/kcall.h"
#include "inc_ucount.h"
#include "symbols.h"
#include "takeover.h"

/* How long one call waits for the kernel in all, */
#define WAIT_MAX	HZ
/* and of that for work items of which no more is known than that they are to run. */
#define WAIT_WORKS	(HZ / 25)
/* One of many may be freed long before the last: how long to go without asking. */
#define PAUSE_MAX	(HZ / 50)
/* A work item that takes longer than this for what is dead has fallen behind. */
#define KEEPS_UP	(HZ / 10)
/* How many namespaces may be made while a work item is being flushed. */
#define WINDOW_MIN	8
#define WINDOW_MAX	1024

/* How long after its mount namespace a task makes the others of the same call. */
#define SAME_CALL	(HZ / 10)

DEFINE_KCALL(nsd_inc_ucount, struct ucounts *(struct user_namespace *ns,
					      kuid_t uid, enum ucount_type type));
/* Exported, but declared in a header of RCU's own; kernels for one CPU lack it. */
DEFINE_KCALL(nsd_gp_is_normal, bool (void));
static bool gp_may_be_normal;

/* A wait without an end of its own, by a work item for all who ask. */
struct flush {
	struct work_struct work;
	/* What to wait for, or NULL for RCU callbacks. */
	struct work_struct *target;
	/* Numbers of runs: the one that began last, and the one that ended last. */
	atomic_long_t begun;
	atomic_long_t done;
	/* When the latter did, in jiffies. */
	unsigned long ended;
	/* Since a run began: how many namespaces for the target were made, */
	atomic_t made;
	/* and how many may be without a wait, if it has not fallen behind. */
	int window;
	bool behind;
};

enum {
	FLUSH_RCU,
	FLUSH_IPC,
	FLUSH_NET,
	NR_FLUSHES,
};

static struct flush flushes[NR_FLUSHES];
static DECLARE_WAIT_QUEUE_HEAD(flushed);

#define RCU	BIT(FLUSH_RCU)
#define IPC	BIT(FLUSH_IPC)
#define NET	BIT(FLUSH_NET)
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
	[UCOUNT_PID_NAMESPACES] = { RCU, RCU, RCU },
	[UCOUNT_IPC_NAMESPACES] = { IPC },
	[UCOUNT_NET_NAMESPACES] = { NET, RCU, NET },
	[UCOUNT_TIME_NAMESPACES] = { 0 },
};

/* A call that was refused. */
struct request {
	struct user_namespace *ns;
	kuid_t uid;
	enum ucount_type type;
	bool waited;
	unsigned long until;
	/* What the step at hand waits for. */
	unsigned int running;
	long runs[NR_FLUSHES];
};

static void adjust_window(struct flush *flush, unsigned long since)
{
	bool behind = time_after(jiffies, since + KEEPS_UP);
	int window = flush->window;

	if (behind)
		window = WINDOW_MIN;
	else if (atomic_read(&flush->made) >= window)
		window = min(2 * window, WINDOW_MAX);
	WRITE_ONCE(flush->window, window);
	WRITE_ONCE(flush->behind, behind);
}

static void run_flush(struct work_struct *work)
{
	struct flush *flush = container_of(work, struct flush, work);
	unsigned long since;
	long run;

	/*
	 * Where no callbacks are queued rcu_barrier() takes next to no time, and
	 * those who hammer would have it done again at once.
	 */
	if (!time_after(jiffies, flush->ended))
		schedule_timeout_uninterruptible(1);
	since = jiffies;
	atomic_set(&flush->made, 0);
	/* A full barrier: pairs with the one in begin_flush(). */
	run = atomic_long_inc_return(&flush->begun);
	if (flush->target)
		flush_work(flush->target);
	else
		rcu_barrier();
	adjust_window(flush, since);
	flush->ended = jiffies;
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

/* A kernel without such namespaces has no such work item. */
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
		if (i != FLUSH_RCU && !is_busy(flush))
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

/* Asks again and again, for @most jiffies or until the step is over. */
static struct ucounts *ask_during_step(const struct request *request, long most)
{
	unsigned long until = jiffies + most;
	struct ucounts *ucounts;
	long pause = 1, left;

	if (time_after(until, request->until))
		until = request->until;
	for (;;) {
		left = until - jiffies;
		if (left <= 0)
			return NULL;
		left = wait_event_killable_timeout(flushed, step_is_over(request),
						   min(pause, left));
		if (left < 0)
			return NULL;
		ucounts = ask(request);
		if (ucounts || left)
			return ucounts;
		pause = min(2 * pause, (long)PAUSE_MAX);
	}
}

static struct ucounts *ask_step_by_step(struct request *request)
{
	const unsigned int *plan = plans[request->type];
	struct ucounts *ucounts = NULL;
	int i;

	for (i = 0; i < NR_STEPS && !ucounts; i++) {
		if (fatal_signal_pending(current))
			return NULL;
		if (!begin_step(request, plan[i]))
			continue;
		if (!request->waited)
			nsproxy_defer_count(NSPROXY_DEFER_STAT_FLUSH_UCOUNT);
		request->waited = true;
		ucounts = ask_during_step(request,
					  plan[i] & WORKS ? WAIT_WORKS : WAIT_MAX);
	}
	/* A work item may have got idle after the last answer. */
	return ucounts ?: ask(request);
}

/*
 * The engine comes last: it is seldom the reason, and in mode all a file system that
 * does not answer may keep it busy.
 */
static struct ucounts *wait_and_ask(struct request *request)
{
	struct ucounts *ucounts;
	unsigned long before;

	request->until = jiffies + WAIT_MAX;
	ucounts = ask_step_by_step(request);
	before = jiffies;
	if (ucounts || fatal_signal_pending(current) ||
	    !time_before(before, request->until))
		return ucounts;
	nsproxy_defer_flush(NSPROXY_DEFER_UCOUNT);
	/* It returns at once if nothing was pending. */
	if (time_after(jiffies, before))
		ucounts = ask_step_by_step(request);
	return ucounts;
}

/*
 * Who has made a mount namespace lately. A task makes it first of all that it makes
 * in one call. Nothing but speed depends on what is read here.
 */
#define MAKER_BITS	6

struct maker {
	const struct task_struct *task;
	unsigned long when;
};

static struct maker makers[1 << MAKER_BITS];

static void note_mnt_maker(void)
{
	struct maker *maker = &makers[hash_ptr(current, MAKER_BITS)];

	WRITE_ONCE(maker->task, current);
	WRITE_ONCE(maker->when, jiffies);
}

static bool made_mnt_as_well(void)
{
	const struct maker *maker = &makers[hash_ptr(current, MAKER_BITS)];

	return READ_ONCE(maker->task) == current &&
	       time_before(jiffies, READ_ONCE(maker->when) + SAME_CALL);
}

static bool has_room(struct flush *flush)
{
	return atomic_inc_return(&flush->made) <= READ_ONCE(flush->window) &&
	       !READ_ONCE(flush->behind);
}

/* Wait, unless the kernel frees what is made here as fast as it is made. */
static void keep_pace(struct request *request, struct flush *flush)
{
	if (!is_busy(flush) || !gp_may_be_normal || !kcall(nsd_gp_is_normal)() ||
	    !made_mnt_as_well())
		return;
	/* So that there is a run to measure. */
	begin_flush(flush);
	if (has_room(flush))
		return;
	begin_step(request, RCU);
	wait_event_killable_timeout(flushed, step_is_over(request), WAIT_MAX);
}

static void note(struct request *request)
{
	switch (request->type) {
	case UCOUNT_MNT_NAMESPACES:
		note_mnt_maker();
		break;
	case UCOUNT_IPC_NAMESPACES:
		keep_pace(request, &flushes[FLUSH_IPC]);
		break;
	case UCOUNT_NET_NAMESPACES:
		keep_pace(request, &flushes[FLUSH_NET]);
		break;
	default:
		break;
	}
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
	if (ucounts)
		note(&request);
	srcu_read_unlock(&nsd_hook_srcu, idx);
	return ucounts;
}

/**
 * nsd_wants_inc_ucount - is it a namespace, and somebody who may wait?
 * @regs: the arguments of inc_ucount()
 *
 * Context: any, called from ftrace.
 */
bool nsd_wants_inc_ucount(struct pt_regs *regs)
{
	enum ucount_type type = regs_get_kernel_argument(regs, 2);

	return type <= UCOUNT_TIME_NAMESPACES && nsproxy_defer_enabled() &&
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
	unsigned long gp_is_normal = nsd_symbol("rcu_gp_is_normal");
	int i;

	gp_may_be_normal = gp_is_normal;
	if (gp_is_normal)
		kcall_set(nsd_gp_is_normal, gp_is_normal);

	for (i = 0; i < NR_FLUSHES; i++) {
		INIT_WORK(&flushes[i].work, run_flush);
		flushes[i].window = WINDOW_MIN;
	}
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
