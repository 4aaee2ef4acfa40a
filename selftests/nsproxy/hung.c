// SPDX-License-Identifier: GPL-2.0-only
/*
 * The promise: a file system that does not answer, in one dying mount
 * namespace, does not hold up the release of any other, nor for ever an
 * umount(2) that waits for what is pending; a flush that waits for it can be
 * killed; and once it answers or is aborted, it is released like the rest.
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
#include "fuse.h"
#include "place.h"

#include <sys/sysmacros.h>

FIXTURE(hung)
{
	struct place at;
	char abort[96];
	int fuse;
	pid_t kin[2];
};

FIXTURE_SETUP(hung)
{
	self->fuse = -1;
	ASSERT_EQ(0, place_make(&self->at, "all"));
}

FIXTURE_TEARDOWN(hung)
{
	size_t i;

	/* With the last descriptor closed, the kernel aborts the connection. */
	if (self->fuse >= 0)
		close(self->fuse);
	for (i = 0; i < ARRAY_SIZE(self->kin); i++) {
		if (self->kin[i] <= 0)
			continue;
		kill(self->kin[i], SIGKILL);
		nsp_wait(self->kin[i]);
	}
	EXPECT_EQ(0, nsp_flush());
	EXPECT_EQ(0, place_drop(&self->at));
}

struct mounter {
	FIXTURE_DATA(hung) *self;
	int mounted;
	int go;
};

/* Mount it in a mount namespace of its own, and leave it to exit. */
static int mount_and_exit(void *arg)
{
	const struct mounter *mounter = arg;
	char options[128], c;

	CHECK(!nsp_own_mounts());
	snprintf(options, sizeof(options),
		 "fd=%d,rootmode=40000,user_id=0,group_id=0",
		 mounter->self->fuse);
	CHECK(!mount(mounter->self->at.disk.dev, mounter->self->at.mnt, "fuseblk", 0,
		     options));
	CHECK(write(mounter->mounted, "x", 1) == 1);
	CHECK(read(mounter->go, &c, 1) == 1);
	return 0;
}

/* Make a superblock hang in the worker: NULL, or what this kernel lacks. */
static const char *make_hang(struct __test_metadata *_metadata,
			     FIXTURE_DATA(hung) *self)
{
	struct mounter mounter = { .self = self };
	struct fuse_in_header header;
	const char *why;
	struct stat st;
	int go[2], mounted[2];
	pid_t pid;
	char c;

	if (!disk_has_filesystem("fuseblk"))
		return "this kernel has no fuseblk (CONFIG_FUSE_FS, CONFIG_BLOCK)";
	why = disk_make(&self->at.disk, self->at.dir);
	if (why)
		return why;
	self->fuse = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, self->fuse);
	ASSERT_EQ(0, stat(self->at.disk.dev, &st));
	mount("none", "/sys/fs/fuse/connections", "fusectl", 0, NULL);
	/* The kernel names the connection by its own form of the device. */
	snprintf(self->abort, sizeof(self->abort),
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
	ASSERT_EQ(0, fuse_read_request(self->fuse, &header));
	ASSERT_EQ(FUSE_INIT, header.opcode);
	ASSERT_EQ(0, fuse_answer_init(self->fuse, &header));
	ASSERT_EQ(1, write(go[1], "x", 1));
	ASSERT_EQ(0, nsp_wait(pid));
	/* When this is read, the worker is inside the shutdown, and stays. */
	do {
		ASSERT_EQ(0, fuse_read_request(self->fuse, &header));
	} while (header.opcode != FUSE_DESTROY);
	ASSERT_LE(1, nsp_num("pending"));
	return NULL;
}

static int short_life(void *arg)
{
	(void)arg;
	CHECK(!unshare(CLONE_NEWNS));
	return 0;
}

static int run_flush(void *arg)
{
	(void)arg;
	return -nsp_flush();
}

static int run_umount(void *arg)
{
	const char *dir = arg;
	char other[128];

	snprintf(other, sizeof(other), "%s/other", dir);
	CHECK(!nsp_own_mounts());
	CHECK(!mkdir(other, 0700));
	CHECK(!mount("none", other, "ramfs", 0, NULL));
	CHECK(!umount(other));
	return 0;
}

#define NR_OTHERS 20

TEST_F_TIMEOUT(hung, others_drain, NSP_TIMEOUT)
{
	const struct timespec nap = { .tv_nsec = 1000 * 1000 };
	const char *why;
	long before;
	int i, fd;

	why = make_hang(_metadata, self);
	if (why)
		SKIP(return, "%s", why);
	before = nsp_num("stats/released");
	for (i = 0; i < NR_OTHERS; i++)
		ASSERT_EQ(0, nsp_run(short_life, NULL));
	/* A flush would wait for the one that hangs; the rest go by themselves. */
	while (nsp_num("stats/released") < before + NR_OTHERS)
		nanosleep(&nap, NULL);
	EXPECT_EQ(1, nsp_num("pending"));

	/* Who flushes waits, and may be killed. */
	self->kin[0] = nsp_start(run_flush, NULL);
	ASSERT_LT(0, self->kin[0]);
	EXPECT_EQ(0, waitpid(self->kin[0], NULL, WNOHANG));
	EXPECT_EQ(0, kill(self->kin[0], SIGKILL));
	EXPECT_EQ(128 + SIGKILL, nsp_wait(self->kin[0]));
	self->kin[0] = 0;
	EXPECT_EQ(1, nsp_num("pending"));

	ASSERT_EQ(0, nsp_put(self->abort, "1")) {
		TH_LOG("%s", self->abort);
	}
	EXPECT_EQ(0, nsp_flush());
	EXPECT_EQ(0, nsp_num("pending"));
	EXPECT_EQ(nsp_num("stats/deferred"), nsp_num("stats/released"));
	fd = open(self->at.disk.dev, O_RDWR | O_EXCL | O_CLOEXEC);
	EXPECT_LE(0, fd);
	close(fd);
}

/*
 * Every umount(2) of the machine waits for what is pending, so it must not
 * wait for ever; what it unmounts itself is final all the same.
 */
TEST_F_TIMEOUT(hung, umount_gives_up, NSP_TIMEOUT)
{
	const char *why;

	why = make_hang(_metadata, self);
	if (why)
		SKIP(return, "%s", why);
	self->kin[0] = nsp_start(run_umount, self->at.dir);
	ASSERT_LT(0, self->kin[0]);
	EXPECT_EQ(0, nsp_wait(self->kin[0]));
	self->kin[0] = 0;
	/* It is there still, and it may be that the one who unmounted is too. */
	EXPECT_LE(1, nsp_num("pending"));
	ASSERT_EQ(0, nsp_put(self->abort, "1"));
	EXPECT_EQ(0, nsp_flush());
	EXPECT_EQ(0, nsp_num("pending"));
}

NSP_TEST_MAIN(nsp_prepare_present)
