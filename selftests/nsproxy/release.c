// SPDX-License-Identifier: GPL-2.0-only
/*
 * The promise: with mode=safe as with mode=all no task waits for a grace period
 * because it leaves a namespace or takes a mount off a tree, whichever way it does
 * that, and what nobody else holds is gone when the call has returned.
 *
 * Counted, not timed.  Every operation is run with mode=off too, where it
 * must make its caller wait if it takes a mount off: a counter that sees nothing,
 * or a deferral that is not in the way of the operation, fails there.  What
 * became of each mount must be found in the statistics.
 *
 * Up to Linux 3.16 mode safe keeps the wait for the end of a mount or an IPC
 * namespace, and mode all leaves it to the worker.
 */
#include <sys/fanotify.h>
#include <sys/inotify.h>

#include "disk.h"
#include "namespaces.h"

struct stats {
	long finished;
	long dropped;
	long left;
	long visible;
	long filesystem;
	long superblock;
	long bound;
};

static void read_stats(struct stats *stats)
{
	stats->finished = nsp_num("stats/finished");
	stats->dropped = nsp_num("stats/dropped");
	stats->left = nsp_num("stats/left");
	stats->visible = nsp_num("stats/waited_visible");
	stats->filesystem = nsp_num("stats/waited_filesystem");
	stats->superblock = nsp_num("stats/waited_superblock");
	stats->bound = nsp_num("stats/waited_bound");
}

/* How many there were since @before. */
static struct stats stats_since(const struct stats *before)
{
	struct stats now;

	read_stats(&now);
	now.finished -= before->finished;
	now.dropped -= before->dropped;
	now.left -= before->left;
	now.visible -= before->visible;
	now.filesystem -= before->filesystem;
	now.superblock -= before->superblock;
	now.bound -= before->bound;
	return now;
}

static long unwaited(const struct stats *stats)
{
	return stats->finished + stats->dropped + stats->left;
}

static long waited(const struct stats *stats)
{
	return stats->visible + stats->filesystem + stats->superblock + stats->bound;
}

/* Must nobody wait who leaves namespaces of the kinds @flags? */
static bool may_not_wait(const char *mode, int flags)
{
	if (!strcmp(mode, "off"))
		return false;
	if (!strcmp(mode, "all") || nsp_defers_mounts())
		return true;
	return !(flags & (CLONE_NEWNS | CLONE_NEWIPC));
}

/*
 * Run @fn in a child and hold the count against what @mode promises when @fn
 * leaves namespaces of the kinds @flags, all of them for good.
 */
static void check_release(struct __test_metadata *_metadata, const char *mode,
			  int flags, int (*fn)(void *), void *arg)
{
	bool kills_mnt = flags & CLONE_NEWNS;
	struct stats before, since;
	long gps;

	ASSERT_EQ(0, nsp_set("mode", mode));
	ASSERT_EQ(0, nsp_flush());
	read_stats(&before);
	ASSERT_EQ(0, gp_begin());
	ASSERT_EQ(0, nsp_run(fn, arg));
	gps = gp_end();
	ASSERT_LE(0, gps) {
		TH_LOG("cannot count grace periods: %s", gp_error());
	}
	since = stats_since(&before);
	if (nsp_defers_mounts()) {
		EXPECT_EQ(0, nsp_num("pending"));
		EXPECT_EQ(0, since.left);
	}
	ASSERT_EQ(0, nsp_flush());
	EXPECT_TRUE(nsp_all_released());

	if (may_not_wait(mode, flags)) {
		EXPECT_EQ(0, gps) {
			TH_LOG("the caller waited in:\n%s", gp_calls());
		}
		EXPECT_EQ(0, waited(&since));
		if (kills_mnt)
			EXPECT_LT(0, unwaited(&since));
	}
	if (!strcmp(mode, "off")) {
		if (kills_mnt)
			EXPECT_LT(0, gps);
		EXPECT_EQ(0, unwaited(&since) + waited(&since));
	}
}

FIXTURE(release)
{
	struct nsp_knobs knobs;
};

FIXTURE_VARIANT(release)
{
	const char *mode;
	int flags;
};

#define ALL_BUT_USER							\
	(CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET |	\
	 CLONE_NEWPID | CLONE_NEWCGROUP | CLONE_NEWTIME)

#define VARIANTS(kind, mask) NSP_MODE_VARIANTS_WITH(release, kind, .flags = mask)

VARIANTS(mnt, CLONE_NEWNS);
VARIANTS(uts, CLONE_NEWUTS);
VARIANTS(ipc, CLONE_NEWIPC);
VARIANTS(net, CLONE_NEWNET);
VARIANTS(pid, CLONE_NEWPID);
VARIANTS(user, CLONE_NEWUSER);
VARIANTS(cgroup, CLONE_NEWCGROUP);
VARIANTS(time, CLONE_NEWTIME);
VARIANTS(together, ALL_BUT_USER);

FIXTURE_SETUP(release)
{
	ASSERT_EQ(0, nsp_save(&self->knobs));
}

FIXTURE_TEARDOWN(release)
{
	EXPECT_EQ(0, nsp_restore(&self->knobs));
}

static int do_unshare_twice(void *arg)
{
	int flags = *(int *)arg;

	/* Only a user with an id may make user namespaces. */
	if (flags & CLONE_NEWUSER) {
		CHECK(!nsp_own_user());
		CHECK(!nsp_own_user());
		return 0;
	}
	CHECK(!unshare(flags));
	/* A second CLONE_NEWPID before a fork is EINVAL on every kernel. */
	flags &= ~CLONE_NEWPID;
	CHECK(!unshare(flags ? flags : CLONE_NEWUTS));
	return 0;
}

