// SPDX-License-Identifier: GPL-2.0-only
/*
 * The promise: the files in /sys/kernel/nsproxy_defer take what is documented
 * and nothing else.  A bad value is EINVAL and changes nothing, what only
 * reports cannot be written, and who is not root can read and no more.
 *
 * The race: releases are left while the mode is changed and while several
 * tasks flush.  None may get lost, and no flush may return too early or
 * never.
 */
#include "nsproxy_test.h"

FIXTURE(knobs)
{
	struct nsp_knobs knobs;
};

FIXTURE_SETUP(knobs)
{
	ASSERT_EQ(0, nsp_save(&self->knobs));
}

FIXTURE_TEARDOWN(knobs)
{
	EXPECT_EQ(0, nsp_restore(&self->knobs));
}

static const struct {
	const char *name;
	mode_t mode;
} files[] = {
	{ "mode", 0644 },
	{ "max_pending", 0644 },
	{ "pending", 0444 },
	{ "flush", 0200 },
	{ "stats/finished", 0444 },
	{ "stats/dropped", 0444 },
	{ "stats/left", 0444 },
	{ "stats/released", 0444 },
	{ "stats/light", 0444 },
	{ "stats/light_released", 0444 },
	{ "stats/waited_visible", 0444 },
	{ "stats/waited_filesystem", 0444 },
	{ "stats/waited_superblock", 0444 },
	{ "stats/waited_bound", 0444 },
	{ "stats/batches", 0444 },
	{ "stats/grace_periods", 0444 },
	{ "stats/high_water", 0444 },
	{ "stats/flush_user", 0444 },
	{ "stats/flush_umount", 0444 },
	{ "stats/flush_ucount", 0444 },
	{ "stats/flush_last", 0444 },
};

static const char *file_path(char *buf, size_t size, const char *name)
{
	snprintf(buf, size, NSP_DIR "/%s", name);
	return buf;
}

TEST_F(knobs, files)
{
	char path[128], text[64];
	struct stat st;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(files); i++) {
		file_path(path, sizeof(path), files[i].name);
		ASSERT_EQ(0, stat(path, &st)) {
			TH_LOG("%s: %s", path, strerror(errno));
		}
		EXPECT_EQ(files[i].mode, st.st_mode & 07777) {
			TH_LOG("%s", path);
		}
		EXPECT_EQ(0, st.st_uid);
		if (!(files[i].mode & 0444)) {
			EXPECT_EQ(-EACCES, nsp_get(path, text, sizeof(text)));
			continue;
		}
		EXPECT_EQ(0, nsp_get(path, text, sizeof(text)));
		/* Not even root writes what only reports. */
		if (!(files[i].mode & 0222))
			EXPECT_EQ(-EACCES, nsp_put(path, "0"));
		if (strcmp(files[i].name, "mode"))
			EXPECT_LE(0, nsp_num(files[i].name)) {
				TH_LOG("%s is \"%s\", not a number", path, text);
			}
	}
}

FIXTURE(good)
{
	struct nsp_knobs knobs;
};

FIXTURE_VARIANT(good)
{
	const char *knob;
	const char *value;
	const char *reads;
};

FIXTURE_SETUP(good)
{
	ASSERT_EQ(0, nsp_save(&self->knobs));
}

FIXTURE_TEARDOWN(good)
{
	EXPECT_EQ(0, nsp_restore(&self->knobs));
}

#define GOOD(name, file, text, back)					\
	FIXTURE_VARIANT_ADD(good, name)					\
	{								\
		.knob = file,						\
		.value = text,						\
		.reads = back,						\
	}

GOOD(mode_off, "mode", "off", "off");
GOOD(mode_safe, "mode", "safe", "safe");
GOOD(mode_all, "mode", "all", "all");
GOOD(mode_newline, "mode", "safe\n", "safe");
GOOD(max_pending_smallest, "max_pending", "1", "1");
GOOD(max_pending_default, "max_pending", "1024", "1024");
GOOD(max_pending_newline, "max_pending", "77\n", "77");
GOOD(max_pending_largest, "max_pending", "2147483647", "2147483647");

