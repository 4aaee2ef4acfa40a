// SPDX-License-Identifier: GPL-2.0-only
/*
 * Restart: a tree of processes that is killed and comes back at once, with the
 * same pids in every pid namespace and new namespaces of the same kinds.
 *
 * A pid is free when its task has been reaped, and a limit has room when the
 * namespaces under it are gone, whoever else has yet to be released.  So a
 * restore must never meet EEXIST, nor ENOSPC, nor be given another pid, while
 * what the tree before it had is pending.
 *
 * Pids are chosen by clone3() with set_tid since Linux 5.5, on all levels.
 * Before that there is ns_last_pid, for the innermost one.
 */
#include <linux/capability.h>

#include "namespaces.h"

#define LEVELS 3

NSP_FIXTURE(set_tid);

/* One process of the tree. */
struct node {
	int parent;
	int flags;
	int levels;
	pid_t tids[LEVELS];
};

/* What it says of itself when it is there: an errno if it is not. */
struct report {
	int node;
	int err;
	pid_t pid;
	pid_t outermost;
};

#define NEW (CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWUTS)

/* The last pid of each is found out later. */
static const struct node plan[] = {
	{ -1, NEW, 2, { 1 } },
	{ 0, 0, 2, { 23 } },
	{ 1, 0, 2, { 24 } },
	{ 0, NEW, 3, { 1, 42 } },
	{ 3, 0, 3, { 77, 43 } },
	{ 4, 0, 3, { 2, 25 } },
};

struct tree {
	struct node nodes[ARRAY_SIZE(plan)];
	int report[2];
	/* Without the right to choose pids on the outermost level. */
	bool inner_only;
};

static int report(const struct tree *tree, int node, int err)
{
	struct report report = { .node = node, .err = err, .pid = getpid() };
	char self[32] = "";

	/* By the pid namespace of the guest's /proc. */
	CHECK(readlink("/proc/self", self, sizeof(self) - 1) > 0);
	report.outermost = atoi(self);
	CHECK(write(tree->report[1], &report, sizeof(report)) ==
	      sizeof(report));
	return 0;
}

/* Restore the children of @parent; each of them does the same for its own. */
static pid_t restore(const struct tree *tree, int parent)
{
	pid_t pid = 0;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(plan); i++) {
		const struct node *node = &tree->nodes[i];

		if (node->parent != parent)
			continue;
		pid = nsp_clone_tids(node->flags, node->tids,
				     node->levels - tree->inner_only);
		if (!pid) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			report(tree, i, 0);
			restore(tree, i);
			_exit(nsp_stay(NULL));
		}
		if (pid < 0)
			report(tree, i, errno);
	}
	return pid;
}

/* Does the kernel show it with these pids, the outermost first? */
static int check_nspid(const struct node *node, pid_t pid)
{
	char path[64], line[256], wanted[128];
	int i, len;
	FILE *file;

	len = sprintf(wanted, "NSpid:");
	for (i = node->levels; i--; )
		len += sprintf(wanted + len, "\t%d", (int)node->tids[i]);
	sprintf(wanted + len, "\n");
	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	file = fopen(path, "r");
	CHECK(file);
	do {
		CHECK(fgets(line, sizeof(line), file));
	} while (strncmp(line, "NSpid:", 6));
	fclose(file);
	CHECK(!strcmp(line, wanted));
	return 0;
}

/* Restore the tree, look at each process of it, and kill it. */
static int restart(struct tree *tree)
{
	struct report got;
	pid_t init;
	size_t i;

	init = restore(tree, -1);
	for (i = 0; i < ARRAY_SIZE(plan); i++) {
		struct node node;

		CHECK(read(tree->report[0], &got, sizeof(got)) == sizeof(got));
		node = tree->nodes[got.node];
		if (got.err) {
			fprintf(stderr, "# process %d did not come back: %s\n",
				got.node, strerror(got.err));
			return 1;
		}
		CHECK(got.pid == node.tids[0]);
		if (tree->inner_only)
			node.tids[node.levels - 1] = got.outermost;
		CHECK(got.outermost == node.tids[node.levels - 1]);
		CHECK(!check_nspid(&node, got.outermost));
	}
	CHECK(init > 0);
	return nsp_end(init);
}

