// SPDX-License-Identifier: GPL-2.0-only
/*
 * A task's pid namespace is not its nsproxy's.
 *
 * It was until 2007, and an exiting task that had dropped its nsproxy had no
 * pid namespace to be notified, reparented or waited for in (bug 11391).  Since
 * then the nsproxy holds only the one that children are born in; the task's own
 * comes with its pid, and its user namespace with its credentials.  Both stay
 * until the task is reaped, whenever the nsproxy is released.
 */
#include "namespaces.h"

NSP_FIXTURE(pidns);

/* What is pending may be released now, or later: nothing here may change. */
static int flush_if_any(void)
{
	return nsp_present() ? nsp_flush() : 0;
}

static int nspid(pid_t pid, char *line, size_t size)
{
	char path[64];
	FILE *status;
	bool found = false;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	status = fopen(path, "r");
	CHECK(status);
	while (!found && fgets(line, size, status))
		found = !strncmp(line, "NSpid:", 6);
	fclose(status);
	CHECK(found);
	return 0;
}

static int check_zombie(pid_t pid, const struct nsp_ids *alive)
{
	static const char *const for_children[] = {
		"pid_for_children", "time_for_children",
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(nsp_kinds); i++) {
		const struct nsp_kind *kind = &nsp_kinds[i];

		if (!alive->id[i])
			continue;
		if (kind->flag & (CLONE_NEWPID | CLONE_NEWUSER)) {
			int fd = nsp_ns_open(pid, kind->name);

			CHECK(fd >= 0);
			close(fd);
			CHECK(nsp_ns_id(pid, kind->name) == alive->id[i]);
		} else {
			errno = 0;
			CHECK(!nsp_ns_id(pid, kind->name) && errno == ENOENT);
		}
	}
	for (i = 0; i < ARRAY_SIZE(for_children); i++) {
		errno = 0;
		CHECK(!nsp_ns_id(pid, for_children[i]) && errno == ENOENT);
	}
	return 0;
}

static int one_zombie(int flags)
{
	char before[256], after[256];
	struct nsp_ids alive;
	int pidfd = -1, i;
	pid_t pid = nsp_start_target(flags);

	CHECK(pid > 0);
	alive = nsp_ids(pid);
	if (nsp_linux(4, 1))
		CHECK(!nspid(pid, before, sizeof(before)));
	if (!nsp_needs_setns_pidfd())
		pidfd = nsp_pidfd_open(pid);
	CHECK(!kill(pid, SIGKILL));
	CHECK(!waitid(P_PID, pid, NULL, WEXITED | WNOWAIT));
	for (i = 0; i < 2; i++) {
		CHECK(!check_zombie(pid, &alive));
		if (nsp_linux(4, 1)) {
			CHECK(!nspid(pid, after, sizeof(after)));
			CHECK(!strcmp(before, after));
		}
		if (pidfd >= 0)
			CHECK_ERRNO(ESRCH, setns(pidfd, CLONE_NEWUSER |
						 CLONE_NEWPID));
		CHECK(!flush_if_any());
	}
	CHECK(nsp_wait(pid) == 128 + SIGKILL);
	for (i = 0; i < (int)ARRAY_SIZE(nsp_kinds); i++)
		CHECK(!nsp_ns_id(pid, nsp_kinds[i].name));
	CHECK_ERRNO(ESRCH, kill(pid, 0));
	return 0;
}

NSP_RULE(pidns, zombie, nsp_needs(CLONE_NEWPID | CLONE_NEWUSER))
{
	int all = nsp_all_flags();

	CHECK(!one_zombie(all));
	CHECK(!one_zombie(all & ~(CLONE_NEWPID | CLONE_NEWUSER)));
	CHECK(!one_zombie(CLONE_NEWPID | CLONE_NEWNS));
	return 0;
}

/* A process with two threads, the leader of which goes first. */
struct family {
	int to_child[2];
	int from_child[2];
	pid_t child;
};

/* By itself, for the kernel takes the end of a thread for a parent's death. */
static pid_t start_child(struct family *family)
{
	pid_t pid = nsp_clone(0);

	if (pid)
		return pid;
	close(family->to_child[1]);
	_exit(nsp_hear(family->to_child[0]));
}

/* Leave a grandchild to whoever takes it. */
static int leave_orphan(void *arg)
{
	struct family *family = arg;
	pid_t pid = start_child(family);

	CHECK(pid > 0);
	return nsp_tell(family->from_child[1], pid);
}

/* The next child that says it has exited is @pid, with @code. */
static int expect_sigchld(pid_t pid, int code)
{
	siginfo_t info;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	CHECK(sigwaitinfo(&set, &info) == SIGCHLD);
	CHECK(info.si_pid == pid);
	CHECK(info.si_code == CLD_EXITED && info.si_status == code);
	CHECK(nsp_wait(pid) == code);
	return 0;
}

