// SPDX-License-Identifier: GPL-2.0-only
/*
 * What do many namespaces cost, until all of them are gone?
 *
 * One call made fast is no gain if its work is only put on a pile.  So the
 * clock runs on until everything is released, and what the whole machine has
 * done meanwhile is counted: grace periods, CPU time, memory.
 */
#define _GNU_SOURCE
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "fuse.h"
#include "gp.h"
#include "measure.h"

#define PENDING "/sys/kernel/nsproxy_defer/pending"
/* How often a run looks at the memory and at what is pending. */
#define SAMPLES 10
#define NAP_US 1000

static int own_net = -1;
static char mount_point[32];
static char **command;
static int command_argc;
static int crowd_gate[2];

static noreturn void child_die(void)
{
	_exit(errno ? errno : 1);
}

static pid_t start_child(void)
{
	pid_t pid = fork();

	if (pid < 0)
		die("fork: %s", strerror(errno));
	return pid;
}

/* @pid may be -1, for any child. */
static void reap(pid_t pid, const char *what)
{
	int status;

	if (waitpid(pid, &status, 0) < 0)
		die("waitpid: %s", strerror(errno));
	if (!WIFEXITED(status))
		die("%s was killed by signal %d", what, WTERMSIG(status));
	if (WEXITSTATUS(status))
		die("%s failed, exit code %d", what, WEXITSTATUS(status));
}

static void nap(long us)
{
	struct timespec ts = {
		.tv_sec = us / 1000000, .tv_nsec = us % 1000000 * 1000
	};

	nanosleep(&ts, NULL);
}

static void do_unshare(void)
{
	if (unshare(CLONE_NEWNS))
		die("unshare(CLONE_NEWNS): %s; run as root", strerror(errno));
}

static void do_life(void)
{
	pid_t pid = start_child();

	if (!pid) {
		if (unshare(CLONE_NEWNS))
			child_die();
		_exit(0);
	}
	reap(pid, "a child that leaves its mount namespace");
}

static void do_fork(void)
{
	pid_t pid = start_child();

	if (!pid)
		_exit(0);
	reap(pid, "a child");
}

static void do_setns(void)
{
	if (setns(own_net, CLONE_NEWNET))
		die("setns of the own network namespace: %s", strerror(errno));
}

/* One on top of the other. */
static void make_mounts(long n)
{
	while (n--)
		if (mount("/proc", mount_point, NULL, MS_BIND, NULL))
			die("bind mount on %s: %s", mount_point, strerror(errno));
}

static void mount_own(void)
{
	if (mount("none", mount_point, "tmpfs", 0, NULL))
		die("mount on %s: %s", mount_point, strerror(errno));
}

static void do_umount(void)
{
	if (umount(mount_point))
		die("umount %s: %s", mount_point, strerror(errno));
}

static void do_nap(void)
{
	nap(NAP_US);
}

/* All that were left at the gate leave when it opens; one is met each time. */
static void do_crowd(void)
{
	if (crowd_gate[1] >= 0)
		close(crowd_gate[1]);
	crowd_gate[1] = -1;
	reap(-1, "one of the crowd");
}

static void gather_crowd(long n)
{
	int ready[2];
	char byte;
	long i;

	if (pipe2(ready, O_CLOEXEC) || pipe2(crowd_gate, O_CLOEXEC))
		die("pipe: %s", strerror(errno));
	for (i = 0; i < n; i++) {
		if (start_child())
			continue;
		close(crowd_gate[1]);
		if (unshare(CLONE_NEWNS) || write(ready[1], "", 1) != 1 ||
		    read(crowd_gate[0], &byte, 1))
			child_die();
		_exit(0);
	}
	close(ready[1]);
	for (i = 0; i < n; i++)
		if (read(ready[0], &byte, 1) != 1)
			die("only %ld of %ld children made a mount namespace",
			    i, n);
	close(ready[0]);
}

