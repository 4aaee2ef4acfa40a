// SPDX-License-Identifier: GPL-2.0-only
/*
 * Releases that are left to a worker: the engine
 *
 * Some releases must come after an RCU grace period, and the task that calls
 * setns(2), unshare(2) or umount(2), or exits, would pay for it. Here the release
 * is queued instead, and a worker pays, once for many.
 *
 * The trick is that the corpse is its own queue entry: the caller hands over
 * one llist_node inside the dying object, so that queuing never allocates and
 * never sleeps. An object moves through these stages, in this order:
 *
 *   arrivals	a lockless list, any task adds to it;
 *   gp		one batch, closed, whose grace period is under way;
 *   ready	one batch whose grace period is over, being handed out;
 *   slot	one object, being released by a work item, or all of a batch that hold
 *		next to nothing.
 *
 * There is one rcu_head, so one batch in gp at a time: what arrives during a
 * grace period forms the next batch.
 *
 * The slots of a batch run in parallel, because a release may itself wait for a
 * grace period and waits that overlap share it. A slot touches nothing but what
 * it was given, so a release that hangs keeps its slot and nothing else.
 *
 * Flushing asks "is everything gone that was queued before now?". Objects have
 * room for a list pointer and no more, so the answer is kept per batch: gp,
 * ready and every busy slot carry the number of their batch and stand, oldest
 * first, on one list. A flush waits until that list begins after the batch
 * that is collecting now.
 *
 * This file is the same in the module and, but for the end of it, in the patch series; it knows
 * neither the kernel's version nor how its objects came here. Its users supply
 * that through struct nsproxy_defer_ops.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/atomic.h>
#include <linux/completion.h>
#include <linux/errno.h>
#include <linux/jiffies.h>
#include <linux/kernel.h>
#include <linux/kobject.h>
#include <linux/list.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/nsproxy_defer.h>
#include <linux/percpu.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/smp.h>
#include <linux/spinlock.h>
#include <linux/string.h>
#include <linux/sysfs.h>
#include <linux/workqueue.h>

#define CREATE_TRACE_POINTS
#include <trace/events/nsproxy_defer.h>

/*
 * How many releases run at once. Each may hold a kernel thread through a grace
 * period, and the grace periods that a backlog costs are about two for each
 * NSPROXY_DEFER_SLOTS objects.
 */
#define NSPROXY_DEFER_SLOTS		128
#define NSPROXY_DEFER_MAX_PENDING	1024
/* How many light ones may be pending for each of max_pending. */
#define NSPROXY_DEFER_LIGHT_FACTOR	64

/* No mode= was given; nsproxy_defer_start() replaces it. */
#define MODE_UNSET			(-1)

/*
 * Objects come in two kinds, since they are bounded apart. A list of each goes
 * through all the stages beside the other.
 */
enum {
	HEAVY,
	LIGHT,
	NR_KINDS,
};

struct stats {
	atomic_long_t count[NR_NSPROXY_DEFER_STATS];
};

/* One set for each CPU, so that counting takes no cache line from another. */
static DEFINE_PER_CPU(struct stats, stats);

/* Something that a flush may have to wait for; on @tracked, oldest first. */
struct tracked {
	struct list_head node;
	unsigned long batch;
	unsigned long since;
};

struct slot {
	struct tracked t;
	struct list_head idle;
	struct work_struct work;
	struct llist_node *member;
	int kind;
	/* Who does the work, while it does. */
	struct task_struct *task;
};

struct waiter {
	struct list_head node;
	struct completion done;
	unsigned long batch;
};

static const struct nsproxy_defer_ops *ops;
static struct workqueue_struct *wq;
static struct kobject *kobj;

static struct llist_head arrivals[NR_KINDS];
static atomic_t mode = ATOMIC_INIT(MODE_UNSET);
static atomic_t max_pending = ATOMIC_INIT(NSPROXY_DEFER_MAX_PENDING);
static atomic_t pending[NR_KINDS];
static atomic_t high_water = ATOMIC_INIT(0);
/* How many stand on @tracked, for those who look without the lock. */
static atomic_t nr_tracked = ATOMIC_INIT(0);