TEST_F_TIMEOUT(release, unshare_twice, NSP_TIMEOUT)
{
	int flags = nsp_supported(variant->flags);

	if (!flags)
		SKIP(return, NSP_LACKING);
	check_release(_metadata, variant->mode, flags, do_unshare_twice,
		      &flags);
}

static int do_unshare_exit(void *arg)
{
	CHECK(!unshare(*(int *)arg));
	return 0;
}

TEST_F_TIMEOUT(release, unshare_exit, NSP_TIMEOUT)
{
	int flags = nsp_supported(variant->flags);

	if (!flags)
		SKIP(return, NSP_LACKING);
	check_release(_metadata, variant->mode, flags, do_unshare_exit,
		      &flags);
}

static int do_setns_back(void *arg)
{
	int flags = *(int *)arg, fds[ARRAY_SIZE(nsp_kinds)];
	char path[64];
	size_t i;

	for (i = 0; i < ARRAY_SIZE(nsp_kinds); i++) {
		if (!(flags & nsp_kinds[i].flag))
			continue;
		snprintf(path, sizeof(path), "/proc/self/ns/%s",
			 nsp_kinds[i].name);
		fds[i] = open(path, O_RDONLY | O_CLOEXEC);
		CHECK(fds[i] >= 0);
	}
	CHECK(!unshare(flags));
	for (i = 0; i < ARRAY_SIZE(nsp_kinds); i++)
		if (flags & nsp_kinds[i].flag)
			CHECK(!setns(fds[i], nsp_kinds[i].flag));
	return 0;
}

struct target {
	int flags;
	int ready[2];
	int done[2];
};

static int target_life(void *arg)
{
	struct target *target = arg;
	char c;

	CHECK(!unshare(target->flags));
	CHECK(write(target->ready[1], "x", 1) == 1);
	CHECK(read(target->done[0], &c, 1) == 1);
	return 0;
}

static pid_t start_target(struct target *target, int flags)
{
	pid_t pid;
	char c;

	target->flags = flags;
	if (pipe(target->ready) || pipe(target->done))
		return -1;
	pid = nsp_start(target_life, target);
	if (pid < 0 || read(target->ready[0], &c, 1) != 1)
		return -1;
	return pid;
}

static int end_target(struct target *target, pid_t pid)
{
	CHECK(write(target->done[1], "x", 1) == 1);
	return nsp_wait(pid);
}