TEST_F(good, taken)
{
	char path[128], text[64];

	ASSERT_EQ(0, nsp_set(variant->knob, variant->value));
	file_path(path, sizeof(path), variant->knob);
	ASSERT_EQ(0, nsp_get(path, text, sizeof(text)));
	EXPECT_STREQ(variant->reads, text);
}

FIXTURE(bad)
{
	struct nsp_knobs knobs;
};

FIXTURE_VARIANT(bad)
{
	const char *knob;
	const char *value;
};

FIXTURE_SETUP(bad)
{
	ASSERT_EQ(0, nsp_save(&self->knobs));
	/* Neither the defaults nor what a careless parser would leave. */
	ASSERT_EQ(0, nsp_set("mode", "safe"));
	ASSERT_EQ(0, nsp_set("max_pending", "333"));
}

FIXTURE_TEARDOWN(bad)
{
	EXPECT_EQ(0, nsp_restore(&self->knobs));
}

#define BAD(name, file, text)						\
	FIXTURE_VARIANT_ADD(bad, name)					\
	{								\
		.knob = file,						\
		.value = text,						\
	}

BAD(mode_bogus, "mode", "bogus");
BAD(mode_blank, "mode", "\n");
BAD(mode_space, "mode", " ");
BAD(mode_upper, "mode", "ALL");
BAD(mode_prefix, "mode", "al");
BAD(mode_longer, "mode", "alll");
BAD(mode_two, "mode", "all off");
BAD(mode_number, "mode", "0");
BAD(mode_negative, "mode", "-1");
BAD(mode_brackets, "mode", "[off]");
BAD(max_pending_bogus, "max_pending", "bogus");
BAD(max_pending_blank, "max_pending", "\n");
BAD(max_pending_space, "max_pending", " ");
BAD(max_pending_zero, "max_pending", "0");
BAD(max_pending_negative, "max_pending", "-1");
BAD(max_pending_int_overflow, "max_pending", "2147483648");
BAD(max_pending_u32_wrap, "max_pending", "4294967297");
BAD(max_pending_huge, "max_pending", "99999999999");
BAD(max_pending_u64_wrap, "max_pending", "18446744073709551617");
BAD(max_pending_trailing, "max_pending", "12abc");
BAD(max_pending_two, "max_pending", "12 13");
BAD(max_pending_fraction, "max_pending", "1.5");

TEST_F(bad, refused)
{
	char text[64];

	EXPECT_EQ(-EINVAL, nsp_set(variant->knob, variant->value));
	ASSERT_EQ(0, nsp_get(NSP_DIR "/mode", text, sizeof(text)));
	EXPECT_STREQ("safe", text);
	EXPECT_EQ(333, nsp_num("max_pending"));
}

/* A write of nothing never gets to the file's own code; it changes nothing. */
TEST_F(knobs, empty_write)
{
	char text[64];

	ASSERT_EQ(0, nsp_set("mode", "safe"));
	ASSERT_EQ(0, nsp_set("max_pending", "333"));
	nsp_set("mode", "");
	nsp_set("max_pending", "");
	ASSERT_EQ(0, nsp_get(NSP_DIR "/mode", text, sizeof(text)));
	EXPECT_STREQ("safe", text);
	EXPECT_EQ(333, nsp_num("max_pending"));
}

static int unprivileged(void *arg)
{
	char path[128], text[64];
	size_t i;

	(void)arg;
	CHECK(!setgid(65534));
	CHECK(!setuid(65534));
	for (i = 0; i < ARRAY_SIZE(files); i++) {
		file_path(path, sizeof(path), files[i].name);
		if (files[i].mode & 0444)
			CHECK(!nsp_get(path, text, sizeof(text)));
		else
			CHECK(nsp_get(path, text, sizeof(text)) == -EACCES);
		CHECK(nsp_put(path, "1") == -EACCES);
	}
	return 0;
}

TEST_F(knobs, unprivileged)
{
	ASSERT_EQ(0, nsp_run(unprivileged, NULL));
}

