// SPDX-License-Identifier: GPL-2.0-only
/*
 * The promises: what pending releases hold on to is bounded, whoever makes
 * them and however fast, and nobody sees a limit reached that is not.
 *
 * The races: tasks on several CPUs queue at the same moment, and each may
 * take the last free place for its own; a namespace that is dead but still
 * pending counts against its user's limit, and a deferral that does not care
 * makes unshare() fail with ENOSPC where it never did.
 */
#include "nsproxy_test.h"

#define NR_FLOODERS 4

static volatile int *flood_over;

FIXTURE(flood)
{
	struct nsp_knobs knobs;
};

FIXTURE_VARIANT(flood)
{
	long bound;
};

FIXTURE_VARIANT_ADD(flood, bound_1) { .bound = 1 };
FIXTURE_VARIANT_ADD(flood, bound_7) { .bound = 7 };
FIXTURE_VARIANT_ADD(flood, bound_64) { .bound = 64 };

FIXTURE_SETUP(flood)
{
	flood_over = nsp_shared(sizeof(*flood_over));
	ASSERT_NE(NULL, flood_over);
	ASSERT_EQ(0, nsp_save(&self->knobs));
	ASSERT_EQ(0, nsp_set("mode", "all"));
	ASSERT_EQ(0, nsp_set_num("max_pending", variant->bound));
	ASSERT_EQ(0, nsp_flush());
}

FIXTURE_TEARDOWN(flood)
{
	EXPECT_EQ(0, nsp_restore(&self->knobs));
	munmap((void *)flood_over, sizeof(*flood_over));
}

/* Its namespaces are left, or mounts that it holds itself. */
static int flood_life(void *arg)
{
	(void)arg;
	CHECK(!nsp_own_user());
	CHECK(!unshare(CLONE_NEWNS));
	CHECK(!unshare(CLONE_NEWNS));
	CHECK(!unshare(CLONE_NEWNS));
	if (nsp_defers_mounts())
		CHECK(!nsp_leave(20));
	return 0;
}

/* Whoever comes along, without privilege, with namespaces of its own. */
static int flooder(void *arg)
{
	long i, n = *(long *)arg;

	CHECK(!setgid(65534));
	CHECK(!setuid(65534));
	/* The credentials changed, and /proc/self is root's until this. */
	CHECK(!prctl(PR_SET_DUMPABLE, 1));
	for (i = 0; i < n; i++)
		CHECK(!nsp_run(flood_life, NULL));
	return 0;
}

static int sampler(void *arg)
{
	long most = *(long *)arg, n;

	while (!*flood_over) {
		n = nsp_num("pending");
		if (n < 0 || n > most) {
			fprintf(stderr, "# %ld pending, of %ld at most\n", n,
				most);
			return 1;
		}
	}
	return 0;
}

TEST_F_TIMEOUT(flood, unprivileged, NSP_TIMEOUT)
{
	long rounds = nsp_env("NSPROXY_TEST_FLOOD", 30);
	long bound = variant->bound, left;
	pid_t pids[NR_FLOODERS], watch;
	char path[64], text[16];
	int i;

	if (!nsp_supported(CLONE_NEWUSER))
		SKIP(return, "this kernel lacks user namespaces");
	snprintf(path, sizeof(path), "/proc/sys/kernel/unprivileged_userns_clone");
	if (!nsp_get(path, text, sizeof(text)) && !strcmp(text, "0"))
		SKIP(return, "kernel.unprivileged_userns_clone is 0");

	left = nsp_num("stats/left");
	watch = nsp_start(sampler, &bound);
	ASSERT_LT(0, watch);
	for (i = 0; i < NR_FLOODERS; i++) {
		pids[i] = nsp_start(flooder, &rounds);
		ASSERT_LT(0, pids[i]);
	}
	for (i = 0; i < NR_FLOODERS; i++)
		EXPECT_EQ(0, nsp_wait(pids[i]));
	*flood_over = 1;
	EXPECT_EQ(0, nsp_wait(watch));
	ASSERT_EQ(0, nsp_flush());
	EXPECT_LT(left, nsp_num("stats/left"));
	EXPECT_TRUE(nsp_all_released());
}

