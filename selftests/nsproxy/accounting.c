// SPDX-License-Identifier: GPL-2.0-only
/*
 * The promise: nothing is lost.  Whatever is left is released, exactly once,
 * and a flush returns when that has happened: the counters agree, and what
 * the kernel itself counts (objects in slabs, namespaces of a user) is back
 * where it was.
 *
 * The races: the same list takes new entries while the worker takes a batch
 * off it; a burst must not be released one grace period at a time.
 */
#include "nsproxy_test.h"
#include "slab.h"

FIXTURE(accounting)
{
	struct nsp_knobs knobs;
};

FIXTURE_VARIANT(accounting)
{
	const char *mode;
};

NSP_MODE_VARIANTS(accounting);

FIXTURE_SETUP(accounting)
{
	ASSERT_EQ(0, nsp_save(&self->knobs));
	ASSERT_EQ(0, nsp_set("mode", variant->mode));
	ASSERT_EQ(0, nsp_set("max_pending", "1024"));
	ASSERT_EQ(0, nsp_flush());
}

FIXTURE_TEARDOWN(accounting)
{
	EXPECT_EQ(0, nsp_restore(&self->knobs));
}

TEST_F_TIMEOUT(accounting, counters, NSP_TIMEOUT)
{
	long unwaited = nsp_unwaited(), left = nsp_num("stats/left");
	struct nsp_storm storm;

	ASSERT_EQ(0, nsp_storm_start(&storm, 4, 15));
	ASSERT_EQ(0, nsp_storm_wait(&storm, false));
	ASSERT_EQ(0, nsp_flush());
	EXPECT_TRUE(nsp_all_released());
	if (!strcmp(variant->mode, "off")) {
		EXPECT_EQ(unwaited, nsp_unwaited());
	} else if (!strcmp(variant->mode, "all") || nsp_defers_mounts()) {
		EXPECT_LT(left, nsp_num("stats/left"));
		EXPECT_LT(unwaited, nsp_unwaited());
	}
	EXPECT_GE(nsp_num("stats/high_water"), nsp_num("pending"));
}

TEST_F_TIMEOUT(accounting, slabs, NSP_TIMEOUT)
{
	static const char *const caches[] = { "nsproxy", "mnt_cache" };
	long before[ARRAY_SIZE(caches)];
	struct nsp_storm storm;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(caches); i++)
		if (!slab_is_own(caches[i]))
			SKIP(return, SLAB_MERGED);
	/* The first storm fills what fills only once. */
	ASSERT_EQ(0, nsp_storm_start(&storm, 4, 5));
	ASSERT_EQ(0, nsp_storm_wait(&storm, false));
	ASSERT_EQ(0, nsp_flush());
	for (i = 0; i < ARRAY_SIZE(caches); i++) {
		before[i] = slab_settles(caches[i], 0);
		ASSERT_LE(0, before[i]);
	}

	ASSERT_EQ(0, nsp_storm_start(&storm, 4, 25));
	ASSERT_EQ(0, nsp_storm_wait(&storm, false));
	ASSERT_EQ(0, nsp_flush());
	for (i = 0; i < ARRAY_SIZE(caches); i++) {
		EXPECT_LE(slab_settles(caches[i], before[i]), before[i])
			TH_LOG("objects of %s were not given back", caches[i]);
	}
}

/*
 * Namespaces as the kernel counts them for their user: with a limit of
 * LIMIT in a user namespace nobody else is in, LIMIT of them can be made
 * again and again, and one more cannot.  A single one lost shows at once.
 */
#define LIMIT 8
#define ROUNDS 4

struct users {
	const char *sysctl;
	int flag;
};

static int limited_user(void *arg)
{
	const struct users *users = arg;
	char path[128];
	int i;

	CHECK(!nsp_own_user());
	snprintf(path, sizeof(path), "/proc/sys/user/%s", users->sysctl);
	CHECK(!nsp_put(path, "8"));
	for (i = 0; i < ROUNDS; i++) {
		int refused = nsp_hold_many(users->flag, LIMIT);

		if (refused) {
			fprintf(stderr, "# round %d: %d of %d refused\n", i,
				refused, LIMIT);
			return 1;
		}
		refused = nsp_hold_many(users->flag, LIMIT + 1);
		if (refused != 1) {
			fprintf(stderr, "# round %d: %d of %d refused, not 1\n",
				i, refused, LIMIT + 1);
			return 1;
		}
	}
	return 0;
}

