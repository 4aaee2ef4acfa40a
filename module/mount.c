// SPDX-License-Identifier: GPL-2.0-only
/*
 * The only doorway to struct mount, which is private to fs/
 *
 * Where its members are is looked up when the module is loaded, in the BTF that
 * the kernel carries of itself, or else in fs/mount.h when it is built: layout.c.
 *
 * Counting. A reference is got and put on any CPU, by per-CPU counters and
 * without a lock; only their sum means something, and adding them up takes time,
 * in which others get and put. Once mnt_ns is NULL, though, every put takes
 * mount_lock, except those that have seen mnt_ns set and are about to decrement.
 * These are counted still: the sum can only be too low by a put that it sees
 * and the get of which it does not. Such a get came after our look at its
 * counter, hence, by the full barrier, after mnt_ns was NULL for all to see; and
 * the put loaded mnt_ns later still:
 *
 *   umount_tree()		get, on CPU a		put, on CPU b
 *   mnt_ns = NULL		counter[a]++		if (mnt_ns)
 *   smp_mb()			hand it on		  counter[b]--
 *   sum of all counters
 *
 * On one CPU both use the same counter. A task that changes over to another CPU
 * passes a full barrier. A reference that is handed on to another task is ordered
 * by whatever hands it on; that this makes the get visible to the third party,
 * too, before the put's load is what x86 promises (a total order of stores), and
 * arm64 (multi-copy atomic), but not the Linux kernel memory model, unless there
 * is a full barrier in between, as in fput(). That is why Linux 7.2 counts gets
 * and puts apart, and why the module is for these two.
 *
 * It takes the order "look at mnt_ns, then decrement" of 9ea0a46ca2c3 (4.18). And what
 * the putter did before has to be over by then. x86 sees to that, too; on arm64 only the
 * length of a shutdown does, and the memory model would want smp_mb() there: put-last-use.
 *
 * Each case is a litmus test in Documentation/litmus-tests: count-one-cpu,
 * count-migrated, count-handed-on-file, count-handed-on, x86-count-handed-on,
 * arm64-count-handed-on (and arm64-count-handed-on-llsc), put-order.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/errno.h>
#include <linux/fs.h>
#include <linux/fs_struct.h>
#include <linux/kernel.h>
#include <linux/list.h>
#include <linux/namei.h>
#include <linux/nsproxy.h>
#include <linux/path.h>
#include <linux/percpu.h>
#include <linux/printk.h>
#include <linux/sched.h>
#include <linux/seqlock.h>
#include <linux/task_work.h>
#include <linux/uaccess.h>

#include "compat/compat.h"
#include "compat/kcall.h"
#include "layout.h"
#include "mount.h"
#include "symbols.h"

struct nsd_mount_layout nsd_layout;

/* Superblocks may have any number of mounts, and this is under a spinlock. */
#define MAX_MOUNTS_LOOKED_AT	256

static seqlock_t *lock;
DEFINE_KCALL(nsd_cleanup_mnt, void (struct callback_head *head));
/* The same, for the kernel to call. */
static task_work_func_t cleanup_mnt;
DEFINE_KCALL(nsd_task_work_add, typeof(task_work_add));

static void *member(struct mount *m, u32 offset)
{
	return (void *)m + offset;
}

static struct list_head *mounts_of(struct mount *m)
{
	return member(m, nsd_layout.mnt_mounts);
}

static struct mnt_namespace *mnt_ns_of(struct mount *m)
{
	return READ_ONCE(*(struct mnt_namespace **)member(m, nsd_layout.mnt_ns));
}

static int *counter(struct mount *m, u32 offset, int cpu)
{
#ifdef CONFIG_SMP
	void __percpu *pcp = *(void __percpu **)member(m, nsd_layout.pcp);

	return per_cpu_ptr(pcp, cpu) + offset;
#else
	return member(m, offset);
#endif
}

/* The mount after @m, or the first one, of the superblock; NULL ends the list. */
#ifdef NSD_HAVE_SB_MOUNT_LIST
static struct mount *next_of_sb(struct super_block *sb, struct mount *m)
{
	struct list_head *node = m ? member(m, nsd_layout.sb_next) : &sb->s_mounts;