static int survive(struct family *family)
{
	pid_t pid;

	/* /proc/self is the leader: no nsproxy any more. */
	while (nsp_ns_id(0, "mnt"))
		sched_yield();
	CHECK(errno == ENOENT);
	CHECK(nsp_ns_id(0, "pid") && nsp_ns_id(0, "user"));
	CHECK(!flush_if_any());

	/* The child that the leader had. */
	CHECK(!nsp_tell(family->to_child[1], 7));
	CHECK(!expect_sigchld(family->child, 7));

	/* One of its own, and that one's child, which has nobody else. */
	family->child = nsp_start_in(0, leave_orphan, family);
	CHECK(family->child > 0);
	pid = nsp_hear(family->from_child[0]);
	CHECK(pid > 0);
	CHECK(!expect_sigchld(family->child, 0));
	CHECK(!flush_if_any());
	CHECK(!nsp_tell(family->to_child[1], 8));
	CHECK(!expect_sigchld(pid, 8));
	CHECK_ERRNO(ECHILD, waitpid(-1, NULL, 0));
	return 0;
}

static void *survivor(void *arg)
{
	_exit(survive(arg));
}

static int lose_leader(void *arg)
{
	struct family family;
	pthread_t thread;
	sigset_t set;

	(void)arg;
	CHECK(!prctl(PR_SET_CHILD_SUBREAPER, 1));
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	CHECK(!sigprocmask(SIG_BLOCK, &set, NULL));
	CHECK(!pipe(family.to_child) && !pipe(family.from_child));
	family.child = start_child(&family);
	CHECK(family.child > 0);
	CHECK(!pthread_create(&thread, NULL, survivor, &family));
	/* An nsproxy that nobody else has, so that it dies with the leader. */
	CHECK(!unshare(nsp_supported(CLONE_NEWNS | CLONE_NEWUTS)));
	/* As pthread_exit() does it in the end; its caller's stack is in use. */
	syscall(SYS_exit, 0);
	return 1;
}

/* Bug 11391, in a process of this pid namespace, and in the init of another. */
NSP_RULE(pidns, leader_gone, nsp_needs(CLONE_NEWPID))
{
	CHECK(!nsp_run_in(0, lose_leader, NULL));
	CHECK(!nsp_run_in(CLONE_NEWPID, lose_leader, NULL));
	CHECK(!nsp_run_in(nsp_all_flags() & ~CLONE_NEWUSER, lose_leader, NULL));
	return 0;
}

struct seen {
	long pid;
	long ppid;
	long ns;
};

static int look(void *arg)
{
	struct seen seen = {
		.pid = getpid(),
		.ppid = getppid(),
		.ns = nsp_ns_id(0, "pid"),
	};

	return write(((int *)arg)[1], &seen, sizeof(seen)) != sizeof(seen);
}

static int look_and_stay(void *arg)
{
	return look(arg) ?: nsp_stay(NULL);
}

static int hear_seen(int fd, struct seen *seen)
{
	return read(fd, seen, sizeof(*seen)) != sizeof(*seen);
}

/* The caller's own pid namespace is one thing, its children's another. */
NSP_RULE(pidns, active_and_childrens, nsp_needs(CLONE_NEWPID))
{
	ino_t ours = nsp_ns_id(0, "pid"), early, theirs;
	pid_t self = getpid(), init;
	struct seen seen;
	pthread_t thread;
	int fds[2];

	CHECK(!pipe(fds));
	CHECK(!unshare(CLONE_NEWPID));
	CHECK(getpid() == self && nsp_ns_id(0, "pid") == ours);
	/* Not every kernel shows one that has no init yet. */
	early = nsp_ns_id(0, "pid_for_children");
	CHECK(early ? early != ours : errno == ENOENT);
	CHECK_ERRNO(EINVAL, unshare(CLONE_NEWPID));
	/* Threads share their pid namespace. */
	CHECK(pthread_create(&thread, NULL, survivor, NULL) == EINVAL);
	init = nsp_start_in(0, look_and_stay, fds);
	CHECK(init > 0 && !hear_seen(fds[0], &seen));
	CHECK(seen.pid == 1 && seen.ppid == 0);
	theirs = seen.ns;
	CHECK(theirs != ours && nsp_ns_id(init, "pid") == theirs);
	CHECK(!early || early == theirs);
	CHECK(nsp_ns_id(0, "pid") == ours);
	if (nsp_linux(4, 12)) {
		CHECK(nsp_ns_id(0, "pid_for_children") == theirs);
		CHECK(nsp_ns_id(init, "pid_for_children") == theirs);
	}
	/* A new nsproxy takes the children's along. */
	CHECK(!unshare(CLONE_NEWNS) && !flush_if_any());
	CHECK(!nsp_run_in(0, look, fds) && !hear_seen(fds[0], &seen));
	CHECK(seen.pid == 2 && seen.ppid == 0 && seen.ns == (long)theirs);
	return nsp_end(init);
}

