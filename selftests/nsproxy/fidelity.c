// SPDX-License-Identifier: GPL-2.0-only
/*
 * The promise: what a program may rely on when the call has returned.
 *
 * A task mounts something where nobody else sees it and leaves it: by exit, by
 * setns(2), by unshare(2) and umount(2), by umount2(MNT_DETACH).  When that has
 * returned, the file system is shut down, and whatever shows that is tried at
 * once: its device, its daemon, its directories, its memory, its watches.
 *
 * With mode=off and mode=safe every row holds as it stands.  With mode=all it
 * holds after a write to flush; that umount(2) does as well is tested in
 * umount_barrier.  Every row is run in all three.
 *
 * The races: the worker that shuts a file system down and the next user of what
 * it holds; two namespaces with one superblock between them, each of which takes
 * the other for the one that stays.
 */
#include "fuse.h"
#include "place.h"

#include <sys/inotify.h>
#include <sys/shm.h>
#include <sys/statfs.h>
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

#define ROUNDS 4

FIXTURE(fidelity)
{
	struct place at;
	bool flush;
	int rounds;
};

FIXTURE_VARIANT(fidelity)
{
	const char *mode;
};

FIXTURE_VARIANT_ADD(fidelity, off)
{
	.mode = "off",
};

FIXTURE_VARIANT_ADD(fidelity, safe)
{
	.mode = "safe",
};

FIXTURE_VARIANT_ADD(fidelity, all)
{
	.mode = "all",
};

/*
 * For the tests to be seen red: NSPROXY_TEST_NO_FLUSH=1 takes mode=all at the
 * word that is true of the other two.
 */
FIXTURE_SETUP(fidelity)
{
	ASSERT_EQ(0, place_make(&self->at, variant->mode));
	self->flush = !strcmp(variant->mode, "all") &&
		      !nsp_env("NSPROXY_TEST_NO_FLUSH", 0);
	/* Without a deferral there is no race to be lost. */
	self->rounds = strcmp(variant->mode, "off") ? ROUNDS : 1;
}

FIXTURE_TEARDOWN(fidelity)
{
	EXPECT_EQ(0, place_drop(&self->at));
}

enum leave { BY_EXIT, BY_SETNS, BY_UNSHARE, BY_DETACH, NR_LEAVES };

static const char *const leave_names[NR_LEAVES] = {
	"exit", "setns", "unshare and umount", "MNT_DETACH",
};

/* One row: what is mounted, and how to see that it is gone. */
struct row {
	const char *dev;
	const char *mnt;
	const char *type;
	const char *options;
	off_t size;
	bool shared;
	bool flush;
	int rounds;
	enum leave leave;
	int (*mount)(const struct row *row);
	int (*check)(const struct row *row);
	int arg;
};

/* Where mode=all promises no more, this is where the promise begins. */
static int settle(const struct row *row)
{
	return row->flush ? nsp_flush() : 0;
}

static int mount_row(const struct row *row)
{
	char path[128];
	int fd;

	CHECK(!mount(row->dev, row->mnt, row->type, 0, row->options));
	snprintf(path, sizeof(path), "%s/file", row->mnt);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	CHECK(fd >= 0);
	CHECK(write(fd, path, sizeof(path)) == sizeof(path));
	CHECK(!row->size || !posix_fallocate(fd, 0, row->size));
	CHECK(!close(fd));
	return 0;
}

static int live_row(void *arg)
{
	const struct row *row = arg;
	int before = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);

	CHECK(before >= 0);
	CHECK(!nsp_own_mounts());
	CHECK(!row->mount(row));
	switch (row->leave) {
	case BY_SETNS:
		CHECK(!setns(before, CLONE_NEWNS));
		break;
	case BY_UNSHARE:
		/* The namespace that is left and umount(2) have it both. */
		CHECK(!unshare(CLONE_NEWNS));
		CHECK(!umount(row->mnt));
		break;
	case BY_DETACH:
		CHECK(!umount2(row->mnt, MNT_DETACH));
		break;
	default:
		return 0;
	}
	CHECK(!settle(row));
	return row->check(row);
}

/* Leave it in every way there is; 0 if the check held each time. */
static int run_row(struct row *row)
{
	int i;

	if (!row->mount)
		row->mount = mount_row;
	for (row->leave = 0; row->leave < NR_LEAVES; row->leave++) {
		for (i = 0; i < row->rounds; i++) {
			if (!nsp_run(live_row, row) && !settle(row) &&
			    !row->check(row))
				continue;
			fprintf(stderr, "# left by %s, round %d\n",
				leave_names[row->leave], i);
			return -1;
		}
	}
	return 0;
}

