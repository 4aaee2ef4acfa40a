/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Starting a program in namespaces: which call makes the child, and who brings
 * it where, and when.
 */
#ifndef NSPROXY_SPAWN_H
#define NSPROXY_SPAWN_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "calls.h"
#include "gp.h"

/* Without those that a task with shared memory may not join. */
static const struct spawn_kind {
	const char *name;
	int flag;
} spawn_kinds[] = {
	{ "mnt", CLONE_NEWNS },
	{ "uts", CLONE_NEWUTS },
	{ "ipc", CLONE_NEWIPC },
	{ "net", CLONE_NEWNET },
	{ "pid", CLONE_NEWPID },
	{ "cgroup", CLONE_NEWCGROUP },
};

#define SPAWN_KINDS ARRAY_SIZE(spawn_kinds)

enum spawn_way {
	SPAWN_FORK,
	SPAWN_VFORK,
	SPAWN_POSIX,
	SPAWN_CLONE_VFORK,
	SPAWN_CLONE3,
	SPAWN_CLONE3_CGROUP,
	SPAWN_FORK_CGROUP,
	SPAWN_WAYS
};

static const char *const spawn_way_names[SPAWN_WAYS] = {
	[SPAWN_FORK] = "fork",
	[SPAWN_VFORK] = "vfork",
	[SPAWN_POSIX] = "posix_spawn",
	[SPAWN_CLONE_VFORK] = "clone_vfork",
	[SPAWN_CLONE3] = "clone3",
	[SPAWN_CLONE3_CGROUP] = "clone3_cgroup",
	[SPAWN_FORK_CGROUP] = "fork_cgroup",
};

enum spawn_place {
	SPAWN_PLAIN,
	SPAWN_JOIN_FDS,
	SPAWN_JOIN_PIDFD,
	SPAWN_UNSHARE,
	SPAWN_FLAGS,
	SPAWN_PLACES
};

static const char *const spawn_place_names[SPAWN_PLACES] = {
	[SPAWN_PLAIN] = "plain",
	[SPAWN_JOIN_FDS] = "setns_fds",
	[SPAWN_JOIN_PIDFD] = "setns_pidfd",
	[SPAWN_UNSHARE] = "unshare",
	[SPAWN_FLAGS] = "clone_flags",
};

struct spawn {
	int flags;
	pid_t target;
	int pidfd;
	int theirs[SPAWN_KINDS];
	int ours[SPAWN_KINDS];
	/* The folder of a cgroup, and its file cgroup.procs. */
	int cgroup;
	int procs;
	char *const *argv;
};

/* Not every way takes flags. */
static inline bool spawn_is_possible(enum spawn_way way, enum spawn_place place)
{
	return place != SPAWN_FLAGS || way == SPAWN_CLONE_VFORK ||
	       way == SPAWN_CLONE3 || way == SPAWN_CLONE3_CGROUP;
}

static inline int spawn_setns(const struct spawn *spawn, const int *fds)
{
	size_t i;

	for (i = 0; i < SPAWN_KINDS; i++)
		if (spawn->flags & spawn_kinds[i].flag &&
		    setns(fds[i], spawn_kinds[i].flag))
			return -1;
	return 0;
}

static inline int spawn_enter(const struct spawn *spawn, enum spawn_place place)
{
	switch (place) {
	case SPAWN_JOIN_FDS:
		return spawn_setns(spawn, spawn->theirs);
	case SPAWN_JOIN_PIDFD:
		return setns(spawn->pidfd, spawn->flags);
	case SPAWN_UNSHARE:
		return unshare(spawn->flags);
	default:
		return 0;
	}
}

struct spawn_child {
	const struct spawn *spawn;
	enum spawn_way way;
	enum spawn_place place;
};

/* Whatever fails in here shows as exit code 126. */
static inline int spawn_child(void *arg)
{
	const struct spawn_child *child = arg;
	const struct spawn *spawn = child->spawn;

	if (child->way == SPAWN_FORK_CGROUP &&
	    write(spawn->procs, "0", 1) != 1)
		_exit(126);
	if (!spawn_enter(spawn, child->place))
		execv(spawn->argv[0], spawn->argv);
	_exit(126);
}

/* posix_spawn() knows no namespaces: the caller goes there and comes back. */
static inline pid_t spawn_by_posix(const struct spawn *spawn,
				   enum spawn_place place)
{
	pid_t pid = -1;
	int err;