/* There is no way back to a parent user namespace, only one to a child's. */
static int do_setns_user(void *arg)
{
	struct target target;
	char path[64];
	pid_t pid;
	int fd;

	pid = start_target(&target, *(int *)arg);
	CHECK(pid > 0);
	snprintf(path, sizeof(path), "/proc/%d/ns/user", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	CHECK(fd >= 0);
	CHECK(!setns(fd, CLONE_NEWUSER));
	return end_target(&target, pid);
}

TEST_F_TIMEOUT(release, setns_back, NSP_TIMEOUT)
{
	int flags = nsp_supported(variant->flags);

	if (!flags)
		SKIP(return, NSP_LACKING);
	check_release(_metadata, variant->mode, flags,
		      flags & CLONE_NEWUSER ? do_setns_user : do_setns_back,
		      &flags);
}

static int do_clone_exit(void *arg)
{
	pid_t pid;

	pid = nsp_clone(*(int *)arg);
	CHECK(pid >= 0);
	if (!pid)
		_exit(0);
	return nsp_wait(pid);
}

TEST_F_TIMEOUT(release, clone_exit, NSP_TIMEOUT)
{
	int flags = nsp_supported(variant->flags);

	if (!flags)
		SKIP(return, NSP_LACKING);
	check_release(_metadata, variant->mode, flags, do_clone_exit, &flags);
}

FIXTURE(shared)
{
	struct nsp_knobs knobs;
};

FIXTURE_VARIANT(shared)
{
	const char *mode;
};

NSP_MODE_VARIANTS(shared);

FIXTURE_SETUP(shared)
{
	ASSERT_EQ(0, nsp_save(&self->knobs));
}

FIXTURE_TEARDOWN(shared)
{
	EXPECT_EQ(0, nsp_restore(&self->knobs));
}

#define NR_TASKS 4

static void *thread_exit(void *arg)
{
	return arg;
}

static void *thread_unshare(void *arg)
{
	return unshare(CLONE_NEWNS | CLONE_NEWUTS) ? arg : NULL;
}

static int run_threads(void *(*fn)(void *))
{
	pthread_t threads[NR_TASKS];
	int i, bad = 0;
	void *ret;

	for (i = 0; i < NR_TASKS; i++)
		CHECK(!pthread_create(&threads[i], NULL, fn, &bad));
	for (i = 0; i < NR_TASKS; i++) {
		CHECK(!pthread_join(threads[i], &ret));
		if (fn == thread_unshare && ret)
			bad = 1;
	}
	CHECK(!bad);
	return 0;
}

/* Threads that leave the nsproxy of their process, each for one of its own. */
static int do_threads_unshare(void *arg)
{
	(void)arg;
	return run_threads(thread_unshare);
}

TEST_F_TIMEOUT(shared, threads_unshare, NSP_TIMEOUT)
{
	check_release(_metadata, variant->mode, CLONE_NEWNS,
		      do_threads_unshare, NULL);
}

/* Threads that share one nsproxy to the end: it dies once. */
static int do_threads_exit(void *arg)
{
	(void)arg;
	CHECK(!unshare(CLONE_NEWNS | CLONE_NEWUTS));
	return run_threads(thread_exit);
}

TEST_F_TIMEOUT(shared, threads_exit, NSP_TIMEOUT)
{
	check_release(_metadata, variant->mode, CLONE_NEWNS, do_threads_exit,
		      NULL);
}

static int vm_task(void *arg)
{
	char c;

	return read(*(int *)arg, &c, 1) != 1;
}

/*
 * The task that made the namespaces leaves them while others, which share its
 * memory and nsproxy but are no threads of it, stay: the last of them to exit
 * drops the last reference.
 */
static int do_vm_tasks(void *arg)
{
	const size_t size = 65536;
	pid_t pids[NR_TASKS];
	char *stacks;
	int i, fds[2];

	(void)arg;
	stacks = mmap(NULL, NR_TASKS * size, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(stacks != MAP_FAILED);
	CHECK(!pipe(fds));
	CHECK(!unshare(CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC));
	for (i = 0; i < NR_TASKS; i++) {
		pids[i] = clone(vm_task, stacks + (i + 1) * size,
				CLONE_VM | SIGCHLD, &fds[0]);
		CHECK(pids[i] > 0);
	}
	CHECK(!unshare(CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC));
	for (i = 0; i < NR_TASKS; i++)
		CHECK(write(fds[1], "x", 1) == 1);
	for (i = 0; i < NR_TASKS; i++)
		CHECK(!nsp_wait(pids[i]));
	return 0;
}

TEST_F_TIMEOUT(shared, vm_tasks, NSP_TIMEOUT)
{
	check_release(_metadata, variant->mode, CLONE_NEWNS, do_vm_tasks,
		      NULL);
}

/* Join all namespaces of a task by one call, outlive it, and exit from them. */
static int do_setns_pidfd(void *arg)
{
	int flags = *(int *)arg, pidfd;
	struct target target;
	pid_t pid;

	CHECK(!unshare(flags));
	pid = start_target(&target, flags);
	CHECK(pid > 0);
	pidfd = nsp_pidfd_open(pid);
	CHECK(pidfd >= 0);
	CHECK(!setns(pidfd, flags));
	return end_target(&target, pid);
}

TEST_F_TIMEOUT(shared, setns_pidfd, NSP_TIMEOUT)
{
	int flags = nsp_supported(CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC |
				  CLONE_NEWNET | CLONE_NEWCGROUP);

	const char *why = nsp_needs_setns_pidfd();

	if (why)
		SKIP(return, "%s", why);
	check_release(_metadata, variant->mode, flags, do_setns_pidfd, &flags);
}

/*
 * One operation on what has been prepared, by a task that counts for itself.  That
 * it exits, and takes a namespace of its own with it, is not counted.
 */
struct operation {
	int (*prepare)(void);
	int (*run)(void);
	long gps;
	struct stats since;
	char calls[1024];
};

/* A task that the operation needs, for as long as that takes. */
static pid_t helper;

static int run_operation(void *arg)
{
	struct operation *op = arg;
	struct stats before;

	CHECK(!nsp_own_mounts());
	CHECK(!op->prepare());
	CHECK(!nsp_flush());
	read_stats(&before);
	CHECK(!gp_begin());
	CHECK(!op->run());
	op->gps = gp_end();
	op->since = stats_since(&before);
	CHECK(op->gps >= 0);
	snprintf(op->calls, sizeof(op->calls), "%s", gp_calls());
	return helper ? nsp_end(helper) : 0;
}

static void measure(struct __test_metadata *_metadata, const char *mode,
		    int (*prepare)(void), int (*run)(void),
		    struct operation *result)
{
	struct operation *op = nsp_shared(sizeof(*op));

	ASSERT_NE(NULL, op);
	op->prepare = prepare;
	op->run = run;
	ASSERT_EQ(0, nsp_set("mode", mode));
	ASSERT_EQ(0, nsp_run(run_operation, op));
	*result = *op;
	munmap(op, sizeof(*op));
	ASSERT_EQ(0, nsp_flush());
	EXPECT_TRUE(nsp_all_released());
}

#define EXPECT_NO_WAIT(op)						\
	EXPECT_EQ(0, (op)->gps) {					\
		TH_LOG("the caller waited in:\n%s", (op)->calls);	\
	}

/* Where nothing is deferred there is nothing to read. */
#define EXPECT_COUNTED(n, counter) do {					\
	if (!nsp_waiting())						\
		EXPECT_EQ(n, counter);					\
} while (0)

/* It takes off @finished mounts that nobody holds, and @dropped that its task does. */
static void check_operation(struct __test_metadata *_metadata, const char *mode,
			    int (*prepare)(void), int (*run)(void), long finished,
			    long dropped)
{
	struct operation op;

	measure(_metadata, mode, prepare, run, &op);
	EXPECT_EQ(0, waited(&op.since));
	EXPECT_EQ(0, op.since.left);
	if (!strcmp(mode, "off")) {
		EXPECT_LT(0, op.gps);
		EXPECT_EQ(0, unwaited(&op.since));
		return;
	}
	EXPECT_NO_WAIT(&op);
	EXPECT_COUNTED(finished, op.since.finished);
	EXPECT_COUNTED(dropped, op.since.dropped);
}

FIXTURE(operation)
{
	struct nsp_knobs knobs;
};

FIXTURE_VARIANT(operation)
{
	const char *mode;
};

NSP_MODE_VARIANTS(operation);

FIXTURE_SETUP(operation)
{
	ASSERT_EQ(0, nsp_save(&self->knobs));
}

FIXTURE_TEARDOWN(operation)
{
	EXPECT_EQ(0, nsp_restore(&self->knobs));
}

/* In the tests, since not every harness stops for a SKIP in the setup. */
#define NEEDS_MOUNTS() do {						\
	if (!nsp_defers_mounts())					\
		SKIP(return, "up to Linux 3.16 no mount is deferred by itself"); \
} while (0)