static const char *const block_types[] = { "ext2", "ext4", "vfat" };

static int format(int fd, const char *type)
{
	return strcmp(type, "vfat") ? disk_format(fd) : disk_format_fat(fd);
}

static int format_device(const char *dev, const char *type)
{
	int fd = open(dev, O_RDWR | O_CLOEXEC);

	CHECK(fd >= 0);
	CHECK(!format(fd, type));
	CHECK(!fsync(fd));
	CHECK(!close(fd));
	return 0;
}

/*
 * losetup -d: in use, a loop device says 0 and stays, until it is not. Since
 * Linux 6.11 whoever has it open uses it, the one that says so included.
 */
static int loop_clears(const struct row *row)
{
	struct loop_info64 info;
	char path[128];
	int image, loop = open(row->dev, O_RDWR | O_CLOEXEC);

	CHECK(loop >= 0);
	CHECK(!ioctl(loop, LOOP_CLR_FD, 0));
	CHECK(!close(loop));
	loop = open(row->dev, O_RDWR | O_CLOEXEC);
	CHECK(loop >= 0);
	CHECK(ioctl(loop, LOOP_GET_STATUS64, &info) && errno == ENXIO);
	snprintf(path, sizeof(path), "%s/../image", row->mnt);
	image = open(path, O_RDWR | O_CLOEXEC);
	CHECK(image >= 0);
	CHECK(!ioctl(loop, LOOP_SET_FD, image));
	CHECK(!close(image));
	CHECK(!close(loop));
	return 0;
}

/* The row with each of the file systems there are, and one of them on brd. */
static const char *run_block_rows(struct __test_metadata *_metadata,
				  FIXTURE_DATA(fidelity) *self,
				  int (*check)(const struct row *row))
{
	struct row row = {
		.mnt = self->at.mnt,
		.flush = self->flush,
		.rounds = self->rounds,
		.check = check,
	};
	size_t t;
	int runs = 0;

	for (t = 0; t < ARRAY_SIZE(block_types); t++) {
		row.type = block_types[t];
		if (!disk_has_filesystem(row.type))
			continue;
		row.dev = self->at.disk.dev;
		ASSERT_EQ(0, format_device(row.dev, row.type));
		ASSERT_EQ(0, run_row(&row)) {
			TH_LOG("%s on %s", row.type, row.dev);
		}
		row.dev = "/dev/ram0";
		if (runs++ || check == loop_clears || access(row.dev, F_OK))
			continue;
		ASSERT_EQ(0, format_device(row.dev, row.type));
		ASSERT_EQ(0, run_row(&row)) {
			TH_LOG("%s on %s", row.type, row.dev);
		}
	}
	return runs ? NULL : "this kernel has none of ext2, ext4 and vfat";
}

static int opens_exclusively(const struct row *row)
{
	int fd = open(row->dev, O_RDWR | O_EXCL | O_CLOEXEC);

	CHECK(fd >= 0);
	CHECK(!close(fd));
	return 0;
}

TEST_F_TIMEOUT(fidelity, device_opens_exclusively, NSP_TIMEOUT)
{
	const char *why = disk_make(&self->at.disk, self->at.dir);

	if (!why)
		why = run_block_rows(_metadata, self, opens_exclusively);
	if (why)
		SKIP(return, "%s", why);
}

/* LTP's mkfs met EBUSY; what it makes must also be there to be mounted. */
static int takes_mkfs(const struct row *row)
{
	int fd = open(row->dev, O_RDWR | O_EXCL | O_CLOEXEC);

	CHECK(fd >= 0);
	CHECK(!format(fd, row->type));
	CHECK(!fsync(fd));
	CHECK(!close(fd));
	CHECK(!mount(row->dev, row->mnt, row->type, 0, NULL));
	CHECK(!umount(row->mnt));
	return 0;
}

TEST_F_TIMEOUT(fidelity, device_takes_mkfs, NSP_TIMEOUT)
{
	const char *why = disk_make(&self->at.disk, self->at.dir);

	if (!why)
		why = run_block_rows(_metadata, self, takes_mkfs);
	if (why)
		SKIP(return, "%s", why);
}

