// SPDX-License-Identifier: GPL-2.0-only
/*
 * What synchronize_rcu_tasks() does, for kernels that lack it (before 3.18)
 *
 * ftrace has let go of the functions, and its callback, which runs with
 * preemption disabled, has returned everywhere: unregister_ftrace_function()
 * sees to that. But a task may still be on its way into a replacement, with the
 * new instruction pointer on its stack; or in one, before srcu_read_lock() has
 * counted it; or on the way out, after srcu_read_unlock(). In none of these
 * places does it sleep by its own will.
 *
 * Without preemption, such a task keeps its CPU until it has left them, and
 * synchronize_sched() waits for every CPU to change over to another task.
 *
 * With preemption, such a task may have lost its CPU and be waiting for one.
 * Then it is runnable, and all there is of it is on its own kernel stack: what
 * it will return to, and the registers it had, since interrupts that preempt a
 * task do so on that stack. So all CPUs are stopped, which takes every task off
 * its CPU, at a point where it may be preempted; and if no runnable task has an
 * address inside this module on its stack, none is in these places. A word that
 * only looks like such an address, left over from an earlier call, delays the
 * end and does no harm: a runnable task runs, and its stack changes.
 *
 * Tasks that are not runnable sleep by their own will, hence under SRCU if in a
 * replacement at all. They are left out, since a stack that sleeps for ever
 * would keep a stale word for ever.
 */
#include <linux/delay.h>
#include <linux/module.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/stop_machine.h>

#include "compat.h"

#ifdef CONFIG_PREEMPT
/* With one CPU the caller searches by itself; with more, the stoppers run. */
static bool is_running(const struct task_struct *task)
{
#ifdef CONFIG_SMP
	return task->on_cpu;
#else
	return task == current;
#endif
}

static bool may_be_in_module(struct task_struct *task)
{
	unsigned long *end = task_stack_page(task) + THREAD_SIZE;
	unsigned long *word;

	if (!task->on_rq || is_running(task))
		return false;
	for (word = (unsigned long *)task->thread.sp; word < end; word++)
		if (nsd_within_module(*word))
			return true;
	return false;
}

/*
 * No task is added or removed, and none runs but those that stop the others. The
 * caller, which lost its CPU to one of these before it could sleep, is here only.
 */
static int find_task_in_module(void *caller)
{
	struct task_struct *process, *task;

	do_each_thread(process, task) {
		if (task != caller && may_be_in_module(task))
			return -EAGAIN;
	} while_each_thread(process, task);
	return 0;
}

void nsd_synchronize_tasks(void)
{
	while (stop_machine(find_task_in_module, current, NULL))
		schedule_timeout_uninterruptible(1);
}
#else
void nsd_synchronize_tasks(void)
{
	synchronize_sched();
}
#endif
