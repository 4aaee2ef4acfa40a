/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * File systems that may be shut down while a walker is inside
 *
 * A path walk in RCU mode holds no reference. It may be in a file system's
 * ->d_revalidate(), ->d_hash(), ->d_compare(), ->d_manage(), ->permission() or
 * ->get_link(), under rcu_read_lock(), while the last mount goes. The kernel waits
 * for a grace period between the two. Without that, whatever such a hook reads must
 * be freed only after one.
 *
 * Mounts, superblocks and all but some dentries are, and so is the code of a module, which waits
 * for a grace period before its memory goes; tables of character sets are data of a
 * module. What belongs to one inode has to be in any case: inodes are evicted from
 * file systems that stay mounted, with walkers inside. What is left is the file
 * system's own, sb->s_fs_info above all, which goes in ->put_super() or ->kill_sb().
 *
 * So here are those that were read, in Linux 4.9.229, 4.14.325, 4.19.222, 5.4.273,
 * 5.10.262, 5.15.135, 6.1.192, 6.6.87, 6.12.95, 7.2.13 and 7.3.4, each with the reason;
 * and ext4 in 6.12.117.
 * The others get the grace period, as they always did.
 */
#include <linux/bits.h>
#include <linux/dcache.h>
#include <linux/fanotify.h>
#include <linux/fs.h>
#include <linux/list.h>
#include <linux/module.h>
#include <linux/spinlock.h>
#include <linux/string.h>
#include <linux/user_namespace.h>
#include <linux/version.h>

/*
 * What cannot be told by the version, who includes this defines: file systems with what
 * 6.9 has about walkers (PROC_GOES_BY_RCU, FUSE_GOES_BY_RCU), no ->free_inode(), no
 * sb->s_encoding, RCU of another kind for the memory of modules than for walkers, and
 * sb_watches(), where something counts who is told of the umount.
 */
#ifndef PROC_GOES_BY_RCU
#define PROC_GOES_BY_RCU	false
#endif
#ifndef FUSE_GOES_BY_RCU
#define FUSE_GOES_BY_RCU	false
#endif

/* RHEL has file systems of later kernels than its version says: 9.3 the ext4 of 6.1. */
#ifdef RHEL_RELEASE_CODE
#define OF_ITS_AGE	false
#else
#define OF_ITS_AGE	true
#endif

/*
 * Up to 4.18 a dentry goes by RCU only if it says so, and what a file handle was decoded to
 * does not, which may be the root of a mount, as those of NFS are.
 */
static bool root_survives_walkers(const struct dentry *root)
{
#ifdef DCACHE_RCUACCESS
	return root->d_flags & DCACHE_RCUACCESS;
#else
	return true;
#endif
}

/*
 * When something is freed cannot be looked up, neither in a header nor at run time,
 * and the fields in question are private to the file systems. So this table, and
 * nothing else here, goes by the version. One that nobody has read is trusted with
 * what the lines before and after it have in common, or the newest.
 */
enum {
	version		= LINUX_VERSION_CODE,
	everywhere	= 1,
	/* ->free_inode(), and what went by RCU from then on. */
	from_5_2	= version >= KERNEL_VERSION(5, 2, 0),
	from_5_10	= version >= KERNEL_VERSION(5, 10, 0),
	/* Later 5.15.y may have what 6.1 has. */
	up_to_5_15_135	= OF_ITS_AGE && version <= KERNEL_VERSION(5, 15, 135),
	before_6_2	= version < KERNEL_VERSION(6, 2, 0),
	/* Nor may 6.6.y after this be like it, or 6.2 to 6.5. */
	on_6_6		= version >= KERNEL_VERSION(6, 6, 0) && version <= KERNEL_VERSION(6, 6, 87),
	/* Al Viro's series for walkers that run into a umount. */
	from_6_9	= version >= KERNEL_VERSION(6, 9, 0),
	on_5_10		= from_5_10 && version < KERNEL_VERSION(5, 11, 0),
	on_6_1_192	= before_6_2 && version >= KERNEL_VERSION(6, 1, 192),
	before_6_13	= version < KERNEL_VERSION(6, 13, 0),
	on_6_12		= version >= KERNEL_VERSION(6, 12, 0) && before_6_13,
	on_6_12_117	= before_6_13 && version >= KERNEL_VERSION(6, 12, 117),
	on_7_2_13	= version >= KERNEL_VERSION(7, 2, 13) && version < KERNEL_VERSION(7, 3, 0),
	from_7_3_4	= version >= KERNEL_VERSION(7, 3, 4),
	/* One more round of the same, also in stable kernels, in 6.12.117 of ext4 alone. */
	second_round	= on_6_1_192 || on_7_2_13 || from_7_3_4,
	ext4_is_right	= up_to_5_15_135 || on_6_12_117 || second_round,
};

