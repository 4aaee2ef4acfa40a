// SPDX-License-Identifier: GPL-2.0-only
/*
 * PID 1 of the test guests.
 *
 * A shell script goes on after a command that failed, and a run that went on
 * can look like a run that passed. This program stops at the first step that
 * does not work, says which, and never reaches the line that the verdict
 * waits for.
 *
 * lib.sh says which serial ports there are. What to do comes from the kernel command
 * line:
 *
 *	nsd.job=check|wait|upstream|demo|bench|control	which programs to run
 *	nsd.limit=SECONDS		at which uptime it all must be over
 *	nsd.arg=WORD			handed to the job, where it takes one
 *
 * The programs write to the second serial port and to nothing else, so that
 * no kernel message can end up inside a test result. What init itself has to
 * say starts with "# init:", which KTAP takes for a comment, and goes to the
 * kernel log as well.
 *
 * Called as "timeout", it is the timeout(1) that kselftest's runner expects:
 * busybox' has neither --foreground nor the exit code 124.
 */

#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define MODULE_FILE	"/nsproxy_defer.ko"
#define KNOBS		"/sys/kernel/nsproxy_defer"
#define KMEMLEAK	"/sys/kernel/debug/kmemleak"
#define RESULTS		"/dev/" RESULTS_TTY
#define CONSOLE		"/sys/class/tty/" CONSOLE_TTY "/console"

static int results = -1;
static int kernel_log = -1;
static time_t deadline;
static char *job;
static char *job_arg = "";

static time_t now(void)
{
	struct timespec ts;

	/* This clock is the uptime. */
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec;
}

static void emit(int fd, const char *buf, size_t len)
{
	while (fd >= 0 && len) {
		ssize_t n = write(fd, buf, len);

		if (n < 0) {
			if (errno == EINTR)
				continue;
			return;
		}
		buf += n;
		len -= n;
	}
}

static void vsay(const char *prefix, const char *fmt, va_list ap)
{
	char line[512];
	int n;

	n = snprintf(line, sizeof(line), "# init: %s", prefix);
	n += vsnprintf(line + n, sizeof(line) - n - 1, fmt, ap);
	if (n > (int)sizeof(line) - 2)
		n = sizeof(line) - 2;
	line[n++] = '\n';
	emit(results, line, n);
	emit(kernel_log, line + 2, n - 2);
}

__attribute__((format(printf, 1, 2)))
static void say(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsay("", fmt, ap);
	va_end(ap);
}

/*
 * Since Linux 6.12 with PREEMPT_RT a thread writes the kernel log to the console,
 * and a restart does not wait for it. To take the console away does. With the
 * patches that were PREEMPT_RT before it is the other way round.
 */
static void finish_console(void)
{
	int major, minor, fd;
	struct utsname uts;

	if (uname(&uts) || !strstr(uts.version, "PREEMPT_RT") ||
	    sscanf(uts.release, "%d.%d", &major, &minor) != 2 ||
	    major < 6 || (major == 6 && minor < 12))
		return;
	fd = open(CONSOLE, O_WRONLY | O_CLOEXEC);
	emit(fd, "N", 1);
	close(fd);
}

/*
 * A restart, since a power-off needs an ACPI that knows PCI, and the small
 * kernels have none: QEMU's -no-reboot makes the end of the guest of it. A
 * panic ends there too, but it does not log "Restarting system".
 */
__attribute__((noreturn))
static void end_guest(void)
{
	if (results >= 0)
		tcdrain(results);
	finish_console();
	sync();
	reboot(RB_AUTOBOOT);
	/* PID 1 must not return: that is a panic, which is red as well. */
	_exit(1);
}

__attribute__((noreturn, format(printf, 1, 2)))
static void fail(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsay("FAILED: ", fmt, ap);
	va_end(ap);
	end_guest();
}

static bool exists(const char *path)
{
	return access(path, F_OK) == 0;
}

static void mount_one(const char *type, const char *where, bool required)
{
	if (mkdir(where, 0755) && errno != EEXIST && required)
		fail("mkdir %s: %m", where);
	if (mount(type, where, type, 0, NULL) && required)
		fail("mount %s on %s: %m", type, where);
}

/* What /dev lacks with nobody but devtmpfs to fill it. */
static void link_one(const char *target, const char *path)
{
	if (symlink(target, path) && errno != EEXIST)
		fail("symlink %s: %m", path);
}

