// SPDX-License-Identifier: GPL-2.0-only
/*
 * The promise: a task that has seen another one exit, and has then unmounted
 * anything or flushed, finds everything gone that the other one's mount
 * namespace alone had mounted.  Its device can be opened for itself, its
 * tmpfs has given its memory back.  With mode=off and mode=safe the wait for
 * the exit is enough.
 *
 * Earlier attempts to make these releases asynchronous failed here: LTP's
 * mkfs met EBUSY on a device that had been unmounted.  The race is the one
 * between the worker that shuts the file system down and the next user of
 * its device.
 */
#include "place.h"

#define ROUNDS 10

enum barrier { WAIT, UMOUNT, FLUSH };

FIXTURE(barrier)
{
	struct place at;
};

FIXTURE_VARIANT(barrier)
{
	const char *mode;
	enum barrier what;
	const char *shows;
};

FIXTURE_VARIANT_ADD(barrier, off_wait)
{
	.mode = "off",
	.what = WAIT,
	.shows = "stats/inline_off",
};

FIXTURE_VARIANT_ADD(barrier, safe_wait)
{
	.mode = "safe",
	.what = WAIT,
	.shows = "stats/inline_safe",
};

FIXTURE_VARIANT_ADD(barrier, all_umount)
{
	.mode = "all",
	.what = UMOUNT,
	/* On a patched kernel its own wait may have been enough for both. */
	.shows = "stats/deferred",
};

FIXTURE_VARIANT_ADD(barrier, all_flush)
{
	.mode = "all",
	.what = FLUSH,
	.shows = "stats/flush_user",
};

FIXTURE_SETUP(barrier)
{
	ASSERT_EQ(0, place_make(&self->at, variant->mode));
}

FIXTURE_TEARDOWN(barrier)
{
	EXPECT_EQ(0, place_drop(&self->at));
}

static int pass(const char *dir, enum barrier what)
{
	char other[128];

	switch (what) {
	case WAIT:
		return 0;
	case FLUSH:
		return nsp_flush();
	case UMOUNT:
		break;
	}
	/* Something that has nothing to do with what is waited for. */
	snprintf(other, sizeof(other), "%s/other", dir);
	if (mkdir(other, 0700) && errno != EEXIST)
		return -1;
	if (mount("none", other, "ramfs", 0, NULL))
		return -1;
	return umount(other);
}

struct life {
	const char *dev;
	const char *dir;
	const char *type;
};

/* Mount it where nobody else sees it, use it, and leave it to exit. */
static int mount_and_exit(void *arg)
{
	const struct life *life = arg;
	char path[128];
	int fd;

	CHECK(!nsp_own_mounts());
	CHECK(!mount(life->dev, life->dir, life->type, 0, NULL));
	snprintf(path, sizeof(path), "%s/file", life->dir);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	CHECK(fd >= 0);
	CHECK(write(fd, path, sizeof(path)) == sizeof(path));
	return 0;
}

static const char *const disk_types[] = { "ext2", "ext4" };

TEST_F_TIMEOUT(barrier, device_is_free, NSP_TIMEOUT)
{
	struct life life = { .dev = self->at.disk.dev, .dir = self->at.mnt };
	const char *why;
	size_t t;
	int i, fd;

	for (t = 0; t < ARRAY_SIZE(disk_types) && !life.type; t++)
		if (disk_has_filesystem(disk_types[t]))
			life.type = disk_types[t];
	if (!life.type)
		SKIP(return, "this kernel has neither ext2 nor ext4");
	why = disk_make(&self->at.disk, self->at.dir);
	if (why)
		SKIP(return, "%s", why);
	for (i = 0; i < ROUNDS; i++) {
		ASSERT_EQ(0, nsp_run(mount_and_exit, &life));
		ASSERT_EQ(0, pass(self->at.dir, variant->what));
		/* What mkfs does first, and what met EBUSY. */
		fd = open(self->at.disk.dev, O_RDWR | O_EXCL | O_CLOEXEC);
		ASSERT_LE(0, fd) {
			TH_LOG("round %d: %s: %s", i, self->at.disk.dev,
			       strerror(errno));
		}
		close(fd);
	}
}

/* A tmpfs has no device; what shows that it is gone is the memory it had. */
static int fill_tmpfs(void *arg)
{
	const char *dir = arg;
	char path[128];
	int fd;

	CHECK(!nsp_own_mounts());
	CHECK(!mount("none", dir, "tmpfs", 0, "size=32m"));
	snprintf(path, sizeof(path), "%s/file", dir);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	CHECK(fd >= 0);
	CHECK(!posix_fallocate(fd, 0, 16 << 20));
	return 0;
}

/*
 * 16 MB of a tmpfs, against counters that each CPU folds in when it likes:
 * those are off by less than 1 MB.
 */
TEST_F_TIMEOUT(barrier, tmpfs_is_gone, NSP_TIMEOUT)
{
	long before;
	int i;

	before = nsp_meminfo("Shmem");
	if (before < 0)
		SKIP(return, "no Shmem in /proc/meminfo: this kernel has no tmpfs");
	for (i = 0; i < 3; i++) {
		ASSERT_EQ(0, nsp_run(fill_tmpfs, self->at.dir));
		ASSERT_EQ(0, pass(self->at.dir, variant->what));
		EXPECT_GT(before + 8 * 1024, nsp_meminfo("Shmem")) {
			TH_LOG("round %d", i);
		}
	}
}

/* That nothing was pending is no proof, unless something would have been. */
TEST_F_TIMEOUT(barrier, counted, NSP_TIMEOUT)
{
	struct life life = { "none", self->at.dir, "tmpfs" };
	long before = nsp_num(variant->shows);
	int i;

	ASSERT_EQ(0, nsp_outrun_workers());
	for (i = 0; i < ROUNDS; i++) {
		ASSERT_EQ(0, nsp_run(mount_and_exit, &life));
		ASSERT_EQ(0, pass(self->at.dir, variant->what));
		EXPECT_EQ(0, nsp_num("pending"));
	}
	EXPECT_LT(before, nsp_num(variant->shows));
}

NSP_TEST_MAIN(nsp_prepare_present)
