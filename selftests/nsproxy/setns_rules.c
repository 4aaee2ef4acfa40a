// SPDX-License-Identifier: GPL-2.0-only
/*
 * The rules of setns(2), each error of the manual page, and its example.
 *
 * They are the same with every mode of the deferral and without it, and hold
 * while namespaces that have died are waiting for their release.  The order in
 * which the kernel looks at things is part of it: what fails must have changed
 * nothing.
 */
#include <linux/capability.h>
#include <linux/securebits.h>
#include <sys/socket.h>

#include "fail.h"
#include "namespaces.h"

#define NOBODY 65534

/* Those that no rule about threads or users keeps from being joined. */
#define PLAIN (CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWCGROUP)

NSP_FIXTURE(setns);

NSP_RULE(setns, bad_descriptor, NULL)
{
	int fd = nsp_ns_open(0, "uts");

	CHECK(fd >= 0);
	CHECK(!setns(fd, CLONE_NEWUTS));
	close(fd);
	CHECK_ERRNO(EBADF, setns(fd, CLONE_NEWUTS));
	CHECK_ERRNO(EBADF, setns(-1, 0));
	fd = open("/proc/self/ns/uts", O_PATH | O_CLOEXEC);
	CHECK(fd >= 0);
	CHECK_ERRNO(EBADF, setns(fd, CLONE_NEWUTS));
	return 0;
}

NSP_RULE(setns, not_a_namespace, NULL)
{
	int fds[5], i;

	fds[0] = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
	fds[1] = open("/proc/self/ns", O_RDONLY | O_CLOEXEC);
	CHECK(!pipe(&fds[2]));
	fds[4] = socket(AF_UNIX, SOCK_STREAM, 0);
	for (i = 0; i < 5; i++) {
		CHECK(fds[i] >= 0);
		CHECK_ERRNO(EINVAL, setns(fds[i], 0));
		CHECK_ERRNO(EINVAL, setns(fds[i], CLONE_NEWUTS));
	}
	return 0;
}

/* The type must be the one of the file, or 0; a mask of several never is. */
NSP_RULE(setns, types, NULL)
{
	int all = nsp_all_flags();
	struct nsp_ids before = nsp_ids(0), after;
	size_t i, j;
	int fd;

	for (i = 0; i < ARRAY_SIZE(nsp_kinds); i++) {
		int flag = nsp_kinds[i].flag;

		if (!(all & flag))
			continue;
		fd = nsp_ns_open(0, nsp_kinds[i].name);
		CHECK(fd >= 0);
		for (j = 0; j < ARRAY_SIZE(nsp_kinds); j++) {
			if (j == i)
				continue;
			CHECK_ERRNO(EINVAL, setns(fd, nsp_kinds[j].flag));
			CHECK_ERRNO(EINVAL, setns(fd, flag | nsp_kinds[j].flag));
		}
		CHECK_ERRNO(EINVAL, setns(fd, CLONE_VM));
		if (flag == CLONE_NEWUSER) {
			/* It would give dropped capabilities back. */
			CHECK_ERRNO(EINVAL, setns(fd, 0));
			CHECK_ERRNO(EINVAL, setns(fd, CLONE_NEWUSER));
		} else {
			CHECK(!setns(fd, 0));
			CHECK(!setns(fd, flag));
		}
		close(fd);
	}
	after = nsp_ids(0);
	CHECK(nsp_differ_in(&before, &after, 0));
	return 0;
}

static int join_each(void *arg)
{
	pid_t target = *(pid_t *)arg;
	struct nsp_ids theirs = nsp_ids(target), ours;
	size_t i;
	int fd;

	for (i = 0; i < ARRAY_SIZE(nsp_kinds); i++) {
		const struct nsp_kind *kind = &nsp_kinds[i];

		/* Their pid namespace is for children, see pid_of_children. */
		if (!nsp_supported(kind->flag) || kind->flag == CLONE_NEWPID ||
		    kind->flag == CLONE_NEWUSER)
			continue;
		fd = nsp_ns_open(target, kind->name);
		CHECK(fd >= 0);
		ours = nsp_ids(0);
		CHECK(ours.id[i] && ours.id[i] != theirs.id[i]);
		CHECK(!setns(fd, kind->flag));
		CHECK(nsp_ns_id(0, kind->name) == theirs.id[i]);
		close(fd);
	}
	return 0;
}

