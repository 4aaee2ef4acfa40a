// SPDX-License-Identifier: GPL-2.0-only
/*
 * The promise: what had only the dead for users is free when the call has returned.
 *
 * A task mounts a device where nobody else sees it and leaves it, in each of the
 * ways that row.h knows.  When that has returned, whoever comes next finds the
 * device as if it had never been mounted: it can be opened for oneself, mounted
 * with other options, overwritten, taken apart.  What is found of the dead is
 * worst where nothing fails: options that were never asked for, contents that turn
 * up in the new image.
 *
 * The race: the worker that shuts a file system down and the next user of its
 * device.  sget() finds a superblock that is up, and takes it.
 */
#include "row.h"

#include <linux/dm-ioctl.h>
#include <sys/sysmacros.h>

#ifndef FS_IOC_SHUTDOWN
#define FS_IOC_SHUTDOWN _IOR('X', 125, __u32)
#endif

/*
 * The row with each of the file systems there are, and one of them on brd, too,
 * unless it is about one type, or one device.
 */
static const char *run_types(struct __test_metadata *_metadata,
			     FIXTURE_DATA(fidelity) *self, struct row row)
{
	const char *dev = row.dev, *type = row.type;
	size_t t;
	int runs = 0;

	row.mnt = self->at.mnt;
	row.flush = self->flush;
	/* There are several of them. */
	row.rounds = (self->rounds + 1) / 2;
	for (t = 0; t < ARRAY_SIZE(block_types); t++) {
		row.type = block_types[t];
		if (!disk_has_filesystem(row.type) ||
		    (type && strcmp(type, row.type)))
			continue;
		row.dev = dev ? dev : self->at.disk.dev;
		ASSERT_EQ(0, format_device(row.dev, row.type));
		EXPECT_EQ(0, run_row(&row)) {
			TH_LOG("%s on %s", row.type, row.dev);
		}
		row.dev = "/dev/ram0";
		if (runs++ || dev || access(row.dev, F_OK))
			continue;
		ASSERT_EQ(0, format_device(row.dev, row.type));
		EXPECT_EQ(0, run_row(&row)) {
			TH_LOG("%s on %s", row.type, row.dev);
		}
	}
	if (type && !runs)
		return "this kernel lacks this type of file system";
	return runs ? NULL : NO_BLOCK_TYPE;
}

/* The same on a disk of its own, or a reason to skip. */
static const char *run_disk(struct __test_metadata *_metadata,
			    FIXTURE_DATA(fidelity) *self, struct row row)
{
	const char *why = disk_make(&self->at.disk, self->at.dir);

	return why ? why : run_types(_metadata, self, row);
}

#define RUN_DISK(...) do {						\
	const char *why = run_disk(_metadata, self,			\
				   (struct row){ __VA_ARGS__ });	\
									\
	if (why)							\
		SKIP(return, "%s", why);				\
} while (0)

TEST_F_TIMEOUT(fidelity, device_opens_exclusively, NSP_TIMEOUT)
{
	RUN_DISK(.check = opens_exclusively);
}

/* LTP's mkfs met EBUSY; what it makes must also be there to be mounted. */
static int takes_mkfs(const struct row *row)
{
	int fd = open(row->dev, O_RDWR | O_EXCL | O_CLOEXEC);

	CHECK(fd >= 0);
	CHECK(!disk_format_as(fd, row->type));
	CHECK(!fsync(fd));
	CHECK(!close(fd));
	CHECK(!mount(row->dev, row->mnt, row->type, 0, NULL));
	return umount_row(row);
}

TEST_F_TIMEOUT(fidelity, device_takes_mkfs, NSP_TIMEOUT)
{
	RUN_DISK(.check = takes_mkfs);
}

/* A superblock that is still there is writable, and does not go read-only. */
static int mounts_read_only(const struct row *row)
{
	CHECK(!mount(row->dev, row->mnt, row->type, MS_RDONLY, NULL));
	return umount_row(row);
}

static int is_writable(const struct row *row)
{
	CHECK(!mount_row(row));
	return umount_row(row);
}

