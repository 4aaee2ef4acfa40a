/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the tests of this folder share.
 *
 * They speak to the deferral through /sys/kernel/nsproxy_defer only, so that
 * the loadable module and a patched kernel are tested by the same programs.
 */
#ifndef NSPROXY_TEST_H
#define NSPROXY_TEST_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "calls.h"
#include "gp.h"

#define NSP_DIR "/sys/kernel/nsproxy_defer"

/*
 * The harness gives a test 30 seconds.  A debug kernel under an emulator
 * needs more, and a test that hangs is ended by this all the same.
 */
#define NSP_TIMEOUT 240

/* For code in a child, where the harness' own checks do not reach. */
#define CHECK(cond) do {						\
	if (!(cond)) {							\
		fprintf(stderr, "# %s:%d: %s: %s\n", __FILE__, __LINE__,	\
			#cond, strerror(errno));			\
		return 1;						\
	}								\
} while (0)

static inline int nsp_put(const char *path, const char *value)
{
	size_t len = strlen(value);
	int fd, err = 0;

	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (write(fd, value, len) != (ssize_t)len)
		err = -errno;
	close(fd);
	return err;
}

static inline int nsp_get(const char *path, char *buf, size_t size)
{
	ssize_t len;
	int fd, err = 0;

	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	len = read(fd, buf, size - 1);
	if (len < 0)
		err = -errno;
	close(fd);
	buf[len < 0 ? 0 : len] = '\0';
	buf[strcspn(buf, "\n")] = '\0';
	return err;
}

/*
 * The check of the check: on a kernel that defers nothing, the tests that count
 * waits must find them.  With this in the environment they run there, where
 * there are no knobs to turn and no statistics to read, and fail.
 */
static inline bool nsp_waiting(void)
{
	return getenv("NSPROXY_TEST_WAIT");
}

/* Write a knob: 0 or a negative errno. */
static inline int nsp_set(const char *knob, const char *value)
{
	char path[128];

	if (nsp_waiting())
		return 0;
	snprintf(path, sizeof(path), NSP_DIR "/%s", knob);
	return nsp_put(path, value);
}

static inline int nsp_set_num(const char *knob, long value)
{
	char text[32];

	snprintf(text, sizeof(text), "%ld", value);
	return nsp_set(knob, text);
}

/* In how many lines of a file does @what stand?  -1 if there is no such file. */
static inline long nsp_count_lines(const char *path, const char *what)
{
	char line[1024];
	FILE *file;
	long n = 0;

	file = fopen(path, "r");
	if (!file)
		return -1;
	while (fgets(line, sizeof(line), file))
		n += !!strstr(line, what);
	fclose(file);
	return n;
}

/* Read a number: itself or a negative errno. */
static inline long nsp_num(const char *knob)
{
	char path[128], text[64], *end;
	long n;
	int err;

	if (nsp_waiting())
		return 0;
	snprintf(path, sizeof(path), NSP_DIR "/%s", knob);
	err = nsp_get(path, text, sizeof(text));
	if (err)
		return err;
	errno = 0;
	n = strtol(text, &end, 10);
	return errno || end == text || *end ? -EINVAL : n;
}

static inline int nsp_flush(void)
{
	return nsp_set("flush", "1");
}

static inline bool nsp_present(void)
{
	return !access(NSP_DIR "/mode", F_OK);
}

/*
 * Is nothing pending, and nothing lost?  After a flush, when nobody leaves
 * anything any more.
 */
static inline bool nsp_all_released(void)
{
	long left = nsp_num("stats/left"), released = nsp_num("stats/released");
	long light = nsp_num("stats/light"), pending = nsp_num("pending");
	long light_released = nsp_num("stats/light_released");

	if (left >= 0 && left == released && light == light_released && !pending)
		return true;
	fprintf(stderr, "# %ld left, %ld released; %ld light, %ld released; %ld pending\n",
		left, released, light, light_released, pending);
	return false;
}

/* How many releases were there that nobody waited for? */
static inline long nsp_unwaited(void)
{
	return nsp_num("stats/finished") + nsp_num("stats/dropped") +
	       nsp_num("stats/left");
}

struct nsp_knobs {
	char mode[32];
	char max_pending[32];
};

static inline int nsp_save(struct nsp_knobs *knobs)
{
	int err;

	if (nsp_waiting())
		return 0;
	err = nsp_get(NSP_DIR "/mode", knobs->mode, sizeof(knobs->mode));
	if (err)
		return err;
	return nsp_get(NSP_DIR "/max_pending", knobs->max_pending,
		       sizeof(knobs->max_pending));
}