/* A superblock that is still there is writable, and does not go read-only. */
static int mounts_otherwise(const struct row *row)
{
	CHECK(!mount(row->dev, row->mnt, row->type, MS_RDONLY, NULL));
	CHECK(!umount(row->mnt));
	return 0;
}

TEST_F_TIMEOUT(fidelity, device_mounts_otherwise, NSP_TIMEOUT)
{
	const char *why = disk_make(&self->at.disk, self->at.dir);

	if (!why)
		why = run_block_rows(_metadata, self, mounts_otherwise);
	if (why)
		SKIP(return, "%s", why);
}

TEST_F_TIMEOUT(fidelity, loop_device_clears, NSP_TIMEOUT)
{
	const char *why = disk_make(&self->at.disk, self->at.dir);

	if (!why) {
		/* Nobody but who says losetup -d has it open. */
		close(self->at.disk.loop);
		why = run_block_rows(_metadata, self, loop_clears);
		self->at.disk.loop = open(self->at.disk.dev, O_RDWR | O_CLOEXEC);
	}
	if (why)
		SKIP(return, "%s", why);
}

/* rmmod: the count of a module that is a file system. */
static int module_is_free(const struct row *row)
{
	char path[128], text[32];

	snprintf(path, sizeof(path), "/sys/module/%s/refcnt", row->type);
	if (access(path, F_OK))
		return 0;
	CHECK(!nsp_get(path, text, sizeof(text)));
	CHECK(atoi(text) == row->arg);
	return 0;
}

TEST_F_TIMEOUT(fidelity, module_is_free, NSP_TIMEOUT)
{
	struct row row = {
		.dev = self->at.disk.dev,
		.mnt = self->at.mnt,
		.flush = self->flush,
		.rounds = self->rounds,
		.check = module_is_free,
	};
	const char *why = disk_make(&self->at.disk, self->at.dir);
	char path[128], text[32];
	int runs = 0;
	size_t t;

	if (why)
		SKIP(return, "%s", why);
	for (t = 0; t < ARRAY_SIZE(block_types); t++) {
		row.type = block_types[t];
		snprintf(path, sizeof(path), "/sys/module/%s/refcnt", row.type);
		if (nsp_get(path, text, sizeof(text)))
			continue;
		row.arg = atoi(text);
		ASSERT_EQ(0, format_device(row.dev, row.type));
		ASSERT_EQ(0, run_row(&row));
		runs++;
	}
	if (!runs)
		SKIP(return, "no file system for disks is a loaded module here");
}

/* tmpfs: the memory; 16 MB against counters that are off by less than 1 MB. */
static int memory_is_back(const struct row *row)
{
	CHECK(nsp_meminfo("Shmem") < row->arg + 8 * 1024);
	return 0;
}

TEST_F_TIMEOUT(fidelity, tmpfs_gives_memory_back, NSP_TIMEOUT)
{
	struct row row = {
		.dev = "none",
		.mnt = self->at.mnt,
		.type = "tmpfs",
		.size = 16 << 20,
		.flush = self->flush,
		.rounds = self->rounds,
		.check = memory_is_back,
		.arg = nsp_meminfo("Shmem"),
	};

	EXPECT_EQ(0, run_row(&row));
}

/* overlay: with an index it insists that its directories are not in use. */
static int mounts_overlay_again(const struct row *row)
{
	CHECK(!mount(row->dev, row->mnt, row->type, 0, row->options));
	CHECK(!umount(row->mnt));
	return 0;
}

TEST_F_TIMEOUT(fidelity, overlay_mounts_again, NSP_TIMEOUT)
{
	static const char *const subs[] = { "lower", "upper", "work" };
	char options[512], path[128];
	struct row row = {
		.dev = "none",
		.mnt = self->at.mnt,
		.type = "overlay",
		.options = options,
		.flush = self->flush,
		.rounds = self->rounds,
		.check = mounts_overlay_again,
	};
	size_t i;

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
		 "fd=%d,rootmode=40000,user_id=0,group_id=0", row->arg);
	CHECK(!mount(row->dev, row->mnt, row->type, 0, options));
	CHECK(!fuse_read_request(row->arg, &header));
	CHECK(header.opcode == FUSE_INIT);
	return fuse_answer_init(row->arg, &header);
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
	struct row row = {
		.dev = "none",
		.mnt = self->at.mnt,
		.type = "fuse",
		.flush = self->flush,
		.rounds = self->rounds,
		.mount = mount_fuse,
		.check = fuse_is_over,
	};

	if (access("/dev/fuse", F_OK))
		SKIP(return, "no /dev/fuse: this kernel has no FUSE");
	row.arg = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, row.arg);
	EXPECT_EQ(0, run_row(&row));
	close(row.arg);
}

