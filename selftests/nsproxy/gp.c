// SPDX-License-Identifier: GPL-2.0-only
/*
 * Counting the grace periods that a caller waits for.
 *
 * The function tracer, in an instance of its own, records every call of a
 * function that waits for a grace period, and sched_process_fork records who
 * is whose child.  Both land in one buffer in the order in which they
 * happened, so the calls of a task and all its descendants can be told from
 * everybody else's afterwards.
 *
 * The kernel's own filter (set_ftrace_pid with function-fork) looks simpler
 * and is wrong here: it forgets an exiting task at sched_process_exit, which
 * comes before exit_task_namespaces(), so that a wait in exit is counted only
 * if the task was not scheduled in between.
 *
 * A 0 is worth something only if the tracer would have seen a call.  So every
 * measurement ends with a call that is known to wait: truncating the trace
 * file of a second instance, which every kernel does with synchronize_rcu()
 * (synchronize_sched() before 4.20), on one CPU as on many.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "gp.h"

#define MARKER "nsproxy_gp: the measured part ends here"

/*
 * What a kernel lacks of these is left out.  The list holds no function that
 * is only ever called by another one of it.
 */
static const char *const waits[] = {
	"synchronize_rcu",
	"synchronize_rcu_expedited",
	"synchronize_sched",
	"synchronize_sched_expedited",
	"rcu_barrier",
};

/* Those that the tracer has a place for. */
static bool traced[ARRAY_SIZE(waits)];

static char error[512];
static char calls[2048];
static char root[64];
static char own_path[128];
static char known_path[128];
static int own = -1;
static int known = -1;

static pid_t *family;
static size_t family_size;
static size_t family_room;

static int fail(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(error, sizeof(error), fmt, ap);
	va_end(ap);
	return -1;
}

const char *gp_error(void)
{
	return error[0] ? error : "no error";
}

const char *gp_calls(void)
{
	return calls;
}

void gp_follow(pid_t tid)
{
	if (family_size == family_room) {
		family_room = family_room ? 2 * family_room : 64;
		family = realloc(family, family_room * sizeof(*family));
		if (!family)
			abort();
	}
	family[family_size++] = tid;
}

static bool is_family(pid_t tid)
{
	size_t i;

	for (i = 0; i < family_size; i++)
		if (family[i] == tid)
			return true;
	return false;
}

/*
 * Is it one of those, and in the trace?  What is only an inline of another, as
 * most are on one CPU, has a body where its address is taken, and is a caller
 * then, but the tracer has no place for it.
 */
static bool is_wait(const char *name)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(waits); i++)
		if (!strcmp(waits[i], name))
			return traced[i];
	return false;
}

static int put(int dir, const char *name, const char *value, int flags)
{
	size_t len = strlen(value);
	int fd, err;

	fd = openat(dir, name, O_WRONLY | O_CLOEXEC | flags);
	if (fd < 0)
		return -1;
	err = len && write(fd, value, len) != (ssize_t)len;
	if (err) {
		err = errno;
		close(fd);
		errno = err;
		return -1;
	}
	close(fd);
	return 0;
}

/*
 * The end of the line has the kernel look for the function at once.  Without, it
 * does so when the file is closed, and says to nobody that there is none.
 */
static bool put_filter(int dir, const char *function)
{
	char line[64];

	snprintf(line, sizeof(line), "%s\n", function);
	return !put(dir, "set_ftrace_filter", line, O_APPEND);
}

static bool has_tracing(const char *path)
{
	char name[128];

	snprintf(name, sizeof(name), "%s/available_tracers", path);
	if (access(name, R_OK))
		return false;
	snprintf(root, sizeof(root), "%s", path);
	return true;
}

static int find_root(void)
{
	if (has_tracing("/sys/kernel/tracing") ||
	    has_tracing("/sys/kernel/debug/tracing"))
		return 0;
	mount("tracefs", "/sys/kernel/tracing", "tracefs", 0, NULL);
	if (has_tracing("/sys/kernel/tracing"))
		return 0;
	mount("debugfs", "/sys/kernel/debug", "debugfs", 0, NULL);
	if (has_tracing("/sys/kernel/debug/tracing"))
		return 0;
	return fail("no tracing in /sys/kernel/tracing or /sys/kernel/debug/tracing; "
		    "run as root on a kernel with CONFIG_FUNCTION_TRACER");
}

const char *gp_tracing(void)
{
	return find_root() ? NULL : root;
}

bool gp_possible(void)
{
	char name[128];

	if (find_root())
		return false;
	snprintf(name, sizeof(name), "%s/set_ftrace_filter", root);
	return !access(name, F_OK);
}

static int make_instance(const char *name, char *path, size_t size)
{
	int fd;

	snprintf(path, size, "%s/instances/%s.%d", root, name, (int)getpid());
	if (mkdir(path, 0700) && errno != EEXIST)
		return fail("cannot make the tracing instance %s: %s", path,
			    strerror(errno));
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return fail("cannot open %s: %s", path, strerror(errno));
	return fd;
}