NSP_RULE(setns, each_kind, NULL)
{
	pid_t target = nsp_start_target(nsp_all_flags() & ~CLONE_NEWUSER);

	CHECK(target > 0);
	CHECK(!nsp_run(join_each, &target));
	return nsp_end(target);
}

static int join_bound(void *arg)
{
	pid_t target = *(pid_t *)arg;
	char file[] = "/tmp/nsproxy.XXXXXX";
	ino_t theirs = nsp_ns_id(target, "uts");
	int fd;

	CHECK(theirs && theirs != nsp_ns_id(0, "uts"));
	CHECK(!nsp_own_mounts());
	CHECK(!mount("none", "/tmp", "tmpfs", 0, NULL));
	fd = mkstemp(file);
	CHECK(fd >= 0);
	close(fd);
	CHECK(!mount(nsp_ns_path(target, "uts"), file, NULL, MS_BIND, NULL));
	CHECK(!kill(target, SIGKILL));
	while (!kill(target, 0))
		sched_yield();
	fd = open(file, O_RDONLY | O_CLOEXEC);
	CHECK(fd >= 0);
	CHECK(!setns(fd, 0));
	CHECK(nsp_ns_id(0, "uts") == theirs);
	return 0;
}

/* A bind mount of the file will do, and outlives the last task. */
NSP_RULE(setns, bind_mount, nsp_needs(CLONE_NEWUTS))
{
	pid_t target = nsp_start_target(CLONE_NEWUTS), pid;

	CHECK(target > 0);
	pid = nsp_start(join_bound, &target);
	CHECK(pid > 0);
	CHECK(nsp_wait(target) == 128 + SIGKILL);
	return nsp_wait(pid);
}

static int send_own_uts(void *arg)
{
	char space[CMSG_SPACE(sizeof(int))] = "";
	struct iovec iov = { .iov_base = "x", .iov_len = 1 };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = space,
		.msg_controllen = sizeof(space),
	};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);
	int fd = nsp_ns_open(0, "uts");

	CHECK(fd >= 0);
	CHECK(!sethostname("passed", 6));
	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(sizeof(fd));
	memcpy(CMSG_DATA(cmsg), &fd, sizeof(fd));
	CHECK(sendmsg(*(int *)arg, &msg, 0) == 1);
	return 0;
}

/* Who gets a descriptor may not know its type; the one who sent it is gone. */
NSP_RULE(setns, passed_over_a_socket, nsp_needs(CLONE_NEWUTS))
{
	char space[CMSG_SPACE(sizeof(int))], c, name[64];
	struct iovec iov = { .iov_base = &c, .iov_len = 1 };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = space,
		.msg_controllen = sizeof(space),
	};
	int fd, pair[2];

	CHECK(!socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	CHECK(!nsp_run_in(CLONE_NEWUTS, send_own_uts, &pair[0]));
	CHECK(recvmsg(pair[1], &msg, MSG_CMSG_CLOEXEC) == 1);
	CHECK(CMSG_FIRSTHDR(&msg));
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(fd));
	CHECK_ERRNO(EINVAL, setns(fd, CLONE_NEWIPC));
	CHECK(!setns(fd, CLONE_NEWUTS));
	CHECK(!gethostname(name, sizeof(name)));
	CHECK(!strcmp(name, "passed"));
	return 0;
}

static int try_pid_file(void *arg)
{
	return setns(*(int *)arg, CLONE_NEWPID) ? errno : 0;
}

struct nested {
	int outer;
	int inner;
};

static int try_ancestors(void *arg)
{
	struct nested *nested = arg;

	CHECK_ERRNO(EINVAL, setns(nested->outer, CLONE_NEWPID));
	CHECK_ERRNO(EINVAL, setns(nested->inner, 0));
	return 0;
}

static int nest(void *arg)
{
	struct nested *nested = arg;

	/* In the /proc of the guest, which knows this task by another pid. */
	nested->inner = nsp_ns_open(0, "pid");
	CHECK(nested->inner >= 0);
	CHECK(!setns(nested->inner, CLONE_NEWPID));
	return nsp_run_in(CLONE_NEWPID, try_ancestors, nested);
}