/* "@" becomes a word that no other run has: names of containers are unique. */
static void do_command(void)
{
	pid_t pid = start_child();

	if (!pid) {
		char *argv[command_argc + 1], name[32];
		int i, null = open("/dev/null", O_RDWR);

		snprintf(name, sizeof(name), "bench%d", (int)getpid());
		for (i = 0; i <= command_argc; i++)
			argv[i] = command[i] && !strcmp(command[i], "@") ?
				  name : command[i];
		if (null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0)
			child_die();
		execvp(argv[0], argv);
		child_die();
	}
	reap(pid, command[0]);
}

static const struct op {
	const char *name;
	void (*run)(void);
	/* What comes before each run, and is not timed. */
	void (*before)(void);
	const char *what;
} ops[] = {
	{ "unshare", do_unshare, NULL,
	  "unshare(CLONE_NEWNS): leave one mount namespace, make the next" },
	{ "life", do_life, NULL,
	  "fork, unshare(CLONE_NEWNS), exit, wait" },
	{ "crowd", do_crowd, NULL,
	  "N children, each with a mount namespace, exit when told to: how long\n"
	  "           each takes from the one before it until it is waited for" },
	{ "setns", do_setns, NULL,
	  "setns() to the own network namespace: releases nothing" },
	{ "fork", do_fork, NULL,
	  "fork, exit, wait: releases nothing" },
	{ "umount", do_umount, mount_own,
	  "umount(2) of a tmpfs of its own" },
	{ "wake", do_nap, NULL,
	  "sleep for 1 ms under SCHED_FIFO: how late it wakes up" },
	{ "command", do_command, NULL,
	  "run COMMAND; the argument @ becomes a word that is unique" },
};

static const struct op *find_op(const char *name)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(ops); i++)
		if (!strcmp(ops[i].name, name))
			return &ops[i];
	die("unknown operation \"%s\"; nsbench -h lists them", name);
}

static void print_help(FILE *out)
{
	size_t i;

	fprintf(out,
		"usage: nsbench [-n N] [-j JOBS] [-i US] [-f N] [-p US] [-F DEVICE] [-M N]\n"
		"               [-g N] [-m LABEL] [-d] OP [COMMAND...]\n"
		"\n"
		"Run an operation many times, wait until everything it left is released, and\n"
		"tell what that cost. One line on stdout, tab separated:\n"
		"\n"
		"    op n jobs p50_us p99_us max_us callers_ms gone_ms gps cpu_ms\n"
		"    peak_pending slab_kb used_kb beside caller_gps\n"
		"\n"
		"callers_ms is the time until the last call has returned, gone_ms that until\n"
		"everything is released, gps the grace periods of the machine and cpu_ms the\n"
		"time that its CPUs were not idle until then. slab_kb and used_kb say by how\n"
		"much unreclaimable slab and percpu memory had grown, and available memory\n"
		"had shrunk, at the worst of %d looks. beside is how many lives -f made.\n"
		"\n"
		"  -n N      runs (default 100)\n"
		"  -j JOBS   processes that share the runs (default 1)\n"
		"  -i US     sleep up to twice as long between two runs, which then are\n"
		"            something that goes on\n"
		"            for a while beside something else\n"
		"  -f N      meanwhile N processes do nothing but \"life\", see below\n"
		"  -p US     each of these makes one such life every US microseconds, if it\n"
		"            can; without it as many as it can\n"
		"  -F DEVICE meanwhile a task that has a FUSE file system there hangs in its\n"
		"            exit, since nobody answers\n"
		"  -M N      make N more mounts first, so that each namespace has as many\n"
		"  -g N      counted runs (default 0), after the others, for caller_gps: grace\n"
		"            periods that the caller waited for, for each run\n"
		"  -m LABEL  put LABEL and a tab in front of every line\n"
		"  -d        one line more for each percent: dist op n percent us\n"
		"  -h        this text\n"
		"\n"
		"operations:\n", SAMPLES);
	for (i = 0; i < ARRAY_SIZE(ops); i++)
		fprintf(out, "  %-8s %s\n", ops[i].name, ops[i].what);
}