/*
 * Protects everything below. Taken by the first arrival of a batch, by the RCU
 * callback and by slots, never for an object that joins a batch.
 */
static DEFINE_SPINLOCK(lock);
static LIST_HEAD(tracked);
static LIST_HEAD(idle);
static LIST_HEAD(waiters);
static struct slot slots[NSPROXY_DEFER_SLOTS];
static unsigned long next_batch = 1;
static struct llist_node *gp_members[NR_KINDS];
static struct tracked gp;
static bool gp_over;
static struct rcu_head gp_head;
static struct llist_node *ready_members[NR_KINDS];
static struct tracked ready;
static unsigned long gp_seq_start;
static unsigned long gp_seq_total;

static const char * const mode_names[] = {
	[NSPROXY_DEFER_OFF]	= "off",
	[NSPROXY_DEFER_SAFE]	= "safe",
	[NSPROXY_DEFER_ALL]	= "all",
};

/**
 * nsproxy_defer_count - count something that happened
 * @stat: what
 *
 * Context: any.
 */
void nsproxy_defer_count(enum nsproxy_defer_stat stat)
{
	struct stats *here = &per_cpu(stats, raw_smp_processor_id());

	atomic_long_inc(&here->count[stat]);
}

/**
 * nsproxy_defer_gps - how many grace periods have passed
 *
 * Context: any.
 * Return: the number since some time before the first release was queued; 0
 * where the kernel does not count them.
 */
unsigned long nsproxy_defer_gps(void)
{
	return ops->gp_seq ? ops->gp_seq() : 0;
}

/* Batch numbers wrap, so they are compared as jiffies are. */
static bool batch_after(unsigned long a, unsigned long b)
{
	return (long)(b - a) < 0;
}

static void track(struct tracked *t, unsigned long batch, struct list_head *before)
{
	if (list_empty(&tracked))
		gp_seq_start = nsproxy_defer_gps();
	t->batch = batch;
	t->since = jiffies;
	list_add_tail(&t->node, before);
	atomic_inc(&nr_tracked);
}

static void untrack(struct tracked *t)
{
	list_del(&t->node);
	atomic_dec(&nr_tracked);
	if (list_empty(&tracked))
		gp_seq_total += nsproxy_defer_gps() - gp_seq_start;
}

static bool stalled(const struct tracked *t)
{
	return time_after(jiffies, t->since + NSPROXY_DEFER_STALL_SECS * HZ);
}

static bool any(struct llist_node * const *members)
{
	return members[HEAVY] || members[LIGHT];
}

/* Is every object gone that was queued in @batch or before? */
static bool all_gone(unsigned long batch)
{
	if (list_empty(&tracked))
		return batch_after(next_batch, batch);
	return batch_after(list_first_entry(&tracked, struct tracked, node)->batch,
			   batch);
}

/*
 * The same, but what has not got on for so long does not count. If the objects
 * of @batch are arrivals still, what keeps them there is the batch in gp.
 */
static bool gone_or_stalled(unsigned long batch)
{
	struct tracked *t;

	list_for_each_entry(t, &tracked, node) {
		if (batch_after(t->batch, batch))
			return true;
		if (!stalled(t))
			return false;
	}
	return batch_after(next_batch, batch) || any(gp_members);
}

/* Waiters came in the order of their batches. */
static void wake_waiters(void)
{
	struct waiter *w, *next;

	list_for_each_entry_safe(w, next, &waiters, node) {
		if (!all_gone(w->batch))
			break;
		list_del_init(&w->node);
		complete(&w->done);
	}
}

static bool arrivals_empty(void)
{
	return llist_empty(&arrivals[HEAVY]) && llist_empty(&arrivals[LIGHT]);
}

/* The batch of whatever was queued last. Litmus test: flush-arrival. */
static unsigned long newest_batch(void)
{
	return arrivals_empty() ? next_batch - 1 : next_batch;
}

