/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A shutdown that hangs for as long as a test likes, in the worker or in a task.
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
	struct disk disk;
	char abort[96];
	int fuse;
	/* Who hangs, where it is not the worker. */
	pid_t task;
};

struct mounter {
	const struct hang *hang;
	const char *mnt;
	bool hold;
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
		 "fd=%d,rootmode=40000,user_id=0,group_id=0", mounter->hang->fuse);
	CHECK(!mount(mounter->hang->disk.dev, mounter->mnt, "fuseblk", 0, options));
	if (mounter->hold)
		CHECK(open(mounter->mnt, O_PATH | O_CLOEXEC) >= 0);
	CHECK(write(mounter->mounted, "x", 1) == 1);
	CHECK(read(mounter->go, &c, 1) == 1);
	return 0;
}

/*
 * Hold the mount while it is taken off, and let go before a grace period is over.
 * It can but be tried.
 */
static inline int hold_for_a_moment(void *arg)
{
	nsp_outrun_workers();
	return nsp_run_in(CLONE_FILES, mount_and_exit, arg);
}

/* Start @fn with a new connection, and return when the shutdown hangs. */
static inline void hang_begin(struct __test_metadata *_metadata, struct hang *hang,
			      const char *mnt, int (*fn)(void *), bool hold)
{
	struct mounter mounter = { .hang = hang, .mnt = mnt, .hold = hold };
	struct fuse_in_header header;
	int go[2], mounted[2];
	char c;

	hang->fuse = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, hang->fuse);
	ASSERT_EQ(0, pipe(go));
	ASSERT_EQ(0, pipe(mounted));
	mounter.go = go[0];
	mounter.mounted = mounted[1];
	hang->task = nsp_start(fn, &mounter);
	ASSERT_LT(0, hang->task);
	close(mounted[1]);
	ASSERT_EQ(1, read(mounted[0], &c, 1));
	ASSERT_EQ(0, fuse_read_request(hang->fuse, &header));
	ASSERT_EQ(FUSE_INIT, header.opcode);
	ASSERT_EQ(0, fuse_answer_init(hang->fuse, &header, 0));
	ASSERT_EQ(1, write(go[1], "x", 1));
	close(mounted[0]);
	close(go[0]);
	close(go[1]);
	/* When this is read, somebody is inside the shutdown, and stays. */
	do {
		ASSERT_EQ(0, fuse_read_request(hang->fuse, &header));
	} while (header.opcode != FUSE_DESTROY);
}

/* "1" in the file hang->abort ends it, and so does this. */
static inline void hang_end(struct hang *hang)
{
	if (hang->fuse >= 0) {
		nsp_put(hang->abort, "1");
		close(hang->fuse);
	}
	hang->fuse = -1;
	if (hang->task > 0)
		nsp_wait(hang->task);
	hang->task = 0;
}

/* For what was prepared. */
static inline void hang_drop(struct hang *hang)
{
	hang_end(hang);
	disk_drop(&hang->disk);
}

/* What this kernel lacks, or NULL. */
static inline const char *hang_prepare(struct __test_metadata *_metadata,
				       struct hang *hang, const char *dir)
{
	static bool mounted;
	const char *why;
	struct stat st;

	memset(hang, 0, sizeof(*hang));
	hang->fuse = -1;
	if (!disk_has_filesystem("fuseblk"))
		return "this kernel has no fuseblk (CONFIG_FUSE_FS, CONFIG_BLOCK)";
	why = disk_make(&hang->disk, dir);
	if (why)
		return why;
	ASSERT_EQ(0, stat(hang->disk.dev, &st));
	if (!mounted)
		mount("none", "/sys/fs/fuse/connections", "fusectl", 0, NULL);
	mounted = true;
	/* The kernel names the connection by its own form of the device. */
	snprintf(hang->abort, sizeof(hang->abort),
		 "/sys/fs/fuse/connections/%u/abort",
		 major(st.st_rdev) << 20 | minor(st.st_rdev));
	return NULL;
}

/* Does it hang in the worker, now that it does?  If not, then in the task. */
static inline bool hang_is_workers(struct __test_metadata *_metadata,
				   struct hang *hang, long pending)
{
	int status;

	while (waitpid(hang->task, &status, WNOHANG) != hang->task) {
		if (nsp_num("pending") <= pending)
			return false;
		sched_yield();
	}
	hang->task = 0;
	EXPECT_EQ(0, status);
	return true;
}

/*
 * Make a release hang in the worker, in mode all: NULL, or what this kernel lacks.
 * Nothing else may become or cease to be pending meanwhile.
 */
static inline const char *hang_release(struct __test_metadata *_metadata,
				       struct hang *hang, const struct place *at)
{
	const char *why = hang_prepare(_metadata, hang, at->dir);
	bool mounts = nsp_defers_mounts();
	long pending = nsp_num("pending");
	int tries;

	if (why)
		return why;
	for (tries = 0; tries < 100; tries++) {
		hang_begin(_metadata, hang, at->mnt,
			   mounts ? hold_for_a_moment : mount_and_exit, mounts);
		if (hang_is_workers(_metadata, hang, pending))
			return NULL;
		hang_end(hang);
	}
	ASSERT_GT(100, tries);
	return NULL;
}

/* Make a task hang in its exit, hang->task: NULL, or what this kernel lacks. */
static inline const char *hang_exit(struct __test_metadata *_metadata,
				    struct hang *hang, const struct place *at)
{
	const char *why = hang_prepare(_metadata, hang, at->dir);

	if (!why)
		hang_begin(_metadata, hang, at->mnt, mount_and_exit, false);
	return why;
}

#endif /* NSPROXY_HANG_H */