static inline int nsp_restore(const struct nsp_knobs *knobs)
{
	int err = nsp_set("mode", knobs->mode);

	if (err)
		return err;
	return nsp_set("max_pending", knobs->max_pending);
}

static inline pid_t nsp_gettid(void)
{
	return syscall(SYS_gettid);
}

/*
 * Have this task and its children run before any worker, so that with one CPU
 * what they leave to it is pending still when they look.
 */
static inline int nsp_outrun_workers(void)
{
	const struct sched_param param = { .sched_priority = 1 };

	return sched_setscheduler(0, SCHED_FIFO, &param);
}

/* Wait for @pid: its exit code, or 128 and its signal. */
static inline int nsp_wait(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) != pid)
		if (errno != EINTR)
			return -1;
	return WIFEXITED(status) ? WEXITSTATUS(status)
				 : 128 + WTERMSIG(status);
}

/*
 * Start @fn in a child that dies with its parent, since a test that is ended
 * by its time limit must not leave a storm behind.
 */
static inline pid_t nsp_start(int (*fn)(void *), void *arg)
{
	pid_t pid, parent = getpid();

	fflush(stdout);
	fflush(stderr);
	pid = fork();
	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	_exit(fn(arg));
}

static inline int nsp_run(int (*fn)(void *), void *arg)
{
	pid_t pid = nsp_start(fn, arg);

	return pid < 0 ? -1 : nsp_wait(pid);
}

/* A fork() with @flags; CLONE_NEWTIME has no room in those of clone(). */
static inline pid_t nsp_clone(int flags)
{
	struct nsp_clone_args args = {
		.flags = flags,
		.exit_signal = SIGCHLD,
	};

	fflush(stdout);
	fflush(stderr);
	if (flags & CLONE_NEWTIME)
		return nsp_clone3(&args);
	return syscall(SYS_clone, flags | SIGCHLD, NULL, NULL, NULL, NULL);
}

/* nsp_start() and nsp_run() with flags. */
static inline pid_t nsp_start_in(int flags, int (*fn)(void *), void *arg)
{
	pid_t pid = nsp_clone(flags);

	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	_exit(fn(arg));
}

static inline int nsp_run_in(int flags, int (*fn)(void *), void *arg)
{
	pid_t pid = nsp_start_in(flags, fn, arg);

	return pid < 0 ? -1 : nsp_wait(pid);
}

/* Does the kernel defer by itself? A module that is loaded tells its state. */
static inline bool nsp_built_in(void)
{
	return nsp_present() && access("/sys/module/nsproxy_defer/initstate", F_OK);
}

/* The three numbers of this kernel's version; the third may be missing, and is 0. */
static inline void nsp_version(int version[3])
{
	struct utsname uts;

	version[2] = 0;
	if (uname(&uts) || sscanf(uts.release, "%d.%d.%d", version, version + 1, version + 2) < 2)
		abort();
}

/* Is this kernel at least Linux @major.@minor? */
static inline bool nsp_linux(int major, int minor)
{
	int version[3];

	nsp_version(version);
	return version[0] > major || (version[0] == major && version[1] >= minor);
}

/*
 * Up to 3.16 it is an nsproxy that is released, with all the namespaces that it
 * held.  Later it is a mount, and one that somebody else has in use: every other
 * one is gone when the call has returned that took it off its tree.
 */
static inline bool nsp_defers_mounts(void)
{
	return nsp_linux(3, 17);
}

/* What /proc/meminfo says of @what, in kB, or -1. */
static inline long nsp_meminfo(const char *what)
{
	size_t len = strlen(what);
	char line[128];
	long kb = -1;
	FILE *file;

	file = fopen("/proc/meminfo", "r");
	if (!file)
		return -1;
	while (fgets(line, sizeof(line), file))
		if (!strncmp(line, what, len) &&
		    sscanf(line + len, ": %ld kB", &kb) == 1)
			break;
	fclose(file);
	return kb;
}

/* A mount namespace of its own, which passes nothing on. */
static inline int nsp_own_mounts(void)
{
	if (unshare(CLONE_NEWNS))
		return -1;
	return mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL);
}

/* Become root of a user namespace of its own. */
static inline int nsp_own_user(void)
{
	char map[64];
	int uid = geteuid(), gid = getegid();

	if (unshare(CLONE_NEWUSER))
		return -1;
	/* Before 3.19 there is no setgroups file, and no need to write it. */
	nsp_put("/proc/self/setgroups", "deny");
	snprintf(map, sizeof(map), "0 %d 1", uid);
	if (nsp_put("/proc/self/uid_map", map))
		return -1;
	snprintf(map, sizeof(map), "0 %d 1", gid);
	return nsp_put("/proc/self/gid_map", map) ? -1 : 0;
}