static void gp_callback(struct rcu_head *head);

static void give_member(struct slot *slot)
{
	int kind = ready_members[HEAVY] ? HEAVY : LIGHT;

	slot->kind = kind;
	slot->member = ready_members[kind];
	/* What holds next to nothing is quickly done, so one slot takes all of it. */
	ready_members[kind] = kind == HEAVY ? slot->member->next : NULL;
	track(&slot->t, ready.batch, &ready.node);
	ready.since = jiffies;
	if (!any(ready_members))
		untrack(&ready);
}

static void start_slot(struct slot *slot)
{
	list_del(&slot->idle);
	queue_work(wq, &slot->work);
}

/* Move on whatever can move on. Called with the lock held whenever something changed. */
static void advance(void)
{
	struct slot *slot, *next;
	int kind;

	if (gp_over && !any(ready_members)) {
		for (kind = 0; kind < NR_KINDS; kind++) {
			ready_members[kind] = gp_members[kind];
			gp_members[kind] = NULL;
		}
		track(&ready, gp.batch, &gp.node);
		untrack(&gp);
		gp_over = false;
	}

	list_for_each_entry_safe(slot, next, &idle, idle) {
		if (!any(ready_members))
			break;
		give_member(slot);
		start_slot(slot);
	}

	if (!any(gp_members) && !arrivals_empty()) {
		/*
		 * llist_del_all() pairs with the llist_add() of each arrival:
		 * all that the tasks did to take their objects out of sight
		 * comes before call_rcu(), so that the grace period covers
		 * every reader that may still see one of them. Litmus test:
		 * engine-gp.
		 */
		for (kind = 0; kind < NR_KINDS; kind++)
			gp_members[kind] = llist_del_all(&arrivals[kind]);
		track(&gp, next_batch++, &tracked);
		nsproxy_defer_count(NSPROXY_DEFER_STAT_BATCHES);
		trace_nsproxy_defer_batch(gp.batch, atomic_read(&pending[HEAVY]));
		ops->call_rcu(&gp_head, gp_callback);
	}
}

static void gp_callback(struct rcu_head *head)
{
	spin_lock_bh(&lock);
	gp_over = true;
	advance();
	spin_unlock_bh(&lock);
}

/* Gives the slot its next object; returns false when there is none. */
static bool next_member(struct slot *slot)
{
	bool more;

	spin_lock_bh(&lock);
	untrack(&slot->t);
	more = any(ready_members);
	if (more)
		give_member(slot);
	else
		list_add(&slot->idle, &idle);
	advance();
	wake_waiters();
	spin_unlock_bh(&lock);
	return more;
}

static void release(struct llist_node *member, const struct slot *slot)
{
	bool light = slot->kind == LIGHT;

	trace_nsproxy_defer_release(member, slot->t.batch);
	ops->release(member, light);
	nsproxy_defer_count(light ? NSPROXY_DEFER_STAT_LIGHT_RELEASED :
				    NSPROXY_DEFER_STAT_RELEASED);
	/* Pairs with the one in nsproxy_defer_flush(). Litmus test: flush-idle. */
	smp_mb();
	atomic_dec(&pending[slot->kind]);
}

static void slot_work(struct work_struct *work)
{
	struct slot *slot = container_of(work, struct slot, work);
	struct llist_node *member, *next;

	WRITE_ONCE(slot->task, current);
	do {
		if (slot->kind == HEAVY) {
			release(slot->member, slot);
			continue;
		}
		for (member = slot->member; member; member = next) {
			next = member->next;
			release(member, slot);
			cond_resched();
		}
	} while (next_member(slot));
	WRITE_ONCE(slot->task, NULL);
}

/**
 * nsproxy_defer_is_worker - is the current task one that releases for the engine?
 *
 * What such a task waits for must not be a release: that may be behind it.
 *
 * Context: any.
 * Return: true if it is.
 */
