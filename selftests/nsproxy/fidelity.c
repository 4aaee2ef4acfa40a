// SPDX-License-Identifier: GPL-2.0-only
/*
 * The promise: what a program may rely on when the call has returned.
 *
 * A task mounts something where nobody else sees it and leaves it: by exit, by
 * setns(2), by unshare(2) and umount(2), by umount2(MNT_DETACH), alone and with
 * others that share it.  When that has returned, the file system is shut down, and
 * whatever shows that is tried at once: its daemon, its directories, its memory,
 * its watches; what becomes of its device is tried by "devices".
 *
 * With mode=off and mode=safe every row holds as it stands.  With mode=all it
 * holds after a write to flush, and nothing else is as good: umount(2) ends what
 * it takes off itself, if that.  Every row is run in all three.
 *
 * The races: the worker that shuts a file system down and the next user of what
 * it holds; two namespaces with one superblock between them, each of which takes
 * the other for the one that stays.
 */
#include "fuse.h"
#include "row.h"

#include <sys/fanotify.h>
#include <sys/inotify.h>
#include <sys/shm.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>

#ifndef __NR_open_tree
#define __NR_open_tree 428
#endif
#ifndef __NR_move_mount
#define __NR_move_mount 429
#endif
#ifndef OPEN_TREE_CLONE
#define OPEN_TREE_CLONE 1
#endif
#ifndef MOVE_MOUNT_F_EMPTY_PATH
#define MOVE_MOUNT_F_EMPTY_PATH 4
#endif

/* tmpfs: the memory; 16 MB against counters that are off by less than 1 MB. */
static int memory_is_back(const struct row *row)
{
	CHECK(nsp_meminfo("Shmem") < row->arg + 8 * 1024);
	return 0;
}

TEST_F_TIMEOUT(fidelity, tmpfs_gives_memory_back, NSP_TIMEOUT)
{
	struct row row = self->row;

	row.type = "tmpfs";
	row.size = 16 << 20;
	row.check = memory_is_back;
	row.arg = nsp_meminfo("Shmem");
	EXPECT_EQ(0, run_row(&row));
}

/*
 * Nor does what the dead had in memory count against the living of their cgroup,
 * until one of these is killed for it.
 */
struct group {
	char dir[96];
	struct row row;
};

static int group_put(const struct group *group, const char *file,
		     const char *value)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", group->dir, file);
	return nsp_put(path, value);
}

/* The number after @key in a file of the group, or alone there. */
static long group_num(const struct group *group, const char *file,
		      const char *key)
{
	char path[128], line[128];
	long n = -1;
	FILE *stream;

	snprintf(path, sizeof(path), "%s/%s", group->dir, file);
	stream = fopen(path, "r");
	if (!stream)
		return -1;
	while (fgets(line, sizeof(line), stream))
		if (!strncmp(line, key, strlen(key)))
			n = atol(line + strlen(key));
	fclose(stream);
	return n;
}

#define GROUP_MAX (64 << 20)
#define GROUP_USE (30 << 20)

static int group_is_empty(const struct row *row)
{
	CHECK(group_num(row->data, "memory.current", "") < GROUP_USE / 2);
	CHECK(group_num(row->data, "memory.events", "oom_kill ") <= 0);
	return 0;
}

static int live_in_group(void *arg)
{
	struct group *group = arg;

	CHECK(!group_put(group, "cgroup.procs", "0"));
	return run_row(&group->row) ? 1 : 0;
}

static bool has_memory_controller(const char *mnt)
{
	char path[128], text[256];

	snprintf(path, sizeof(path), "%s/cgroup.controllers", mnt);
	if (nsp_get(path, text, sizeof(text)) || !strstr(text, "memory"))
		return false;
	snprintf(path, sizeof(path), "%s/cgroup.subtree_control", mnt);
	return !nsp_put(path, "+memory");
}

TEST_F_TIMEOUT(fidelity, memory_cgroup_is_not_full, NSP_TIMEOUT)
{
	struct group group = {
		.row = {
			.dev = "none",
			.mnt = self->at.mnt,
			.type = "tmpfs",
			.size = GROUP_USE,
			.flush = self->flush,
			.rounds = 2 * self->rounds,
			.check = group_is_empty,
			.data = &group,
		},
	};
	char cgroup[80], max[32];

	snprintf(cgroup, sizeof(cgroup), "%s/cgroup", self->at.dir);
	ASSERT_EQ(0, mkdir(cgroup, 0700));
	if (mount("none", cgroup, "cgroup2", 0, NULL))
		SKIP(return, "no cgroup2 here (it came with Linux 4.5)");
	if (!has_memory_controller(cgroup)) {
		umount(cgroup);
		SKIP(return, "no memory controller of cgroup2 here");
	}
	snprintf(group.dir, sizeof(group.dir), "%s/nsproxy.%d", cgroup,
		 (int)getpid());
	ASSERT_EQ(0, mkdir(group.dir, 0700));
	snprintf(max, sizeof(max), "%d", GROUP_MAX);
	ASSERT_EQ(0, group_put(&group, "memory.max", max));
	EXPECT_EQ(0, nsp_run(live_in_group, &group));
	EXPECT_GE(0, group_num(&group, "memory.events", "oom_kill "));
	/* Who has just died may be in it still. */
	while (rmdir(group.dir) && errno == EBUSY)
		usleep(1000);
	EXPECT_EQ(0, umount(cgroup));
}

/* overlay: with an index it insists that its directories are not in use. */
static int mounts_overlay_again(const struct row *row)
{
	CHECK(!mount(row->dev, row->mnt, row->type, 0, row->options));
	return umount_row(row);
}

