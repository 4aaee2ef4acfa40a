// SPDX-License-Identifier: GPL-2.0-only
/*
 * The race: tasks read what belongs to another one's namespaces - its files
 * in /proc, its namespaces themselves by setns() or a bind mount - while that
 * one dies and its nsproxy is released from somewhere else and later than it
 * used to be.
 *
 * Up to Linux 3.16 the readers hold no lock but rcu_read_lock() and take
 * references to what they find, so that a put before the grace period is a
 * use after free.  Later kernels have task_lock() for it.  On each of them a
 * reader must see a namespace that is alive, or none.
 */
#include "nsproxy_test.h"

#define NR_READERS 4

struct scene {
	volatile pid_t victim;
	volatile int over;
	volatile long hits;
};

static struct scene *scene;

FIXTURE(readers)
{
	struct nsp_knobs knobs;
};

FIXTURE_VARIANT(readers)
{
	const char *mode;
	const char *max_pending;
};

FIXTURE_VARIANT_ADD(readers, off) { .mode = "off", .max_pending = "1024" };
FIXTURE_VARIANT_ADD(readers, safe) { .mode = "safe", .max_pending = "1024" };
FIXTURE_VARIANT_ADD(readers, all) { .mode = "all", .max_pending = "1024" };
FIXTURE_VARIANT_ADD(readers, all_at_the_bound) { .mode = "all", .max_pending = "2" };

FIXTURE_SETUP(readers)
{
	scene = nsp_shared(sizeof(*scene));
	ASSERT_NE(NULL, scene);
	ASSERT_EQ(0, nsp_save(&self->knobs));
	ASSERT_EQ(0, nsp_set("mode", variant->mode));
	ASSERT_EQ(0, nsp_set("max_pending", variant->max_pending));
	ASSERT_EQ(0, nsp_flush());
}

FIXTURE_TEARDOWN(readers)
{
	scene->over = 1;
	EXPECT_EQ(0, nsp_restore(&self->knobs));
	munmap(scene, sizeof(*scene));
}

static int victim_flags(void)
{
	return nsp_supported(CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC |
			     CLONE_NEWNET | CLONE_NEWCGROUP);
}

/* Let itself be looked at for a while, change namespaces, and die. */
static int victim(void *arg)
{
	int i, flags = *(int *)arg;

	CHECK(!unshare(flags));
	for (i = 0; i < 20; i++)
		sched_yield();
	CHECK(!unshare(CLONE_NEWNS));
	for (i = 0; i < 20; i++)
		sched_yield();
	return 0;
}

/* A task that has just died is no error; nothing else may go wrong. */
static bool is_gone(int err)
{
	return err == ENOENT || err == ESRCH || err == EINVAL ||
	       err == EACCES || err == ENXIO;
}

static int read_files(void *arg)
{
	static const char *const files[] = {
		"mountinfo", "mounts", "mountstats", "status", "net/dev",
		"net/route", "net/unix", "cgroup",
	};
	char path[64], buf[8192];
	ssize_t n;
	size_t i;
	int fd;

	(void)arg;
	while (!scene->over) {
		for (i = 0; i < ARRAY_SIZE(files); i++) {
			snprintf(path, sizeof(path), "/proc/%d/%s",
				 (int)scene->victim, files[i]);
			fd = open(path, O_RDONLY | O_CLOEXEC);
			if (fd < 0) {
				CHECK(is_gone(errno));
				continue;
			}
			do {
				n = read(fd, buf, sizeof(buf));
			} while (n > 0);
			CHECK(!n || is_gone(errno));
			close(fd);
			__sync_fetch_and_add(&scene->hits, 1);
		}
	}
	return 0;
}

static int read_links(void *arg)
{
	char path[64], target[64];
	ssize_t n;
	size_t i;
	int fd;

	(void)arg;
	while (!scene->over) {
		for (i = 0; i < ARRAY_SIZE(nsp_kinds); i++) {
			snprintf(path, sizeof(path), "/proc/%d/ns/%s",
				 (int)scene->victim, nsp_kinds[i].name);
			n = readlink(path, target, sizeof(target) - 1);
			if (n < 0) {
				CHECK(is_gone(errno));
				continue;
			}
			target[n] = '\0';
			CHECK(strstr(target, ":["));
			fd = open(path, O_RDONLY | O_CLOEXEC);
			CHECK(fd >= 0 || is_gone(errno));
			if (fd < 0)
				continue;
			close(fd);
			__sync_fetch_and_add(&scene->hits, 1);
		}
	}
	return 0;
}