bool nsproxy_defer_is_worker(void)
{
	int i;

	for (i = 0; i < NSPROXY_DEFER_SLOTS; i++)
		if (READ_ONCE(slots[i].task) == current)
			return true;
	return false;
}

/**
 * nsproxy_defer_enabled - has the engine started, and is the mode other than off?
 *
 * Context: any.
 * Return: true if both are so.
 */
bool nsproxy_defer_enabled(void)
{
	/* Pairs with the release in nsproxy_defer_start(). Litmus test: run-over, by its shape. */
	return smp_load_acquire(&ops) && atomic_read(&mode) != NSPROXY_DEFER_OFF;
}

/**
 * nsproxy_defer_all - is the mode all?
 *
 * Context: any.
 * Return: true if it is.
 */
bool nsproxy_defer_all(void)
{
	return atomic_read(&mode) == NSPROXY_DEFER_ALL;
}

static long bound(int kind)
{
	long max = atomic_read(&max_pending);

	if (kind == LIGHT)
		max = min_t(long, max, INT_MAX / NSPROXY_DEFER_LIGHT_FACTOR) *
		      NSPROXY_DEFER_LIGHT_FACTOR;
	return max;
}

/* Claims a place below the bound; returns the new number, or 0 if there is none. */
static int claim(int kind)
{
	int old, seen = atomic_read(&pending[kind]);

	do {
		old = seen;
		if (old >= bound(kind) || old == INT_MAX)
			return 0;
		seen = atomic_cmpxchg(&pending[kind], old, old + 1);
	} while (seen != old);
	return old + 1;
}

static void raise_high_water(int now)
{
	int old, seen = atomic_read(&high_water);

	do {
		old = seen;
		if (old >= now)
			return;
		seen = atomic_cmpxchg(&high_water, old, now);
	} while (seen != old);
}

/* Pending releases may hold a lot of memory, and the one who waits holds none. */
static bool short_of_memory(int kind)
{
	return kind == HEAVY && ops->short_of_memory && ops->short_of_memory();
}

/* Returns false at the bound, and where memory is short. */
static bool queue(struct llist_node *node, int kind)
{
	int now = short_of_memory(kind) ? 0 : claim(kind);

	if (!now) {
		nsproxy_defer_count(NSPROXY_DEFER_STAT_WAITED_BOUND);
		return false;
	}
	if (kind == HEAVY)
		raise_high_water(now);
	nsproxy_defer_count(kind == HEAVY ? NSPROXY_DEFER_STAT_LEFT :
					    NSPROXY_DEFER_STAT_LIGHT);
	trace_nsproxy_defer_queue(node, now);

	/*
	 * Only the first of a batch has to see that the batch gets going. If one
	 * is in gp still, its callback does. Litmus test: engine-start.
	 */
	if (llist_add(node, &arrivals[kind])) {
		spin_lock_bh(&lock);
		advance();
		spin_unlock_bh(&lock);
	}
	return true;
}

/**
 * nsproxy_defer_queue - leave the release of an object to the worker
 * @node: a list node in the object, which must not be used otherwise: nobody
 *	may read or write these bytes from now on, readers under RCU included
 * @visible: a program could tell that the release is late
 *
 * The object must be out of sight of new readers.
 *
 * Context: process or softirq context, does not sleep.
 * Return: true if the object is no longer the caller's; false if the caller
 * must release it now: the mode says so, or max_pending is reached.
 */
bool nsproxy_defer_queue(struct llist_node *node, bool visible)
{
	switch (atomic_read(&mode)) {
	case NSPROXY_DEFER_OFF:
		return false;
	case NSPROXY_DEFER_SAFE:
		if (!visible)
			break;
		nsproxy_defer_count(NSPROXY_DEFER_STAT_WAITED_VISIBLE);
		return false;
	}
	return queue(node, HEAVY);
}