/* No way up and none aside: neither the parent's, its parent's, nor a sibling's. */
NSP_RULE(setns, pid_ancestor, nsp_needs(CLONE_NEWPID))
{
	struct nested nested = { .outer = nsp_ns_open(0, "pid") };
	pid_t sibling = nsp_start_target(CLONE_NEWPID);
	int fd;

	CHECK(nested.outer >= 0 && sibling > 0);
	CHECK(!nsp_run_in(CLONE_NEWPID, nest, &nested));
	fd = nsp_ns_open(sibling, "pid");
	CHECK(fd >= 0);
	CHECK(nsp_run_in(CLONE_NEWPID, try_pid_file, &fd) == EINVAL);
	CHECK(nsp_run_in(0, try_pid_file, &fd) == 0);
	return nsp_end(sibling);
}

static int report_self(void *arg)
{
	CHECK(!nsp_tell(((int *)arg)[1], getpid()));
	CHECK(!nsp_tell(((int *)arg)[1], nsp_ns_id(0, "pid")));
	return 0;
}

/* The caller stays where it is; its children are born there. */
NSP_RULE(setns, pid_of_children, nsp_needs(CLONE_NEWPID))
{
	pid_t target = nsp_start_target(CLONE_NEWPID), self = getpid();
	ino_t ours = nsp_ns_id(0, "pid"), theirs;
	int fd, fds[2];

	CHECK(target > 0 && !pipe(fds));
	theirs = nsp_ns_id(target, "pid");
	CHECK(theirs && theirs != ours);
	fd = nsp_ns_open(target, "pid");
	CHECK(fd >= 0);
	CHECK(!setns(fd, CLONE_NEWPID));
	CHECK(getpid() == self && nsp_ns_id(0, "pid") == ours);
	if (nsp_linux(4, 12))
		CHECK(nsp_ns_id(0, "pid_for_children") == theirs);
	CHECK(!nsp_run_in(0, report_self, fds));
	CHECK(nsp_hear(fds[0]) == 2);
	CHECK(nsp_hear(fds[0]) == (long)theirs);
	/* And back, since one's own is no ancestor. */
	fd = nsp_ns_open(0, "pid");
	CHECK(fd >= 0);
	CHECK(!setns(fd, CLONE_NEWPID));
	CHECK(!nsp_run_in(0, report_self, fds));
	CHECK(nsp_hear(fds[0]) > 2);
	CHECK(nsp_hear(fds[0]) == (long)ours);
	return nsp_end(target);
}

static int try_shared_fs(void *arg)
{
	pid_t target = *(pid_t *)arg;
	int user = nsp_ns_open(target, "user");
	int mnt = nsp_ns_open(target, "mnt");
	int uts = nsp_ns_open(target, "uts");

	CHECK(user >= 0 && mnt >= 0 && uts >= 0);
	CHECK_ERRNO(EINVAL, setns(mnt, CLONE_NEWNS));
	CHECK_ERRNO(EINVAL, setns(user, CLONE_NEWUSER));
	CHECK(!setns(uts, CLONE_NEWUTS));
	CHECK(!unshare(CLONE_FS));
	CHECK(!setns(user, CLONE_NEWUSER));
	CHECK(!setns(mnt, CLONE_NEWNS));
	return 0;
}

/* A root directory that two tasks share cannot be in two mount namespaces. */
NSP_RULE(setns, shared_fs, nsp_needs(CLONE_NEWUSER | CLONE_NEWUTS))
{
	pid_t target = nsp_start_target(CLONE_NEWUSER | CLONE_NEWNS |
					CLONE_NEWUTS);

	CHECK(target > 0);
	CHECK(!nsp_run_in(CLONE_FS, try_shared_fs, &target));
	return nsp_end(target);
}

static void *wait_for_end(void *arg)
{
	int *fds = arg;
	char c;

	nsp_tell(fds[1], nsp_gettid());
	return read(fds[2], &c, 1) ? arg : NULL;
}

struct thread {
	pthread_t id;
	pid_t tid;
	int fds[4];
};

static int start_thread(struct thread *thread)
{
	CHECK(!pipe(&thread->fds[0]) && !pipe(&thread->fds[2]));
	CHECK(!pthread_create(&thread->id, NULL, wait_for_end, thread->fds));
	thread->tid = nsp_hear(thread->fds[0]);
	CHECK(thread->tid > 0);
	return 0;
}

