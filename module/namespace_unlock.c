// SPDX-License-Identifier: GPL-2.0-only
/*
 * Since 3.17: namespace_unlock() taken over
 *
 * Whoever takes mounts off a tree (the last put of a mount namespace, umount(2),
 * the removal of a mountpoint) ends in namespace_unlock(), which waits for a
 * grace period before it drops the tree's references: a path walk in RCU mode may
 * still be in one of these mounts, and a mntput() that has seen the mount in its
 * namespace may still be about to decrement without a lock.
 *
 * But for nearly every mount the tree's reference is the only one, and then there
 * is nothing to wait for. So the replacement moves the list of these mounts out of
 * the way and calls the original, which finds it empty, does all else that its
 * version does, and returns without a grace period. The task then goes through the
 * list on its way back to user space, where the kernel itself shuts file systems
 * down:
 *
 *   finish	a mount with one reference is shut down;
 *   drop	where all others are the task's own, it will drop them itself;
 *   look again	a count may be too high by what this same task is about to put: the
 *		program that it ran, if it exits. That is task work, too, and the list
 *		is queued once more behind it;
 *   leave	where others hold the mount, it shows a whole file system, and that is
 *		in the tree of some namespace still, the reference is left to a worker,
 *		and so it is where no program can tell that the file system goes late;
 *   wait	for a grace period, as the original does, for the rest.
 *
 * Walkers. __legitimize_mnt() increments, then finds the sequence number changed,
 * then comes for mount_lock, where a doomed mount makes it take its increment
 * back. So a mount is counted and doomed in one hold of the lock.
 *
 * File systems. A walker that has no reference may be inside the file system while
 * it is shut down, see umount_walkers.h. That concerns the last mount of a superblock
 * only: after all others, this one is to come.
 *
 * What is left. It holds its superblock, which somebody may want to be shut down
 * before the worker comes round to it. So whoever takes the last mount in a
 * namespace waits until nothing is left of the same superblock, and for no other.
 * In mode safe the worker therefore shuts no file system down, but those of which
 * nobody can tell.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/atomic.h>
#include <linux/errno.h>
#include <linux/file.h>
#include <linux/hash.h>
#include <linux/list.h>
#include <linux/mm.h>
#include <linux/mount.h>
#include <linux/ns_common.h>
#include <linux/nsproxy.h>
#include <linux/nsproxy_defer.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/spinlock.h>
#include <linux/srcu.h>
#include <linux/string.h>
#include <linux/task_work.h>
#include <linux/wait.h>
#include <linux/workqueue.h>

#include <trace/events/nsproxy_defer.h>

#include "compat/compat.h"
#include "compat/gp.h"
#include "compat/kcall.h"
#include "compat/umount_pin.h"
#include "filesystems.h"
#include "free_mnt_ns.h"
#include "inc_ucount.h"
#include "mount.h"
#include "symbols.h"
#include "takeover.h"
#include "umount_own.h"

#ifdef NSD_HAVE_UMOUNT_PIN
DEFINE_KCALL(nsd_umount_tree, void (struct mount *m, int how));
#else
DEFINE_KCALL(nsd_namespace_unlock, void (void));
#endif
DEFINE_KCALL(nsd_flush_delayed_fput, void (void));

/* The kernel's list of what is being unmounted, under namespace_sem. */
static struct hlist_head *unmounted;
/* What flush_delayed_fput() finds being done already, and on old kernels leaves alone. */
static struct work_struct *delayed_fput_work;
/* What shuts down a mount that a kernel thread was the last to put. */
static struct delayed_work *delayed_mntput_work;

/* More children than these that stayed connected, and the mount counts as held. */
#define MAX_CONNECTED	128

/* How many mounts are looked at in one hold of mount_lock. */
#define MOUNTS_AT_A_TIME	16

#ifdef NSD_HAVE_UMOUNT_PIN
/* The last task that took a list with it, if it has it still, and the last mount there. */
static struct task_struct *collector;
static struct hlist_node *collected;
#endif

