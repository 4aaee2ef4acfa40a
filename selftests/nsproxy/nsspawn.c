// SPDX-License-Identifier: GPL-2.0-only
/*
 * What does it cost to start a program in namespaces, and how much of that is
 * the release of namespaces?
 *
 * A child notes the time when it is about to exit.  From there until wait()
 * returns, exit is all that happens; what it takes longer than for a child of
 * the same kind that is in nobody's namespaces but its parent's, is counted as
 * the release.
 */
#define _GNU_SOURCE
#include <sys/mman.h>

#include "gp.h"
#include "measure.h"
#include "spawning.h"

#define CHILD "--child"

static struct spawn spawn = { .flags = CLONE_NEWNS | CLONE_NEWUTS };
static int clock_fds[2];

static void print_help(FILE *out)
{
	fprintf(out,
		"usage: nsspawn [-n N] [-g N] [-k KINDS] [-M MIB] [-m LABEL] [-H] [-v]\n"
		"\n"
		"Start a program, this one, in namespaces, in every way there is, and wait for\n"
		"its end. One line for each way and place on stdout, tab separated:\n"
		"\n"
		"    way place parent_mib n p50_us p99_us release_us release_percent caller_gps\n"
		"\n"
		"  -n N      timed runs of each (default 50)\n"
		"  -g N      counted runs of each (default 5); 0 leaves the count of grace\n"
		"            periods out and prints - for it\n"
		"  -k KINDS  of cgroup, ipc, mnt, net, pid and uts, with commas in between\n"
		"            (default mnt,uts)\n"
		"  -M MIB    memory that the parent has touched (default 0)\n"
		"  -m LABEL  put LABEL and a tab in front of every line\n"
		"  -H        name the columns in a first line\n"
		"  -v        say on stderr what is being done\n"
		"  -h        this text\n"
		"\n"
		"ways:   fork, vfork: and exec; posix_spawn: the parent enters, spawns and\n"
		"        returns; clone_vfork: clone() with CLONE_VM and CLONE_VFORK; clone3;\n"
		"        clone3_cgroup: with CLONE_INTO_CGROUP; fork_cgroup: the child writes\n"
		"        itself to cgroup.procs\n"
		"places: plain: where the parent is; setns_fds: a target's namespaces, joined\n"
		"        one by one; setns_pidfd: by one call; unshare, clone_flags: new ones\n"
		"\n"
		"release_us is what the end of the child takes longer than in place plain;\n"
		"release_percent is its share of p50_us. What the kernel lacks is left out.\n");
}

/* What is executed: note the time and exit. */
static int child(const char *fd)
{
	double now = now_us();

	return write(atoi(fd), &now, sizeof(now)) != sizeof(now);
}

static int parse_kinds(char *list)
{
	int flags = 0;
	char *name;
	size_t i;

	for (name = strtok(list, ","); name; name = strtok(NULL, ",")) {
		for (i = 0; i < SPAWN_KINDS; i++)
			if (!strcmp(name, spawn_kinds[i].name))
				break;
		if (i == SPAWN_KINDS)
			die("no kind of namespace \"%s\" to spawn into; nsspawn -h lists them",
			    name);
		flags |= spawn_kinds[i].flag;
	}
	if (!flags)
		die("-k names no kind; nsspawn -h lists them");
	return flags;
}

/* A whole life; how long it took, and its end. */
static double one(enum spawn_way way, enum spawn_place place, double *end_us)
{
	double start = now_us(), end, told;
	int status;
	pid_t pid;

	pid = spawn_start(&spawn, way, place);
	if (pid < 0)
		die("%s, %s: %s", spawn_way_names[way],
		    spawn_place_names[place], strerror(errno));
	if (waitpid(pid, &status, 0) != pid)
		die("waitpid: %s", strerror(errno));
	end = now_us();
	if (status)
		die("%s, %s: the child failed (wait status %#x)",
		    spawn_way_names[way], spawn_place_names[place], status);
	if (read(clock_fds[0], &told, sizeof(told)) != sizeof(told))
		die("the child did not tell the time");
	*end_us = end - told;
	return end - start;
}

static void measure(enum spawn_way way, enum spawn_place place, long n,
		    double *us, double *end_us)
{
	double ignored;
	long i;

	flush();
	for (i = 0; i < n / 10 + 1; i++)
		one(way, place, &ignored);
	for (i = 0; i < n; i++)
		us[i] = one(way, place, &end_us[i]);
	flush();
	qsort(us, n, sizeof(*us), by_size);
	qsort(end_us, n, sizeof(*end_us), by_size);
}

static void tally(enum spawn_way way, enum spawn_place place, long n,
		  char *text, size_t size)
{
	double ignored;
	long i, gps;

	one(way, place, &ignored);
	flush();
	if (gp_begin())
		die("cannot count grace periods: %s", gp_error());
	for (i = 0; i < n; i++)
		one(way, place, &ignored);
	gps = gp_end();
	if (gps < 0)
		die("cannot count grace periods: %s", gp_error());
	snprintf(text, size, "%.2f", (double)gps / n);
	flush();
}