/* ->d_hash() and ->d_compare() read sb->s_encoding, if there is one. */
#define FOLDS_CASE	BIT(0)
/* ->destroy_inode() is all, and does call_rcu() itself. */
#define OWN_CALL_RCU	BIT(1)
/* Right if mounted so that it has no hooks. */
#define IF_NO_HOOKS	BIT(2)

struct filesystem {
	const char *name;
	bool right;
	unsigned int flags;
};

static const struct filesystem filesystems[] = {
	/* No hooks; symlinks are in the page cache, or in i_link until ->free_inode(). */
	{ "ramfs", everywhere }, { "rootfs", everywhere }, { "devtmpfs", everywhere },
	{ "devpts", everywhere }, { "mqueue", everywhere }, { "hugetlbfs", everywhere },
	{ "debugfs", everywhere }, { "securityfs", everywhere }, { "configfs", everywhere },
	{ "pstore", everywhere }, { "fusectl", everywhere }, { "binfmt_misc", everywhere },
	{ "nsfs", everywhere }, { "binder", everywhere }, { "rpc_pipefs", everywhere },
	{ "squashfs", everywhere }, { "erofs", from_5_2 }, { "udf", everywhere },
	{ "minix", everywhere }, { "romfs", everywhere }, { "cramfs", everywhere },
	{ "zonefs", everywhere },
	/* Before 5.2 some that free the text of a symlink at once. */
	{ "jffs2", from_5_2 },
	/* Early 4.x frees them in ->evict_inode(); on 6.12 inodes go at once: see fits(). */
	{ "bpf", from_5_2 },
	/* ... and with case folding, since 6.13, two hooks, which read sb->s_encoding. */
	{ "tmpfs", everywhere, before_6_13 ? 0 : FOLDS_CASE },
	/* ... with encryption one, which reads d_flags. */
	{ "f2fs", everywhere, FOLDS_CASE }, { "ubifs", from_5_2 },
	{ "bcachefs", on_6_12, FOLDS_CASE },
	/*
	 * As f2fs up to 5.15. Later ext4_get_link() reads the sbi and its counters, which
	 * ext4_put_super() frees at once, up to the second round. ext4 may be the
	 * driver of the other two.
	 */
	{ "ext4", ext4_is_right, FOLDS_CASE },
	{ "ext3", ext4_is_right, FOLDS_CASE },
	{ "ext2", ext4_is_right, FOLDS_CASE },
	/* No hooks; ->get_link() leaves, or reads what xfs_inode_free_callback() frees. */
	{ "xfs", everywhere, OWN_CALL_RCU },
	/* All hooks leave RCU mode before they read anything. */
	{ "sysfs", everywhere }, { "cgroup", everywhere }, { "cgroup2", everywhere },
	{ "ocfs2", everywhere },
	/* ->permission() reads for MAY_WRITE only, and a walk asks for MAY_EXEC. */
	{ "btrfs", everywhere },
	/* Hooks that read their arguments only, and constant tables. */
	{ "iso9660", everywhere }, { "hfs", everywhere }, { "efivarfs", everywhere },
	{ "selinuxfs", everywhere },
	/*
	 * ->permission() reads the inode's glock: gfs2_glock_dealloc() is an RCU callback.
	 * Before, it follows ->i_gl without a look whether that is gone.
	 */
	{ "gfs2", on_6_1_192 || from_6_9 },
	/* The sbi with the tables of characters goes by call_rcu(), in fat_put_super(). */
	{ "vfat", everywhere }, { "msdos", everywhere },
	/* The same; what is in between was not read, and 5.4's is another, in staging. */
	{ "exfat", (OF_ITS_AGE && from_5_10 && before_6_2) || from_6_9 },
	/* The same, in time; before, hfsplus_put_super() frees all at once. */
	{ "hfsplus", from_6_9 },
	/*
	 * The sbi goes by kfree_rcu(); ->d_manage() compares sbi->oz_pgrp, and reads what
	 * the dentry has, which before 5.2 autofs_free_ino() frees at once.
	 */
	{ "autofs", from_5_2 },
	/*
	 * ovl_free_fs() waits for a grace period, in kern_unmount_array(), before it
	 * frees ofs with layers and creds, and lets go of the layers' file systems.
	 * Before 5.10 it does not.
	 */
	{ "overlay", (from_5_10 && before_6_2) || on_6_6 || from_6_9 },
	/* ->permission() and /proc/self read fs_info: kfree_rcu() in proc_kill_sb(). */
	{ "proc", from_6_9 || PROC_GOES_BY_RCU },
	/* ->permission() reads fuse_mount, fuse_conn, its user_ns: all by RCU, in time. */
	{ "fuse", on_6_1_192 || from_6_9 || FUSE_GOES_BY_RCU },
	{ "fuseblk", on_6_1_192 || from_6_9 || FUSE_GOES_BY_RCU },
	{ "virtiofs", on_6_1_192 || from_6_9 || FUSE_GOES_BY_RCU },
	/* No hooks; since eventfs ->permission() follows sb->s_root, which is NULL then. */
	{ "tracefs", OF_ITS_AGE && before_6_2 },
	/* ->permission() (6.1), ->d_hash() (with nocase) read the sbi, freed at once. */
	{ "ntfs3", on_7_2_13 || from_7_3_4 },
	{ "ntfs3", everywhere, IF_NO_HOOKS },
	/* All hooks leave at once; later ->get_link() reads v9ses: kfree_rcu(). */
	{ "9p", before_6_13 || second_round },
	/* The sbi goes by call_rcu(), but on 6.1 ->get_link() sleeps in RCU mode. */
	{ "cifs", on_5_10 || from_6_9 }, { "smb3", on_5_10 || from_6_9 },
	/* nfs_server goes by call_rcu(), but on 7.2 ->permission() may sleep in RCU mode. */
	{ "nfs", on_6_12 }, { "nfs4", on_6_12 },
};