/* Root of a user namespace of its own is not root here. */
static int other_root(void *arg)
{
	(void)arg;
	CHECK(!setgid(65534));
	CHECK(!setuid(65534));
	/* The credentials changed, and /proc/self is root's until this. */
	CHECK(!prctl(PR_SET_DUMPABLE, 1));
	CHECK(!nsp_own_user());
	CHECK(nsp_set("mode", "off") == -EACCES);
	CHECK(nsp_set("max_pending", "1") == -EACCES);
	CHECK(nsp_set("flush", "1") == -EACCES);
	return 0;
}

TEST_F(knobs, root_of_user_namespace)
{
	if (!nsp_supported(CLONE_NEWUSER))
		SKIP(return, "this kernel lacks user namespaces");
	ASSERT_EQ(0, nsp_run(other_root, NULL));
}

TEST_F_TIMEOUT(knobs, flush_nothing, NSP_TIMEOUT)
{
	static const char *const values[] = { "1", "0", "x\n", "\n" };
	long before;
	size_t i;

	ASSERT_EQ(0, nsp_flush());
	before = nsp_num("stats/flush_user");
	for (i = 0; i < ARRAY_SIZE(values); i++) {
		EXPECT_EQ(0, nsp_set("flush", values[i]));
		EXPECT_EQ(0, nsp_num("pending"));
	}
	/* Only those flushes are counted that found something. */
	EXPECT_EQ(before, nsp_num("stats/flush_user"));
}

static int flusher(void *arg)
{
	int *go = arg;
	char c;

	close(go[1]);
	CHECK(read(go[0], &c, 1) == 0);
	CHECK(!nsp_flush());
	/* All was left before, and nobody leaves any more. */
	CHECK(nsp_all_released());
	return 0;
}

#define NR_FLUSHERS 8

TEST_F_TIMEOUT(knobs, flush_from_many, NSP_TIMEOUT)
{
	struct nsp_storm storm;
	pid_t pids[NR_FLUSHERS];
	int round, i, go[2];
	long before;

	ASSERT_EQ(0, nsp_set("mode", "all"));
	ASSERT_EQ(0, nsp_set("max_pending", "1024"));
	before = nsp_num("stats/left");
	for (round = 0; round < 5; round++) {
		ASSERT_EQ(0, pipe2(go, O_CLOEXEC));
		for (i = 0; i < NR_FLUSHERS; i++) {
			pids[i] = nsp_start(flusher, go);
			ASSERT_LT(0, pids[i]);
		}
		/* Until the storm has passed, the flushers have to wait. */
		ASSERT_EQ(0, nsp_storm_start(&storm, 2, 5));
		ASSERT_EQ(0, nsp_storm_wait(&storm, false));
		close(go[0]);
		close(go[1]);
		for (i = 0; i < NR_FLUSHERS; i++)
			EXPECT_EQ(0, nsp_wait(pids[i]));
	}
	EXPECT_LT(before, nsp_num("stats/left"));
}

TEST_F_TIMEOUT(knobs, change_during_storm, NSP_TIMEOUT)
{
	static const char *const modes[] = { "off", "all", "safe", "all" };
	static const char *const bounds[] = { "1", "1024", "3" };
	struct nsp_storm storm;
	long before, i;

	before = nsp_num("stats/left");
	ASSERT_EQ(0, nsp_storm_start(&storm, 4, 0));
	for (i = 0; i < 200 || *(volatile long *)storm.done < 40; i++) {
		EXPECT_EQ(0, nsp_set("mode", modes[i % ARRAY_SIZE(modes)]));
		EXPECT_EQ(0, nsp_set("max_pending",
				     bounds[i % ARRAY_SIZE(bounds)]));
		/* A flush that never returned would show by the time limit. */
		if (i % 16 == 0)
			EXPECT_EQ(0, nsp_flush());
		sched_yield();
	}
	EXPECT_EQ(0, nsp_storm_wait(&storm, true));
	EXPECT_EQ(0, nsp_flush());
	EXPECT_LT(before, nsp_num("stats/left"));
	EXPECT_TRUE(nsp_all_released());
}

NSP_TEST_MAIN(nsp_prepare_present)
