/* SPDX-License-Identifier: GPL-2.0-only */
/* What the headers may be too old to know of namespaces. */
#ifndef NSPROXY_CALLS_H
#define NSPROXY_CALLS_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <fcntl.h>
#include <linux/types.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef CLONE_NEWCGROUP
#define CLONE_NEWCGROUP 0x02000000
#endif
#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x00000080
#endif
#ifndef CLONE_INTO_CGROUP
#define CLONE_INTO_CGROUP 0x200000000ULL
#endif
#ifndef __NR_open_tree
#define __NR_open_tree 428
#endif
#ifndef OPEN_TREE_CLONE
#define OPEN_TREE_CLONE 1
#endif
#ifndef __NR_pidfd_open
#define __NR_pidfd_open 434
#endif
#ifndef __NR_clone3
#define __NR_clone3 435
#endif

/* The system call's own struct. */
struct nsp_clone_args {
	__u64 flags;
	__u64 pidfd;
	__u64 child_tid;
	__u64 parent_tid;
	__u64 exit_signal;
	__u64 stack;
	__u64 stack_size;
	__u64 tls;
	__u64 set_tid;
	__u64 set_tid_size;
	__u64 cgroup;
};

static inline pid_t nsp_clone3(struct nsp_clone_args *args)
{
	return syscall(__NR_clone3, args, sizeof(*args));
}

static inline int nsp_pidfd_open(pid_t pid)
{
	return syscall(__NR_pidfd_open, pid, 0);
}

/* A copy of a mount, in no namespace. */
static inline int nsp_open_tree(const char *path)
{
	return syscall(__NR_open_tree, AT_FDCWD, path, OPEN_TREE_CLONE | O_CLOEXEC);
}

#endif /* NSPROXY_CALLS_H */
