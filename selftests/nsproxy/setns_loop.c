// SPDX-License-Identifier: GPL-2.0-only
/*
 * Call setns() on a namespace of one's own, again and again, and tell how long
 * that took: the program of the report LIN6-8313, where 10 000 calls on
 * /proc/self/ns/net took 28 seconds.
 *
 * Nothing is joined and nothing dies, so what is left is the change of the
 * nsproxy itself.  Up to Linux 3.16 each change waits for a grace period.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>

#include "gp.h"
#include "measure.h"

static int ns_fd = -1;
static long count;
static pthread_barrier_t start_line;

static void print_help(FILE *out)
{
	fprintf(out,
		"usage: setns_loop [-n N] [-k KIND] [-t N] [-g N] [-m LABEL] [-H]\n"
		"\n"
		"Call setns() on /proc/self/ns/KIND again and again, and time it by\n"
		"CLOCK_MONOTONIC. One line on stdout, tab separated:\n"
		"\n"
		"    kind threads n total_us mean_us p50_us p99_us caller_gps_per_op\n"
		"\n"
		"  -n N      calls of each thread (default 10000)\n"
		"  -k KIND   cgroup, ipc, mnt, net (default), pid, time or uts; the kernel\n"
		"            allows nobody to enter the user namespace that he is in\n"
		"  -t N      threads (default 1); time namespaces allow only one\n"
		"  -g N      counted calls (default 20), by one thread, after the timed ones;\n"
		"            0 leaves the count of grace periods out and prints - for it\n"
		"  -m LABEL  put LABEL and a tab in front of the line\n"
		"  -H        name the columns in a first line\n"
		"  -h        this text\n");
}

static void do_setns(void)
{
	if (setns(ns_fd, 0))
		die("setns() to a namespace of its own: %s%s", strerror(errno),
		    errno == EPERM ? "; run as root" : "");
}

static void *loop(void *arg)
{
	double *us = arg;
	long i;

	/* Who shares its root and working directory may not change mounts. */
	if (unshare(CLONE_FS))
		die("unshare(CLONE_FS): %s", strerror(errno));
	pthread_barrier_wait(&start_line);
	for (i = 0; i < count; i++) {
		double start = now_us();

		do_setns();
		us[i] = now_us() - start;
	}
	return NULL;
}

static double run(double *us, long threads)
{
	pthread_t ids[threads];
	double start;
	long i;
	int err;

	pthread_barrier_init(&start_line, NULL, threads);
	for (i = 1; i < threads; i++) {
		err = pthread_create(&ids[i], NULL, loop, us + i * count);
		if (err)
			die("cannot start a thread: %s", strerror(err));
	}
	start = now_us();
	loop(us);
	for (i = 1; i < threads; i++)
		pthread_join(ids[i], NULL);
	return now_us() - start;
}

static void tally(char *text, size_t size, long n)
{
	long i, gps;

	if (gp_open() || gp_begin())
		die("cannot count grace periods: %s", gp_error());
	for (i = 0; i < n; i++)
		do_setns();
	gps = gp_end();
	if (gps < 0)
		die("cannot count grace periods: %s", gp_error());
	gp_close();
	snprintf(text, size, "%.2f", (double)gps / n);
}

int main(int argc, char **argv)
{
	struct common common = { .n = 10000, .counted = 20 };
	double *us, total, sum = 0;
	char path[64], gps[32] = "-";
	const char *kind = "net";
	long i, n, threads = 1;
	int opt;

	while ((opt = getopt(argc, argv, "n:k:t:g:m:Hh")) != -1) {
		switch (opt) {
		case 'k':
			kind = optarg;
			break;
		case 't':
			threads = parse_number("-t", optarg, 1);
			break;
		default:
			common_option(&common, opt, print_help);
		}
	}
	end_of_options(argc, argv);
	count = common.n;
	if (threads > 1000)
		die("%ld threads are too many: -t takes up to 1000", threads);
	snprintf(path, sizeof(path), "/proc/self/ns/%s", kind);
	ns_fd = open(path, O_RDONLY | O_CLOEXEC);
	if (ns_fd < 0)
		die("cannot open %s: %s; setns_loop -h lists the kinds", path,
		    strerror(errno));
	n = count * threads;
	us = calloc(n, sizeof(*us));
	if (!us)
		die("no memory for %ld samples", n);

	flush();
	total = run(us, threads);
	flush();
	if (common.counted)
		tally(gps, sizeof(gps), common.counted);

	for (i = 0; i < n; i++)
		sum += us[i];
	qsort(us, n, sizeof(*us), by_size);
	if (common.header) {
		print_label(&common, true);
		printf("kind\tthreads\tn\ttotal_us\tmean_us\tp50_us\tp99_us\tcaller_gps_per_op\n");
	}
	print_label(&common, false);
	printf("%s\t%ld\t%ld\t%.0f\t%.2f\t%.2f\t%.2f\t%s\n", kind, threads,
	       count, total, sum / n, rank(us, n, 50), rank(us, n, 99), gps);
	free(us);
	if (fflush(stdout) || ferror(stdout))
		die("cannot write the results: %s", strerror(errno));
	return 0;
}
