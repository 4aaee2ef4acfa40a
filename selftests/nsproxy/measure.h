/* SPDX-License-Identifier: GPL-2.0-only */
/* What the measuring programs of this folder share. */
#ifndef NSPROXY_MEASURE_H
#define NSPROXY_MEASURE_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <stdnoreturn.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define FLUSH "/sys/kernel/nsproxy_defer/flush"

static inline noreturn void die(const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "%s: ", program_invocation_short_name);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, "\n");
	exit(1);
}

static inline long parse_number(const char *option, const char *text, long min)
{
	char *end;
	long n;

	errno = 0;
	n = strtol(text, &end, 10);
	if (errno || end == text || *end || n < min || n > 1000000)
		die("%s wants a number from %ld to 1000000, not \"%s\"",
		    option, min, text);
	return n;
}

/* What each of the programs can be told. */
struct common {
	long n;
	long counted;
	const char *label;
	bool header;
	bool verbose;
};

/* For an option of getopt() that is none of the program's own. */
static inline void common_option(struct common *common, int opt,
				 void (*print_help)(FILE *))
{
	switch (opt) {
	case 'n':
		common->n = parse_number("-n", optarg, 1);
		break;
	case 'g':
		common->counted = parse_number("-g", optarg, 0);
		break;
	case 'm':
		common->label = optarg;
		break;
	case 'H':
		common->header = true;
		break;
	case 'v':
		common->verbose = true;
		break;
	case 'h':
		print_help(stdout);
		exit(0);
	default:
		print_help(stderr);
		exit(1);
	}
}

static inline void end_of_options(int argc, char **argv)
{
	if (optind < argc)
		die("unknown argument \"%s\"; %s -h shows the usage",
		    argv[optind], program_invocation_short_name);
}

/* The beginning of a line, with @name in that of names. */
static inline void print_label(const struct common *common, bool names)
{
	if (common->label)
		printf("%s\t", names ? "label" : common->label);
}

/*
 * What an earlier run left pending is no part of the next one's cost.  A
 * kernel without deferral has no such file, and nothing pending.
 */
static inline void flush(void)
{
	int fd = open(FLUSH, O_WRONLY | O_CLOEXEC);

	if (fd < 0) {
		if (errno != ENOENT)
			die("cannot open %s: %s", FLUSH, strerror(errno));
		return;
	}
	if (write(fd, "1", 1) != 1)
		die("cannot write %s: %s", FLUSH, strerror(errno));
	close(fd);
}

static inline double now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1e6 + ts.tv_nsec / 1e3;
}

static inline int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* The smallest sample that at least @percent of all samples do not exceed. */
static inline double rank(const double *sorted, long n, int percent)
{
	return sorted[(n * percent + 99) / 100 - 1];
}

#endif /* NSPROXY_MEASURE_H */