/*
 * Nothing can pivot_root() away from the initial file system itself, and
 * programs that make containers do so. Below a bind mount of it they can. Old
 * kernels allow none, and no such program is run on them.
 */
static void move_root(void)
{
	if (mount("/", "/mnt", NULL, MS_BIND, NULL) && errno == EINVAL)
		return;
	if (chdir("/mnt") || mount(".", "/", NULL, MS_MOVE, NULL) ||
	    chroot("."))
		fail("cannot put the root on a mount of its own: %m");
}

static void mount_first(void)
{
	mount_one("devtmpfs", "/dev", true);
	mount_one("proc", "/proc", true);
	mount_one("sysfs", "/sys", true);
	/* The kernel makes this folder where it has what belongs there. */
	mount_one("tracefs", "/sys/kernel/tracing", false);
}

/* Where the kernel has a network. */
static void raise_loopback(void)
{
	struct ifreq lo = { .ifr_name = "lo", .ifr_flags = IFF_UP };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return;
	if (ioctl(fd, SIOCSIFFLAGS, &lo))
		fail("cannot bring lo up: %m");
	close(fd);
}

/* What a program may expect of a system that runs. */
static void mount_rest(void)
{
	mount_one("tmpfs", "/tmp", true);
	mount_one("tmpfs", "/run", true);
	mount_one("devpts", "/dev/pts", false);
	mount_one("tmpfs", "/dev/shm", false);
	mount_one("mqueue", "/dev/mqueue", false);
	mount_one("debugfs", "/sys/kernel/debug", false);
	mount_one("cgroup2", "/sys/fs/cgroup", false);
	link_one("/proc/self/fd", "/dev/fd");
	link_one("/proc/self/fd/0", "/dev/stdin");
	link_one("/proc/self/fd/1", "/dev/stdout");
	link_one("/proc/self/fd/2", "/dev/stderr");
	if (chmod("/tmp", 01777))
		fail("chmod /tmp: %m");
}

static void open_outputs(void)
{
	struct termios tio;

	kernel_log = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);
	results = open(RESULTS, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (results < 0)
		fail("open " RESULTS ": %m");
	if (tcgetattr(results, &tio))
		fail("tcgetattr " RESULTS ": %m");
	cfmakeraw(&tio);
	if (tcsetattr(results, TCSANOW, &tio))
		fail("tcsetattr " RESULTS ": %m");
}

static void read_command_line(void)
{
	char buf[4096], *word, *save = NULL;
	long limit = 0;
	ssize_t n;
	int fd;

	fd = open("/proc/cmdline", O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, buf, sizeof(buf) - 1);
	if (n < 0)
		fail("read /proc/cmdline: %m");
	close(fd);
	buf[n] = '\0';
	buf[strcspn(buf, "\n")] = '\0';
	for (word = strtok_r(buf, " ", &save); word;
	     word = strtok_r(NULL, " ", &save)) {
		if (!strncmp(word, "nsd.job=", 8))
			job = strdup(word + 8);
		else if (!strncmp(word, "nsd.arg=", 8))
			job_arg = strdup(word + 8);
		else if (!strncmp(word, "nsd.limit=", 10))
			limit = strtol(word + 10, NULL, 10);
	}
	if (!job || !job_arg || limit <= 0)
		fail("nsd.job= or nsd.limit= is missing on the kernel command line");
	deadline = limit;
}

static int insert_module(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	int ret, err;

	if (fd < 0)
		return -1;
	ret = syscall(SYS_finit_module, fd, "", 0);
	err = errno;
	close(fd);
	errno = err;
	return ret;
}

/* The order in /modules.list is modprobe's: what is needed comes first. */
static void insert_listed_modules(void)
{
	FILE *list = fopen("/modules.list", "re");
	char path[256];

	if (!list)
		return;
	while (fscanf(list, "%255s", path) == 1)
		if (insert_module(path) && errno != EEXIST)
			fail("insmod %s: %m", path);
	fclose(list);
}

static void insert_ours(void)
{
	if (exists(KNOBS)) {
		say("the kernel carries nsproxy_defer itself");
		return;
	}
	if (!exists(MODULE_FILE)) {
		say("no module to load");
		return;
	}
	if (!insert_module(MODULE_FILE))
		say("module loaded");
	else if (errno == EOPNOTSUPP)
		/* Let the collection say whether that is as it should be. */
		say("the module refuses this kernel");
	else
		fail("insmod %s: %m", MODULE_FILE);
}

