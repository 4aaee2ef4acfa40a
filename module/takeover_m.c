// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the module takes over since 3.17: the table and the replacements
 *
 * In these kernels, readers of another task's namespaces hold task_lock(), and
 * nothing of an nsproxy has to wait for a grace period. What does wait is the
 * last put of a mount namespace, in namespace_unlock(). All other releases run
 * at once, in the caller, as they always did.
 *
 * Every replacement is an SRCU reader for as long as it runs: it may sleep, and
 * the module must not go away under it.
 */
#include <linux/atomic.h>
#include <linux/bug.h>
#include <linux/mm.h>
#include <linux/nsproxy.h>
#include <linux/nsproxy_defer.h>
#include <linux/ptrace.h>
#include <linux/rcupdate_wait.h>
#include <linux/sched.h>
#include <linux/srcu.h>
#include <linux/user_namespace.h>
#include <linux/workqueue.h>

#include "compat/compat.h"
#include "compat/kcall.h"
#include "mntput.h"
#include "symbols.h"
#include "takeover.h"

DEFINE_KCALL(nsd_free_nsproxy, void (struct nsproxy *ns));
DEFINE_KCALL(nsd_inc_ucount, struct ucounts *(struct user_namespace *ns,
					      kuid_t uid, enum ucount_type type));
DEFINE_KCALL(nsd_from_mnt_ns, struct ns_common *(struct mnt_namespace *mnt_ns));

/* Frees IPC namespaces; until 6.2 one after the other, a grace period each. */
static struct work_struct *free_ipc_work;

/* Where struct mnt_namespace, which is private, keeps its struct ns_common. */
static ptrdiff_t ns_common_offset;

/*
 * Does this nsproxy hold the last reference to its mount namespace? If not,
 * drop the one it holds right here and let the original do the rest: looking
 * first and dropping later would leave the wait to the caller whenever two
 * nsproxies of one mount namespace die at the same time.
 */
static bool holds_last_mnt_ns(struct pt_regs *regs)
{
	struct nsproxy *ns = (void *)regs_get_kernel_argument(regs, 0);
	struct mnt_namespace *mnt_ns = ns->mnt_ns;

	if (nsproxy_defer_enabled() && mnt_ns) {
		if (!nsd_put_shared_mnt_ns(mnt_ns, (void *)mnt_ns + ns_common_offset))
			return true;
		ns->mnt_ns = NULL;
	}
	nsproxy_defer_count_inline();
	return false;
}

static void replace_free_nsproxy(struct nsproxy *ns)
{
	int idx = srcu_read_lock(&nsd_hook_srcu);

	/*
	 * The count has come to zero and nobody looks at it again. What else
	 * the structure holds is needed for the release.
	 */
	BUILD_BUG_ON(offsetof(struct nsproxy, count));
	BUILD_BUG_ON(offsetof(struct nsproxy, uts_ns) < sizeof(struct llist_node));
	if (!nsproxy_defer_queue((struct llist_node *)&ns->count, true))
		kcall(nsd_free_nsproxy)(ns);
	srcu_read_unlock(&nsd_hook_srcu, idx);
}

/* Releases an nsproxy that replace_free_nsproxy() queued. */
static void release(struct llist_node *node)
{
	kcall(nsd_free_nsproxy)((struct nsproxy *)node);
}

/* Kernel threads have no limits to run into, and one of them does the releases. */
static bool may_be_short_of_namespaces(struct pt_regs *regs)
{
	enum ucount_type type = regs_get_kernel_argument(regs, 2);

	if (type > UCOUNT_TIME_NAMESPACES || current->flags & PF_KTHREAD)
		return false;
	return nsproxy_defer_busy() ||
	       (type == UCOUNT_IPC_NAMESPACES && nsproxy_defer_enabled());
}

/*
 * A namespace that is pending counts until it is released. On a stock kernel it
 * would be gone by now, so a limit is only reached if it is reached without it.
 * IPC namespaces are freed later on stock kernels too, but there the grace
 * periods of the callers keep their number down; so do here what
 * create_ipc_ns() of 6.12 does, and wait for the work item that frees them.
 */
static struct ucounts *replace_inc_ucount(struct user_namespace *ns, kuid_t uid,
					  enum ucount_type type)
{
	int idx = srcu_read_lock(&nsd_hook_srcu);
	struct ucounts *ucounts;