static int mount_read_only(const struct row *row)
{
	CHECK(!mount(row->dev, row->mnt, row->type, MS_RDONLY, NULL));
	return 0;
}

TEST_F_TIMEOUT(fidelity, device_mounts_read_only, NSP_TIMEOUT)
{
	RUN_DISK(.check = mounts_read_only);
}

TEST_F_TIMEOUT(fidelity, device_mounts_writable, NSP_TIMEOUT)
{
	RUN_DISK(.mount = mount_read_only, .check = is_writable);
}

/* And it keeps the options that it has. */
struct options {
	const char *type;
	const char *given;
	const char *shown;
};

static const struct options other_options[] = {
	{ "ext2", "errors=remount-ro", "errors=remount-ro" },
	{ "ext4", "errors=remount-ro,commit=7,data=writeback",
	  "errors=remount-ro,commit=7,data=writeback" },
	{ "vfat", "uid=17,umask=077", "uid=17,fmask=0077,dmask=0077" },
};

/* What mountinfo shows as the options of the superblock on @mnt: ",a,b,". */
static int super_options(const char *mnt, char *options, size_t size)
{
	char line[1024], point[256];
	FILE *file;

	options[0] = '\0';
	file = fopen("/proc/self/mountinfo", "r");
	if (!file)
		return -1;
	while (fgets(line, sizeof(line), file)) {
		if (sscanf(line, "%*d %*d %*s %*s %255s", point) != 1 ||
		    strcmp(point, mnt))
			continue;
		line[strcspn(line, "\n")] = '\0';
		snprintf(options, size, ",%s,", strrchr(line, ' ') + 1);
	}
	fclose(file);
	return options[0] ? 0 : -1;
}

static int takes_options(const struct row *row)
{
	const struct options *other = other_options;
	char shown[512], all[512], wanted[128], *word, *save = NULL;

	while (strcmp(other->type, row->type))
		other++;
	CHECK(!mount(row->dev, row->mnt, row->type, 0, other->given));
	CHECK(!super_options(row->mnt, shown, sizeof(shown)));
	snprintf(all, sizeof(all), "%s", other->shown);
	for (word = strtok_r(all, ",", &save); word;
	     word = strtok_r(NULL, ",", &save)) {
		snprintf(wanted, sizeof(wanted), ",%s,", word);
		if (!strstr(shown, wanted)) {
			fprintf(stderr, "# %s: asked for %s, got %s\n",
				row->type, other->given, shown);
			return 1;
		}
	}
	return umount_row(row);
}

TEST_F_TIMEOUT(fidelity, device_takes_options, NSP_TIMEOUT)
{
	RUN_DISK(.check = takes_options);
}

/*
 * A new image, written by somebody who has seen the other one exit, is not
 * overwritten by what the dead had not written out yet.
 */
#define IMAGE_SIZE (1536 << 10)

static int fill_device(const struct row *row)
{
	char path[128], text[4096];
	int i, fd;

	CHECK(!format_device(row->dev, row->type));
	CHECK(!mount(row->dev, row->mnt, row->type, 0, NULL));
	snprintf(path, sizeof(path), "%s/file", row->mnt);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	CHECK(fd >= 0);
	memset(text, 'x', sizeof(text));
	for (i = 0; i < 16; i++)
		CHECK(write(fd, text, sizeof(text)) == sizeof(text));
	CHECK(!close(fd));
	return 0;
}

static int keeps_image(const struct row *row)
{
	int i, fd = open(row->dev, O_RDWR | O_DIRECT | O_CLOEXEC);
	unsigned char *image;

	CHECK(fd >= 0);
	CHECK(!posix_memalign((void **)&image, 4096, IMAGE_SIZE));
	memset(image, 0xa5, IMAGE_SIZE);
	CHECK(pwrite(fd, image, IMAGE_SIZE, 0) == IMAGE_SIZE);
	/* If anything is pending, in whatever mode, then it comes now. */
	CHECK(!nsp_flush());
	CHECK(pread(fd, image, IMAGE_SIZE, 0) == IMAGE_SIZE);
	for (i = 0; i < IMAGE_SIZE; i++)
		if (image[i] != 0xa5)
			break;
	free(image);
	CHECK(!close(fd));
	if (i == IMAGE_SIZE)
		return 0;
	fprintf(stderr, "# %s: overwritten at %d\n", row->type, i);
	return 1;
}