/* Join by files on kernels without pidfds; a child, since it is one way. */
static int join_once(void *arg)
{
	int flags = victim_flags();
	pid_t pid = scene->victim;
	char path[64];
	size_t i;
	int fd;

	(void)arg;
	fd = nsp_linux(5, 8) ? nsp_pidfd_open(pid) : -1;
	if (fd >= 0) {
		CHECK(!setns(fd, flags) || is_gone(errno));
		close(fd);
	}
	for (i = 0; i < ARRAY_SIZE(nsp_kinds); i++) {
		if (!(nsp_kinds[i].flag & flags))
			continue;
		snprintf(path, sizeof(path), "/proc/%d/ns/%s", (int)pid,
			 nsp_kinds[i].name);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			continue;
		CHECK(!setns(fd, nsp_kinds[i].flag) || is_gone(errno));
		close(fd);
		__sync_fetch_and_add(&scene->hits, 1);
	}
	return 0;
}

static int join(void *arg)
{
	(void)arg;
	while (!scene->over)
		CHECK(!nsp_run(join_once, NULL));
	return 0;
}

/* A bind mount keeps a namespace after its last task: let that go too. */
static int bind_files(void *arg)
{
	static const char *const names[] = { "uts", "ipc", "net", "cgroup" };
	char path[64], file[64] = "/tmp/nsproxy.XXXXXX";
	size_t i;
	int fd;

	(void)arg;
	CHECK(!nsp_own_mounts());
	CHECK(!mount("none", "/tmp", "tmpfs", 0, NULL));
	fd = mkstemp(file);
	CHECK(fd >= 0);
	close(fd);
	while (!scene->over) {
		for (i = 0; i < ARRAY_SIZE(names); i++) {
			snprintf(path, sizeof(path), "/proc/%d/ns/%s",
				 (int)scene->victim, names[i]);
			if (mount(path, file, NULL, MS_BIND, NULL)) {
				CHECK(is_gone(errno));
				continue;
			}
			__sync_fetch_and_add(&scene->hits, 1);
			CHECK(!umount2(file, MNT_DETACH));
		}
	}
	return 0;
}

/* The victims set the pace and the end; the readers do what they can. */
static void watch_them_die(struct __test_metadata *_metadata,
			   int (*reader)(void *), long lives)
{
	pid_t readers[NR_READERS];
	int flags = victim_flags();
	long i;

	lives = nsp_env("NSPROXY_TEST_LIVES", lives);
	scene->victim = getpid();
	for (i = 0; i < NR_READERS; i++) {
		readers[i] = nsp_start(reader, NULL);
		ASSERT_LT(0, readers[i]);
	}
	for (i = 0; i < lives; i++) {
		pid_t pid = nsp_start(victim, &flags);

		ASSERT_LT(0, pid);
		scene->victim = pid;
		EXPECT_EQ(0, nsp_wait(pid));
	}
	scene->over = 1;
	for (i = 0; i < NR_READERS; i++)
		EXPECT_EQ(0, nsp_wait(readers[i]));
	EXPECT_LT(0, scene->hits);
	ASSERT_EQ(0, nsp_flush());
	EXPECT_TRUE(nsp_all_released());
}

TEST_F_TIMEOUT(readers, files, NSP_TIMEOUT)
{
	watch_them_die(_metadata, read_files, 15);
}

TEST_F_TIMEOUT(readers, links, NSP_TIMEOUT)
{
	watch_them_die(_metadata, read_links, 15);
}

TEST_F_TIMEOUT(readers, join, NSP_TIMEOUT)
{
	watch_them_die(_metadata, join, 15);
}

TEST_F_TIMEOUT(readers, bind, NSP_TIMEOUT)
{
	watch_them_die(_metadata, bind_files, 15);
}

NSP_TEST_MAIN(nsp_prepare_present)
