// SPDX-License-Identifier: GPL-2.0-only
/*
 * The promise: with mode=safe on a patched kernel, no task waits for the end of
 * a mount namespace that nobody can miss, and each does for one that somebody
 * can.  The grace periods that the caller waits for are counted.
 *
 * What can be missed is decided for every mount, so each kind of mount is tried
 * alone.  That a wait is for something is the other half of this, see fidelity.
 */
#include "place.h"

#include <sched.h>
#include <sys/inotify.h>
#include <sys/sysmacros.h>

FIXTURE(safe)
{
	struct place at;
};

FIXTURE_SETUP(safe)
{
	char path[128];
	int fd;

	ASSERT_EQ(0, place_make(&self->at, "safe"));
	snprintf(path, sizeof(path), "%s/file", self->at.dir);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	ASSERT_LE(0, fd);
	close(fd);
}

FIXTURE_TEARDOWN(safe)
{
	EXPECT_EQ(0, place_drop(&self->at));
}

struct part {
	const char *from;
	const char *to;
	const char *type;
	unsigned long flags;
};

static int mount_all(const struct part *part)
{
	for (; part->to; part++) {
		if (mount(part->from, part->to, part->type, part->flags, NULL)) {
			fprintf(stderr, "# %s (%s): %s\n", part->to,
				part->type ? part->type : "bind",
				strerror(errno));
			return 1;
		}
	}
	return 0;
}

static int live(void *arg)
{
	CHECK(!nsp_own_mounts());
	return mount_all(arg);
}

/* Grace periods that a life with these mounts waits for, or -1. */
static long count_life(struct __test_metadata *_metadata, int (*fn)(void *),
		       void *arg)
{
	long gps;

	ASSERT_EQ(0, nsp_flush());
	ASSERT_EQ(0, gp_begin());
	ASSERT_EQ(0, nsp_run(fn, arg));
	gps = gp_end();
	ASSERT_LE(0, gps) {
		TH_LOG("cannot count grace periods: %s", gp_error());
	}
	return gps;
}

#define EXPECT_NO_WAIT(fn, arg)						\
	EXPECT_EQ(0, count_life(_metadata, fn, arg)) {			\
		TH_LOG("the caller waited in:\n%s", gp_calls());	\
	}
#define EXPECT_WAIT(fn, arg)						\
	EXPECT_LT(0, count_life(_metadata, fn, arg))

/* What a container runtime mounts, but for a root of its own. */
TEST_F_TIMEOUT(safe, container, NSP_TIMEOUT)
{
	char names[6][128];
	struct part parts[] = {
		{ "/", names[0], NULL, MS_BIND },
		{ "proc", names[1], "proc" },
		{ "sysfs", names[2], "sysfs" },
		{ "devpts", names[3], "devpts" },
		{ "mqueue", names[4], "mqueue" },
		{ "none", names[5], "tmpfs" },
		{},
	};
	long deferred = nsp_num("stats/deferred");
	size_t i;

	for (i = 0; i < ARRAY_SIZE(names); i++) {
		snprintf(names[i], sizeof(names[i]), "%s/%zu", self->at.dir, i);
		ASSERT_EQ(0, mkdir(names[i], 0700));
	}
	for (i = 0; i < 5; i++)
		EXPECT_NO_WAIT(live, parts);
	EXPECT_LE(deferred + 5, nsp_num("stats/deferred"));
	ASSERT_EQ(0, nsp_flush());
	EXPECT_EQ(nsp_num("stats/deferred"), nsp_num("stats/released"));
}

/* All of a container's life: three waits, where nothing is deferred. */
static int container_life(void *arg)
{
	CHECK(!nsp_own_mounts());
	/* A rootfs cannot be pivoted, so put something on top of it before. */
	CHECK(!mount("/", arg, NULL, MS_BIND, NULL));
	CHECK(!chdir(arg));
	CHECK(!mount(".", "/", NULL, MS_MOVE, NULL));
	CHECK(!chroot("."));
	CHECK(!mount("none", "/tmp", "tmpfs", 0, NULL));
	CHECK(!mkdir("/tmp/root", 0700));
	CHECK(!mount("none", "/tmp/root", "tmpfs", 0, NULL));
	CHECK(!mkdir("/tmp/root/old", 0700));
	CHECK(!mkdir("/tmp/root/dev", 0700));
	CHECK(!mkdir("/tmp/root/proc", 0700));
	CHECK(!mkdir("/tmp/root/usr", 0700));
	CHECK(!mount("/", "/tmp/root/usr", NULL, MS_BIND, NULL));
	CHECK(!mount("proc", "/tmp/root/proc", "proc", 0, NULL));
	CHECK(!mount("none", "/tmp/root/dev", "tmpfs", 0, NULL));
	CHECK(!mknod("/tmp/root/dev/null", S_IFCHR | 0600, makedev(1, 3)));
	CHECK(!chdir("/tmp/root"));
	CHECK(!syscall(SYS_pivot_root, ".", "old"));
	CHECK(!chdir("/"));
	CHECK(!umount2("/old", MNT_DETACH));
	return 0;
}