/* Lists that tasks have with them, as task work. */
static atomic_t looks = ATOMIC_INIT(0);
static DECLARE_WAIT_QUEUE_HEAD(looked);

/*
 * What is left, by superblock: the mounts that wait for their grace period, and
 * those that a worker is releasing, which may be gone before it is done. A mount
 * comes here under mount_lock, so that whoever takes the last one of its
 * superblock out of its namespace afterwards finds it.
 */
#define LEFT_BITS	8

struct left_bucket {
	struct hlist_head mounts;
	struct hlist_head releases;
};

struct left_release {
	struct hlist_node node;
	const struct super_block *sb;
};

static DEFINE_SPINLOCK(left_lock);
static atomic_t nr_left = ATOMIC_INIT(0);
static struct left_bucket left[1 << LEFT_BITS];
static DECLARE_WAIT_QUEUE_HEAD(left_wait);

static struct super_block *sb_of(struct mount *m)
{
	return nsd_vfsmount(m)->mnt_sb;
}

static struct left_bucket *bucket_of(const struct super_block *sb)
{
	return &left[hash_ptr(sb, LEFT_BITS)];
}

static void leave_behind(struct mount *m)
{
	spin_lock(&left_lock);
	hlist_add_head(nsd_mnt_umount(m), &bucket_of(sb_of(m))->mounts);
	atomic_inc(&nr_left);
	spin_unlock(&left_lock);
}

static void leave_no_more(struct hlist_node *node)
{
	spin_lock(&left_lock);
	hlist_del(node);
	atomic_dec(&nr_left);
	spin_unlock(&left_lock);
	wake_up_all(&left_wait);
}

static bool is_left_of(const struct super_block *sb)
{
	struct left_bucket *bucket = bucket_of(sb);
	struct left_release *release;
	struct hlist_node *node;
	bool ret = true;

	/*
	 * It grows under mount_lock, which who decides has, and shrinks after
	 * the cleanup. Litmus tests: left-found, left-gone.
	 */
	if (!atomic_read(&nr_left))
		return false;
	spin_lock(&left_lock);
	hlist_for_each(node, &bucket->mounts)
		if (sb_of(nsd_mount_of_umount(node)) == sb)
			goto out;
	hlist_for_each_entry(release, &bucket->releases, node)
		if (release->sb == sb)
			goto out;
	ret = false;
out:
	spin_unlock(&left_lock);
	return ret;
}

/*
 * Whatever walkers are in it: may the root of @m go, and its superblock when @m goes?
 * After what is left of it, in any case, if that is all there is besides.
 */
static bool needs_no_gp(struct mount *m)
{
	const struct super_block *sb = sb_of(m);

	if (!nsd_root_is_safe(nsd_vfsmount(m)->mnt_root))
		return false;
	if (!nsd_mount_is_last(m))
		return true;
	return nsd_filesystem_is_safe(sb) && !is_left_of(sb);
}

/* If it is the last in a namespace: nobody else waits for what is left, then. */
static bool has_to_outlast(struct mount *m)
{
	return is_left_of(sb_of(m)) && nsd_mount_is_last(m);
}

/*
 * Do nobody but the tree and the task itself, @own times, hold @m? Children that
 * stayed connected lose their tree's reference with it, so none of them may be
 * held, and what goes for its superblock goes for theirs.
 */
static bool is_alone(struct mount *m, int own)
{
	struct mount *child = m;
	int i;

	if (nsd_mount_count(m) != 1 + own || nsd_mount_is_pinned(m))
		return false;
	for (i = 0; i < MAX_CONNECTED; i++) {
		child = nsd_mount_next_connected(child, m);
		if (!child)
			return true;
		if (nsd_mount_count(child) != 1 || nsd_mount_is_pinned(child) ||
		    !needs_no_gp(child))
			return false;
	}
	return false;
}

