// SPDX-License-Identifier: GPL-2.0-only
/*
 * The promise: whatever somebody without privilege does to file systems and
 * namespaces of his own, others wait no longer for it than on a stock kernel.
 *
 * Each attack stays as it is while others do what they do, and ends when they have
 * done it: a call that waited for it would not return.  Nobody looks at a clock.
 *
 * What hangs here, and why: a FUSE file system whose daemon does not answer, be it
 * a ustat(2) or the writeback of an inode.  The kernel holds the superblock's s_umount
 * while it asks the first, so whoever shuts the file system down waits for that, and who
 * closes a file that is dirty waits for the second.  Nobody can kill them.  The first
 * takes a user namespace, and no privilege; hang.h has another that takes root.
 */
#include "gp.h"
#include "hang.h"
#include "namespaces.h"
#include "others.h"

#include <linux/io_uring.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#define HUNG_TASK_TIMEOUT "/proc/sys/kernel/hung_task_timeout_secs"

/* What is waited for on purpose takes long on a slow machine, and many tasks are asked for. */
static struct {
	const char *path;
	const char *value;
	char saved[32];
} sysctls[] = {
	{ .path = HUNG_TASK_TIMEOUT, .value = "0" },
	{ .path = "/proc/sys/kernel/threads-max", .value = "30000" },
};

static int let_hang(void)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(sysctls); i++)
		if (!nsp_get(sysctls[i].path, sysctls[i].saved, sizeof(sysctls[i].saved)))
			CHECK(!nsp_put(sysctls[i].path, sysctls[i].value));
	return 0;
}

static int let_hang_no_more(void)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(sysctls); i++)
		if (sysctls[i].saved[0])
			CHECK(!nsp_put(sysctls[i].path, sysctls[i].saved));
	return 0;
}

/* Who holds a file system that does not answer. */
enum holder {
	/* A task that asks how full it is. */
	BY_TASK,
	/* The same, and an io_uring has a file of it, so that it is the kernel who closes that. */
	BY_RING,
	/*
	 * A dirty file of an io_uring's: who closes a file of his own hangs before he leaves.
	 * The kernel's threads have no id in a user namespace, and FUSE asks nothing for who
	 * has none, so this one takes root.
	 */
	BY_WRITEBACK,
};

/* Who attacks: a task without privilege where none is needed, in a user namespace of its own. */
struct attack {
	int (*fn)(struct attack *attack);
	const char *dir;
	const char *file;
	long n;
	enum holder by;
	bool held;
	/* Its word to the test, and the test's to it. */
	int ready[2];
	int go[2];
	pid_t pid;
	/* What both of them see. */
	struct {
		long turns;
		int over;
	} volatile *shared;
};

static int attack_run(void *arg)
{
	const struct rlimit tasks = { .rlim_cur = RLIM_INFINITY, .rlim_max = RLIM_INFINITY };
	struct attack *attack = arg;

	close(attack->ready[0]);
	close(attack->go[1]);
	CHECK(!setrlimit(RLIMIT_NPROC, &tasks));
	if (attack->by != BY_WRITEBACK) {
		CHECK(!setgid(65534));
		CHECK(!setuid(65534));
		/* The credentials changed, and /proc/self is root's until this. */
		CHECK(!prctl(PR_SET_DUMPABLE, 1));
		CHECK(!nsp_own_user());
	}
	return attack->fn(attack);
}

/* The attack is under way when this returns 0. */
static int attack_start(struct attack *attack)
{
	attack->shared = nsp_shared(sizeof(*attack->shared));
	CHECK(attack->shared);
	CHECK(!pipe2(attack->ready, O_CLOEXEC) && !pipe2(attack->go, O_CLOEXEC));
	attack->pid = nsp_start(attack_run, attack);
	CHECK(attack->pid > 0);
	close(attack->ready[1]);
	close(attack->go[0]);
	return nsp_hear(attack->ready[0]) == 1 ? 0 : -1;
}

/* Said by the attacker, who then waits for the test's word, which is end of file. */
static int attack_is_on(struct attack *attack)
{
	CHECK(!nsp_tell(attack->ready[1], 1));
	CHECK(nsp_hear(attack->go[0]) == -1);
	return 0;
}

/* The test's word. */
static void attack_go(struct attack *attack)
{
	if (attack->go[1] >= 0)
		close(attack->go[1]);
	attack->go[1] = -1;
}

/* 0 if it was as it should be to its end. */
static int attack_end(struct attack *attack)
{
	int err;

	attack->shared->over = 1;
	attack_go(attack);
	close(attack->ready[0]);
	err = nsp_wait(attack->pid);
	munmap((void *)attack->shared, sizeof(*attack->shared));
	return err;
}

/* It gets at a superblock without a mount. Young architectures have none. */
#ifndef SYS_ustat
#define SYS_ustat	-1
#endif

