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
#include "place.h"
#include "slab.h"

#define NR_PLACES 3
/* The file in each tmpfs: enough of them left over would show. */
#define FILE_SIZE (256 << 10)

struct scene {
	volatile int over;
	volatile long walks;
	volatile long mounts;
	long rounds;
	const char *disk_type;
	struct place at;
};

static struct scene *scene;

/* A place is there, or what it leads to is gone; anything else is wrong. */
static bool is_gone(int err)
{
	return err == ENOENT || err == ENOTDIR;
}

static const char *place(long i)
{
	static __thread char path[96];

	snprintf(path, sizeof(path), "%s/at%ld", scene->at.dir, i % NR_PLACES);
	return path;
}

static const char *below(const char *dir, const char *name)
{
	static __thread char path[128];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return path;
}

/* What the kernel does for a path in RCU mode, relative to @dir. */
static int walk_in(const char *dir)
{
	struct stat st;
	char buf[64];
	int fd;

	CHECK(!stat(below(dir, "file"), &st) || is_gone(errno));
	CHECK(!access(below(dir, "link/file"), F_OK) || is_gone(errno));
	CHECK(readlink(below(dir, "link"), buf, sizeof(buf)) > 0 ||
	      is_gone(errno));
	CHECK(!access(below(dir, "sub/../file"), F_OK) || is_gone(errno));
	fd = open(below(dir, "link/."), O_PATH | O_CLOEXEC);
	CHECK(fd >= 0 || is_gone(errno));
	if (fd >= 0)
		close(fd);
	__sync_fetch_and_add(&scene->walks, 1);
	return 0;
}

static int walk(void *arg)
{
	long i;

	/* A peer: what is mounted and unmounted comes here, too. */
	if (arg)
		CHECK(!unshare(CLONE_NEWNS));
	for (i = 0; !scene->over; i++)
		CHECK(!walk_in(place(i)));
	return 0;
}

/* Where it is not reachable the C library would go looking for the name. */
static bool has_cwd(void)
{
	char buf[256];

	return syscall(SYS_getcwd, buf, sizeof(buf)) > 0 || is_gone(errno);
}

static void *walk_from_cwd(void *arg)
{
	int fd;

	while (!scene->over && !*(volatile int *)arg) {
		fd = open(".", O_PATH | O_CLOEXEC);
		if (fd >= 0)
			close(fd);
		if (walk_in(".") || !has_cwd() ||
		    (access("../at1/file", F_OK) && !is_gone(errno)))
			*(volatile int *)arg = 1;
	}
	return NULL;
}

/*
 * Threads in one working directory, which one of them takes to a place, takes off
 * from under them all, and away again.
 */
static int share_cwd(void *arg)
{
	pthread_t threads[2];
	int failed = 0;
	size_t t;
	long i;

	(void)arg;
	for (t = 0; t < ARRAY_SIZE(threads); t++)
		CHECK(!pthread_create(&threads[t], NULL, walk_from_cwd, &failed));
	for (i = 0; !scene->over; i++) {
		CHECK(!chdir(place(i)) || is_gone(errno));
		sched_yield();
		if (i & 1)
			CHECK(!umount2(".", MNT_DETACH) || errno == EINVAL);
		CHECK(has_cwd());
		CHECK(!chdir(scene->at.dir));
	}
	for (t = 0; t < ARRAY_SIZE(threads); t++)
		pthread_join(threads[t], NULL);
	CHECK(!failed);
	return 0;
}

/* Take a place off while it is held, as somebody else may just be doing. */
static int hold(void *arg)
{
	char path[64], name[256];
	int fd, sub;
	long i;

	(void)arg;
	for (i = 0; !scene->over; i++) {
		fd = open(place(i), (i & 2 ? O_PATH : O_RDONLY) | O_DIRECTORY |
			  O_CLOEXEC);
		CHECK(fd >= 0 || is_gone(errno));
		if (fd < 0)
			continue;
		CHECK(!umount2(place(i), MNT_DETACH) || errno == EINVAL);
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		CHECK(readlink(path, name, sizeof(name)) > 0);
		CHECK(!walk_in(path));
		sub = openat(fd, "sub", O_PATH | O_CLOEXEC);
		CHECK(sub >= 0 || is_gone(errno));
		close(fd);
		if (sub < 0)
			continue;
		CHECK(!fchdir(sub));
		CHECK(has_cwd());
		close(sub);
		CHECK(!access("../file", F_OK) || is_gone(errno));
		CHECK(!chdir("/"));
	}
	return 0;
}

