/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef NSD_COMPAT_H
#define NSD_COMPAT_H

/* The only place that asks what kernel this is; see probe.mk for the answers. */

#include <linux/dcache.h>
#include <linux/fs.h>
#include <linux/fs_struct.h>
#include <linux/ftrace.h>
#include <linux/kobject.h>
#include <linux/module.h>
#include <linux/ptrace.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/srcu.h>
#include <linux/sysfs.h>
#include <linux/task_work.h>
#include <linux/uaccess.h>
#include <linux/wait.h>
#ifdef NSD_HAVE_KERNFS
#include <linux/kernfs.h>
#endif
#ifdef NSD_HAVE_SCHED_SIGNAL
#include <linux/sched/signal.h>
#endif
#ifdef NSD_HAVE_REFCOUNT
#include <linux/refcount.h>
#else
#include <linux/atomic.h>
#define refcount_t atomic_t
#define refcount_inc atomic_inc
#define refcount_read atomic_read
#define refcount_dec_and_test atomic_dec_and_test
#endif

#ifdef NSD_HAVE_CALL_RCU_HURRY
#define nsd_call_rcu call_rcu_hurry
#else
#define nsd_call_rcu call_rcu
#endif

/* Where a task has to wait after all, as its kernel's own umount(2) would. */
#ifdef NSD_HAVE_FULL_GP
#define nsd_synchronize_rcu synchronize_rcu
#else
#define nsd_synchronize_rcu synchronize_rcu_expedited
#endif

/*
 * What ftrace hands over. Where it can pass the arguments alone, asking for no
 * more spares every call the saving and restoring of all registers and flags;
 * the instruction pointer and the arguments are good in either case.
 */
#if defined(CONFIG_DYNAMIC_FTRACE_WITH_REGS) || defined(CONFIG_DYNAMIC_FTRACE_WITH_ARGS)
#define NSD_CAN_REDIRECT
#endif
#if defined(CONFIG_DYNAMIC_FTRACE_WITH_ARGS) && !defined(CONFIG_DYNAMIC_FTRACE_WITH_REGS)
/* On arm64 since 6.2, there is nothing but the arguments. */
#define nsd_ftrace_regs ftrace_regs
#define nsd_ftrace_argument ftrace_regs_get_argument
#define nsd_ftrace_set_ip ftrace_regs_set_instruction_pointer
#else
#if defined(NSD_HAVE_FTRACE_REGS) && defined(NSD_CAN_REDIRECT)
#define nsd_ftrace_regs ftrace_regs
#ifdef NSD_HAVE_ARCH_FTRACE_REGS
#define nsd_pt_regs(fregs) (&arch_ftrace_regs(fregs)->regs)
#else
#define nsd_pt_regs(fregs) (&(fregs)->regs)
#endif
#else
#define nsd_ftrace_regs pt_regs
#define nsd_pt_regs(regs) (regs)
#endif
#ifdef NSD_HAVE_KERNEL_ARGUMENT
#define nsd_ftrace_argument(fregs, n) \
	regs_get_kernel_argument(nsd_pt_regs(fregs), n)
#else
/* Before 5.0, for the third one. */
#define nsd_ftrace_argument(fregs, n) (nsd_pt_regs(fregs)->dx)
#endif
#define nsd_ftrace_set_ip(fregs, ip) instruction_pointer_set(nsd_pt_regs(fregs), ip)
#endif
struct nsd_ftrace_regs;

#ifdef CONFIG_HAVE_DYNAMIC_FTRACE_WITH_ARGS
#define NSD_FTRACE_FLAGS 0
#elif defined(NSD_HAVE_FTRACE_REGS)
#define NSD_FTRACE_FLAGS FTRACE_OPS_FL_SAVE_REGS
#else
/* Before 5.11 protection from recursion was the default. */
#define NSD_FTRACE_FLAGS (FTRACE_OPS_FL_SAVE_REGS | FTRACE_OPS_FL_RECURSION_SAFE)
#endif

#ifndef NSD_HAVE_KERNEL_NOFAULT
#define get_kernel_nofault(val, ptr) probe_kernel_read(&(val), ptr, sizeof(val))
#endif

