/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef NSD_MOUNT_H
#define NSD_MOUNT_H

#include <linux/list.h>
#include <linux/mount.h>
#include <linux/task_work.h>
#include <linux/types.h>

/* Private to fs/: only its members' places are known here, see nsd_mount_init(). */
struct mount;

/**
 * struct nsd_mount_layout - where struct mount has what the module needs
 * @mnt: struct vfsmount
 * @mnt_rcu: struct callback_head of the final put
 * @room: for a struct callback_head or a list node, from when it is unmounted to
 *	the final put
 * @mnt_ns: the mount namespace, NULL once unmounted
 * @mnt_umount: struct hlist_node, on the list of what is unmounted; where that is kept
 *	by pins (4.1 to 5.2) another one, mnt_mp_list, which is free then
 * @mnt_pin: struct fs_pin that keeps the mount from when it is unmounted, or 0
 * @mnt_pins: struct hlist_head, of what is pinned to the mount
 * @mnt_marks: pointer to the fsnotify marks on the mount, or 0
 * @mnt_parent: the mount that it was connected to
 * @mnt_mounts: struct list_head, children that stayed connected
 * @mnt_child: struct list_head, in the list of those of the parent
 * @mnt_covers: struct hlist_head, what children left behind, or 0 (before 7.3)
 * @mnt_expire: struct list_head
 * @sb_next: the next mount of the superblock: a struct list_head (mnt_instance)
 *	or, since 6.18, a plain pointer (mnt_next_for_sb)
 * @sb_pprev: since 6.18, who points here (mnt_pprev_for_sb)
 * @pcp: pointer to the per-CPU counters; on UP not used
 * @gets: in these, or on UP in struct mount itself, the reference counter
 * @puts: the same for what was put where these are counted apart (since 7.2),
 *	or equal to @gets
 * @ns_common: in struct mnt_namespace, struct ns_common
 * @ns_user_ns: the user namespace that owns it
 * @ns_ucounts: what it is counted by
 * @ns_passive: refcount_t for its memory, or 0 (before 6.11)
 *
 * All are offsets in bytes.
 */
struct nsd_mount_layout {
	u32 mnt;
	u32 mnt_rcu;
	u32 room;
	u32 mnt_ns;
	u32 mnt_umount;
	u32 mnt_pin;
	u32 mnt_pins;
	u32 mnt_marks;
	u32 mnt_parent;
	u32 mnt_mounts;
	u32 mnt_child;
	u32 mnt_covers;
	u32 mnt_expire;
	u32 sb_next;
	u32 sb_pprev;
	u32 pcp;
	u32 gets;
	u32 puts;
	u32 ns_common;
	u32 ns_user_ns;
	u32 ns_ucounts;
	u32 ns_passive;
};

/* As nsd_mount_init() found it. */
extern struct nsd_mount_layout nsd_layout;

static inline struct vfsmount *nsd_vfsmount(struct mount *m)
{
	return (void *)m + nsd_layout.mnt;
}

static inline struct mount *nsd_mount_of(struct vfsmount *mnt)
{
	return (void *)mnt - nsd_layout.mnt;
}

static inline void *nsd_mount_room(struct mount *m)
{
	return (void *)m + nsd_layout.room;
}

static inline struct mount *nsd_mount_of_room(void *room)
{
	return room - nsd_layout.room;
}

static inline struct hlist_node *nsd_mnt_umount(struct mount *m)
{
	return (void *)m + nsd_layout.mnt_umount;
}

static inline struct mount *nsd_mount_of_umount(struct hlist_node *node)
{
	return (void *)node - nsd_layout.mnt_umount;
}

int nsd_mount_init(void);
void nsd_lock_mounts(void);
void nsd_unlock_mounts(void);
void nsd_read_lock_mounts(void);
void nsd_read_unlock_mounts(void);
int nsd_mount_count(struct mount *m);
void nsd_mount_get(struct mount *m);
void nsd_mount_drop(struct mount *m);
bool nsd_mount_is_plain(struct mount *m);
bool nsd_mount_is_watched(struct mount *m);
struct mount *nsd_mount_next_connected(struct mount *m, struct mount *top);
bool nsd_mount_is_in_ns(struct mount *m);
void nsd_mount_leave_ns(struct mount *m);
void nsd_mount_doom(struct mount *m);
bool nsd_add_task_work(struct callback_head *work, task_work_func_t func);
void nsd_mount_cleanup(struct mount *m);
bool nsd_mount_cleanup_later(struct mount *m);
int nsd_mount_let_walkers_hold(struct mount *m);
bool nsd_mount_is_last(struct mount *m);

#endif /* NSD_MOUNT_H */