static int end_thread(struct thread *thread)
{
	close(thread->fds[3]);
	CHECK(!pthread_join(thread->id, NULL));
	/*
	 * Who has been joined may still be a thread to the kernel.  It takes
	 * itself off all lists at once, under a lock that waitid() takes too.
	 */
	while (!syscall(SYS_tgkill, getpid(), thread->tid, 0))
		sched_yield();
	waitid(P_ALL, 0, NULL, WEXITED | WNOHANG | WNOWAIT);
	return 0;
}

/* Threads share their user, and their clock; the rest is each one's own. */
NSP_RULE(setns, threads, nsp_needs(CLONE_NEWUSER | CLONE_NEWUTS))
{
	int time = nsp_supported(CLONE_NEWTIME);
	pid_t target = nsp_start_target(CLONE_NEWUSER | CLONE_NEWNS |
					CLONE_NEWUTS | time);
	struct nsp_ids before = nsp_ids(0), after;
	struct thread other;
	int user, mnt, uts;

	CHECK(target > 0);
	user = nsp_ns_open(target, "user");
	mnt = nsp_ns_open(target, "mnt");
	uts = nsp_ns_open(target, "uts");
	CHECK(user >= 0 && mnt >= 0 && uts >= 0);
	CHECK(!start_thread(&other));
	CHECK_ERRNO(EINVAL, setns(mnt, CLONE_NEWNS));
	CHECK(!unshare(CLONE_FS));
	CHECK_ERRNO(EINVAL, setns(user, CLONE_NEWUSER));
	if (time)
		CHECK_ERRNO(EUSERS, setns(nsp_ns_open(target, "time"), 0));
	after = nsp_ids(0);
	CHECK(nsp_differ_in(&before, &after, 0));
	CHECK(!setns(uts, CLONE_NEWUTS));
	CHECK(!setns(mnt, CLONE_NEWNS));
	after = nsp_ids(0);
	CHECK(nsp_differ_in(&before, &after, CLONE_NEWUTS | CLONE_NEWNS));
	after = nsp_ids(other.tid);
	CHECK(nsp_differ_in(&before, &after, 0));
	CHECK(!end_thread(&other));
	CHECK(!setns(user, CLONE_NEWUSER));
	if (time)
		CHECK(!setns(nsp_ns_open(target, "time"), CLONE_NEWTIME));
	return nsp_end(target);
}

NSP_RULE(setns, pidfd_flags, nsp_needs_setns_pidfd())
{
	int pidfd = nsp_pidfd_open(getpid());

	CHECK(pidfd >= 0);
	CHECK_ERRNO(EINVAL, setns(pidfd, 0));
	CHECK_ERRNO(EINVAL, setns(pidfd, CLONE_VM));
	CHECK_ERRNO(EINVAL, setns(pidfd, CLONE_NEWNS | CLONE_FS));
	CHECK_ERRNO(EINVAL, setns(pidfd, ~0));
	CHECK(!setns(pidfd, nsp_all_flags() & ~CLONE_NEWUSER));
	CHECK_ERRNO(EINVAL, setns(pidfd, CLONE_NEWUSER));
	return 0;
}

struct join {
	int pidfd;
	int flags;
	pid_t target;
};

static int join_by_pidfd(void *arg)
{
	struct join *join = arg;
	struct nsp_ids before = nsp_ids(0), theirs = nsp_ids(join->target);
	struct nsp_ids after;

	CHECK(!setns(join->pidfd, join->flags));
	after = nsp_ids(0);
	/* The pid namespace is the children's alone. */
	CHECK(nsp_differ_in(&before, &after, join->flags & ~CLONE_NEWPID));
	if (join->flags & CLONE_NEWPID)
		CHECK(nsp_ns_id(0, "pid_for_children") == theirs.id[4]);
	CHECK(nsp_differ_in(&theirs, &after,
			    (nsp_all_flags() & ~join->flags) | CLONE_NEWPID));
	return 0;
}

