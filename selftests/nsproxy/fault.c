// SPDX-License-Identifier: GPL-2.0-only
/*
 * The promise: what is deferred takes no memory, so that no lack of it can lose a
 * release or have somebody wait; and a namespace or a module load that failed
 * halfway for lack of memory leaves nothing behind.
 *
 * Error paths free nsproxies that were never published, through the very
 * functions that are taken over.  So every allocation of an operation is made
 * to fail, one after the other, by /proc/self/fail-nth: it counts down on the
 * allocations of this task and fails the one at which it gets to 0.
 */
#include "fail.h"
#include "log.h"

FIXTURE(fault)
{
	struct nsp_knobs knobs;
	struct fail_saved saved;
	const char *lacking;
};

/* Where others hold nothing, mode safe takes the same ways, and others than mode off. */
static const char *const fault_modes[] = { "safe", "all" };

FIXTURE_SETUP(fault)
{
	ASSERT_EQ(0, nsp_save(&self->knobs));
	ASSERT_EQ(0, nsp_set("mode", "all"));
	ASSERT_EQ(0, nsp_flush());
	self->lacking = fail_needs();
	if (!self->lacking)
		ASSERT_EQ(0, fail_prepare(&self->saved));
}

FIXTURE_TEARDOWN(fault)
{
	EXPECT_EQ(0, fail_restore(&self->saved));
	if (nsp_present())
		EXPECT_EQ(0, nsp_restore(&self->knobs));
}

struct attempt {
	int flags;
	long nth;
	volatile long left;
	volatile int err;
};

static int attempt_unshare(void *arg)
{
	struct attempt *attempt = arg;
	int fd = fail_arm(attempt->nth);

	CHECK(fd >= 0);
	attempt->err = unshare(attempt->flags) ? errno : 0;
	attempt->left = fail_disarm(fd);
	return 0;
}

static int attempt_clone(void *arg)
{
	struct attempt *attempt = arg;
	int fd = fail_arm(attempt->nth);
	pid_t pid;

	CHECK(fd >= 0);
	pid = syscall(SYS_clone, attempt->flags | SIGCHLD, NULL, NULL, NULL,
		      NULL);
	if (!pid)
		_exit(0);
	attempt->err = pid < 0 ? errno : 0;
	attempt->left = fail_disarm(fd);
	if (pid > 0)
		CHECK(!nsp_wait(pid));
	return 0;
}

static int attempt_exit(void *arg)
{
	struct attempt *attempt = arg;

	CHECK(!unshare(attempt->flags));
	CHECK(fail_arm(attempt->nth) >= 0);
	/* What fails now fails in exit, if anything there allocates. */
	return 0;
}

static int flags_to_fail(void)
{
	int flags = CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWCGROUP;

	if (getenv("NSPROXY_TEST_NOISY"))
		flags |= CLONE_NEWIPC;
	return nsp_supported(flags);
}

static void fail_one_by_one(struct __test_metadata *_metadata,
			    int (*fn)(void *))
{
	struct attempt *attempt = nsp_shared(sizeof(*attempt));
	long failed = 0;

	ASSERT_NE(NULL, attempt);
	attempt->flags = flags_to_fail();
	for (attempt->nth = 1; attempt->nth < MANY; attempt->nth++) {
		ASSERT_EQ(0, nsp_run(fn, attempt));
		ASSERT_LE(0, attempt->left);
		if (attempt->left)
			break;
		/* Some can do without: a cache that is not filled, say. */
		if (attempt->err)
			failed++;
		EXPECT_TRUE(attempt->err == 0 || attempt->err == ENOMEM) {
			TH_LOG("allocation %ld: %s", attempt->nth,
			       strerror(attempt->err));
		}
	}
	TH_LOG("%ld allocations, %ld failures", attempt->nth - 1, failed);
	/* The last attempt went through undisturbed. */
	EXPECT_EQ(0, attempt->err);
	EXPECT_LT(0, failed);
	ASSERT_EQ(0, nsp_flush());
	EXPECT_TRUE(nsp_all_released());
}

TEST_F_TIMEOUT(fault, unshare, NSP_TIMEOUT)
{
	size_t i;

	if (self->lacking)
		SKIP(return, "%s", self->lacking);
	for (i = 0; i < ARRAY_SIZE(fault_modes); i++) {
		ASSERT_EQ(0, nsp_set("mode", fault_modes[i]));
		fail_one_by_one(_metadata, attempt_unshare);
	}
}

TEST_F_TIMEOUT(fault, clone, NSP_TIMEOUT)
{
	if (self->lacking)
		SKIP(return, "%s", self->lacking);
	fail_one_by_one(_metadata, attempt_clone);
}