/* Mounts, by mnt_umount, in their order. */
struct mounts {
	struct hlist_head list;
	struct hlist_node *last;
};

/* What a list of unmounted mounts is sorted into. */
struct sorted {
	/* Doomed. */
	struct mounts finish;
	/* For mntput() to do what the module does not. */
	struct mounts put;
	/* In the left_bucket of their superblock, and here by their room. */
	struct llist_head leave;
	struct mounts wait;
	/* To be looked at again. */
	struct mounts held;
};

static void move(struct mount *m, struct mounts *to)
{
	struct hlist_node *node = nsd_mnt_umount(m);

	if (to->last)
		hlist_add_behind(node, to->last);
	else
		hlist_add_head(node, &to->list);
	to->last = node;
}

static void tell(struct mount *m, enum nsproxy_defer_stat fate)
{
	nsproxy_defer_count(fate);
	trace_nsproxy_defer_mount(sb_of(m), fate);
}

static void finish(struct mount *m, struct sorted *sorted)
{
	tell(m, NSPROXY_DEFER_STAT_FINISHED);
	if (nsd_mount_is_plain(m)) {
		nsd_mount_doom(m);
		move(m, &sorted->finish);
	} else {
		move(m, &sorted->put);
	}
}

static void drop(struct mount *m)
{
	tell(m, NSPROXY_DEFER_STAT_DROPPED);
	nsd_mount_drop(m);
}

static void leave(struct mount *m, struct sorted *sorted)
{
	trace_nsproxy_defer_mount(sb_of(m), NSPROXY_DEFER_STAT_LEFT);
	leave_behind(m);
	llist_add(nsd_mount_room(m), &sorted->leave);
}

static void wait(struct mount *m, bool alone, struct sorted *sorted)
{
	if (has_to_outlast(m))
		tell(m, NSPROXY_DEFER_STAT_WAITED_SUPERBLOCK);
	else if (alone)
		tell(m, NSPROXY_DEFER_STAT_WAITED_FILESYSTEM);
	else
		tell(m, NSPROXY_DEFER_STAT_WAITED_VISIBLE);
	move(m, &sorted->wait);
}

/*
 * ... if the end of @m is late? Its superblock ends with it, if it is the last. And it
 * holds its root, which may be removed meanwhile, be it a file or a directory, or is a
 * namespace, where it is nsfs. That of the whole file system stays with that. What
 * watches the mount itself ends with it as well.
 */
static bool nobody_can_tell(struct mount *m)
{
	if (nsd_mount_is_watched(m))
		return false;
	if (nsd_filesystem_may_be_late(sb_of(m)))
		return true;
	return nsd_vfsmount(m)->mnt_root == sb_of(m)->s_root && !nsd_mount_is_last(m);
}

/*
 * What umount(2) takes off may not, since whoever has called that uses the device: nobody
 * held it, but a walker may still become one who does, if not by MNT_SYNC_UMOUNT. In mode
 * all anything else may, but for what is the kernel's own, by kern_unmount(): the code
 * of the file system may be gone next.  What is left is known by its own superblock,
 * so one with children, which may have others, is not.
 */
static bool may_be_late(struct mount *m)
{
	int flags = nsd_vfsmount(m)->mnt_flags;

	if (!nsd_mount_is_plain(m) || flags & MNT_SYNC_UMOUNT)
		return false;
	return nobody_can_tell(m) || (nsproxy_defer_all() && !(flags & MNT_INTERNAL));
}

/*
 * Decides for one mount, under mount_lock. Without @own, which takes time, for
 * those only that are done with at once. In mode off all of them wait.
 */