/* Each kind alone, and all by one call. */
NSP_RULE(setns, pidfd, nsp_needs_setns_pidfd())
{
	struct join join = { .flags = nsp_all_flags() };
	int all = join.flags;
	size_t i;

	join.target = nsp_start_target(all);
	CHECK(join.target > 0);
	join.pidfd = nsp_pidfd_open(join.target);
	CHECK(join.pidfd >= 0);
	CHECK(!strcmp(nsp_kinds[4].name, "pid"));
	CHECK(!nsp_run(join_by_pidfd, &join));
	for (i = 0; i < ARRAY_SIZE(nsp_kinds); i++) {
		join.flags = all & nsp_kinds[i].flag;
		if (join.flags)
			CHECK(!nsp_run(join_by_pidfd, &join));
	}
	return nsp_end(join.target);
}

/* Whichever of several fails, none is joined. */
NSP_RULE(setns, pidfd_all_or_nothing, nsp_needs_setns_pidfd() ?:
	 nsp_needs(CLONE_NEWTIME | CLONE_NEWUTS | CLONE_NEWUSER))
{
	pid_t target = nsp_start_target(nsp_all_flags());
	struct nsp_ids before = nsp_ids(0), after;
	struct thread other;
	int pidfd;

	CHECK(target > 0);
	pidfd = nsp_pidfd_open(target);
	CHECK(pidfd >= 0);
	CHECK(!start_thread(&other));
	CHECK(!unshare(CLONE_FS));
	/* Time comes last, the user first. */
	CHECK_ERRNO(EUSERS, setns(pidfd, CLONE_NEWNS | CLONE_NEWUTS |
					 CLONE_NEWTIME));
	CHECK_ERRNO(EINVAL, setns(pidfd, CLONE_NEWUSER | CLONE_NEWUTS));
	after = nsp_ids(0);
	CHECK(nsp_differ_in(&before, &after, 0));
	CHECK(!end_thread(&other));
	return nsp_end(target);
}

/* A zombie has left its namespaces, though its pid is still there. */
NSP_RULE(setns, no_such_process, nsp_needs_setns_pidfd())
{
	int all = nsp_all_flags(), pidfd;
	pid_t pid = nsp_start_target(all);
	size_t i;

	CHECK(pid > 0);
	pidfd = nsp_pidfd_open(pid);
	CHECK(pidfd >= 0);
	CHECK(!kill(pid, SIGKILL));
	CHECK(!waitid(P_PID, pid, NULL, WEXITED | WNOWAIT));
	CHECK_ERRNO(ESRCH, setns(pidfd, all));
	for (i = 0; i < ARRAY_SIZE(nsp_kinds); i++)
		if (all & nsp_kinds[i].flag)
			CHECK_ERRNO(ESRCH, setns(pidfd, nsp_kinds[i].flag));
	CHECK(nsp_wait(pid) == 128 + SIGKILL);
	for (i = 0; i < ARRAY_SIZE(nsp_kinds); i++)
		if (all & nsp_kinds[i].flag)
			CHECK_ERRNO(ESRCH, setns(pidfd, nsp_kinds[i].flag));
	/* Bad flags are bad all the same. */
	CHECK_ERRNO(EINVAL, setns(pidfd, 0));
	return 0;
}

/* Become nobody, with all capabilities or with none. */
static int become_nobody(bool capable)
{
	if (capable)
		CHECK(!prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP));
	CHECK(!setresgid(NOBODY, NOBODY, NOBODY));
	CHECK(!setresuid(NOBODY, NOBODY, NOBODY));
	/* So that others of this user may still look at it. */
	CHECK(!prctl(PR_SET_DUMPABLE, 1));
	return 0;
}

static int drop_capability(int cap)
{
	struct __user_cap_header_struct head = {
		.version = _LINUX_CAPABILITY_VERSION_3,
	};
	struct __user_cap_data_struct data[2];

	CHECK(!syscall(SYS_capget, &head, data));
	data[CAP_TO_INDEX(cap)].effective &= ~CAP_TO_MASK(cap);
	CHECK(!syscall(SYS_capset, &head, data));
	return 0;
}

static bool has_capability(int cap)
{
	struct __user_cap_header_struct head = {
		.version = _LINUX_CAPABILITY_VERSION_3,
	};
	struct __user_cap_data_struct data[2];

	return !syscall(SYS_capget, &head, data) &&
	       data[CAP_TO_INDEX(cap)].effective & CAP_TO_MASK(cap);
}

