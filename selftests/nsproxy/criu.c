// SPDX-License-Identifier: GPL-2.0-only
/*
 * Restart by CRIU: a tree of processes with namespaces of its own is dumped,
 * which ends it, and restored at once, again and again.
 *
 * The restore asks for the very pids, and for namespaces of the same kinds and
 * content, while those of the tree before it are pending.  set_tid does the
 * like by itself, faster and more often; this is the program that people use.
 *
 * NSPROXY_TEST_DUMPS says how often.
 */
#include "namespaces.h"

#define ROOT "/tmp/root"
#define IMAGES "/tmp/images"
#define TREE "NSPROXY_TEST_TREE"
#define NR_TASKS 3

NSP_FIXTURE(criu);

static const char *needs_criu(void)
{
	/* Whatever else it lacks is a failure. */
	return system("criu --version >/dev/null 2>&1")
		? "no criu here" : nsp_needs_set_tid();
}

/*
 * The tree: each task is the child of the one before it.  It has no file open
 * when it tells by the end of its standard output that it is complete.
 */
static int be_tree(char *pids)
{
	pid_t pid;

	while ((pid = strtol(pids, &pids, 10))) {
		pid = nsp_clone_tids(0, &pid, 1);
		if (pid < 0)
			return 1;
		if (pid)
			break;
	}
	close(1);
	return nsp_stay(NULL);
}

struct tree {
	int flags;
	pid_t tids[NR_TASKS];
	/* Of the first task, in the namespace of this test. */
	pid_t root;
};

/* What is dumped sees no file and no mount but its own. */
static int become_tree(const struct tree *tree, int ready)
{
	char pids[64], *const argv[] = { "/tree", NULL };
	char *const env[] = { pids, NULL };
	int fd;

	CHECK(setsid() > 0);
	CHECK(!sethostname("dumped", 6));
	CHECK(!mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL));
	CHECK(!mount(ROOT, ROOT, NULL, MS_BIND, NULL));
	CHECK(!mount("none", ROOT "/proc", "proc", 0, NULL));
	CHECK(!chdir(ROOT));
	CHECK(!syscall(SYS_pivot_root, ".", "."));
	CHECK(!umount2(".", MNT_DETACH));
	snprintf(pids, sizeof(pids), TREE "=%d %d", (int)tree->tids[1],
		 (int)tree->tids[2]);
	CHECK(dup2(ready, 1) == 1);
	for (fd = 0; fd < 1024; fd++)
		if (fd != 1)
			close(fd);
	return execve(argv[0], argv, env);
}

static int start_tree(struct tree *tree)
{
	int fds[2];
	char c;

	CHECK(!pipe(fds));
	tree->root = nsp_clone_tids(tree->flags, tree->tids, 1);
	if (!tree->root)
		_exit(become_tree(tree, fds[1]));
	CHECK(tree->root > 0);
	close(fds[1]);
	CHECK(read(fds[0], &c, 1) == 0);
	close(fds[0]);
	return 0;
}

/* The only child of @pid. */
static pid_t only_child(pid_t pid)
{
	char path[64], line[64], *end;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)pid,
		 (int)pid);
	if (nsp_get(path, line, sizeof(line)))
		return -1;
	pid = strtol(line, &end, 10);
	return strcmp(end, " ") ? -1 : pid;
}

static int innermost_pid(pid_t pid)
{
	char path[64], line[256];
	int found = -1;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	file = fopen(path, "r");
	if (!file)
		return -1;
	while (fgets(line, sizeof(line), file))
		if (!strncmp(line, "NSpid:", 6))
			found = atoi(strrchr(line, '\t'));
	fclose(file);
	return found;
}

static int check_hostname(void *arg)
{
	int fd = nsp_ns_open(((struct tree *)arg)->root, "uts");
	char name[64];

	CHECK(fd >= 0 && !setns(fd, CLONE_NEWUTS));
	CHECK(!gethostname(name, sizeof(name)) && !strcmp(name, "dumped"));
	return 0;
}

static int check_tree(struct tree *tree)
{
	struct nsp_ids ours = nsp_ids(0), theirs;
	pid_t pid = tree->root;
	int i;

	for (i = 0; i < NR_TASKS; i++) {
		CHECK(pid > 0);
		CHECK(innermost_pid(pid) == tree->tids[i]);
		CHECK(tree->flags & CLONE_NEWPID || pid == tree->tids[i]);
		theirs = nsp_ids(pid);
		CHECK(nsp_differ_in(&ours, &theirs, tree->flags));
		if (i < NR_TASKS - 1)
			pid = only_child(pid);
	}
	return nsp_run(check_hostname, tree);
}