/*
 * The high-water mark sees what samples can miss, but only ever grows: so it
 * is held against the largest bound there has been in this test.
 */
TEST_F_TIMEOUT(flood, high_water, NSP_TIMEOUT)
{
	long rounds = nsp_env("NSPROXY_TEST_FLOOD", 30);
	long high = nsp_num("stats/high_water");
	struct nsp_storm storm;

	ASSERT_EQ(0, nsp_storm_start(&storm, NR_FLOODERS, rounds));
	ASSERT_EQ(0, nsp_storm_wait(&storm, false));
	EXPECT_GE(high > variant->bound ? high : variant->bound,
		  nsp_num("stats/high_water"));
	EXPECT_LE(1, nsp_num("stats/high_water"));
	ASSERT_EQ(0, nsp_flush());
	EXPECT_TRUE(nsp_all_released());
}

FIXTURE(full)
{
	struct nsp_knobs knobs;
};

FIXTURE_SETUP(full)
{
	ASSERT_EQ(0, nsp_save(&self->knobs));
	ASSERT_EQ(0, nsp_set("mode", "all"));
}

FIXTURE_TEARDOWN(full)
{
	EXPECT_EQ(0, nsp_restore(&self->knobs));
}

/* With one place, a second release has to wait, and says so. */
TEST_F_TIMEOUT(full, waits_at_the_bound, NSP_TIMEOUT)
{
	long before = nsp_num("stats/waited_bound");
	struct nsp_storm storm;

	ASSERT_EQ(0, nsp_set("max_pending", "1"));
	ASSERT_EQ(0, nsp_storm_start(&storm, NR_FLOODERS, 10));
	ASSERT_EQ(0, nsp_storm_wait(&storm, false));
	EXPECT_LT(before, nsp_num("stats/waited_bound"));
	ASSERT_EQ(0, nsp_flush());
	EXPECT_TRUE(nsp_all_released());
}

/*
 * What is left may hold megabytes until it is released, so where less than an
 * eighth of the memory is available nobody leaves any.
 */