static int join_without(void *arg)
{
	int all = nsp_all_flags(), fds[ARRAY_SIZE(nsp_kinds)], user, root;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(nsp_kinds); i++)
		fds[i] = nsp_ns_open(0, nsp_kinds[i].name);
	user = nsp_ns_open(*(pid_t *)arg, "user");
	root = nsp_linux(5, 8) ? nsp_pidfd_open(getppid()) : -1;
	CHECK(user >= 0);

	CHECK(!drop_capability(CAP_SYS_CHROOT));
	CHECK_ERRNO(EPERM, setns(fds[0], CLONE_NEWNS));
	CHECK(!setns(fds[1], CLONE_NEWUTS));
	CHECK(!drop_capability(CAP_SYS_ADMIN));
	CHECK_ERRNO(EPERM, setns(fds[1], CLONE_NEWUTS));

	CHECK(!become_nobody(false));
	for (i = 0; i < ARRAY_SIZE(nsp_kinds); i++)
		if (all & ~CLONE_NEWUSER & nsp_kinds[i].flag)
			CHECK_ERRNO(EPERM, setns(fds[i], nsp_kinds[i].flag));
	CHECK_ERRNO(EPERM, setns(user, CLONE_NEWUSER));
	/* It may not even look at root's task, let alone join it. */
	if (root >= 0)
		CHECK_ERRNO(EPERM, setns(root, CLONE_NEWUSER));
	return 0;
}

/* CAP_SYS_ADMIN for all, even for what one is in; for mounts more than that. */
NSP_RULE(setns, capabilities, nsp_needs(CLONE_NEWUTS | CLONE_NEWUSER))
{
	pid_t target = nsp_start_target(CLONE_NEWUSER);

	CHECK(target > 0);
	CHECK(!nsp_run(join_without, &target));
	return nsp_end(target);
}

static int own_by_nobody(void *arg)
{
	CHECK(!become_nobody(true));
	/* The kernel forgets this when a task changes its user. */
	CHECK(!prctl(PR_SET_PDEATHSIG, SIGKILL));
	CHECK(!unshare(CLONE_NEWUSER | CLONE_NEWUTS));
	CHECK(!nsp_tell(((int *)arg)[1], 1));
	return nsp_stay(NULL);
}

/* The owner of a user namespace may enter it, and is all-powerful inside. */
static int join_as_owner(void *arg)
{
	struct join *join = arg;
	int user = nsp_ns_open(join->target, "user");
	int uts = nsp_ns_open(join->target, "uts");
	int ours = nsp_ns_open(0, "uts");

	CHECK(user >= 0 && uts >= 0 && ours >= 0);
	CHECK(!become_nobody(false));
	CHECK(!has_capability(CAP_SYS_ADMIN));
	/* Capable over there is not enough: it takes CAP_SYS_ADMIN here too. */
	CHECK_ERRNO(EPERM, setns(uts, CLONE_NEWUTS));
	if (join->flags) {
		CHECK_ERRNO(EPERM, setns(join->pidfd, CLONE_NEWUTS));
		CHECK(!setns(join->pidfd, join->flags));
	} else {
		CHECK(!setns(user, CLONE_NEWUSER));
		CHECK(!setns(uts, CLONE_NEWUTS));
	}
	CHECK(has_capability(CAP_SYS_ADMIN) && has_capability(CAP_SYS_CHROOT));
	CHECK(!sethostname("owner", 5));
	/* All of them, but not over what the namespace does not own. */
	CHECK_ERRNO(EPERM, setns(ours, CLONE_NEWUTS));
	CHECK_ERRNO(EINVAL, setns(user, CLONE_NEWUSER));
	return 0;
}

static int join_as_root(void *arg)
{
	struct join *join = arg;
	int user = nsp_ns_open(0, "user");
	struct nsp_ids before = nsp_ids(0), after;

	/* Root of an ancestor needs not be in it... */
	CHECK(!setns(nsp_ns_open(join->target, "uts"), CLONE_NEWUTS));
	after = nsp_ids(0);
	CHECK(nsp_differ_in(&before, &after, CLONE_NEWUTS));
	/* ...and who went down does not come up again. */
	CHECK(!setns(nsp_ns_open(join->target, "user"), CLONE_NEWUSER));
	CHECK_ERRNO(EPERM, setns(user, CLONE_NEWUSER));
	return 0;
}

