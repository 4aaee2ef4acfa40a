/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Many walk through mounts, and others mount, unmount and die, in every way there
 * is: what a deferral has to stand, as it is and while it comes and goes.
 */
#ifndef NSPROXY_WALK_H
#define NSPROXY_WALK_H

#include "place.h"

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
static inline bool is_gone(int err)
{
	return err == ENOENT || err == ENOTDIR;
}

static inline const char *place(long i)
{
	static __thread char path[96];

	snprintf(path, sizeof(path), "%s/at%ld", scene->at.dir, i % NR_PLACES);
	return path;
}

static inline const char *below(const char *dir, const char *name)
{
	static __thread char path[128];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return path;
}

/* What the kernel does for a path in RCU mode, relative to @dir. */
static inline int walk_in(const char *dir)
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

static inline int walk(void *arg)
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
static inline bool has_cwd(void)
{
	char buf[256];

	return syscall(SYS_getcwd, buf, sizeof(buf)) > 0 || is_gone(errno);
}

static inline void *walk_from_cwd(void *arg)
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
static inline int share_cwd(void *arg)
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
static inline int hold(void *arg)
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

static inline int read_mounts(void *arg)
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
static inline bool is_off(int err)
{
	return is_gone(err) || err == EINVAL || err == EBUSY;
}

static inline int fill(const char *dir)
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
static inline int mount_some(const char *at, long i)
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
		/*
		 * A thread may chdir() away from the last hold while another one walks
		 * there. Before 5.10 overlay then puts the credentials of its mounter
		 * while that one uses them, with nothing deferred, too.
		 */
		if (!nsp_linux(5, 10))
			return 0;
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

static inline int take_off(const char *at, long i)
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

/*
 * Of all that has been mounted there.  A nested mount may have come to lie in what its
 * parent was to cover.
 */
static inline int clear_place(long i)
{
	char sub[128];

	snprintf(sub, sizeof(sub), "%s/sub", place(i));
	do {
		while (!umount2(place(i), MNT_DETACH))
			;
		CHECK(is_off(errno));
	} while (!umount2(sub, MNT_DETACH));
	CHECK(is_off(errno));
	return 0;
}

static inline int change_mounts(void *arg)
{
	char at[96];
	long i;

	(void)arg;
	for (i = 0; i < scene->rounds && !scene->over; i++) {
		snprintf(at, sizeof(at), "%s", place(i));
		CHECK(!mount_some(at, i));
		if (i & 1)
			CHECK(!mount("none", below(at, "sub"), "tmpfs", 0, NULL) ||
			      is_off(errno));
		CHECK(!take_off(at, i / 2));
		/* A namespace that dies takes what it has mounted, not what others got of that. */
		if (i % 16 == 0)
			CHECK(!clear_place(i / 16));
	}
	return 0;
}

/* Die with mounts of its own, standing in one of them, with another one open. */
static inline int die_with_mounts(void *arg)
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

static inline int change_namespaces(void *arg)
{
	int ret, fd = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
	long i;

	(void)arg;
	CHECK(fd >= 0);
	for (i = 0; i < scene->rounds && !scene->over; i++) {
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
static inline int connect_mounts(void *arg)
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

static inline int change_users(void *arg)
{
	long i;

	(void)arg;
	for (i = 0; i < scene->rounds && !scene->over; i++)
		CHECK(!nsp_run(connect_mounts, &i));
	return 0;
}

struct doomed {
	char dir[96];
	int ready[2];
};

/* Stay, with something mounted there, until the other end is closed. */
static inline int mount_on_doomed(void *arg)
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
static inline int remove_mountpoints(void *arg)
{
	struct doomed doomed;
	pid_t pid;
	long i;
	char c;

	(void)arg;
	snprintf(doomed.dir, sizeof(doomed.dir), "%s/doomed", scene->at.dir);
	for (i = 0; i < scene->rounds / 4 && !scene->over; i++) {
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

/* What is walked in, at a place that has been made. */
static inline int set_scene(void)
{
	static const char *const disk_types[] = { "ext4", "ext2" };
	char side[96];
	size_t t;
	long i;

	CHECK(!mount(NULL, scene->at.dir, NULL, MS_SHARED, NULL));
	snprintf(side, sizeof(side), "%s/side", scene->at.dir);
	CHECK(!mkdir(side, 0700));
	for (i = 0; i < NR_PLACES; i++) {
		CHECK(!mkdir(place(i), 0700));
		CHECK(!fill(place(i)));
	}
	CHECK(!fill(scene->at.mnt));
	for (t = 0; t < ARRAY_SIZE(disk_types) && !scene->disk_type; t++)
		if (disk_has_filesystem(disk_types[t]))
			scene->disk_type = disk_types[t];
	if (disk_make(&scene->at.disk, scene->at.dir))
		scene->disk_type = NULL;
	return 0;
}

struct walks {
	pid_t walking[5];
	pid_t changing[4];
};

static inline int walks_start(struct walks *walks, long rounds)
{
	int (*const walkers[])(void *) = {
		walk, walk, share_cwd, hold, read_mounts,
	};
	int (*const changers[])(void *) = {
		change_mounts, change_namespaces,
		/* Before, a directory that others mount on is busy. */
		nsp_linux(3, 18) ? remove_mountpoints : change_mounts,
		nsp_supported(CLONE_NEWUSER) ? change_users : change_mounts,
	};
	size_t i;

	scene->over = 0;
	scene->rounds = rounds;
	for (i = 0; i < ARRAY_SIZE(walkers); i++) {
		walks->walking[i] = nsp_start(walkers[i], i ? NULL : scene);
		CHECK(walks->walking[i] > 0);
	}
	for (i = 0; i < ARRAY_SIZE(changers); i++) {
		walks->changing[i] = nsp_start(changers[i], NULL);
		CHECK(walks->changing[i] > 0);
	}
	return 0;
}

/* Until those who change things have done their rounds, each; how many failed. */
static inline int walks_wait(struct walks *walks)
{
	int failed = 0;
	size_t i;
	long p;

	for (i = 0; i < ARRAY_SIZE(walks->changing); i++)
		failed += !!nsp_wait(walks->changing[i]);
	scene->over = 1;
	for (i = 0; i < ARRAY_SIZE(walks->walking); i++)
		failed += !!nsp_wait(walks->walking[i]);
	for (p = 0; p < NR_PLACES; p++)
		/* Nobody mounts any more, and the place is there: it is none that has a mount. */
		failed += clear_place(p) || !umount2(place(p), MNT_DETACH) || errno != EINVAL;
	return failed;
}

#endif /* NSPROXY_WALK_H */