/* Shared by all processes of a run. */
struct shared {
	long peak_pending;
	long most_slab_kb;
	long least_free_kb;
	long beside;
	double us[];
};

static struct shared *shared;

static struct shared *alloc_shared(long n)
{
	void *mem = mmap(NULL, sizeof(struct shared) + n * sizeof(double),
			 PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
			 0);

	if (mem == MAP_FAILED)
		die("no memory for %ld samples", n);
	return mem;
}

static long read_pending(void)
{
	FILE *file = fopen(PENDING, "re");
	long pending = 0;

	/* A kernel without deferral has nothing pending. */
	if (!file)
		return 0;
	if (fscanf(file, "%ld", &pending) != 1)
		die("cannot read %s", PENDING);
	fclose(file);
	return pending;
}

static void read_memory(long *slab_kb, long *free_kb)
{
	FILE *file = fopen("/proc/meminfo", "re");
	char line[128];
	long kb;

	if (!file)
		die("cannot open /proc/meminfo: %s", strerror(errno));
	*slab_kb = 0;
	*free_kb = 0;
	while (fgets(line, sizeof(line), file)) {
		/* A mount has counters for each CPU besides its slab object. */
		if (sscanf(line, "SUnreclaim: %ld", &kb) == 1 ||
		    sscanf(line, "Percpu: %ld", &kb) == 1)
			*slab_kb += kb;
		/* The second comes after the first, if the kernel has it. */
		else if (sscanf(line, "MemFree: %ld", &kb) == 1 ||
			 sscanf(line, "MemAvailable: %ld", &kb) == 1)
			*free_kb = kb;
	}
	fclose(file);
}

static void look(void)
{
	long slab_kb, free_kb, pending = read_pending();

	read_memory(&slab_kb, &free_kb);
	if (pending > shared->peak_pending)
		shared->peak_pending = pending;
	if (slab_kb > shared->most_slab_kb)
		shared->most_slab_kb = slab_kb;
	if (free_kb < shared->least_free_kb)
		shared->least_free_kb = free_kb;
}

/*
 * The kernel measures the time that a CPU is idle. All the rest it only samples
 * at each tick, when RCU is at work, too.
 */
static double read_idle_ms(void)
{
	FILE *file = fopen("/proc/stat", "re");
	double idle, wait;

	if (!file || fscanf(file, "cpu %*s %*s %*s %lf %lf", &idle, &wait) != 2)
		die("cannot read /proc/stat");
	fclose(file);
	return (idle + wait) * 1000 / sysconf(_SC_CLK_TCK);
}

static void run_some(const struct op *op, double *us, long n, long pause_us,
		     bool first)
{
	long i;

	for (i = 0; i < n; i++) {
		double start;

		/*
		 * Grace periods and naps end with ticks, and what waits for
		 * both in turn would always begin at the same distance.
		 */
		if (pause_us)
			nap(random() % (2 * pause_us));
		if (op->before)
			op->before();
		start = now_us();
		op->run();
		us[i] = now_us() - start;
		if (op->run == do_nap)
			us[i] -= NAP_US;
		if (first && (i + 1) * SAMPLES / n != i * SAMPLES / n)
			look();
	}
}

static void run_jobs(const struct op *op, long n, long jobs, long pause_us)
{
	pid_t pids[jobs];
	long i;

	for (i = 0; i < jobs; i++) {
		long from = n * i / jobs, to = n * (i + 1) / jobs;

		pids[i] = start_child();
		if (!pids[i]) {
			run_some(op, shared->us + from, to - from, pause_us, !i);
			_exit(0);
		}
	}
	for (i = 0; i < jobs; i++)
		reap(pids[i], "a job");
}