TEST_F_TIMEOUT(fidelity, overlay_mounts_again, NSP_TIMEOUT)
{
	static const char *const subs[] = { "lower", "upper", "work" };
	char options[512], path[128];
	struct row row = self->row;
	size_t i;

	row.type = "overlay";
	row.options = options;
	row.check = mounts_overlay_again;
	for (i = 0; i < ARRAY_SIZE(subs); i++) {
		snprintf(path, sizeof(path), "%s/%s", self->at.dir, subs[i]);
		ASSERT_EQ(0, mkdir(path, 0700));
	}
	snprintf(options, sizeof(options),
		 "lowerdir=%s/lower,upperdir=%s/upper,workdir=%s/work,index=on",
		 self->at.dir, self->at.dir, self->at.dir);
	if (mount("none", self->at.mnt, "overlay", 0, options))
		SKIP(return, "no overlay with index=on here: %s",
		     strerror(errno));
	ASSERT_EQ(0, umount(self->at.mnt));
	EXPECT_EQ(0, run_row(&row));
}

/* FUSE: the daemon reads ENODEV when its connection has come to its end. */
static int mount_fuse(const struct row *row)
{
	struct fuse_in_header header;
	char options[128];

	snprintf(options, sizeof(options),
		 "fd=%ld,rootmode=40000,user_id=0,group_id=0", row->arg);
	CHECK(!mount(row->dev, row->mnt, row->type, 0, options));
	CHECK(!fuse_read_request(row->arg, &header));
	CHECK(header.opcode == FUSE_INIT);
	return fuse_answer_init(row->arg, &header, 0);
}

static int fuse_is_over(const struct row *row)
{
	struct fuse_in_header header;
	int fd;

	/* From now on the end must be there; so do not wait for it. */
	CHECK(!fcntl(row->arg, F_SETFL, O_NONBLOCK));
	while (!fuse_read_request(row->arg, &header))
		;
	CHECK(errno == ENODEV);
	/* The next connection takes the place of this one. */
	fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	CHECK(fd >= 0);
	CHECK(dup2(fd, row->arg) == row->arg);
	CHECK(!close(fd));
	return 0;
}

TEST_F_TIMEOUT(fidelity, fuse_daemon_sees_the_end, NSP_TIMEOUT)
{
	struct row row = self->row;

	row.type = "fuse";
	row.mount = mount_fuse;
	row.check = fuse_is_over;
	if (access("/dev/fuse", F_OK))
		SKIP(return, "no /dev/fuse: this kernel has no FUSE");
	row.arg = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, row.arg);
	EXPECT_EQ(0, run_row(&row));
	close(row.arg);
}

/*
 * What everybody does all day, and nobody else's file system may hold up.  There is
 * no time in this: who waits for one that hangs, until he gives up, is not through
 * with so many of them before the test is over.
 */
#define HANGS 10

static int live_shortly(void *arg)
{
	CHECK(!nsp_own_mounts());
	CHECK(!mount("none", arg, "tmpfs", 0, NULL));
	return 0;
}

static int live_as_usual(void *arg)
{
	int fd, here = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
	char usual[128], from[160], to[160];
	const char *dir = arg;

	CHECK(here >= 0);
	snprintf(usual, sizeof(usual), "%s/usual", dir);
	snprintf(from, sizeof(from), "%s/usual.from", dir);
	snprintf(to, sizeof(to), "%s/usual.to", dir);
	CHECK(!nsp_own_mounts());
	CHECK(!mkdir(usual, 0700) || errno == EEXIST);
	CHECK(!mount("none", usual, "tmpfs", 0, NULL));
	CHECK(!umount(usual));
	CHECK(!mount("none", usual, "tmpfs", 0, NULL));
	CHECK(!umount2(usual, MNT_DETACH));
	CHECK(!nsp_run(live_shortly, usual));
	fd = open(from, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	CHECK(fd >= 0);
	CHECK(!close(fd));
	CHECK(!rename(from, to));
	CHECK(!unlink(to));
	CHECK(!mkdir(to, 0700));
	CHECK(!rmdir(to));
	CHECK(!unshare(CLONE_NEWNS));
	CHECK(!setns(here, CLONE_NEWNS));
	CHECK(!close(here));
	return 0;
}

/*
 * A shutdown that takes its time, as one over a network does: FUSE on a block
 * device waits for its daemon.  Who waits for the task waits for the daemon.
 */
struct slow_daemon {
	struct held *held;
	const char *dir;
	int fuse;
	volatile int *answered;
};

static int wait_for_destroy(int fuse, struct fuse_in_header *header)
{
	do {
		CHECK(!fuse_read_request(fuse, header));
	} while (header->opcode != FUSE_DESTROY);
	return 0;
}

static int answer_destroy(int fuse, const struct fuse_in_header *header)
{
	const struct fuse_out_header reply = {
		.len = sizeof(reply),
		.unique = header->unique,
	};

	CHECK(write(fuse, &reply, sizeof(reply)) == sizeof(reply));
	return 0;
}

static int slow_daemon(void *arg)
{
	const struct timespec nap = { .tv_nsec = 200 * 1000 * 1000 };
	const struct slow_daemon *daemon = arg;
	struct fuse_in_header header;

	/* Else the end of file would not come. */
	held_go(daemon->held);
	CHECK(!wait_for_destroy(daemon->fuse, &header));
	if (daemon->dir)
		CHECK(!live_as_usual((void *)daemon->dir));
	else
		/* Not a wait for anything: this is the slowness. */
		nanosleep(&nap, NULL);
	*daemon->answered = 1;
	CHECK(!answer_destroy(daemon->fuse, &header));
	while (!fuse_read_request(daemon->fuse, &header))
		;
	return errno != ENODEV;
}

static void check_slow_shutdown(struct __test_metadata *_metadata,
				FIXTURE_DATA(fidelity) *self, const char *dir)
{
	struct slow_daemon daemon = {
		.dir = dir,
		.answered = nsp_shared(sizeof(int)),
	};
	struct row row = self->row;
	pid_t pid, server;
	struct held held;

	row.dev = self->at.disk.dev;
	row.type = "fuseblk";
	row.mount = mount_fuse;
	ASSERT_NE(NULL, daemon.answered);
	row.arg = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, row.arg);
	ASSERT_EQ(0, held_open(&held, &row));
	/* A daemon that has not come up yet is not told of the end. */
	pid = held_start(&held);
	ASSERT_LT(0, pid);
	daemon.held = &held;
	daemon.fuse = row.arg;
	server = nsp_start(slow_daemon, &daemon);
	ASSERT_LT(0, server);
	held_go(&held);
	ASSERT_EQ(0, nsp_wait(pid));
	ASSERT_EQ(0, settle(&row));
	EXPECT_EQ(1, *daemon.answered);
	EXPECT_EQ(0, opens_exclusively(&row));
	close(row.arg);
	EXPECT_EQ(0, nsp_wait(server));
	munmap((void *)daemon.answered, sizeof(int));
}