/* What an attacker needs that this kernel lacks, or NULL. */
static const char *attack_needs(void)
{
	char text[16];

	if (!nsp_supported(CLONE_NEWUSER))
		return "this kernel lacks user namespaces";
	if (!nsp_get("/proc/sys/kernel/unprivileged_userns_clone", text, sizeof(text)) &&
	    !strcmp(text, "0"))
		return "kernel.unprivileged_userns_clone is 0";
	return NULL;
}

static int ring_setup(struct io_uring_params *params)
{
	memset(params, 0, sizeof(*params));
	return syscall(SYS_io_uring_setup, 1, params);
}

static const char *attack_needs_ring(void)
{
	struct io_uring_params params;
	int ring;

	if (!nsp_linux(5, 7))
		return "before Linux 5.7 who closes a ring puts what it had";
	ring = ring_setup(&params);
	if (ring < 0)
		return "no io_uring here, or not for everybody";
	close(ring);
	return attack_needs();
}

static const char *attack_needs_ustat(void)
{
	return SYS_ustat < 0 ? "this architecture lacks ustat(2)" : attack_needs();
}

static const char *attack_needs_fuse(void)
{
	if (!nsp_linux(4, 18))
		return "before Linux 4.18 FUSE is for the init user namespace";
	/* Everybody may open it, once udev has been there. */
	if (chmod("/dev/fuse", 0666))
		return "no /dev/fuse: this kernel has no FUSE";
	return attack_needs_ustat();
}

/* A file system whose daemon does not answer: who asks hangs. */
struct silent {
	enum holder by;
	/* The daemon's end. */
	int fuse;
	unsigned int dev;
	/* Who has it mounted, in a mount namespace of his own. */
	pid_t user;
	/* Who has asked for something that has the superblock held. */
	pid_t asker;
	/* Has that been asked? It gets no answer. */
	bool inside;
	int mounted[2];
	int go[2];
};

/* As ustat(2) wants it, and without a question to the daemon: 0, or it is not there. */
static unsigned int device_of_mount(const char *mnt)
{
	unsigned int dev = 0, ma, mi;
	char line[1024], at[256];
	FILE *file;

	file = fopen("/proc/self/mountinfo", "r");
	if (!file)
		return 0;
	/* The last one is on top. */
	while (fgets(line, sizeof(line), file))
		if (sscanf(line, "%*d %*d %u:%u %*s %255s", &ma, &mi, at) == 3 &&
		    !strcmp(at, mnt))
			dev = makedev(ma, mi);
	fclose(file);
	return dev;
}

#define SILENT_MNT "/tmp"

static int open_silent(struct silent *silent)
{
	silent->fuse = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	CHECK(silent->fuse >= 0);
	return 0;
}

static int mount_silent(struct silent *silent)
{
	char options[128];

	CHECK(!mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL));
	snprintf(options, sizeof(options), "fd=%d,rootmode=40000,user_id=0,group_id=0",
		 silent->fuse);
	CHECK(!mount("none", SILENT_MNT, "fuse", 0, options));
	silent->dev = device_of_mount(SILENT_MNT);
	CHECK(silent->dev);
	return 0;
}

#define SILENT_FILE SILENT_MNT "/file"
#define SILENT_FOLDER SILENT_MNT "/folder"
#define SILENT_ID	2
#define SILENT_SIZE	4096

/* Is its file locked? */
static bool is_locked(unsigned int dev)
{
	char file[32];

	snprintf(file, sizeof(file), " %02x:%02x:%d ", major(dev), minor(dev), SILENT_ID);
	return nsp_count_lines("/proc/locks", file) > 0;
}

/* The ring has the file then, and nobody else. */
static int give_to_ring(int ring, int fd)
{
	CHECK(ring >= 0);
	CHECK(!syscall(SYS_io_uring_register, ring, IORING_REGISTER_FILES, &fd, 1));
	return close(fd);
}

/* Write a page to the file that the ring has: its first request, and its only one. */
static int write_by_ring(int ring, const struct io_uring_params *params)
{
	char page[SILENT_SIZE] = "";
	struct iovec iov = { .iov_base = page, .iov_len = sizeof(page) };
	size_t size = params->cq_off.cqes + params->cq_entries * sizeof(struct io_uring_cqe);
	struct io_uring_sqe *sqe;
	char *rings;

	CHECK(params->features & IORING_FEAT_SINGLE_MMAP);
	rings = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQ_RING);
	sqe = mmap(NULL, sizeof(*sqe), PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQES);
	CHECK(rings != MAP_FAILED && sqe != MAP_FAILED);
	*sqe = (struct io_uring_sqe) {
		.opcode = IORING_OP_WRITEV,
		.flags = IOSQE_FIXED_FILE,
		.addr = (uintptr_t)&iov,
		.len = 1,
	};
	__atomic_store_n((uint32_t *)(rings + params->sq_off.tail), 1, __ATOMIC_RELEASE);
	CHECK(syscall(SYS_io_uring_enter, ring, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) == 1);
	CHECK(((struct io_uring_cqe *)(rings + params->cq_off.cqes))->res == sizeof(page));
	return 0;
}

