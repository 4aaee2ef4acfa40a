// SPDX-License-Identifier: GPL-2.0-only
/*
 * The promise: a file system that does not answer stalls nobody but those who use
 * it.  Where a task shuts it down itself, as on every kernel, that task hangs in
 * its exit; where that was left to the worker, nobody does but who flushes, and
 * such a wait can be killed.  All others go on, whatever they unmount, remove or
 * leave, and when it answers or is aborted it is released like the rest.
 *
 * Up to Linux 3.16 umount(2) waits for whatever is pending, and gives up on what
 * hangs.
 */
#include "hang.h"
#include "namespaces.h"
#include "others.h"

/* How many releases run at once, NSPROXY_DEFER_SLOTS in the kernel. */
#define HANDS 128

FIXTURE(hung)
{
	struct place at;
	struct hang *hangs;
	int nr_hangs;
	char timeout[32];
};

#define HUNG_TASK_TIMEOUT "/proc/sys/kernel/hung_task_timeout_secs"

FIXTURE_SETUP(hung)
{
	self->hangs = calloc(HANDS, sizeof(*self->hangs));
	ASSERT_NE(NULL, self->hangs);
	/* They hang on purpose, and on a slow machine for long. */
	if (!nsp_get(HUNG_TASK_TIMEOUT, self->timeout, sizeof(self->timeout)))
		ASSERT_EQ(0, nsp_put(HUNG_TASK_TIMEOUT, "0"));
	ASSERT_EQ(0, place_make(&self->at, "all"));
}

FIXTURE_TEARDOWN(hung)
{
	int i;

	for (i = 0; i < self->nr_hangs; i++)
		hang_end(&self->hangs[i]);
	EXPECT_EQ(0, nsp_flush());
	EXPECT_TRUE(nsp_all_released());
	for (i = 0; i < self->nr_hangs; i++)
		disk_drop(&self->hangs[i].disk);
	if (self->timeout[0])
		EXPECT_EQ(0, nsp_put(HUNG_TASK_TIMEOUT, self->timeout));
	EXPECT_EQ(0, place_drop(&self->at));
}

/* One more that hangs, in the worker or a task: NULL, or what this kernel lacks. */
#define HANG(what)							\
	hang_##what(_metadata, &self->hangs[self->nr_hangs++], &self->at)

#define NR_OTHERS 20

TEST_F_TIMEOUT(hung, others_drain, NSP_TIMEOUT)
{
	const struct timespec nap = { .tv_nsec = 1000 * 1000 };
	const char *why = HANG(release);
	pid_t flusher;
	long before;
	int fd;

	if (why)
		SKIP(return, "%s", why);
	before = nsp_num("stats/released");
	ASSERT_EQ(0, nsp_leave(NR_OTHERS));
	/* A flush would wait for the one that hangs; the rest go by themselves. */
	while (nsp_num("stats/released") < before + NR_OTHERS)
		nanosleep(&nap, NULL);
	EXPECT_EQ(1, nsp_num("pending"));

	/* Who flushes waits, and may be killed. */
	flusher = start_flush();
	ASSERT_LT(0, flusher);
	EXPECT_FALSE(is_over(flusher));
	EXPECT_EQ(0, nsp_end(flusher));
	EXPECT_EQ(1, nsp_num("pending"));

	ASSERT_EQ(0, nsp_put(self->hangs[0].abort, "1")) {
		TH_LOG("%s", self->hangs[0].abort);
	}
	EXPECT_EQ(0, nsp_flush());
	EXPECT_TRUE(nsp_all_released());
	fd = open(self->hangs[0].disk.dev, O_RDWR | O_EXCL | O_CLOEXEC);
	EXPECT_LE(0, fd);
	close(fd);
}

/*
 * Up to 3.16 every umount(2) of the machine waits for what is pending, so it must
 * not wait for ever; what it unmounts itself is final all the same.
 */
TEST_F_TIMEOUT(hung, others_go_on, NSP_TIMEOUT)
{
	const char *why = HANG(release);
	long before;

	if (why)
		SKIP(return, "%s", why);
	before = waits_for_others();
	EXPECT_EQ(0, do_as_others(self->at.dir));
	if (nsp_defers_mounts()) {
		ASSERT_EQ(0, nsp_set("mode", "safe"));
		EXPECT_EQ(0, do_as_others(self->at.dir));
		EXPECT_EQ(before, waits_for_others());
	}
	/* It hangs still. */
	EXPECT_LE(1, nsp_num("pending"));
}