static const char *make_fuseblk(struct place *at)
{
	if (!disk_has_filesystem("fuseblk"))
		return "this kernel has no fuseblk (CONFIG_FUSE_FS, CONFIG_BLOCK)";
	return disk_make(&at->disk, at->dir);
}

TEST_F_TIMEOUT(fidelity, slow_shutdown_is_over, NSP_TIMEOUT)
{
	const char *why = make_fuseblk(&self->at);

	if (why)
		SKIP(return, "%s", why);
	check_slow_shutdown(_metadata, self, NULL);
}

#define NEEDS_NO_BARRIER() do {						\
	if (!nsp_linux(3, 17) && !strcmp(variant->mode, "all"))		\
		SKIP(return, "up to Linux 3.16 umount(2) waits for what is pending"); \
} while (0)

/* The daemon's own calls do not wait for what the daemon is to answer. */
TEST_F_TIMEOUT(fidelity, daemon_waits_not_for_itself, NSP_TIMEOUT)
{
	const char *why = make_fuseblk(&self->at);
	int i;

	if (why)
		SKIP(return, "%s", why);
	NEEDS_NO_BARRIER();
	for (i = 0; i < HANGS; i++)
		check_slow_shutdown(_metadata, self, self->at.dir);
}

/* Nor do those of people who have nothing to do with it. */
TEST_F_TIMEOUT(fidelity, hang_of_another_holds_up_nobody, NSP_TIMEOUT)
{
	const char *why = make_fuseblk(&self->at);
	struct row row = self->row;
	struct fuse_in_header header;
	struct held held;
	pid_t pid;
	int i;

	row.dev = self->at.disk.dev;
	row.type = "fuseblk";
	row.mount = mount_fuse;
	if (why)
		SKIP(return, "%s", why);
	NEEDS_NO_BARRIER();
	for (i = 0; i < HANGS; i++) {
		row.arg = open("/dev/fuse", O_RDWR | O_CLOEXEC);
		ASSERT_LE(0, row.arg);
		ASSERT_EQ(0, held_open(&held, &row));
		pid = held_start(&held);
		ASSERT_LT(0, pid);
		held_go(&held);
		ASSERT_EQ(0, wait_for_destroy(row.arg, &header));
		EXPECT_EQ(0, nsp_run(live_as_usual, self->at.dir));
		ASSERT_EQ(0, answer_destroy(row.arg, &header));
		ASSERT_EQ(0, nsp_wait(pid));
		ASSERT_EQ(0, settle(&row));
		EXPECT_EQ(0, opens_exclusively(&row));
		close(row.arg);
	}
}

/*
 * What /proc/PID/@what is, held open from outside, is the last hold on a namespace
 * that had a device mounted.
 */
static void check_hold(struct __test_metadata *_metadata,
		       FIXTURE_DATA(fidelity) *self, const char *what)
{
	struct row row = self->row;
	const char *why = disk_make(&self->at.disk, self->at.dir);
	struct held held;
	char path[160];
	pid_t pid;
	int i, fd;

	row.type = block_type();
	if (why || !row.type)
		SKIP(return, "%s", why ? why : NO_BLOCK_TYPE);
	row.dev = self->at.disk.dev;
	ASSERT_EQ(0, format_device(row.dev, row.type));
	for (i = 0; i < self->rounds; i++) {
		ASSERT_EQ(0, held_open(&held, &row));
		pid = held_start(&held);
		ASSERT_LT(0, pid);
		snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, what);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		ASSERT_LE(0, fd);
		held_go(&held);
		ASSERT_EQ(0, nsp_wait(pid));
		ASSERT_EQ(0, settle(&row));
		EXPECT_EQ(-1, open(row.dev, O_RDWR | O_EXCL | O_CLOEXEC));
		EXPECT_EQ(EBUSY, errno);
		ASSERT_EQ(0, close(fd));
		ASSERT_EQ(0, settle(&row));
		EXPECT_EQ(0, opens_exclusively(&row));
	}
}

/* A namespace that an fd keeps alive dies by close(2). */
TEST_F_TIMEOUT(fidelity, namespace_pinned_by_fd, NSP_TIMEOUT)
{
	check_hold(_metadata, self, "ns/mnt");
}

/* So does one whose mounts somebody reads. */
TEST_F_TIMEOUT(fidelity, namespace_pinned_by_reader, NSP_TIMEOUT)
{
	if (!nsp_linux(3, 17) && !strcmp(variant->mode, "safe") &&
	    !access("/sys/module/nsproxy_defer/initstate", F_OK))
		SKIP(return, "up to Linux 3.16 the module does not see such a hold");
	check_hold(_metadata, self, "mounts");
}

static int make_segment(const struct row *row)
{
	char path[64];
	void *at;
	int id, fd;

	/* A mount namespace of its own would be waited for, and hide the rest. */
	snprintf(path, sizeof(path), "/proc/%d/ns/mnt", (int)getppid());
	fd = open(path, O_RDONLY | O_CLOEXEC);
	CHECK(fd >= 0);
	CHECK(!setns(fd, CLONE_NEWNS));
	CHECK(!close(fd));
	CHECK(!unshare(CLONE_NEWIPC));
	id = shmget(IPC_PRIVATE, row->size, 0600);
	CHECK(id >= 0);
	at = shmat(id, NULL, 0);
	CHECK(at != (void *)-1);
	memset(at, 1, row->size);
	CHECK(!shmdt(at));
	return 0;
}