	node = READ_ONCE(node->next);
	return node == &sb->s_mounts ? NULL : (void *)node - nsd_layout.sb_next;
}

static void leave_sb(struct mount *m)
{
	list_del(member(m, nsd_layout.sb_next));
}
#else
static struct mount *next_of_sb(struct super_block *sb, struct mount *m)
{
	return m ? *(struct mount **)member(m, nsd_layout.sb_next) : sb->s_mounts;
}

/* As mnt_del_instance() does it. */
static void leave_sb(struct mount *m)
{
	struct mount **pprev = *(struct mount ***)member(m, nsd_layout.sb_pprev);
	struct mount *next = *(struct mount **)member(m, nsd_layout.sb_next);

	if (next)
		*(struct mount ***)member(next, nsd_layout.sb_pprev) = pprev;
	*pprev = next;
}
#endif

/**
 * nsd_lock_mounts - what lock_mount_hash() of the kernel does
 *
 * Walkers that began before find the sequence changed, see nsd_mount_count().
 *
 * Context: process context, does not sleep (but on PREEMPT_RT).
 */
void nsd_lock_mounts(void)
{
	write_seqlock(lock);
	/*
	 * Between mnt_ns = NULL and the sums: see the top of the file. And
	 * between the new sequence number and the sums: __legitimize_mnt()
	 * increments first, and looks at the number then, with the same barrier
	 * between. So who has not seen us here is seen by us, and who has seen
	 * us comes for the lock. Litmus tests: count-migrated, walker-counted.
	 */
	smp_mb();
}

/**
 * nsd_unlock_mounts - the opposite of nsd_lock_mounts()
 *
 * Context: any.
 */
void nsd_unlock_mounts(void)
{
	write_sequnlock(lock);
}

/**
 * nsd_read_lock_mounts - nsd_lock_mounts() for who changes nothing, and sums up no counts
 *
 * Context: process context, does not sleep (but on PREEMPT_RT).
 */
void nsd_read_lock_mounts(void)
{
	read_seqlock_excl(lock);
}

/**
 * nsd_read_unlock_mounts - the opposite of nsd_read_lock_mounts()
 *
 * Context: any.
 */
void nsd_read_unlock_mounts(void)
{
	read_sequnlock_excl(lock);
}

/**
 * nsd_mount_count - how many references a mount has
 * @m: the mount, with no namespace and under nsd_lock_mounts()
 *
 * Context: any.
 * Return: the sum. It may be too high, by what is about to be put, and is never too low.
 */
int nsd_mount_count(struct mount *m)
{
	unsigned int gets = 0, puts = 0;
	int cpu;

	if (nsd_layout.puts != nsd_layout.gets) {
		for_each_possible_cpu(cpu)
			puts += READ_ONCE(*counter(m, nsd_layout.puts, cpu));
		/* Pairs with smp_wmb() in mntput_no_expire(): count-apart. */
		smp_mb();
	}
	for_each_possible_cpu(cpu)
		gets += READ_ONCE(*counter(m, nsd_layout.gets, cpu));
	return gets - puts;
}

static void add(struct mount *m, u32 offset, int by)
{
#ifdef CONFIG_SMP
	int __percpu *pcp = *(void __percpu **)member(m, nsd_layout.pcp) + offset;

	this_cpu_add(*pcp, by);
#else
	/* As mnt_add_count() does. */
	preempt_disable();
	*counter(m, offset, 0) += by;
	preempt_enable();
#endif
}

/**
 * nsd_mount_get - get one more reference
 * @m: the mount
 *
 * Context: any.
 */
void nsd_mount_get(struct mount *m)
{
	add(m, nsd_layout.gets, 1);
}

/**
 * nsd_mount_drop - drop one reference, which is not the last
 * @m: the mount, with no namespace and under nsd_lock_mounts()
 *
 * Context: any.
 */
void nsd_mount_drop(struct mount *m)
{
	add(m, nsd_layout.puts, nsd_layout.puts == nsd_layout.gets ? -1 : 1);
}