/* A copy of the daemon's file would keep the connection when the daemon is gone. */
static void close_files_but(int keep)
{
	int fd;

	for (fd = 3; fd < 1024; fd++)
		if (fd != keep)
			close(fd);
}

static int use_silent(void *arg)
{
	struct silent *silent = arg;
	struct io_uring_params params;
	int err = mount_silent(silent), ring, fd;

	CHECK(!nsp_tell(silent->mounted[1], !err));
	CHECK(!err);
	close_files_but(silent->go[0]);
	if (silent->by != BY_TASK) {
		fd = open(SILENT_FILE, O_RDWR | O_CREAT, 0600);
		/* It goes when the file is closed, before anything is written. */
		CHECK(fd >= 0 && !flock(fd, LOCK_EX));
		ring = ring_setup(&params);
		CHECK(!give_to_ring(ring, fd));
	}
	if (silent->by == BY_WRITEBACK) {
		CHECK(!write_by_ring(ring, &params));
		/* Nobody makes folders here: it says that the file is dirty. */
		CHECK(mkdir(SILENT_FOLDER, 0700));
	}
	CHECK(nsp_hear(silent->go[0]) == 1);
	return 0;
}

static int ask_silent(void *arg)
{
	const struct silent *silent = arg;
	char buf[256];

	close_files_but(-1);
	syscall(SYS_ustat, silent->dev, buf);
	return 0;
}

/* The root and one file, which is there once it was made. */
static struct fuse_attr silent_attr(uint64_t id)
{
	return (struct fuse_attr) {
		.ino = id,
		.mode = id == FUSE_ROOT_ID ? S_IFDIR | 0700 : S_IFREG | 0600,
		.nlink = 1,
		.size = SILENT_SIZE,
	};
}

static int silent_answer(struct silent *silent, const struct fuse_in_header *header)
{
	struct {
		struct fuse_entry_out entry;
		struct fuse_open_out open;
	} created = {
		.entry.nodeid = SILENT_ID,
		.entry.entry_valid = INT_MAX,
		.entry.attr_valid = INT_MAX,
		.entry.attr = silent_attr(SILENT_ID),
	};
	struct fuse_write_out written = { .size = SILENT_SIZE };
	struct fuse_attr_out attr = {
		.attr_valid = INT_MAX,
		.attr = silent_attr(header->nodeid),
	};

	switch (header->opcode) {
	case FUSE_INIT:
		return fuse_answer_init(silent->fuse, header,
					silent->by == BY_WRITEBACK ? FUSE_WRITEBACK_CACHE : 0);
	case FUSE_LOOKUP:
		return fuse_answer(silent->fuse, header, ENOENT, NULL, 0);
	case FUSE_CREATE:
		return fuse_answer(silent->fuse, header, 0, &created, sizeof(created));
	case FUSE_STATFS:
	case FUSE_SETATTR:
		silent->inside = true;
		return 0;
	case FUSE_GETATTR:
		return fuse_answer(silent->fuse, header, 0, &attr, sizeof(attr));
	case FUSE_WRITE:
		return fuse_answer(silent->fuse, header, 0, &written, sizeof(written));
	case FUSE_FLUSH:
		return fuse_answer(silent->fuse, header, 0, NULL, 0);
	case FUSE_FORGET:
	case FUSE_BATCH_FORGET:
	case FUSE_INTERRUPT:
		return 0;
	default:
		return fuse_answer(silent->fuse, header, ENOSYS, NULL, 0);
	}
}

/* Answer all that is asked, but for the first of @opcode. */
static int silent_until(struct silent *silent, uint32_t opcode,
			struct fuse_in_header *header)
{
	for (;;) {
		CHECK(!fuse_read_request(silent->fuse, header));
		if (header->opcode == opcode)
			return 0;
		CHECK(!silent_answer(silent, header));
	}
}

static int mount_and_go(void *arg)
{
	CHECK(!open_silent(arg));
	return mount_silent(arg);
}

/*
 * Where FUSE is not known to be safe, mode all leaves it to a worker, who then hangs, and
 * of these there are so many.
 */
static const char *attack_needs_hands(const char *mode)
{
	const char *reason = attack_needs_fuse();
	struct silent silent;
	long left;

	if (reason || strcmp(mode, "all") || nsp_set("mode", mode))
		return reason;
	left = nsp_num("stats/left");
	if (nsp_wait(nsp_start_in(CLONE_NEWNS, mount_and_go, &silent)))
		return "FUSE cannot be mounted here";
	return nsp_num("stats/left") > left ? "mode all leaves FUSE to a worker here" : NULL;
}