/* An IPC namespace that an fd keeps alive, and its shared memory with it. */
TEST_F_TIMEOUT(fidelity, ipc_namespace_pinned_by_fd, NSP_TIMEOUT)
{
	struct row row = self->row;
	struct held held;
	char path[64];
	pid_t pid;
	int i, fd;

	row.size = 16 << 20;
	row.mount = make_segment;
	row.arg = nsp_meminfo("Shmem");
	if (nsp_linux(5, 8))
		SKIP(return, "since Linux 5.8 IPC namespaces end in the background");
	for (i = 0; i < self->rounds; i++) {
		ASSERT_EQ(0, held_open(&held, &row));
		pid = held_start(&held);
		ASSERT_LT(0, pid);
		snprintf(path, sizeof(path), "/proc/%d/ns/ipc", (int)pid);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		ASSERT_LE(0, fd);
		held_go(&held);
		ASSERT_EQ(0, nsp_wait(pid));
		ASSERT_EQ(0, settle(&row));
		EXPECT_LT(row.arg + 8 * 1024, nsp_meminfo("Shmem"));
		ASSERT_EQ(0, close(fd));
		ASSERT_EQ(0, settle(&row));
		EXPECT_EQ(0, memory_is_back(&row));
	}
}

/* A watch on what is mounted, of an inotify that outlives it. */
struct watch {
	int fd;
	volatile unsigned int seen;
};

static int mount_watched(const struct row *row)
{
	struct watch *watch = row->data;

	CHECK(!mount(row->dev, row->mnt, row->type, 0, row->options));
	watch->seen = 0;
	CHECK(inotify_add_watch(watch->fd, row->mnt, IN_DELETE_SELF) >= 0);
	return 0;
}

/* Who reads them first keeps them for the other one that looks. */
static unsigned int read_events(struct watch *watch)
{
	struct inotify_event event;

	while (read(watch->fd, &event, sizeof(event)) == sizeof(event))
		watch->seen |= event.mask;
	return watch->seen & (IN_UNMOUNT | IN_IGNORED);
}

static int watch_is_over(const struct row *row)
{
	CHECK(read_events(row->data) == row->arg);
	return 0;
}

/* What a watch on what has no contents to be missed is told is up to the kernel. */
TEST_F_TIMEOUT(fidelity, inotify_sees_unmount, NSP_TIMEOUT)
{
	static const char *const types[] = { "tmpfs", "proc", "ramfs" };
	struct watch *watch = nsp_shared(sizeof(*watch));
	struct row row = self->row;
	size_t t;

	row.mount = mount_watched;
	row.check = watch_is_over;
	row.data = watch;
	ASSERT_NE(NULL, watch);
	for (t = 0; t < ARRAY_SIZE(types); t++) {
		row.type = types[t];
		watch->fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
		ASSERT_LE(0, watch->fd);
		ASSERT_EQ(0, nsp_set("mode", "off"));
		ASSERT_EQ(0, nsp_run(live_row, &row));
		row.arg = read_events(watch);
		ASSERT_EQ(0, nsp_set("mode", variant->mode));
		if (strcmp(row.type, "proc"))
			EXPECT_EQ(IN_UNMOUNT | IN_IGNORED, row.arg);
		EXPECT_EQ(0, run_row(&row)) {
			TH_LOG("%s", row.type);
		}
		close(watch->fd);
	}
}

/* How many marks of mounts has this fanotify? */
static int count_marks(int fd)
{
	char path[64], line[256];
	int marks = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	file = fopen(path, "r");
	if (!file)
		return -1;
	while (fgets(line, sizeof(line), file))
		marks += !strncmp(line, "fanotify mnt_id:", 16);
	fclose(file);
	return marks;
}

static int mount_marked(const struct row *row)
{
	CHECK(!mount_row(row));
	/* Nothing happens to it that would make an event, which holds it. */
	CHECK(!fanotify_mark(row->arg, FAN_MARK_ADD | FAN_MARK_MOUNT,
			     FAN_CLOSE_WRITE, AT_FDCWD, row->mnt));
	CHECK(count_marks(row->arg) == 1);
	return 0;
}

static int mark_is_gone(const struct row *row)
{
	CHECK(count_marks(row->arg) == 0);
	return 0;
}

TEST_F_TIMEOUT(fidelity, fanotify_mark_is_gone, NSP_TIMEOUT)
{
	struct row row = self->row;

	row.type = "tmpfs";
	row.mount = mount_marked;
	row.check = mark_is_gone;
	row.arg = fanotify_init(FAN_CLASS_NOTIF | FAN_CLOEXEC, O_RDONLY);
	if (row.arg < 0)
		SKIP(return, "no fanotify here: %s", strerror(errno));
	EXPECT_EQ(0, run_row(&row));
	close(row.arg);
}

/*
 * sysfs has a superblock for each network namespace, and finds it again: one that
 * the dead had read-only is not handed out to the next who asks.
 */
static int stay_in_net(void *arg)
{
	const int *ready = arg;

	CHECK(!unshare(CLONE_NEWNET));
	CHECK(write(*ready, "x", 1) == 1);
	while (pause())
		;
	return 0;
}

static int mount_sysfs_read_only(const struct row *row)
{
	CHECK(!setns(row->arg, CLONE_NEWNET));
	CHECK(!mount(row->dev, row->mnt, row->type, MS_RDONLY, NULL));
	return 0;
}

static int mount_sysfs_writable(void *arg)
{
	const struct row *row = arg;
	struct statvfs st;

	CHECK(!setns(row->arg, CLONE_NEWNET));
	CHECK(!nsp_own_mounts());
	CHECK(!mount(row->dev, row->mnt, row->type, 0, NULL));
	CHECK(!statvfs(row->mnt, &st));
	CHECK(!(st.f_flag & ST_RDONLY));
	return umount_row(row);
}

static int sysfs_is_writable(const struct row *row)
{
	CHECK(!nsp_run(mount_sysfs_writable, (void *)row));
	return settle(row);
}