/**
 * nsd_mount_is_plain - is nothing attached to an unmounted mount?
 * @m: the mount, under nsd_lock_mounts()
 *
 * Children that stayed connected when their tree was taken off, or what they left
 * behind, are taken care of by the kernel's own mntput().
 *
 * Context: any.
 * Return: true if there is nothing but the mount itself.
 */
bool nsd_mount_is_plain(struct mount *m)
{
	if (!list_empty(mounts_of(m)) ||
	    !list_empty(member(m, nsd_layout.mnt_expire)))
		return false;
	return !nsd_layout.mnt_covers ||
	       hlist_empty(member(m, nsd_layout.mnt_covers));
}

/**
 * nsd_mount_is_watched - does somebody see when a mount goes?
 * @m: the mount, under nsd_lock_mounts()
 *
 * A mark of fanotify(7) goes with its mount, and process accounting ends with that of
 * its file, which is pinned to it.
 *
 * Context: any.
 * Return: true if there is such a mark, or such accounting.
 */
bool nsd_mount_is_watched(struct mount *m)
{
	if (!hlist_empty(member(m, nsd_layout.mnt_pins)))
		return true;
	return nsd_layout.mnt_marks && READ_ONCE(*(void **)member(m, nsd_layout.mnt_marks));
}

/**
 * nsd_mount_next_connected - the next of the children that stayed connected
 * @m: a mount below @top, or @top to begin with
 * @top: the mount whose children they are, and the children of these; under
 *	nsd_lock_mounts()
 *
 * Context: any.
 * Return: each of them once, then NULL.
 */
struct mount *nsd_mount_next_connected(struct mount *m, struct mount *top)
{
	struct list_head *next = mounts_of(m)->next;
	struct list_head *end = mounts_of(m);

	while (next == end) {
		if (m == top)
			return NULL;
		next = ((struct list_head *)member(m, nsd_layout.mnt_child))->next;
		m = *(struct mount **)member(m, nsd_layout.mnt_parent);
		end = mounts_of(m);
	}
	return (void *)next - nsd_layout.mnt_child;
}

/**
 * nsd_mount_is_in_ns - is a mount in a namespace still?
 * @m: the mount, that the kernel is unmounting
 *
 * Unless the kernel sees to it, as 6.1.192 and 7.2 do, a clone of a mount that is unmounted
 * is marked like that one, and what removes its mountpoint takes it for one that has left
 * its namespace before. It is not freed then: its namespace lists it.
 *
 * Context: any, under namespace_sem.
 */
bool nsd_mount_is_in_ns(struct mount *m)
{
	return mnt_ns_of(m);
}

/**
 * nsd_mount_leave_ns - have all that put a mount from now on come for mount_lock
 * @m: the mount; nsd_lock_mounts() comes next
 *
 * Context: any.
 */
void nsd_mount_leave_ns(struct mount *m)
{
	WRITE_ONCE(*(struct mnt_namespace **)member(m, nsd_layout.mnt_ns), NULL);
}

/**
 * nsd_mount_doom - what the final mntput() does under the lock
 * @m: the mount, plain, with one reference, under nsd_lock_mounts()
 *
 * A walker that has it in its hands finds it doomed, and lets go of it. Litmus test:
 * walker-doomed.
 *
 * Context: any.
 */
void nsd_mount_doom(struct mount *m)
{
	nsd_mount_drop(m);
	nsd_vfsmount(m)->mnt_flags |= MNT_DOOMED;
	leave_sb(m);
}

/**
 * nsd_add_task_work - have the current task do something on its way to user space
 * @work: room for that, until it is done
 * @func: what
 *
 * Context: process context.
 * Return: false if the task will not be on that way any more.
 */
bool nsd_add_task_work(struct callback_head *work, task_work_func_t func)
{
	init_task_work(work, func);
	return !kcall(nsd_task_work_add)(current, work, TWA_RESUME);
}

/**
 * nsd_mount_cleanup - what the final mntput() does after the lock
 * @m: the mount, doomed; it is gone afterwards
 *
 * Context: process context, sleeps for as long as the file system takes.
 */
void nsd_mount_cleanup(struct mount *m)
{
	kcall(nsd_cleanup_mnt)(member(m, nsd_layout.mnt_rcu));
}