/* Mount one, and have its superblock held. */
static int silent_begin(struct silent *silent)
{
	static const unsigned int last[] = { FUSE_INIT, FUSE_FLUSH, FUSE_MKDIR };
	struct fuse_in_header header;

	CHECK(!pipe2(silent->mounted, O_CLOEXEC) && !pipe2(silent->go, O_CLOEXEC));
	silent->inside = false;
	CHECK(!open_silent(silent));
	silent->user = nsp_start_in(CLONE_NEWNS, use_silent, silent);
	CHECK(silent->user > 0);
	CHECK(nsp_hear(silent->mounted[0]) == 1);
	CHECK(!silent_until(silent, last[silent->by], &header));
	CHECK(!silent_answer(silent, &header));
	if (silent->by == BY_WRITEBACK)
		return 0;
	silent->asker = nsp_start(ask_silent, silent);
	CHECK(silent->asker > 0);
	/* Then somebody is, and cannot be killed any more. */
	while (!silent->inside) {
		CHECK(!fuse_read_request(silent->fuse, &header));
		CHECK(!silent_answer(silent, &header));
	}
	return 0;
}

/* Its connection ends with the superblock. */
static bool silent_is_there(const struct silent *silent)
{
	struct pollfd fd = { .fd = silent->fuse };

	return !poll(&fd, 1, 0);
}

/* The letter that ps(1) shows, and PF_* of the kernel. */
static char state_of(pid_t pid, unsigned int *flags)
{
	char path[64], text[256], state;
	const char *rest;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	if (nsp_get(path, text, sizeof(text)))
		return 0;
	rest = strrchr(text, ')');
	if (!rest || sscanf(rest, ") %c %*d %*d %*d %*d %*d %u", &state, flags) != 2)
		return 0;
	return state;
}

#define PF_EXITING	0x4

/*
 * Does he not get any farther in his exit?  Nothing that takes a reference to his
 * namespace may be asked for: who has the last one hangs in his place.
 */
static bool is_kept_in_exit(pid_t pid)
{
	unsigned int flags;

	return state_of(pid, &flags) == 'D' && flags & PF_EXITING;
}

/* Does it sleep, and not by its own will? */
static bool is_kept(pid_t pid)
{
	unsigned int flags;

	return state_of(pid, &flags) == 'D';
}

/* Who uses it exits, and that is kept; or it is a worker who shuts it down. */
static int silent_leave(struct silent *silent)
{
	struct fuse_in_header header;

	CHECK(!nsp_tell(silent->go[1], 1));
	while (!is_over(silent->user) && !is_kept_in_exit(silent->user))
		sched_yield();
	return silent->by == BY_RING ? silent_until(silent, FUSE_RELEASE, &header) : 0;
}

/* The end of the daemon is the end of the connection. */
static int silent_abort(struct silent *silent)
{
	CHECK(silent_is_there(silent));
	return close(silent->fuse);
}

/* After that. */
static int silent_end(struct silent *silent)
{
	CHECK(!silent->asker || !nsp_wait(silent->asker));
	CHECK(!nsp_wait(silent->user));
	close(silent->mounted[0]);
	close(silent->mounted[1]);
	close(silent->go[0]);
	close(silent->go[1]);
	return 0;
}

FIXTURE(attacks)
{
	struct place at;
	struct attack attack;
	long waits;
};

FIXTURE_VARIANT(attacks)
{
	const char *mode;
};

NSP_MODE_VARIANTS(attacks);

FIXTURE_SETUP(attacks)
{
	ASSERT_EQ(0, let_hang());
	ASSERT_EQ(0, place_make(&self->at, variant->mode));
	self->attack.dir = self->at.dir;
	self->waits = waits_for_others();
}

FIXTURE_TEARDOWN(attacks)
{
	EXPECT_EQ(0, nsp_flush());
	EXPECT_EQ(0, nsp_num("pending"));
	EXPECT_EQ(0, place_drop(&self->at));
	EXPECT_EQ(0, let_hang_no_more());
}

/* In the tests, since not every harness stops for a SKIP in the setup. */
#define NEEDS(why) do {							\
	const char *reason = nsp_needs_mode(variant->mode);		\
									\
	if (!nsp_defers_mounts())					\
		reason = "up to Linux 3.16 umount(2) waits for what is pending"; \
	if (!reason)							\
		reason = (why);						\
	if (reason)							\
		SKIP(return, "%s", reason);				\
} while (0)

/* Others do all they do, and have waited for nobody when they have done it. */
#define EXPECT_NOBODY_WAITS() do {					\
	EXPECT_EQ(0, do_as_others(self->at.dir));			\
	EXPECT_EQ(0, nsp_flush());					\
	EXPECT_EQ(self->waits, waits_for_others());			\
} while (0)

/*
 * A work item of the kernel's hangs, one for the whole machine.  A flush waits for all
 * that is being closed, and may be killed.
 */