/* What cannot fail loses nothing, and nobody waits for want of memory. */
static void fail_twenty(struct __test_metadata *_metadata, int (*fn)(void *),
			const char *mode, long mounts)
{
	struct attempt attempt = { .flags = flags_to_fail() };
	long before = nsp_unwaited(), bound = nsp_num("stats/waited_bound");

	ASSERT_EQ(0, nsp_set("mode", mode));
	for (attempt.nth = 1; attempt.nth <= 20; attempt.nth++)
		ASSERT_EQ(0, nsp_run(fn, &attempt));
	ASSERT_EQ(0, nsp_flush());
	EXPECT_LE(before + 20 * mounts, nsp_unwaited());
	EXPECT_EQ(bound, nsp_num("stats/waited_bound"));
	EXPECT_TRUE(nsp_all_released());
}

TEST_F_TIMEOUT(fault, exit, NSP_TIMEOUT)
{
	size_t i;

	if (self->lacking)
		SKIP(return, "%s", self->lacking);
	for (i = !nsp_defers_mounts(); i < ARRAY_SIZE(fault_modes); i++)
		fail_twenty(_metadata, attempt_exit, fault_modes[i], 1);
}

/* The same for mounts, of which one is left and one is the task's own. */
static int attempt_umount(void *arg)
{
	const struct attempt *attempt = arg;
	struct nsp_held *held;
	int fd;

	CHECK(!nsp_own_mounts());
	CHECK(!mount("none", "/tmp", "tmpfs", 0, NULL));
	CHECK(!mount("none", "/tmp", "tmpfs", 0, NULL));
	CHECK(!chdir("/tmp"));
	held = nsp_hold_mounts(1, NULL);
	CHECK(held);
	fd = fail_arm(attempt->nth);
	CHECK(fd >= 0);
	nsp_let_go(held);
	/* This one reads its path into memory that it may not get. */
	if (umount2("/tmp", MNT_DETACH))
		CHECK(errno == ENOMEM);
	if (umount2("/tmp", MNT_DETACH))
		CHECK(errno == ENOMEM);
	return 0;
}

TEST_F_TIMEOUT(fault, umount, NSP_TIMEOUT)
{
	size_t i;

	if (self->lacking)
		SKIP(return, "%s", self->lacking);
	if (!nsp_defers_mounts())
		SKIP(return, "up to Linux 3.16 no mount is deferred by itself");
	for (i = 0; i < ARRAY_SIZE(fault_modes); i++)
		fail_twenty(_metadata, attempt_umount, fault_modes[i], 3);
}

static int stay(void *arg)
{
	(void)arg;
	while (pause())
		;
	return 0;
}

/* A limit that is reached is one, or there is no memory: nothing else. */
static int attempt_beyond_limit(void *arg)
{
	struct attempt *attempt = arg;
	pid_t first;
	int fd;

	CHECK(!nsp_own_user());
	CHECK(!nsp_put("/proc/sys/user/max_pid_namespaces", "1"));
	first = nsp_start_in(CLONE_NEWPID, stay, NULL);
	CHECK(first > 0);
	fd = fail_arm(attempt->nth);
	CHECK(fd >= 0);
	CHECK(unshare(CLONE_NEWPID));
	attempt->err = errno == ENOSPC ? 0 : errno;
	attempt->left = fail_disarm(fd);
	CHECK(!kill(first, SIGKILL));
	return nsp_wait(first) != 128 + SIGKILL;
}

TEST_F_TIMEOUT(fault, beyond_limit, NSP_TIMEOUT)
{
	if (self->lacking)
		SKIP(return, "%s", self->lacking);
	if (!nsp_supported(CLONE_NEWUSER) || access("/proc/sys/user/max_pid_namespaces", F_OK))
		SKIP(return, "this kernel has no limits for namespaces (they came with 4.9)");
	fail_one_by_one(_metadata, attempt_beyond_limit);
}

static int load_off(void *arg)
{
	int ko = open(getenv("NSPROXY_DEFER_KO"), O_RDONLY | O_CLOEXEC);

	(void)arg;
	CHECK(ko >= 0);
	CHECK(!syscall(SYS_finit_module, ko, "mode=off", 0));
	return 0;
}

#define PRINTK "/proc/sys/kernel/printk"

/*
 * The kernel complains, with a backtrace, about the page of text that ftrace does not
 * get.  That is kept from the console, and no warning is among it.
 */
static int attempt_engage(void *arg)
{
	struct attempt *attempt = arg;
	int mode = open(NSP_DIR "/mode", O_WRONLY | O_CLOEXEC);
	int log = open_log(), fd;
	char printk[64];

	CHECK(mode >= 0 && log >= 0);
	CHECK(!nsp_get(PRINTK, printk, sizeof(printk)) && !nsp_put(PRINTK, "4"));
	fd = fail_arm(attempt->nth);
	CHECK(fd >= 0);
	attempt->err = write(mode, "safe", 4) == 4 ? 0 : errno;
	attempt->left = fail_disarm(fd);
	CHECK(!nsp_put(PRINTK, printk));
	CHECK(!was_logged(log, "WARNING: "));
	return 0;
}

