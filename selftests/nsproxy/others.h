/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What others do, who have nothing to do with what a test has hang, and how to see
 * that they did not wait for it.
 */
#ifndef NSPROXY_OTHERS_H
#define NSPROXY_OTHERS_H

#include "nsproxy_test.h"

/* How often somebody waited for others, who had nothing to do with him. */
static inline long waits_for_others(void)
{
	return nsp_num("stats/flush_umount") + nsp_num("stats/flush_last") +
	       nsp_num("stats/waited_superblock") + nsp_num("stats/waited_bound");
}

static inline int use_mounts(void *arg)
{
	const char *dir = arg;
	char mnt[128], file[128], other[128];
	int fd;

	snprintf(mnt, sizeof(mnt), "%s/other", dir);
	snprintf(file, sizeof(file), "%s/file", dir);
	snprintf(other, sizeof(other), "%s/file2", dir);
	CHECK(!nsp_own_mounts());
	CHECK(!mkdir(mnt, 0700));
	CHECK(!mount("none", mnt, "tmpfs", 0, NULL));
	CHECK(!umount(mnt));
	CHECK(!mount("none", mnt, "ramfs", 0, NULL));
	CHECK(!umount2(mnt, MNT_DETACH));
	fd = open(file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	CHECK(fd >= 0);
	CHECK(!rename(file, other));
	CHECK(!unlink(other) && !close(fd));
	CHECK(!rmdir(mnt));
	return 0;
}

/* All that others do, who have nothing to do with what hangs. */
static inline int do_as_others(const char *dir)
{
	int fd = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);

	CHECK(fd >= 0);
	CHECK(!nsp_run(use_mounts, (void *)dir));
	CHECK(!nsp_run(nsp_short_life, NULL));
	CHECK(!unshare(CLONE_NEWNS));
	CHECK(!setns(fd, CLONE_NEWNS));
	return close(fd);
}

static inline int run_flush(void *arg)
{
	(void)arg;
	return -nsp_flush();
}

static inline bool is_over(pid_t pid)
{
	siginfo_t info = { .si_pid = 0 };

	return waitid(P_PID, pid, &info, WEXITED | WNOHANG | WNOWAIT) || info.si_pid;
}

/* Start a flush that has to wait, and return when it does. */
static inline pid_t start_flush(void)
{
	long before = nsp_num("stats/flush_user");
	pid_t pid = nsp_start(run_flush, NULL);

	while (nsp_num("stats/flush_user") == before && !is_over(pid))
		sched_yield();
	return pid;
}

#endif /* NSPROXY_OTHERS_H */