static void remove_instances(void)
{
	if (known >= 0) {
		close(known);
		rmdir(known_path);
		known = -1;
	}
	if (own < 0)
		return;
	put(own, "tracing_on", "0", 0);
	put(own, "current_tracer", "nop", 0);
	put(own, "events/sched/sched_process_fork/enable", "0", 0);
	put(own, "set_ftrace_filter", "", O_TRUNC);
	close(own);
	own = -1;
	/* Instances of 3.10 lack the function tracer: the top one was used. */
	if (strcmp(own_path, root))
		rmdir(own_path);
}

void gp_close(void)
{
	remove_instances();
	free(family);
	family = NULL;
	family_size = 0;
	family_room = 0;
}

static int set_up(void)
{
	size_t i, found = 0;

	own = make_instance("nsproxy_gp", own_path, sizeof(own_path));
	if (own < 0)
		return -1;
	if (faccessat(own, "set_ftrace_filter", W_OK, 0)) {
		close(own);
		rmdir(own_path);
		snprintf(own_path, sizeof(own_path), "%s", root);
		own = open(own_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (own < 0)
			return fail("cannot open %s: %s", own_path,
				    strerror(errno));
		if (faccessat(own, "set_ftrace_filter", W_OK, 0))
			return fail("no %s/set_ftrace_filter: CONFIG_DYNAMIC_FTRACE is off",
				    own_path);
	}
	known = make_instance("nsproxy_gp_known", known_path,
			      sizeof(known_path));
	if (known < 0)
		return -1;

	put(own, "tracing_on", "0", 0);
	put(own, "set_ftrace_filter", "", O_TRUNC);
	for (i = 0; i < ARRAY_SIZE(waits); i++) {
		traced[i] = put_filter(own, waits[i]);
		found += traced[i];
	}
	if (!found)
		return fail("the function tracer finds no function that waits for a grace period");
	if (put(own, "current_tracer", "function", 0))
		return fail("cannot use the function tracer: %s",
			    strerror(errno));
	if (put(own, "events/sched/sched_process_fork/enable", "1", 0))
		return fail("cannot trace sched_process_fork: %s",
			    strerror(errno));
	return 0;
}

int gp_open(void)
{
	long n;

	error[0] = '\0';
	if (find_root())
		return -1;
	if (set_up() || gp_begin() || gp_end() < 0)
		goto undo;

	/* The known wait must be seen where a caller's own wait would be. */
	if (gp_begin())
		goto undo;
	if (put(known, "trace", "", O_TRUNC)) {
		fail("cannot empty %s/trace: %s", known_path, strerror(errno));
		goto undo;
	}
	n = gp_end();
	if (n < 0)
		goto undo;
	if (!n) {
		fail("a known wait for a grace period was not counted");
		goto undo;
	}
	return 0;
undo:
	remove_instances();
	return -1;
}

int gp_begin(void)
{
	error[0] = '\0';
	calls[0] = '\0';
	if (own < 0)
		return fail("%s() without gp_open()", __func__);
	family_size = 0;
	gp_follow(syscall(SYS_gettid));
	if (put(own, "tracing_on", "0", 0) || put(own, "trace", "", O_TRUNC) ||
	    put(own, "tracing_on", "1", 0))
		return fail("cannot start tracing: %s", strerror(errno));
	return 0;
}

struct event {
	pid_t tid;
	char *what;
};

/*
 * A line is "comm-TID [CPU] flags time: what"; the comm may hold anything, so
 * the CPU is looked for first and the rest from there.
 */
static bool parse(char *line, struct event *ev)
{
	char *cpu = line, *p;

	for (;;) {
		cpu = strstr(cpu, " [");
		if (!cpu)
			return false;
		p = cpu + 2 + strspn(cpu + 2, "0123456789");
		if (p > cpu + 2 && *p == ']')
			break;
		cpu++;
	}
	ev->what = strstr(p, ": ");
	if (!ev->what)
		return false;
	ev->what += 2;

	for (p = cpu; p > line && p[-1] == ' '; p--)
		;
	/* The option record-tgid puts "(TGID)" between the two. */
	if (p > line && p[-1] == ')') {
		while (p > line && *p != '(')
			p--;
		while (p > line && p[-1] == ' ')
			p--;
	}
	while (p > line && p[-1] >= '0' && p[-1] <= '9')
		p--;
	if (p == line || p[-1] != '-')
		return false;
	ev->tid = atoi(p);
	return true;
}

static void note_fork(const char *what)
{
	const char *parent = strstr(what, " pid=");
	const char *child = strstr(what, " child_pid=");

	if (parent && child && is_family(atoi(parent + 5)))
		gp_follow(atoi(child + 11));
}

struct tally {
	long measured;
	long after;
	bool marked;
	pid_t last_tid;
	char last_parent[128];
	bool last_plain;
};

static void note_wait(struct tally *tally, const struct event *ev)
{
	char name[128], parent[128];
	bool nested, plain;
	size_t len;

	if (sscanf(ev->what, "%127s <-%127s", name, parent) != 2 ||
	    !is_wait(name) || !is_family(ev->tid))
		return;
	plain = !strcmp(name, "synchronize_rcu") ||
		!strcmp(name, "synchronize_sched");
	/*
	 * With rcu_expedited=1 the plain function hands over to the expedited
	 * one, by a call or by a jump that leaves the caller's return address
	 * in place.  That is one wait, not two.
	 */
	nested = is_wait(parent) ||
		 (!plain && tally->last_plain && tally->last_tid == ev->tid &&
		  strcmp(name, "rcu_barrier") &&
		  !strcmp(parent, tally->last_parent));
	tally->last_plain = plain;
	tally->last_tid = ev->tid;
	snprintf(tally->last_parent, sizeof(tally->last_parent), "%s", parent);
	if (nested)
		return;
	if (tally->marked) {
		tally->after++;
		return;
	}
	tally->measured++;
	len = strlen(calls);
	snprintf(calls + len, sizeof(calls) - len, "%s <- %s\n", name, parent);
}

static int read_trace(struct tally *tally)
{
	char *line = NULL;
	size_t room = 0;
	int fd, err = 0;
	FILE *file;

	fd = openat(own, "trace", O_RDONLY | O_CLOEXEC);
	file = fd < 0 ? NULL : fdopen(fd, "r");
	if (!file)
		return fail("cannot read %s/trace: %s", own_path,
			    strerror(errno));
	while (getline(&line, &room, file) > 0) {
		unsigned long kept, written;
		struct event ev;

		if (line[0] == '#') {
			if (sscanf(line,
				   "# entries-in-buffer/entries-written: %lu/%lu",
				   &kept, &written) == 2 && kept != written) {
				err = fail("the trace buffer overflowed: %lu of %lu entries kept",
					   kept, written);
				break;
			}
			continue;
		}
		if (strstr(line, "LOST") && strstr(line, "EVENTS")) {
			err = fail("the trace lost events");
			break;
		}
		if (!parse(line, &ev))
			continue;
		if (strstr(ev.what, MARKER))
			tally->marked = true;
		else if (!strncmp(ev.what, "sched_process_fork:", 19))
			note_fork(ev.what);
		else
			note_wait(tally, &ev);
	}
	free(line);
	fclose(file);
	return err;
}

long gp_end(void)
{
	struct tally tally = { 0 };

	if (own < 0)
		return fail("%s() without gp_open()", __func__);
	if (put(own, "trace_marker", MARKER "\n", 0))
		return fail("cannot mark the end of the measured part: %s",
			    strerror(errno));
	if (put(known, "trace", "", O_TRUNC))
		return fail("cannot empty %s/trace: %s", known_path,
			    strerror(errno));
	if (put(own, "tracing_on", "0", 0))
		return fail("cannot stop tracing: %s", strerror(errno));
	calls[0] = '\0';
	if (read_trace(&tally))
		return -1;
	if (!tally.marked)
		return fail("the end of the measured part is missing in the trace");
	if (!tally.after)
		return fail("the tracer missed a wait that task %ld is known to make; "
			    "set kernel.ftrace_enabled=1 and run in the initial pid namespace",
			    (long)syscall(SYS_gettid));
	return tally.measured;
}

static char all_path[128];
static int all = -1;

void gp_all_close(void)
{
	if (all < 0)
		return;
	put(all, "tracing_on", "0", 0);
	put(all, "current_tracer", "nop", 0);
	put(all, "set_ftrace_filter", "", O_TRUNC);
	close(all);
	all = -1;
	rmdir(all_path);
}

int gp_all_open(void)
{
	/* Called once at the end of each normal and each expedited one. */
	static const char *const ends[] = {
		"rcu_gp_cleanup", "rcu_exp_wait_wake",
	};
	size_t i;

	error[0] = '\0';
	if (find_root())
		return -1;
	all = make_instance("nsproxy_gp_all", all_path, sizeof(all_path));
	if (all < 0)
		return -1;
	for (i = 0; i < ARRAY_SIZE(ends); i++) {
		if (!put_filter(all, ends[i])) {
			fail("the function tracer does not find %s", ends[i]);
			goto undo;
		}
	}
	if (put(all, "current_tracer", "function", 0) ||
	    put(all, "trace", "", O_TRUNC)) {
		fail("cannot use the function tracer: %s", strerror(errno));
		goto undo;
	}
	return 0;
undo:
	gp_all_close();
	return -1;
}

long gp_all_count(void)
{
	unsigned long kept, written = 0;
	bool found = false;
	char *line = NULL;
	size_t room = 0;
	FILE *file;
	int fd;

	/* The header counts what has left the buffer, too. */
	fd = openat(all, "trace", O_RDONLY | O_CLOEXEC);
	file = fd < 0 ? NULL : fdopen(fd, "r");
	if (!file)
		return fail("cannot read %s/trace: %s", all_path,
			    strerror(errno));
	while (!found && getline(&line, &room, file) > 0)
		found = sscanf(line,
			       "# entries-in-buffer/entries-written: %lu/%lu",
			       &kept, &written) == 2;
	free(line);
	fclose(file);
	return found ? (long)written : fail("%s/trace has no header", all_path);
}