static void check_users(struct __test_metadata *_metadata, const char *sysctl,
			int flag)
{
	struct users users = { sysctl, flag };

	EXPECT_EQ(0, nsp_run(limited_user, &users));
	ASSERT_EQ(0, nsp_flush());
	EXPECT_TRUE(nsp_all_released());
}

#define NO_LIMITS "this kernel has no limits for namespaces (they came with 4.9)"

TEST_F_TIMEOUT(accounting, limit_mnt, NSP_TIMEOUT)
{
	if (access("/proc/sys/user/max_mnt_namespaces", F_OK))
		SKIP(return, NO_LIMITS);
	check_users(_metadata, "max_mnt_namespaces", CLONE_NEWNS);
}

TEST_F_TIMEOUT(accounting, limit_uts, NSP_TIMEOUT)
{
	if (access("/proc/sys/user/max_uts_namespaces", F_OK))
		SKIP(return, NO_LIMITS);
	if (!nsp_supported(CLONE_NEWUTS))
		SKIP(return, "this kernel lacks UTS namespaces");
	check_users(_metadata, "max_uts_namespaces", CLONE_NEWUTS);
}

TEST_F_TIMEOUT(accounting, limit_cgroup, NSP_TIMEOUT)
{
	if (access("/proc/sys/user/max_cgroup_namespaces", F_OK))
		SKIP(return, NO_LIMITS);
	if (!nsp_supported(CLONE_NEWCGROUP))
		SKIP(return, "this kernel lacks cgroup namespaces");
	check_users(_metadata, "max_cgroup_namespaces", CLONE_NEWCGROUP);
}

/*
 * A zombie has given up what its nsproxy held, whatever is still pending;
 * its pid and user namespaces stay until it is waited for.
 */
static int unshare_most(void *arg)
{
	CHECK(!unshare(*(int *)arg));
	return 0;
}

TEST_F_TIMEOUT(accounting, names_of_a_zombie, NSP_TIMEOUT)
{
	int flags = nsp_supported(CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC |
				  CLONE_NEWNET | CLONE_NEWCGROUP);
	char path[64], name[64];
	siginfo_t info;
	bool stays;
	pid_t pid;
	size_t i;

	pid = nsp_start(unshare_most, &flags);
	ASSERT_LT(0, pid);
	ASSERT_EQ(0, waitid(P_PID, pid, &info, WEXITED | WNOWAIT));
	EXPECT_EQ(0, info.si_status);
	for (i = 0; i < ARRAY_SIZE(nsp_kinds); i++) {
		if (!nsp_supported(nsp_kinds[i].flag) ||
		    nsp_kinds[i].flag == CLONE_NEWTIME)
			continue;
		snprintf(path, sizeof(path), "/proc/%d/ns/%s", (int)pid,
			 nsp_kinds[i].name);
		stays = nsp_kinds[i].flag & (CLONE_NEWPID | CLONE_NEWUSER);
		EXPECT_EQ(stays, readlink(path, name, sizeof(name)) > 0) {
			TH_LOG("%s", path);
		}
	}
	EXPECT_EQ(0, nsp_wait(pid));
	EXPECT_EQ(-1, readlink(path, name, sizeof(name)));
	EXPECT_EQ(ENOENT, errno);
}

FIXTURE(burst)
{
	struct nsp_knobs knobs;
};

FIXTURE_SETUP(burst)
{
	ASSERT_EQ(0, nsp_save(&self->knobs));
	ASSERT_EQ(0, nsp_set("mode", "all"));
}

FIXTURE_TEARDOWN(burst)
{
	EXPECT_EQ(0, nsp_restore(&self->knobs));
}

static pthread_barrier_t everybody;

static void *thread_in_own_mounts(void *arg)
{
	if (unshare(CLONE_NEWNS))
		*(int *)arg = errno;
	pthread_barrier_wait(&everybody);
	for (;;)
		pause();
	return NULL;
}

/*
 * One process, a mount namespace for every thread of it: they die together
 * and as close to at once as a machine can do it.
 */
static int many_at_once(void *arg)
{
	long i, n = *(long *)arg;
	pthread_attr_t attr;
	pthread_t thread;
	int err, failed = 0;

	CHECK(!pthread_attr_init(&attr));
	/* The least that arm64 allows. */
	CHECK(!pthread_attr_setstacksize(&attr, 131072));
	CHECK(!pthread_barrier_init(&everybody, NULL, n + 1));
	for (i = 0; i < n; i++) {
		err = pthread_create(&thread, &attr, thread_in_own_mounts,
				     &failed);
		if (err) {
			fprintf(stderr, "# thread %ld: %s\n", i, strerror(err));
			return 1;
		}
	}
	pthread_barrier_wait(&everybody);
	errno = failed;
	CHECK(!failed);
	return 0;
}