TEST_F_TIMEOUT(safe, container_life, NSP_TIMEOUT)
{
	EXPECT_NO_WAIT(container_life, self->at.mnt);
	ASSERT_EQ(0, nsp_set("mode", "off"));
	EXPECT_WAIT(container_life, self->at.mnt);
}

static int live_and_unshare(void *arg)
{
	CHECK(!live(arg));
	CHECK(!unshare(CLONE_NEWNS));
	return 0;
}

TEST_F_TIMEOUT(safe, container_by_unshare, NSP_TIMEOUT)
{
	struct part parts[] = {
		{ "proc", self->at.mnt, "proc" },
		{},
	};

	EXPECT_NO_WAIT(live_and_unshare, parts);
}

/*
 * In the first cgroup namespace the mount sets flags of the hierarchy, and on 7.2
 * it waits for that.
 */
static int live_in_cgroup_namespace(void *arg)
{
	CHECK(!unshare(CLONE_NEWCGROUP));
	return live(arg);
}

TEST_F_TIMEOUT(safe, cgroup2, NSP_TIMEOUT)
{
	struct part parts[] = {
		{ "none", self->at.mnt, "cgroup2" },
		{},
	};

	if (access("/proc/self/cgroup", F_OK) ||
	    nsp_run(live_in_cgroup_namespace, parts))
		SKIP(return, "cgroup2 cannot be mounted here");
	EXPECT_NO_WAIT(live_in_cgroup_namespace, parts);
}