struct nsp_kind {
	const char *name;
	int flag;
};

static const struct nsp_kind nsp_kinds[] = {
	{ "mnt", CLONE_NEWNS },
	{ "uts", CLONE_NEWUTS },
	{ "ipc", CLONE_NEWIPC },
	{ "net", CLONE_NEWNET },
	{ "pid", CLONE_NEWPID },
	{ "user", CLONE_NEWUSER },
	{ "cgroup", CLONE_NEWCGROUP },
	{ "time", CLONE_NEWTIME },
};

/* RHEL's 4.18 has no clone3(), and before 6.3 that took no CLONE_NEWTIME (a402f1e35313). */
static inline bool nsp_clones_time(void)
{
	pid_t pid = nsp_clone(CLONE_NEWTIME);

	if (!pid)
		_exit(0);
	return pid < 0 ? errno != ENOSYS && errno != EINVAL : !nsp_wait(pid);
}

/* Those of @flags that this kernel has, and begins a task in. */
static inline int nsp_supported(int flags)
{
	char path[64];
	size_t i;

	for (i = 0; i < ARRAY_SIZE(nsp_kinds); i++) {
		snprintf(path, sizeof(path), "/proc/self/ns/%s",
			 nsp_kinds[i].name);
		if (access(path, F_OK))
			flags &= ~nsp_kinds[i].flag;
	}
	if (flags & CLONE_NEWTIME && !nsp_clones_time())
		flags &= ~CLONE_NEWTIME;
	return flags;
}

/* A number from the environment, for runs that are longer than the default. */
static inline long nsp_env(const char *name, long fallback)
{
	const char *text = getenv(name);
	long n = text ? atol(text) : 0;

	return n > 0 ? n : fallback;
}

