// SPDX-License-Identifier: GPL-2.0-only
/* Run a command in a namespace: the example of setns(2). */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int print_help(FILE *out)
{
	fprintf(out,
		"usage: ns_exec FILE COMMAND [ARGUMENT...]\n"
		"\n"
		"Join the namespace that FILE refers to, /proc/PID/ns/uts for one or a bind\n"
		"mount of it, and execute COMMAND there. A pid namespace is joined by the\n"
		"children of COMMAND only.\n");
	return out == stderr;
}

int main(int argc, char **argv)
{
	int fd;

	if (argc > 1 && !strcmp(argv[1], "-h"))
		return print_help(stdout);
	if (argc < 3)
		return print_help(stderr);
	fd = open(argv[1], O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		fprintf(stderr, "ns_exec: cannot open %s: %s\n", argv[1],
			strerror(errno));
		return 1;
	}
	if (setns(fd, 0)) {
		fprintf(stderr, "ns_exec: cannot join %s: %s%s\n", argv[1],
			strerror(errno),
			errno == EINVAL ? "; give a file of /proc/PID/ns, not of an ancestor's" :
			errno == EPERM ? "; run as root" : "");
		return 1;
	}
	execvp(argv[2], &argv[2]);
	fprintf(stderr, "ns_exec: cannot execute %s: %s\n", argv[2],
		strerror(errno));
	return 1;
}
