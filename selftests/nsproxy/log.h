/* SPDX-License-Identifier: GPL-2.0-only */
/* What the kernel logs while a test runs. */
#ifndef NSPROXY_LOG_H
#define NSPROXY_LOG_H

#include "nsproxy_test.h"

/* Wind /dev/kmsg on to what has not been logged yet. */
static inline int open_log(void)
{
	int fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);

	if (fd >= 0)
		lseek(fd, 0, SEEK_END);
	return fd;
}

static inline bool was_logged(int fd, const char *what)
{
	bool found = false;
	char line[2048];
	ssize_t n;

	for (;;) {
		n = read(fd, line, sizeof(line) - 1);
		/* EPIPE says that older lines were overwritten meanwhile. */
		if (n < 0 && errno == EPIPE)
			continue;
		if (n <= 0)
			return found;
		line[n] = '\0';
		if (strstr(line, what))
			found = true;
	}
}

#endif /* NSPROXY_LOG_H */