static void remove_ours(void)
{
	if (!exists("/sys/module/nsproxy_defer/initstate"))
		return;
	if (syscall(SYS_delete_module, "nsproxy_defer", O_NONBLOCK))
		fail("rmmod nsproxy_defer: %m");
	say("module unloaded");
}

static void set_mode(const char *mode)
{
	int fd = open(KNOBS "/mode", O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, mode, strlen(mode)) != (ssize_t)strlen(mode))
		fail("write %s to %s/mode: %m", mode, KNOBS);
	close(fd);
}

/* What a test left running would hold on to what the leak check looks for. */
static void kill_leftovers(void)
{
	if (kill(-1, SIGKILL) && errno == ESRCH)
		return;
	while (waitpid(-1, NULL, 0) >= 0 || errno == EINTR)
		;
}

static void child_io(int out)
{
	int in = open("/dev/null", O_RDONLY);

	if (in < 0 || dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(out, 2) < 0)
		_exit(126);
	if (in > 2)
		close(in);
}

/*
 * Run a program until it ends or the deadline has come. SIGCHLD stays blocked
 * all the time, so sigtimedwait() cannot miss one.
 */
static int run(char *const argv[])
{
	sigset_t set;
	int status;
	pid_t pid, got;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, NULL);

	pid = fork();
	if (pid < 0)
		fail("fork: %m");
	if (!pid) {
		sigprocmask(SIG_UNBLOCK, &set, NULL);
		setsid();
		child_io(results);
		execv(argv[0], argv);
		dprintf(1, "# init: FAILED: exec %s: %m\n", argv[0]);
		_exit(127);
	}
	for (;;) {
		struct timespec left = { .tv_sec = deadline - now() };

		while ((got = waitpid(-1, &status, WNOHANG)) > 0)
			if (got == pid)
				return status;
		if (left.tv_sec <= 0)
			fail("%s still runs at the end of its time", argv[0]);
		sigtimedwait(&set, NULL, &left);
	}
}

static void run_or_fail(char *const argv[])
{
	int status = run(argv);

	if (WIFSIGNALED(status))
		fail("%s: killed by signal %d", argv[0], WTERMSIG(status));
	if (WEXITSTATUS(status))
		fail("%s: exit code %d", argv[0], WEXITSTATUS(status));
	say("%s: exit code 0", argv[0]);
}

static void kmemleak_scan(void)
{
	int fd = open(KMEMLEAK, O_WRONLY | O_CLOEXEC);

	/* The write returns when the scan is over. */
	if (fd < 0 || write(fd, "scan", 4) != 4)
		fail("kmemleak scan: %m");
	close(fd);
}

/*
 * kmemleak passes over objects younger than five seconds, and one whose
 * content changed since the scan before. So: one scan to take the checksums,
 * the age it asks for, and one scan that reports. What the idle task has
 * allocated was there before PID 1 and is none of our leaks: ACPI leaves its
 * caches where it finds no PCI.
 */
static void check_kmemleak(void)
{
	struct timespec age = { .tv_sec = 6 };
	int leaks = 0, boot = 0;
	char line[256];
	FILE *report;

	if (!exists(KMEMLEAK)) {
		say("kmemleak: not built in");
		return;
	}
	kmemleak_scan();
	while (nanosleep(&age, &age) && errno == EINTR)
		;
	kmemleak_scan();
	report = fopen(KMEMLEAK, "re");
	if (!report)
		fail("open %s: %m", KMEMLEAK);
	while (fgets(line, sizeof(line), report)) {
		if (!strncmp(line, "unreferenced object", 19))
			leaks++;
		else if (strstr(line, "comm \"swapper/0\", pid 0,"))
			boot++;
		emit(results, "# ", 2);
		emit(results, line, strlen(line));
	}
	fclose(report);
	say("kmemleak found %d objects that the boot left", boot);
	say("kmemleak: %d leaks after two scans", leaks - boot);
}

static void report_taint(void)
{
	unsigned long taint;
	FILE *file = fopen("/proc/sys/kernel/tainted", "re");

	if (!file || fscanf(file, "%lu", &taint) != 1)
		fail("read /proc/sys/kernel/tainted: %m");
	fclose(file);
	say("tainted %lu", taint);
}

static void job_check(void)
{
	char *const argv[] = { "/kselftest/run_kselftest.sh", NULL };

	insert_ours();
	run_or_fail(argv);
	kill_leftovers();
	report_taint();
	remove_ours();
	check_kmemleak();
}