static int fork_there(void *arg)
{
	int fd = *(int *)arg;

	CHECK(!setns(fd, CLONE_NEWPID));
	CHECK_ERRNO(ENOMEM, nsp_clone(0));
	return 0;
}

/* Nothing is born in a pid namespace the init of which has died. */
NSP_RULE(pidns, dead, nsp_needs(CLONE_NEWPID))
{
	int ours = nsp_ns_open(0, "pid"), theirs;
	pid_t init;

	CHECK(ours >= 0 && !unshare(CLONE_NEWPID));
	init = nsp_start_target(0);
	CHECK(init > 0);
	theirs = nsp_ns_open(init, "pid");
	CHECK(theirs >= 0);
	CHECK(!kill(init, SIGKILL));
	CHECK(!waitid(P_PID, init, NULL, WEXITED | WNOWAIT));
	CHECK_ERRNO(ENOMEM, nsp_clone(0));
	CHECK(nsp_wait(init) == 128 + SIGKILL);
	CHECK_ERRNO(ENOMEM, nsp_clone(0));
	CHECK(!flush_if_any());
	CHECK_ERRNO(ENOMEM, nsp_clone(0));
	/* It is dead, and not gone: entering it is no error. */
	CHECK(!setns(ours, CLONE_NEWPID));
	CHECK(!nsp_run_in(0, fork_there, &theirs));
	return 0;
}

#define NR_MEMBERS 5

static int member(void *arg)
{
	char self[32] = "";

	/* The guest's /proc says by which pid the test knows this task. */
	CHECK(readlink("/proc/self", self, sizeof(self) - 1) > 0);
	CHECK(!nsp_tell(((int *)arg)[1], atoi(self)));
	return nsp_stay(NULL);
}

static int daemonize(void *arg)
{
	pid_t pid;

	CHECK(setsid() > 0);
	pid = nsp_clone(0);
	CHECK(pid >= 0);
	return pid ? 0 : member(arg);
}

/* Daemons, and inits of pid namespaces further down. */
static int populate(void *arg)
{
	int i;

	signal(SIGCHLD, SIG_IGN);
	for (i = 0; i < NR_MEMBERS; i++) {
		if (i % 2)
			CHECK(nsp_start_in(CLONE_NEWPID, member, arg) > 0);
		else
			CHECK(nsp_start_in(0, daemonize, arg) > 0);
	}
	return member(arg);
}

/* Once the init is reaped, no member is left at any depth, nor its zombie. */
NSP_RULE(pidns, no_member_left, nsp_needs(CLONE_NEWPID))
{
	pid_t pids[NR_MEMBERS + 1], init;
	int fds[2], i;

	CHECK(!pipe(fds));
	init = nsp_start_in(nsp_all_flags() & ~CLONE_NEWUSER, populate, fds);
	CHECK(init > 0);
	for (i = 0; i <= NR_MEMBERS; i++) {
		pids[i] = nsp_hear(fds[0]);
		CHECK(pids[i] > 0 && !kill(pids[i], 0));
	}
	CHECK(!nsp_end(init));
	for (i = 0; i <= NR_MEMBERS; i++)
		CHECK_ERRNO(ESRCH, kill(pids[i], 0));
	CHECK(!flush_if_any());
	for (i = 0; i <= NR_MEMBERS; i++)
		CHECK_ERRNO(ESRCH, kill(pids[i], 0));
	return 0;
}

/* Also one whose parent is outside: the init waits until that has reaped it. */
NSP_RULE(pidns, member_from_outside, nsp_needs(CLONE_NEWPID))
{
	siginfo_t info = { 0 };
	pid_t init, guest;
	int ours, theirs;

	init = nsp_start_target(CLONE_NEWPID);
	CHECK(init > 0);
	ours = nsp_ns_open(0, "pid");
	theirs = nsp_ns_open(init, "pid");
	CHECK(ours >= 0 && theirs >= 0);
	CHECK(!setns(theirs, CLONE_NEWPID));
	guest = nsp_start_target(0);
	CHECK(guest > 0);
	CHECK(!setns(ours, CLONE_NEWPID));
	CHECK(!kill(init, SIGKILL));
	CHECK(!waitid(P_PID, guest, &info, WEXITED | WNOWAIT));
	CHECK(info.si_code == CLD_KILLED && info.si_status == SIGKILL);
	CHECK(!flush_if_any());
	info.si_pid = 0;
	CHECK(!waitid(P_PID, init, &info, WEXITED | WNOHANG | WNOWAIT));
	CHECK(!info.si_pid);
	CHECK(nsp_wait(guest) == 128 + SIGKILL);
	CHECK(nsp_wait(init) == 128 + SIGKILL);
	return 0;
}

NSP_TEST_MAIN(nsp_prepare_any)