/**
 * nsproxy_defer_queue_light - the same for an object that holds next to nothing
 * @node: as for nsproxy_defer_queue()
 *
 * For a release that frees the object's own memory and tears nothing down, so
 * that no program can tell when it happens. A task can make thousands of these
 * in a grace period, and means no harm: they do not count against max_pending,
 * but against a bound of their own that is %NSPROXY_DEFER_LIGHT_FACTOR times as
 * high.
 *
 * Context: process or softirq context, does not sleep.
 * Return: as for nsproxy_defer_queue().
 */
bool nsproxy_defer_queue_light(struct llist_node *node)
{
	return nsproxy_defer_enabled() && queue(node, LIGHT);
}

/*
 * A hint that needs no lock: what the calling task has queued, or has seen the
 * end of, is always taken into account. Litmus test: flush-hint.
 */
static bool busy(void)
{
	return atomic_read(&pending[HEAVY]) || atomic_read(&pending[LIGHT]) ||
	       atomic_read(&nr_tracked);
}

/* The end of a wait: it is over, or is called off. */
static bool waiter_done(struct waiter *w)
{
	bool done;

	spin_lock_bh(&lock);
	done = list_empty(&w->node);
	if (!done)
		list_del(&w->node);
	spin_unlock_bh(&lock);
	return done;
}

static bool waiter_stalled(const struct waiter *w)
{
	bool ret;

	spin_lock_bh(&lock);
	ret = gone_or_stalled(w->batch);
	spin_unlock_bh(&lock);
	return ret;
}

/**
 * nsproxy_defer_flush - wait until all is released that was queued before
 * @why: who asks, see &enum nsproxy_defer_why
 *
 * Returns at once when nothing is pending.
 *
 * Context: process context, may sleep, for a grace period or two and for as
 * long as file systems take to shut down. The caller must hold no lock that a
 * release may want.
 * Return: 0, or -EINTR if a fatal signal came first, or -ETIMEDOUT; see
 * &enum nsproxy_defer_why. A signal does not end the wait for
 * NSPROXY_DEFER_UMOUNT and NSPROXY_DEFER_LAST, which has an end of its own: others
 * may rely on what a task has unmounted or held alone being final once it is seen
 * to be dead.
 */
int nsproxy_defer_flush(enum nsproxy_defer_why why)
{
	struct waiter w;
	long left = 0;
	int i;

	if (!busy()) {
		/* What was released is seen to be: pairs with release(). */
		smp_mb();
		return 0;
	}

	init_completion(&w.done);
	spin_lock_bh(&lock);
	w.batch = newest_batch();
	if (all_gone(w.batch)) {
		spin_unlock_bh(&lock);
		return 0;
	}
	list_add_tail(&w.node, &waiters);
	spin_unlock_bh(&lock);
	nsproxy_defer_count(NSPROXY_DEFER_STAT_FLUSH_USER + why);

	switch (why) {
	case NSPROXY_DEFER_USER:
		left = wait_for_completion_killable_timeout(&w.done,
							    MAX_SCHEDULE_TIMEOUT);
		break;
	case NSPROXY_DEFER_UCOUNT:
		/* In steps: a guest that the host did not run for a second has not waited. */
		for (i = 0; i < 50 && !left; i++)
			left = wait_for_completion_killable_timeout(&w.done, DIV_ROUND_UP(HZ, 50));
		break;
	default:
		/* Nobody wakes us when the clock makes a release a stalled one. */
		do
			left = wait_for_completion_timeout(&w.done, HZ);
		while (!left && !waiter_stalled(&w));
		break;
	}
	if (left > 0 || waiter_done(&w))
		return 0;
	return left ? -EINTR : -ETIMEDOUT;
}

static int set_mode(const char *word)
{
	int i, err;

	for (i = 0; i < ARRAY_SIZE(mode_names); i++) {
		if (!sysfs_streq(word, mode_names[i]))
			continue;
		if (i != NSPROXY_DEFER_OFF && ops && ops->engage) {
			err = ops->engage();
			if (err)
				return err;
		}
		atomic_set(&mode, i);
		return 0;
	}
	return -EINVAL;
}