NSP_RULE(setns, owners, nsp_needs(CLONE_NEWUTS | CLONE_NEWUSER))
{
	struct join join = { .pidfd = -1 };
	int fds[2];

	CHECK(!pipe(fds));
	join.target = nsp_start_in(0, own_by_nobody, fds);
	CHECK(join.target > 0 && nsp_hear(fds[0]) == 1);
	CHECK(!nsp_run(join_as_owner, &join));
	CHECK(!nsp_run(join_as_root, &join));
	if (!nsp_needs_setns_pidfd()) {
		join.pidfd = nsp_pidfd_open(join.target);
		CHECK(join.pidfd >= 0);
		join.flags = CLONE_NEWUSER | CLONE_NEWUTS;
		CHECK(!nsp_run(join_as_owner, &join));
	}
	return nsp_end(join.target);
}

struct attempt {
	int fd;
	int flag;
	long nth;
	volatile long left;
	volatile int err;
};

static int attempt_setns(void *arg)
{
	struct attempt *attempt = arg;
	struct nsp_ids before = nsp_ids(0), after;
	int fd = fail_arm(attempt->nth);

	CHECK(fd >= 0);
	attempt->err = setns(attempt->fd, attempt->flag) ? errno : 0;
	attempt->left = fail_disarm(fd);
	after = nsp_ids(0);
	CHECK(nsp_differ_in(&before, &after,
			    attempt->err ? 0 : attempt->flag));
	return 0;
}

/* Every allocation of the call fails once: ENOMEM, and nothing has changed. */
NSP_RULE(setns, no_memory, fail_needs())
{
	int all = nsp_all_flags() & ~(CLONE_NEWPID | CLONE_NEWUSER);
	struct attempt *attempt = nsp_shared(sizeof(*attempt));
	pid_t target = nsp_start_target(all);
	struct fail_saved saved;
	long failed = 0;
	size_t i;

	CHECK(attempt && target > 0 && !fail_prepare(&saved));
	for (i = 0; i < ARRAY_SIZE(nsp_kinds); i++) {
		attempt->flag = all & nsp_kinds[i].flag;
		if (!attempt->flag)
			continue;
		attempt->fd = nsp_ns_open(target, nsp_kinds[i].name);
		CHECK(attempt->fd >= 0);
		for (attempt->nth = 1; attempt->nth < MANY; attempt->nth++) {
			CHECK(!nsp_run(attempt_setns, attempt));
			CHECK(attempt->left >= 0);
			if (attempt->left)
				break;
			CHECK(attempt->err == 0 || attempt->err == ENOMEM);
			failed += attempt->err == ENOMEM;
		}
		CHECK(!attempt->err);
		close(attempt->fd);
	}
	CHECK(failed > 0);
	CHECK(!fail_restore(&saved));
	return nsp_end(target);
}

/* Start a program of this folder, or another one, with its output in a pipe. */
static pid_t start_program(const char *const argv[], const char *input,
			   int *output)
{
	char folder[PATH_MAX], path[PATH_MAX + 64];
	ssize_t len = readlink("/proc/self/exe", folder, sizeof(folder) - 1);
	int in[2], out[2];
	pid_t pid;

	if (len < 0 || pipe(in) || pipe(out))
		return -1;
	folder[len] = '\0';
	*strrchr(folder, '/') = '\0';
	snprintf(path, sizeof(path), "%s/%s", folder, argv[0]);
	pid = fork();
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGTERM);
		dup2(in[0], 0);
		dup2(out[1], 1);
		dup2(out[1], 2);
		close(in[1]);
		close(out[0]);
		execv(path, (char *const *)argv);
		_exit(127);
	}
	close(in[0]);
	close(out[1]);
	if (write(in[1], input, strlen(input)) != (ssize_t)strlen(input))
		return -1;
	close(in[1]);
	*output = out[0];
	return pid;
}

/* Run it to its end: its exit code, and what it said. */
static int run_program(const char *const argv[], const char *input,
		       char *said, size_t size)
{
	size_t len = 0;
	ssize_t n;
	pid_t pid;
	int fd;

	pid = start_program(argv, input, &fd);
	if (pid < 0)
		return -1;
	while ((n = read(fd, said + len, size - 1 - len)) > 0)
		len += n;
	said[len] = '\0';
	close(fd);
	return nsp_wait(pid);
}

