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
#include "nsproxy_test.h"

#include <linux/loop.h>
#include <sys/ioctl.h>

#define ROUNDS 10

enum barrier { WAIT, UMOUNT, FLUSH };

FIXTURE(barrier)
{
	struct nsp_knobs knobs;
	char dir[64];
	char loop[64];
	int loop_fd;
	int fd;
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
	.shows = "stats/flush_umount",
};

FIXTURE_VARIANT_ADD(barrier, all_flush)
{
	.mode = "all",
	.what = FLUSH,
	.shows = "stats/flush_user",
};

FIXTURE_SETUP(barrier)
{
	self->fd = -1;
	self->loop_fd = -1;
	ASSERT_EQ(0, nsp_save(&self->knobs));
	ASSERT_EQ(0, nsp_set("mode", variant->mode));
	ASSERT_EQ(0, nsp_set("max_pending", "1024"));
	ASSERT_EQ(0, nsp_flush());
	snprintf(self->dir, sizeof(self->dir), "/tmp/nsproxy.XXXXXX");
	ASSERT_NE(NULL, mkdtemp(self->dir));
	/* What follows belongs to this test's process and goes with it. */
	ASSERT_EQ(0, nsp_own_mounts());
	ASSERT_EQ(0, mount("none", self->dir, "tmpfs", 0, NULL));
}

FIXTURE_TEARDOWN(barrier)
{
	if (self->fd >= 0)
		close(self->fd);
	if (self->loop_fd >= 0) {
		ioctl(self->loop_fd, LOOP_CLR_FD, 0);
		close(self->loop_fd);
	}
	umount(self->dir);
	rmdir(self->dir);
	EXPECT_EQ(0, nsp_restore(&self->knobs));
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

/* An image with the smallest ext2 file system that there is. */
static int make_ext2(int fd)
{
	enum { BLOCK = 1024, BLOCKS = 256, INODES = 16, TABLE = 5 };
	unsigned char block[BLOCK];
	int i;

#define LE16(at, v) do {						\
	block[at] = (v) & 0xff;						\
	block[(at) + 1] = ((v) >> 8) & 0xff;				\
} while (0)
#define LE32(at, v) do {						\
	LE16(at, (v) & 0xffff);						\
	LE16((at) + 2, ((v) >> 16) & 0xffff);				\
} while (0)
#define PUT(nr) (pwrite(fd, block, BLOCK, (nr) * BLOCK) == BLOCK)

	if (ftruncate(fd, BLOCK * BLOCKS))
		return -1;
	/*
	 * Block 1 is the superblock, 2 the group descriptor, 3 and 4 the
	 * bitmaps, 5 and 6 the inodes, 7 the root directory.
	 */
	memset(block, 0, sizeof(block));
	LE32(0, INODES);
	LE32(4, BLOCKS);
	LE32(12, BLOCKS - 8);
	LE32(16, INODES - 10);
	LE32(20, 1);
	LE32(32, 8192);
	LE32(36, 8192);
	LE32(40, INODES);
	LE16(54, 0xffff);
	LE16(56, 0xef53);
	LE16(58, 1);
	LE16(60, 1);
	if (!PUT(1))
		return -1;
	memset(block, 0, sizeof(block));
	LE32(0, 3);
	LE32(4, 4);
	LE32(8, TABLE);
	LE16(12, BLOCKS - 8);
	LE16(14, INODES - 10);
	LE16(16, 1);
	if (!PUT(2))
		return -1;
	/* Bit 0 is block 1; what lies past the end is marked as used. */
	memset(block, 0xff, sizeof(block));
	for (i = 7; i < BLOCKS - 1; i++)
		block[i / 8] &= ~(1 << (i % 8));
	if (!PUT(3))
		return -1;
	memset(block, 0xff, sizeof(block));
	for (i = 10; i < INODES; i++)
		block[i / 8] &= ~(1 << (i % 8));
	if (!PUT(4))
		return -1;
	/* Inode 2 is the root directory: 128 bytes an inode. */
	memset(block, 0, sizeof(block));
	LE16(128, 040755);
	LE32(132, BLOCK);
	LE16(154, 2);
	LE32(156, 2);
	LE32(168, 7);
	if (!PUT(TABLE))
		return -1;
	memset(block, 0, sizeof(block));
	if (!PUT(TABLE + 1))
		return -1;
	LE32(0, 2);
	LE16(4, 12);
	LE16(6, 1);
	block[8] = '.';
	LE32(12, 2);
	LE16(16, BLOCK - 12);
	LE16(18, 2);
	block[20] = '.';
	block[21] = '.';
	return PUT(7) ? 0 : -1;