#define EXPECT_ONLY_FLUSH_WAITS() do {					\
	pid_t flusher = nsp_start(run_flush, NULL);			\
									\
	ASSERT_LT(0, flusher);						\
	while (!is_over(flusher) && !is_kept(flusher))			\
		sched_yield();						\
	EXPECT_EQ(0, do_as_others(self->at.dir));			\
	EXPECT_EQ(self->waits, waits_for_others());			\
	EXPECT_FALSE(is_over(flusher));					\
	EXPECT_EQ(0, nsp_end(flusher));					\
} while (0)

static struct silent *make_silents(long n)
{
	struct rlimit files = { .rlim_cur = 1024, .rlim_max = 1024 };

	/* One of theirs and four for the words, until they are over. */
	if (setrlimit(RLIMIT_NOFILE, &files) || n * 5 + 32 > (long)files.rlim_max)
		return NULL;
	return nsp_shared(n * sizeof(struct silent));
}

/*
 * More of them than the engine has hands.  Who uses one hangs in his exit, as on
 * every kernel, and no worker does for him.
 */
static int attack_by_many(struct attack *attack)
{
	struct silent *silents = make_silents(attack->n);
	int i;

	CHECK(silents);
	for (i = 0; i < attack->n; i++) {
		silents[i].by = attack->by;
		CHECK(!silent_begin(&silents[i]));
		CHECK(attack->by == BY_TASK || is_locked(silents[i].dev));
		CHECK(!silent_leave(&silents[i]));
		/* The kernel closes one file after the other, and does not get past the first. */
		while (!i && attack->by == BY_WRITEBACK && is_locked(silents[i].dev))
			sched_yield();
	}
	CHECK(!attack_is_on(attack));
	for (i = 0; i < attack->n; i++)
		CHECK(attack->by != BY_TASK || !is_over(silents[i].user));
	for (i = 0; i < attack->n; i++)
		CHECK(!silent_abort(&silents[i]));
	for (i = 0; i < attack->n; i++)
		CHECK(!silent_end(&silents[i]));
	return 0;
}

static void run_many(struct __test_metadata *_metadata, FIXTURE_DATA(attacks) *self,
		     enum holder by)
{
	self->attack.fn = attack_by_many;
	self->attack.by = by;
	self->attack.n = nsp_env("NSPROXY_TEST_HANGS", 130);
	ASSERT_EQ(0, attack_start(&self->attack));
	if (by != BY_TASK)
		EXPECT_ONLY_FLUSH_WAITS();
	else
		EXPECT_NOBODY_WAITS();
	EXPECT_EQ(0, attack_end(&self->attack));
}

TEST_F_TIMEOUT(attacks, many_do_not_answer, NSP_TIMEOUT)
{
	NEEDS(attack_needs_hands(variant->mode));
	run_many(_metadata, self, BY_TASK);
}

/* Then it is not the user who hangs, but who puts what the ring had. */
TEST_F_TIMEOUT(attacks, many_had_a_ring, NSP_TIMEOUT)
{
	NEEDS(attack_needs_ring() ?: attack_needs_fuse());
	run_many(_metadata, self, BY_RING);
}

/* And then it is who closes it, before anything is put. */
TEST_F_TIMEOUT(attacks, many_are_written_back, NSP_TIMEOUT)
{
	NEEDS(attack_needs_ring() ?: attack_needs_fuse());
	run_many(_metadata, self, BY_WRITEBACK);
}

/*
 * Two that hang in turns, so that there always is one: who waited for those before
 * him, and then looked again, would wait for ever.
 */
#define TURNS 10

static int attack_in_turns(struct attack *attack)
{
	struct silent *silents = make_silents(2), *this, *next;

	CHECK(silents);
	this = &silents[0];
	next = &silents[1];
	CHECK(!silent_begin(this) && !silent_leave(this));
	CHECK(!nsp_tell(attack->ready[1], 1));
	while (!attack->shared->over) {
		CHECK(!silent_begin(next) && !silent_leave(next));
		CHECK(!is_over(this->user));
		CHECK(!silent_abort(this) && !silent_end(this));
		this = next;
		next = &silents[next == silents];
		attack->shared->turns++;
	}
	CHECK(!silent_abort(this));
	return silent_end(this);
}

TEST_F_TIMEOUT(attacks, in_turns, NSP_TIMEOUT)
{
	NEEDS(attack_needs_hands(variant->mode));
	self->attack.fn = attack_in_turns;
	ASSERT_EQ(0, attack_start(&self->attack));
	do {
		EXPECT_NOBODY_WAITS();
	} while (self->attack.shared->turns < TURNS && !is_over(self->attack.pid));
	EXPECT_LE(TURNS, self->attack.shared->turns);
	EXPECT_EQ(0, attack_end(&self->attack));
}

