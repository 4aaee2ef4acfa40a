// SPDX-License-Identifier: GPL-2.0-only
/*
 * The promises: nothing is released before a grace period has passed since it
 * was queued, and everything that is queued is released once.  The tracepoints
 * tell both, each with the number of grace periods so far.  And what becomes of
 * each mount that is taken off is told once, as it is counted.
 *
 * Only the numbers show a release that came too early: what reads an nsproxy
 * under RCU does so on kernels up to 3.16 alone, and rarely meets one there.
 */
#include "gp.h"
#include "nsproxy_test.h"

#define LIVES 40

FIXTURE(tracepoints)
{
	struct nsp_knobs knobs;
	char trace[128];
};

static int trace_put(const char *instance, const char *file, const char *value)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/%s", instance, file);
	return nsp_put(path, value);
}

FIXTURE_SETUP(tracepoints)
{
	ASSERT_NE(NULL, gp_tracing());
	ASSERT_EQ(0, nsp_save(&self->knobs));
	ASSERT_EQ(0, nsp_set("mode", "all"));
	ASSERT_EQ(0, nsp_set("max_pending", "1024"));
	ASSERT_EQ(0, nsp_flush());
	snprintf(self->trace, sizeof(self->trace), "%s/instances/nsproxy.%d",
		 gp_tracing(), (int)getpid());
	ASSERT_EQ(0, mkdir(self->trace, 0700));
	ASSERT_EQ(0, trace_put(self->trace, "events/nsproxy_defer/enable", "1"));
}

FIXTURE_TEARDOWN(tracepoints)
{
	EXPECT_EQ(0, trace_put(self->trace, "events/nsproxy_defer/enable", "0"));
	EXPECT_EQ(0, rmdir(self->trace));
	EXPECT_EQ(0, nsp_restore(&self->knobs));
}

static int leave_namespaces(void *arg)
{
	int i;

	(void)arg;
	for (i = 0; i < LIVES; i++)
		CHECK(!unshare(CLONE_NEWNS));
	if (nsp_defers_mounts())
		CHECK(!nsp_leave(LIVES));
	return 0;
}

/* What has been queued and not been released yet. */
struct queued {
	char object[32];
	unsigned long gps;
	long batches;
};

static struct queued queued[64 * LIVES];
static size_t nr_queued;

static bool take(const char *object, struct queued *found)
{
	size_t i;

	for (i = 0; i < nr_queued; i++) {
		if (strcmp(queued[i].object, object))
			continue;
		*found = queued[i];
		queued[i] = queued[--nr_queued];
		return true;
	}
	return false;
}

TEST_F_TIMEOUT(tracepoints, after_a_grace_period, NSP_TIMEOUT)
{
	/* UP kernels do not count their grace periods. */
	bool counted;
	char line[512], path[256];
	long batches = 0, released = 0;
	FILE *file;

	ASSERT_EQ(0, nsp_run(leave_namespaces, NULL));
	ASSERT_EQ(0, nsp_flush());
	counted = nsp_num("stats/grace_periods") > 0;

	snprintf(path, sizeof(path), "%s/trace", self->trace);
	file = fopen(path, "r");
	ASSERT_NE(NULL, file);
	while (fgets(line, sizeof(line), file)) {
		struct queued one = { .batches = batches };
		unsigned long gps;
		char *event;

		event = strstr(line, "nsproxy_defer_");
		if (!event || line[0] == '#')
			continue;
		if (sscanf(event, "nsproxy_defer_queue: object=%31s pending=%*d gps=%lu",
			   one.object, &one.gps) == 2) {
			ASSERT_GT(ARRAY_SIZE(queued), nr_queued);
			queued[nr_queued++] = one;
		} else if (!strncmp(event, "nsproxy_defer_batch:", 20)) {
			batches++;
		} else if (!strncmp(event, "nsproxy_defer_mount:", 20)) {
			continue;
		} else if (sscanf(event, "nsproxy_defer_release: object=%31s batch=%*u gps=%lu",
				  path, &gps) == 2) {
			/* Others may have queued it before the trace began. */
			if (!take(path, &one))
				continue;
			released++;
			EXPECT_LT(one.batches, batches);
			if (counted)
				EXPECT_LT(one.gps, gps);
		} else {
			ASSERT_STREQ("", line);
		}
	}
	fclose(file);
	EXPECT_EQ(0, nr_queued);
	EXPECT_LE(LIVES, released);
}

static const char *const fates[] = {
	"finished", "dropped", "left", "waited_visible", "waited_filesystem",
	"waited_superblock", "waited_bound",
};

static long count_of(const char *fate)
{
	char name[64];

	snprintf(name, sizeof(name), "stats/%s", fate);
	return nsp_num(name);
}

/* Takes mounts off that come to each of the ends that every kernel has. */
static int take_mounts_off(void *arg)
{
	(void)arg;
	CHECK(!nsp_own_mounts());
	CHECK(!mount("none", "/tmp", "tmpfs", 0, NULL));
	CHECK(!umount("/tmp"));
	CHECK(!mount("none", "/tmp", "tmpfs", 0, NULL));
	CHECK(!chdir("/tmp") && !umount2("/tmp", MNT_DETACH));
	CHECK(!nsp_leave(1));
	CHECK(nsp_hold_mounts(1, "ramfs"));
	return 0;
}

TEST_F_TIMEOUT(tracepoints, fate_of_each_mount, NSP_TIMEOUT)
{
	long counted[ARRAY_SIZE(fates)], told[ARRAY_SIZE(fates)] = { 0 };
	char line[512], path[256], type[64], fate[64], dropped[64] = "";
	unsigned int dev[2];
	long others = 0;
	char *event;
	FILE *file;
	size_t i;

	if (!nsp_defers_mounts())
		SKIP(return, "up to Linux 3.16 no mount is deferred by itself");
	ASSERT_EQ(0, nsp_set("mode", "safe"));
	for (i = 0; i < ARRAY_SIZE(fates); i++)
		counted[i] = count_of(fates[i]);
	ASSERT_EQ(0, nsp_run(take_mounts_off, NULL));
	ASSERT_EQ(0, nsp_flush());

	snprintf(path, sizeof(path), "%s/trace", self->trace);
	file = fopen(path, "r");
	ASSERT_NE(NULL, file);
	while (fgets(line, sizeof(line), file)) {
		event = strstr(line, "nsproxy_defer_mount:");
		if (!event || line[0] == '#')
			continue;
		ASSERT_EQ(4, sscanf(event, "nsproxy_defer_mount: dev=%u:%u type=%63s %63s",
				    &dev[0], &dev[1], type, fate)) {
			TH_LOG("%s", line);
		}
		for (i = 0; i < ARRAY_SIZE(fates); i++) {
			if (strcmp(fates[i], fate))
				continue;
			told[i]++;
			break;
		}
		others += i == ARRAY_SIZE(fates);
		if (!strcmp(fate, "dropped"))
			strcpy(dropped, type);
	}
	fclose(file);
	EXPECT_EQ(0, others);
	for (i = 0; i < ARRAY_SIZE(fates); i++) {
		EXPECT_EQ(count_of(fates[i]) - counted[i], told[i]) {
			TH_LOG("%s", fates[i]);
		}
		/* Those that come first here. */
		if (i <= 3)
			EXPECT_LT(0, told[i]) {
				TH_LOG("%s", fates[i]);
			}
	}
	EXPECT_STREQ("tmpfs", dropped);
}

NSP_TEST_MAIN(nsp_prepare_present)