/* Who uses it hangs, as on every kernel, and nobody else does. */
TEST_F_TIMEOUT(hung, others_go_on_in_safe, NSP_TIMEOUT)
{
	const char *why;
	long before;
	int fd;

	if (!nsp_defers_mounts())
		SKIP(return, "up to Linux 3.16 umount(2) waits for what is pending");
	ASSERT_EQ(0, nsp_set("mode", "safe"));
	why = HANG(exit);
	if (why)
		SKIP(return, "%s", why);
	before = waits_for_others();
	EXPECT_EQ(0, nsp_num("pending"));
	EXPECT_EQ(0, do_as_others(self->at.dir));
	ASSERT_EQ(0, nsp_set("mode", "all"));
	EXPECT_EQ(0, do_as_others(self->at.dir));
	EXPECT_EQ(before, waits_for_others());
	EXPECT_EQ(0, nsp_flush());
	EXPECT_FALSE(is_over(self->hangs[0].task));

	ASSERT_EQ(0, nsp_put(self->hangs[0].abort, "1"));
	EXPECT_EQ(0, nsp_wait(self->hangs[0].task));
	self->hangs[0].task = 0;
	fd = open(self->hangs[0].disk.dev, O_RDWR | O_EXCL | O_CLOEXEC);
	EXPECT_LE(0, fd);
	close(fd);
}

/* Besides what hangs he has a disk mounted, and somebody else has a file of it. */
#define FILE_OF_OTHERS 100

static struct disk other_disk;
static int let_go[2];

static int mount_both(void *arg)
{
	const char *type = disk_has_filesystem("ext2") ? "ext2" : "ext4";
	int fd;

	CHECK(!mount_and_exit(arg));
	CHECK(!mount(other_disk.dev, "/tmp", type, 0, NULL));
	fd = open("/tmp", O_PATH | O_CLOEXEC);
	CHECK(fd >= 0 && dup2(fd, FILE_OF_OTHERS) == FILE_OF_OTHERS);
	return close(fd);
}

static int hold_file_of_other(void *arg)
{
	pid_t pid = nsp_start_in(CLONE_FILES, mount_both, arg);
	char c;

	CHECK(pid > 0 && read(let_go[0], &c, 1) == 1);
	CHECK(!close(FILE_OF_OTHERS));
	return nsp_wait(pid);
}

static void let_go_of_other(struct __test_metadata *_metadata, FIXTURE_DATA(hung) *self,
			    const char *mode)
{
	struct hang *hang = &self->hangs[self->nr_hangs];
	int fd;

	ASSERT_EQ(0, nsp_set("mode", mode));
	ASSERT_EQ(0, pipe(let_go));
	ASSERT_EQ(NULL, hang_prepare(_metadata, hang, self->at.dir));
	self->nr_hangs++;
	ASSERT_EQ(NULL, disk_make(&other_disk, self->at.dir));
	hang_begin(_metadata, hang, self->at.mnt, hold_file_of_other, false);
	ASSERT_EQ(1, write(let_go[1], "x", 1));
	do {
		fd = open(other_disk.dev, O_RDWR | O_EXCL | O_CLOEXEC);
	} while (fd < 0);
	close(fd);
	/* It hangs still: in mode all it may be a worker who does. */
	EXPECT_FALSE(is_over(hang->task) &&
		     (strcmp(mode, "all") || !nsp_num("pending")));
	hang_end(hang);
	disk_drop(&other_disk);
}

/* Whoever lets go last has it shut down, whatever else hangs in that exit. */
TEST_F_TIMEOUT(hung, other_is_free, NSP_TIMEOUT)
{
	if (!nsp_defers_mounts())
		SKIP(return, "up to Linux 3.16 it is the module that shuts them down");
	if (!disk_has_filesystem("fuseblk"))
		SKIP(return, "this kernel has no fuseblk (CONFIG_FUSE_FS, CONFIG_BLOCK)");
	let_go_of_other(_metadata, self, "off");
	let_go_of_other(_metadata, self, "safe");
	let_go_of_other(_metadata, self, "all");
}