static void sort_mount(struct mount *m, const struct own *own, struct sorted *sorted)
{
	int mine = own ? count_own(own, nsd_vfsmount(m)) : 0;
	bool alone;
	int sync;

	if (!nsproxy_defer_enabled()) {
		move(m, own ? &sorted->wait : &sorted->held);
		return;
	}
	/* Who is counted here may not be the last to put it. */
	sync = nsd_mount_let_walkers_hold(m);
	alone = is_alone(m, mine);
	if (alone && needs_no_gp(m)) {
		if (mine)
			drop(m);
		else
			finish(m, sorted);
		return;
	}
	nsd_vfsmount(m)->mnt_flags |= sync;
	if (!own)
		move(m, &sorted->held);
	else if (may_be_late(m))
		leave(m, sorted);
	else
		wait(m, alone, sorted);
}

static void sort_list(struct hlist_node *node, bool for_good, struct sorted *sorted)
{
	struct own own;
	struct mount *m;
	bool plain;
	int i;

	while (node) {
		if (for_good)
			lock_own(&own);
		nsd_lock_mounts();
		/* One with children takes long enough. */
		for (i = 0, plain = true; node && plain && i < MOUNTS_AT_A_TIME; i++) {
			m = nsd_mount_of_umount(node);
			node = node->next;
			plain = nsd_mount_is_plain(m);
			sort_mount(m, for_good ? &own : NULL, sorted);
		}
		nsd_unlock_mounts();
		if (for_good)
			unlock_own(&own);
		cond_resched();
	}
}

static void finish_all(struct sorted *sorted)
{
	struct hlist_node *node, *next;
	struct mount *m;

	hlist_for_each_safe(node, next, &sorted->finish.list) {
		m = nsd_mount_of_umount(node);
		/* As mntput() does. */
		if (nsd_vfsmount(m)->mnt_flags & MNT_INTERNAL || !nsd_mount_cleanup_later(m))
			nsd_mount_cleanup(m);
	}
	hlist_for_each_safe(node, next, &sorted->put.list)
		mntput(nsd_vfsmount(nsd_mount_of_umount(node)));
}

static void leave_all(struct sorted *sorted)
{
	struct llist_node *node, *next;
	struct mount *m;

	for (node = llist_del_all(&sorted->leave); node; node = next) {
		next = node->next;
		if (nsproxy_defer_queue(node, false))
			continue;
		m = nsd_mount_of_room(node);
		trace_nsproxy_defer_mount(sb_of(m), NSPROXY_DEFER_STAT_WAITED_BOUND);
		leave_no_more(nsd_mnt_umount(m));
		move(m, &sorted->wait);
	}
}

/* ... or one of its children its superblock? Asked at each wakeup, so walkers may go on. */
static bool any_has_to_outlast(struct mount *m)
{
	struct mount *child = m;
	bool ret;

	nsd_read_lock_mounts();
	ret = has_to_outlast(m);
	while (!ret && (child = nsd_mount_next_connected(child, m)))
		ret = has_to_outlast(child);
	nsd_read_unlock_mounts();
	return ret;
}

static bool is_held(struct mount *m)
{
	bool held;

	nsd_lock_mounts();
	held = nsd_mount_count(m) > 1;
	nsd_unlock_mounts();
	return held;
}

/*
 * Nobody but the tree held what umount(2) has taken off, so it is down when that returns.
 * But a walker that came in between may have found it held by a look, see
 * nsd_mount_let_walkers_hold(), and be on its way to put it.
 */
static void let_walkers_put(struct mount *m)
{
	unsigned long until = jiffies + HZ;

	while (is_held(m) && time_before(jiffies, until))
		schedule_timeout_uninterruptible(1);
}

/*
 * As the original does, but for what is left of the same superblocks: that takes a
 * grace period, and if in mode all it hangs it shall not hold up this one for ever. For
 * a worker, which frees a namespace by the last mount of its file, nobody waits.
 */