/* A directory and a file of a file system that stays. */
TEST_F_TIMEOUT(safe, binds, NSP_TIMEOUT)
{
	char sub[128], file[128], target[128];
	struct part dirs[] = {
		{ sub, self->at.mnt, NULL, MS_BIND },
		{},
	};
	struct part files[] = {
		{ file, target, NULL, MS_BIND },
		{ "/dev/null", target, NULL, MS_BIND },
		{},
	};
	int fd;

	snprintf(sub, sizeof(sub), "%s/sub", self->at.dir);
	snprintf(file, sizeof(file), "%s/file", self->at.dir);
	snprintf(target, sizeof(target), "%s/target", self->at.dir);
	ASSERT_EQ(0, mkdir(sub, 0700));
	fd = open(target, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	ASSERT_LE(0, fd);
	close(fd);
	EXPECT_NO_WAIT(live, dirs);
	EXPECT_NO_WAIT(live, files);
}

static int live_and_fill(void *arg)
{
	const struct part *part = arg;
	char path[128];
	int fd;

	CHECK(!live(arg));
	snprintf(path, sizeof(path), "%s/file", part->to);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	CHECK(fd >= 0);
	CHECK(write(fd, path, sizeof(path)) == sizeof(path));
	CHECK(!close(fd));
	return 0;
}

/* What a /dev is made of holds no memory that anybody could count on. */
static int live_with_names(void *arg)
{
	const struct part *part = arg;

	CHECK(!live(arg));
	CHECK(!chdir(part->to));
	CHECK(!mkdir("shm", 0700));
	CHECK(!mknod("null", S_IFCHR | 0600, makedev(1, 3)));
	CHECK(!symlink("/proc/self/fd", "fd"));
	CHECK(!chdir("/"));
	return 0;
}

/* Nobody can fill an empty tmpfs any more, unless it is held open. */
static int live_and_hold(void *arg)
{
	const struct part *part = arg;

	CHECK(!live(arg));
	/* Files that a task leaves open outlive its namespaces by a little. */
	CHECK(open(part->to, O_RDONLY | O_DIRECTORY | O_CLOEXEC) >= 0);
	return 0;
}

TEST_F_TIMEOUT(safe, tmpfs, NSP_TIMEOUT)
{
	struct part parts[] = {
		{ "none", self->at.mnt, "tmpfs" },
		{},
	};

	EXPECT_NO_WAIT(live, parts);
	EXPECT_NO_WAIT(live_with_names, parts);
	EXPECT_WAIT(live_and_fill, parts);
	EXPECT_WAIT(live_and_hold, parts);
}

static int live_and_watch(void *arg)
{
	const struct part *part = arg;
	int fd;

	CHECK(!live(arg));
	fd = inotify_init1(IN_CLOEXEC);
	CHECK(fd >= 0);
	CHECK(inotify_add_watch(fd, part->to, IN_DELETE_SELF) >= 0);
	return 0;
}

TEST_F_TIMEOUT(safe, watched, NSP_TIMEOUT)
{
	struct part parts[] = {
		{ "proc", self->at.mnt, "proc" },
		{},
	};

	EXPECT_WAIT(live_and_watch, parts);
}

static int live_and_remove(void *arg)
{
	const struct part *part = arg;

	CHECK(!live(arg));
	CHECK(!unlink(part->from));
	return 0;
}

/* A file that only a bind mount still holds has its space until that ends. */
TEST_F_TIMEOUT(safe, bind_of_a_removed_file, NSP_TIMEOUT)
{
	char file[128], target[128];
	struct part parts[] = {
		{ file, target, NULL, MS_BIND },
		{},
	};
	int fd;

	snprintf(file, sizeof(file), "%s/file", self->at.dir);
	snprintf(target, sizeof(target), "%s/target", self->at.dir);
	fd = open(target, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	ASSERT_LE(0, fd);
	close(fd);
	EXPECT_WAIT(live_and_remove, parts);
}

TEST_F_TIMEOUT(safe, disk, NSP_TIMEOUT)
{
	struct part parts[] = {
		{ self->at.disk.dev, self->at.mnt, NULL },
		{},
	};
	const char *why = disk_make(&self->at.disk, self->at.dir);
	int fd;

	if (why)
		SKIP(return, "%s", why);
	parts[0].type = disk_has_filesystem("ext4") ? "ext4" : "ext2";
	if (!disk_has_filesystem(parts[0].type))
		SKIP(return, "this kernel has neither ext2 nor ext4");
	EXPECT_WAIT(live, parts);
	fd = open(self->at.disk.dev, O_RDWR | O_EXCL | O_CLOEXEC);
	EXPECT_LE(0, fd);
	close(fd);

	/* While somebody else has it mounted, nothing depends on the other. */
	ASSERT_EQ(0, mount(self->at.disk.dev, self->at.mnt, parts[0].type, 0, NULL));
	EXPECT_NO_WAIT(live, parts + 1);
	ASSERT_EQ(0, umount(self->at.mnt));
	fd = open(self->at.disk.dev, O_RDWR | O_EXCL | O_CLOEXEC);
	EXPECT_LE(0, fd);
	close(fd);
}

/* What a container runtime does with the old root. */
static int live_and_detach(void *arg)
{
	const struct part *part = arg;

	CHECK(!live(arg));
	CHECK(!umount2(part->to, MNT_DETACH));
	return 0;
}

TEST_F_TIMEOUT(safe, detach, NSP_TIMEOUT)
{
	struct part parts[] = {
		{ "/", self->at.mnt, NULL, MS_BIND },
		{},
	};

	EXPECT_NO_WAIT(live_and_detach, parts);
}

/* Has this task closed a batch? Whoever does so waits for the grace period. */
static int closed_batch(const char *trace)
{
	char line[512], mine[16];
	FILE *file = fopen(trace, "r");
	int found = 0;

	if (!file)
		return -1;
	snprintf(mine, sizeof(mine), "-%d ", (int)getpid());
	while (!found && fgets(line, sizeof(line), file))
		found = strstr(line, "nsproxy_defer_batch:") && strstr(line, mine);
	fclose(file);
	return found;
}

/* The second namespace goes while the grace period of the first is under way. */
static int live_twice(void *arg)
{
	CHECK(!live(arg));
	return live(arg);
}

/*
 * The grace period that umount(2) waits for counts for all that is pending, so
 * being a barrier costs it none. What an RCU callback has not picked up yet is
 * a batch that this task closes. On one CPU nothing but realtime tasks runs
 * between, so that no callback comes.
 */
TEST_F_TIMEOUT(safe, umount_counts_for_all, NSP_TIMEOUT)
{
	char instance[128], path[256];
	struct part none[] = { {} };
	int round, found = 0;

	ASSERT_EQ(0, nsp_outrun_workers());
	ASSERT_NE(NULL, gp_tracing());
	snprintf(instance, sizeof(instance), "%s/instances/nsproxy.%d",
		 gp_tracing(), (int)getpid());
	ASSERT_EQ(0, mkdir(instance, 0700));
	snprintf(path, sizeof(path), "%s/events/nsproxy_defer/enable", instance);
	EXPECT_EQ(0, nsp_put(path, "1"));
	snprintf(path, sizeof(path), "%s/trace", instance);
	for (round = 0; round < 200 && !found; round++) {
		EXPECT_EQ(0, mount("none", self->at.mnt, "tmpfs", 0, NULL));
		EXPECT_EQ(0, nsp_run(live_twice, none));
		EXPECT_EQ(0, umount(self->at.mnt));
		EXPECT_EQ(0, nsp_num("pending"));
		found = closed_batch(path);
	}
	EXPECT_EQ(1, found);
	snprintf(path, sizeof(path), "%s/events/nsproxy_defer/enable", instance);
	EXPECT_EQ(0, nsp_put(path, "0"));
	EXPECT_EQ(0, rmdir(instance));
}

static void prepare_safe(void)
{
	if (!access("/sys/module/nsproxy_defer/initstate", F_OK))
		nsp_skip_all("defers nothing: only a patched kernel knows what is safe");
	if (!nsp_linux(3, 17))
		nsp_skip_all("up to Linux 3.16 the last hold on a mount namespace waits");
	nsp_prepare_count();
}

NSP_TEST_MAIN(prepare_safe)