/**
 * nsd_mount_cleanup_later - the same, by the task itself on its way to user space
 * @m: the mount, doomed
 *
 * As the final mntput() does it: no function of the module is on the stack then.
 *
 * Context: process context.
 * Return: false if the task will not be on that way any more.
 */
bool nsd_mount_cleanup_later(struct mount *m)
{
	return nsd_add_task_work(member(m, nsd_layout.mnt_rcu), cleanup_mnt);
}

/**
 * nsd_mount_let_walkers_hold - have walkers keep the reference they get
 * @m: the mount, under nsd_lock_mounts()
 *
 * Of what umount(2) took off without MNT_DETACH, __legitimize_mnt() takes its
 * increment back by a plain decrement, relying on somebody else to be the last. If
 * mntput() came in between, there would be nobody. Before 6.15 it looks at the flag, and
 * decrements, without the lock. So this comes before the count: a walker that is not
 * counted finds the flag cleared, and none is counted by its decrement alone, if it
 * changes over to another CPU before that. Litmus tests: walker-last, walker-flag,
 * walker-undo.
 *
 * Context: any.
 * Return: the flag if it was set, for who finds the mount held and puts it as ever.
 */
int nsd_mount_let_walkers_hold(struct mount *m)
{
	int sync = nsd_vfsmount(m)->mnt_flags & MNT_SYNC_UMOUNT;

	nsd_vfsmount(m)->mnt_flags &= ~sync;
	/* Pairs with the one of __legitimize_mnt(), after its increment. */
	smp_mb();
	return sync;
}

/**
 * nsd_mount_is_last - does no mount in a namespace have the same superblock?
 * @m: the mount, with no namespace and under nsd_lock_mounts()
 *
 * Context: any.
 * Return: true if there is none, or in doubt.
 */
bool nsd_mount_is_last(struct mount *m)
{
	struct super_block *sb = nsd_vfsmount(m)->mnt_sb;
	struct mount *other = NULL;
	int i;

	for (i = 0; i < MAX_MOUNTS_LOOKED_AT; i++) {
		other = next_of_sb(sb, other);
		if (!other)
			break;
		if (!IS_ERR_OR_NULL(mnt_ns_of(other)))
			return false;
	}
	return true;
}

static int find_layout(void)
{
	const void *start = (void *)nsd_symbol("__start_BTF");
	const void *stop = (void *)nsd_symbol("__stop_BTF");

	if (start && stop > start)
		return nsd_layout_from_btf(&nsd_layout, start, stop - start);
	if (nsd_layout_from_build(&nsd_layout))
		return 0;
	pr_err("this kernel does not tell where struct mount, which is private to it, has its members: it takes one with CONFIG_DEBUG_INFO_BTF, or a module that is built in the full source tree of the kernel (KDIR=)\n");
	return -EOPNOTSUPP;
}

/* Until the layout has proved right, whatever is read may be no pointer at all. */
static void *peek(const void *at)
{
	void *value;

	return get_kernel_nofault(value, (void **)at) ? NULL : value;
}

/* If in doubt, because the list is very long, the answer is yes. */
static bool is_on_list(const struct list_head *wanted, const struct list_head *head)
{
	const struct list_head *node = head;
	int i;

	for (i = 0; i < MAX_MOUNTS_LOOKED_AT && node; i++) {
		node = peek(&node->next);
		if (node == wanted)
			return true;
		if (node == head)
			return false;
	}
	return node;
}

static bool is_of_its_sb(struct mount *m, const struct super_block *sb)
{
#ifdef NSD_HAVE_SB_MOUNT_LIST
	return is_on_list(member(m, nsd_layout.sb_next), &sb->s_mounts);
#else
	void *other = sb->s_mounts;
	int i;

	for (i = 0; i < MAX_MOUNTS_LOOKED_AT && other != m; i++) {
		if (!other)
			return false;
		other = peek(other + nsd_layout.sb_next);
	}
	return peek(peek(member(m, nsd_layout.sb_pprev))) == m;
#endif
}

