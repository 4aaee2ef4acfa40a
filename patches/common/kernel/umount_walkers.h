/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * File systems that may be shut down while walkers are inside: a part of namespace.c
 *
 * A path walk in RCU mode holds no reference. It may be in ->d_revalidate(), ->d_hash(),
 * ->d_compare(), ->d_manage(), ->permission() or ->get_link() while the last mount goes.
 * With no grace period in between, what these read must be freed after one, as dentries,
 * inodes and superblocks are: what ->put_super() and ->kill_sb() free. A shared working
 * directory leads walkers there on any kernel. For all not named here the caller waits.
 */
static const char * const walkable[] = {
	/* No hooks; symlinks are in the page cache, or in i_link until ->free_inode(). */
	"ramfs", "rootfs", "devtmpfs", "devpts", "mqueue", "hugetlbfs", "debugfs",
	"securityfs", "configfs", "pstore", "fusectl", "binfmt_misc", "nsfs", "binder",
	"rpc_pipefs", "squashfs", "erofs", "udf", "minix", "romfs", "cramfs", "zonefs", "jffs2",
	/* ... and with case folding two, see below, or with encryption one, for d_flags. */
	"tmpfs", "f2fs", "ubifs",
	/* ->get_link() reads nothing that does not go by RCU: ext4's sbi, inodes of xfs. */
	"ext4", "ext3", "ext2", "xfs",
	/* All hooks leave RCU mode before they read anything, or read what goes by RCU. */
	"sysfs", "cgroup", "cgroup2", "ocfs2", "9p",
	/* ->permission() reads for MAY_WRITE only; a glock, which goes by RCU. */
	"btrfs", "gfs2",
	/* Hooks that read their arguments only, and constant tables. */
	"iso9660", "hfs", "efivarfs", "selinuxfs",
	/* The sbi, with its tables of characters, its server or connection, goes by RCU. */
	"vfat", "msdos", "exfat", "autofs", "proc",
	/* kern_unmount_array() waits for a grace period before it frees anything. */
	"overlay",
	/* Right for one of these reasons on this kernel line, and not on all. */
	WALKABLE_HERE
};

/* Under mount_lock, with a mount that is not doomed yet. If in doubt, it is no. */
static bool sb_survives_walkers(const struct super_block *sb)
{
#if IS_ENABLED(CONFIG_UNICODE)
	/* ->d_hash() and ->d_compare() read these tables, which go at once. */
	if (sb->s_encoding)
		return false;
#endif
#if defined(CONFIG_SECURITY_SMACK) && defined(SMACK_FREES_AT_ONCE)
	/* smack_inode_permission() reads it, if Smack is in use, which does not show. */
	if (sb->s_security)
		return false;
#endif
	return match_string(walkable, ARRAY_SIZE(walkable), sb->s_type->name) >= 0;
}