TEST_F_TIMEOUT(fidelity, sysfs_is_writable_again, NSP_TIMEOUT)
{
	struct row row = self->row;
	char path[64], c;
	int ready[2];
	pid_t pid;

	row.type = "sysfs";
	row.mount = mount_sysfs_read_only;
	row.check = sysfs_is_writable;
	if (!nsp_supported(CLONE_NEWNET))
		SKIP(return, "this kernel lacks network namespaces");
	ASSERT_EQ(0, pipe2(ready, O_CLOEXEC));
	pid = nsp_start(stay_in_net, &ready[1]);
	ASSERT_LT(0, pid);
	ASSERT_EQ(1, read(ready[0], &c, 1));
	snprintf(path, sizeof(path), "/proc/%d/ns/net", (int)pid);
	row.arg = open(path, O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, row.arg);
	EXPECT_EQ(0, run_row(&row));
	close(row.arg);
	EXPECT_EQ(0, kill(pid, SIGKILL));
	EXPECT_EQ(128 + SIGKILL, nsp_wait(pid));
}

/* Nothing is passed on to a namespace that is dead, and nothing stays there. */
TEST_F_TIMEOUT(fidelity, no_propagation_into_the_dead, NSP_TIMEOUT)
{
	struct row row = { .mnt = self->at.mnt, .flush = self->flush };
	const char *why = disk_make(&self->at.disk, self->at.dir);
	struct row copy = { .shared = true };
	const char *type = block_type();
	struct held held;
	char point[128];
	pid_t pid;
	int i;

	if (why || !type)
		SKIP(return, "%s", why ? why : NO_BLOCK_TYPE);
	ASSERT_EQ(0, format_device(self->at.disk.dev, type));
	ASSERT_EQ(0, mount("none", self->at.mnt, "tmpfs", 0, NULL));
	snprintf(point, sizeof(point), "%s/point", self->at.mnt);
	ASSERT_EQ(0, mkdir(point, 0700));
	row.dev = self->at.disk.dev;
	for (i = 0; i < self->rounds; i++) {
		ASSERT_EQ(0, mount("none", self->at.mnt, NULL, MS_SHARED, NULL));
		ASSERT_EQ(0, held_open(&held, &copy));
		pid = held_start(&held);
		ASSERT_LT(0, pid);
		held_go(&held);
		ASSERT_EQ(0, nsp_wait(pid));
		ASSERT_EQ(0, settle(&row));
		ASSERT_EQ(0, mount(row.dev, point, type, 0, NULL));
		/* What the dead one got of it would now be on its own. */
		ASSERT_EQ(0, mount("none", self->at.mnt, NULL, MS_PRIVATE, NULL));
		ASSERT_EQ(0, umount2(point, MNT_DETACH));
		ASSERT_EQ(0, settle(&row));
		EXPECT_EQ(0, opens_exclusively(&row));
	}
	ASSERT_EQ(0, umount(self->at.mnt));
}

/* What a namespace has passed on to others stays theirs when it dies. */
TEST_F_TIMEOUT(fidelity, propagated_by_the_dead, NSP_TIMEOUT)
{
	const char *why = disk_make(&self->at.disk, self->at.dir);
	char point[128];
	struct row row = {
		.mnt = point,
		.type = block_type(),
		.shared = true,
		.flush = self->flush,
	};
	struct held held;
	pid_t pid;
	int i;

	if (why || !row.type)
		SKIP(return, "%s", why ? why : NO_BLOCK_TYPE);
	row.dev = self->at.disk.dev;
	ASSERT_EQ(0, format_device(row.dev, row.type));
	ASSERT_EQ(0, mount("none", self->at.mnt, "tmpfs", 0, NULL));
	ASSERT_EQ(0, mount("none", self->at.mnt, NULL, MS_SHARED, NULL));
	snprintf(point, sizeof(point), "%s/point", self->at.mnt);
	ASSERT_EQ(0, mkdir(point, 0700));
	for (i = 0; i < self->rounds; i++) {
		ASSERT_EQ(0, held_open(&held, &row));
		pid = held_start(&held);
		ASSERT_LT(0, pid);
		held_go(&held);
		ASSERT_EQ(0, nsp_wait(pid));
		ASSERT_EQ(0, settle(&row));
		EXPECT_EQ(-1, open(row.dev, O_RDWR | O_EXCL | O_CLOEXEC));
		EXPECT_EQ(EBUSY, errno);
		EXPECT_EQ(0, umount_row(&row));
		EXPECT_EQ(0, opens_exclusively(&row));
	}
	ASSERT_EQ(0, umount(self->at.mnt));
}

/* Does mountinfo show @mnt as one that gets its mounts from another? */
static bool has_master(const char *mnt)
{
	char line[512], point[256];
	bool found = false;
	FILE *file;

	file = fopen("/proc/self/mountinfo", "r");
	if (!file)
		abort();
	while (fgets(line, sizeof(line), file))
		if (sscanf(line, "%*d %*d %*s %*s %255s", point) == 1 &&
		    !strcmp(point, mnt) && strstr(line, " master:"))
			found = true;
	fclose(file);
	return found;
}

/* No mount of the living has a dead one for its master. */
TEST_F_TIMEOUT(fidelity, mountinfo_shows_no_dead_master, NSP_TIMEOUT)
{
	struct row row = { .shared = true, .flush = self->flush };
	struct held held;
	pid_t pid;
	int i;

	ASSERT_EQ(0, mount("none", self->at.mnt, "tmpfs", 0, NULL));
	for (i = 0; i < self->rounds; i++) {
		ASSERT_EQ(0, mount("none", self->at.mnt, NULL, MS_SHARED, NULL));
		ASSERT_EQ(0, held_open(&held, &row));
		pid = held_start(&held);
		ASSERT_LT(0, pid);
		ASSERT_EQ(0, mount("none", self->at.mnt, NULL, MS_SLAVE, NULL));
		EXPECT_TRUE(has_master(self->at.mnt));
		held_go(&held);
		ASSERT_EQ(0, nsp_wait(pid));
		ASSERT_EQ(0, settle(&row));
		EXPECT_FALSE(has_master(self->at.mnt));
	}
	ASSERT_EQ(0, umount(self->at.mnt));
}

