// SPDX-License-Identifier: GPL-2.0-only
/*
 * The promise: with mode=all no task waits for a grace period because it
 * leaves a namespace, whichever way it leaves it.
 *
 * Counted, not timed.  Every operation is run with mode=off too, where it
 * must make its caller wait if it kills a mount namespace: a counter that
 * sees nothing, or a deferral that is not in the way of the operation, fails
 * there.  What was deferred must be found in the statistics, and be released
 * by a flush.
 */
#include "nsproxy_test.h"

struct stats {
	long deferred;
	long released;
	long inline_off;
	long inline_bound;
};

static void read_stats(struct stats *stats)
{
	stats->deferred = nsp_num("stats/deferred");
	stats->released = nsp_num("stats/released");
	stats->inline_off = nsp_num("stats/inline_off");
	stats->inline_bound = nsp_num("stats/inline_bound");
}

/*
 * Run @fn in a child and hold the count against what @mode promises when @fn
 * leaves namespaces of the kinds @flags, all of them for good.
 */
static void check_release(struct __test_metadata *_metadata, const char *mode,
			  int flags, int (*fn)(void *), void *arg)
{
	bool kills_mnt = flags & CLONE_NEWNS;
	struct stats before, after;
	long gps;

	ASSERT_EQ(0, nsp_set("mode", mode));
	ASSERT_EQ(0, nsp_flush());
	read_stats(&before);
	ASSERT_EQ(0, gp_begin());
	ASSERT_EQ(0, nsp_run(fn, arg));
	gps = gp_end();
	ASSERT_LE(0, gps) {
		TH_LOG("cannot count grace periods: %s", gp_error());
	}
	ASSERT_EQ(0, nsp_flush());
	read_stats(&after);

	EXPECT_EQ(after.deferred, after.released);
	EXPECT_EQ(before.inline_bound, after.inline_bound);

	if (!strcmp(mode, "all")) {
		EXPECT_EQ(0, gps) {
			TH_LOG("the caller waited in:\n%s", gp_calls());
		}
		if (kills_mnt)
			EXPECT_LT(before.deferred, after.deferred);
		EXPECT_EQ(before.inline_off, after.inline_off);
	}
	if (!strcmp(mode, "off")) {
		if (kills_mnt) {
			EXPECT_LT(0, gps);
			if (!nsp_waiting())
				EXPECT_LT(before.inline_off, after.inline_off);
		}
		EXPECT_EQ(before.deferred, after.deferred);
	}
	/* What else dies shows to no program, on no kernel. */
	if (!strcmp(mode, "safe") && !(flags & (CLONE_NEWNS | CLONE_NEWIPC)))
		EXPECT_EQ(0, gps) {
			TH_LOG("the caller waited in:\n%s", gp_calls());
		}
}

FIXTURE(release)
{
	struct nsp_knobs knobs;
};

FIXTURE_VARIANT(release)
{
	const char *mode;
	int flags;
};

#define ALL_BUT_USER							\
	(CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET |	\
	 CLONE_NEWPID | CLONE_NEWCGROUP | CLONE_NEWTIME)