/*
 * A task that mounts something, says so, and leaves it when it is told to:
 * meanwhile others look into its namespace.
 */
struct held {
	const struct row *row;
	int ready[2];
	int go[2];
};

static int held_life(void *arg)
{
	const struct held *held = arg;
	const struct row *row = held->row;
	char c;

	/* A copy of what is shared gets what is mounted there, and passes on. */
	CHECK(row->shared ? !unshare(CLONE_NEWNS) : !nsp_own_mounts());
	if (row->mount)
		CHECK(!row->mount(row));
	else if (row->dev)
		CHECK(!mount(row->dev, row->mnt, row->type, 0, row->options));
	CHECK(!close(held->go[1]));
	CHECK(write(held->ready[1], "x", 1) == 1);
	/* End of file is the word. */
	CHECK(read(held->go[0], &c, 1) == 0);
	return 0;
}

static int held_open(struct held *held, const struct row *row)
{
	held->row = row;
	return pipe2(held->ready, O_CLOEXEC) || pipe2(held->go, O_CLOEXEC);
}

static pid_t held_start(struct held *held)
{
	pid_t pid = nsp_start(held_life, held);
	char c;

	return pid > 0 && read(held->ready[0], &c, 1) == 1 ? pid : -1;
}

static void held_go(struct held *held)
{
	close(held->go[0]);
	close(held->go[1]);
	close(held->ready[0]);
	close(held->ready[1]);
}

/*
 * A shutdown that takes its time, as one over a network does: FUSE on a block
 * device waits for its daemon.  Who waits for the task waits for the daemon.
 */
struct slow_daemon {
	struct held *held;
	int fuse;
	volatile int *answered;
};

static int slow_daemon(void *arg)
{
	const struct timespec nap = { .tv_nsec = 200 * 1000 * 1000 };
	const struct slow_daemon *daemon = arg;
	struct fuse_in_header header;
	struct fuse_out_header reply = { .len = sizeof(reply) };

	/* Else the end of file would not come. */
	held_go(daemon->held);
	while (!fuse_read_request(daemon->fuse, &header)) {
		if (header.opcode != FUSE_DESTROY)
			continue;
		/* Not a wait for anything: this is the slowness. */
		nanosleep(&nap, NULL);
		*daemon->answered = 1;
		reply.unique = header.unique;
		CHECK(write(daemon->fuse, &reply, sizeof(reply)) ==
		      sizeof(reply));
	}
	return errno != ENODEV;
}

TEST_F_TIMEOUT(fidelity, slow_shutdown_is_over, NSP_TIMEOUT)
{
	struct slow_daemon daemon = { .answered = nsp_shared(sizeof(int)) };
	const char *why = disk_make(&self->at.disk, self->at.dir);
	struct row row = {
		.dev = self->at.disk.dev,
		.mnt = self->at.mnt,
		.type = "fuseblk",
		.flush = self->flush,
		.mount = mount_fuse,
	};
	pid_t pid, server;
	struct held held;

	if (why)
		SKIP(return, "%s", why);
	if (!disk_has_filesystem("fuseblk"))
		SKIP(return, "this kernel has no fuseblk (CONFIG_FUSE_FS, CONFIG_BLOCK)");
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
}

static const char *block_type(void)
{
	size_t t;

	for (t = 0; t < ARRAY_SIZE(block_types); t++)
		if (disk_has_filesystem(block_types[t]))
			return block_types[t];
	return NULL;
}

#define NO_BLOCK_TYPE "this kernel has none of ext2, ext4 and vfat"

/*
 * What /proc/PID/@what is, held open from outside, is the last hold on a device
 * that a dead task had mounted.  Is what close(2) does to be flushed?
 */
static void check_hold(struct __test_metadata *_metadata,
		       FIXTURE_DATA(fidelity) *self, const char *what,
		       bool close_defers)
{
	struct row row = {
		.mnt = self->at.mnt,
		.type = block_type(),
		.flush = self->flush,
	};
	const char *why = disk_make(&self->at.disk, self->at.dir);
	struct held held;
	char path[160];
	pid_t pid;
	int i, fd;

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
		if (close_defers)
			ASSERT_EQ(0, settle(&row));
		EXPECT_EQ(0, opens_exclusively(&row));
	}
}