/* All of them come to this task, which has no other children. */
static void reap_tree(void)
{
	while (waitpid(-1, NULL, 0) > 0)
		;
}

/* Its words are shown only if it fails. */
static int run_criu(char *const argv[])
{
	char line[512];
	int status;
	FILE *log;
	pid_t pid;

	pid = fork();
	if (!pid) {
		int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

		dup2(fd, 1);
		dup2(fd, 2);
		execvp(argv[0], argv);
		_exit(127);
	}
	status = nsp_wait(pid);
	if (!status)
		return 0;
	fprintf(stderr, "# criu %s: exit code %d\n", argv[1], status);
	log = fopen(IMAGES "/log", "r");
	while (log && fgets(line, sizeof(line), log))
		fprintf(stderr, "# %s", line);
	return status;
}

static int dump(struct tree *tree)
{
	char pid[16], *const argv[] = {
		"criu", "dump", "--tree", pid, "--images-dir", IMAGES,
		"--log-file", "log", "-v1", NULL
	};

	snprintf(pid, sizeof(pid), "%d", (int)tree->root);
	return run_criu(argv);
}

static int restore(struct tree *tree)
{
	static char *const argv[] = {
		"criu", "restore", "--restore-detached", "--images-dir", IMAGES,
		"--root", ROOT, "--pidfile", "pid", "--log-file", "log", "-v1",
		NULL
	};
	char pid[16];

	if (unlink(IMAGES "/pid"))
		CHECK(errno == ENOENT);
	CHECK(!run_criu(argv));
	CHECK(!nsp_get(IMAGES "/pid", pid, sizeof(pid)));
	tree->root = atoi(pid);
	return 0;
}

/* The program is what this test is, in a folder with nothing else. */
static int make_folders(void)
{
	char buf[65536];
	int from, to;
	ssize_t n;

	CHECK(!nsp_own_mounts());
	CHECK(!mount("none", "/tmp", "tmpfs", 0, NULL));
	CHECK(!mkdir(IMAGES, 0700) && !mkdir(ROOT, 0755));
	/* criu wants a mount. */
	CHECK(!mount(ROOT, ROOT, NULL, MS_BIND, NULL));
	CHECK(!mkdir(ROOT "/proc", 0755));
	from = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	to = open(ROOT "/tree", O_WRONLY | O_CREAT | O_CLOEXEC, 0755);
	CHECK(from >= 0 && to >= 0);
	while ((n = read(from, buf, sizeof(buf))) > 0)
		CHECK(write(to, buf, n) == n);
	CHECK(!n && !close(from) && !close(to));
	return 0;
}

static int restart_often(struct tree *tree)
{
	long i, n = nsp_env("NSPROXY_TEST_DUMPS", 3), pending = 0;

	/* Who starts a tree reaps it. */
	CHECK(!prctl(PR_SET_CHILD_SUBREAPER, 1));
	CHECK(!make_folders());
	CHECK(!start_tree(tree));
	CHECK(!check_tree(tree));
	for (i = 0; i < n; i++) {
		CHECK(!dump(tree));
		reap_tree();
		pending += nsp_num("pending") > 0;
		CHECK(!restore(tree));
		/* For its clocks to go on where they were. */
		tree->flags |= nsp_supported(CLONE_NEWTIME);
		CHECK(!check_tree(tree));
	}
	fprintf(stderr, "# %ld restores of %ld", i, n);
	if (nsp_present())
		fprintf(stderr, ", %ld with releases pending", pending);
	fprintf(stderr, "\n");
	CHECK(!kill(-tree->root, SIGKILL));
	reap_tree();
	return 0;
}

/* Where the pids are everybody's. */
NSP_RULE(criu, restart, needs_criu())
{
	struct tree tree = {
		.flags = CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC,
	};

	CHECK(!nsp_free_pids(tree.tids, NR_TASKS));
	return restart_often(&tree);
}

NSP_RULE(criu, restart_with_pidns, needs_criu())
{
	struct tree tree = {
		.flags = CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC |
			 CLONE_NEWPID,
		.tids = { 1, 42, 23 },
	};

	return restart_often(&tree);
}

static void prepare(void)
{
	char *pids = getenv(TREE);

	if (pids)
		_exit(be_tree(pids));
	nsp_prepare_any();
}

NSP_TEST_MAIN(prepare)