/*
 * A tmpfs of very many files, each of them empty: its end takes a processor and no
 * memory.  Who leaves it pays for that, and it is over when he is.
 */
struct filler {
	const struct attack *attack;
	int full[2];
};

#define FREE_INODES	16

/*
 * Is there still one of which so little is left?  The number may be another's by now:
 * of a ramfs nothing is, for it does not count.
 */
static bool is_still_full(unsigned int dev)
{
	struct {
		int f_tfree;
		unsigned long f_tinode;
		char f_fname[6];
		char f_fpack[6];
	} ustat;

	return !syscall(SYS_ustat, dev, &ustat) && ustat.f_tinode &&
	       ustat.f_tinode < FREE_INODES;
}

static int fill_and_leave(void *arg)
{
	const struct filler *filler = arg;
	long i, n = filler->attack->n;
	char options[64], path[64];
	unsigned int dev;

	CHECK(!mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL));
	snprintf(options, sizeof(options), "nr_inodes=%ld", n + FREE_INODES);
	CHECK(!mount("none", "/tmp", "tmpfs", 0, options));
	for (i = 0; i < n; i++) {
		snprintf(path, sizeof(path), "/tmp/%ld", i);
		CHECK(!mknod(path, S_IFREG | 0600, 0));
	}
	dev = device_of_mount("/tmp");
	CHECK(dev && is_still_full(dev) && !nsp_tell(filler->full[1], dev));
	return 0;
}

/* One of a user namespace, that may be mounted with mapped ids, is not safe before 6.9. */
static const char *attack_needs_tmpfs(const char *mode)
{
	bool rhel9 = nsp_linux(5, 14) && !nsp_linux(5, 15);

	if (!strcmp(mode, "all") && (nsp_linux(6, 3) || rhel9) && !nsp_linux(6, 9))
		return "mode all leaves such a tmpfs to a worker on Linux 6.3 to 6.8 and RHEL 9";
	return attack_needs_ustat();
}

static int attack_by_files(struct attack *attack)
{
	struct filler filler = { .attack = attack };
	pid_t pid;
	long dev;

	CHECK(!pipe2(filler.full, O_CLOEXEC));
	pid = nsp_start_in(CLONE_NEWNS, fill_and_leave, &filler);
	CHECK(pid > 0);
	close(filler.full[1]);
	dev = nsp_hear(filler.full[0]);
	CHECK(dev > 0);
	CHECK(!nsp_tell(attack->ready[1], 1));
	CHECK(!nsp_wait(pid));
	CHECK(!is_still_full(dev));
	return 0;
}

TEST_F_TIMEOUT(attacks, many_files, NSP_TIMEOUT)
{
	NEEDS(attack_needs_tmpfs(variant->mode));
	self->attack.fn = attack_by_files;
	self->attack.n = nsp_env("NSPROXY_TEST_FILES", 20000);
	ASSERT_EQ(0, attack_start(&self->attack));
	do {
		EXPECT_NOBODY_WAITS();
	} while (!is_over(self->attack.pid));
	EXPECT_EQ(0, attack_end(&self->attack));
}

/*
 * Very many who are refused a namespace, all at once: each of them waits for what is
 * dead and counted still, and these waits are one for all.
 */
struct refused {
	int ready[2];
	int go[2];
};

static int be_refused(void *arg)
{
	struct refused *refused = arg;

	CHECK(!close(refused->go[1]));
	CHECK(!nsp_tell(refused->ready[1], 1));
	CHECK(nsp_hear(refused->go[0]) == -1);
	CHECK(unshare(CLONE_NEWPID) && errno == ENOSPC);
	return 0;
}

static int attack_by_refused(struct attack *attack)
{
	pid_t *pids = calloc(attack->n, sizeof(*pids));
	struct refused refused;
	pid_t first;
	int i;

	CHECK(pids && !nsp_put("/proc/sys/user/max_pid_namespaces", "1"));
	first = nsp_start_target(CLONE_NEWPID);
	CHECK(first > 0);
	CHECK(!pipe2(refused.ready, O_CLOEXEC) && !pipe2(refused.go, O_CLOEXEC));
	for (i = 0; i < attack->n; i++) {
		pids[i] = nsp_start(be_refused, &refused);
		CHECK(pids[i] > 0);
		CHECK(nsp_hear(refused.ready[0]) == 1);
	}
	CHECK(!attack_is_on(attack));
	close(refused.go[1]);
	/* Some are called off, wherever they are. */
	for (i = 0; i < attack->n; i += 4)
		CHECK(!kill(pids[i], SIGKILL));
	for (i = 0; i < attack->n; i++)
		CHECK(nsp_wait(pids[i]) == 0 || i % 4 == 0);
	return nsp_end(first);
}

static int trace_barriers(const char *instance)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/set_ftrace_filter", instance);
	CHECK(!nsp_put(path, "rcu_barrier"));
	snprintf(path, sizeof(path), "%s/current_tracer", instance);
	CHECK(!nsp_put(path, "function"));
	return 0;
}