#define VARIANTS(kind, mask)						\
	FIXTURE_VARIANT_ADD(release, kind##_off)			\
	{								\
		.mode = "off",						\
		.flags = mask,						\
	};								\
	FIXTURE_VARIANT_ADD(release, kind##_safe)			\
	{								\
		.mode = "safe",						\
		.flags = mask,						\
	};								\
	FIXTURE_VARIANT_ADD(release, kind##_all)			\
	{								\
		.mode = "all",						\
		.flags = mask,						\
	}

VARIANTS(mnt, CLONE_NEWNS);
VARIANTS(uts, CLONE_NEWUTS);
VARIANTS(ipc, CLONE_NEWIPC);
VARIANTS(net, CLONE_NEWNET);
VARIANTS(pid, CLONE_NEWPID);
VARIANTS(user, CLONE_NEWUSER);
VARIANTS(cgroup, CLONE_NEWCGROUP);
VARIANTS(time, CLONE_NEWTIME);
VARIANTS(together, ALL_BUT_USER);

FIXTURE_SETUP(release)
{
	ASSERT_EQ(0, nsp_save(&self->knobs));
}

FIXTURE_TEARDOWN(release)
{
	EXPECT_EQ(0, nsp_restore(&self->knobs));
}

/* All kinds but mount namespaces are optional in a kernel's configuration. */
#define LACKING "this kernel lacks this kind of namespace"

static int do_unshare_twice(void *arg)
{
	int flags = *(int *)arg;

	/* Only a user with an id may make user namespaces. */
	if (flags & CLONE_NEWUSER) {
		CHECK(!nsp_own_user());
		CHECK(!nsp_own_user());
		return 0;
	}
	CHECK(!unshare(flags));
	/* A second CLONE_NEWPID before a fork is EINVAL on every kernel. */
	flags &= ~CLONE_NEWPID;
	CHECK(!unshare(flags ? flags : CLONE_NEWUTS));
	return 0;
}

TEST_F_TIMEOUT(release, unshare_twice, NSP_TIMEOUT)
{
	int flags = nsp_supported(variant->flags);

	if (!flags)
		SKIP(return, LACKING);
	check_release(_metadata, variant->mode, flags, do_unshare_twice,
		      &flags);
}

static int do_unshare_exit(void *arg)
{
	CHECK(!unshare(*(int *)arg));
	return 0;
}

TEST_F_TIMEOUT(release, unshare_exit, NSP_TIMEOUT)
{
	int flags = nsp_supported(variant->flags);

	if (!flags)
		SKIP(return, LACKING);
	check_release(_metadata, variant->mode, flags, do_unshare_exit,
		      &flags);
}

static int do_setns_back(void *arg)
{
	int flags = *(int *)arg, fds[ARRAY_SIZE(nsp_kinds)];
	char path[64];
	size_t i;

	for (i = 0; i < ARRAY_SIZE(nsp_kinds); i++) {
		if (!(flags & nsp_kinds[i].flag))
			continue;
		snprintf(path, sizeof(path), "/proc/self/ns/%s",
			 nsp_kinds[i].name);
		fds[i] = open(path, O_RDONLY | O_CLOEXEC);
		CHECK(fds[i] >= 0);
	}
	CHECK(!unshare(flags));
	for (i = 0; i < ARRAY_SIZE(nsp_kinds); i++)
		if (flags & nsp_kinds[i].flag)
			CHECK(!setns(fds[i], nsp_kinds[i].flag));
	return 0;
}

struct target {
	int flags;
	int ready[2];
	int done[2];
};

static int target_life(void *arg)
{
	struct target *target = arg;
	char c;

	CHECK(!unshare(target->flags));
	CHECK(write(target->ready[1], "x", 1) == 1);
	CHECK(read(target->done[0], &c, 1) == 1);
	return 0;
}

static pid_t start_target(struct target *target, int flags)
{
	pid_t pid;
	char c;

	target->flags = flags;
	if (pipe(target->ready) || pipe(target->done))
		return -1;
	pid = nsp_start(target_life, target);
	if (pid < 0 || read(target->ready[0], &c, 1) != 1)
		return -1;
	return pid;
}

static int end_target(struct target *target, pid_t pid)
{
	CHECK(write(target->done[1], "x", 1) == 1);
	return nsp_wait(pid);
}

/* There is no way back to a parent user namespace, only one to a child's. */
static int do_setns_user(void *arg)
{
	struct target target;
	char path[64];
	pid_t pid;
	int fd;

	pid = start_target(&target, *(int *)arg);
	CHECK(pid > 0);
	snprintf(path, sizeof(path), "/proc/%d/ns/user", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	CHECK(fd >= 0);
	CHECK(!setns(fd, CLONE_NEWUSER));
	return end_target(&target, pid);
}

TEST_F_TIMEOUT(release, setns_back, NSP_TIMEOUT)
{
	int flags = nsp_supported(variant->flags);

	if (!flags)
		SKIP(return, LACKING);
	check_release(_metadata, variant->mode, flags,
		      flags & CLONE_NEWUSER ? do_setns_user : do_setns_back,
		      &flags);
}

/* clone() has its exit signal where clone3() has CLONE_NEWTIME. */
static pid_t clone_with(int flags)
{
	struct nsp_clone_args args = {
		.flags = flags,
		.exit_signal = SIGCHLD,
	};

	if (flags & CLONE_NEWTIME)
		return nsp_clone3(&args);
	return syscall(SYS_clone, flags | SIGCHLD, NULL, NULL, NULL, NULL);
}

static int do_clone_exit(void *arg)
{
	pid_t pid;

	pid = clone_with(*(int *)arg);
	CHECK(pid >= 0);
	if (!pid)
		_exit(0);
	return nsp_wait(pid);
}

TEST_F_TIMEOUT(release, clone_exit, NSP_TIMEOUT)
{
	int flags = nsp_supported(variant->flags);

	if (!flags)
		SKIP(return, LACKING);
	check_release(_metadata, variant->mode, flags, do_clone_exit, &flags);
}

FIXTURE(shared)
{
	struct nsp_knobs knobs;
};

FIXTURE_VARIANT(shared)
{
	const char *mode;
};

FIXTURE_VARIANT_ADD(shared, off)
{
	.mode = "off",
};

FIXTURE_VARIANT_ADD(shared, safe)
{
	.mode = "safe",
};

FIXTURE_VARIANT_ADD(shared, all)
{
	.mode = "all",
};

FIXTURE_SETUP(shared)
{
	ASSERT_EQ(0, nsp_save(&self->knobs));
}

FIXTURE_TEARDOWN(shared)
{
	EXPECT_EQ(0, nsp_restore(&self->knobs));
}

#define NR_TASKS 4

static void *thread_exit(void *arg)
{
	return arg;
}

static void *thread_unshare(void *arg)
{
	return unshare(CLONE_NEWNS | CLONE_NEWUTS) ? arg : NULL;
}

static int run_threads(void *(*fn)(void *))
{
	pthread_t threads[NR_TASKS];
	int i, bad = 0;
	void *ret;

	for (i = 0; i < NR_TASKS; i++)
		CHECK(!pthread_create(&threads[i], NULL, fn, &bad));
	for (i = 0; i < NR_TASKS; i++) {
		CHECK(!pthread_join(threads[i], &ret));
		if (fn == thread_unshare && ret)
			bad = 1;
	}
	CHECK(!bad);
	return 0;
}

/* Threads that leave the nsproxy of their process, each for one of its own. */
static int do_threads_unshare(void *arg)
{
	(void)arg;
	return run_threads(thread_unshare);
}

TEST_F_TIMEOUT(shared, threads_unshare, NSP_TIMEOUT)
{
	check_release(_metadata, variant->mode, CLONE_NEWNS,
		      do_threads_unshare, NULL);
}

/* Threads that share one nsproxy to the end: it dies once. */
static int do_threads_exit(void *arg)
{
	(void)arg;
	CHECK(!unshare(CLONE_NEWNS | CLONE_NEWUTS));
	return run_threads(thread_exit);
}

TEST_F_TIMEOUT(shared, threads_exit, NSP_TIMEOUT)
{
	check_release(_metadata, variant->mode, CLONE_NEWNS, do_threads_exit,
		      NULL);
}

static int vm_task(void *arg)
{
	char c;

	return read(*(int *)arg, &c, 1) != 1;
}

/*
 * The task that made the namespaces leaves them while others, which share its
 * memory and nsproxy but are no threads of it, stay: the last of them to exit
 * drops the last reference.
 */
static int do_vm_tasks(void *arg)
{
	const size_t size = 65536;
	pid_t pids[NR_TASKS];
	char *stacks;
	int i, fds[2];

	(void)arg;
	stacks = mmap(NULL, NR_TASKS * size, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(stacks != MAP_FAILED);
	CHECK(!pipe(fds));
	CHECK(!unshare(CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC));
	for (i = 0; i < NR_TASKS; i++) {
		pids[i] = clone(vm_task, stacks + (i + 1) * size,
				CLONE_VM | SIGCHLD, &fds[0]);
		CHECK(pids[i] > 0);
	}
	CHECK(!unshare(CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC));
	for (i = 0; i < NR_TASKS; i++)
		CHECK(write(fds[1], "x", 1) == 1);
	for (i = 0; i < NR_TASKS; i++)
		CHECK(!nsp_wait(pids[i]));
	return 0;
}

TEST_F_TIMEOUT(shared, vm_tasks, NSP_TIMEOUT)
{
	check_release(_metadata, variant->mode, CLONE_NEWNS, do_vm_tasks,
		      NULL);
}

/* Join all namespaces of a task by one call, outlive it, and exit from them. */
static int do_setns_pidfd(void *arg)
{
	int flags = *(int *)arg, pidfd;
	struct target target;
	pid_t pid;

	CHECK(!unshare(flags));
	pid = start_target(&target, flags);
	CHECK(pid > 0);
	pidfd = nsp_pidfd_open(pid);
	CHECK(pidfd >= 0);
	CHECK(!setns(pidfd, flags));
	return end_target(&target, pid);
}

TEST_F_TIMEOUT(shared, setns_pidfd, NSP_TIMEOUT)
{
	int flags = nsp_supported(CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC |
				  CLONE_NEWNET | CLONE_NEWCGROUP);

	if (!nsp_linux(5, 8))
		SKIP(return, "setns() takes no pidfd before Linux 5.8");
	check_release(_metadata, variant->mode, flags, do_setns_pidfd, &flags);
}

NSP_TEST_MAIN(nsp_prepare_count)
