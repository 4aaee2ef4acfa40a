// SPDX-License-Identifier: GPL-2.0-only
/*
 * The program's side of the negative controls. Apart from the one thing that
 * its argument names, what it prints is a run in which all went well, and it
 * exits with 0: nothing else may be the reason for a red verdict.
 */

#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <termios.h>
#include <unistd.h>

static const char *what;

static int is(const char *name)
{
	return !strcmp(what, name);
}

static void load_module(void)
{
	char param[64];
	int fd;

	snprintf(param, sizeof(param), "what=%s", what);
	fd = open("/nsd_control.ko", O_RDONLY | O_CLOEXEC);
	if (fd < 0 || syscall(SYS_finit_module, fd, param, 0)) {
		perror("/nsd_control.ko");
		exit(1);
	}
	close(fd);
}

int main(int argc, char **argv)
{
	if (argc != 2) {
		fprintf(stderr, "usage: control WHAT\n");
		return 1;
	}
	what = argv[1];
	setvbuf(stdout, NULL, _IONBF, 0);

	printf("TAP version 13\n1..1\n# selftests: control: %s\n", what);
	printf("# TAP version 13\n# 1..2\n");
	printf("# ok 1 before%s\n", is("all-skipped") ? " # SKIP as asked" : "");
	load_module();
	if (is("power-off")) {
		tcdrain(1);
		reboot(RB_POWER_OFF);
	}
	if (is("truncated"))
		return 0;
	if (is("never-ends"))
		for (;;)
			pause();
	if (is("exit-code"))
		return 1;
	printf("# %sok 2 after%s\n", is("failure") ? "not " : "",
	       is("all-skipped") ? " # SKIP as asked" : "");
	if (is("lost-program"))
		return 0;
	printf("ok 1 selftests: control: %s\n", what);
	return 0;
}