static int mount_tmpfs(void)
{
	CHECK(!mount("none", "/tmp", "tmpfs", 0, NULL));
	return 0;
}

static int umount_it(void)
{
	CHECK(!umount("/tmp"));
	return 0;
}

static int detach_it(void)
{
	CHECK(!umount2("/tmp", MNT_DETACH));
	return 0;
}

TEST_F_TIMEOUT(operation, umount, NSP_TIMEOUT)
{
	NEEDS_MOUNTS();
	check_operation(_metadata, variant->mode, mount_tmpfs, umount_it, 1, 0);
}

TEST_F_TIMEOUT(operation, detach, NSP_TIMEOUT)
{
	NEEDS_MOUNTS();
	check_operation(_metadata, variant->mode, mount_tmpfs, detach_it, 1, 0);
}

/* A file that is opened by its handle, and was not in memory, as the root of a mount. */
static int mount_handle(void)
{
	char room[sizeof(struct file_handle) + MAX_HANDLE_SZ], path[64];
	struct file_handle *handle = (void *)room;
	struct disk disk;
	int id, dir, fd;

	CHECK(!mount_tmpfs() && !mkdir("/tmp/disk", 0700) && !mknod("/tmp/file", S_IFREG, 0));
	CHECK(!disk_make(&disk, "/tmp"));
	CHECK(!mount(disk.dev, "/tmp/disk", "ext4", 0, NULL));
	CHECK(!mknod("/tmp/disk/file", S_IFREG | 0600, 0));
	handle->handle_bytes = MAX_HANDLE_SZ;
	CHECK(!name_to_handle_at(AT_FDCWD, "/tmp/disk/file", handle, &id, 0));
	CHECK(!umount("/tmp/disk") && !mount(disk.dev, "/tmp/disk", "ext4", 0, NULL));
	dir = open("/tmp/disk", O_RDONLY | O_CLOEXEC);
	fd = open_by_handle_at(dir, handle, O_RDONLY | O_CLOEXEC);
	CHECK(dir >= 0 && fd >= 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	CHECK(!mount(path, "/tmp/file", NULL, MS_BIND, NULL));
	close(fd);
	close(dir);
	disk_drop(&disk);
	return 0;
}

static int umount_file(void)
{
	CHECK(!umount("/tmp/file"));
	return 0;
}

TEST_F_TIMEOUT(operation, umount_of_a_handle, NSP_TIMEOUT)
{
	struct operation op;

	NEEDS_MOUNTS();
	if (!disk_has_filesystem("ext4"))
		SKIP(return, "no ext4 here");
	if (nsp_linux(4, 19)) {
		check_operation(_metadata, variant->mode, mount_handle, umount_file, 1, 0);
		return;
	}
	/* There it is freed at once, if not in RHEL's 4.18, and who walks there may be in it. */
	measure(_metadata, variant->mode, mount_handle, umount_file, &op);
	if (!nsp_linux(4, 18))
		EXPECT_LT(0, op.gps);
	EXPECT_EQ(!op.gps, unwaited(&op.since));
}

/* The number of the mount that was put on @path last. */
static int mount_id(const char *path)
{
	char line[512], where[256];
	int id, found = -1;
	FILE *file = fopen("/proc/self/mountinfo", "r");

	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, "%d %*d %*s %*s %255s", &id, where) == 2 && !strcmp(where, path))
			found = id;
	if (file)
		fclose(file);
	return found;
}

static int unlink_later(void *arg)
{
	const int *go = arg;

	CHECK(nsp_hear(go[0]) == 1);
	CHECK(!unlink("/tmp/clone"));
	return 0;
}

/*
 * Unless the kernel sees to it, a clone of a mount that is unmounted is marked like that one,
 * and the removal of what it is mounted on then leaves it in its namespace for ever. Is its
 * number free?
 */
static int remove_clone(void *arg)
{
	int *freed = arg, go[2], fd, id, last, i;
	char path[64];
	pid_t other;

	CHECK(!nsp_own_mounts() && !mount_tmpfs());
	CHECK(!mknod("/tmp/first", S_IFREG, 0) && !mknod("/tmp/clone", S_IFREG, 0));
	CHECK(!pipe2(go, O_CLOEXEC));
	other = nsp_start_in(CLONE_NEWNS, unlink_later, go);
	CHECK(other > 0);
	CHECK(!mount("/proc/self/ns/uts", "/tmp/first", NULL, MS_BIND, NULL));
	fd = open("/tmp/first", O_RDONLY | O_CLOEXEC);
	CHECK(fd >= 0 && !umount2("/tmp/first", MNT_DETACH));
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	CHECK(!mount(path, "/tmp/clone", NULL, MS_BIND, NULL));
	close(fd);
	id = mount_id("/tmp/clone");
	CHECK(id >= 0 && !nsp_tell(go[1], 1) && !nsp_wait(other));
	/* The lowest that is free is taken. */
	for (i = 0, last = -1; i < 500 && last < id; i++) {
		CHECK(!mount("/tmp/first", "/tmp/first", NULL, MS_BIND, NULL));
		last = mount_id("/tmp/first");
	}
	*freed = last == id;
	return 0;
}

