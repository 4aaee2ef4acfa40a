/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Unmounting with no grace period: a part of namespace.c
 *
 * A mount that umount_tree() took off its tree may be held by a mntput() that has seen
 * ->mnt_ns set and is about to decrement without a lock, and have walkers in RCU mode
 * inside. Hence the grace period in namespace_unlock(). But of nearly every mount the
 * tree's reference is the only one, and then there is nothing to wait for:
 *
 *   finished	if it has one reference: as by its last mntput();
 *   dropped	if all others are the caller's own, which will put them as ever;
 *   left	to a worker, if others have it, and no program can see it end;
 *   waited for	as ever, otherwise.
 *
 * Of the last three only a second look decides, in task work: there umount(2) has put its
 * own reference, and of a task that exits the files of its program are put.
 *
 * Why one is one. Who sees ->mnt_ns NULL puts under mount_lock, which we have. All others
 * have seen it set, and are counted until they have decremented, so they are no reason to
 * keep the tree's reference for a grace period, as mntput_no_expire() has it. The sum may
 * be too high; mnt_get_count() says why it is not too low.
 *
 * Walkers. __legitimize_mnt() increments, and then looks at the sequence number of
 * mount_lock, which we change before the sum, both with a full barrier between. Either we
 * see the increment, or the walker comes for the lock, finds MNT_DOOMED, and takes it back.
 * So a mount is counted and doomed in one hold of the lock. With MNT_SYNC_UMOUNT it takes
 * it back as well, relying on another to be the last; where we are not, that is cleared.
 * A walker may be inside the file system while that is shut down: umount_walkers.h.
 *
 * What is left was not the last mount of its superblock. If the others go, too, whoever
 * takes the last one waits until nothing is left of this superblock, and for nothing else.
 */
#include <linux/file.h>
#include <linux/nsproxy_defer.h>

#include <trace/events/nsproxy_defer.h>

#include "umount_own.h"
#include "umount_walkers.h"

/* So many children or mounts of a superblock are looked at. If there are more, the caller waits. */
#define MAX_MOUNTS	256
#define LOOK_AGAIN	NR_NSPROXY_DEFER_STATS	/* it is counted nowhere yet */

static DECLARE_WAIT_QUEUE_HEAD(left_wait);

static bool is_left(const struct mount *m)
{
	return atomic_read(&m->mnt.mnt_sb->s_left);
}

/* Has no mount in a namespace the same superblock? If in doubt, so it is. */
static bool is_last_of_sb(const struct mount *mnt)
{
	struct mount *m;
	int i = 0;

	for_each_mount_of_sb(m, mnt->mnt.mnt_sb) {
		if (!IS_ERR_OR_NULL(READ_ONCE(m->mnt_ns)))
			return false;
		if (++i == MAX_MOUNTS)
			break;
	}
	return true;
}

/* Is it the last in a namespace? Then no later umount will wait for what is left of it. */
static bool has_to_outlast(const struct mount *m)
{
	return is_left(m) && is_last_of_sb(m);
}

/* May root and superblock go with @m, whatever walkers are there, and after what is left? */
static bool needs_no_gp(const struct mount *m)
{
	if (!root_survives_walkers(m->mnt.mnt_root))
		return false;
	return !is_last_of_sb(m) || (sb_survives_walkers(m->mnt.mnt_sb) && !is_left(m));
}

/* Do nobody but the tree and the caller, @own times, hold it? Connected children go with it. */
static bool is_alone(struct mount *mnt, int own)
{
	struct mount *m;
	int i = 0;

	if (mnt_get_count(mnt) != 1 + own)
		return false;
	for (m = next_mnt(mnt, mnt); m; m = next_mnt(m, mnt))
		if (++i > MAX_MOUNTS || mnt_get_count(m) != 1 || !needs_no_gp(m))
			return false;
	return true;
}

/* Marks of fanotify(7) go with their mount, and process accounting with that of its file. */
static bool is_watched(const struct mount *m)
{
#ifdef CONFIG_FSNOTIFY
	if (rcu_access_pointer(m->mnt_fsnotify_marks))
		return true;
#endif
	return !hlist_empty(&m->mnt_pins);
}

