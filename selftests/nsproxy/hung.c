// SPDX-License-Identifier: GPL-2.0-only
/*
 * The promise: a file system that does not answer, in one dying mount
 * namespace, does not hold up the release of any other, nor for ever an
 * umount(2) that waits for what is pending; a flush that waits for it can be
 * killed; and once it answers or is aborted, it is released like the rest.
 */
#include "hang.h"

FIXTURE(hung)
{
	struct place at;
	struct hang hang;
	pid_t kin[2];
};

FIXTURE_SETUP(hung)
{
	self->hang.fuse = -1;
	ASSERT_EQ(0, place_make(&self->at, "all"));
}

FIXTURE_TEARDOWN(hung)
{
	size_t i;

	/* With the last descriptor closed, the kernel aborts the connection. */
	if (self->hang.fuse >= 0)
		close(self->hang.fuse);
	for (i = 0; i < ARRAY_SIZE(self->kin); i++) {
		if (self->kin[i] <= 0)
			continue;
		kill(self->kin[i], SIGKILL);
		nsp_wait(self->kin[i]);
	}
	EXPECT_EQ(0, nsp_flush());
	EXPECT_EQ(0, place_drop(&self->at));
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

	why = hang_make(_metadata, &self->hang, &self->at);
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

	ASSERT_EQ(0, nsp_put(self->hang.abort, "1")) {
		TH_LOG("%s", self->hang.abort);
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

	why = hang_make(_metadata, &self->hang, &self->at);
	if (why)
		SKIP(return, "%s", why);
	self->kin[0] = nsp_start(run_umount, self->at.dir);
	ASSERT_LT(0, self->kin[0]);
	EXPECT_EQ(0, nsp_wait(self->kin[0]));
	self->kin[0] = 0;
	/* It is there still, and it may be that the one who unmounted is too. */
	EXPECT_LE(1, nsp_num("pending"));
	ASSERT_EQ(0, nsp_put(self->hang.abort, "1"));
	EXPECT_EQ(0, nsp_flush());
	EXPECT_EQ(0, nsp_num("pending"));
}

NSP_TEST_MAIN(nsp_prepare_present)