TEST_F_TIMEOUT(operation, removal_of_a_clone, NSP_TIMEOUT)
{
	int *freed = nsp_shared(sizeof(*freed));
	int on_stock;

	NEEDS_MOUNTS();
	ASSERT_NE(NULL, freed);
	ASSERT_EQ(0, nsp_set("mode", "off"));
	ASSERT_EQ(0, nsp_run(remove_clone, freed));
	on_stock = *freed;
	ASSERT_EQ(0, nsp_set("mode", variant->mode));
	ASSERT_EQ(0, nsp_run(remove_clone, freed));
	TH_LOG("on stock it %s", on_stock ? "goes" : "stays");
	EXPECT_EQ(on_stock, *freed);
	munmap(freed, sizeof(*freed));
}

static int mount_tree(void)
{
	CHECK(!mount_tmpfs());
	CHECK(!mkdir("/tmp/tmpfs", 0700) && !mkdir("/tmp/bind", 0700));
	CHECK(!mount("none", "/tmp/tmpfs", "tmpfs", 0, NULL));
	CHECK(!mkdir("/tmp/tmpfs/proc", 0700));
	CHECK(!mount("/proc", "/tmp/tmpfs/proc", NULL, MS_BIND, NULL));
	CHECK(!mount("/tmp/tmpfs", "/tmp/bind", NULL, MS_BIND, NULL));
	return 0;
}

TEST_F_TIMEOUT(operation, detach_tree, NSP_TIMEOUT)
{
	NEEDS_MOUNTS();
	check_operation(_metadata, variant->mode, mount_tree, detach_it, 4, 0);
}

/* Stand in it, and have two files in it open, one of them twice. */
static int stand_in_it(const char *path)
{
	int fd;

	CHECK(!chdir(path));
	fd = open("file", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	CHECK(fd >= 0 && dup(fd) >= 0);
	CHECK(open(".", O_PATH | O_CLOEXEC) >= 0);
	return 0;
}

static int stand_in_tmpfs(void)
{
	CHECK(!mount_tmpfs());
	return stand_in_it("/tmp");
}

TEST_F_TIMEOUT(operation, detach_own, NSP_TIMEOUT)
{
	NEEDS_MOUNTS();
	check_operation(_metadata, variant->mode, stand_in_tmpfs, detach_it, 0, 1);
}

static int detach_root(void *arg)
{
	(void)arg;
	CHECK(!stand_in_it("/tmp"));
	CHECK(!chroot("/tmp"));
	CHECK(!umount2("/", MNT_DETACH));
	return 0;
}

/* By a child, since here the statistics must stay in reach. */
static int have_root_detached(void)
{
	return nsp_run(detach_root, NULL);
}

TEST_F_TIMEOUT(operation, detach_own_root, NSP_TIMEOUT)
{
	NEEDS_MOUNTS();
	check_operation(_metadata, variant->mode, mount_tmpfs, have_root_detached, 0, 1);
}

static void *thread_stay(void *arg)
{
	for (;;)
		pause();
	return arg;
}

/* The threads have its table of files, and its root and working directory, too. */
static int stand_with_threads(void)
{
	pthread_t thread;
	int i;

	CHECK(!stand_in_tmpfs());
	for (i = 0; i < NR_TASKS; i++)
		CHECK(!pthread_create(&thread, NULL, thread_stay, NULL));
	return 0;
}

TEST_F_TIMEOUT(operation, detach_own_of_threads, NSP_TIMEOUT)
{
	NEEDS_MOUNTS();
	check_operation(_metadata, variant->mode, stand_with_threads, detach_it, 0, 1);
}

static int old_root = -1;

/* As runtimes of containers do it: by the files that they have of both roots. */
static int leave_old_root(void)
{
	old_root = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CHECK(old_root >= 0);
	CHECK(!mount("/", "/tmp", NULL, MS_BIND | MS_REC, NULL));
	CHECK(!chdir("/tmp"));
	CHECK(!syscall(SYS_pivot_root, ".", "."));
	CHECK(!fchdir(old_root));
	return 0;
}

static int detach_old_root(void)
{
	CHECK(!umount2(".", MNT_DETACH));
	CHECK(!chdir("/"));
	CHECK(!close(old_root));
	return 0;
}

static int try_pivot_root(void *arg)
{
	(void)arg;
	CHECK(!nsp_own_mounts());
	return leave_old_root();
}

TEST_F_TIMEOUT(operation, detach_old_root, NSP_TIMEOUT)
{
	struct operation op;

	NEEDS_MOUNTS();
	if (nsp_run(try_pivot_root, NULL))
		SKIP(return, "the root is the initial file system, which cannot be left");
	measure(_metadata, variant->mode, leave_old_root, detach_old_root, &op);
	EXPECT_EQ(0, waited(&op.since));
	EXPECT_EQ(0, op.since.left);
	if (!strcmp(variant->mode, "off")) {
		EXPECT_LT(0, op.gps);
		EXPECT_EQ(0, unwaited(&op.since));
		return;
	}
	EXPECT_NO_WAIT(&op);
	/* What was mounted below it, and itself. */
	if (!nsp_waiting())
		EXPECT_LT(0, op.since.finished);
	EXPECT_COUNTED(1, op.since.dropped);
}

/* A folder that is a mountpoint in a namespace of others only. */
#define ELSEWHERE "/tmp/elsewhere"

static int mount_elsewhere(void *arg)
{
	CHECK(!nsp_own_mounts());
	CHECK(!mount("none", ELSEWHERE, "tmpfs", 0, NULL));
	CHECK(write(*(int *)arg, "x", 1) == 1);
	return nsp_stay(NULL);
}

static int have_helper(int (*fn)(void *))
{
	int fds[2];
	char c;

	CHECK(!pipe(fds));
	helper = nsp_start(fn, &fds[1]);
	CHECK(helper > 0);
	CHECK(read(fds[0], &c, 1) == 1);
	return 0;
}

static int have_mounted_elsewhere(void)
{
	CHECK(!mount_tmpfs() && !mkdir(ELSEWHERE, 0700));
	return have_helper(mount_elsewhere);
}

static int remove_folder(void)
{
	CHECK(!rmdir(ELSEWHERE));
	return 0;
}

TEST_F_TIMEOUT(operation, rmdir, NSP_TIMEOUT)
{
	NEEDS_MOUNTS();
	if (!nsp_linux(3, 18))
		SKIP(return, "a directory that others mount on is busy up to Linux 3.17");
	check_operation(_metadata, variant->mode, have_mounted_elsewhere, remove_folder,
			1, 0);
}

static int tree = -1;

/* Of a tmpfs that is mounted nowhere else any more. */
static int open_tree_of_tmpfs(void)
{
	CHECK(!mount_tmpfs());
	tree = nsp_open_tree("/tmp");
	CHECK(tree >= 0);
	CHECK(!umount("/tmp"));
	return 0;
}

static int close_tree(void)
{
	CHECK(!close(tree));
	return 0;
}

TEST_F_TIMEOUT(operation, close_tree, NSP_TIMEOUT)
{
	if (!nsp_linux(5, 2))
		SKIP(return, "open_tree() came with Linux 5.2");
	check_operation(_metadata, variant->mode, open_tree_of_tmpfs, close_tree, 1, 0);
}

/*
 * The end of a program that came with the namespace, which the task lets go of on
 * its way out and no sooner: it runs from there, and has mapped a file.
 */
#define PROGRAM "/tmp/program"
#define ENDS_AT_ONCE "NSPROXY_TEST_ENDS_AT_ONCE"

static int copy_program(void)
{
	int from = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	int to = open(PROGRAM, O_WRONLY | O_CREAT | O_CLOEXEC, 0700);
	char buf[65536];
	ssize_t n;

	CHECK(from >= 0 && to >= 0);
	while ((n = read(from, buf, sizeof(buf))) > 0)
		CHECK(write(to, buf, n) == n);
	CHECK(!n && !close(from) && !close(to));
	return 0;
}

static int become_program(void *arg)
{
	char *const argv[] = { PROGRAM, NULL }, *const env[] = { ENDS_AT_ONCE "=1", NULL };

	(void)arg;
	CHECK(!nsp_own_mounts() && !mount_tmpfs() && !copy_program());
	return execve(PROGRAM, argv, env);
}

/* What execve() above comes to. */
static int end_at_once(void)
{
	int fd = open(PROGRAM, O_RDONLY);
	void *map;

	CHECK(fd >= 0);
	map = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0);
	CHECK(map != MAP_FAILED);
	CHECK(!memcmp(map, "\177ELF", 4));
	return 0;
}

