// SPDX-License-Identifier: GPL-2.0-only
/*
 * What do setns(), unshare() and exit cost the caller?
 *
 * Time and count are taken in two passes, since the tracer that counts the
 * grace periods would show in the times.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <sys/mount.h>
#include <sys/wait.h>

#include "calls.h"
#include "gp.h"
#include "measure.h"

static int own_net = -1;
static int all_flags;

static void do_unshare(int flags)
{
	if (unshare(flags))
		die("unshare(%#x): %s; run as root", flags, strerror(errno));
}

static void do_life(int flags)
{
	int status;
	pid_t pid;

	/* The system call alone: what fork() does around it would count too. */
	pid = syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
	if (pid < 0)
		die("fork: %s", strerror(errno));
	if (!pid)
		_exit(flags && unshare(flags) ? errno : 0);
	if (waitpid(pid, &status, 0) != pid)
		die("waitpid: %s", strerror(errno));
	if (!WIFEXITED(status) || WEXITSTATUS(status))
		die("unshare(%#x) in a child: %s", flags,
		    strerror(WIFEXITED(status) ? WEXITSTATUS(status) : EINTR));
}

static void setns_net(void)
{
	if (setns(own_net, CLONE_NEWNET))
		die("setns of the own network namespace: %s", strerror(errno));
}

static void unshare_uts(void)
{
	do_unshare(CLONE_NEWUTS);
}

static void unshare_ipc(void)
{
	do_unshare(CLONE_NEWIPC);
}

static void unshare_mnt(void)
{
	do_unshare(CLONE_NEWNS);
}

static void fork_exit(void)
{
	do_life(0);
}

static void fork_mnt_exit(void)
{
	do_life(CLONE_NEWNS);
}

static void fork_all_exit(void)
{
	do_life(all_flags);
}

static const struct op {
	const char *name;
	void (*run)(void);
	bool life;
	const char *what;
} ops[] = {
	{ "setns_net", setns_net, false, "setns() to the own network namespace" },
	{ "unshare_uts", unshare_uts, false, "unshare(CLONE_NEWUTS)" },
	{ "unshare_ipc", unshare_ipc, false, "unshare(CLONE_NEWIPC)" },
	{ "unshare_mnt", unshare_mnt, false, "unshare(CLONE_NEWNS)" },
	{ "fork_exit", fork_exit, true, "fork, exit, wait" },
	{ "fork_mnt_exit", fork_mnt_exit, true,
	  "fork, unshare(CLONE_NEWNS), exit, wait" },
	{ "fork_all_exit", fork_all_exit, true,
	  "fork, unshare of every namespace the kernel has but user, exit, wait" },
};

struct result {
	const struct op *op;
	double p50;
	double p99;
	double max;
	char gps[32];
};

static void print_help(FILE *out)
{
	size_t i;

	fprintf(out,
		"usage: nsmeasure [-n N] [-g N] [-o OP[,OP...]] [-m LABEL] [-H] [-v]\n"
		"\n"
		"Time namespace operations and count the grace periods the caller waits for.\n"
		"One line an operation on stdout, tab separated:\n"
		"\n"
		"    op n p50_us p99_us max_us caller_gps_per_op\n"
		"\n"
		"  -n N      timed runs of each operation (default 200)\n"
		"  -g N      counted runs of each operation (default 20); 0 leaves the count\n"
		"            out and prints - for it\n"
		"  -o OPS    these operations only, in this order\n"
		"  -m LABEL  put LABEL and a tab in front of every line\n"
		"  -H        name the columns in a first line\n"
		"  -v        say on stderr what is being done\n"
		"  -h        this text\n"
		"\n"
		"operations:\n");
	for (i = 0; i < ARRAY_SIZE(ops); i++)
		fprintf(out, "  %-14s %s\n", ops[i].name, ops[i].what);
}

static const struct op *find_op(const char *name)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(ops); i++)
		if (!strcmp(ops[i].name, name))
			return &ops[i];
	die("unknown operation \"%s\"; nsmeasure -h lists them", name);
}

/*
 * Grace periods begin and end with ticks. Lives one after the other would each
 * begin as the last one's grace period ends, and last as long as they happen
 * to from there, one number of ticks or the next for all of them. So let each
 * begin at any moment of a tick, and be the first thing after busy work, as it
 * is in a program.
 */
static void pass_part_of_tick(void)
{
	double end = now_us() + random() % 4000;

	while (now_us() < end)
		;
}