/* What is pending goes on when the mode goes off, and others do as on a stock kernel. */
TEST_F_TIMEOUT(hung, mode_goes_off, NSP_TIMEOUT)
{
	const struct timespec nap = { .tv_nsec = 1000 * 1000 };
	const char *why;
	long waits, released;

	if (!nsp_defers_mounts())
		SKIP(return, "up to Linux 3.16 umount(2) waits for what is pending");
	why = HANG(release);
	if (why)
		SKIP(return, "%s", why);
	released = nsp_num("stats/released");
	waits = waits_for_others();
	ASSERT_EQ(0, nsp_leave(NR_OTHERS));
	ASSERT_EQ(0, nsp_set("mode", "off"));
	EXPECT_EQ(0, do_as_others(self->at.dir));
	EXPECT_EQ(waits, waits_for_others());
	while (nsp_num("stats/released") < released + NR_OTHERS)
		nanosleep(&nap, NULL);
	EXPECT_EQ(1, nsp_num("pending"));

	ASSERT_EQ(0, nsp_put(self->hangs[0].abort, "1"));
	EXPECT_EQ(0, nsp_flush());
	EXPECT_TRUE(nsp_all_released());
}

TEST_F_TIMEOUT(hung, flush_waits_for_what_was_before, NSP_TIMEOUT)
{
	const char *why = HANG(release);
	pid_t first, second;

	if (why)
		SKIP(return, "%s", why);
	first = start_flush();
	ASSERT_LT(0, first);
	ASSERT_EQ(NULL, HANG(release));
	second = start_flush();
	ASSERT_LT(0, second);
	EXPECT_FALSE(is_over(first));

	/* If it waited for what came later, the test would not come to its end. */
	ASSERT_EQ(0, nsp_put(self->hangs[0].abort, "1"));
	EXPECT_EQ(0, nsp_wait(first));
	EXPECT_EQ(1, nsp_num("pending"));
	EXPECT_FALSE(is_over(second));
	ASSERT_EQ(0, nsp_put(self->hangs[1].abort, "1"));
	EXPECT_EQ(0, nsp_wait(second));
	EXPECT_EQ(0, nsp_num("pending"));
}

#define NR_FLUSHERS 200

TEST_F_TIMEOUT(hung, many_flush, NSP_TIMEOUT)
{
	long before = nsp_num("stats/flush_user");
	const char *why = HANG(release);
	pid_t pids[NR_FLUSHERS];
	int i;

	if (why)
		SKIP(return, "%s", why);
	for (i = 0; i < NR_FLUSHERS; i++) {
		pids[i] = nsp_start(run_flush, NULL);
		ASSERT_LT(0, pids[i]);
	}
	while (nsp_num("stats/flush_user") < before + NR_FLUSHERS)
		sched_yield();
	/* One in four is called off. */
	for (i = 0; i < NR_FLUSHERS; i += 4)
		EXPECT_EQ(0, nsp_end(pids[i]));
	for (i = 1; i < NR_FLUSHERS; i++)
		EXPECT_FALSE(i % 4 && is_over(pids[i]));
	ASSERT_EQ(0, nsp_put(self->hangs[0].abort, "1"));
	for (i = 1; i < NR_FLUSHERS; i++)
		if (i % 4)
			EXPECT_EQ(0, nsp_wait(pids[i]));
	EXPECT_EQ(0, nsp_num("pending"));
}

TEST_F_TIMEOUT(hung, all_hands_are_busy, 2 * NSP_TIMEOUT)
{
	long waits, released;
	const char *why;
	pid_t flusher;
	int i;

	for (i = 0; i < HANDS; i++) {
		why = HANG(release);
		if (why)
			SKIP(return, "%s", why);
	}
	released = nsp_num("stats/released");
	waits = waits_for_others();
	ASSERT_EQ(0, nsp_leave(NR_OTHERS));
	if (nsp_defers_mounts()) {
		EXPECT_EQ(0, do_as_others(self->at.dir));
		EXPECT_EQ(waits, waits_for_others());
	}
	EXPECT_LE(HANDS + NR_OTHERS, nsp_num("pending"));
	flusher = start_flush();
	ASSERT_LT(0, flusher);
	EXPECT_EQ(0, nsp_end(flusher));
	EXPECT_EQ(released, nsp_num("stats/released"));

	/* One hand does all that is left. */
	ASSERT_EQ(0, nsp_put(self->hangs[0].abort, "1"));
	while (nsp_num("stats/released") < released + 1 + NR_OTHERS)
		sched_yield();
	for (i = 1; i < HANDS; i++)
		ASSERT_EQ(0, nsp_put(self->hangs[i].abort, "1"));
	EXPECT_EQ(0, nsp_flush());
	EXPECT_EQ(0, nsp_num("pending"));
}

NSP_TEST_MAIN(nsp_prepare_present)
