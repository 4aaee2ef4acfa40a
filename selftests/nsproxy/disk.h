/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A disk to mount: a file with an ext2 or FAT file system behind a loop device.
 * No mkfs is needed, since a guest may not have one.
 */
#ifndef NSPROXY_DISK_H
#define NSPROXY_DISK_H

#include "nsproxy_test.h"

#include <linux/loop.h>
#include <sys/ioctl.h>

struct disk {
	char dev[64];
	int loop;
	int image;
};

/* An image with the smallest ext2 file system that there is. */
static inline int disk_format(int fd)
{
	enum { BLOCK = 1024, BLOCKS = 256, INODES = 16, TABLE = 5 };
	unsigned char block[BLOCK];
	int i;

#define LE16(at, v) do {						\
	block[at] = (v) & 0xff;						\
	block[(at) + 1] = ((v) >> 8) & 0xff;				\
} while (0)
#define LE32(at, v) do {						\
	LE16(at, (v) & 0xffff);						\
	LE16((at) + 2, ((v) >> 16) & 0xffff);				\
} while (0)
#define PUT(nr) (pwrite(fd, block, BLOCK, (nr) * BLOCK) == BLOCK)

	/* A block device has its size, and says EINVAL. */
	if (ftruncate(fd, BLOCK * BLOCKS) && errno != EINVAL)
		return -1;
	/*
	 * Block 1 is the superblock, 2 the group descriptor, 3 and 4 the
	 * bitmaps, 5 and 6 the inodes, 7 the root directory.
	 */
	memset(block, 0, sizeof(block));
	LE32(0, INODES);
	LE32(4, BLOCKS);
	LE32(12, BLOCKS - 8);
	LE32(16, INODES - 10);
	LE32(20, 1);
	LE32(32, 8192);
	LE32(36, 8192);
	LE32(40, INODES);
	LE16(54, 0xffff);
	LE16(56, 0xef53);
	LE16(58, 1);
	LE16(60, 1);
	if (!PUT(1))
		return -1;
	memset(block, 0, sizeof(block));
	LE32(0, 3);
	LE32(4, 4);
	LE32(8, TABLE);
	LE16(12, BLOCKS - 8);
	LE16(14, INODES - 10);
	LE16(16, 1);
	if (!PUT(2))
		return -1;
	/* Bit 0 is block 1; what lies past the end is marked as used. */
	memset(block, 0xff, sizeof(block));
	for (i = 7; i < BLOCKS - 1; i++)
		block[i / 8] &= ~(1 << (i % 8));
	if (!PUT(3))
		return -1;
	memset(block, 0xff, sizeof(block));
	for (i = 10; i < INODES; i++)
		block[i / 8] &= ~(1 << (i % 8));
	if (!PUT(4))
		return -1;
	/* Inode 2 is the root directory: 128 bytes an inode. */
	memset(block, 0, sizeof(block));
	LE16(128, 040755);
	LE32(132, BLOCK);
	LE16(154, 2);
	LE32(156, 2);
	LE32(168, 7);
	if (!PUT(TABLE))
		return -1;
	memset(block, 0, sizeof(block));
	if (!PUT(TABLE + 1))
		return -1;
	LE32(0, 2);
	LE16(4, 12);
	LE16(6, 1);
	block[8] = '.';
	LE32(12, 2);
	LE16(16, BLOCK - 12);
	LE16(18, 2);
	block[20] = '.';
	block[21] = '.';
	return PUT(7) ? 0 : -1;
#undef PUT
#undef LE32
#undef LE16
}

/* The same with FAT12, for vfat and msdos. */
static inline int disk_format_fat(int fd)
{
	enum { SECTOR = 512, SECTORS = 512, FAT_SECTORS = 2 };
	unsigned char sector[SECTOR] = {
		/* a jump, the maker's name, 512 bytes in a sector, 1 in a cluster */
		0xeb, 0x3c, 0x90, 'n', 's', 'p', 'r', 'o', 'x', 'y', ' ',
		0x00, 0x02, 1,
		/* 1 reserved, 1 FAT, 16 names in /, 512 in all, a fixed disk, 2 a FAT */
		1, 0, 1, 16, 0, SECTORS & 0xff, SECTORS >> 8, 0xf8,
		FAT_SECTORS, 0, 1, 0, 1, 0,
		[510] = 0x55, 0xaa,
	};
	int i;

	if (pwrite(fd, sector, SECTOR, 0) != SECTOR)
		return -1;
	memset(sector, 0, SECTOR);
	/* The second sector of the FAT, and the root directory. */
	for (i = 2; i <= 1 + FAT_SECTORS; i++)
		if (pwrite(fd, sector, SECTOR, i * SECTOR) != SECTOR)
			return -1;
	memcpy(sector, "\xf8\xff\xff", 3);
	return pwrite(fd, sector, SECTOR, SECTOR) == SECTOR ? 0 : -1;
}

/*
 * Make one with its image in @dir.  NULL, or what this kernel lacks; whatever
 * else goes wrong is fatal.
 */
static inline const char *disk_make(struct disk *disk, const char *dir)
{
	char path[128];
	int ctl, nr;

	ctl = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	if (ctl < 0)
		return "no /dev/loop-control: this kernel has no loop devices";
	nr = ioctl(ctl, LOOP_CTL_GET_FREE);
	close(ctl);
	snprintf(disk->dev, sizeof(disk->dev), "/dev/loop%d", nr);
	snprintf(path, sizeof(path), "%s/image", dir);
	disk->loop = open(disk->dev, O_RDWR | O_CLOEXEC);
	disk->image = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (nr < 0 || disk->loop < 0 || disk->image < 0 ||
	    disk_format(disk->image) ||
	    ioctl(disk->loop, LOOP_SET_FD, disk->image)) {
		fprintf(stderr, "# %s on %s: %s\n", disk->dev, path,
			strerror(errno));
		abort();
	}
	return NULL;
}

static inline void disk_drop(struct disk *disk)
{
	if (!disk->dev[0])
		return;
	ioctl(disk->loop, LOOP_CLR_FD, 0);
	close(disk->loop);
	close(disk->image);
}

static inline bool disk_has_filesystem(const char *type)
{
	char line[128], name[64];
	bool found = false;
	FILE *file;

	file = fopen("/proc/filesystems", "r");
	if (!file)
		return false;
	while (fgets(line, sizeof(line), file)) {
		/* Those without "nodev" live on a device. */
		if (sscanf(line, "\t%63s", name) == 1 && line[0] == '\t' &&
		    !strcmp(name, type))
			found = true;
	}
	fclose(file);
	return found;
}

#endif /* NSPROXY_DISK_H */
