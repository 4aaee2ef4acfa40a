// SPDX-License-Identifier: GPL-2.0-only
/*
 * Spawning into namespaces: whichever call makes the child and whoever brings
 * it there, the child is where it was meant to be, its parent where it was,
 * and nobody waits for a grace period when the child's namespaces die with it;
 * up to Linux 3.16 that goes for mode=all only.
 *
 * nsspawn tells what each of the ways costs.
 */
#include <poll.h>

#include "namespaces.h"
#include "spawning.h"

FIXTURE(spawn)
{
	struct nsp_background background;
	struct spawn spawn;
	char dir[64];
	int ready[2];
	int done[2];
};

FIXTURE_VARIANT(spawn)
{
	const char *mode;
	enum spawn_way way;
};

#define VARIANTS(name, how) NSP_MODE_VARIANTS_WITH(spawn, name, .way = how)

VARIANTS(fork, SPAWN_FORK);
VARIANTS(vfork, SPAWN_VFORK);
VARIANTS(posix_spawn, SPAWN_POSIX);
VARIANTS(clone_vfork, SPAWN_CLONE_VFORK);
VARIANTS(clone3, SPAWN_CLONE3);
VARIANTS(clone3_cgroup, SPAWN_CLONE3_CGROUP);
VARIANTS(fork_cgroup, SPAWN_FORK_CGROUP);

static const char *needs_way(enum spawn_way way)
{
	switch (way) {
	case SPAWN_CLONE3:
		return nsp_linux(5, 3) ? NULL : "no clone3() before Linux 5.3";
	case SPAWN_CLONE3_CGROUP:
		return nsp_linux(5, 7) ? NULL
			: "no CLONE_INTO_CGROUP before Linux 5.7";
	case SPAWN_FORK_CGROUP:
		return nsp_linux(4, 5) ? NULL : "no cgroup2 before Linux 4.5";
	default:
		return NULL;
	}
}

static bool uses_cgroup(enum spawn_way way)
{
	return way == SPAWN_CLONE3_CGROUP || way == SPAWN_FORK_CGROUP;
}

FIXTURE_SETUP(spawn)
{
	struct spawn *spawn = &self->spawn;

	if (nsp_needs_mode(variant->mode) || needs_way(variant->way))
		return;
	ASSERT_EQ(0, nsp_own_mounts());
	ASSERT_EQ(0, mount("none", "/tmp", "tmpfs", 0, NULL));
	ASSERT_EQ(0, mkdir("/tmp/cgroup", 0700));
	if (uses_cgroup(variant->way))
		ASSERT_EQ(0, spawn_make_cgroup(spawn, "/tmp/cgroup"));
	ASSERT_EQ(0, pipe2(self->ready, 0));
	ASSERT_EQ(0, pipe2(self->done, 0));
	spawn->flags = nsp_supported(CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWPID);
	ASSERT_EQ(0, spawn_make_target(spawn));
	ASSERT_EQ(0, nsp_background_start(&self->background, variant->mode));
}

FIXTURE_TEARDOWN(spawn)
{
	if (!self->background.producer)
		return;
	EXPECT_EQ(0, nsp_background_stop(&self->background));
	spawn_end_target(&self->spawn);
	if (uses_cgroup(variant->way))
		EXPECT_EQ(0, spawn_remove_cgroup(&self->spawn, "/tmp/cgroup"));
}

/* The word of the child's /proc/PID/cgroup for cgroup2. */
static int check_cgroup(pid_t pid, bool wanted)
{
	char path[64], line[256];
	bool found = false;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/cgroup", (int)pid);
	file = fopen(path, "r");
	CHECK(file);
	while (fgets(line, sizeof(line), file))
		if (!strcmp(line, "0::/" SPAWN_CGROUP "\n"))
			found = true;
	fclose(file);
	CHECK(found == wanted);
	return 0;
}

/*
 * In which kinds must the child differ from its parent?  A pid namespace is
 * entered by being born there, so by the child of one who went.
 */
static int flags_of_child(const struct spawn *spawn, enum spawn_way way,
			  enum spawn_place place)
{
	if (place == SPAWN_PLAIN)
		return 0;
	if (place == SPAWN_FLAGS || way == SPAWN_POSIX)
		return spawn->flags;
	return spawn->flags & ~CLONE_NEWPID;
}