static void start_flood(pid_t *pids, long n, long period_us)
{
	long i;

	for (i = 0; i < n; i++) {
		double next = now_us();

		pids[i] = start_child();
		while (!pids[i]) {
			do_life();
			__sync_fetch_and_add(&shared->beside, 1);
			next += period_us;
			if (now_us() < next)
				nap(next - now_us());
			else
				next = now_us();
		}
	}
}

static void end_flood(pid_t *pids, long n)
{
	long i;

	for (i = 0; i < n; i++)
		kill(pids[i], SIGKILL);
	for (i = 0; i < n; i++)
		waitpid(pids[i], NULL, 0);
}

/*
 * For one of type fuseblk the kernel waits in the shutdown until the daemon, which is
 * this task, has replied to FUSE_DESTROY.
 */
static pid_t start_hang(const char *device, int *fuse)
{
	struct fuse_in_header header;
	char options[64], c = 0;
	int mounted[2], go[2];
	pid_t pid;

	*fuse = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	if (*fuse < 0 || pipe(mounted) || pipe(go))
		die("/dev/fuse: %s", strerror(errno));
	pid = start_child();
	if (!pid) {
		snprintf(options, sizeof(options),
			 "fd=%d,rootmode=40000,user_id=0,group_id=0", *fuse);
		if (unshare(CLONE_NEWNS) ||
		    mount(device, mount_point, "fuseblk", 0, options) ||
		    write(mounted[1], &c, 1) != 1 || read(go[0], &c, 1) != 1)
			child_die();
		_exit(0);
	}
	close(mounted[1]);
	if (read(mounted[0], &c, 1) != 1 || fuse_read_request(*fuse, &header) ||
	    fuse_answer_init(*fuse, &header, 0) || write(go[1], &c, 1) != 1)
		die("fuseblk on %s: no file system that could hang", device);
	do {
		if (fuse_read_request(*fuse, &header))
			die("%s: FUSE_DESTROY does not come", device);
	} while (header.opcode != FUSE_DESTROY);
	close(mounted[0]);
	close(go[0]);
	close(go[1]);
	return pid;
}

static void end_hang(pid_t pid, int fuse)
{
	close(fuse);
	reap(pid, "the task that hung");
}

/* How many grace periods the caller waits for. */
static void tally(const struct op *op, char *text, size_t size, long n)
{
	double us[n];
	long gps;

	if (gp_open() || gp_begin())
		die("cannot count grace periods: %s", gp_error());
	run_some(op, us, n, 0, false);
	gps = gp_end();
	if (gps < 0)
		die("cannot count grace periods: %s", gp_error());
	gp_close();
	flush();
	snprintf(text, size, "%.2f", (double)gps / n);
}

static void print_distribution(const struct common *common, const char *op,
			       const double *us, long n)
{
	int percent;

	for (percent = 1; percent <= 100; percent++) {
		printf("dist\t");
		print_label(common, false);
		printf("%s\t%ld\t%d\t%.1f\n", op, n, percent,
		       rank(us, n, percent));
	}
}