static void wait_for_all(struct hlist_head *list)
{
	unsigned long until = jiffies + NSPROXY_DEFER_STALL_SECS * HZ;
	struct hlist_node *node, *next;
	struct mount *m;

	if (hlist_empty(list))
		return;
	nsd_synchronize_rcu();
	hlist_for_each_safe(node, next, list) {
		m = nsd_mount_of_umount(node);
		if (atomic_read(&nr_left) && !nsproxy_defer_is_worker())
			wait_event_timeout(left_wait, !any_has_to_outlast(m),
					   max_t(long, until - jiffies, 1));
		if (nsd_vfsmount(m)->mnt_flags & MNT_SYNC_UMOUNT)
			let_walkers_put(m);
		mntput(nsd_vfsmount(m));
	}
}

/* A list goes with its first mount, in which there is room for that. */
static bool look_later(struct hlist_head *list, task_work_func_t look)
{
	return nsd_add_task_work(nsd_mount_room(nsd_mount_of_umount(list->first)), look);
}

/* The first mount of the list. */
static struct hlist_node *list_of(struct callback_head *look)
{
	return nsd_mnt_umount(nsd_mount_of_room(look));
}

/*
 * From the decrement on nobody waits for this task but nsd_hooks_give_back(). On PREEMPT_RT
 * it may block in the wake up, and synchronize_rcu_tasks() takes that for a sleep.
 */
static void looked_at_all(void)
{
	int idx = srcu_read_lock(&nsd_hook_srcu);

	if (atomic_dec_and_test(&looks))
		wake_up_all(&looked);
	srcu_read_unlock(&nsd_hook_srcu, idx);
}

static void second_look(struct callback_head *look)
{
	struct sorted sorted = {};

	sort_list(list_of(look), true, &sorted);
	finish_all(&sorted);
	leave_all(&sorted);
	wait_for_all(&sorted.wait.list);
	looked_at_all();
}

static void first_look(struct callback_head *look)
{
	struct sorted sorted = {};
	bool over = true;

#ifdef NSD_HAVE_UMOUNT_PIN
	/* Under namespace_sem it is set by others, to others. */
	cmpxchg(&collector, current, NULL);
#endif
	nsd_leave_mountpoints(list_of(look));
	sort_list(list_of(look), false, &sorted);
	/*
	 * Task work is last in, first out: the second look is behind what there is, and
	 * before these shutdowns: one that hangs must not keep what others hold.
	 */
	finish_all(&sorted);
	if (!hlist_empty(&sorted.held.list)) {
		over = !look_later(&sorted.held.list, second_look);
		if (over)
			wait_for_all(&sorted.held.list);
	}
	if (over)
		looked_at_all();
}

/*
 * Has the current task look at them later, unless it is past its task work, or is a
 * kernel thread, which has no way to user space to do it on.
 */
static bool carry(struct hlist_head *list)
{
	if (hlist_empty(list))
		return true;
	if (current->flags & PF_KTHREAD)
		return false;
	atomic_inc(&looks);
	if (look_later(list, first_look))
		return true;
	looked_at_all();
	return false;
}

#ifdef NSD_HAVE_UMOUNT_PIN
/*
 * Here namespace_unlock() is so short that compilers put it into its callers, but the
 * list, all that it looks at, is as empty after umount_tree(). That is called under
 * mount_lock, so the rest is for later, and maybe for more than one tree, which shall
 * wait for one grace period together, if at all. Before 9c8e0a1b6835 (4.20, and in stable
 * kernels, not in RHEL 8) a namespace ends with umount(2)'s flag, but is held by others.
 */
static void replace_umount_tree(struct mount *m, int how)
{
	bool is_root = m == *(struct mount **)((void *)m + nsd_layout.mnt_parent);
	int idx = srcu_read_lock(&nsd_hook_srcu);
	struct hlist_head list = HLIST_HEAD_INIT;
	struct hlist_node *last = NULL;

	kcall(nsd_umount_tree)(m, how);
	if (READ_ONCE(collector) == current)
		last = collected;
	collected = nsd_take_unmounted(unmounted, &list, last, is_root ? MNT_SYNC_UMOUNT : 0);
	if (!last && !hlist_empty(&list)) {
		WRITE_ONCE(collector, current);
		if (!carry(&list)) {
			WRITE_ONCE(collector, NULL);
			nsd_put_back_unmounted(&list, unmounted);
		}
	}
	srcu_read_unlock(&nsd_hook_srcu, idx);
}
#else
static void take_unmounted(struct hlist_head *list)
{
	struct hlist_node *node, *next;

	hlist_move_list(unmounted, list);
	hlist_for_each_safe(node, next, list) {
		if (likely(!nsd_mount_is_in_ns(nsd_mount_of_umount(node))))
			continue;
		hlist_del(node);
		hlist_add_head(node, unmounted);
	}
}