/* The session on the page: newuts bizarro &, then a shell beside its child. */
NSP_RULE(setns, session, nsp_needs(CLONE_NEWUTS))
{
	const char *const newuts[] = { "newuts", "bizarro", NULL };
	char line[128], said[256], wanted[128], parent[128] = "", file[64] = "";
	const char *const beside_child[] = { "ns_exec", file, "/bin/sh", NULL };
	const char *const beside_us[] = { "ns_exec", "/proc/self/ns/uts",
					  "/bin/sh", NULL };
	struct utsname uts;
	pid_t pid, child;
	FILE *output;
	int fd;

	CHECK(!uname(&uts) && strcmp(uts.nodename, "bizarro"));
	pid = start_program(newuts, "", &fd);
	CHECK(pid > 0);
	output = fdopen(fd, "r");
	CHECK(output);
	while (!parent[0] && fgets(line, sizeof(line), output)) {
		if (sscanf(line, "clone() returned %d", &child) == 1)
			snprintf(file, sizeof(file), "/proc/%d/ns/uts", child);
		else if (!strncmp(line, "uts.nodename in child: ", 23))
			CHECK(!strcmp(line, "uts.nodename in child:  bizarro\n"));
		else
			strcpy(parent, line);
	}
	snprintf(wanted, sizeof(wanted), "uts.nodename in parent: %s\n",
		 uts.nodename);
	CHECK(!strcmp(parent, wanted));
	CHECK(file[0]);
	CHECK(!run_program(beside_child, "uname -n\n", said, sizeof(said)));
	CHECK(!strcmp(said, "bizarro\n"));
	CHECK(!run_program(beside_us, "uname -n\n", said, sizeof(said)));
	said[strcspn(said, "\n")] = '\0';
	CHECK(!strcmp(said, uts.nodename));
	CHECK(!kill(child, SIGTERM));
	CHECK(fgets(line, sizeof(line), output));
	CHECK(!strcmp(line, "child has terminated\n"));
	return nsp_wait(pid);
}

/* Bad input: one line that names it, and an exit code. */
NSP_RULE(setns, session_errors, NULL)
{
	static const char *const runs[][5] = {
		{ "no such file", "ns_exec", "/proc/self/ns/none", "true" },
		{ "give a file of /proc/PID/ns", "ns_exec", "/proc/self/status",
		  "true" },
		{ "cannot execute", "ns_exec", "/proc/self/ns/uts",
		  "/no/such/command" },
		{ "usage:", "ns_exec", "/proc/self/ns/uts" },
		{ "usage:", "newuts" },
		{ "a number", "setns_loop", "-n", "many" },
		{ "lists the kinds", "setns_loop", "-k", "nets" },
		{ "unknown argument", "setns_loop", "net" },
	};
	char said[2048];
	size_t i;

	for (i = 0; i < ARRAY_SIZE(runs); i++) {
		CHECK(run_program(&runs[i][1], "", said, sizeof(said)) == 1);
		if (!strcasestr(said, runs[i][0])) {
			fprintf(stderr, "# %s said: %s", runs[i][1], said);
			return 1;
		}
	}
	return 0;
}

/* One line, with as many fields as it has names, and as many calls as asked. */
NSP_RULE(setns, loop, NULL)
{
	const char *const argv[] = {
		"setns_loop", "-n", "50", "-t", "2", "-g", "0", "-k", "mnt",
		NULL,
	};
	char said[256], gps[16];
	long threads, n;
	double us[4];

	CHECK(!run_program(argv, "", said, sizeof(said)));
	CHECK(sscanf(said, "mnt\t%ld\t%ld\t%lf\t%lf\t%lf\t%lf\t%15s\n", &threads,
		     &n, &us[0], &us[1], &us[2], &us[3], gps) == 7);
	CHECK(threads == 2 && n == 50 && !strcmp(gps, "-"));
	/* No thread is in its calls for longer than the whole takes. */
	CHECK(us[1] * n <= us[0] + 1);
	CHECK(us[2] <= us[3]);
	return 0;
}

NSP_TEST_MAIN(nsp_prepare_any)
