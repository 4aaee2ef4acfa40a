// SPDX-License-Identifier: GPL-2.0-only
/*
 * Show that a child in a UTS namespace of its own has a hostname of its own:
 * the example of clone(2), with a pipe in place of its sleeps.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

struct child {
	const char *hostname;
	int ready[2];
};

static int fail(const char *what)
{
	fprintf(stderr, "newuts: %s: %s%s\n", what, strerror(errno),
		errno == EPERM ? "; run as root" : "");
	return 1;
}

static int show(const char *whose)
{
	struct utsname uts;

	if (uname(&uts))
		return fail("uname");
	printf("uts.nodename in %s %s\n", whose, uts.nodename);
	return fflush(stdout) ? fail("cannot write") : 0;
}

static int live(void *arg)
{
	struct child *self = arg;

	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (sethostname(self->hostname, strlen(self->hostname)))
		return fail("cannot set the hostname");
	if (show("child: "))
		return 1;
	if (write(self->ready[1], "x", 1) != 1)
		return fail("cannot tell the parent");
	/* The namespace is there to be joined until somebody ends this. */
	for (;;)
		pause();
}

int main(int argc, char **argv)
{
	static char stack[65536] __attribute__((aligned(16)));
	struct child self;
	int status;
	pid_t pid;
	char c;

	if (argc != 2 || argv[1][0] == '-') {
		FILE *out = argc == 2 && !strcmp(argv[1], "-h") ? stdout
								: stderr;

		fprintf(out,
			"usage: newuts HOSTNAME\n"
			"\n"
			"Start a child in a new UTS namespace, give it HOSTNAME there, and show what\n"
			"both see. The child stays, for others to join it, until it gets a signal;\n"
			"SIGTERM to newuts ends both.\n");
		return out == stderr;
	}
	self.hostname = argv[1];
	if (pipe(self.ready))
		return fail("pipe");
	pid = clone(live, stack + sizeof(stack), CLONE_NEWUTS | SIGCHLD,
		    &self);
	if (pid < 0)
		return fail("cannot clone a child into a new UTS namespace");
	printf("clone() returned %ld\n", (long)pid);
	if (fflush(stdout))
		return fail("cannot write");
	close(self.ready[1]);
	if (read(self.ready[0], &c, 1) != 1) {
		waitpid(pid, &status, 0);
		return 1;
	}
	if (show("parent:"))
		return 1;
	if (waitpid(pid, &status, 0) != pid)
		return fail("waitpid");
	printf("child has terminated\n");
	return 0;
}