int main(int argc, char **argv)
{
	struct common common = { .n = 100 };
	long n, jobs = 1, pause_us = 0, flooders = 0, period_us = 0;
	const char *device = NULL;
	int fuse = -1;
	long mounts = 0;
	pid_t hung = 0;
	long gps, slab_kb, free_kb, cpus;
	double start, callers, gone, idle_ms;
	char caller_gps[32] = "-", all_gps[32] = "-";
	bool distribution = false, counting;
	const struct op *op;
	int opt;

	while ((opt = getopt(argc, argv, "+n:j:i:f:p:F:M:g:m:dh")) != -1) {
		switch (opt) {
		case 'j':
			jobs = parse_number("-j", optarg, 1);
			break;
		case 'i':
			pause_us = parse_number("-i", optarg, 0);
			break;
		case 'f':
			flooders = parse_number("-f", optarg, 0);
			break;
		case 'p':
			period_us = parse_number("-p", optarg, 0);
			break;
		case 'F':
			device = optarg;
			break;
		case 'M':
			mounts = parse_number("-M", optarg, 0);
			break;
		case 'd':
			distribution = true;
			break;
		default:
			common_option(&common, opt, print_help);
		}
	}
	n = common.n;
	if (optind == argc)
		die("which operation? nsbench -h lists them");
	op = find_op(argv[optind++]);
	command = argv + optind;
	command_argc = argc - optind;
	if (op->run == do_command ? !command_argc : command_argc)
		die("only the operation \"command\" takes a command, and it needs one");
	if (jobs > n || flooders > 1000 || common.counted > 1000)
		die("-j takes up to -n, -f and -g up to 1000");
	if (op->run == do_crowd && (jobs > 1 || common.counted))
		die("a crowd is one that takes no -j and no -g");

	own_net = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	if (own_net < 0)
		die("cannot open /proc/self/ns/net: %s", strerror(errno));
	snprintf(mount_point, sizeof(mount_point), "/tmp/nsbench.XXXXXX");
	if (!mkdtemp(mount_point))
		die("cannot make %s: %s", mount_point, strerror(errno));
	/* From here on in a mount namespace that passes nothing on. */
	do_unshare();
	if (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL))
		die("cannot make the mounts private: %s", strerror(errno));
	make_mounts(mounts);
	shared = alloc_shared(n);
	counting = !gp_all_open();

	pid_t flood[flooders + 1];

	flush();
	if (op->run == do_crowd)
		gather_crowd(n);
	start_flood(flood, flooders, period_us);
	if (device)
		hung = start_hang(device, &fuse);
	if (op->run == do_nap) {
		struct sched_param param = { .sched_priority = 80 };

		if (sched_setscheduler(0, SCHED_FIFO, &param))
			die("sched_setscheduler: %s; run as root", strerror(errno));
	}
	read_memory(&slab_kb, &free_kb);
	shared->most_slab_kb = slab_kb;
	shared->least_free_kb = free_kb;
	gps = counting ? gp_all_count() : 0;
	idle_ms = read_idle_ms();
	start = now_us();

	if (jobs > 1)
		run_jobs(op, n, jobs, pause_us);
	else
		run_some(op, shared->us, n, pause_us, true);
	callers = now_us();
	end_flood(flood, flooders);
	if (device)
		end_hang(hung, fuse);
	flush();
	gone = now_us();

	idle_ms = read_idle_ms() - idle_ms;
	cpus = sysconf(_SC_NPROCESSORS_ONLN);
	if (counting) {
		gps = gp_all_count() - gps;
		snprintf(all_gps, sizeof(all_gps), "%ld", gps);
	}
	gp_all_close();
	if (common.counted)
		tally(op, caller_gps, sizeof(caller_gps), common.counted);
	rmdir(mount_point);

	qsort(shared->us, n, sizeof(*shared->us), by_size);
	print_label(&common, false);
	printf("%s\t%ld\t%ld\t%.1f\t%.1f\t%.1f\t%.1f\t%.1f\t%s\t%.0f\t%ld\t%ld\t%ld\t%ld\t%s\n",
	       op->name, n, jobs, rank(shared->us, n, 50),
	       rank(shared->us, n, 99), shared->us[n - 1],
	       (callers - start) / 1000, (gone - start) / 1000, all_gps,
	       (gone - start) / 1000 * cpus - idle_ms, shared->peak_pending,
	       shared->most_slab_kb - slab_kb, free_kb - shared->least_free_kb,
	       shared->beside, caller_gps);
	if (distribution)
		print_distribution(&common, op->name, shared->us, n);
	if (fflush(stdout) || ferror(stdout))
		die("cannot write the results: %s", strerror(errno));
	return 0;
}