TEST_F_TIMEOUT(attacks, many_are_refused, NSP_TIMEOUT)
{
	char instance[128], path[160];
	long asked, barriers;

	NEEDS(attack_needs());
	if (access("/proc/sys/user/max_pid_namespaces", F_OK))
		SKIP(return, "this kernel has no limits for namespaces (they came with 4.9)");
	if (!nsp_supported(CLONE_NEWPID))
		SKIP(return, "this kernel lacks pid namespaces");
	if (!gp_possible() || !gp_tracing())
		SKIP(return, "this kernel has no function tracer");
	self->attack.fn = attack_by_refused;
	self->attack.n = nsp_env("NSPROXY_TEST_TASKS", 400);
	snprintf(instance, sizeof(instance), "%s/instances/nsproxy_attacks", gp_tracing());
	ASSERT_TRUE(!mkdir(instance, 0700) || errno == EEXIST);
	ASSERT_EQ(0, trace_barriers(instance));
	ASSERT_EQ(0, attack_start(&self->attack));
	asked = nsp_num("stats/flush_ucount");
	attack_go(&self->attack);
	do {
		EXPECT_NOBODY_WAITS();
	} while (!is_over(self->attack.pid));
	asked = nsp_num("stats/flush_ucount") - asked;
	EXPECT_EQ(0, attack_end(&self->attack));
	snprintf(path, sizeof(path), "%s/trace", instance);
	barriers = nsp_count_lines(path, ": rcu_barrier");
	snprintf(path, sizeof(path), "%s/current_tracer", instance);
	EXPECT_EQ(0, nsp_put(path, "nop"));
	EXPECT_EQ(0, rmdir(instance));
	TH_LOG("%ld waited, with %ld barriers", asked, barriers);
	if (strcmp(variant->mode, "off"))
		EXPECT_LT(0, asked);
	EXPECT_GT(self->attack.n / 4, barriers);
	EXPECT_LE(0, barriers);
}

/*
 * The kernel closes a file on a work item, one for the whole machine, where a
 * kernel thread had it last: that of an io_uring which is gone, for one.  Here it
 * is a socket that lingers until its peer has read, which he never does.
 */
static int lo_up(void)
{
	struct ifreq ifr = { .ifr_name = "lo", .ifr_flags = IFF_UP };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	CHECK(fd >= 0);
	CHECK(!ioctl(fd, SIOCSIFFLAGS, &ifr));
	return close(fd);
}

/* A connection, full of what nobody reads. */
static int connect_full(int *sock, int *peer)
{
	const struct linger linger = { .l_onoff = 1, .l_linger = INT_MAX };
	struct sockaddr_in at = {
		.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	socklen_t len = sizeof(at);
	char buf[4096] = "";

	*sock = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	CHECK(listener >= 0 && *sock >= 0);
	CHECK(!bind(listener, (struct sockaddr *)&at, len) && !listen(listener, 1));
	CHECK(!getsockname(listener, (struct sockaddr *)&at, &len));
	CHECK(!connect(*sock, (struct sockaddr *)&at, len));
	*peer = accept(listener, NULL, NULL);
	CHECK(*peer >= 0);
	while (send(*sock, buf, sizeof(buf), MSG_DONTWAIT) > 0)
		;
	CHECK(errno == EAGAIN);
	CHECK(!setsockopt(*sock, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)));
	return close(listener);
}

/* Is a socket of this network namespace being closed, and not through with that? */
static bool lingers(void)
{
	unsigned int state;
	bool found = false;
	char line[512];
	FILE *file;

	file = fopen("/proc/self/net/tcp", "r");
	if (!file)
		return false;
	while (fgets(line, sizeof(line), file))
		/* FIN_WAIT1 */
		if (sscanf(line, " %*d: %*s %*s %x", &state) == 1 && state == 4)
			found = true;
	fclose(file);
	return found;
}

static int attack_by_linger(struct attack *attack)
{
	struct io_uring_params params;
	int ring, sock, peer;

	CHECK(!unshare(CLONE_NEWNET));
	CHECK(!lo_up());
	CHECK(!connect_full(&sock, &peer));
	ring = ring_setup(&params);
	CHECK(!give_to_ring(ring, sock));
	CHECK(!close(ring));
	while (!lingers())
		sched_yield();
	CHECK(!attack_is_on(attack));
	CHECK(lingers());
	return close(peer);
}

TEST_F_TIMEOUT(attacks, kernel_closes_no_file, NSP_TIMEOUT)
{
	NEEDS(attack_needs_ring());
	if (!nsp_supported(CLONE_NEWNET) || access("/proc/self/net/tcp", F_OK))
		SKIP(return, "this kernel lacks network namespaces, or TCP");
	self->attack.fn = attack_by_linger;
	ASSERT_EQ(0, attack_start(&self->attack));
	ASSERT_EQ(0, nsp_leave(3));
	EXPECT_ONLY_FLUSH_WAITS();

	/* These have left nothing behind. */
	while (nsp_num("pending") || nsp_num("stats/light") != nsp_num("stats/light_released"))
		sched_yield();
	EXPECT_EQ(0, attack_end(&self->attack));
}