/* Where nothing is deferred, the tests that count waits are to fail. */
static void job_wait(void)
{
	char *const argv[] = {
		"/kselftest/run_kselftest.sh", "-t", "nsproxy:release", NULL
	};

	if (exists(KNOBS))
		fail("%s is there, and nothing was to be deferred", KNOBS);
	setenv("NSPROXY_TEST_WAIT", "1", 1);
	run_or_fail(argv);
	kill_leftovers();
	report_taint();
	check_kmemleak();
}

static struct dirent **at_first;
static int nr_at_first;

static int is_new(const struct dirent *entry)
{
	int i;

	for (i = 0; i < nr_at_first; i++)
		if (!strcmp(entry->d_name, at_first[i]->d_name))
			return 0;
	return 1;
}

/* A test that failed may leave what makes the next side's fail. */
static void remove_new_files(void)
{
	struct dirent **new;
	char path[300];
	char *const argv[] = { "/bin/rm", "-rf", path, NULL };
	int nr = scandir("/", &new, is_new, NULL);

	while (nr-- > 0) {
		snprintf(path, sizeof(path), "/%s", new[nr]->d_name);
		run_or_fail(argv);
	}
}

static void run_side(const char *side, int round)
{
	/*
	 * Many of them fail on any kernel that is not the one they are for, and pidfd_test
	 * makes as many tasks as there are pids, which may take a guest five minutes.
	 */
	char *const argv[] = {
		"/kselftest/run_kselftest.sh", "--no-error-on-fail", "--override-timeout", "900",
		NULL
	};

	say("side %s, round %d", side, round);
	run_or_fail(argv);
	kill_leftovers();
	remove_new_files();
}

/*
 * Upstream's own tests, without a deferral and in each of its modes. They are
 * not ours to pass: what counts is where the sides differ. A test that does
 * not always come out the same shows by the rounds.
 */
static void job_upstream(void)
{
	static const char *const modes[] = { "off", "safe", "all" };
	int i, round, rounds = atoi(job_arg);
	bool built_in = exists(KNOBS);

	if (rounds < 1)
		fail("nsd.arg=ROUNDS is missing on the kernel command line");
	nr_at_first = scandir("/", &at_first, NULL, NULL);
	for (round = 1; round <= rounds; round++) {
		if (!built_in)
			run_side("stock", round);
		insert_ours();
		/* Without the module is as good as with it and mode off. */
		for (i = !built_in; exists(KNOBS) && i < 3; i++) {
			set_mode(modes[i]);
			run_side(modes[i], round);
		}
		if (round == rounds)
			report_taint();
		remove_ours();
	}
	check_kmemleak();
}

static void measure(char *mode, char *runs, char *ops)
{
	char *const argv[] = {
		"/bin/nsmeasure", "-v", "-m", mode, "-n", runs, "-g", "10", "-o",
		strdup(ops), NULL
	};

	run_or_fail(argv);
}

/* The program of the report, as it was reported. */
static void measure_loop(char *mode)
{
	char *const argv[] = {
		"/bin/setns_loop", "-m", mode, "-n", "10000", NULL
	};

	run_or_fail(argv);
}

/*
 * A dead ipc namespace is freed by a worker that waits for a grace period
 * each, module or not, and keeps its place under the limit until then: so
 * there are few of them, and they come last, where the grace periods that
 * they leave behind lengthen nobody's wait.
 */
static void measure_all(char *mode)
{
	say("measuring %s", mode);
	measure_loop(mode);
	measure(mode, "200",
		"setns_net,unshare_uts,fork_exit,unshare_mnt,fork_mnt_exit");
	measure(mode, "30", "unshare_ipc,fork_all_exit");
}

/* Its argument is what this kernel is called. */
static void job_demo(void)
{
	measure_all(job_arg);
	if (exists(MODULE_FILE)) {
		insert_ours();
		measure_all("loaded");
	}
	kill_leftovers();
	report_taint();
	remove_ours();
}

/* What is measured, and in what order, is easier read as a script. */
static void job_bench(void)
{
	char *const argv[] = { "/bin/sh", "/bench.sh", NULL };

	run_or_fail(argv);
	kill_leftovers();
	report_taint();
}

/* A control brings a module of its own, and is to fail by itself alone. */
static void job_control(void)
{
	char *const argv[] = { "/bin/control", job_arg, NULL };

	run_or_fail(argv);
	kill_leftovers();
	report_taint();
	check_kmemleak();
}