/* A struct of no size is EINVAL; what is not there says something else. */
static bool has_clone3(void)
{
	return syscall(__NR_clone3, NULL, 0) < 0 && errno == EINVAL;
}

static bool is_possible(enum spawn_way way, enum spawn_place place)
{
	if ((way == SPAWN_CLONE3 || way == SPAWN_CLONE3_CGROUP) && !has_clone3())
		return false;
	if (way == SPAWN_CLONE3_CGROUP || way == SPAWN_FORK_CGROUP)
		if (spawn.procs < 0)
			return false;
	if (place == SPAWN_JOIN_PIDFD && spawn.pidfd < 0)
		return false;
	return spawn_is_possible(way, place);
}

static void prepare(void)
{
	static char path[4096], fd[16], option[] = CHILD;
	static char *const argv[] = { path, option, fd, NULL };

	if (readlink("/proc/self/exe", path, sizeof(path) - 1) < 0)
		die("cannot read /proc/self/exe: %s", strerror(errno));
	spawn.argv = argv;
	if (pipe(clock_fds))
		die("pipe: %s", strerror(errno));
	snprintf(fd, sizeof(fd), "%d", clock_fds[1]);

	/* What happens to mounts here is nobody else's business. */
	if (unshare(CLONE_NEWNS) ||
	    mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL))
		die("cannot have mounts of its own: %s; run as root",
		    strerror(errno));
	if (mount("none", "/tmp", "tmpfs", 0, NULL) ||
	    mkdir("/tmp/cgroup", 0700))
		die("cannot use /tmp: %s", strerror(errno));
	/* Without cgroup2 the ways that need one are left out. */
	if (spawn_make_cgroup(&spawn, "/tmp/cgroup"))
		spawn.procs = -1;
	if (spawn_make_target(&spawn))
		die("cannot make namespaces to join: %s", strerror(errno));
}

int main(int argc, char **argv)
{
	struct common common = { .n = 50, .counted = 5 };
	long n, mib = 0;
	double *us, *end_us, plain;
	int opt, way, place;

	if (argc == 3 && !strcmp(argv[1], CHILD))
		return child(argv[2]);
	while ((opt = getopt(argc, argv, "n:g:k:M:m:Hvh")) != -1) {
		switch (opt) {
		case 'k':
			spawn.flags = parse_kinds(optarg);
			break;
		case 'M':
			mib = parse_number("-M", optarg, 0);
			break;
		default:
			common_option(&common, opt, print_help);
		}
	}
	end_of_options(argc, argv);
	n = common.n;
	us = calloc(n, sizeof(*us));
	end_us = calloc(n, sizeof(*end_us));
	if (!us || !end_us)
		die("no memory for %ld samples", n);
	if (mib && mmap(NULL, mib << 20, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0) ==
	    MAP_FAILED)
		die("no memory: %ld MiB: %s", mib, strerror(errno));
	prepare();

	if (common.header) {
		print_label(&common, true);
		printf("way\tplace\tparent_mib\tn\tp50_us\tp99_us\t"
		       "release_us\trelease_percent\tcaller_gps\n");
	}
	for (way = 0; way < SPAWN_WAYS; way++) {
		plain = 0;
		for (place = 0; place < SPAWN_PLACES; place++) {
			double p50, release;
			char gps[32] = "-";

			if (!is_possible(way, place))
				continue;
			if (common.verbose)
				fprintf(stderr, "nsspawn: %s, %s\n",
					spawn_way_names[way],
					spawn_place_names[place]);
			measure(way, place, n, us, end_us);
			p50 = rank(us, n, 50);
			release = rank(end_us, n, 50) - plain;
			if (place == SPAWN_PLAIN) {
				plain = release;
				release = 0;
			}
			if (common.counted) {
				if (gp_open())
					die("cannot count grace periods: %s",
					    gp_error());
				tally(way, place, common.counted, gps,
				      sizeof(gps));
				gp_close();
			}
			print_label(&common, false);
			printf("%s\t%s\t%ld\t%ld\t%.1f\t%.1f\t%.1f\t%.1f\t%s\n",
			       spawn_way_names[way], spawn_place_names[place],
			       mib, n, p50, rank(us, n, 99), release,
			       100 * release / p50, gps);
		}
	}
	spawn_end_target(&spawn);
	if (spawn.procs >= 0 && spawn_remove_cgroup(&spawn, "/tmp/cgroup"))
		die("cannot remove its cgroup: %s", strerror(errno));
	if (fflush(stdout) || ferror(stdout))
		die("cannot write the results: %s", strerror(errno));
	return 0;
}