/*
 * A file of root's that others have mounted, on itself or somewhere: these mounts go
 * when root renames another one to its name, and it is root who takes them off.
 */
FIXTURE(replaced)
{
	struct place at;
	struct attack attack;
	char file[96];
	char other[100];
};

FIXTURE_VARIANT(replaced)
{
	bool held;
};

FIXTURE_VARIANT_ADD(replaced, mounted)
{
	.held = false,
};

FIXTURE_VARIANT_ADD(replaced, mounted_and_open)
{
	.held = true,
};

FIXTURE_SETUP(replaced)
{
	ASSERT_EQ(0, place_make(&self->at, "off"));
	snprintf(self->file, sizeof(self->file), "%s/passwd", self->at.dir);
	snprintf(self->other, sizeof(self->other), "%s+", self->file);
	self->attack.file = self->file;
	self->attack.held = variant->held;
	self->attack.n = 20;
}

FIXTURE_TEARDOWN(replaced)
{
	EXPECT_EQ(0, nsp_flush());
	EXPECT_EQ(0, nsp_num("pending"));
	EXPECT_EQ(0, place_drop(&self->at));
}

static int make_file(const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

	CHECK(fd >= 0);
	return close(fd);
}

struct binder {
	const struct attack *attack;
	int mounted[2];
	int go[2];
};

static int bind_file(void *arg)
{
	const struct binder *binder = arg;
	const char *file = binder->attack->file;

	CHECK(!close(binder->go[1]));
	CHECK(!mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL));
	CHECK(!mount(file, file, NULL, MS_BIND, NULL));
	CHECK(device_of_mount(file));
	if (binder->attack->held)
		CHECK(open(file, O_RDONLY | O_CLOEXEC) >= 0);
	CHECK(!nsp_tell(binder->mounted[1], 1));
	/* End of file is the word; the mount has gone with the name. */
	CHECK(nsp_hear(binder->go[0]) == -1);
	CHECK(!device_of_mount(file));
	return 0;
}

static int attack_by_binds(struct attack *attack)
{
	struct binder binder = { .attack = attack };
	pid_t pids[64];
	int i;

	CHECK(attack->n <= (long)ARRAY_SIZE(pids));
	CHECK(!pipe2(binder.mounted, O_CLOEXEC) && !pipe2(binder.go, O_CLOEXEC));
	for (i = 0; i < attack->n; i++) {
		pids[i] = nsp_start_in(CLONE_NEWNS, bind_file, &binder);
		CHECK(pids[i] > 0);
		CHECK(nsp_hear(binder.mounted[0]) == 1);
	}
	CHECK(!attack_is_on(attack));
	close(binder.go[1]);
	for (i = 0; i < attack->n; i++)
		CHECK(!nsp_wait(pids[i]));
	return 0;
}

/* How many grace periods does the rename wait for? */
static long rename_in(struct __test_metadata *_metadata, FIXTURE_DATA(replaced) *self,
		      const char *mode)
{
	long gps;

	self->attack.fn = attack_by_binds;
	ASSERT_EQ(0, nsp_set("mode", mode));
	ASSERT_EQ(0, make_file(self->file));
	ASSERT_EQ(0, make_file(self->other));
	ASSERT_EQ(0, attack_start(&self->attack));
	ASSERT_EQ(0, gp_begin());
	EXPECT_EQ(0, rename(self->other, self->file));
	gps = gp_end();
	ASSERT_LE(0, gps) {
		TH_LOG("cannot count grace periods: %s", gp_error());
	}
	EXPECT_EQ(0, attack_end(&self->attack));
	return gps;
}

TEST_F_TIMEOUT(replaced, rename, NSP_TIMEOUT)
{
	long off, safe, all;

	if (!nsp_defers_mounts())
		SKIP(return, "a file that others mount on is busy up to Linux 3.17");
	if (attack_needs())
		SKIP(return, "%s", attack_needs());
	if (!gp_possible())
		SKIP(return, "this kernel has no function tracer");
	ASSERT_EQ(0, gp_open());
	off = rename_in(_metadata, self, "off");
	safe = rename_in(_metadata, self, "safe");
	all = rename_in(_metadata, self, "all");
	gp_close();
	TH_LOG("grace periods in mode off: %ld, safe: %ld, all: %ld", off, safe, all);
	EXPECT_LT(0, off);
	EXPECT_GE(variant->held ? off : 0, safe);
	EXPECT_EQ(0, all);
}

NSP_TEST_MAIN(nsp_prepare_present)