	if (spawn_enter(spawn, place))
		return -1;
	err = posix_spawn(&pid, spawn->argv[0], NULL, NULL, spawn->argv,
			  environ);
	if (place != SPAWN_PLAIN && spawn_setns(spawn, spawn->ours))
		return -1;
	errno = err;
	return err ? -1 : pid;
}

static inline pid_t spawn_by_clone3(struct spawn_child *child, int flags)
{
	struct nsp_clone_args args = {
		.flags = flags,
		.exit_signal = SIGCHLD,
	};
	pid_t pid;

	if (child->way == SPAWN_CLONE3_CGROUP) {
		args.flags |= CLONE_INTO_CGROUP;
		args.cgroup = child->spawn->cgroup;
	}
	pid = nsp_clone3(&args);
	if (!pid)
		spawn_child(child);
	return pid;
}

/*
 * The pid of a child that executes argv, or -1.  CLONE_VFORK goes through the
 * library's clone(), for clone3() with shared memory takes assembly; the two
 * are one in the kernel.
 */
static inline pid_t spawn_start(const struct spawn *spawn, enum spawn_way way,
				enum spawn_place place)
{
	static char stack[65536] __attribute__((aligned(16)));
	struct spawn_child child = {
		.spawn = spawn,
		.way = way,
		.place = place,
	};
	int flags = place == SPAWN_FLAGS ? spawn->flags : 0;
	pid_t pid = -1;

	switch (way) {
	case SPAWN_FORK:
	case SPAWN_FORK_CGROUP:
		pid = fork();
		if (!pid)
			spawn_child(&child);
		return pid;
	case SPAWN_VFORK:
		pid = vfork();
		if (!pid)
			spawn_child(&child);
		return pid;
	case SPAWN_POSIX:
		return spawn_by_posix(spawn, place);
	case SPAWN_CLONE_VFORK:
		return clone(spawn_child, stack + sizeof(stack),
			     CLONE_VM | CLONE_VFORK | SIGCHLD | flags, &child);
	default:
		return spawn_by_clone3(&child, flags);
	}
}

static inline int spawn_open_all(int *fds, pid_t pid, int flags)
{
	char path[64];
	size_t i;

	for (i = 0; i < SPAWN_KINDS; i++) {
		if (!(flags & spawn_kinds[i].flag))
			continue;
		snprintf(path, sizeof(path), "/proc/%d/ns/%s", (int)pid,
			 spawn_kinds[i].name);
		fds[i] = open(path, O_RDONLY | O_CLOEXEC);
		if (fds[i] < 0)
			return -1;
	}
	return 0;
}

/* Start a task to join, in new namespaces of the kinds @spawn->flags. */
static inline int spawn_make_target(struct spawn *spawn)
{
	pid_t pid = syscall(SYS_clone, spawn->flags | SIGCHLD, NULL, NULL,
			    NULL, NULL);

	if (!pid) {
		signal(SIGTERM, SIG_DFL);
		for (;;)
			pause();
	}
	spawn->target = pid;
	if (pid < 0 || spawn_open_all(spawn->theirs, pid, spawn->flags) ||
	    spawn_open_all(spawn->ours, getpid(), spawn->flags))
		return -1;
	/* Without it there is no SPAWN_JOIN_PIDFD. */
	spawn->pidfd = nsp_pidfd_open(pid);
	return 0;
}

static inline void spawn_end_target(struct spawn *spawn)
{
	kill(spawn->target, SIGKILL);
	waitpid(spawn->target, NULL, 0);
}

#define SPAWN_CGROUP "nsproxy_spawn"

/*
 * A cgroup for the children, below @where, an empty folder in a mount
 * namespace of the caller's own.
 */
static inline int spawn_make_cgroup(struct spawn *spawn, const char *where)
{
	char path[256];

	if (mount("none", where, "cgroup2", 0, NULL))
		return -1;
	snprintf(path, sizeof(path), "%s/" SPAWN_CGROUP, where);
	if (mkdir(path, 0755) && errno != EEXIST)
		return -1;
	spawn->cgroup = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (spawn->cgroup < 0)
		return -1;
	spawn->procs = openat(spawn->cgroup, "cgroup.procs",
			      O_WRONLY | O_CLOEXEC);
	return spawn->procs < 0 ? -1 : 0;
}

static inline int spawn_remove_cgroup(struct spawn *spawn, const char *where)
{
	char path[256];

	close(spawn->procs);
	close(spawn->cgroup);
	snprintf(path, sizeof(path), "%s/" SPAWN_CGROUP, where);
	return rmdir(path);
}

#endif /* NSPROXY_SPAWN_H */