static int set_max_pending(const char *word)
{
	int value;

	if (kstrtoint(word, 0, &value) || value < 1)
		return -EINVAL;
	atomic_set(&max_pending, value);
	return 0;
}

/*
 * A bad parameter is remembered, and not refused on the spot: when that ends the
 * load of a module, Linux 3.16 forgets to take the module's tracepoints back
 * out, and the next module's fall over them.
 */
static bool bad_param __maybe_unused;

static int mode_param_set(const char *val, const struct kernel_param *kp)
{
	if (!val || set_mode(val)) {
		pr_err("mode=%s: give off, safe or all\n", val ? val : "");
		bad_param = true;
	}
	return 0;
}

static int max_pending_param_set(const char *val, const struct kernel_param *kp)
{
	if (!val || set_max_pending(val)) {
		pr_err("max_pending=%s: give a number from 1 to %d\n",
		       val ? val : "", INT_MAX);
		bad_param = true;
	}
	return 0;
}

static const struct kernel_param_ops mode_param_ops = {
	.set = mode_param_set,
};

static const struct kernel_param_ops max_pending_param_ops = {
	.set = max_pending_param_set,
};

/* Once running, the knobs in /sys/kernel/nsproxy_defer are the only door. */
module_param_cb(mode, &mode_param_ops, NULL, 0);
MODULE_PARM_DESC(mode, "off, safe or all: which mounts the caller does not wait for");
module_param_cb(max_pending, &max_pending_param_ops, NULL, 0);
MODULE_PARM_DESC(max_pending, "how many releases may be pending (default 1024)");

static ssize_t mode_show(struct kobject *kobj, struct kobj_attribute *attr,
			 char *buf)
{
	return sprintf(buf, "%s\n", mode_names[atomic_read(&mode)]);
}

static ssize_t mode_store(struct kobject *kobj, struct kobj_attribute *attr,
			  const char *buf, size_t len)
{
	return set_mode(buf) ?: len;
}

static ssize_t max_pending_show(struct kobject *kobj,
				struct kobj_attribute *attr, char *buf)
{
	return sprintf(buf, "%d\n", atomic_read(&max_pending));
}

static ssize_t max_pending_store(struct kobject *kobj,
				 struct kobj_attribute *attr,
				 const char *buf, size_t len)
{
	return set_max_pending(buf) ?: len;
}

static ssize_t pending_show(struct kobject *kobj, struct kobj_attribute *attr,
			    char *buf)
{
	return sprintf(buf, "%d\n", atomic_read(&pending[HEAVY]));
}

/*
 * A worker's own last put of a file, that behind a loop device for one, is a work
 * item's, and so is that of the mount with the file. These are for the whole machine,
 * and take as long as whatever is put there: the socket of a stranger that lingers, for
 * one. Nobody can be killed in flush_work(). So a work item waits, for all who ask.
 */
static atomic_long_t settles_begun = ATOMIC_LONG_INIT(0);
static long settles_over;
static DECLARE_WAIT_QUEUE_HEAD(settled);

static void run_settle(struct work_struct *work)
{
	/* A full barrier: pairs with the one in settle(). Litmus test: run-begun. */
	long run = atomic_long_inc_return(&settles_begun);

	ops->settle();
	/* Pairs with the acquire in settle(). Litmus test: run-over. */
	smp_store_release(&settles_over, run);
	wake_up_all(&settled);
}

static DECLARE_WORK(settle_work, run_settle);

static int settle(void)
{
	long run;

	/*
	 * The next run that begins sees all that was put before: pairs with the increment
	 * in run_settle().
	 */
	smp_mb();
	run = atomic_long_read(&settles_begun) + 1;
	schedule_work(&settle_work);
	/* Pairs with the release in run_settle(). */
	if (wait_event_killable(settled, smp_load_acquire(&settles_over) - run >= 0))
		return -EINTR;
	return 0;
}