static void replace_namespace_unlock(void)
{
	int idx = srcu_read_lock(&nsd_hook_srcu);
	struct hlist_head list;

	take_unmounted(&list);
	kcall(nsd_namespace_unlock)();
	/* As ever. */
	if (!carry(&list))
		wait_for_all(&list);
	srcu_read_unlock(&nsd_hook_srcu, idx);
}
#endif

/*
 * Up to 5.7 an IPC namespace ends with kern_unmount() of its mqueue, in the task that
 * leaves it last. That is one more mount out of one more tree, and there is no more to it.
 */
static void replace_kern_unmount(struct vfsmount *mnt)
{
	int idx = srcu_read_lock(&nsd_hook_srcu);
	const struct own nothing = {};
	struct sorted sorted = {};

	if (IS_ERR_OR_NULL(mnt))
		goto out;
	nsd_mount_leave_ns(nsd_mount_of(mnt));
	nsd_lock_mounts();
	sort_mount(nsd_mount_of(mnt), &nothing, &sorted);
	nsd_unlock_mounts();
	finish_all(&sorted);
	leave_all(&sorted);
	wait_for_all(&sorted.wait.list);
out:
	srcu_read_unlock(&nsd_hook_srcu, idx);
}

static bool is_task_in_mode(struct nsd_ftrace_regs *fregs)
{
	return nsproxy_defer_enabled() && !(current->flags & PF_KTHREAD);
}

/*
 * In mode off somebody may still have to outlast what was left, and so may a kernel
 * thread, which no program waits for.
 */
static bool may_unmount(struct nsd_ftrace_regs *fregs)
{
	return atomic_read(&nr_left) || is_task_in_mode(fregs);
}

/*
 * In mode off namespace_unlock() waits by itself. If it was called before that was
 * written, the list that this task has with it is not looked at yet.
 */
static bool had_no_gp(struct nsd_ftrace_regs *fregs)
{
	return (nsproxy_defer_enabled() || atomic_read(&looks)) &&
	       !(current->flags & PF_KTHREAD);
}

/*
 * Releases a mount after its grace period: by now its count is exact, and whoever
 * holds it comes for mount_lock to put it. Litmus test: left-count.
 */
static void release_mount(struct llist_node *node)
{
	struct mount *m = nsd_mount_of_room(node);
	struct left_release release = { .sb = sb_of(m) };
	bool last;

	spin_lock(&left_lock);
	hlist_del(nsd_mnt_umount(m));
	hlist_add_head(&release.node, &bucket_of(release.sb)->releases);
	spin_unlock(&left_lock);

	nsd_lock_mounts();
	last = nsd_mount_count(m) == 1;
	if (last)
		nsd_mount_doom(m);
	else
		nsd_mount_drop(m);
	nsd_unlock_mounts();
	if (last)
		nsd_mount_cleanup(m);

	leave_no_more(&release.node);
}

static void release(struct llist_node *node, bool light)
{
	if (light)
		nsd_release_mnt_ns(node);
	else
		release_mount(node);
}

static void settle(void)
{
	int i;

	for (i = 0; i < 2; i++) {
		kcall(nsd_flush_delayed_fput)();
		flush_work(delayed_fput_work);
		flush_delayed_work(delayed_mntput_work);
	}
}