/* A mount holds its superblock, and its root: that may be removed meanwhile. */
static bool nobody_can_tell(const struct mount *m)
{
	struct super_block *sb = m->mnt.mnt_sb;

	if (is_watched(m))
		return false;
	return sb_may_be_late(sb) || (m->mnt.mnt_root == sb->s_root && !is_last_of_sb(m));
}

/* What umount(2) and kern_unmount() take off is down when they return, whatever walkers do. */
static bool may_leave(const struct mount *m)
{
	if (m->mnt.mnt_flags & MNT_SYNC_UMOUNT)
		return false;
	return nobody_can_tell(m) || (nsproxy_defer_all() && !(m->mnt.mnt_flags & MNT_INTERNAL));
}

static void leave_no_more(struct super_block *sb)
{
	atomic_dec(&sb->s_left);
	wake_up_all(&left_wait);
}

static enum nsproxy_defer_stat leave(struct mount *m)
{
	atomic_inc(&m->mnt.mnt_sb->s_left);
	if (!nsproxy_defer_queue(&m->mnt_left, false)) {
		leave_no_more(m->mnt.mnt_sb);
		return NSPROXY_DEFER_STAT_WAITED_BOUND;
	}
	/* Whoever releases it comes for the lock first. */
	hlist_del(&m->mnt_umount);
	return NSPROXY_DEFER_STAT_LEFT;
}

/* Under mount_lock; for good, if what the caller has is locked. What is done leaves the list. */
static enum nsproxy_defer_stat put_one(struct mount *m, const struct own *own)
{
	int mine = own ? count_own(own, &m->mnt) : 0;
	int sync = mine ? m->mnt.mnt_flags & MNT_SYNC_UMOUNT : 0;
	bool alone;

	/* Some look at it without the lock, up to 6.14: see it cleared, or be counted. */
	m->mnt.mnt_flags &= ~sync;
	/* From mount_lock's sequence, ->mnt_ns and the flag to the counts: __legitimize_mnt(). */
	smp_mb();
	alone = is_alone(m, mine);
	if (alone && needs_no_gp(m)) {
		hlist_del(&m->mnt_umount);
		mnt_dec_count(m);
		if (!mine)
			m->mnt.mnt_flags |= MNT_DOOMED;
		return mine ? NSPROXY_DEFER_STAT_DROPPED : NSPROXY_DEFER_STAT_FINISHED;
	}
	m->mnt.mnt_flags |= sync;
	if (!own)
		return LOOK_AGAIN;
	if (list_empty(&m->mnt_mounts) && may_leave(m))
		return leave(m);
	if (has_to_outlast(m))
		return NSPROXY_DEFER_STAT_WAITED_SUPERBLOCK;
	return alone ? NSPROXY_DEFER_STAT_WAITED_FILESYSTEM : NSPROXY_DEFER_STAT_WAITED_VISIBLE;
}

/* Of any superblock that goes with it. */
static bool any_has_to_outlast(struct mount *mnt)
{
	struct mount *m;

	read_seqlock_excl(&mount_lock);
	for (m = mnt; m && !has_to_outlast(m); m = next_mnt(m, mnt))
		;
	read_sequnlock_excl(&mount_lock);
	return m;
}

/*
 * What is left takes a grace period. In mode all it may hang, and not us for ever; and a
 * worker, by the last mount of a namespace's file, may wait for itself, and nobody for it.
 */
static void wait_for_mounts(struct hlist_head *mounts)
{
	unsigned long until = jiffies + NSPROXY_DEFER_STALL_SECS * HZ;
	struct hlist_node *p;
	struct mount *m;

	synchronize_rcu_expedited();
	hlist_for_each_entry_safe(m, p, mounts, mnt_umount) {
		if (!nsproxy_defer_is_worker())
			wait_event_timeout(left_wait, !any_has_to_outlast(m),
					   max_t(long, until - jiffies, 1));
		hlist_del(&m->mnt_umount);
		mntput(&m->mnt);
	}
}

/* The list goes with its first mount. A task that is past its task work waits. */
static void look_later(struct hlist_head *mounts, task_work_func_t look)
{
	struct mount *m = hlist_entry(mounts->first, struct mount, mnt_umount);

	init_task_work(&m->mnt_look, look);
	if (task_work_add(current, &m->mnt_look, TWA_RESUME))
		wait_for_mounts(mounts);
}