static ssize_t flush_store(struct kobject *kobj, struct kobj_attribute *attr,
			   const char *buf, size_t len)
{
	int err = nsproxy_defer_flush(NSPROXY_DEFER_USER);

	if (!err && ops->settle)
		err = settle();
	return err ?: len;
}

static struct kobj_attribute mode_attr =
	__ATTR(mode, 0644, mode_show, mode_store);
static struct kobj_attribute max_pending_attr =
	__ATTR(max_pending, 0644, max_pending_show, max_pending_store);
static struct kobj_attribute pending_attr =
	__ATTR(pending, 0444, pending_show, NULL);
static struct kobj_attribute flush_attr =
	__ATTR(flush, 0200, NULL, flush_store);

static const struct attribute *knobs[] = {
	&mode_attr.attr,
	&max_pending_attr.attr,
	&pending_attr.attr,
	&flush_attr.attr,
	NULL
};

struct stat_attr {
	struct kobj_attribute attr;
	int stat;
};

static ssize_t stat_show(struct kobject *kobj, struct kobj_attribute *attr,
			 char *buf)
{
	int stat = container_of(attr, struct stat_attr, attr)->stat;
	unsigned long sum = 0;
	int cpu;

	for_each_possible_cpu(cpu)
		sum += atomic_long_read(&per_cpu(stats, cpu).count[stat]);
	return sprintf(buf, "%lu\n", sum);
}

static ssize_t grace_periods_show(struct kobject *kobj,
				  struct kobj_attribute *attr, char *buf)
{
	unsigned long sum;

	spin_lock_bh(&lock);
	sum = gp_seq_total;
	if (!list_empty(&tracked))
		sum += nsproxy_defer_gps() - gp_seq_start;
	spin_unlock_bh(&lock);
	return sprintf(buf, "%lu\n", sum);
}

static ssize_t high_water_show(struct kobject *kobj,
			       struct kobj_attribute *attr, char *buf)
{
	return sprintf(buf, "%d\n", atomic_read(&high_water));
}

#define STAT_ATTR(_name, _stat) \
	static struct stat_attr _name##_attr = { \
		.attr = __ATTR(_name, 0444, stat_show, NULL), \
		.stat = NSPROXY_DEFER_STAT_##_stat, \
	}

STAT_ATTR(finished, FINISHED);
STAT_ATTR(dropped, DROPPED);
STAT_ATTR(left, LEFT);
STAT_ATTR(released, RELEASED);
STAT_ATTR(light, LIGHT);
STAT_ATTR(light_released, LIGHT_RELEASED);
STAT_ATTR(waited_visible, WAITED_VISIBLE);
STAT_ATTR(waited_filesystem, WAITED_FILESYSTEM);
STAT_ATTR(waited_superblock, WAITED_SUPERBLOCK);
STAT_ATTR(waited_bound, WAITED_BOUND);
STAT_ATTR(batches, BATCHES);
STAT_ATTR(flush_user, FLUSH_USER);
STAT_ATTR(flush_umount, FLUSH_UMOUNT);
STAT_ATTR(flush_last, FLUSH_LAST);
STAT_ATTR(flush_ucount, FLUSH_UCOUNT);
static struct kobj_attribute grace_periods_attr =
	__ATTR(grace_periods, 0444, grace_periods_show, NULL);
static struct kobj_attribute high_water_attr =
	__ATTR(high_water, 0444, high_water_show, NULL);

static struct attribute *stat_attrs[] = {
	&finished_attr.attr.attr,
	&dropped_attr.attr.attr,
	&left_attr.attr.attr,
	&released_attr.attr.attr,
	&light_attr.attr.attr,
	&light_released_attr.attr.attr,
	&waited_visible_attr.attr.attr,
	&waited_filesystem_attr.attr.attr,
	&waited_superblock_attr.attr.attr,
	&waited_bound_attr.attr.attr,
	&batches_attr.attr.attr,
	&flush_user_attr.attr.attr,
	&flush_umount_attr.attr.attr,
	&flush_last_attr.attr.attr,
	&flush_ucount_attr.attr.attr,
	&grace_periods_attr.attr,
	&high_water_attr.attr,
	NULL
};