struct burst {
	long bound;
	long before;
	long over;
	long left;
};

static void begin_burst(struct burst *burst)
{
	burst->left = nsp_num("stats/left") + nsp_num("stats/light");
	burst->bound = nsp_num("stats/waited_bound");
	burst->before = nsp_num("stats/grace_periods");
}

/*
 * How many grace periods passed from when it was over to when all of it, @n at
 * least, was released?
 */
static long end_burst(struct __test_metadata *_metadata, const struct burst *burst,
		      long n)
{
	long gps, queued = nsp_num("pending");

	ASSERT_LE(0, burst->before);
	ASSERT_LE(burst->before, burst->over);
	ASSERT_EQ(0, nsp_flush());
	gps = nsp_num("stats/grace_periods") - burst->over;
	TH_LOG("%ld grace periods until all were left, %ld then pending, %ld more",
	       burst->over - burst->before, queued, gps);
	EXPECT_TRUE(nsp_all_released());
	EXPECT_LE(n, nsp_num("stats/left") + nsp_num("stats/light") - burst->left);
	EXPECT_EQ(burst->bound, nsp_num("stats/waited_bound"));
	if (n && sysconf(_SC_NPROCESSORS_ONLN) > 1)
		EXPECT_LT(0, burst->over - burst->before + gps);
	return gps;
}

static long release_namespaces(struct __test_metadata *_metadata, long n)
{
	bool rcu_has_it = nsp_built_in() ||
			  nsp_count_lines("/proc/kallsyms", "mnt_ns_release_rcu") > 0;
	struct burst burst;

	begin_burst(&burst);
	ASSERT_EQ(0, nsp_run(many_at_once, &n));
	burst.over = nsp_num("stats/grace_periods");
	if (!nsp_defers_mounts())
		return end_burst(_metadata, &burst, n);
	EXPECT_EQ(0, nsp_num("pending"));
	/* A namespace leaves its memory, if RCU has not that, and nothing else. */
	return end_burst(_metadata, &burst, rcu_has_it ? 0 : n);
}

static long release_mounts(struct __test_metadata *_metadata, long n)
{
	struct nsp_held *held;
	struct burst burst;

	begin_burst(&burst);
	held = nsp_hold_mounts(n, NULL);
	ASSERT_NE(NULL, held);
	nsp_let_go(held);
	burst.over = nsp_num("stats/grace_periods");
	return end_burst(_metadata, &burst, n);
}

/*
 * How long it takes them to die is up to the machine; the count is of what it
 * takes from there.  On a kernel so slow that it is not the waiting that takes
 * the time, grace periods pass besides, and more of them may; so they do while
 * somebody else has the processors of a guest, and of three bursts the best
 * counts.  Released one after the other it would be one for each, every time.
 *
 * With one CPU online synchronize_rcu() returns at once, and RCU calls each
 * such call a grace period: there is nothing to share.
 */
static void check_burst(struct __test_metadata *_metadata,
			long (*release)(struct __test_metadata *_metadata, long n))
{
	long n = nsp_env("NSPROXY_TEST_BURST", 1000);
	long most = nsp_env("NSPROXY_TEST_GPS", 50);
	bool shared = sysconf(_SC_NPROCESSORS_ONLN) > 1;
	int tries = 3;
	long gps;

	/* Room for all, so that nobody waits at the bound. */
	ASSERT_EQ(0, nsp_set_num("max_pending", 2 * n));
	ASSERT_EQ(0, nsp_flush());
	do {
		gps = release(_metadata, n);
	} while (shared && gps > most && --tries);
	if (shared)
		EXPECT_GE(most, gps);
}

TEST_F_TIMEOUT(burst, few_grace_periods, NSP_TIMEOUT)
{
	check_burst(_metadata, release_namespaces);
}

TEST_F_TIMEOUT(burst, few_grace_periods_for_mounts, NSP_TIMEOUT)
{
	if (!nsp_defers_mounts())
		SKIP(return, "up to Linux 3.16 no mount is deferred by itself");
	check_burst(_metadata, release_mounts);
}

NSP_TEST_MAIN(nsp_prepare_present)
