// SPDX-License-Identifier: GPL-2.0-only
/*
 * Programs that people use namespaces by.  Each of them does what it is asked
 * to, which shows in the exit code of what it runs, and nothing is left of the
 * namespaces that it made, in mode all after a flush: a disk that was mounted in
 * all of them can be opened exclusively once it is unmounted here.  The grace
 * periods that they wait for are counted.
 */
#include "disk.h"
#include "namespaces.h"

#define ROUNDS 3

/* What is run in the end, and its exit code. */
#define COMMAND "sh", "-c", "exit 7"
#define CODE 7

NSP_FIXTURE(clients);

static int run_into(const char *output, char *const argv[])
{
	int fd = open(output, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	pid_t pid = fork();

	if (!pid) {
		dup2(fd, 1);
		dup2(fd, 2);
		execvp(argv[0], argv);
		_exit(127);
	}
	close(fd);
	return nsp_wait(pid);
}

/* Run a program: did it end as it should?  If not, show what it said. */
static int run(char *const argv[], int wanted)
{
	int code = run_into("/tmp/output", argv);
	char line[512];
	FILE *output;

	if (code == wanted)
		return 0;
	fprintf(stderr, "# %s: exit code %d\n", argv[0], code);
	output = fopen("/tmp/output", "r");
	while (output && fgets(line, sizeof(line), output))
		fprintf(stderr, "# %s", line);
	return 1;
}

#define RUN(wanted, ...) run((char *const []){ __VA_ARGS__, NULL }, wanted)

/* A reason to skip, or NULL. */
static const char *needs(char *program, char *option)
{
	static char reason[64];

	if (access("/dev/loop-control", F_OK))
		return "no /dev/loop-control: this kernel has no loop devices";
	if (!disk_has_filesystem("ext2") && !disk_has_filesystem("ext4"))
		return "this kernel has neither ext2 nor ext4";
	snprintf(reason, sizeof(reason), "no %s here", program);
	if (run_into("/dev/null", (char *const []){ program, option, NULL }))
		return reason;
	return gp_possible() ? NULL : "no ftrace here to count by";
}

static bool mode_is(const char *name)
{
	char mode[32] = "off";

	return (!nsp_present() || !nsp_get(NSP_DIR "/mode", mode, sizeof(mode))) &&
	       !strcmp(mode, name);
}

/* On stock each of these waits for grace periods, and with the module nobody does. */
static int live_and_count(int (*life)(void))
{
	bool wait = mode_is("off");
	long gps;

	CHECK(!gp_begin());
	CHECK(!life());
	gps = gp_end();
	if (wait ? gps > 0 : gps == 0)
		return 0;
	fprintf(stderr, "# %ld grace periods: %s\n", gps, gps < 0 ? gp_error() : gp_calls());
	return 1;
}

static int live(const struct disk *disk, int (*life)(void))
{
	const char *type = disk_has_filesystem("ext2") ? "ext2" : "ext4";
	int i, fd;

	CHECK(!mkdir("/tmp/mnt", 0700));
	for (i = 0; i < ROUNDS; i++) {
		CHECK(!mount(disk->dev, "/tmp/mnt", type, 0, NULL));
		CHECK(!live_and_count(life));
		CHECK(!mode_is("all") || !nsp_flush());
		CHECK(!umount("/tmp/mnt"));
		fd = open(disk->dev, O_RDWR | O_EXCL | O_CLOEXEC);
		CHECK(fd >= 0);
		close(fd);
	}
	return 0;
}

static int live_often(int (*life)(void))
{
	struct disk disk;
	int err;

	CHECK(!nsp_own_mounts());
	CHECK(!mount("none", "/tmp", "tmpfs", 0, NULL));
	/* Where ip keeps the names, which a failure would leave there. */
	CHECK(!mount("none", "/run", "tmpfs", 0, NULL));
	CHECK(!gp_open());
	CHECK(!disk_make(&disk, "/tmp"));
	err = live(&disk, life);
	disk_drop(&disk);
	gp_close();
	return err;
}

static int life_of_unshare(void)
{
	return RUN(CODE, "unshare", "-m", "-u", "-i", "-n", "-p", "-f",
		   COMMAND);
}

NSP_RULE(clients, unshare, needs("unshare", "true"))
{
	return live_often(life_of_unshare);
}

static int life_of_nsenter(void)
{
	pid_t target = nsp_start_target(nsp_all_flags() & ~CLONE_NEWUSER);
	char pid[16];

	CHECK(target > 0);
	snprintf(pid, sizeof(pid), "%d", (int)target);
	CHECK(!RUN(CODE, "nsenter", "-t", pid, "-m", "-u", "-i", "-n", "-p",
		   COMMAND));
	return nsp_end(target);
}

NSP_RULE(clients, nsenter, needs("nsenter", "true"))
{
	return live_often(life_of_nsenter);
}

static int life_of_ip(void)
{
	CHECK(!RUN(0, "ip", "netns", "add", "nsproxy"));
	CHECK(!RUN(CODE, "ip", "netns", "exec", "nsproxy", COMMAND));
	return RUN(0, "ip", "netns", "delete", "nsproxy");
}

/* That of busybox makes no namespaces, and knows no -V. */
NSP_RULE(clients, ip_netns, needs("ip", "-V"))
{
	return live_often(life_of_ip);
}

/* Its own init tells the end before it has ended itself. */
static int life_of_bwrap(void)
{
	return RUN(CODE, "bwrap", "--unshare-all", "--as-pid-1", "--dev-bind",
		   "/", "/", COMMAND);
}

NSP_RULE(clients, bwrap, needs("bwrap", "--version"))
{
	return live_often(life_of_bwrap);
}

static const char config[] =
	"{ \"ociVersion\": \"1.0.0\",\n"
	"  \"process\": { \"cwd\": \"/\", \"env\": [ \"PATH=/bin\" ],\n"
	"    \"args\": [ \"sh\", \"-c\", \"exit 7\" ] },\n"
	"  \"root\": { \"path\": \"root\" },\n"
	"  \"mounts\": [ { \"destination\": \"/proc\", \"type\": \"proc\",\n"
	"    \"source\": \"proc\" } ],\n"
	"  \"linux\": { \"namespaces\": [ { \"type\": \"pid\" },\n"
	"    { \"type\": \"mount\" }, { \"type\": \"uts\" },\n"
	"    { \"type\": \"ipc\" }, { \"type\": \"network\" } ] } }\n";

/* What crun runs: this system, in a folder of its own. */
static int make_bundle(void)
{
	CHECK(!mkdir("/tmp/bundle", 0700) && !mkdir("/tmp/bundle/root", 0700));
	CHECK(!mount("/", "/tmp/bundle/root", NULL, MS_BIND, NULL));
	close(open("/tmp/bundle/config.json", O_WRONLY | O_CREAT, 0600));
	return nsp_put("/tmp/bundle/config.json", config);
}

static int life_of_crun(void)
{
	if (access("/tmp/bundle", F_OK))
		CHECK(!make_bundle());
	return RUN(CODE, "crun", "--root", "/tmp/crun", "--cgroup-manager",
		   "disabled", "run", "--bundle", "/tmp/bundle", "nsproxy");
}

NSP_RULE(clients, crun, needs("crun", "--version"))
{
	return live_often(life_of_crun);
}

#define WAITS "nsproxy-waits"

/* A reason to skip, or NULL. */
static const char *needs_waits(void)
{
	if (run_into("/dev/null", (char *const []){ WAITS, "-h", NULL }))
		return "no " WAITS " here";
	return needs("crun", "--version");
}

/* What it counted: each line of its table begins with a number and two times. */
static long counted(const char *output)
{
	long sum = 0, waits;
	char line[512], function[32];
	FILE *file = fopen(output, "r");

	while (file && fgets(line, sizeof(line), file)) {
		if (sscanf(line, "%ld %*f %*f %31s", &waits, function) == 2 &&
		    strcmp(function, "all"))
			sum += waits;
		else if (!strncmp(line, "nsproxy-waits:", 14))
			fprintf(stderr, "# %s", line);
	}
	if (file)
		fclose(file);
	return sum;
}

/* It counts what gp.c does, by other means, and the command's exit code is its own. */
NSP_RULE(clients, waits, needs_waits())
{
	long gps;

	CHECK(!nsp_own_mounts());
	CHECK(!mount("none", "/tmp", "tmpfs", 0, NULL));
	CHECK(!mount("none", "/run", "tmpfs", 0, NULL));
	CHECK(!gp_open() && !gp_begin());
	CHECK(!life_of_crun());
	gps = gp_end();
	gp_close();
	CHECK(gps >= 0);
	CHECK(!RUN(CODE, WAITS, "--", "crun", "--root", "/tmp/crun",
		   "--cgroup-manager", "disabled", "run", "--bundle",
		   "/tmp/bundle", "nsproxy"));
	CHECK(counted("/tmp/output") == gps);
	printf("# %ld waits\n", gps);
	return 0;
}

/* Bad use is one line, the exit code 2, and nothing is left of it. */
NSP_RULE(clients, waits_badly, needs_waits())
{
	char instances[128];

	CHECK(!nsp_own_mounts());
	CHECK(!mount("none", "/tmp", "tmpfs", 0, NULL));
	CHECK(!RUN(2, WAITS));
	CHECK(!RUN(2, WAITS, "0"));
	CHECK(!RUN(2, WAITS, "1", "2"));
	CHECK(!RUN(2, WAITS, "true"));
	CHECK(!RUN(2, WAITS, "--"));
	CHECK(!RUN(2, WAITS, "-b", "some", "1"));
	CHECK(!RUN(2, WAITS, "-x", "1"));
	CHECK(!RUN(2, WAITS, "--", "/no/such/program"));
	snprintf(instances, sizeof(instances), "%s/instances", gp_tracing());
	CHECK(!RUN(1, "sh", "-c", "ls $1 | grep nsproxy_waits", "sh", instances));
	CHECK(!mount("none", "/sys", "tmpfs", 0, NULL));
	CHECK(!RUN(2, WAITS, "1"));
	return 0;
}

NSP_TEST_MAIN(nsp_prepare_any)