static int restart_often(bool limited, long restarts)
{
	long i, pending = 0, before = nsp_unwaited(), counted;
	struct tree tree = { .inner_only = limited };
	pid_t pids[ARRAY_SIZE(plan)];
	char mode[32] = "off";

	memcpy(tree.nodes, plan, sizeof(plan));
	CHECK(!pipe(tree.report));
	if (!limited) {
		CHECK(!nsp_free_pids(pids, ARRAY_SIZE(plan)));
		for (i = 0; i < (long)ARRAY_SIZE(plan); i++)
			tree.nodes[i].tids[plan[i].levels - 1] = pids[i];
	}
	restarts = nsp_env("NSPROXY_TEST_RESTARTS", restarts);
	for (i = 0; i < restarts; i++) {
		pending += nsp_num("pending") > 0;
		CHECK(!restart(&tree));
	}
	fprintf(stderr, "# %ld restarts of %ld", i, restarts);
	if (nsp_present()) {
		fprintf(stderr, ", %ld with releases pending", pending);
		CHECK(!nsp_get(NSP_DIR "/mode", mode, sizeof(mode)));
	}
	fprintf(stderr, "\n");
	/* Two mount namespaces a time, or this was no test of it. */
	counted = nsp_unwaited() - before;
	CHECK(strcmp(mode, "all") || counted >= 2 * restarts);
	return 0;
}

NSP_RULE(set_tid, restart, nsp_needs_set_tid())
{
	return restart_often(false, 10);
}

/* Room for one tree: that of the dead one must be had in time. */
NSP_RULE(set_tid, restart_at_the_limit,
	 nsp_needs_set_tid() ?: nsp_needs(CLONE_NEWUSER | CLONE_NEWUTS) ?:
	 access("/proc/sys/user/max_mnt_namespaces", F_OK) ?
	 "this kernel has no limits for namespaces (they came with 4.9)" : NULL)
{
	CHECK(!nsp_own_user());
	CHECK(!nsp_put("/proc/sys/user/max_mnt_namespaces", "2"));
	CHECK(!nsp_put("/proc/sys/user/max_uts_namespaces", "2"));
	return restart_often(true, 5);
}

/* In a pid namespace of two levels, this task being pid 1 of the inner one. */
static int try_tids(void *arg)
{
	pid_t tids[33] = { 5 }, pid, max;
	char text[32];

	(void)arg;
	CHECK(!nsp_get("/proc/sys/kernel/pid_max", text, sizeof(text)));
	max = atoi(text);

	CHECK_ERRNO(EINVAL, nsp_clone_tids(0, NULL, 1));
	CHECK_ERRNO(EINVAL, nsp_clone_tids(0, tids, 0));
	CHECK_ERRNO(EINVAL, nsp_clone_tids(0, tids, 33));
	CHECK_ERRNO(EFAULT, nsp_clone_tids(0, (pid_t *)8, 1));
	/* More levels than there are. */
	CHECK_ERRNO(EINVAL, nsp_clone_tids(0, tids, 32));
	tids[0] = 0;
	CHECK_ERRNO(EINVAL, nsp_clone_tids(0, tids, 1));
	tids[0] = -1;
	CHECK_ERRNO(EINVAL, nsp_clone_tids(0, tids, 1));
	tids[0] = max;
	CHECK_ERRNO(EINVAL, nsp_clone_tids(0, tids, 1));
	/* Pid 1 comes first. */
	tids[0] = 2;
	CHECK_ERRNO(EINVAL, nsp_clone_tids(CLONE_NEWPID, tids, 1));
	/* What is there is there. */
	tids[0] = 1;
	CHECK_ERRNO(EEXIST, nsp_clone_tids(0, tids, 1));
	/* On the outer level too, and then the inner one is free again. */
	tids[0] = 5;
	tids[1] = 1;
	CHECK_ERRNO(EEXIST, nsp_clone_tids(0, tids, 2));
	tids[0] = max - 1;
	pid = nsp_clone_tids(0, tids, 1);
	if (!pid)
		_exit(getpid() != max - 1);
	CHECK(pid == max - 1 && !nsp_wait(pid));
	tids[0] = 5;
	pid = nsp_clone_tids(0, tids, 1);
	if (!pid)
		_exit(getpid() != 5);
	CHECK(pid == 5);
	/* Until it is reaped it is not free, which a zombie is not. */
	CHECK(!waitid(P_PID, 5, NULL, WEXITED | WNOWAIT));
	CHECK_ERRNO(EEXIST, nsp_clone_tids(0, tids, 1));
	CHECK(!nsp_wait(5));
	pid = nsp_clone_tids(0, tids, 1);
	if (!pid)
		_exit(0);
	CHECK(pid == 5 && !nsp_wait(5));
	return 0;
}