#ifdef NSD_HAVE_UMOUNT_PIN
static void set_umount_tree(unsigned long address)
{
	kcall_set(nsd_umount_tree, address);
}

static const char * const umount_tree_names[] = { "umount_tree", NULL };
#else
/* The caller of namespace_unlock() holds namespace_sem. */
static bool has_unmounted(struct nsd_ftrace_regs *fregs)
{
	return !hlist_empty(unmounted) && may_unmount(fregs);
}

static void set_namespace_unlock(unsigned long address)
{
	kcall_set(nsd_namespace_unlock, address);
}

static const char * const namespace_unlock_names[] = { "namespace_unlock", NULL };
#endif

static const char * const kern_unmount_names[] = { "kern_unmount", NULL };
static const char * const free_mnt_ns_names[] = { "free_mnt_ns", NULL };
static const char * const inc_ucount_names[] = { "inc_ucount", NULL };

struct nsd_hook nsd_hooks[] = {
#ifdef NSD_HAVE_UMOUNT_PIN
	{
		.names = umount_tree_names,
		.replacement = replace_umount_tree,
		.wanted = may_unmount,
		.set_original = set_umount_tree,
	},
#else
	{
		.names = namespace_unlock_names,
		.replacement = replace_namespace_unlock,
		.wanted = has_unmounted,
		.set_original = set_namespace_unlock,
	},
#endif
	{
		.names = kern_unmount_names,
		.replacement = replace_kern_unmount,
		.wanted = is_task_in_mode,
		.unless = "free_ipc_work",
	},
	{
		.names = free_mnt_ns_names,
		.replacement = nsd_replace_free_mnt_ns,
		.wanted = had_no_gp,
		.set_original = nsd_set_free_mnt_ns,
		.unless = "mnt_ns_release_rcu",
	},
	{
		.names = inc_ucount_names,
		.replacement = nsd_replace_inc_ucount,
		.wanted = nsd_wants_inc_ucount,
		.set_original = nsd_set_inc_ucount,
	},
	{}
};

/*
 * In mode all what is left may hold gigabytes, in files of a tmpfs for one. What
 * tells is the memory left.
 */
static bool short_of_memory(void)
{
	return si_mem_available() < (long)(nsd_totalram_pages() / 8);
}

struct nsproxy_defer_ops nsd_ops = {
	.release	= release,
	.settle		= settle,
	.call_rcu	= nsd_call_rcu,
	.gp_seq		= nsd_gp_seq,
	.short_of_memory = short_of_memory,
	.engage		= nsd_hooks_take,
	.default_mode	= NSPROXY_DEFER_SAFE,
};

/**
 * nsd_takeover_init - find what the replacements need besides their originals
 *
 * Context: process context, after nsd_symbols_init().
 * Return: 0; a negative errno if the kernel lacks something, which the log names.
 */
int nsd_takeover_init(void)
{
	static const char * const names[] = {
		"unmounted", "delayed_fput_work", "delayed_mntput_work",
		"flush_delayed_fput",
	};
	unsigned long found[ARRAY_SIZE(names)];
	int err;

	err = nsd_symbols_need(names, found, ARRAY_SIZE(names));
	if (err)
		return err;
	unmounted = (struct hlist_head *)found[0];
	delayed_fput_work = (struct work_struct *)found[1];
	delayed_mntput_work = (struct delayed_work *)found[2];
	kcall_set(nsd_flush_delayed_fput, found[3]);
	nsd_gp_init();
	err = nsd_inc_ucount_init();
	if (!err)
		err = nsd_umount_pin_init();
	if (!err)
		err = nsd_mount_init();
	return err ?: nsd_free_mnt_ns_init();
}

/**
 * nsd_takeover_drain - wait for what tasks have with them as task work
 *
 * Context: process context, sleeps until the last of them is on its way to user
 * space. The mode is off.
 */
void nsd_takeover_drain(void)
{
	wait_event(looked, !atomic_read(&looks));
	nsd_inc_ucount_exit();
}
