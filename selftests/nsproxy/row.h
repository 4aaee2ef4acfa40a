/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A row of the promise: what is mounted where nobody else sees it, how it is
 * left, and how to see that it is gone.  Every row is tried in mode off, which is
 * stock, in mode safe, where it holds as it stands, too, and in mode all, where it
 * holds after a write to flush, but after umount(2) as it stands.
 */
#ifndef NSPROXY_ROW_H
#define NSPROXY_ROW_H

#include "place.h"

#include <sys/statfs.h>

/* The last two: so many namespaces have the superblock, and die together. */
enum leave {
	BY_EXIT, BY_SETNS, BY_UNSHARE, BY_DETACH, BY_TWO, BY_TWENTY, NR_LEAVES
};

static const char *const leave_names[NR_LEAVES] = {
	"exit", "setns", "unshare and umount", "MNT_DETACH", "the exit of 2",
	"the exit of 20",
};

struct row {
	const char *dev;
	const char *mnt;
	const char *type;
	const char *options;
	unsigned long flags;
	off_t size;
	bool shared;
	bool flush;
	int rounds;
	enum leave leave;
	int (*mount)(const struct row *row);
	int (*check)(const struct row *row);
	long arg;
	void *data;
};

FIXTURE(fidelity)
{
	struct place at;
	bool flush;
	int rounds;
	struct row row;
};

FIXTURE_VARIANT(fidelity)
{
	const char *mode;
};

NSP_MODE_VARIANTS(fidelity);

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
	self->rounds = strcmp(variant->mode, "off") ?
		       nsp_env("NSPROXY_TEST_ROUNDS", 4) : 1;
	self->row = (struct row){
		.dev = "none",
		.mnt = self->at.mnt,
		.flush = self->flush,
		.rounds = self->rounds,
	};
}

FIXTURE_TEARDOWN(fidelity)
{
	EXPECT_EQ(0, place_drop(&self->at));
}

/* Where mode=all promises no more, this is where the promise begins. */
static inline int settle(const struct row *row)
{
	return row->flush ? nsp_flush() : 0;
}

/* umount(2) is final in each mode, so there is nothing to settle. */
static inline int umount_row(const struct row *row)
{
	CHECK(!umount(row->mnt));
	return 0;
}

static inline int mount_row(const struct row *row)
{
	char path[128];
	int fd;

	CHECK(!mount(row->dev, row->mnt, row->type, row->flags, row->options));
	snprintf(path, sizeof(path), "%s/file", row->mnt);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	CHECK(fd >= 0);
	CHECK(write(fd, path, sizeof(path)) == sizeof(path));
	CHECK(!row->size || !posix_fallocate(fd, 0, row->size));
	CHECK(!close(fd));
	return 0;
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

static inline int held_mount(const struct row *row)
{
	/* A copy of what is shared gets what is mounted there, and passes on. */
	CHECK(row->shared ? !unshare(CLONE_NEWNS) : !nsp_own_mounts());
	if (row->mount)
		CHECK(!row->mount(row));
	else if (row->dev)
		CHECK(!mount(row->dev, row->mnt, row->type, 0, row->options));
	return 0;
}

static inline int held_life(void *arg)
{
	const struct held *held = arg;
	int err = held_mount(held->row);
	char c;

	CHECK(!close(held->go[1]));
	CHECK(write(held->ready[1], err ? "!" : "x", 1) == 1);
	/* End of file is the word. */
	CHECK(read(held->go[0], &c, 1) == 0);
	return err;
}

static inline int held_open(struct held *held, const struct row *row)
{
	held->row = row;
	return pipe2(held->ready, O_CLOEXEC) || pipe2(held->go, O_CLOEXEC);
}

static inline pid_t held_start(struct held *held)
{
	pid_t pid = nsp_start(held_life, held);
	char c;

	if (pid > 0 && read(held->ready[0], &c, 1) == 1 && c == 'x')
		return pid;
	return -1;
}

static inline void held_go(struct held *held)
{
	close(held->go[0]);
	close(held->go[1]);
	close(held->ready[0]);
	close(held->ready[1]);
}

/* Pass it on to @n namespaces, go back to @before, and let these die at once. */
static inline int leave_to_many(int before, int n)
{
	const struct row copy = { .shared = true };
	struct held held;
	pid_t pids[20];
	int i;

	CHECK(!held_open(&held, &copy));
	for (i = 0; i < n; i++) {
		pids[i] = held_start(&held);
		CHECK(pids[i] > 0);
	}
	CHECK(!setns(before, CLONE_NEWNS));
	held_go(&held);
	for (i = 0; i < n; i++)
		CHECK(!nsp_wait(pids[i]));
	return 0;
}

static inline int live_row(void *arg)
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
	case BY_TWO:
		CHECK(!leave_to_many(before, 2));
		break;
	case BY_TWENTY:
		CHECK(!leave_to_many(before, 20));
		break;
	default:
		return 0;
	}
	CHECK(!settle(row));
	return row->check(row);
}

/* After a failure: the next way to leave it is to be judged by itself. */
static inline void start_over(const struct row *row)
{
	nsp_flush();
	umount2(row->mnt, MNT_DETACH);
	nsp_flush();
	row->check(row);
}

/* Leave it in every way there is; 0 if the check held each time. */
static inline int run_row(struct row *row)
{
	int i, rounds, err = 0;

	if (!row->mount)
		row->mount = mount_row;
	for (row->leave = 0; row->leave < NR_LEAVES; row->leave++) {
		rounds = row->rounds;
		if (row->leave == BY_TWENTY)
			rounds = (rounds + 1) / 2;
		for (i = 0; i < rounds; i++) {
			if (!nsp_run(live_row, row) && !settle(row) &&
			    !row->check(row))
				continue;
			fprintf(stderr, "# left by %s, round %d\n",
				leave_names[row->leave], i);
			start_over(row);
			err = -1;
			break;
		}
	}
	return err;
}

static const char *const block_types[] = { "ext2", "ext4", "vfat" };

static inline const char *block_type(void)
{
	size_t t;

	for (t = 0; t < ARRAY_SIZE(block_types); t++)
		if (disk_has_filesystem(block_types[t]))
			return block_types[t];
	return NULL;
}

#define NO_BLOCK_TYPE "this kernel has none of ext2, ext4 and vfat"

static inline int format_device(const char *dev, const char *type)
{
	int fd = open(dev, O_RDWR | O_CLOEXEC);

	CHECK(fd >= 0);
	CHECK(!disk_format_as(fd, type));
	CHECK(!fsync(fd));
	CHECK(!close(fd));
	return 0;
}

/* Does nobody else use the device? */
static inline int opens_exclusively(const struct row *row)
{
	int fd = open(row->dev, O_RDWR | O_EXCL | O_CLOEXEC);

	CHECK(fd >= 0);
	CHECK(!close(fd));
	return 0;
}

#endif /* NSPROXY_ROW_H */