TEST_F_TIMEOUT(fidelity, device_keeps_image, NSP_TIMEOUT)
{
	RUN_DISK(.mount = fill_device, .check = keeps_image);
}

/* ext4 that the dead have shut down is not what the next one gets to write to. */
static int mount_and_shut_down(const struct row *row)
{
	int fd, err;
	__u32 how = 0;

	CHECK(!format_device(row->dev, row->type));
	CHECK(!mount_row(row));
	fd = open(row->mnt, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CHECK(fd >= 0);
	err = ioctl(fd, FS_IOC_SHUTDOWN, &how) ? errno : 0;
	CHECK(!close(fd));
	return err;
}

TEST_F_TIMEOUT(fidelity, shut_down_is_not_found, NSP_TIMEOUT)
{
	const char *why = disk_make(&self->at.disk, self->at.dir);
	struct row row = self->row;
	int err;

	row.dev = self->at.disk.dev;
	row.type = "ext4";
	row.mount = mount_and_shut_down;
	row.check = is_writable;
	if (!why && !disk_has_filesystem(row.type))
		why = "this kernel has no ext4";
	if (why)
		SKIP(return, "%s", why);
	err = row.mount(&row);
	ASSERT_EQ(0, umount(row.mnt));
	ASSERT_EQ(0, nsp_flush());
	if (err == ENOTTY)
		SKIP(return, "ext4 cannot be shut down here (that came with Linux 4.11)");
	ASSERT_EQ(0, err);
	ASSERT_EQ(NULL, run_types(_metadata, self, row));
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

TEST_F_TIMEOUT(fidelity, loop_device_clears, NSP_TIMEOUT)
{
	const char *why = disk_make(&self->at.disk, self->at.dir);
	struct row row = {
		.dev = self->at.disk.dev,
		.check = loop_clears,
	};

	if (!why) {
		/* Nobody but who says losetup -d has it open. */
		close(self->at.disk.loop);
		why = run_types(_metadata, self, row);
		self->at.disk.loop = open(self->at.disk.dev, O_RDWR | O_CLOEXEC);
	}
	if (why)
		SKIP(return, "%s", why);
}

/* mount -o loop: the loop device goes with the mount, and then the image can. */
struct image {
	struct disk disk;
	const char *dir;
	unsigned long free;
};

static int mount_image(const struct row *row)
{
	struct loop_info64 info = { .lo_flags = LO_FLAGS_AUTOCLEAR };
	struct image *image = row->data;
	struct statfs st;

	CHECK(!statfs(image->dir, &st));
	image->free = st.f_bfree;
	CHECK(!disk_make(&image->disk, image->dir));
	CHECK(!format_device(image->disk.dev, row->type));
	CHECK(!ioctl(image->disk.loop, LOOP_SET_STATUS64, &info));
	CHECK(!mount_row(row));
	CHECK(!close(image->disk.loop));
	CHECK(!close(image->disk.image));
	return 0;
}

static int image_is_free(const struct row *row)
{
	int loop = open(row->dev, O_RDWR | O_CLOEXEC);
	struct image *image = row->data;
	struct loop_info64 info;
	char path[128];
	struct statfs st;

	CHECK(loop >= 0);
	CHECK(ioctl(loop, LOOP_GET_STATUS64, &info) && errno == ENXIO);
	CHECK(!close(loop));
	snprintf(path, sizeof(path), "%s/image", image->dir);
	CHECK(!unlink(path) || errno == ENOENT);
	CHECK(!statfs(image->dir, &st));
	CHECK(st.f_bfree == image->free);
	return 0;
}

TEST_F_TIMEOUT(fidelity, loop_device_clears_itself, NSP_TIMEOUT)
{
	struct image *image = nsp_shared(sizeof(*image));
	struct row row = self->row;
	size_t t;

	row.rounds = (self->rounds + 1) / 2;
	row.mount = mount_image;
	row.check = image_is_free;
	row.data = image;
	ASSERT_NE(NULL, image);
	if (access("/dev/loop-control", F_OK))
		SKIP(return, "no /dev/loop-control: this kernel has no loop devices");
	if (!block_type())
		SKIP(return, NO_BLOCK_TYPE);
	image->dir = self->at.dir;
	row.dev = image->disk.dev;
	for (t = 0; t < ARRAY_SIZE(block_types); t++) {
		row.type = block_types[t];
		if (!disk_has_filesystem(row.type))
			continue;
		EXPECT_EQ(0, run_row(&row)) {
			TH_LOG("%s", row.type);
		}
	}
}

/* dmsetup remove: what a device mapper has made of another device, here all. */
struct mapped {
	char dev[32];
	char name[32];
	char target[32];
	__u64 number;
};

struct dm_request {
	struct dm_ioctl head;
	struct dm_target_spec spec;
	char target[32];
};

static int dm_call(struct dm_request *request, const struct mapped *mapped,
		   unsigned int command)
{
	struct dm_ioctl *head = &request->head;
	int err, ctl = open("/dev/mapper/control", O_RDWR | O_CLOEXEC);

	CHECK(ctl >= 0);
	head->version[0] = 4;
	head->data_size = sizeof(*request);
	head->data_start = sizeof(*head);
	strcpy(head->name, mapped->name);
	err = ioctl(ctl, command, request) ? errno : 0;
	close(ctl);
	errno = err;
	return err ? -1 : 0;
}

static int dm_create(struct mapped *mapped)
{
	struct dm_request create = { .head.dev = mapped->number };
	struct dm_request load = { .head.target_count = 1 };
	struct dm_request resume = {};

	/* The second time it is to have the name that it had. */
	if (mapped->number)
		create.head.flags = DM_PERSISTENT_DEV_FLAG;
	CHECK(!dm_call(&create, mapped, DM_DEV_CREATE));
	mapped->number = create.head.dev;
	load.spec.length = DISK_SIZE / 512;
	strcpy(load.spec.target_type, "linear");
	strcpy(load.target, mapped->target);
	CHECK(!dm_call(&load, mapped, DM_TABLE_LOAD));
	CHECK(!dm_call(&resume, mapped, DM_DEV_SUSPEND));
	snprintf(mapped->dev, sizeof(mapped->dev), "/dev/dm-%u",
		 minor(mapped->number));
	return 0;
}

static int dm_remove(const struct mapped *mapped)
{
	struct dm_request remove = {};

	return dm_call(&remove, mapped, DM_DEV_REMOVE);
}

static int is_removed(const struct row *row)
{
	CHECK(!dm_remove(row->data));
	CHECK(!dm_create(row->data));
	return 0;
}

TEST_F_TIMEOUT(fidelity, mapped_device_is_removed, NSP_TIMEOUT)
{
	struct mapped mapped = { .name = "" };
	struct row row = {
		.dev = mapped.dev,
		.check = is_removed,
		.data = &mapped,
	};
	const char *why;
	struct stat st;

	if (access("/dev/mapper/control", F_OK))
		SKIP(return, "no /dev/mapper/control: this kernel has no device mapper");
	why = disk_make(&self->at.disk, self->at.dir);
	if (why)
		SKIP(return, "%s", why);
	ASSERT_EQ(0, stat(self->at.disk.dev, &st));
	snprintf(mapped.name, sizeof(mapped.name), "nsproxy.%d", (int)getpid());
	snprintf(mapped.target, sizeof(mapped.target), "%u:%u 0",
		 major(st.st_rdev), minor(st.st_rdev));
	ASSERT_EQ(0, dm_create(&mapped));
	why = run_types(_metadata, self, row);
	EXPECT_EQ(0, dm_remove(&mapped));
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
		ASSERT_EQ(NULL, run_types(_metadata, self, row));
		runs++;
	}
	if (!runs)
		SKIP(return, "no file system for disks is a loaded module here");
}

/* Process accounting to a file there ends with the mount, and holds nothing. */
static int mount_accounting(const struct row *row)
{
	char path[128];

	CHECK(!mount_row(row));
	snprintf(path, sizeof(path), "%s/file", row->mnt);
	CHECK(!acct(path));
	return 0;
}

TEST_F_TIMEOUT(fidelity, accounting_ends, NSP_TIMEOUT)
{
	const char *why;

	if (access("/proc/sys/kernel/acct", F_OK))
		SKIP(return, "this kernel has no acct(2) (CONFIG_BSD_PROCESS_ACCT)");
	why = run_disk(_metadata, self, (struct row){
		.mount = mount_accounting,
		.check = opens_exclusively,
	});
	EXPECT_EQ(0, acct(NULL));
	if (why)
		SKIP(return, "%s", why);
}

/*
 * Somebody else who has it in use: as long as he has, it is busy, as it would be
 * on any kernel, and when he lets go it is free, with no flush after that.
 */
enum hold { BY_FILE, BY_MAPPING, BY_DIRECTORY, BY_ROOT };

struct holder {
	const char *mnt;
	enum hold how;
	int ask[2];
	int done[2];
	volatile int holding;
	/* What he has in hand. */
	int root;
	int fd;
	void *map;
};

#define MAP_LENGTH 4096

/* Go into the mount namespace of @pid, and take it. */
static int take(struct holder *holder, pid_t pid)
{
	char dir[128], path[160];

	snprintf(dir, sizeof(dir), "/proc/%d/root%s", (int)pid, holder->mnt);
	snprintf(path, sizeof(path), "%s/file", dir);
	switch (holder->how) {
	case BY_FILE:
		holder->fd = open(path, O_RDONLY | O_CLOEXEC);
		CHECK(holder->fd >= 0);
		break;
	case BY_MAPPING:
		holder->fd = open(path, O_RDONLY | O_CLOEXEC);
		CHECK(holder->fd >= 0);
		holder->map = mmap(NULL, MAP_LENGTH, PROT_READ, MAP_SHARED,
				   holder->fd, 0);
		CHECK(holder->map != MAP_FAILED);
		CHECK(!close(holder->fd));
		break;
	case BY_DIRECTORY:
		CHECK(!chdir(dir));
		break;
	case BY_ROOT:
		CHECK(!chroot(dir));
		break;
	}
	return 0;
}

static int let_go(const struct holder *holder)
{
	switch (holder->how) {
	case BY_FILE:
		CHECK(!close(holder->fd));
		break;
	case BY_MAPPING:
		CHECK(!munmap(holder->map, MAP_LENGTH));
		break;
	case BY_DIRECTORY:
		CHECK(!fchdir(holder->root));
		break;
	case BY_ROOT:
		CHECK(!fchdir(holder->root));
		CHECK(!chroot("."));
		break;
	}
	return 0;
}

/* Until there is nobody left who could ask. */
static int holder_life(void *arg)
{
	struct holder *holder = arg;
	pid_t pid;

	holder->root = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CHECK(holder->root >= 0);
	CHECK(!close(holder->ask[1]));
	while (read(holder->ask[0], &pid, sizeof(pid)) == sizeof(pid)) {
		CHECK(pid ? !take(holder, pid) : !let_go(holder));
		holder->holding = pid;
		CHECK(write(holder->done[1], &pid, sizeof(pid)) == sizeof(pid));
	}
	return 0;
}

/* Have what is mounted in @pid held, or if that is 0 nothing any more. */
static int ask(struct holder *holder, pid_t pid)
{
	CHECK(write(holder->ask[1], &pid, sizeof(pid)) == sizeof(pid));
	CHECK(read(holder->done[0], &pid, sizeof(pid)) == sizeof(pid));
	return 0;
}

static int mount_held(const struct row *row)
{
	CHECK(!mount_row(row));
	return ask(row->data, getpid());
}

static int is_busy(const struct row *row)
{
	CHECK(open(row->dev, O_RDWR | O_EXCL | O_CLOEXEC) < 0 && errno == EBUSY);
	return 0;
}

static int is_the_last_hold(const struct row *row)
{
	struct holder *holder = row->data;

	if (holder->holding) {
		CHECK(!is_busy(row));
		CHECK(!ask(holder, 0));
	}
	return opens_exclusively(row);
}

static pid_t start_holder(struct __test_metadata *_metadata,
			  struct holder *holder, enum hold how, const char *mnt)
{
	pid_t pid;

	holder->mnt = mnt;
	holder->how = how;
	ASSERT_EQ(0, pipe2(holder->ask, O_CLOEXEC));
	ASSERT_EQ(0, pipe2(holder->done, O_CLOEXEC));
	pid = nsp_start(holder_life, holder);
	ASSERT_LT(0, pid);
	/* Who asks him when he is dead is to be told. */
	close(holder->ask[0]);
	close(holder->done[1]);
	return pid;
}

static void stop_holder(struct __test_metadata *_metadata,
			const struct holder *holder, pid_t pid)
{
	close(holder->ask[1]);
	close(holder->done[0]);
	EXPECT_EQ(0, nsp_wait(pid));
}

static void check_hold(struct __test_metadata *_metadata,
		       FIXTURE_DATA(fidelity) *self, enum hold how)
{
	struct holder *holder = nsp_shared(sizeof(*holder));
	const char *why;
	pid_t pid;

	ASSERT_NE(NULL, holder);
	pid = start_holder(_metadata, holder, how, self->at.mnt);
	why = run_disk(_metadata, self, (struct row){
		.mount = mount_held,
		.check = is_the_last_hold,
		.data = holder,
	});
	stop_holder(_metadata, holder, pid);
	if (why)
		SKIP(return, "%s", why);
}

TEST_F_TIMEOUT(fidelity, open_file_is_the_last_hold, NSP_TIMEOUT)
{
	check_hold(_metadata, self, BY_FILE);
}

TEST_F_TIMEOUT(fidelity, mapping_is_the_last_hold, NSP_TIMEOUT)
{
	check_hold(_metadata, self, BY_MAPPING);
}

TEST_F_TIMEOUT(fidelity, directory_is_the_last_hold, NSP_TIMEOUT)
{
	check_hold(_metadata, self, BY_DIRECTORY);
}

TEST_F_TIMEOUT(fidelity, root_is_the_last_hold, NSP_TIMEOUT)
{
	check_hold(_metadata, self, BY_ROOT);
}

/*
 * What the task itself has in hand while it leaves: its working directory, an open
 * file, a mapping.  It is busy until the task has let go, and no longer.
 */
static int take_in_hand(const struct row *row, int *fd, void **map)
{
	char path[128];

	CHECK(!mount_row(row));
	snprintf(path, sizeof(path), "%s/file", row->mnt);
	*fd = open(path, O_RDONLY | O_CLOEXEC);
	CHECK(*fd >= 0);
	*map = mmap(NULL, MAP_LENGTH, PROT_READ, MAP_SHARED, *fd, 0);
	CHECK(*map != MAP_FAILED);
	CHECK(!chdir(row->mnt));
	return 0;
}

static int leave_and_let_go(void *arg)
{
	int fd, before = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
	const struct row *row = arg;
	void *map;

	CHECK(before >= 0);
	CHECK(!nsp_own_mounts());
	CHECK(!take_in_hand(row, &fd, &map));
	if (row->leave == BY_EXIT)
		return 0;
	if (row->leave == BY_SETNS)
		CHECK(!setns(before, CLONE_NEWNS));
	else
		CHECK(!umount2(row->mnt, MNT_DETACH));
	CHECK(!settle(row));
	CHECK(!is_busy(row));
	CHECK(!chdir("/"));
	CHECK(!munmap(map, MAP_LENGTH));
	CHECK(!is_busy(row));
	CHECK(!close(fd));
	return opens_exclusively(row);
}

static void *wait_for_the_end(void *arg)
{
	(void)arg;
	while (pause())
		;
	return NULL;
}

/* Whichever of the threads is the last that has it. */
static int leave_in_threads(void *arg)
{
	pthread_t threads[8];
	void *map;
	size_t i;
	int fd;

	CHECK(!nsp_own_mounts());
	for (i = 0; i < ARRAY_SIZE(threads); i++)
		CHECK(!pthread_create(&threads[i], NULL, wait_for_the_end, NULL));
	return take_in_hand(arg, &fd, &map);
}

/* The lives of @fn, each left @by so. */
static void check_lives(struct __test_metadata *_metadata,
			FIXTURE_DATA(fidelity) *self, int (*fn)(void *),
			enum leave by)
{
	struct row row = self->row;
	int i;

	row.dev = self->at.disk.dev;
	row.type = block_type();
	row.leave = by;
	for (i = 0; i < self->rounds; i++) {
		EXPECT_EQ(0, nsp_run(fn, &row));
		ASSERT_EQ(0, settle(&row));
		EXPECT_EQ(0, opens_exclusively(&row)) {
			TH_LOG("left by %s, round %d", leave_names[by], i);
		}
	}
}

/* A disk with a file system, or a reason to skip. */
static const char *make_formatted(struct __test_metadata *_metadata,
				  struct place *at)
{
	const char *type = block_type();
	const char *why = disk_make(&at->disk, at->dir);

	if (why || !type)
		return why ? why : NO_BLOCK_TYPE;
	ASSERT_EQ(0, format_device(at->disk.dev, type));
	return NULL;
}

TEST_F_TIMEOUT(fidelity, own_hold_ends_with_the_task, NSP_TIMEOUT)
{
	const char *why = make_formatted(_metadata, &self->at);

	if (why)
		SKIP(return, "%s", why);
	check_lives(_metadata, self, leave_and_let_go, BY_EXIT);
	check_lives(_metadata, self, leave_in_threads, BY_EXIT);
}

TEST_F_TIMEOUT(fidelity, own_hold_is_let_go, NSP_TIMEOUT)
{
	const char *why = make_formatted(_metadata, &self->at);

	if (why)
		SKIP(return, "%s", why);
	check_lives(_metadata, self, leave_and_let_go, BY_SETNS);
	check_lives(_metadata, self, leave_and_let_go, BY_DETACH);
}

/* The dead had it open in a table of files that somebody else has, too. */
struct table {
	struct row row;
	int fd;
};

static int leave_in_table(void *arg)
{
	struct table *table = arg;
	char path[128];

	CHECK(!nsp_own_mounts());
	CHECK(!mount_row(&table->row));
	snprintf(path, sizeof(path), "%s/file", table->row.mnt);
	table->fd = open(path, O_RDONLY | O_CLOEXEC);
	CHECK(table->fd >= 0);
	return 0;
}

TEST_F_TIMEOUT(fidelity, shared_table_is_the_last_hold, NSP_TIMEOUT)
{
	const char *why = make_formatted(_metadata, &self->at);
	struct table *table = nsp_shared(sizeof(*table));
	int i;

	if (why)
		SKIP(return, "%s", why);
	ASSERT_NE(NULL, table);
	table->row.dev = self->at.disk.dev;
	table->row.mnt = self->at.mnt;
	table->row.type = block_type();
	table->row.flush = self->flush;
	for (i = 0; i < self->rounds; i++) {
		ASSERT_EQ(0, nsp_run_in(CLONE_FILES, leave_in_table, table));
		ASSERT_EQ(0, settle(&table->row));
		EXPECT_EQ(0, is_busy(&table->row));
		ASSERT_EQ(0, close(table->fd));
		EXPECT_EQ(0, opens_exclusively(&table->row));
	}
}

/*
 * While a superblock has other mounts nobody misses one of them that somebody holds
 * and that no tree has any more.  When the last of the others goes, it is gone, too,
 * or it will be when it is let go.
 */
static void check_left(struct __test_metadata *_metadata,
		       FIXTURE_DATA(fidelity) *self, struct holder *holder,
		       enum leave by, bool holds_on)
{
	char mnt[128];
	struct row other = {
		.dev = self->at.disk.dev,
		.mnt = mnt,
		.type = block_type(),
		.flush = self->flush,
		.mount = mount_row,
	};
	struct row row = other;
	struct held held[2];
	pid_t pids[2] = {};

	/* Nothing can be mounted on the same place twice. */
	snprintf(mnt, sizeof(mnt), "%s/other", self->at.dir);
	ASSERT_TRUE(!mkdir(mnt, 0700) || errno == EEXIST);
	row.mnt = self->at.mnt;
	row.mount = mount_held;
	row.data = holder;
	if (by == BY_EXIT) {
		ASSERT_EQ(0, held_open(&held[0], &other));
		pids[0] = held_start(&held[0]);
		ASSERT_LT(0, pids[0]);
	} else {
		ASSERT_EQ(0, mount_row(&other));
	}
	ASSERT_EQ(0, held_open(&held[1], &row));
	pids[1] = held_start(&held[1]);
	ASSERT_LT(0, pids[1]);
	held_go(&held[1]);
	ASSERT_EQ(0, nsp_wait(pids[1]));
	if (!holds_on)
		ASSERT_EQ(0, ask(holder, 0));
	switch (by) {
	case BY_EXIT:
		held_go(&held[0]);
		ASSERT_EQ(0, nsp_wait(pids[0]));
		break;
	case BY_DETACH:
		ASSERT_EQ(0, umount2(mnt, MNT_DETACH));
		break;
	default:
		ASSERT_EQ(0, umount(mnt));
		break;
	}
	if (by != BY_UNSHARE)
		ASSERT_EQ(0, settle(&row));
	if (holds_on) {
		EXPECT_EQ(0, is_busy(&row));
		ASSERT_EQ(0, ask(holder, 0));
	}
	EXPECT_EQ(0, opens_exclusively(&row)) {
		TH_LOG("left by %s, the other one %s",
		       by == BY_UNSHARE ? "umount" : leave_names[by],
		       holds_on ? "held on" : "had let go");
	}
}

TEST_F_TIMEOUT(fidelity, left_one_goes_with_the_last, NSP_TIMEOUT)
{
	static const enum leave ways[] = { BY_EXIT, BY_DETACH, BY_UNSHARE };
	const char *why = make_formatted(_metadata, &self->at);
	struct holder *holder = nsp_shared(sizeof(*holder));
	size_t way;
	pid_t pid;
	int i;

	if (why)
		SKIP(return, "%s", why);
	ASSERT_NE(NULL, holder);
	pid = start_holder(_metadata, holder, BY_FILE, self->at.mnt);
	for (way = 0; way < ARRAY_SIZE(ways); way++) {
		for (i = 0; i < 2 * self->rounds; i++)
			check_left(_metadata, self, holder, ways[way], i % 2);
	}
	stop_holder(_metadata, holder, pid);
}

/*
 * A device that a task has mounted on a directory of others is free when these
 * have removed the directory, though the task is alive.
 */
TEST_F_TIMEOUT(fidelity, removed_mountpoint_frees_it, NSP_TIMEOUT)
{
	const char *why = disk_make(&self->at.disk, self->at.dir);
	struct row row = {
		.dev = self->at.disk.dev,
		.mnt = self->at.mnt,
		.type = block_type(),
		.flush = self->flush,
	};
	struct held held;
	pid_t pid;
	int i;

	if (!nsp_linux(3, 18))
		SKIP(return, "a directory that others mount on is busy up to Linux 3.17");
	if (why || !row.type)
		SKIP(return, "%s", why ? why : NO_BLOCK_TYPE);
	ASSERT_EQ(0, format_device(row.dev, row.type));
	for (i = 0; i < self->rounds; i++) {
		ASSERT_EQ(0, held_open(&held, &row));
		pid = held_start(&held);
		ASSERT_LT(0, pid);
		EXPECT_EQ(0, rmdir(row.mnt));
		ASSERT_EQ(0, settle(&row));
		EXPECT_EQ(0, opens_exclusively(&row));
		held_go(&held);
		EXPECT_EQ(0, nsp_wait(pid));
		ASSERT_EQ(0, mkdir(row.mnt, 0700));
	}
}

NSP_TEST_MAIN(nsp_prepare_present)
