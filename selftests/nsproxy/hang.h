/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A release that hangs for as long as a test likes.
 *
 * What hangs, and why: a FUSE file system on a block device ("fuseblk").  For
 * these the kernel sends FUSE_DESTROY when the superblock is shut down and
 * waits, uninterruptibly, until the daemon has replied, so that the daemon is
 * done with the device when umount returns (fuse_send_destroy(), from
 * fuse_kill_sb_blk(), in every kernel from 3.10 on).  A FUSE file system
 * without a device would not do: the kernel asks it nothing at umount, and
 * what it sends on closing files it does not wait for.
 *
 * The daemon is this test: it answers FUSE_INIT and then nothing.
 */
#ifndef NSPROXY_HANG_H
#define NSPROXY_HANG_H

#include "fuse.h"
#include "place.h"

#include <sys/sysmacros.h>

struct hang {
	char abort[96];
	int fuse;
};

struct mounter {
	const struct place *at;
	int fuse;
	int mounted;
	int go;
};

/* Mount it in a mount namespace of its own, and leave it to exit. */
static inline int mount_and_exit(void *arg)
{
	const struct mounter *mounter = arg;
	char options[128], c;

	CHECK(!nsp_own_mounts());
	snprintf(options, sizeof(options),
		 "fd=%d,rootmode=40000,user_id=0,group_id=0", mounter->fuse);
	CHECK(!mount(mounter->at->disk.dev, mounter->at->mnt, "fuseblk", 0, options));
	CHECK(write(mounter->mounted, "x", 1) == 1);
	CHECK(read(mounter->go, &c, 1) == 1);
	return 0;
}

/*
 * Make a superblock hang in the worker: NULL, or what this kernel lacks. "1" in
 * the file hang->abort ends it, and so does the end of hang->fuse.
 */
static inline const char *hang_make(struct __test_metadata *_metadata,
				    struct hang *hang, struct place *at)
{
	struct mounter mounter = { .at = at };
	struct fuse_in_header header;
	const char *why;
	struct stat st;
	int go[2], mounted[2];
	pid_t pid;
	char c;

	if (!disk_has_filesystem("fuseblk"))
		return "this kernel has no fuseblk (CONFIG_FUSE_FS, CONFIG_BLOCK)";
	why = disk_make(&at->disk, at->dir);
	if (why)
		return why;
	hang->fuse = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, hang->fuse);
	mounter.fuse = hang->fuse;
	ASSERT_EQ(0, stat(at->disk.dev, &st));
	mount("none", "/sys/fs/fuse/connections", "fusectl", 0, NULL);
	/* The kernel names the connection by its own form of the device. */
	snprintf(hang->abort, sizeof(hang->abort),
		 "/sys/fs/fuse/connections/%u/abort",
		 major(st.st_rdev) << 20 | minor(st.st_rdev));

	ASSERT_EQ(0, pipe(go));
	ASSERT_EQ(0, pipe(mounted));
	mounter.go = go[0];
	mounter.mounted = mounted[1];
	pid = nsp_start(mount_and_exit, &mounter);
	ASSERT_LT(0, pid);
	close(mounted[1]);
	ASSERT_EQ(1, read(mounted[0], &c, 1));
	ASSERT_EQ(0, fuse_read_request(hang->fuse, &header));
	ASSERT_EQ(FUSE_INIT, header.opcode);
	ASSERT_EQ(0, fuse_answer_init(hang->fuse, &header));
	ASSERT_EQ(1, write(go[1], "x", 1));
	ASSERT_EQ(0, nsp_wait(pid));
	/* When this is read, the worker is inside the shutdown, and stays. */
	do {
		ASSERT_EQ(0, fuse_read_request(hang->fuse, &header));
	} while (header.opcode != FUSE_DESTROY);
	ASSERT_LE(1, nsp_num("pending"));
	return NULL;
}

#endif /* NSPROXY_HANG_H */