TEST_F_TIMEOUT(operation, exit_of_program, NSP_TIMEOUT)
{
	check_release(_metadata, variant->mode, CLONE_NEWNS, become_program, NULL);
}

/* In the same namespaces, and with nothing open. */
static int stand_there(void *arg)
{
	CHECK(!chdir("/tmp"));
	CHECK(write(*(int *)arg, "x", 1) == 1);
	return nsp_stay(NULL);
}

static int have_it_held(void)
{
	return have_helper(stand_there);
}

/* What is left to the worker in which mode, and what has to be waited for? */
static void check_held(struct __test_metadata *_metadata, const char *mode,
		       bool left_in_safe, int (*prepare)(void), int (*run)(void))
{
	struct operation op;

	measure(_metadata, mode, prepare, run, &op);
	EXPECT_EQ(0, op.since.dropped + op.since.filesystem + op.since.superblock +
		     op.since.bound);
	if (!strcmp(mode, "off")) {
		EXPECT_LT(0, op.gps);
		EXPECT_EQ(0, unwaited(&op.since) + waited(&op.since));
	} else if (!strcmp(mode, "all") || left_in_safe) {
		EXPECT_NO_WAIT(&op);
		EXPECT_COUNTED(1, op.since.left);
		EXPECT_EQ(0, op.since.visible);
	} else {
		EXPECT_LT(0, op.gps);
		EXPECT_EQ(0, op.since.left);
		EXPECT_COUNTED(1, op.since.visible);
	}
}

static int hold_bind(void)
{
	CHECK(!mount(nsp_whole(), "/tmp", NULL, MS_BIND, NULL));
	return have_it_held();
}

/* Its superblock stays, and nobody can tell when the mount itself goes. */
TEST_F_TIMEOUT(operation, detach_held, NSP_TIMEOUT)
{
	NEEDS_MOUNTS();
	check_held(_metadata, variant->mode, true, hold_bind, detach_it);
}

/* Until its process ends: the descriptor stays open. */
static int mark(const char *path, unsigned int kind)
{
	int fd = fanotify_init(FAN_CLASS_NOTIF | FAN_CLOEXEC, O_RDONLY);

	if (fd < 0)
		return -1;
	return fanotify_mark(fd, FAN_MARK_ADD | kind, FAN_CLOSE_WRITE, AT_FDCWD, path);
}

static int hold_marked(void)
{
	CHECK(!hold_bind());
	CHECK(!mark("/tmp", FAN_MARK_MOUNT));
	return 0;
}