NSP_RULE(set_tid, rules, nsp_needs_set_tid())
{
	return nsp_run_in(CLONE_NEWPID, try_tids, NULL);
}

static int try_levels(void *arg)
{
	pid_t tids[2] = { 9, 299 }, pid;

	(void)arg;
	/* Root here chooses on this level, and not on the one above. */
	CHECK_ERRNO(EPERM, nsp_clone_tids(0, tids, 2));
	pid = nsp_clone_tids(0, tids, 1);
	if (!pid)
		_exit(0);
	CHECK(pid == 9);
	return nsp_wait(pid);
}

static int try_as_nobody(void *arg)
{
	bool capable = *(bool *)arg;
	struct __user_cap_header_struct head = {
		.version = _LINUX_CAPABILITY_VERSION_3,
	};
	struct __user_cap_data_struct data[2] = { 0 };
	pid_t tid = 9, pid;

	/* CAP_CHECKPOINT_RESTORE alone will do. */
	if (capable) {
		data[1].effective = CAP_TO_MASK(40);
		data[1].permitted = CAP_TO_MASK(40);
	}
	CHECK(!syscall(SYS_capset, &head, data));
	if (!capable) {
		CHECK_ERRNO(EPERM, nsp_clone_tids(0, &tid, 1));
		return 0;
	}
	pid = nsp_clone_tids(0, &tid, 1);
	if (!pid)
		_exit(0);
	CHECK(pid == tid);
	return nsp_wait(pid);
}

NSP_RULE(set_tid, capabilities, nsp_needs_set_tid() ?: nsp_needs(CLONE_NEWUSER))
{
	bool capable = false;

	CHECK(!nsp_run_in(CLONE_NEWUSER | CLONE_NEWPID, try_levels, NULL));
	CHECK(!nsp_run_in(CLONE_NEWPID, try_as_nobody, &capable));
	capable = true;
	if (nsp_linux(5, 9))
		CHECK(!nsp_run_in(CLONE_NEWPID, try_as_nobody, &capable));
	return 0;
}

#define NS_LAST_PID "/proc/sys/kernel/ns_last_pid"

static int exit_as(void *arg)
{
	return getpid() != *(pid_t *)arg;
}

/* The next pid is the one after it, if nobody else forks in between. */
static int by_last_pid(void *arg)
{
	static const pid_t wanted[] = { 23, 77, 42, 23 };
	char text[32];
	size_t i;

	(void)arg;
	CHECK(nsp_put(NS_LAST_PID, "-1") == -EINVAL);
	for (i = 0; i < ARRAY_SIZE(wanted); i++) {
		pid_t pid = wanted[i];

		snprintf(text, sizeof(text), "%d", (int)pid - 1);
		CHECK(!nsp_put(NS_LAST_PID, text));
		pid = nsp_start_in(0, exit_as, &pid);
		CHECK(pid == wanted[i] && !nsp_wait(pid));
	}
	CHECK(!setresuid(1, 1, 1));
	CHECK(nsp_put(NS_LAST_PID, "5") < 0);
	return 0;
}

NSP_RULE(set_tid, ns_last_pid, access(NS_LAST_PID, F_OK) ?
	 "no " NS_LAST_PID ": this kernel has no CONFIG_CHECKPOINT_RESTORE" :
	 nsp_needs(CLONE_NEWPID))
{
	int i;

	for (i = 0; i < 10; i++)
		CHECK(!nsp_run_in(NEW, by_last_pid, NULL));
	return 0;
}

NSP_TEST_MAIN(nsp_prepare_any)