static int init_main(void)
{
	struct rlimit files = { 65536, 65536 };

	mount_one("proc", "/proc", true);
	read_command_line();
	umount2("/proc", MNT_DETACH);
	/* A new mount namespace copies them all, which is not what it measures. */
	if (strcmp(job, "demo"))
		move_root();
	mount_first();
	open_outputs();
	if (strcmp(job, "demo")) {
		mount_rest();
		raise_loopback();
	}
	setrlimit(RLIMIT_NOFILE, &files);
	setenv("PATH", "/bin:/sbin:/usr/bin:/usr/sbin", 1);
	setenv("HOME", "/", 1);
	setenv("TMPDIR", "/tmp", 1);
	setenv("NSPROXY_DEFER_KO", MODULE_FILE, 1);
	insert_listed_modules();
	say("job %s %s", job, job_arg);

	if (!strcmp(job, "check"))
		job_check();
	else if (!strcmp(job, "wait"))
		job_wait();
	else if (!strcmp(job, "upstream"))
		job_upstream();
	else if (!strcmp(job, "demo"))
		job_demo();
	else if (!strcmp(job, "bench"))
		job_bench();
	else if (!strcmp(job, "control"))
		job_control();
	else
		fail("no such job: %s", job);

	say("end");
	end_guest();
}

static pid_t some_child(void)
{
	DIR *proc = opendir("/proc");
	struct dirent *entry;
	pid_t pid, found = 0;
	char path[300];
	int parent;
	FILE *stat;

	while (proc && !found && (entry = readdir(proc))) {
		snprintf(path, sizeof(path), "/proc/%s/stat", entry->d_name);
		stat = fopen(path, "re");
		if (!stat)
			continue;
		if (fscanf(stat, "%d (%*[^)]) %*c %d", &pid, &parent) == 2 &&
		    parent == getpid())
			found = pid;
		fclose(stat);
	}
	if (proc)
		closedir(proc);
	return found;
}

/*
 * A test that failed may leave children behind, which hold the pipe to the
 * runner open, so that it waits for their results for ever. They have become
 * children of ours, and theirs will.
 */
static void kill_strays(void)
{
	pid_t pid;

	while ((pid = some_child())) {
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
	}
}

/*
 * The runner of newer trees puts one timeout inside another, the outer one
 * with --foreground: it asks the inner one by SIGTERM, and the inner one ends
 * the whole process group, else a stray child would keep the pipe to the
 * runner open. A test that ignores SIGTERM must not outlive its time either.
 */
static int timeout_main(int argc, char **argv)
{
	struct timespec limit = { 0 }, grace = { .tv_sec = 5 };
	bool foreground = false;
	pid_t pid, got;
	sigset_t set;
	int status;

	argv++;
	argc--;
	if (argc && !strcmp(*argv, "--foreground")) {
		foreground = true;
		argv++;
		argc--;
	}
	if (argc)
		limit.tv_sec = strtol(*argv, NULL, 10);
	if (argc < 2 || limit.tv_sec <= 0) {
		fprintf(stderr, "timeout [--foreground] SECONDS COMMAND...\n");
		return 125;
	}
	prctl(PR_SET_CHILD_SUBREAPER, !foreground);
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigaddset(&set, SIGTERM);
	sigprocmask(SIG_BLOCK, &set, NULL);
	pid = fork();
	if (pid < 0)
		return 125;
	if (!pid) {
		sigprocmask(SIG_UNBLOCK, &set, NULL);
		if (!foreground)
			setpgid(0, 0);
		execvp(argv[1], argv + 1);
		perror(argv[1]);
		_exit(127);
	}
	limit.tv_sec += now();
	while ((got = waitpid(-1, &status, WNOHANG)) != pid) {
		struct timespec left = { .tv_sec = limit.tv_sec - now() };

		if (got > 0)
			continue;
		if (left.tv_sec > 0 &&
		    sigtimedwait(&set, NULL, &left) != SIGTERM)
			continue;
		if (foreground) {
			kill(pid, SIGTERM);
			sigtimedwait(&set, NULL, &grace);
		}
		kill(foreground ? pid : -pid, SIGKILL);
		waitpid(pid, &status, 0);
		kill_strays();
		return 124;
	}
	kill_strays();
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

int main(int argc, char **argv)
{
	const char *name = strrchr(argv[0], '/');

	if (!strcmp(name ? name + 1 : argv[0], "timeout"))
		return timeout_main(argc, argv);
	if (getpid() != 1) {
		fprintf(stderr, "init: not PID 1, so there is nothing to do here\n");
		return 1;
	}
	return init_main();
}