/* Has every counter its place in memory? */
static bool has_counters(struct mount *m)
{
#ifdef CONFIG_SMP
	int cpu, value;

	for_each_possible_cpu(cpu)
		if (get_kernel_nofault(value, counter(m, nsd_layout.gets, cpu)) ||
		    get_kernel_nofault(value, counter(m, nsd_layout.puts, cpu)))
			return false;
#endif
	return true;
}

static bool is_list(const struct list_head *node)
{
	const struct list_head *next = peek(&node->next);

	return next && peek(&next->prev) == node;
}

static bool is_hlist(const struct hlist_node *node)
{
	void *pprev = peek(&node->pprev);

	return !pprev || peek(pprev) == node;
}

static bool is_hlist_head(const struct hlist_head *head)
{
	const struct hlist_node *first = peek(&head->first);

	return !first || peek(&first->pprev) == head;
}

/* Says what of a mount in the caller's namespace is not where the layout has it. */
static const char *find_odd(struct mount *m)
{
	struct mnt_namespace *mnt_ns = current->nsproxy->mnt_ns;
	struct mount *parent = peek(member(m, nsd_layout.mnt_parent));

	if (!is_of_its_sb(m, nsd_vfsmount(m)->mnt_sb))
		return "the list of the superblock";
	if (mnt_ns_of(m) && mnt_ns_of(m) != mnt_ns)
		return "the mount namespace";
	if (!has_counters(m))
		return "the reference count";
	if (!IS_ERR_OR_NULL(mnt_ns_of(m)) && nsd_mount_count(m) < 2)
		return "the reference count";
	if (!is_list(mounts_of(m)) || !is_list(member(m, nsd_layout.mnt_child)))
		return "the list of children";
	if (parent != m && mnt_ns_of(m) &&
	    !is_on_list(member(m, nsd_layout.mnt_child), mounts_of(parent)))
		return "the parent";
	if (!is_list(member(m, nsd_layout.mnt_expire)))
		return "the list of those that expire";
	if (!is_hlist(nsd_mnt_umount(m)))
		return "the list of those that are unmounted";
	if (!is_hlist_head(member(m, nsd_layout.mnt_pins)))
		return "the list of those that are pinned to it";
	if (nsd_layout.mnt_covers &&
	    !is_hlist_head(member(m, nsd_layout.mnt_covers)))
		return "the list of those that it covers";
	return NULL;
}

static int check_path(const struct path *path)
{
	const char *what;

	nsd_lock_mounts();
	what = find_odd(nsd_mount_of(path->mnt));
	nsd_unlock_mounts();
	if (!what)
		return 0;
	pr_err("struct mount of this kernel is not as it says: %s is not where it should be\n",
	       what);
	return -EOPNOTSUPP;
}

/*
 * Look at mounts of which the answers are known: the root of a task that has never
 * left its mount namespace, and one that has a parent. Whatever the layout says must
 * fit these.
 */
static int check_layout(void)
{
	struct path path;
	int err;

	get_fs_root(current->fs, &path);
	err = check_path(&path);
	path_put(&path);
	/* Where it is not mounted, that is the first one again. */
	if (err || kern_path("/sys", 0, &path))
		return err;
	err = check_path(&path);
	path_put(&path);
	return err;
}

/**
 * nsd_mount_init - find what it takes to look into a mount
 *
 * Context: process context, after nsd_symbols_init().
 * Return: 0, or an error of nsd_symbols_need() or of the reader of the layout;
 * -EOPNOTSUPP if the kernel does not tell that, or a live mount is another. The log says which.
 */
int nsd_mount_init(void)
{
	static const char * const names[] = {
		"mount_lock", "__cleanup_mnt", "task_work_add",
	};
	unsigned long found[ARRAY_SIZE(names)];
	int err;

	err = nsd_symbols_need(names, found, ARRAY_SIZE(names));
	if (!err)
		err = find_layout();
	if (err)
		return err;
	lock = (seqlock_t *)found[0];
	cleanup_mnt = (task_work_func_t)found[1];
	kcall_set(nsd_cleanup_mnt, found[1]);
	kcall_set(nsd_task_work_add, found[2]);
	return check_layout();
}