static int read_mounts(void *arg)
{
	char buf[4096];
	ssize_t n;
	int fd;

	(void)arg;
	while (!scene->over) {
		fd = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
		CHECK(fd >= 0);
		do {
			n = read(fd, buf, sizeof(buf));
		} while (n > 0);
		CHECK(!n);
		close(fd);
	}
	return 0;
}

/* Somebody else may have taken off what this was to be mounted on. */
static bool is_off(int err)
{
	return is_gone(err) || err == EINVAL || err == EBUSY;
}

static int fill(const char *dir)
{
	static const char zeros[4096];
	int fd, i;

	CHECK(!mkdir(below(dir, "sub"), 0700) || errno == EEXIST ||
	      is_gone(errno) || errno == EROFS);
	CHECK(!symlink(".", below(dir, "link")) || errno == EEXIST ||
	      is_gone(errno) || errno == EROFS);
	fd = open(below(dir, "file"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	CHECK(fd >= 0 || is_gone(errno) || errno == EROFS);
	if (fd < 0)
		return 0;
	for (i = 0; i < FILE_SIZE / (int)sizeof(zeros); i++)
		if (pwrite(fd, zeros, sizeof(zeros),
			   i * sizeof(zeros)) != sizeof(zeros))
			break;
	close(fd);
	return 0;
}

/* In turn, what this kernel has. */
static int mount_some(const char *at, long i)
{
	char options[256];
	int err;

	switch (i % 5) {
	case 0:
		err = mount("none", at, "tmpfs", 0, NULL);
		break;
	case 1:
		err = mount("none", at, "ramfs", 0, NULL);
		break;
	case 2:
		err = mount(scene->at.mnt, at, NULL, MS_BIND | MS_REC, NULL);
		break;
	case 3:
		snprintf(options, sizeof(options), "lowerdir=%s:%s/side",
			 scene->at.mnt, scene->at.dir);
		err = mount("none", at, "overlay", MS_RDONLY, options);
		break;
	default:
		if (!scene->disk_type)
			return 0;
		err = mount(scene->at.disk.dev, at, scene->disk_type, MS_RDONLY,
			    NULL);
	}
	CHECK(!err || is_off(errno) || errno == ENODEV || errno == ELOOP);
	if (!err)
		__sync_fetch_and_add(&scene->mounts, 1);
	if (!err && i % 5 < 2)
		CHECK(!fill(at));
	return 0;
}

static int take_off(const char *at, long i)
{
	static const int flags[] = { 0, MNT_DETACH, MNT_EXPIRE, MNT_DETACH };
	int how = flags[i % ARRAY_SIZE(flags)];

	if (umount2(at, how)) {
		CHECK(is_off(errno) || errno == EAGAIN);
		/* So that they do not pile up. */
		CHECK(!umount2(at, MNT_DETACH) || is_off(errno));
	}
	return 0;
}

static int change_mounts(void *arg)
{
	char at[96];
	long i;

	(void)arg;
	for (i = 0; i < scene->rounds; i++) {
		snprintf(at, sizeof(at), "%s", place(i));
		CHECK(!mount_some(at, i));
		if (i & 1)
			CHECK(!mount("none", below(at, "sub"), "tmpfs", 0, NULL) ||
			      is_off(errno));
		CHECK(!take_off(at, i / 2));
	}
	return 0;
}

/* Die with mounts of its own, standing in one of them, with another one open. */
static int die_with_mounts(void *arg)
{
	long i = *(long *)arg;
	char at[96];

	snprintf(at, sizeof(at), "%s", place(i));
	CHECK(!unshare(CLONE_NEWNS));
	if (i & 1)
		CHECK(!mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL));
	CHECK(!mount_some(at, i));
	CHECK(!mount_some(below(at, "sub"), i + 1));
	CHECK(!chdir(at) || is_gone(errno));
	CHECK(open(below(at, "file"), O_RDONLY) >= 0 || is_gone(errno));
	if (i & 2)
		CHECK(!umount2(at, MNT_DETACH) || is_off(errno));
	if (i & 4)
		kill(getpid(), SIGKILL);
	return 0;
}

static int change_namespaces(void *arg)
{
	int ret, fd = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
	long i;

	(void)arg;
	CHECK(fd >= 0);
	for (i = 0; i < scene->rounds; i++) {
		ret = nsp_run(die_with_mounts, &i);
		CHECK(!ret || ret == 128 + SIGKILL);
		CHECK(!unshare(CLONE_NEWNS));
		CHECK(!mount_some(place(i), i));
		if (i & 1)
			CHECK(!unshare(CLONE_NEWNS));
		CHECK(!setns(fd, CLONE_NEWNS));
	}
	return 0;
}

/*
 * In a user namespace copied mounts are locked to their parents, and stay connected
 * to them when they are taken off together.
 */
static int connect_mounts(void *arg)
{
	char side[96], path[128], proc[64];
	long i = *(long *)arg;
	int fd, child;

	snprintf(side, sizeof(side), "%s/side", scene->at.dir);
	CHECK(!nsp_own_user());
	CHECK(!unshare(CLONE_NEWNS));
	CHECK(!mount(scene->at.dir, side, NULL, MS_BIND | MS_REC, NULL));
	fd = open(side, O_PATH | O_CLOEXEC);
	CHECK(fd >= 0);
	snprintf(path, sizeof(path), "%s/at%ld", side, i % NR_PLACES);
	child = i & 1 ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	CHECK(!umount2(side, MNT_DETACH));
	snprintf(proc, sizeof(proc), "/proc/self/fd/%d/at%ld", fd, i % NR_PLACES);
	CHECK(!walk_in(proc));
	if (i & 2)
		close(fd);
	if (child >= 0)
		CHECK(!fchdir(child));
	CHECK(has_cwd());
	return 0;
}

static int change_users(void *arg)
{
	long i;

	(void)arg;
	for (i = 0; i < scene->rounds; i++)
		CHECK(!nsp_run(connect_mounts, &i));
	return 0;
}

struct doomed {
	char dir[96];
	int ready[2];
};

/* Stay, with something mounted there, until the other end is closed. */
static int mount_on_doomed(void *arg)
{
	struct doomed *doomed = arg;
	char c = 0;

	close(doomed->ready[0]);
	CHECK(!nsp_own_mounts());
	CHECK(!mount("none", doomed->dir, "tmpfs", 0, NULL));
	CHECK(!fill(doomed->dir));
	CHECK(!chdir(doomed->dir));
	CHECK(write(doomed->ready[1], &c, 1) == 1);
	while (!access(doomed->dir, F_OK))
		CHECK(has_cwd());
	CHECK(!walk_in("."));
	return 0;
}

/* Remove a directory that is a mountpoint somewhere else. */
static int remove_mountpoints(void *arg)
{
	struct doomed doomed;
	pid_t pid;
	long i;
	char c;

	(void)arg;
	snprintf(doomed.dir, sizeof(doomed.dir), "%s/doomed", scene->at.dir);
	for (i = 0; i < scene->rounds / 4; i++) {
		CHECK(!mkdir(doomed.dir, 0700));
		CHECK(!pipe(doomed.ready));
		pid = nsp_start(mount_on_doomed, &doomed);
		CHECK(pid > 0);
		close(doomed.ready[1]);
		CHECK(read(doomed.ready[0], &c, 1) == 1);
		CHECK(!rmdir(doomed.dir));
		CHECK(!nsp_wait(pid));
		close(doomed.ready[0]);
	}
	return 0;
}

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

static int count_mounts(const char *dir)
{
	char line[1024];
	int n = 0;
	FILE *file;

	file = fopen("/proc/self/mountinfo", "r");
	if (!file)
		return -1;
	while (fgets(line, sizeof(line), file))
		n += !!strstr(line, dir);
	fclose(file);
	return n;
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

FIXTURE_VARIANT_ADD(walkers, off)
{
	.mode = "off",
};

FIXTURE_VARIANT_ADD(walkers, safe)
{
	.mode = "safe",
};

FIXTURE_VARIANT_ADD(walkers, all)
{
	.mode = "all",
};

FIXTURE_VARIANT_ADD(walkers, switched)
{
	.mode = "safe",
	.switched = true,
};

static const char *const disk_types[] = { "ext4", "ext2" };

FIXTURE_SETUP(walkers)
{
	char side[96];
	size_t t;
	long i;

	scene = nsp_shared(sizeof(*scene));
	ASSERT_NE(NULL, scene);
	ASSERT_EQ(0, place_make(&scene->at, variant->mode));
	ASSERT_EQ(0, mount(NULL, scene->at.dir, NULL, MS_SHARED, NULL));
	snprintf(side, sizeof(side), "%s/side", scene->at.dir);
	ASSERT_EQ(0, mkdir(side, 0700));
	for (i = 0; i < NR_PLACES; i++) {
		ASSERT_EQ(0, mkdir(place(i), 0700));
		ASSERT_EQ(0, fill(place(i)));
	}
	ASSERT_EQ(0, fill(scene->at.mnt));
	for (t = 0; t < ARRAY_SIZE(disk_types) && !scene->disk_type; t++)
		if (disk_has_filesystem(disk_types[t]))
			scene->disk_type = disk_types[t];
	if (disk_make(&scene->at.disk, scene->at.dir))
		scene->disk_type = NULL;
	self->shmem = nsp_meminfo("Shmem");
	self->mounts = count_mounts(scene->at.dir);
}

FIXTURE_TEARDOWN(walkers)
{
	scene->over = 1;
	EXPECT_EQ(0, place_drop(&scene->at));
	munmap(scene, sizeof(*scene));
}

/* A nested mount may have come to lie in what its parent was to cover. */
static int clear_place(long i)
{
	char sub[128];

	snprintf(sub, sizeof(sub), "%s/sub", place(i));
	do {
		while (!umount2(place(i), MNT_DETACH))
			;
		CHECK(errno == EINVAL);
	} while (!umount2(sub, MNT_DETACH));
	CHECK(errno == EINVAL);
	return 0;
}

/* Until those who change things have done @rounds, each. */
static void storm(struct __test_metadata *_metadata, bool switched, long rounds)
{
	int (*const walkers[])(void *) = {
		walk, walk, share_cwd, hold, read_mounts,
	};
	int (*const changers[])(void *) = {
		change_mounts, change_namespaces, remove_mountpoints,
		nsp_supported(CLONE_NEWUSER) ? change_users : change_mounts,
	};
	pid_t walking[ARRAY_SIZE(walkers)], changing[ARRAY_SIZE(changers)];
	pid_t switching = 0;
	size_t i;
	long p;

	scene->over = 0;
	scene->rounds = rounds;
	for (i = 0; i < ARRAY_SIZE(walkers); i++) {
		walking[i] = nsp_start(walkers[i], i ? NULL : scene);
		ASSERT_LT(0, walking[i]);
	}
	if (switched) {
		switching = nsp_start(switch_modes, NULL);
		ASSERT_LT(0, switching);
	}
	for (i = 0; i < ARRAY_SIZE(changers); i++) {
		changing[i] = nsp_start(changers[i], NULL);
		ASSERT_LT(0, changing[i]);
	}
	for (i = 0; i < ARRAY_SIZE(changers); i++)
		EXPECT_EQ(0, nsp_wait(changing[i]));
	scene->over = 1;
	for (i = 0; i < ARRAY_SIZE(walkers); i++)
		EXPECT_EQ(0, nsp_wait(walking[i])) {
			TH_LOG("walker %zu", i);
		}
	if (switching)
		EXPECT_EQ(0, nsp_wait(switching));
	for (p = 0; p < NR_PLACES; p++)
		EXPECT_EQ(0, clear_place(p));
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
	long before, after;

	if (!slab_is_own("mnt_cache"))
		SKIP(return, SLAB_MERGED);
	/* The first storm fills what fills only once. */
	storm(_metadata, variant->switched, 8);
	before = slab_settles("mnt_cache", 0);
	ASSERT_LE(0, before);
	storm(_metadata, variant->switched, nsp_env("NSPROXY_TEST_WALKS", 8));
	after = slab_settles("mnt_cache", before);
	EXPECT_LE(after, before);
}

NSP_TEST_MAIN(nsp_prepare_present)