	ucounts = kcall(nsd_inc_ucount)(ns, uid, type);
	if (!ucounts && !nsproxy_defer_flush(NSPROXY_DEFER_UCOUNT)) {
		if (type == UCOUNT_IPC_NAMESPACES && free_ipc_work)
			flush_work(free_ipc_work);
		ucounts = kcall(nsd_inc_ucount)(ns, uid, type);
	}
	srcu_read_unlock(&nsd_hook_srcu, idx);
	return ucounts;
}

/* Tasks that are about to wait for what is pending. */
static atomic_t in_umount = ATOMIC_INIT(0);

static bool nobody_waits(struct pt_regs *regs)
{
	return nsproxy_defer_owns(current_work()) && !atomic_read(&in_umount);
}

/*
 * namespace_unlock() asks for an expedited grace period, because somebody waits
 * for it. Where nobody does, a normal one interrupts no CPU, and it lasts long
 * enough for all the releases of a batch to share it. Not synchronize_rcu(),
 * which may itself come back to the function that this one stands for.
 */
static void replace_synchronize_rcu_expedited(void)
{
	int idx = srcu_read_lock(&nsd_hook_srcu);

	wait_rcu_gp(nsd_call_rcu);
	srcu_read_unlock(&nsd_hook_srcu, idx);
}

/* Nobody reads an nsproxy that is pending: its grace period gives it company. */
static void need_no_company(void)
{
}

/*
 * umount(2) is a barrier. What is pending may make the mount look busy; and
 * after the call everything is waited for, so that the last of several tasks to
 * return finds all gone, however their calls overlapped. So what is pending now
 * has its grace periods while umount(2) has its own.
 */
static long umount_barrier(long (*original)(const struct pt_regs *regs),
			   const struct pt_regs *regs)
{
	int idx = srcu_read_lock(&nsd_hook_srcu);
	long ret;

	atomic_inc(&in_umount);
	nsproxy_defer_wait(need_no_company);
	ret = original(regs);
	nsproxy_defer_wait(need_no_company);
	/* What was pending may have made it busy, and may be gone by now. */
	if (ret == -EBUSY) {
		nsproxy_defer_flush(NSPROXY_DEFER_UMOUNT);
		ret = original(regs);
	}
	if (!ret)
		nsproxy_defer_flush(NSPROXY_DEFER_UMOUNT);
	atomic_dec(&in_umount);
	srcu_read_unlock(&nsd_hook_srcu, idx);
	return ret;
}

