/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A disk to mount: a file with an ext2, ext4 or FAT file system behind a loop
 * device.  No mkfs is needed, since a guest may not have one.
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

/* There is room for the largest of them. */
#define DISK_SIZE (2 << 20)

#define DISK_BLOCK 1024

static inline void disk_le16(unsigned char *at, unsigned int value)
{
	at[0] = value;
	at[1] = value >> 8;
}

static inline void disk_le32(unsigned char *at, unsigned int value)
{
	disk_le16(at, value);
	disk_le16(at + 2, value >> 16);
}

static inline void disk_be32(unsigned char *at, unsigned int value)
{
	at[0] = value >> 24;
	at[1] = value >> 16;
	at[2] = value >> 8;
	at[3] = value;
}

/* A bitmap of @n things, of which the first @used are. */
static inline void disk_bitmap(unsigned char *block, int n, int used)
{
	int i;

	/* What lies past the end is marked as used, too. */
	memset(block, 0xff, DISK_BLOCK);
	for (i = used; i < n; i++)
		block[i / 8] &= ~(1 << (i % 8));
}

static inline bool disk_put(int fd, const unsigned char *block, int nr)
{
	return pwrite(fd, block, DISK_BLOCK, (off_t)nr * DISK_BLOCK) ==
	       DISK_BLOCK;
}

/*
 * An image with the smallest ext2 file system that there is, or, with @journal,
 * with the smallest that ext4 keeps a journal of.
 */
static inline int disk_format_ext(int fd, bool journal)
{
	enum { SUPER = 1, GROUP, BLOCK_MAP, INODE_MAP, TABLE, ROOT = 7, LOG };
	enum { LOG_BLOCKS = 1024, INODES = 16, RESERVED = 10 };
	int used = journal ? LOG + LOG_BLOCKS : LOG;
	int blocks = journal ? 1400 : 256;
	unsigned char block[DISK_BLOCK];
	unsigned char *inode;

	/* A block device has its size, and says EINVAL. */
	if (ftruncate(fd, DISK_SIZE) && errno != EINVAL)
		return -1;
	memset(block, 0, sizeof(block));
	disk_le32(block, INODES);
	disk_le32(block + 4, blocks);
	disk_le32(block + 12, blocks - used);
	disk_le32(block + 16, INODES - RESERVED);
	disk_le32(block + 20, SUPER);
	disk_le32(block + 32, 8192);
	disk_le32(block + 36, 8192);
	disk_le32(block + 40, INODES);
	disk_le16(block + 54, 0xffff);
	disk_le16(block + 56, 0xef53);
	/* It is clean; on errors go on. */
	disk_le16(block + 58, 1);
	disk_le16(block + 60, 1);
	if (journal) {
		/* Revision 1, its first inode, the size of one, ... */
		disk_le32(block + 76, 1);
		disk_le32(block + 84, RESERVED + 1);
		disk_le16(block + 88, 128);
		/* ... a journal, extents, and where the journal is. */
		disk_le32(block + 92, 0x4);
		disk_le32(block + 96, 0x40);
		disk_le32(block + 224, 8);
	}
	if (!disk_put(fd, block, SUPER))
		return -1;
	memset(block, 0, sizeof(block));
	disk_le32(block, BLOCK_MAP);
	disk_le32(block + 4, INODE_MAP);
	disk_le32(block + 8, TABLE);
	disk_le16(block + 12, blocks - used);
	disk_le16(block + 14, INODES - RESERVED);
	disk_le16(block + 16, 1);
	if (!disk_put(fd, block, GROUP))
		return -1;
	/* The first bit is block 1. */
	disk_bitmap(block, blocks - 1, used - 1);
	if (!disk_put(fd, block, BLOCK_MAP))
		return -1;
	disk_bitmap(block, INODES, RESERVED);
	if (!disk_put(fd, block, INODE_MAP))
		return -1;
	/* Inode 2 is the root directory, and 8, if there is one, the journal. */
	memset(block, 0, sizeof(block));
	inode = block + 128;
	disk_le16(inode, 040755);
	disk_le32(inode + 4, DISK_BLOCK);
	disk_le16(inode + 26, 2);
	disk_le32(inode + 28, 2);
	disk_le32(inode + 40, ROOT);
	if (journal) {
		inode = block + 7 * 128;
		disk_le16(inode, 0100600);
		disk_le32(inode + 4, LOG_BLOCKS * DISK_BLOCK);
		disk_le16(inode + 26, 1);
		disk_le32(inode + 28, LOG_BLOCKS * DISK_BLOCK / 512);
		disk_le32(inode + 32, 0x80000);
		/* One extent of four that there is room for. */
		disk_le16(inode + 40, 0xf30a);
		disk_le16(inode + 42, 1);
		disk_le16(inode + 44, 4);
		disk_le16(inode + 56, LOG_BLOCKS);
		disk_le32(inode + 60, LOG);
	}
	if (!disk_put(fd, block, TABLE))
		return -1;
	memset(block, 0, sizeof(block));
	if (!disk_put(fd, block, TABLE + 1))
		return -1;
	disk_le32(block, 2);
	disk_le16(block + 4, 12);
	disk_le16(block + 6, 1);
	block[8] = '.';
	disk_le32(block + 12, 2);
	disk_le16(block + 16, DISK_BLOCK - 12);
	disk_le16(block + 18, 2);
	block[20] = '.';
	block[21] = '.';
	if (!disk_put(fd, block, ROOT))
		return -1;
	if (!journal)
		return 0;
	/* A superblock of the second kind, and nothing to be replayed. */
	memset(block, 0, sizeof(block));
	disk_be32(block, 0xc03b3998);
	disk_be32(block + 4, 4);
	disk_be32(block + 12, DISK_BLOCK);
	disk_be32(block + 16, LOG_BLOCKS);
	disk_be32(block + 20, 1);
	disk_be32(block + 24, 1);
	disk_be32(block + 64, 1);
	return disk_put(fd, block, LOG) ? 0 : -1;
}

static inline int disk_format(int fd)
{
	return disk_format_ext(fd, false);
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

/* As what can be mounted as @type. */
static inline int disk_format_as(int fd, const char *type)
{
	if (!strcmp(type, "vfat"))
		return disk_format_fat(fd);
	return disk_format_ext(fd, !strcmp(type, "ext4"));
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