#define NEEDS_MODULE() do {						\
	if (access("/sys/module/nsproxy_defer/initstate", F_OK))	\
		SKIP(return, "the deferral is built into this kernel");	\
	if (!getenv("NSPROXY_DEFER_KO"))				\
		SKIP(return, "NSPROXY_DEFER_KO does not name the module's file"); \
	if (self->lacking)						\
		SKIP(return, "%s", self->lacking);			\
} while (0)

/*
 * Loaded in mode off, the module takes the functions over when another mode is
 * written: all of them, or none, and then the mode stays.
 */
TEST_F_TIMEOUT(fault, engage, 4 * NSP_TIMEOUT)
{
	struct attempt *attempt = nsp_shared(sizeof(*attempt));
	long failed = 0, before;
	char mode[32];

	NEEDS_MODULE();
	ASSERT_NE(NULL, attempt);
	for (attempt->nth = 1; attempt->nth < MANY; attempt->nth++) {
		ASSERT_EQ(0, syscall(SYS_delete_module, "nsproxy_defer", O_NONBLOCK));
		ASSERT_EQ(0, nsp_run(load_off, NULL));
		ASSERT_EQ(0, nsp_run(attempt_engage, attempt));
		ASSERT_EQ(0, nsp_get(NSP_DIR "/mode", mode, sizeof(mode)));
		ASSERT_LE(0, attempt->left);
		if (attempt->left)
			break;
		EXPECT_STREQ(attempt->err ? "off" : "safe", mode);
		before = nsp_unwaited();
		EXPECT_EQ(0, nsp_run(nsp_short_life, NULL));
		if (!attempt->err) {
			if (nsp_defers_mounts())
				EXPECT_LT(before, nsp_unwaited());
			continue;
		}
		failed++;
		EXPECT_EQ(ENOMEM, attempt->err) {
			TH_LOG("allocation %ld: %s", attempt->nth, strerror(attempt->err));
		}
		EXPECT_EQ(before, nsp_unwaited());
		/* There is memory again. */
		EXPECT_EQ(0, nsp_set("mode", "all"));
		EXPECT_EQ(0, nsp_run(nsp_short_life, NULL));
		if (nsp_defers_mounts())
			EXPECT_LT(before, nsp_unwaited());
	}
	TH_LOG("%ld allocations, %ld failures", attempt->nth - 1, failed);
	EXPECT_EQ(0, attempt->err);
	EXPECT_LT(0, failed);
	EXPECT_EQ(0, nsp_flush());
}

static int attempt_load(void *arg)
{
	struct attempt *attempt = arg;
	int ko = open(getenv("NSPROXY_DEFER_KO"), O_RDONLY | O_CLOEXEC);
	int fd = fail_arm(attempt->nth);

	CHECK(ko >= 0 && fd >= 0);
	attempt->err = syscall(SYS_finit_module, ko, "", 0) ? errno : 0;
	attempt->left = fail_disarm(fd);
	return 0;
}

/*
 * The module's own allocations come last; those before them are the module
 * loader's.  So find out how many there are, and fail the last of them.
 */
#define LAST 60

TEST_F_TIMEOUT(fault, module_load, 4 * NSP_TIMEOUT)
{
	struct attempt *attempt = nsp_shared(sizeof(*attempt));
	long total, failed = 0;

	NEEDS_MODULE();
	ASSERT_NE(NULL, attempt);
	ASSERT_EQ(0, syscall(SYS_delete_module, "nsproxy_defer", O_NONBLOCK));
	attempt->nth = MANY;
	ASSERT_EQ(0, nsp_run(attempt_load, attempt));
	ASSERT_EQ(0, attempt->err);
	total = MANY - attempt->left;
	ASSERT_EQ(0, syscall(SYS_delete_module, "nsproxy_defer", O_NONBLOCK));

	attempt->nth = total > LAST ? total - LAST : 1;
	for (; attempt->nth <= total; attempt->nth++) {
		ASSERT_EQ(0, nsp_run(attempt_load, attempt));
		if (attempt->err) {
			failed++;
			EXPECT_EQ(ENOMEM, attempt->err) {
				TH_LOG("allocation %ld: %s", attempt->nth,
				       strerror(attempt->err));
			}
			EXPECT_NE(0, access("/sys/module/nsproxy_defer", F_OK));
			EXPECT_FALSE(nsp_present());
			continue;
		}
		ASSERT_EQ(0, syscall(SYS_delete_module, "nsproxy_defer",
				     O_NONBLOCK));
	}
	TH_LOG("%ld allocations, %ld failures in the last %d", total, failed,
	       LAST);
	EXPECT_LT(0, failed);
	attempt->nth = 0;
	ASSERT_EQ(0, nsp_run(attempt_load, attempt));
	ASSERT_EQ(0, attempt->err);
	EXPECT_EQ(0, nsp_flush());
}

NSP_TEST_MAIN(nsp_prepare_present)