/* The child says that it is there, and stays for as long as it is looked at. */
static const char script[] = "echo >&%d; read x <&%d; exit 7";

static int look_at_child(struct spawn *spawn, enum spawn_way way,
			 enum spawn_place place, int ready, int done)
{
	struct nsp_ids before = nsp_ids(0), child, after, target;
	int flags = flags_of_child(spawn, way, place);
	struct pollfd poll_fd = { .fd = ready, .events = POLLIN };
	pid_t pid = spawn_start(spawn, way, place);
	char c;

	CHECK(pid > 0);
	after = nsp_ids(0);
	CHECK(nsp_differ_in(&before, &after, 0));
	/* A child that failed is no reason to wait for it for ever. */
	while (poll(&poll_fd, 1, 100) == 0)
		CHECK(!waitpid(pid, NULL, WNOHANG));
	CHECK(read(ready, &c, 1) == 1);
	child = nsp_ids(pid);
	CHECK(nsp_differ_in(&before, &child, flags));
	target = nsp_ids(spawn->target);
	if (place == SPAWN_JOIN_FDS || place == SPAWN_JOIN_PIDFD)
		CHECK(nsp_differ_in(&target, &child, spawn->flags & ~flags));
	else
		CHECK(nsp_differ_in(&target, &child, spawn->flags));
	CHECK(!check_cgroup(pid, uses_cgroup(way)));
	CHECK(write(done, "\n", 1) == 1);
	CHECK(nsp_wait(pid) == 7);
	return 0;
}

static bool is_possible(enum spawn_way way, enum spawn_place place)
{
	if (place == SPAWN_JOIN_PIDFD && nsp_needs_setns_pidfd())
		return false;
	return spawn_is_possible(way, place);
}

/* Old namespaces first, then new ones, which die with the child. */
static const struct group {
	enum spawn_place first;
	enum spawn_place last;
} groups[] = {
	{ SPAWN_PLAIN, SPAWN_JOIN_PIDFD },
	{ SPAWN_UNSHARE, SPAWN_FLAGS },
};

TEST_F_TIMEOUT(spawn, everywhere, NSP_TIMEOUT)
{
	static char command[sizeof(script) + 32];
	static char *const argv[] = { "/bin/sh", "-c", command, NULL };
	const char *reason = nsp_needs_mode(variant->mode);
	const struct group *group;
	enum spawn_place place;

	if (!reason)
		reason = needs_way(variant->way);
	if (reason)
		SKIP(return, "%s", reason);
	snprintf(command, sizeof(command), script, self->ready[1],
		 self->done[0]);
	self->spawn.argv = argv;
	for (group = groups; group < groups + ARRAY_SIZE(groups); group++) {
		bool dies = group->first == SPAWN_UNSHARE;
		long gps;

		ASSERT_EQ(0, gp_begin());
		for (place = group->first; place <= group->last; place++) {
			if (!is_possible(variant->way, place))
				continue;
			ASSERT_EQ(0, look_at_child(&self->spawn, variant->way,
						   place, self->ready[0],
						   self->done[1])) {
				TH_LOG("%s", spawn_place_names[place]);
			}
		}
		gps = gp_end();
		ASSERT_LE(0, gps) {
			TH_LOG("cannot count grace periods: %s", gp_error());
		}
		/* Who moves a task between cgroups may wait for that as well. */
		if (variant->way == SPAWN_FORK_CGROUP)
			continue;
		if (!strcmp(variant->mode, "all") ||
		    (nsp_linux(3, 17) && (!dies || !strcmp(variant->mode, "safe")))) {
			EXPECT_EQ(0, gps) {
				TH_LOG("the caller waited in:\n%s",
				       gp_calls());
			}
		} else if (dies && !strcmp(variant->mode, "off")) {
			EXPECT_LT(0, gps);
		}
	}
}

static void prepare(void)
{
	nsp_prepare_any();
	if (!gp_possible())
		nsp_skip_all("this kernel cannot trace functions");
	if (gp_open())
		nsp_fail_all("cannot count grace periods", gp_error());
}

NSP_TEST_MAIN(prepare)