/* Another driver of that name was not read. */
static bool is_in_tree(const struct super_block *sb)
{
#ifdef CONFIG_MODULES
	const struct module *owner = sb->s_type->owner;

	if (!owner)
		return true;
#if defined(MODULES_GO_BY_RCU_SCHED) && defined(CONFIG_PREEMPT)
	/* free_module() waits for readers of another kind than walkers are. */
	return false;
#endif
	return !(owner->taints & (BIT(TAINT_OOT_MODULE) | BIT(TAINT_CRAP)));
#else
	return true;
#endif
}

/* What the VFS itself, or a security module, reads of the superblock in RCU mode. */
static bool superblock_outlives_walkers(const struct super_block *sb)
{
	if (from_6_9)
		return true;
#ifdef FS_ALLOW_IDMAP
	/* make_vfsuid(); mounts that are not idmapped hold the namespace, too. */
	if (sb->s_user_ns != &init_user_ns && sb->s_type->fs_flags & FS_ALLOW_IDMAP)
		return false;
#endif
#ifdef CONFIG_SECURITY_SMACK
	/* smack_inode_permission(), if it is in use, which does not show. */
	if (sb->s_security)
		return false;
#endif
	return true;
}

/* Are names in it compared by tables? If in doubt, yes. */
static bool folds_case(const struct super_block *sb)
{
#if !IS_ENABLED(CONFIG_UNICODE)
	return false;
#elif defined(NO_SB_ENCODING)
	/* Android's ext4 and f2fs set the hooks dentry by dentry. */
	return true;
#else
	return sb->s_encoding;
#endif
}

static bool fits(const struct super_block *sb, unsigned int flags)
{
	const struct super_operations __maybe_unused *ops = sb->s_op;
	const struct dentry *root = sb->s_root;

	if (flags & FOLDS_CASE && folds_case(sb) && !second_round)
		return false;
	if (flags & IF_NO_HOOKS &&
	    (root->d_flags & (DCACHE_OP_HASH | DCACHE_OP_COMPARE | DCACHE_OP_REVALIDATE) ||
	     d_inode(root)->i_op->permission))
		return false;
#ifndef NO_FREE_INODE
	/* Without it, ->destroy_inode() frees the inode, at once. */
	return !ops->destroy_inode || ops->free_inode || flags & OWN_CALL_RCU;
#else
	/* Then all of those above do call_rcu() themselves. */
	return true;
#endif
}

/* Under mount_lock, with a mount that is not doomed yet. If in doubt, it is no. */
static bool sb_survives_walkers(const struct super_block *sb)
{
	size_t i;

	if (!is_in_tree(sb) || !superblock_outlives_walkers(sb))
		return false;
	for (i = 0; i < ARRAY_SIZE(filesystems); i++)
		if (filesystems[i].right && !strcmp(filesystems[i].name, sb->s_type->name) &&
		    fits(sb, filesystems[i].flags))
			return true;
	return false;
}

#if defined(CONFIG_FSNOTIFY) && !defined(sb_watches)
/* Superblocks may have any number of inodes, and this is under a spinlock. */
#define MAX_INODES	512

/* Where nothing counts them: what is watched stays in memory. If in doubt, it is yes. */
static bool sb_watches(struct super_block *sb)
{
	bool watched = false;
	struct inode *inode;
	int i = 0;

#ifdef FAN_MARK_FILESYSTEM
	/* Both came with Linux 4.20. */
	if (rcu_access_pointer(sb->s_fsnotify_marks))
		return true;
#endif
	spin_lock(&sb->s_inode_list_lock);
	list_for_each_entry(inode, &sb->s_inodes, i_sb_list) {
		watched = inode->i_fsnotify_mask || ++i > MAX_INODES;
		if (watched)
			break;
	}
	spin_unlock(&sb->s_inode_list_lock);
	return watched;
}
#endif

/* A proc has no device and no data. Who watches something in it is told of its end. */
static bool sb_may_be_late(struct super_block *sb)
{
	if (strcmp(sb->s_type->name, "proc"))
		return false;
#ifdef CONFIG_FSNOTIFY
	return !sb_watches(sb);
#else
	return true;
#endif
}