/* A tree that open_tree(2) made is gone when its fd is closed. */
TEST_F_TIMEOUT(fidelity, detached_tree_is_gone, NSP_TIMEOUT)
{
	struct row row = { .mnt = self->at.mnt, .flush = self->flush };
	const char *why = disk_make(&self->at.disk, self->at.dir);
	const char *type = block_type();
	int i, fd;

	if (why || !type)
		SKIP(return, "%s", why ? why : NO_BLOCK_TYPE);
	row.dev = self->at.disk.dev;
	ASSERT_EQ(0, format_device(row.dev, type));
	for (i = 0; i < self->rounds; i++) {
		ASSERT_EQ(0, mount(row.dev, self->at.mnt, type, 0, NULL));
		fd = syscall(__NR_open_tree, AT_FDCWD, self->at.mnt,
			     OPEN_TREE_CLONE | O_CLOEXEC);
		if (fd < 0 && !nsp_linux(5, 2)) {
			umount(self->at.mnt);
			SKIP(return, "open_tree() came with Linux 5.2");
		}
		ASSERT_LE(0, fd);
		ASSERT_EQ(0, umount(self->at.mnt));
		EXPECT_EQ(-1, open(row.dev, O_RDWR | O_EXCL | O_CLOEXEC));
		ASSERT_EQ(0, close(fd));
		ASSERT_EQ(0, settle(&row));
		EXPECT_EQ(0, opens_exclusively(&row));
	}
}

/* One that has been put into a namespace is gone with that. */
static int move_tree(void *arg)
{
	const struct row *row = arg;
	int fd;

	CHECK(!nsp_own_mounts());
	CHECK(!mount_row(row));
	fd = syscall(__NR_open_tree, AT_FDCWD, row->mnt,
		     OPEN_TREE_CLONE | O_CLOEXEC);
	CHECK(fd >= 0);
	CHECK(!umount(row->mnt));
	CHECK(!syscall(__NR_move_mount, fd, "", AT_FDCWD, row->mnt,
		       MOVE_MOUNT_F_EMPTY_PATH));
	CHECK(!close(fd));
	return 0;
}

TEST_F_TIMEOUT(fidelity, moved_tree_is_gone, NSP_TIMEOUT)
{
	struct row row = self->row;
	const char *why = disk_make(&self->at.disk, self->at.dir);
	int i;

	row.type = block_type();
	if (why || !row.type)
		SKIP(return, "%s", why ? why : NO_BLOCK_TYPE);
	if (!nsp_linux(5, 2))
		SKIP(return, "open_tree() came with Linux 5.2");
	row.dev = self->at.disk.dev;
	ASSERT_EQ(0, format_device(row.dev, row.type));
	for (i = 0; i < self->rounds; i++) {
		ASSERT_EQ(0, nsp_run(move_tree, &row));
		ASSERT_EQ(0, settle(&row));
		EXPECT_EQ(0, opens_exclusively(&row));
	}
}

/* What every container does: a new root, and the old one detached. */
static int pivot_life(void *arg)
{
	const struct row *row = arg;
	struct row inside = { .dev = "/node" };
	struct stat st;

	CHECK(!stat(row->dev, &st));
	CHECK(!nsp_own_mounts());
	/* A rootfs cannot be pivoted, so put something on top of it before. */
	CHECK(!mount("none", row->mnt, "tmpfs", 0, NULL));
	CHECK(!chdir(row->mnt));
	CHECK(!mkdir("tmp", 0700));
	CHECK(!mount(".", "/", NULL, MS_MOVE, NULL));
	CHECK(!chroot("."));
	/* The old root, with the disk in it... */
	CHECK(!mount("none", "/tmp", "tmpfs", 0, NULL));
	CHECK(!mkdir("/tmp/disk", 0700));
	CHECK(!mknod("/tmp/node", S_IFBLK | 0600, st.st_rdev));
	CHECK(!mount("/tmp/node", "/tmp/disk", row->type, 0, NULL));
	/* ...and the new one. */
	CHECK(!mkdir("/tmp/root", 0700));
	CHECK(!mount("none", "/tmp/root", "tmpfs", 0, NULL));
	CHECK(!mkdir("/tmp/root/old", 0700));
	CHECK(!mknod("/tmp/root/node", S_IFBLK | 0600, st.st_rdev));
	CHECK(!chdir("/tmp/root"));
	CHECK(!syscall(SYS_pivot_root, ".", "old"));
	CHECK(!chdir("/"));
	CHECK(!umount2("/old", MNT_DETACH));
	/* There is no file here to flush by; the parent does. */
	return row->flush ? 0 : opens_exclusively(&inside);
}

TEST_F_TIMEOUT(fidelity, old_root_is_gone, NSP_TIMEOUT)
{
	struct row row = self->row;
	const char *why = disk_make(&self->at.disk, self->at.dir);
	int i;

	row.type = block_type();
	if (why || !row.type)
		SKIP(return, "%s", why ? why : NO_BLOCK_TYPE);
	row.dev = self->at.disk.dev;
	ASSERT_EQ(0, format_device(row.dev, row.type));
	for (i = 0; i < self->rounds; i++) {
		ASSERT_EQ(0, nsp_run(pivot_life, &row));
		ASSERT_EQ(0, settle(&row));
		EXPECT_EQ(0, opens_exclusively(&row));
	}
}

/*
 * Namespaces that share a superblock and die at the same moment, and the one
 * that they have it from unmounts it just then.
 */
static void check_many(struct __test_metadata *_metadata,
		       FIXTURE_DATA(fidelity) *self, int n, int host_flags)
{
	struct row row = { .mnt = self->at.mnt, .flush = self->flush };
	const char *why = disk_make(&self->at.disk, self->at.dir);
	const char *type = block_type();
	struct row nothing = {};
	struct held held;
	pid_t pids[20];
	int i, round;

	if (why || !type)
		SKIP(return, "%s", why ? why : NO_BLOCK_TYPE);
	row.dev = self->at.disk.dev;
	ASSERT_EQ(0, format_device(row.dev, type));
	for (round = 0; round < self->rounds; round++) {
		ASSERT_EQ(0, mount(row.dev, row.mnt, type, 0, NULL));
		ASSERT_EQ(0, held_open(&held, &nothing));
		for (i = 0; i < n; i++) {
			pids[i] = held_start(&held);
			ASSERT_LT(0, pids[i]);
		}
		held_go(&held);
		ASSERT_EQ(0, umount2(row.mnt, host_flags));
		for (i = 0; i < n; i++)
			ASSERT_EQ(0, nsp_wait(pids[i]));
		ASSERT_EQ(0, settle(&row));
		EXPECT_EQ(0, opens_exclusively(&row)) {
			TH_LOG("round %d", round);
		}
	}
}