/* An fd on a file of a dead namespace. */
TEST_F_TIMEOUT(fidelity, open_file_is_the_last_hold, NSP_TIMEOUT)
{
	char what[96];

	snprintf(what, sizeof(what), "root%s", self->at.mnt);
	check_hold(_metadata, self, what, false);
}

/* A namespace that an fd keeps alive dies by close(2). */
TEST_F_TIMEOUT(fidelity, namespace_pinned_by_fd, NSP_TIMEOUT)
{
	check_hold(_metadata, self, "ns/mnt", true);
}

/* So does one whose mounts somebody reads. */
TEST_F_TIMEOUT(fidelity, namespace_pinned_by_reader, NSP_TIMEOUT)
{
	if (!nsp_linux(3, 17) && !strcmp(variant->mode, "safe") &&
	    !access("/sys/module/nsproxy_defer/initstate", F_OK))
		SKIP(return, "up to Linux 3.16 the module does not see such a hold");
	check_hold(_metadata, self, "mounts", true);
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
	struct row row = {
		.mnt = self->at.mnt,
		.size = 16 << 20,
		.flush = self->flush,
		.mount = make_segment,
		.arg = nsp_meminfo("Shmem"),
	};
	struct held held;
	char path[64];
	pid_t pid;
	int i, fd;

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

/* Is IN_UNMOUNT there to be read, once the last who has @type mounted is dead? */
static bool sees_unmount(struct __test_metadata *_metadata,
			 FIXTURE_DATA(fidelity) *self, const char *type)
{
	struct row row = {
		.dev = "none",
		.mnt = self->at.mnt,
		.type = type,
		.flush = self->flush,
		.rounds = self->rounds,
	};
	struct inotify_event event = { 0 };
	struct held held;
	char path[160];
	int fd, wd;
	ssize_t n;
	pid_t pid;

	ASSERT_EQ(0, held_open(&held, &row));
	pid = held_start(&held);
	ASSERT_LT(0, pid);
	fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	ASSERT_LE(0, fd);
	snprintf(path, sizeof(path), "/proc/%d/root%s", (int)pid, self->at.mnt);
	wd = inotify_add_watch(fd, path, IN_DELETE_SELF);
	ASSERT_LE(0, wd);
	held_go(&held);
	ASSERT_EQ(0, nsp_wait(pid));
	ASSERT_EQ(0, settle(&row));
	n = read(fd, &event, sizeof(event));
	ASSERT_TRUE(n == sizeof(event) || errno == EAGAIN);
	close(fd);
	return event.mask & IN_UNMOUNT;
}

TEST_F_TIMEOUT(fidelity, inotify_sees_unmount, NSP_TIMEOUT)
{
	bool proc;

	EXPECT_TRUE(sees_unmount(_metadata, self, "tmpfs"));
	/* It has no contents to be missed. Old kernels tell nobody of its end. */
	ASSERT_EQ(0, nsp_set("mode", "off"));
	proc = sees_unmount(_metadata, self, "proc");
	ASSERT_EQ(0, nsp_set("mode", variant->mode));
	EXPECT_EQ(proc, sees_unmount(_metadata, self, "proc"));
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
		EXPECT_EQ(0, umount(point));
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
	struct row row = {
		.mnt = self->at.mnt,
		.type = block_type(),
		.flush = self->flush,
	};
	const char *why = disk_make(&self->at.disk, self->at.dir);
	int i;

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
	struct row row = {
		.mnt = self->at.mnt,
		.type = block_type(),
		.flush = self->flush,
		.rounds = self->rounds,
	};
	const char *why = disk_make(&self->at.disk, self->at.dir);
	int i;

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

/* umount(2) is final, whatever is pending, and without a flush. */
TEST_F_TIMEOUT(fidelity, umount_is_final, NSP_TIMEOUT)
{
	struct row row = { .mnt = self->at.mnt };
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
		ASSERT_EQ(0, umount(row.mnt));
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
	struct row row = { .mnt = self->at.mnt, .type = block_type() };
	char own[128];
	int i;

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
		ASSERT_EQ(0, umount(row.mnt)) {
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