#undef PUT
#undef LE32
#undef LE16
}

static bool has_filesystem(const char *type)
{
	char line[128], name[64];
	bool found = false;
	FILE *file;

	file = fopen("/proc/filesystems", "r");
	if (!file)
		return false;
	while (fgets(line, sizeof(line), file)) {
		/* Those without "nodev" live on a device. */
		if (sscanf(line, "\t%63s", name) == 1 && line[0] == '\t' &&
		    !strcmp(name, type))
			found = true;
	}
	fclose(file);
	return found;
}

/* Set up self->loop: NULL, or why there is no loop device. */
static const char *make_loop(struct __test_metadata *_metadata,
			     FIXTURE_DATA(barrier) *self)
{
	char image[128];
	int ctl, nr;

	ctl = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	if (ctl < 0)
		return "no /dev/loop-control: this kernel has no loop devices";
	nr = ioctl(ctl, LOOP_CTL_GET_FREE);
	close(ctl);
	if (nr < 0)
		return "no free loop device";
	snprintf(self->loop, sizeof(self->loop), "/dev/loop%d", nr);
	self->loop_fd = open(self->loop, O_RDWR | O_CLOEXEC);
	if (self->loop_fd < 0)
		return "the free loop device has no file in /dev";
	snprintf(image, sizeof(image), "%s/image", self->dir);
	self->fd = open(image, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	EXPECT_LE(0, self->fd);
	EXPECT_EQ(0, make_ext2(self->fd));
	EXPECT_EQ(0, ioctl(self->loop_fd, LOOP_SET_FD, self->fd));
	return NULL;
}

TEST_F_TIMEOUT(barrier, device_is_free, NSP_TIMEOUT)
{
	struct life life = { .dev = self->loop };
	const char *why;
	char dir[128];
	size_t t;
	int i, fd;

	for (t = 0; t < ARRAY_SIZE(disk_types) && !life.type; t++)
		if (has_filesystem(disk_types[t]))
			life.type = disk_types[t];
	if (!life.type)
		SKIP(return, "this kernel has neither ext2 nor ext4");
	why = make_loop(_metadata, self);
	if (why)
		SKIP(return, "%s", why);
	snprintf(dir, sizeof(dir), "%s/mnt", self->dir);
	ASSERT_EQ(0, mkdir(dir, 0700));
	life.dir = dir;
	for (i = 0; i < ROUNDS; i++) {
		ASSERT_EQ(0, nsp_run(mount_and_exit, &life));
		ASSERT_EQ(0, pass(self->dir, variant->what));
		/* What mkfs does first, and what met EBUSY. */
		fd = open(self->loop, O_RDWR | O_EXCL | O_CLOEXEC);
		ASSERT_LE(0, fd) {
			TH_LOG("round %d: %s: %s", i, self->loop,
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

static long shmem_kb(void)
{
	char line[128];
	long kb = -1;
	FILE *file;

	file = fopen("/proc/meminfo", "r");
	if (!file)
		return -1;
	while (fgets(line, sizeof(line), file))
		if (sscanf(line, "Shmem: %ld kB", &kb) == 1)
			break;
	fclose(file);
	return kb;
}

/*
 * 16 MB of a tmpfs, against counters that each CPU folds in when it likes:
 * those are off by less than 1 MB.
 */
TEST_F_TIMEOUT(barrier, tmpfs_is_gone, NSP_TIMEOUT)
{
	long before;
	int i;

	before = shmem_kb();
	if (before < 0)
		SKIP(return, "no Shmem in /proc/meminfo: this kernel has no tmpfs");
	for (i = 0; i < 3; i++) {
		ASSERT_EQ(0, nsp_run(fill_tmpfs, self->dir));
		ASSERT_EQ(0, pass(self->dir, variant->what));
		EXPECT_GT(before + 8 * 1024, shmem_kb()) {
			TH_LOG("round %d", i);
		}
	}
}

/* That nothing was pending is no proof, unless something would have been. */
TEST_F_TIMEOUT(barrier, counted, NSP_TIMEOUT)
{
	struct life life = { "none", self->dir, "tmpfs" };
	long before = nsp_num(variant->shows);
	int i;

	for (i = 0; i < ROUNDS; i++) {
		ASSERT_EQ(0, nsp_run(mount_and_exit, &life));
		ASSERT_EQ(0, pass(self->dir, variant->what));
		EXPECT_EQ(0, nsp_num("pending"));
	}
	EXPECT_LT(before, nsp_num(variant->shows));
}

NSP_TEST_MAIN(nsp_prepare_present)
