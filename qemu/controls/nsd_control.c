// SPDX-License-Identifier: GPL-2.0-only
/*
 * The kernel's side of the negative controls: on load, do the one wrong thing
 * that the parameter names. What it does not know it does not do, so that the
 * controls that need no kernel bug load it too, and leave the same taint.
 */

#include <linux/delay.h>
#include <linux/hrtimer.h>
#include <linux/irqflags.h>
#include <linux/jiffies.h>
#include <linux/kernel.h>
#include <linux/list.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/refcount.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/spinlock.h>

static char *what = "nothing";
module_param(what, charp, 0444);
MODULE_PARM_DESC(what, "which wrong thing to do on load");

static DEFINE_MUTEX(first_lock);
static DEFINE_MUTEX(second_lock);
static DEFINE_SPINLOCK(spin_lock_held);

/* Several, for one stale copy of a pointer on some stack hides one leak. */
static noinline void leak(void)
{
	int i;

	for (i = 0; i < 16; i++) {
		void *lost = kzalloc(96, GFP_KERNEL);

		OPTIMIZER_HIDE_VAR(lost);
	}
}

static void invert_lock_order(void)
{
	mutex_lock(&first_lock);
	mutex_lock(&second_lock);
	mutex_unlock(&second_lock);
	mutex_unlock(&first_lock);

	mutex_lock(&second_lock);
	mutex_lock(&first_lock);
	mutex_unlock(&first_lock);
	mutex_unlock(&second_lock);
}

static void use_after_free(void)
{
	int *object = kzalloc(64, GFP_KERNEL);
	int *stale = object;

	OPTIMIZER_HIDE_VAR(stale);
	kfree(object);
	pr_info("nsd_control: read %d from what is freed\n", READ_ONCE(*stale));
}

static void sleep_in_atomic(void)
{
	spin_lock(&spin_lock_held);
	msleep(20);
	spin_unlock(&spin_lock_held);
}

static void corrupt_list(void)
{
	LIST_HEAD(head);
	struct list_head entry;

	list_add(&entry, &head);
	entry.next = &entry;
	list_del(&entry);
}

static int raced;

static enum hrtimer_restart race_in_interrupt(struct hrtimer *timer)
{
	raced++;
	hrtimer_forward_now(timer, 100 * NSEC_PER_USEC);
	return HRTIMER_RESTART;
}

/*
 * One CPU is enough: the timer also strikes where KCSAN holds this up to watch,
 * which it does for 80 us at most, some hundred times.
 */
static noinline void race(void)
{
	unsigned long end = jiffies + 10 * HZ;
	struct hrtimer racer;

	hrtimer_init_on_stack(&racer, CLOCK_MONOTONIC, HRTIMER_MODE_REL);
	racer.function = race_in_interrupt;
	hrtimer_start(&racer, 0, HRTIMER_MODE_REL);
	while (time_before(jiffies, end)) {
		raced++;
		cond_resched();
	}
	hrtimer_cancel(&racer);
	destroy_hrtimer_on_stack(&racer);
}

static void underflow_refcount(void)
{
	refcount_t count = REFCOUNT_INIT(0);

	refcount_dec(&count);
}

static void oops(void)
{
	int *nowhere = NULL;

	OPTIMIZER_HIDE_VAR(nowhere);
	WRITE_ONCE(*nowhere, 1);
}

static void spin_without_interrupts(void)
{
	local_irq_disable();
	for (;;)
		cpu_relax();
}

static void spin_without_scheduling(void)
{
	preempt_disable();
	for (;;)
		cpu_relax();
}

static void never_wake(void)
{
	for (;;) {
		set_current_state(TASK_UNINTERRUPTIBLE);
		schedule();
	}
}

static int __init nsd_control_init(void)
{
	if (!strcmp(what, "leak"))
		leak();
	else if (!strcmp(what, "lock-order"))
		invert_lock_order();
	else if (!strcmp(what, "use-after-free"))
		use_after_free();
	else if (!strcmp(what, "atomic-sleep"))
		sleep_in_atomic();
	else if (!strcmp(what, "list"))
		corrupt_list();
	else if (!strcmp(what, "data-race"))
		race();
	else if (!strcmp(what, "refcount"))
		underflow_refcount();
	else if (!strcmp(what, "warn"))
		WARN(1, "nsd_control: as asked\n");
	else if (!strcmp(what, "oops"))
		oops();
	else if (!strcmp(what, "panic"))
		panic("nsd_control: as asked");
	else if (!strcmp(what, "hang"))
		spin_without_interrupts();
	else if (!strcmp(what, "soft-lockup"))
		spin_without_scheduling();
	else if (!strcmp(what, "hung-task"))
		never_wake();
	return 0;
}

static void __exit nsd_control_exit(void)
{
}

module_init(nsd_control_init);
module_exit(nsd_control_exit);
MODULE_DESCRIPTION("Does one wrong thing, to see whether the verdict finds it");
MODULE_LICENSE("GPL");