TEST_F_TIMEOUT(fidelity, two_share_it_and_umount, NSP_TIMEOUT)
{
	check_many(_metadata, self, 2, 0);
}

TEST_F_TIMEOUT(fidelity, twenty_share_it_and_umount, NSP_TIMEOUT)
{
	check_many(_metadata, self, 20, 0);
}

TEST_F_TIMEOUT(fidelity, twenty_share_it_and_detach, NSP_TIMEOUT)
{
	check_many(_metadata, self, 20, MNT_DETACH);
}

/*
 * One namespace dies while another has the same superblock; that one dies at
 * once after it, and must outlast what is pending of the first.
 */
TEST_F_TIMEOUT(fidelity, one_after_the_other, NSP_TIMEOUT)
{
	struct row row = { .mnt = self->at.mnt, .flush = self->flush };
	const char *why = disk_make(&self->at.disk, self->at.dir);
	const char *type = block_type();
	struct row nothing = {};
	struct held held[2];
	pid_t pids[2];
	int i, round;

	if (why || !type)
		SKIP(return, "%s", why ? why : NO_BLOCK_TYPE);
	row.dev = self->at.disk.dev;
	ASSERT_EQ(0, format_device(row.dev, type));
	for (round = 0; round < 4 * self->rounds; round++) {
		ASSERT_EQ(0, mount(row.dev, row.mnt, type, 0, NULL));
		for (i = 0; i < 2; i++) {
			ASSERT_EQ(0, held_open(&held[i], &nothing));
			pids[i] = held_start(&held[i]);
			ASSERT_LT(0, pids[i]);
		}
		ASSERT_EQ(0, umount(row.mnt));
		held_go(&held[1]);
		ASSERT_EQ(0, nsp_wait(pids[1]));
		held_go(&held[0]);
		ASSERT_EQ(0, nsp_wait(pids[0]));
		ASSERT_EQ(0, settle(&row));
		EXPECT_EQ(0, opens_exclusively(&row)) {
			TH_LOG("round %d", round);
		}
	}
}

/* umount(2) is final, though others had it mounted, too, until just now. */
TEST_F_TIMEOUT(fidelity, umount_is_final, NSP_TIMEOUT)
{
	struct row row = { .mnt = self->at.mnt, .flush = self->flush };
	const char *why = disk_make(&self->at.disk, self->at.dir);
	const char *type = block_type();
	struct row nothing = {};
	struct held held;
	pid_t pid;
	int i;

	if (why || !type)
		SKIP(return, "%s", why ? why : NO_BLOCK_TYPE);
	row.dev = self->at.disk.dev;
	ASSERT_EQ(0, format_device(row.dev, type));
	for (i = 0; i < 4 * self->rounds; i++) {
		ASSERT_EQ(0, mount(row.dev, row.mnt, type, 0, NULL));
		ASSERT_EQ(0, held_open(&held, &nothing));
		pid = held_start(&held);
		ASSERT_LT(0, pid);
		held_go(&held);
		ASSERT_EQ(0, nsp_wait(pid));
		ASSERT_EQ(0, umount_row(&row));
		EXPECT_EQ(0, opens_exclusively(&row)) {
			TH_LOG("round %d", i);
		}
	}
}

/* Mount an image on @row->mnt at @row->options, by a device that goes with it. */
static int live_on_image(void *arg)
{
	struct loop_info64 info = { .lo_flags = LO_FLAGS_AUTOCLEAR };
	const struct row *row = arg;
	struct disk disk;

	CHECK(!unshare(CLONE_NEWNS));
	CHECK(!disk_make(&disk, row->mnt));
	CHECK(!ioctl(disk.loop, LOOP_SET_STATUS64, &info));
	CHECK(!mount(disk.dev, row->options, row->type, 0, NULL));
	return 0;
}

/*
 * A mount is not busy because the dead have it, too, and use it there. They get
 * it by propagation, and umount(2) looks at theirs before it takes any away.
 */
TEST_F_TIMEOUT(fidelity, not_busy_by_the_dead, NSP_TIMEOUT)
{
	struct row row = self->row;
	char own[128];
	int i;

	row.type = block_type();
	if (access("/dev/loop-control", F_OK))
		SKIP(return, "no /dev/loop-control: this kernel has no loop devices");
	if (!row.type)
		SKIP(return, NO_BLOCK_TYPE);
	row.options = own;
	snprintf(own, sizeof(own), "%s/own", self->at.dir);
	ASSERT_EQ(0, mkdir(own, 0700));
	ASSERT_EQ(0, mount("none", own, "tmpfs", 0, NULL));
	ASSERT_EQ(0, mount("none", self->at.dir, NULL, MS_SHARED, NULL));
	for (i = 0; i < self->rounds; i++) {
		ASSERT_EQ(0, mount("none", row.mnt, "tmpfs", 0, NULL));
		ASSERT_EQ(0, mount("none", row.mnt, NULL, MS_PRIVATE, NULL));
		ASSERT_EQ(0, nsp_run(live_on_image, &row));
		ASSERT_EQ(0, settle(&row));
		ASSERT_EQ(0, umount_row(&row)) {
			TH_LOG("round %d: %s", i, strerror(errno));
		}
	}
	ASSERT_EQ(0, umount(own));
}

/* What a bind mount held is free as soon as its name is gone. */
static int bind_file(void *arg)
{
	const char *dir = arg;
	char from[128], to[128];

	snprintf(from, sizeof(from), "%s/big", dir);
	snprintf(to, sizeof(to), "%s/small", dir);
	CHECK(!nsp_own_mounts());
	CHECK(!mount(from, to, NULL, MS_BIND, NULL));
	return 0;
}