/* 4.14. */
#ifndef wait_event_killable_timeout
#define wait_event_killable_timeout(wq, condition, timeout)			\
({										\
	long __ret = timeout;							\
	if (!___wait_cond_timeout(condition))					\
		__ret = ___wait_event(wq, ___wait_cond_timeout(condition),	\
				      TASK_KILLABLE, 0, timeout,		\
				      __ret = schedule_timeout(__ret));		\
	__ret;									\
})
#endif

#ifndef NSD_HAVE_TWA_RESUME
#define TWA_RESUME true
#endif

#ifdef NSD_HAVE_TOTALRAM_PAGES
#define nsd_totalram_pages() totalram_pages()
#else
#define nsd_totalram_pages() totalram_pages
#endif

#ifdef NSD_HAVE_UCOUNT_TIME
#define NSD_LAST_NAMESPACE UCOUNT_TIME_NAMESPACES
#else
#define NSD_LAST_NAMESPACE UCOUNT_CGROUP_NAMESPACES
#endif

/* Who changes the instruction pointer need not say so before 3.19. */
#ifdef NSD_HAVE_FTRACE_IPMODIFY
#define NSD_FTRACE_IPMODIFY FTRACE_OPS_FL_IPMODIFY
#else
#define NSD_FTRACE_IPMODIFY 0
#endif

/* Before 5.5 nothing keeps kernel.ftrace_enabled=0 from giving the functions back. */
#ifdef NSD_HAVE_FTRACE_PERMANENT
#define NSD_FTRACE_PERMANENT FTRACE_OPS_FL_PERMANENT
#else
#define NSD_FTRACE_PERMANENT 0
#endif

static inline bool nsd_within_module(unsigned long address)
{
#ifdef NSD_HAVE_WITHIN_MODULE
	return within_module(address, THIS_MODULE);
#else
	return within_module_core(address, THIS_MODULE);
#endif
}

/*
 * Waits until every task has left the ways into and out of the replacements
 * where it does not sleep by its own will: the trampoline of ftrace, and a
 * replacement before srcu_read_lock() and after srcu_read_unlock().
 */
#ifdef NSD_HAVE_RCU_TASKS
#define nsd_synchronize_tasks synchronize_rcu_tasks
#else
void nsd_synchronize_tasks(void);
#endif

/*
 * Before 4.12 a work item of SRCU, which uses the structure, may go on after
 * synchronize_srcu() has returned; later cleanup_srcu_struct() waits for it.
 */
static inline void nsd_flush_srcu(struct srcu_struct *srcu)
{
#ifdef NSD_HAVE_SRCU_WORK
	flush_delayed_work(&srcu->work);
#endif
}

/*
 * What redirecting a function takes, by the name of the option that is missing;
 * NULL if nothing is. Where the compiler puts the ftrace call after the
 * prologue, the stack is no longer as the replacement must find it.
 */
static inline const char *nsd_missing_option(void)
{
#ifndef NSD_CAN_REDIRECT
	return "CONFIG_DYNAMIC_FTRACE_WITH_REGS or CONFIG_DYNAMIC_FTRACE_WITH_ARGS";
#elif defined(CONFIG_X86) && !defined(CC_USING_FENTRY)
	return "the compiler's -mfentry";
#else
	return NULL;
#endif
}

/* What keeps the root and working directory of a struct fs_struct as they are. */
static inline void lock_fs(struct fs_struct *fs)
{
#ifdef NSD_HAVE_FS_SEQLOCK
	read_seqlock_excl(&fs->seq);
#else
	spin_lock(&fs->lock);
#endif
}

static inline void unlock_fs(struct fs_struct *fs)
{
#ifdef NSD_HAVE_FS_SEQLOCK
	read_sequnlock_excl(&fs->seq);
#else
	spin_unlock(&fs->lock);
#endif
}

/* Does /sys/kernel/@name exist? */
static inline bool nsd_kernel_kobj_has(const char *name)
{
#ifdef NSD_HAVE_KERNFS
	struct kernfs_node *kn = kernfs_find_and_get(kernel_kobj->sd, name);

	if (kn)
		kernfs_put(kn);
#else
	struct sysfs_dirent *kn = sysfs_get_dirent(kernel_kobj->sd, NULL, name);

	if (kn)
		sysfs_put(kn);
#endif
	return kn;
}

#endif /* NSD_COMPAT_H */