/* The mark goes with it, and who has set that sees it go. */
TEST_F_TIMEOUT(operation, detach_held_marked, NSP_TIMEOUT)
{
	int fd;

	NEEDS_MOUNTS();
	fd = fanotify_init(FAN_CLASS_NOTIF | FAN_CLOEXEC, O_RDONLY);
	if (fd < 0)
		SKIP(return, "no fanotify here: %s", strerror(errno));
	close(fd);
	check_held(_metadata, variant->mode, false, hold_marked, detach_it);
}

static int hold_accounted(void)
{
	CHECK(!hold_bind());
	close(open("/tmp/acct", O_RDWR | O_CREAT | O_CLOEXEC, 0600));
	CHECK(!acct("/tmp/acct"));
	return 0;
}

/* Process accounting ends with the mount that its file is in. */
TEST_F_TIMEOUT(operation, detach_held_accounted, NSP_TIMEOUT)
{
	NEEDS_MOUNTS();
	if (access("/proc/sys/kernel/acct", F_OK))
		SKIP(return, "this kernel has no acct(2) (CONFIG_BSD_PROCESS_ACCT)");
	check_held(_metadata, variant->mode, false, hold_accounted, detach_it);
	acct(NULL);
}

static int hold_directory(void)
{
	CHECK(!mount_tmpfs() && !mkdir("/tmp/dir", 0700));
	CHECK(!mount("/tmp/dir", "/tmp", NULL, MS_BIND, NULL));
	return have_it_held();
}

/* It can be removed, and then is there until the mount goes. */
TEST_F_TIMEOUT(operation, detach_held_directory, NSP_TIMEOUT)
{
	NEEDS_MOUNTS();
	check_held(_metadata, variant->mode, false, hold_directory, detach_it);
}

static int open_and_stay(void *arg)
{
	CHECK(open("/tmp/file", O_RDONLY | O_CLOEXEC) >= 0);
	CHECK(write(*(int *)arg, "x", 1) == 1);
	return nsp_stay(NULL);
}

static int hold_file(void)
{
	CHECK(!mount_tmpfs());
	close(open("/tmp/file", O_RDWR | O_CREAT | O_CLOEXEC, 0600));
	CHECK(!mount("/tmp/file", "/tmp/file", NULL, MS_BIND, NULL));
	return have_helper(open_and_stay);
}

static int detach_file(void)
{
	CHECK(!umount2("/tmp/file", MNT_DETACH));
	return 0;
}

/* The file can be removed, and who holds it may be the last who does. */
TEST_F_TIMEOUT(operation, detach_held_file, NSP_TIMEOUT)
{
	NEEDS_MOUNTS();
	check_held(_metadata, variant->mode, false, hold_file, detach_file);
}

static int hold_tmpfs(void)
{
	CHECK(!mount_tmpfs());
	return have_it_held();
}

/* Whoever holds it may let go at any time, and shuts the file system down. */
TEST_F_TIMEOUT(operation, detach_held_last, NSP_TIMEOUT)
{
	NEEDS_MOUNTS();
	check_held(_metadata, variant->mode, false, hold_tmpfs, detach_it);
}

static int prepare_nothing(void)
{
	return 0;
}

static int exit_from_bind(void)
{
	CHECK(nsp_hold_mounts(1, NULL));
	return 0;
}

TEST_F_TIMEOUT(operation, exit_held, NSP_TIMEOUT)
{
	NEEDS_MOUNTS();
	check_held(_metadata, variant->mode, true, prepare_nothing, exit_from_bind);
}

static int exit_from_tmpfs(void)
{
	CHECK(nsp_hold_mounts(1, "tmpfs"));
	return 0;
}

TEST_F_TIMEOUT(operation, exit_held_last, NSP_TIMEOUT)
{
	NEEDS_MOUNTS();
	check_held(_metadata, variant->mode, false, prepare_nothing, exit_from_tmpfs);
}

static int mount_proc(void *arg)
{
	(void)arg;
	CHECK(!mount("none", "/tmp", "proc", 0, NULL));
	return 0;
}

/* That of another pid namespace, which is mounted nowhere else. */
static int hold_proc(void)
{
	CHECK(!nsp_run_in(CLONE_NEWPID, mount_proc, NULL));
	return have_it_held();
}

/* There is nothing in it that could come late. */
TEST_F_TIMEOUT(operation, detach_held_proc, NSP_TIMEOUT)
{
	NEEDS_MOUNTS();
	if (!nsp_supported(CLONE_NEWPID))
		SKIP(return, NSP_LACKING);
	check_held(_metadata, variant->mode, true, hold_proc, detach_it);
}

static int hold_marked_proc(void)
{
	CHECK(!hold_proc());
	CHECK(!mark("/tmp", FAN_MARK_FILESYSTEM));
	return 0;
}

/* ... but the mark of who watches all of it. */
TEST_F_TIMEOUT(operation, detach_held_marked_proc, NSP_TIMEOUT)
{
	NEEDS_MOUNTS();
	if (!nsp_supported(CLONE_NEWPID))
		SKIP(return, NSP_LACKING);
	if (mark("/proc", FAN_MARK_FILESYSTEM))
		SKIP(return, "fanotify here marks no file systems: %s", strerror(errno));
	check_held(_metadata, variant->mode, false, hold_marked_proc, detach_it);
}

/* As runtimes of containers do it with the files that are to be read only. */
static int bind_in_proc(void)
{
	CHECK(!nsp_run_in(CLONE_NEWPID, mount_proc, NULL));
	CHECK(!mount("/tmp/version", "/tmp/version", NULL, MS_BIND, NULL));
	return 0;
}