static inline void *nsp_shared(size_t size)
{
	void *mem = mmap(NULL, size, PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	return mem == MAP_FAILED ? NULL : mem;
}

/* The root of a file system, where nothing is mounted below it: most systems have one. */
static inline const char *nsp_whole(void)
{
	struct stat tmp, root;

	if (!stat("/tmp", &tmp) && !stat("/", &root) && tmp.st_dev != root.st_dev)
		return "/tmp";
	return "/dev/shm";
}

/*
 * Mounts in use: a child makes them in a mount namespace of its own, opens each,
 * and exits, so that they are taken off.  It shares its table of files with its
 * parent, who holds them from then on.
 */
struct nsp_held {
	const char *type;
	int n;
	int fds[];
};

static inline int nsp_hold_child(void *arg)
{
	struct nsp_held *held = arg;
	int i;

	CHECK(!nsp_own_mounts());
	for (i = 0; i < held->n; i++) {
		/* One on top of the other. */
		if (held->type)
			CHECK(!mount("none", "/tmp", held->type, 0, NULL));
		else
			CHECK(!mount(nsp_whole(), "/tmp", NULL, MS_BIND, NULL));
		held->fds[i] = open("/tmp", O_PATH | O_CLOEXEC);
		CHECK(held->fds[i] >= 0);
	}
	return 0;
}

static inline size_t nsp_held_size(int n)
{
	return sizeof(struct nsp_held) + n * sizeof(int);
}

/*
 * Hold @n mounts that are in no tree any more, each of a new superblock of @type,
 * or if that is NULL all of one that is mounted elsewhere.  NULL if that fails.
 */
static inline struct nsp_held *nsp_hold_mounts(int n, const char *type)
{
	struct nsp_held *held = nsp_shared(nsp_held_size(n));
	struct rlimit files;

	if (!held || getrlimit(RLIMIT_NOFILE, &files))
		return NULL;
	if (files.rlim_cur < (rlim_t)n + 64) {
		files.rlim_cur = n + 64;
		if (files.rlim_max < files.rlim_cur)
			files.rlim_max = files.rlim_cur;
		if (setrlimit(RLIMIT_NOFILE, &files))
			return NULL;
	}
	held->type = type;
	held->n = n;
	return nsp_run_in(CLONE_FILES, nsp_hold_child, held) ? NULL : held;
}

static inline void nsp_let_go(struct nsp_held *held)
{
	int i;

	for (i = 0; i < held->n; i++)
		close(held->fds[i]);
	munmap(held, nsp_held_size(held->n));
}

static inline int nsp_short_life(void *arg)
{
	(void)arg;
	CHECK(!unshare(CLONE_NEWNS));
	return 0;
}

/*
 * Leave @n releases to the worker, with nobody to hold what they are of: 0 or -1.
 * They are pending for a grace period.
 */
static inline int nsp_leave(int n)
{
	struct nsp_held *held;

	if (nsp_defers_mounts()) {
		held = nsp_hold_mounts(n, NULL);
		if (!held)
			return -1;
		nsp_let_go(held);
		return 0;
	}
	while (n--)
		if (nsp_run(nsp_short_life, NULL))
			return -1;
	return 0;
}

/*
 * A storm: tasks that enter and leave namespaces, make and remove mounts, in every
 * way there is, for a number of rounds or until they are told to stop.
 */
#define NSP_STORM_MAX 16

struct nsp_storm {
	int tasks;
	long rounds;
	int *stop;
	long *done;
	pid_t pids[NSP_STORM_MAX];
};

/*
 * Up to 6.2 the kernel frees IPC namespaces one by one, a grace period each,
 * so a storm that goes on making them runs into their limit on a stock kernel.
 */
#define NSP_STORM_IPC 100

static inline int nsp_storm_life(void *arg)
{
	int flags = CLONE_NEWNS | CLONE_NEWUTS;

	if (*(long *)arg < NSP_STORM_IPC)
		flags |= CLONE_NEWIPC;
	CHECK(!unshare(nsp_supported(flags)));
	return 0;
}

/* By umount(2), which is as good as a flush where namespaces are pending. */
static inline int nsp_storm_umount(void *arg)
{
	int pwd;

	(void)arg;
	CHECK(!nsp_own_mounts());
	CHECK(!mount("none", "/tmp", "tmpfs", 0, NULL));
	CHECK(!umount("/tmp"));
	CHECK(!mount("none", "/tmp", "tmpfs", 0, NULL));
	CHECK(!mount("/tmp", "/tmp", NULL, MS_BIND, NULL));
	pwd = open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CHECK(pwd >= 0 && !fchdir(pwd));
	CHECK(!umount2("/tmp", MNT_DETACH));
	CHECK(!umount2("/tmp", MNT_DETACH));
	CHECK(!mount("none", "/tmp", "ramfs", 0, NULL));
	return 0;
}

static inline int nsp_storm_mounts(void)
{
	struct nsp_held *held;

	CHECK(!nsp_run(nsp_storm_umount, NULL));
	CHECK(!nsp_leave(3));
	/* In mode safe the child waits for this one. */
	held = nsp_hold_mounts(1, "tmpfs");
	CHECK(held);
	nsp_let_go(held);
	return 0;
}

static inline int nsp_storm_task(void *arg)
{
	struct nsp_storm *storm = arg;
	int uts = nsp_supported(CLONE_NEWUTS);
	int fd = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
	long i;

	CHECK(fd >= 0);
	for (i = 0; !storm->rounds || i < storm->rounds; i++) {
		if (*(volatile int *)storm->stop)
			break;
		CHECK(!nsp_run(nsp_storm_life, &i));
		CHECK(!unshare(CLONE_NEWNS));
		CHECK(!setns(fd, CLONE_NEWNS));
		CHECK(!unshare(CLONE_NEWNS | uts));
		if (nsp_defers_mounts())
			CHECK(!nsp_storm_mounts());
		__sync_fetch_and_add(storm->done, 1);
	}
	return 0;
}

/* @rounds a task; 0 stands for: until nsp_storm_wait() with @stop. */
static inline int nsp_storm_start(struct nsp_storm *storm, int tasks,
				  long rounds)
{
	int i;

	memset(storm, 0, sizeof(*storm));
	storm->tasks = tasks;
	storm->rounds = rounds;
	storm->stop = nsp_shared(sizeof(*storm->stop));
	storm->done = nsp_shared(sizeof(*storm->done));
	if (tasks > NSP_STORM_MAX || !storm->stop || !storm->done)
		return -1;
	for (i = 0; i < tasks; i++) {
		storm->pids[i] = nsp_start(nsp_storm_task, storm);
		if (storm->pids[i] < 0)
			return -1;
	}
	return 0;
}

/* 0 if every task got through without an error. */
static inline int nsp_storm_wait(struct nsp_storm *storm, bool stop)
{
	int i, err = 0;

	if (stop)
		*(volatile int *)storm->stop = 1;
	for (i = 0; i < storm->tasks; i++)
		if (nsp_wait(storm->pids[i]))
			err = -1;
	munmap(storm->stop, sizeof(*storm->stop));
	munmap(storm->done, sizeof(*storm->done));
	return err;
}

#define NSP_HOLD_MAX 128

static inline int nsp_hold_one(void *arg)
{
	int *fds = arg;
	char c;

	if (unshare(fds[4]))
		c = errno;
	else
		c = 0;
	if (write(fds[1], &c, 1) != 1)
		return 1;
	close(fds[3]);
	/* End of file comes when the parent has closed the other end. */
	return read(fds[2], &c, 1) != 0;
}

/* Hold @n namespaces at once; how many could not be made for the limit? */
static inline int nsp_hold_many(int flag, int n)
{
	int i, fds[5], refused = 0;
	pid_t pids[NSP_HOLD_MAX];
	char c;

	if (n > NSP_HOLD_MAX || pipe(&fds[0]) || pipe(&fds[2]))
		return -1;
	fds[4] = flag;
	for (i = 0; i < n; i++) {
		pids[i] = nsp_start(nsp_hold_one, fds);
		if (pids[i] < 0 || read(fds[0], &c, 1) != 1)
			return -1;
		if (c && c != ENOSPC)
			return -1;
		refused += c == ENOSPC;
	}
	for (i = 0; i < 4; i++)
		close(fds[i]);
	for (i = 0; i < n; i++)
		if (nsp_wait(pids[i]))
			return -1;
	return refused;
}

static struct nsp_knobs nsp_at_start;
static pid_t nsp_main_pid;

static inline void nsp_at_exit(void)
{
	if (getpid() != nsp_main_pid)
		return;
	gp_close();
	/* A test that was ended by its time limit did not tear down. */
	if (nsp_at_start.mode[0] && nsp_present())
		nsp_restore(&nsp_at_start);
	/* The harness calls it a pass when every test was skipped. */
	if (ksft_test_num() &&
	    ksft_get_xskip_cnt() == (int)ksft_test_num()) {
		ksft_print_msg("nothing was tested: every test was skipped\n");
		fflush(stdout);
		_exit(KSFT_SKIP);
	}
}

/* For what is found out before the harness has printed its own header. */
static inline void nsp_skip_all(const char *why)
{
	ksft_print_header();
	ksft_exit_skip("%s\n", why);
}

static inline void nsp_fail_all(const char *what, const char *why)
{
	ksft_print_header();
	ksft_exit_fail_msg("%s: %s\n", what, why);
}

static inline void nsp_prepare(void)
{
	nsp_main_pid = getpid();
	atexit(nsp_at_exit);
	if (geteuid())
		nsp_skip_all("run as root");
}

/* What every test but those of the module's life begins with. */
static inline void nsp_prepare_present(void)
{
	nsp_prepare();
	if (nsp_waiting() && nsp_present())
		nsp_fail_all("NSPROXY_TEST_WAIT is set", "but there is " NSP_DIR);
	if (!nsp_waiting() && !nsp_present())
		nsp_skip_all("no " NSP_DIR ": load the module, or boot a patched kernel");
	if (nsp_save(&nsp_at_start))
		nsp_fail_all("cannot read the knobs", NSP_DIR);
	/* Loaded in mode off the module sees nothing, and counts nothing, before. */
	if (nsp_set("mode", "safe") || nsp_restore(&nsp_at_start))
		nsp_fail_all("cannot write the knobs", NSP_DIR);
}

/* The same, for tests that count grace periods. */
static inline void nsp_prepare_count(void)
{
	nsp_prepare_present();
	if (gp_open())
		nsp_fail_all("cannot count grace periods", gp_error());
}

/* A variant of the fixture for each mode, which has the mode's name. */
#define NSP_MODE_VARIANT(fixture, name)					\
	FIXTURE_VARIANT_ADD(fixture, name) { .mode = #name }

/* The same, NAME_off and so on, with more than the mode. */
#define NSP_MODE_VARIANTS_WITH(fixture, name, ...)			\
	FIXTURE_VARIANT_ADD(fixture, name##_off) { .mode = "off", __VA_ARGS__ };	\
	FIXTURE_VARIANT_ADD(fixture, name##_safe) { .mode = "safe", __VA_ARGS__ };	\
	FIXTURE_VARIANT_ADD(fixture, name##_all) { .mode = "all", __VA_ARGS__ }

#define NSP_MODE_VARIANTS(fixture)					\
	NSP_MODE_VARIANT(fixture, off);					\
	NSP_MODE_VARIANT(fixture, safe);				\
	NSP_MODE_VARIANT(fixture, all)

#define NSP_TEST_MAIN(prepare)						\
	static void __attribute__((constructor)) nsp_constructor(void)	\
	{								\
		prepare();						\
	}								\
	TEST_HARNESS_MAIN

#endif /* NSPROXY_TEST_H */