TEST_F_TIMEOUT(full, short_of_memory, NSP_TIMEOUT)
{
	long total = nsp_meminfo("MemTotal"), size, before;
	void *mem;

	if (!nsp_linux(4, 6))
		SKIP(return, "si_mem_available() came with Linux 4.6");
	ASSERT_LT(total / 4, nsp_meminfo("MemAvailable"));
	ASSERT_EQ(0, nsp_flush());
	before = nsp_num("stats/waited_bound");
	ASSERT_EQ(0, nsp_leave(1));
	EXPECT_EQ(before, nsp_num("stats/waited_bound"));

	/*
	 * A sixteenth is left, which is enough for what else goes on. Shared, since
	 * up to 5.1 a fork has to have room for a copy of what is not.
	 */
	size = (nsp_meminfo("MemAvailable") - total / 16) * 1024;
	mem = mmap(NULL, size, PROT_READ | PROT_WRITE,
		   MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	ASSERT_NE(MAP_FAILED, mem);
	ASSERT_GT(total / 8, nsp_meminfo("MemAvailable"));
	EXPECT_EQ(0, nsp_leave(1));
	EXPECT_LT(before, nsp_num("stats/waited_bound"));

	munmap(mem, size);
	before = nsp_num("stats/waited_bound");
	EXPECT_EQ(0, nsp_leave(1));
	EXPECT_EQ(before, nsp_num("stats/waited_bound"));
	ASSERT_EQ(0, nsp_flush());
	EXPECT_TRUE(nsp_all_released());
}

FIXTURE(limit)
{
	struct nsp_knobs knobs;
};

FIXTURE_VARIANT(limit)
{
	const char *sysctl;
	int flag;
};

FIXTURE_VARIANT_ADD(limit, mnt) { .sysctl = "max_mnt_namespaces", .flag = CLONE_NEWNS };
FIXTURE_VARIANT_ADD(limit, uts) { .sysctl = "max_uts_namespaces", .flag = CLONE_NEWUTS };
FIXTURE_VARIANT_ADD(limit, ipc) { .sysctl = "max_ipc_namespaces", .flag = CLONE_NEWIPC };
FIXTURE_VARIANT_ADD(limit, cgroup) { .sysctl = "max_cgroup_namespaces", .flag = CLONE_NEWCGROUP };

FIXTURE_SETUP(limit)
{
	ASSERT_EQ(0, nsp_save(&self->knobs));
}

FIXTURE_TEARDOWN(limit)
{
	EXPECT_EQ(0, nsp_restore(&self->knobs));
}

#define NO_LIMITS "this kernel has no limits for namespaces (they came with 4.9)"

struct limited {
	char path[128];
	int flag;
	int tries;
	int *enospc;
};

static int limited_life(void *arg)
{
	const struct limited *limited = arg;

	if (!unshare(limited->flag | CLONE_NEWNS))
		return 0;
	CHECK(errno == ENOSPC);
	++*limited->enospc;
	return 0;
}

static int limited_user(void *arg)
{
	struct limited *limited = arg;
	int i;

	CHECK(!nsp_own_user());
	CHECK(!nsp_put(limited->path, "1"));
	for (i = 0; i < limited->tries; i++)
		CHECK(!nsp_run(limited_life, limited));
	return 0;
}

/*
 * All are taken together with a mount namespace, since that is what makes a
 * release wait on every kernel.
 */
TEST_F_TIMEOUT(limit, one, NSP_TIMEOUT)
{
	struct limited limited = {
		.flag = variant->flag,
		.tries = variant->flag == CLONE_NEWNS ? 200 : 100,
	};

	snprintf(limited.path, sizeof(limited.path), "/proc/sys/user/%s",
		 variant->sysctl);
	if (access(limited.path, F_OK))
		SKIP(return, NO_LIMITS);
	if (!nsp_supported(variant->flag))
		SKIP(return, "this kernel lacks this kind of namespace");
	limited.enospc = nsp_shared(sizeof(*limited.enospc));
	ASSERT_NE(NULL, limited.enospc);
	/*
	 * Up to 6.11 an IPC namespace is freed by a worker of the kernel's own,
	 * and meets its limit by chance with no deferral at all; who flushes
	 * before ENOSPC waits for that one too.
	 */
	ASSERT_EQ(0, nsp_set("mode", "all"));
	EXPECT_EQ(0, nsp_run(limited_user, &limited));
	EXPECT_EQ(0, *limited.enospc);
	ASSERT_EQ(0, nsp_flush());
	EXPECT_TRUE(nsp_all_released());
	munmap(limited.enospc, sizeof(*limited.enospc));
}

static int over_limit(void *arg)
{
	const struct limited *limited = arg;
	int i, failed = 0;

	CHECK(!nsp_own_user());
	CHECK(!nsp_put(limited->path, "1"));
	/* Nobody dies here, and there is nothing that a flush could free. */
	CHECK(!unshare(limited->flag));
	for (i = 0; i < 3; i++) {
		pid_t pid = fork();

		CHECK(pid >= 0);
		if (!pid)
			_exit(unshare(limited->flag) ? errno : 0);
		failed += nsp_wait(pid) == ENOSPC;
	}
	CHECK(failed == 3);
	return 0;
}

/* A limit that is truly reached is still one. */
TEST_F_TIMEOUT(limit, reached, NSP_TIMEOUT)
{
	struct limited limited = { .flag = variant->flag };

	snprintf(limited.path, sizeof(limited.path), "/proc/sys/user/%s",
		 variant->sysctl);
	if (access(limited.path, F_OK))
		SKIP(return, NO_LIMITS);
	if (!nsp_supported(variant->flag))
		SKIP(return, "this kernel lacks this kind of namespace");
	ASSERT_EQ(0, nsp_set("mode", "all"));
	ASSERT_EQ(0, nsp_run(over_limit, &limited));
}

NSP_TEST_MAIN(nsp_prepare_present)