static void measure(struct result *res, long n)
{
	long i, warm_up = n / 10 + 1;
	double *us;

	us = malloc(n * sizeof(*us));
	if (!us)
		die("no memory for %ld samples", n);
	flush();
	for (i = 0; i < warm_up; i++)
		res->op->run();
	for (i = 0; i < n; i++) {
		double start;

		if (res->op->life)
			pass_part_of_tick();
		start = now_us();
		res->op->run();
		us[i] = now_us() - start;
	}
	flush();
	qsort(us, n, sizeof(*us), by_size);
	res->p50 = rank(us, n, 50);
	res->p99 = rank(us, n, 99);
	res->max = us[n - 1];
	free(us);
}

static void tally(struct result *res, long n)
{
	long i, gps;

	/*
	 * The first run may drop what an operation before this one left in
	 * place, for instance a mount namespace, and is not counted.
	 */
	res->op->run();
	flush();
	if (gp_begin())
		die("cannot count grace periods: %s", gp_error());
	for (i = 0; i < n; i++)
		res->op->run();
	gps = gp_end();
	if (gps < 0)
		die("cannot count grace periods: %s", gp_error());
	snprintf(res->gps, sizeof(res->gps), "%.2f", (double)gps / n);
	flush();
}

static void print_us(double us)
{
	printf("\t%.*f", us < 10 ? 2 : 1, us);
}

/*
 * Take the flags one by one: a kernel that lacks a kind says EINVAL to it,
 * and to any combination that holds it.
 */
static void find_all_flags(void)
{
	static const int kinds[] = {
		CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWNET,
		CLONE_NEWPID, CLONE_NEWCGROUP, CLONE_NEWTIME,
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(kinds); i++) {
		int status;
		pid_t pid = fork();

		if (pid < 0)
			die("fork: %s", strerror(errno));
		if (!pid)
			_exit(unshare(kinds[i]) ? errno : 0);
		if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
			die("cannot find out which namespaces there are");
		if (!WEXITSTATUS(status))
			all_flags |= kinds[i];
		else if (WEXITSTATUS(status) != EINVAL)
			die("unshare(%#x): %s; run as root", kinds[i],
			    strerror(WEXITSTATUS(status)));
	}
}

int main(int argc, char **argv)
{
	struct result results[64];
	struct common common = { .n = 200, .counted = 20 };
	char *list = NULL, *name;
	size_t i, nr = 0;
	int opt;

	while ((opt = getopt(argc, argv, "n:g:o:m:Hvh")) != -1) {
		switch (opt) {
		case 'o':
			list = optarg;
			break;
		default:
			common_option(&common, opt, print_help);
		}
	}
	end_of_options(argc, argv);
	if (list) {
		for (name = strtok(list, ","); name; name = strtok(NULL, ",")) {
			if (nr == ARRAY_SIZE(results))
				die("more than %zu operations", nr);
			results[nr++].op = find_op(name);
		}
		if (!nr)
			die("-o names no operation; nsmeasure -h lists them");
	} else {
		for (; nr < ARRAY_SIZE(ops); nr++)
			results[nr].op = &ops[nr];
	}

	find_all_flags();
	own_net = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	if (own_net < 0)
		die("cannot open /proc/self/ns/net: %s", strerror(errno));
	/*
	 * From here on in a mount namespace that nobody shares, and that does
	 * not pass on what happens in it.
	 */
	do_unshare(CLONE_NEWNS);
	if (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL))
		die("cannot make the mounts private: %s", strerror(errno));

	for (i = 0; i < nr; i++) {
		if (common.verbose)
			fprintf(stderr, "nsmeasure: timing %s, %ld runs\n",
				results[i].op->name, common.n);
		measure(&results[i], common.n);
		snprintf(results[i].gps, sizeof(results[i].gps), "-");
	}
	if (common.counted && gp_open())
		die("cannot count grace periods: %s", gp_error());
	if (common.verbose && common.counted)
		fprintf(stderr, "nsmeasure: counting grace periods, %ld runs each\n",
			common.counted);
	for (i = 0; common.counted && i < nr; i++)
		tally(&results[i], common.counted);
	gp_close();

	if (common.header) {
		print_label(&common, true);
		printf("op\tn\tp50_us\tp99_us\tmax_us\tcaller_gps_per_op\n");
	}
	for (i = 0; i < nr; i++) {
		print_label(&common, false);
		printf("%s\t%ld", results[i].op->name, common.n);
		print_us(results[i].p50);
		print_us(results[i].p99);
		print_us(results[i].max);
		printf("\t%s\n", results[i].gps);
	}
	if (fflush(stdout) || ferror(stdout))
		die("cannot write the results: %s", strerror(errno));
	return 0;
}