static const struct attribute_group stat_group = {
	.name = "stats",
	.attrs = stat_attrs,
};

/**
 * nsproxy_defer_start - get ready to take objects
 * @new_ops: what the engine needs to know; must stay while it works
 *
 * The mode is what the mode= parameter said, or else @new_ops->default_mode.
 *
 * Context: process context, may sleep.
 * Return: 0 or -ENOMEM.
 */
int nsproxy_defer_start(const struct nsproxy_defer_ops *new_ops)
{
	int i;

	/*
	 * Not WQ_MEM_RECLAIM: a file system that shuts down may flush work
	 * items of queues that are not, and lockdep would rightly complain.
	 */
	wq = alloc_workqueue(KBUILD_MODNAME, WQ_UNBOUND, NSPROXY_DEFER_SLOTS);
	if (!wq)
		return -ENOMEM;

	for (i = 0; i < NSPROXY_DEFER_SLOTS; i++) {
		INIT_WORK(&slots[i].work, slot_work);
		list_add_tail(&slots[i].idle, &idle);
	}
	atomic_cmpxchg(&mode, MODE_UNSET, new_ops->default_mode);
	/* Whoever finds the engine enabled finds the rest: nsproxy_defer_enabled(). */
	smp_store_release(&ops, new_ops);
	return 0;
}

/**
 * nsproxy_defer_publish - make /sys/kernel/nsproxy_defer
 *
 * Context: process context, may sleep.
 * Return: 0 or -ENOMEM.
 */
int nsproxy_defer_publish(void)
{
	int err;

	kobj = kobject_create_and_add("nsproxy_defer", kernel_kobj);
	if (!kobj)
		return -ENOMEM;
	err = sysfs_create_files(kobj, knobs);
	if (!err)
		err = sysfs_create_group(kobj, &stat_group);
	if (err) {
		kobject_put(kobj);
		kobj = NULL;
	}
	return err;
}

#ifdef MODULE
/**
 * nsproxy_defer_bad_param - did a parameter have a value that cannot be?
 *
 * If so the log has said so already, and the default stands.
 *
 * Context: any.
 * Return: true if one had.
 */
bool nsproxy_defer_bad_param(void)
{
	return bad_param;
}

/**
 * nsproxy_defer_unpublish - remove the folder, and defer nothing from now on
 *
 * Waits for tasks that are inside one of the files, a flush for example.
 * Objects may still be queued by tasks that looked at the mode before.
 *
 * Context: process context, may sleep.
 */
void nsproxy_defer_unpublish(void)
{
	if (kobj) {
		sysfs_remove_group(kobj, &stat_group);
		sysfs_remove_files(kobj, knobs);
		kobject_put(kobj);
		kobj = NULL;
	}
	atomic_set(&mode, NSPROXY_DEFER_OFF);
}

/**
 * nsproxy_defer_drain - wait until nothing is pending at all
 *
 * No object may be queued any more.
 *
 * Context: process context, sleeps for as long as the releases take.
 */
void nsproxy_defer_drain(void)
{
	struct waiter w;

	init_completion(&w.done);
	spin_lock_bh(&lock);
	w.batch = newest_batch();
	list_add_tail(&w.node, &waiters);
	wake_waiters();
	spin_unlock_bh(&lock);
	wait_for_completion(&w.done);
}

/**
 * nsproxy_defer_stop - the end of the engine
 *
 * Nothing may be queued or flushed any more. When it returns, no code
 * of this file runs or will run, in any context.
 *
 * Context: process context, sleeps for a grace period at least.
 */
void nsproxy_defer_stop(void)
{
	nsproxy_defer_drain();
	cancel_work_sync(&settle_work);
	/* The callback let go of the lock, but may not have returned yet. */
	rcu_barrier();
	destroy_workqueue(wq);
	WARN_ON(busy() || !list_empty(&tracked));
}
#endif