/* Then @next has what is not done, or, if this was for good, the grace period. */
static void look_at(struct callback_head *look, task_work_func_t next)
{
	struct mount *m = container_of(look, struct mount, mnt_look);
	struct hlist_head mounts = { &m->mnt_umount };
	enum nsproxy_defer_stat fate;
	struct hlist_node *p;
	LIST_HEAD(dentries);
	struct own own;

	mounts.first->pprev = &mounts.first;
	hlist_for_each_entry_safe(m, p, &mounts, mnt_umount) {
		if (!next)
			lock_own(&own);
		lock_mount_hash();
		fate = put_one(m, next ? NULL : &own);
		if (fate != LOOK_AGAIN)
			trace_nsproxy_defer_mount(m->mnt.mnt_sb, fate);
		/* The engine counts what it takes or refuses. */
		if (fate != LOOK_AGAIN && fate != NSPROXY_DEFER_STAT_LEFT &&
		    fate != NSPROXY_DEFER_STAT_WAITED_BOUND)
			nsproxy_defer_count(fate);
		if (!next)
			unlock_own(&own);
		if (fate == NSPROXY_DEFER_STAT_FINISHED)
			mntput_last(m, &dentries);
		else
			unlock_mount_hash();
		cond_resched();
	}
	if (hlist_empty(&mounts))
		return;
	if (next)
		look_later(&mounts, next);
	else
		wait_for_mounts(&mounts);
}

static void second_look(struct callback_head *look)
{
	look_at(look, NULL);
}

/*
 * Task work is last in, first out: the second look is behind what there is, and before
 * these shutdowns: one that hangs must not keep what others hold.
 */
static void first_look(struct callback_head *look)
{
	look_at(look, second_look);
}

/* A kernel thread has no way to user space, and no program waits for it. */
static bool put_unmounted(struct hlist_head *mounts)
{
	if (current->flags & PF_KTHREAD || !nsproxy_defer_enabled())
		wait_for_mounts(mounts);
	else
		look_later(mounts, first_look);
	return true;
}

/*
 * After a grace period the count is exact, and who has the mount puts it under the lock.
 * Who waits for what is left of the superblock shall be the last to have it.
 */
static void release_left(struct llist_node *node, bool light)
{
	struct mount *m = llist_entry(node, struct mount, mnt_left);
	struct super_block *sb = m->mnt.mnt_sb;
	LIST_HEAD(dentries);
	bool last;

	atomic_inc(&sb->s_active);
	lock_mount_hash();
	last = mnt_get_count(m) == 1;
	mnt_dec_count(m);
	if (last) {
		/* Shut down here, and not by yet another work item. */
		m->mnt.mnt_flags |= MNT_DOOMED | MNT_INTERNAL;
		mntput_last(m, &dentries);
	} else {
		unlock_mount_hash();
	}
	/* Ours is the last: then no umount waits. Else RCU keeps it while we tell who does. */
	rcu_read_lock();
	last = !atomic_add_unless(&sb->s_active, -1, 1);
	leave_no_more(sb);
	rcu_read_unlock();
	if (last)
		deactivate_super(sb);
}

/* For who writes to the flush file: files behind loop devices, and the mounts of these. */
static void settle_left(void)
{
	wait_for_delayed_fput();
	flush_delayed_work(&delayed_mntput_work);
	wait_for_delayed_fput();
}

/* In mode all, what is left may hold gigabytes, in files of a tmpfs for one. */
static bool short_of_memory(void)
{
	return si_mem_available() < (long)(totalram_pages() / 8);
}

/* The low bits of RCU's sequence numbers hold a state, and they begin 300 below 0. */
#ifndef GP_STATE_BITS
#define GP_STATE_BITS	2
#endif

static unsigned long gp_seq(void)
{
	return (get_state_synchronize_rcu() + (300UL << GP_STATE_BITS)) >> GP_STATE_BITS;
}

static const struct nsproxy_defer_ops umount_ops = {
	.release	= release_left,
	.settle		= settle_left,
	.call_rcu	= call_rcu_soon,
	.gp_seq		= IS_ENABLED(CONFIG_TINY_RCU) ? NULL : gp_seq,
	.short_of_memory = short_of_memory,
	.default_mode	= NSPROXY_DEFER_SAFE,
};

static int __init umount_init(void)
{
	return nsproxy_defer_start(&umount_ops) ?: nsproxy_defer_publish();
}
fs_initcall(umount_init);