TEST_F_TIMEOUT(operation, detach_file_of_proc, NSP_TIMEOUT)
{
	struct operation op;

	NEEDS_MOUNTS();
	if (!nsp_supported(CLONE_NEWPID))
		SKIP(return, NSP_LACKING);
	measure(_metadata, variant->mode, bind_in_proc, detach_it, &op);
	EXPECT_EQ(0, waited(&op.since));
	if (!strcmp(variant->mode, "off")) {
		EXPECT_LT(0, op.gps);
		EXPECT_EQ(0, unwaited(&op.since));
		return;
	}
	EXPECT_NO_WAIT(&op);
	/* Before 6.9 somebody may be inside without a reference, but where it is patched. */
	EXPECT_COUNTED(2, nsp_linux(6, 9) || nsp_built_in() ?
			  op.since.finished : op.since.left);
}

/*
 * Up to 5.7 the inodes of proc are in no list of their superblock: who watches one is not
 * told of its end, and uses freed memory afterwards. What is maintained is mended by
 * ef1548adada5, which it got in June 2020.
 */
static bool proc_tells(void)
{
	static const int mended[][3] = {
		{ 4, 9, 228 }, { 4, 14, 185 }, { 4, 19, 129 }, { 5, 4, 48 },
	};
	int version[3];
	size_t i;

	nsp_version(version);
	for (i = 0; i < ARRAY_SIZE(mended); i++)
		if (version[0] == mended[i][0] && version[1] == mended[i][1])
			return version[2] >= mended[i][2];
	return nsp_linux(5, 8);
}

static int watch_proc(void)
{
	int fd = inotify_init1(IN_CLOEXEC);

	CHECK(!nsp_run_in(CLONE_NEWPID, mount_proc, NULL));
	CHECK(fd >= 0 && inotify_add_watch(fd, "/tmp/version", IN_OPEN) >= 0);
	return 0;
}

/*
 * Before 6.9 it must not be shut down while somebody may be inside without a
 * reference, unless it was patched, and here is one who is told when it is.  What
 * umount(2) takes off is never late.
 */
static void check_watched(struct __test_metadata *_metadata, const char *mode,
			  int (*take_off)(void), bool late_in_all)
{
	bool is_safe = nsp_linux(6, 9) || nsp_built_in(), late;
	struct operation op;

	if (!nsp_supported(CLONE_NEWPID))
		SKIP(return, NSP_LACKING);
	if (!proc_tells())
		SKIP(return, "here a watch of proc outlives it, in freed memory");
	late = late_in_all && !strcmp(mode, "all");
	measure(_metadata, mode, watch_proc, take_off, &op);
	if (!strcmp(mode, "off")) {
		EXPECT_LT(0, op.gps);
		EXPECT_EQ(0, unwaited(&op.since) + waited(&op.since));
	} else if (is_safe) {
		EXPECT_NO_WAIT(&op);
		EXPECT_COUNTED(1, op.since.finished);
	} else if (late) {
		EXPECT_NO_WAIT(&op);
		EXPECT_COUNTED(1, op.since.left);
	} else {
		EXPECT_LT(0, op.gps);
		EXPECT_COUNTED(1, op.since.filesystem);
	}
}

TEST_F_TIMEOUT(operation, umount_watched_proc, NSP_TIMEOUT)
{
	NEEDS_MOUNTS();
	check_watched(_metadata, variant->mode, umount_it, false);
}

TEST_F_TIMEOUT(operation, detach_watched_proc, NSP_TIMEOUT)
{
	NEEDS_MOUNTS();
	check_watched(_metadata, variant->mode, detach_it, true);
}

static int open_tmp(void *arg)
{
	CHECK(!nsp_own_mounts());
	*(int *)arg = open("/tmp", O_PATH | O_CLOEXEC);
	CHECK(*(int *)arg >= 0);
	return 0;
}

/*
 * Leave one mount of a superblock to the worker, and take off the last one that
 * there is in a namespace, until that has happened within a grace period.
 */
static int umount_after_left(void)
{
	long before = nsp_num("stats/waited_superblock");
	int *fd = nsp_shared(sizeof(*fd)), tries;

	CHECK(fd);
	for (tries = 0; tries < 1000; tries++) {
		CHECK(!mount_tmpfs());
		CHECK(!nsp_run_in(CLONE_FILES, open_tmp, fd));
		CHECK(!close(*fd));
		CHECK(!umount("/tmp"));
		if (nsp_num("stats/waited_superblock") != before || nsp_waiting())
			break;
	}
	return 0;
}

FIXTURE(outlast)
{
	struct nsp_knobs knobs;
};

FIXTURE_VARIANT(outlast)
{
	const char *mode;
};

NSP_MODE_VARIANT(outlast, safe);
NSP_MODE_VARIANT(outlast, all);

FIXTURE_SETUP(outlast)
{
	ASSERT_EQ(0, nsp_save(&self->knobs));
}

FIXTURE_TEARDOWN(outlast)
{
	EXPECT_EQ(0, nsp_restore(&self->knobs));
}

/* Who takes the last one off by umount(2) outlasts what is left. */
TEST_F_TIMEOUT(outlast, umount_after_left, NSP_TIMEOUT)
{
	struct operation op;

	NEEDS_MOUNTS();
	measure(_metadata, variant->mode, prepare_nothing, umount_after_left, &op);
	EXPECT_EQ(0, op.since.visible + op.since.filesystem + op.since.bound);
	EXPECT_COUNTED(1, op.since.superblock);
}

static void prepare(void)
{
	if (getenv(ENDS_AT_ONCE))
		_exit(end_at_once());
	nsp_prepare_count();
}

NSP_TEST_MAIN(prepare)
