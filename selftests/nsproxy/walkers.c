// SPDX-License-Identifier: GPL-2.0-only
/*
 * The promise: whoever walks through a mount while it is taken off its tree gets
 * what is there or learns that nothing is, and what is taken off goes, all of it,
 * exactly once.
 *
 * The races: without a grace period between taking a mount off and shutting it
 * down, a path walk that holds nothing (RCU mode) may be in it, may be about to
 * take a reference, or may have taken one that it has to give back; getcwd(2) may
 * be looking at the namespace of a mount that is being freed; and references that
 * the caller is known to have may be dropped by a thread that it shares them with.
 * So here many walk, and others mount, unmount and die, in every way there is. What
 * a kernel with KASAN, KCSAN or lockdep has to say of it is half of the result.
 */
#include "slab.h"
#include "walk.h"

static int switch_modes(void *arg)
{
	static const char *const modes[] = { "safe", "all", "off", "all" };
	long i;

	(void)arg;
	for (i = 0; !scene->over; i++) {
		CHECK(!nsp_set("mode", modes[i % ARRAY_SIZE(modes)]));
		CHECK(!nsp_set("max_pending", i & 8 ? "1024" : "2"));
		if (i % 5 == 0)
			CHECK(!nsp_flush());
		sched_yield();
	}
	return 0;
}

static long count_mounts(const char *dir)
{
	return nsp_count_lines("/proc/self/mountinfo", dir);
}

FIXTURE(walkers)
{
	long shmem;
	int mounts;
};

FIXTURE_VARIANT(walkers)
{
	const char *mode;
	bool switched;
};

NSP_MODE_VARIANTS(walkers);

FIXTURE_VARIANT_ADD(walkers, switched)
{
	.mode = "safe",
	.switched = true,
};

FIXTURE_SETUP(walkers)
{
	scene = nsp_shared(sizeof(*scene));
	ASSERT_NE(NULL, scene);
	ASSERT_EQ(0, place_make(&scene->at, variant->mode));
	ASSERT_EQ(0, set_scene());
	self->shmem = nsp_meminfo("Shmem");
	self->mounts = count_mounts(scene->at.dir);
}

FIXTURE_TEARDOWN(walkers)
{
	scene->over = 1;
	EXPECT_EQ(0, place_drop(&scene->at));
	munmap(scene, sizeof(*scene));
}

static void storm(struct __test_metadata *_metadata, bool switched, long rounds)
{
	struct walks walks;
	pid_t switching = 0;

	ASSERT_EQ(0, walks_start(&walks, rounds));
	if (switched) {
		switching = nsp_start(switch_modes, NULL);
		ASSERT_LT(0, switching);
	}
	EXPECT_EQ(0, walks_wait(&walks));
	if (switching)
		EXPECT_EQ(0, nsp_wait(switching));
	ASSERT_EQ(0, nsp_flush());
}

static void check_all_gone(struct __test_metadata *_metadata, int mounts, long shmem)
{
	EXPECT_LT(0, scene->walks);
	EXPECT_LT(0, scene->mounts);
	TH_LOG("%ld walks, %ld mounts", scene->walks, scene->mounts);
	EXPECT_EQ(0, nsp_num("pending"));
	EXPECT_EQ(nsp_num("stats/left"), nsp_num("stats/released"));
	EXPECT_EQ(nsp_num("stats/light"), nsp_num("stats/light_released"));
	EXPECT_EQ(mounts, count_mounts(scene->at.dir));
	if (shmem >= 0)
		EXPECT_GT(shmem + 8 * 1024, nsp_meminfo("Shmem"));
}

TEST_F_TIMEOUT(walkers, storm, NSP_TIMEOUT)
{
	storm(_metadata, variant->switched, nsp_env("NSPROXY_TEST_WALKS", 8));
	check_all_gone(_metadata, self->mounts, self->shmem);
}

TEST_F_TIMEOUT(walkers, slab, NSP_TIMEOUT)
{
	long before, after, walks = nsp_env("NSPROXY_TEST_WALKS", 8);

	if (!slab_is_own("mnt_cache"))
		SKIP(return, SLAB_MERGED);
	/* The first storm fills what fills only once. */
	storm(_metadata, variant->switched, walks);
	before = slab_settles("mnt_cache", 0);
	ASSERT_LE(0, before);
	storm(_metadata, variant->switched, walks);
	after = slab_settles("mnt_cache", before);
	EXPECT_LE(after, before);
}

NSP_TEST_MAIN(nsp_prepare_present)