#define UMOUNT_SYSCALL(name) \
	DEFINE_KCALL(nsd_##name, long (const struct pt_regs *regs)); \
	static long original_##name(const struct pt_regs *regs) \
	{ \
		return kcall(nsd_##name)(regs); \
	} \
	static long replace_##name(const struct pt_regs *regs) \
	{ \
		return umount_barrier(original_##name, regs); \
	} \
	static void set_##name(unsigned long address) \
	{ \
		kcall_set(nsd_##name, address); \
	} \
	static const char * const name##_names[] = { #name, NULL }

UMOUNT_SYSCALL(__x64_sys_umount);
UMOUNT_SYSCALL(__ia32_sys_umount);
UMOUNT_SYSCALL(__ia32_sys_oldumount);

static void replace_delayed_mntput(struct work_struct *unused)
{
	int idx = srcu_read_lock(&nsd_hook_srcu);

	nsd_delayed_mntput();
	srcu_read_unlock(&nsd_hook_srcu, idx);
}

static void set_free_nsproxy(unsigned long address)
{
	kcall_set(nsd_free_nsproxy, address);
}

static void set_inc_ucount(unsigned long address)
{
	kcall_set(nsd_inc_ucount, address);
}

/* For replacements that do all of the work themselves. */
static void set_nothing(unsigned long address)
{
}

/*
 * Since 6.19 the function is called nsproxy_free(), and comes after
 * nsproxy_ns_active_put(), which takes the namespaces out of sight and must
 * not be late.
 */
static const char * const free_nsproxy_names[] = {
	"nsproxy_free", "free_nsproxy", NULL
};

static const char * const inc_ucount_names[] = { "inc_ucount", NULL };
static const char * const delayed_mntput_names[] = { "delayed_mntput", NULL };
static const char * const synchronize_rcu_expedited_names[] = {
	"synchronize_rcu_expedited", NULL
};

struct nsd_hook nsd_hooks[] = {
	{
		.names = free_nsproxy_names,
		.replacement = replace_free_nsproxy,
		.wanted = holds_last_mnt_ns,
		.set_original = set_free_nsproxy,
	},
	{
		.names = inc_ucount_names,
		.replacement = replace_inc_ucount,
		.wanted = may_be_short_of_namespaces,
		.set_original = set_inc_ucount,
	},
	{
		.names = __x64_sys_umount_names,
		.replacement = replace___x64_sys_umount,
		.set_original = set___x64_sys_umount,
	},
	{
		.names = __ia32_sys_umount_names,
		.replacement = replace___ia32_sys_umount,
		.set_original = set___ia32_sys_umount,
		.optional = true,
	},
	{
		.names = __ia32_sys_oldumount_names,
		.replacement = replace___ia32_sys_oldumount,
		.set_original = set___ia32_sys_oldumount,
		.optional = true,
	},
	{
		.names = delayed_mntput_names,
		.replacement = replace_delayed_mntput,
		.set_original = set_nothing,
	},
	{
		/* TINY_RCU has an inline instead, and no need. */
		.names = synchronize_rcu_expedited_names,
		.replacement = replace_synchronize_rcu_expedited,
		.wanted = nobody_waits,
		.set_original = set_nothing,
		.optional = true,
	},
	{}
};

/* Both are exported, but declared in a header of RCU's own; UP kernels may lack them. */
DEFINE_KCALL(nsd_gp_seq, unsigned long (void));
DEFINE_KCALL(nsd_exp_seq, unsigned long (void));
/* A sequence number's low bits hold a state, see kernel/rcu/rcu.h. */
#define SEQ_STATE_BITS	2

/*
 * Where the numbers stood at load. They start below zero and wrap soon after
 * boot, which is lost when the state is shifted out; the difference is not.
 */
static unsigned long gp_seq_at_load;
static unsigned long exp_seq_at_load;

static unsigned long gp_seq(void)
{
	unsigned long normal = kcall(nsd_gp_seq)();
	unsigned long expedited = kcall(nsd_exp_seq)();

	return ((normal - gp_seq_at_load) >> SEQ_STATE_BITS) +
	       ((expedited - exp_seq_at_load) >> SEQ_STATE_BITS);
}

/*
 * struct mnt_namespace does not say here how many mounts it has, and a thousand
 * of them with thousands each are gigabytes. What tells is the memory left.
 */
static bool short_of_memory(void)
{
	return si_mem_available() < (long)(totalram_pages() / 8);
}

struct nsproxy_defer_ops nsd_ops = {
	.release	= release,
	.finish		= nsd_mntput_finish,
	.call_rcu	= nsd_call_rcu,
	.short_of_memory = short_of_memory,
	.engage		= nsd_hooks_take,
	.default_mode	= NSPROXY_DEFER_ALL,
	.safe_note	=
		"mode safe: nothing is deferred, only a patched kernel knows what is safe",
};

static void find_gp_seq(void)
{
	unsigned long normal = nsd_symbol("rcu_get_gp_seq");
	unsigned long expedited = nsd_symbol("rcu_exp_batches_completed");

	if (!normal || !expedited)
		return;
	kcall_set(nsd_gp_seq, normal);
	kcall_set(nsd_exp_seq, expedited);
	gp_seq_at_load = kcall(nsd_gp_seq)();
	exp_seq_at_load = kcall(nsd_exp_seq)();
	nsd_ops.gp_seq = gp_seq;
}

/**
 * nsd_takeover_init - find what the replacements need besides their originals
 *
 * Context: process context, after nsd_symbols_init().
 * Return: 0; -ENOENT if the kernel lacks a symbol, which the log names.
 */
int nsd_takeover_init(void)
{
	static const char * const names[] = { "from_mnt_ns" };
	unsigned long found[ARRAY_SIZE(names)];
	struct mnt_namespace *mnt_ns;
	int err;

	err = nsd_symbols_need(names, found, ARRAY_SIZE(names));
	if (err)
		return err;
	kcall_set(nsd_from_mnt_ns, found[0]);
	/* A kernel without IPC namespaces has none to free. */
	free_ipc_work = (struct work_struct *)nsd_symbol("free_ipc_work");
	mnt_ns = current->nsproxy->mnt_ns;
	ns_common_offset = (void *)kcall(nsd_from_mnt_ns)(mnt_ns) - (void *)mnt_ns;
	find_gp_seq();
	return nsd_mntput_init();
}