TEST_F_TIMEOUT(fidelity, removed_root_is_free, NSP_TIMEOUT)
{
	struct row row = { .flush = self->flush };
	struct statfs before, after;
	char big[128], other[128];
	int i, fd;

	snprintf(big, sizeof(big), "%s/big", self->at.dir);
	snprintf(other, sizeof(other), "%s/small", self->at.dir);
	for (i = 0; i < self->rounds; i++) {
		fd = open(other, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
		ASSERT_LE(0, fd);
		close(fd);
		ASSERT_EQ(0, statfs(self->at.dir, &before));
		fd = open(big, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
		ASSERT_LE(0, fd);
		ASSERT_EQ(0, posix_fallocate(fd, 0, 1 << 20));
		close(fd);
		ASSERT_EQ(0, nsp_run(bind_file, self->at.dir));
		ASSERT_EQ(0, settle(&row));
		ASSERT_EQ(0, i % 2 ? rename(other, big) : unlink(big));
		ASSERT_EQ(0, statfs(self->at.dir, &after));
		EXPECT_EQ(before.f_bfree, after.f_bfree);
	}
}

/*
 * What was open by way of one is free when it is closed.  Who detaches has it open as
 * well, or has not.
 */
struct detacher {
	const char *path;
	int close_first;
};

static int detach_small(void *arg)
{
	const struct detacher *detacher = arg;

	if (detacher->close_first >= 0)
		close(detacher->close_first);
	CHECK(!umount2(detacher->path, MNT_DETACH));
	return 0;
}

static int make_big_file(const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	CHECK(fd >= 0);
	CHECK(!posix_fallocate(fd, 0, 1 << 20));
	return close(fd);
}

static int make_directory(const char *path)
{
	return mkdir(path, 0700);
}

static void check_closed_root(struct __test_metadata *_metadata, FIXTURE_DATA(fidelity) *self,
			      int (*make)(const char *path))
{
	struct row row = { .flush = self->flush };
	struct statfs before, after;
	char big[128], small[128];
	struct detacher detacher = { .path = small };
	int i, fd;

	snprintf(big, sizeof(big), "%s/big", self->at.dir);
	snprintf(small, sizeof(small), "%s/small", self->at.dir);
	ASSERT_EQ(0, make(small));
	for (i = 0; i < self->rounds; i++) {
		ASSERT_EQ(0, statfs(self->at.dir, &before));
		ASSERT_EQ(0, make(big));
		ASSERT_EQ(0, mount(big, small, NULL, MS_BIND, NULL));
		fd = open(small, O_RDONLY | O_CLOEXEC);
		ASSERT_LE(0, fd);
		detacher.close_first = i % 2 ? fd : -1;
		ASSERT_EQ(0, nsp_run(detach_small, &detacher));
		ASSERT_EQ(0, remove(big));
		ASSERT_EQ(0, close(fd));
		ASSERT_EQ(0, settle(&row));
		ASSERT_EQ(0, statfs(self->at.dir, &after));
		EXPECT_EQ(before.f_bfree, after.f_bfree);
		EXPECT_EQ(before.f_ffree, after.f_ffree);
	}
}

TEST_F_TIMEOUT(fidelity, closed_root_is_free, NSP_TIMEOUT)
{
	check_closed_root(_metadata, self, make_big_file);
}

/* Where inodes are counted, a directory that was removed makes room for another one. */
TEST_F_TIMEOUT(fidelity, closed_directory_is_free, NSP_TIMEOUT)
{
	check_closed_root(_metadata, self, make_directory);
}

/* A namespace that only a bind mount held counts no longer. */
static int bind_ns(void *arg)
{
	const char *dir = arg;
	char path[128];
	int fd;

	CHECK(!nsp_own_mounts());
	if (unshare(CLONE_NEWUTS))
		return errno;
	snprintf(path, sizeof(path), "%s/ns", dir);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	CHECK(fd >= 0);
	close(fd);
	CHECK(!mount("/proc/self/ns/uts", path, NULL, MS_BIND, NULL));
	return 0;
}

static int bind_ns_again_and_again(void *arg)
{
	int i;

	CHECK(!nsp_own_user());
	CHECK(!nsp_own_mounts());
	CHECK(!mount("none", arg, "tmpfs", 0, NULL));
	CHECK(!nsp_put("/proc/sys/user/max_uts_namespaces", "1"));
	for (i = 0; i < 20; i++) {
		int rc = nsp_run(bind_ns, arg);

		if (rc) {
			fprintf(stderr, "# round %d: %s\n", i, strerror(rc));
			return 1;
		}
	}
	return 0;
}

TEST_F_TIMEOUT(fidelity, bound_namespace_is_gone, NSP_TIMEOUT)
{
	if (!nsp_supported(CLONE_NEWUTS) || !nsp_supported(CLONE_NEWUSER))
		SKIP(return, "this kernel lacks UTS or user namespaces");
	if (access("/proc/sys/user/max_uts_namespaces", F_OK))
		SKIP(return, "this kernel has no limits for namespaces (they came with 4.9)");
	EXPECT_EQ(0, nsp_run(bind_ns_again_and_again, self->at.mnt));
}

/* Many users, each at the limit of their own, and nobody meets it. */
static int user_at_limit(void *arg)
{
	int i;

	(void)arg;
	CHECK(!nsp_own_user());
	CHECK(!nsp_put("/proc/sys/user/max_mnt_namespaces", "2"));
	for (i = 0; i < 20; i++)
		CHECK(nsp_hold_many(CLONE_NEWNS, 2) == 0);
	return 0;
}

TEST_F_TIMEOUT(fidelity, users_at_their_limits, NSP_TIMEOUT)
{
	pid_t pids[8];
	size_t i;

	if (!nsp_supported(CLONE_NEWUSER))
		SKIP(return, "this kernel lacks user namespaces");
	if (access("/proc/sys/user/max_mnt_namespaces", F_OK))
		SKIP(return, "this kernel has no limits for namespaces (they came with 4.9)");
	for (i = 0; i < ARRAY_SIZE(pids); i++) {
		pids[i] = nsp_start(user_at_limit, NULL);
		ASSERT_LT(0, pids[i]);
	}
	for (i = 0; i < ARRAY_SIZE(pids); i++)
		EXPECT_EQ(0, nsp_wait(pids[i]));
}

NSP_TEST_MAIN(nsp_prepare_present)
