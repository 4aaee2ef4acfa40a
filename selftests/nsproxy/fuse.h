/* SPDX-License-Identifier: GPL-2.0-only */
/* As much of a FUSE daemon as a test needs. */
#ifndef NSPROXY_FUSE_H
#define NSPROXY_FUSE_H

#include <errno.h>
#include <linux/fuse.h>
#include <string.h>
#include <unistd.h>

/* Read the next request: 0, or -1; errno is ENODEV at the connection's end. */
static inline int fuse_read_request(int fuse, struct fuse_in_header *header)
{
	static char buf[FUSE_MIN_READ_BUFFER + 65536];
	ssize_t n;

	do {
		n = read(fuse, buf, sizeof(buf));
		if (n < 0 && errno != EINTR && errno != ENOENT)
			return -1;
	} while (n < (ssize_t)sizeof(*header));
	memcpy(header, buf, sizeof(*header));
	return 0;
}

/* With an error, or with @size bytes of data. */
static inline int fuse_answer(int fuse, const struct fuse_in_header *header, int error,
			      const void *data, size_t size)
{
	struct {
		struct fuse_out_header header;
		char data[256];
	} reply = {
		.header.unique = header->unique,
		.header.error = -error,
		.header.len = sizeof(reply.header) + size,
	};

	if (size > sizeof(reply.data))
		return -1;
	if (size)
		memcpy(reply.data, data, size);
	return write(fuse, &reply, reply.header.len) == reply.header.len ? 0 : -1;
}

static inline int fuse_answer_init(int fuse, const struct fuse_in_header *header,
				   uint32_t flags)
{
	struct {
		struct fuse_out_header header;
		struct fuse_init_out init;
	} reply = {
		.header.unique = header->unique,
		.init.major = FUSE_KERNEL_VERSION,
		/* 7.22 is what Linux 3.10 speaks; later ones go along. */
		.init.minor = 22,
		.init.max_readahead = 4096,
		.init.flags = flags,
		.init.max_write = 4096,
	};

	/* Up to minor 22, struct fuse_init_out ended after max_write. */
	reply.header.len = sizeof(reply.header) + 24;
	return write(fuse, &reply, reply.header.len) == reply.header.len ? 0 : -1;
}

#endif /* NSPROXY_FUSE_H */
