// SPDX-License-Identifier: GPL-2.0-only
/*
 * The promises: the module comes and goes while tasks are inside the very
 * functions that it takes over, and nobody notices.  When rmmod has returned,
 * the last release is done; when insmod has failed, the kernel is as it was.
 *
 * The race: a task sleeps in a hook, or a release is queued, or a grace period
 * is on its way, and the text and data that they return to go away.
 *
 * For the loadable module only.  NSPROXY_DEFER_KO names its file.
 * NSPROXY_TEST_CYCLES says how often to load and unload.
 */
#include <elf.h>
#include <poll.h>

#include "gp.h"
#include "hang.h"
#include "log.h"
#include "walk.h"

#define MODULE "nsproxy_defer"
#define MODULE_DIR "/sys/module/" MODULE

static const char *ko;
static bool was_loaded;
/* Has the kernel what taking over a function takes? */
static bool can_redirect;

static bool is_loaded(void)
{
	/* What is built in has a folder there too, but was never initialised. */
	return !access(MODULE_DIR "/initstate", F_OK);
}

static int load(const char *parameters)
{
	int fd, err = 0;

	fd = open(ko, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (syscall(SYS_finit_module, fd, parameters, 0))
		err = -errno;
	close(fd);
	return err;
}

static int unload(void)
{
	return syscall(SYS_delete_module, MODULE, O_NONBLOCK) ? -errno : 0;
}

/* All of a file, as a string that the caller frees. */
static char *slurp(const char *path)
{
	char *text = NULL;
	size_t len = 0, room = 0;
	ssize_t n;
	int fd;

	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return NULL;
	do {
		if (room - len < 4096) {
			room += 65536;
			text = realloc(text, room);
			if (!text)
				abort();
		}
		n = read(fd, text + len, room - len - 1);
		len += n > 0 ? n : 0;
	} while (n > 0);
	close(fd);
	text[len] = '\0';
	return text;
}

/* Dynamic ftrace, called from before a function's prologue: on x86 not everywhere. */
static bool kernel_can_redirect(void)
{
	bool fentry = true;
#ifdef __x86_64__
	char *symbols = slurp("/proc/kallsyms");

	fentry = !symbols || strstr(symbols, " __fentry__\n");
	free(symbols);
#endif
	return fentry && gp_possible();
}

/* The module, and by nsp_at_exit() its knobs, are left as they were found. */
static void restore_module(void)
{
	if (getpid() != nsp_main_pid)
		return;
	if (is_loaded() && !was_loaded)
		unload();
	if (!is_loaded() && was_loaded)
		load("");
}

static void prepare_life(void)
{
	nsp_prepare();
	if (nsp_present() && !is_loaded())
		nsp_skip_all("the deferral is built into this kernel");
	ko = getenv("NSPROXY_DEFER_KO");
	if (!ko)
		nsp_skip_all("NSPROXY_DEFER_KO does not name the module's file");
	if (access(ko, R_OK))
		nsp_fail_all(ko, strerror(errno));
	can_redirect = kernel_can_redirect();
	was_loaded = is_loaded();
	if (was_loaded && nsp_save(&nsp_at_start))
		nsp_fail_all("cannot read the knobs", NSP_DIR);
	atexit(restore_module);
}

static const char *const hook_lists[] = {
	"/sys/kernel/tracing/enabled_functions",
	"/sys/kernel/debug/tracing/enabled_functions",
	"/sys/kernel/debug/kprobes/list",
};

/* What the kernel says about hooks; where it says nothing there are none. */
struct hooks {
	char *lists[ARRAY_SIZE(hook_lists)];
};

static int begin_unloaded(struct hooks *hooks)
{
	size_t i;

	if (is_loaded() && unload())
		return -1;
	for (i = 0; i < ARRAY_SIZE(hook_lists); i++)
		hooks->lists[i] = slurp(hook_lists[i]);
	return 0;
}

static int end_unloaded(struct hooks *hooks)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(hook_lists); i++)
		free(hooks->lists[i]);
	return is_loaded() ? unload() : 0;
}

static void check_kernel_as_before(struct __test_metadata *_metadata,
				   const struct hooks *hooks)
{
	char *now;
	size_t i;

	EXPECT_NE(0, access(MODULE_DIR, F_OK));
	EXPECT_NE(0, access(NSP_DIR, F_OK));
	for (i = 0; i < ARRAY_SIZE(hook_lists); i++) {
		if (!hooks->lists[i])
			continue;
		now = slurp(hook_lists[i]);
		ASSERT_NE(NULL, now);
		EXPECT_STREQ(hooks->lists[i], now) {
			TH_LOG("%s has changed", hook_lists[i]);
		}
		free(now);
	}
}

/* Is any function redirected that was not before? */
static bool hooks_are_there(const struct hooks *hooks)
{
	bool there = false;
	char *now;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(hook_lists); i++) {
		now = slurp(hook_lists[i]);
		if (now && hooks->lists[i] && strcmp(now, hooks->lists[i]))
			there = true;
		free(now);
	}
	return there;
}

FIXTURE(life)
{
	struct hooks hooks;
};

FIXTURE_SETUP(life)
{
	ASSERT_EQ(0, begin_unloaded(&self->hooks));
}

FIXTURE_TEARDOWN(life)
{
	EXPECT_EQ(0, end_unloaded(&self->hooks));
}

/* In the tests, since not every harness stops for a SKIP in the setup. */
#define NEEDS_REDIRECT() do {						\
	if (!can_redirect)						\
		SKIP(return, "this kernel cannot redirect functions");	\
} while (0)

static int leave_namespaces(void *arg)
{
	long i, n = *(long *)arg;

	for (i = 0; i < n; i++)
		CHECK(!unshare(CLONE_NEWNS));
	return 0;
}

/* Up to 3.16, a kernel for one CPU gains nothing, and is left as it is. */
static const char *default_mode(void)
{
	struct utsname uts;

	if (uname(&uts))
		abort();
	if (nsp_linux(3, 17))
		return "safe";
	if (strstr(uts.version, " SMP ") || strstr(uts.version, " PREEMPT "))
		return "all";
	return "off";
}

/* That the mode is @mode has to mean that the module is in the way, or is not. */
static void check_deferring(struct __test_metadata *_metadata, const char *mode,
			    const struct hooks *hooks)
{
	long n = 3, before = nsp_unwaited();
	char text[64];

	ASSERT_EQ(0, nsp_get(NSP_DIR "/mode", text, sizeof(text)));
	EXPECT_STREQ(mode, text);
	EXPECT_EQ(0, nsp_run(leave_namespaces, &n));
	if (!strcmp(mode, "off")) {
		EXPECT_EQ(before, nsp_unwaited());
	} else {
		EXPECT_TRUE(hooks_are_there(hooks));
		if (nsp_defers_mounts() || !strcmp(mode, "all"))
			EXPECT_LE(before + n, nsp_unwaited());
	}
}

TEST_F_TIMEOUT(life, parameters, NSP_TIMEOUT)
{
	char text[64];

	NEEDS_REDIRECT();
	ASSERT_EQ(0, load(""));
	check_deferring(_metadata, default_mode(), &self->hooks);
	EXPECT_EQ(1024, nsp_num("max_pending"));
	ASSERT_EQ(0, unload());
	check_kernel_as_before(_metadata, &self->hooks);

	ASSERT_EQ(0, load("mode=safe max_pending=5"));
	check_deferring(_metadata, "safe", &self->hooks);
	EXPECT_EQ(5, nsp_num("max_pending"));
	ASSERT_EQ(0, unload());

	ASSERT_EQ(0, load("mode=off max_pending=2147483647"));
	ASSERT_EQ(0, nsp_get(NSP_DIR "/mode", text, sizeof(text)));
	EXPECT_STREQ("off", text);
	EXPECT_EQ(INT_MAX, nsp_num("max_pending"));
	ASSERT_EQ(0, unload());
	check_kernel_as_before(_metadata, &self->hooks);
}

/* Until somebody wants it to defer, the module is in nobody's way. */
TEST_F_TIMEOUT(life, off_redirects_nothing, NSP_TIMEOUT)
{
	NEEDS_REDIRECT();
	ASSERT_EQ(0, load("mode=off"));
	check_deferring(_metadata, "off", &self->hooks);
	EXPECT_FALSE(hooks_are_there(&self->hooks));
	EXPECT_EQ(-EINVAL, nsp_set("mode", "bogus"));
	EXPECT_EQ(0, nsp_set("mode", "off"));
	EXPECT_FALSE(hooks_are_there(&self->hooks));

	ASSERT_EQ(0, nsp_set("mode", "all"));
	check_deferring(_metadata, "all", &self->hooks);
	ASSERT_EQ(0, nsp_set("mode", "off"));
	check_deferring(_metadata, "off", &self->hooks);
	ASSERT_EQ(0, nsp_set("mode", "safe"));
	check_deferring(_metadata, "safe", &self->hooks);
	ASSERT_EQ(0, unload());
	check_kernel_as_before(_metadata, &self->hooks);
}

/* What cannot be done now leaves the mode, and can be done later. */
TEST_F_TIMEOUT(life, cannot_redirect_yet, NSP_TIMEOUT)
{
	const char *enabled = "/proc/sys/kernel/ftrace_enabled";
	int err, log;

	NEEDS_REDIRECT();
	if (!nsp_linux(5, 5))
		SKIP(return, "ftrace says yes and does nothing before Linux 5.5");
	err = nsp_put(enabled, "0");
	if (err == -EOPNOTSUPP)
		SKIP(return, "this kernel lets nobody switch ftrace off");
	ASSERT_EQ(0, err);
	EXPECT_EQ(-EBUSY, load("mode=all"));
	EXPECT_EQ(0, load("mode=off"));
	log = open_log();
	EXPECT_EQ(-EBUSY, nsp_set("mode", "all"));
	if (log >= 0)
		EXPECT_TRUE(was_logged(log, "ftrace_enabled"));
	close(log);
	ASSERT_EQ(0, nsp_put(enabled, "1"));
	check_deferring(_metadata, "off", &self->hooks);
	ASSERT_EQ(0, nsp_set("mode", "all"));
	/* Nor are the functions given back while they are needed. */
	EXPECT_EQ(-EBUSY, nsp_put(enabled, "0"));
	check_deferring(_metadata, "all", &self->hooks);
	ASSERT_EQ(0, unload());
	check_kernel_as_before(_metadata, &self->hooks);
}

FIXTURE(refused)
{
	struct hooks hooks;
};

FIXTURE_VARIANT(refused)
{
	const char *parameters;
};

FIXTURE_SETUP(refused)
{
	ASSERT_EQ(0, begin_unloaded(&self->hooks));
}

FIXTURE_TEARDOWN(refused)
{
	EXPECT_EQ(0, end_unloaded(&self->hooks));
}

#define REFUSED(name, text)						\
	FIXTURE_VARIANT_ADD(refused, name)				\
	{								\
		.parameters = text,					\
	}

REFUSED(mode_bogus, "mode=bogus");
REFUSED(mode_empty, "mode=");
REFUSED(mode_upper, "mode=ALL");
REFUSED(mode_number, "mode=1");
REFUSED(max_pending_zero, "max_pending=0");
REFUSED(max_pending_negative, "max_pending=-1");
REFUSED(max_pending_huge, "max_pending=99999999999");
REFUSED(max_pending_trailing, "max_pending=12abc");
REFUSED(max_pending_empty, "max_pending=");
REFUSED(one_good_one_bad, "mode=all max_pending=0");

TEST_F_TIMEOUT(refused, load, NSP_TIMEOUT)
{
	int log = open_log();

	ASSERT_EQ(-EINVAL, load(variant->parameters));
	if (log >= 0)
		EXPECT_TRUE(was_logged(log, MODULE ": "));
	close(log);
	check_kernel_as_before(_metadata, &self->hooks);
}

/* What was refused leaves nothing behind that a good load would trip over. */
TEST_F_TIMEOUT(life, refused_then_taken, NSP_TIMEOUT)
{
	NEEDS_REDIRECT();
	EXPECT_EQ(-EINVAL, load("mode=all max_pending=0"));
	EXPECT_EQ(-EINVAL, load("mode=bogus"));
	ASSERT_EQ(0, load(""));
	EXPECT_EQ(0, nsp_flush());
	ASSERT_EQ(0, unload());
	check_kernel_as_before(_metadata, &self->hooks);
}

static char *find_string(char *begin, size_t size, const char *string)
{
	char *at = begin, *end = begin + size;

	while ((at = memmem(at, end - at, string, strlen(string) + 1))) {
		/* Not the end of another one. */
		if (at == begin || !at[-1])
			return at;
		at++;
	}
	return NULL;
}

/*
 * Load a copy in which @string is @other, which is as long, where it stands in a
 * section whose name begins with @section.
 */
static int load_edited_to(const char *section, const char *string, const char *other)
{
	const Elf64_Shdr *sections;
	const Elf64_Ehdr *elf;
	const char *names;
	char *image, *found;
	struct stat st;
	int fd, i, err = -ENOEXEC;

	fd = open(ko, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st))
		return -errno;
	image = mmap(NULL, st.st_size, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd,
		     0);
	close(fd);
	if (image == MAP_FAILED)
		return -errno;
	elf = (void *)image;
	sections = (void *)(image + elf->e_shoff);
	names = image + sections[elf->e_shstrndx].sh_offset;
	for (i = 0; i < elf->e_shnum; i++) {
		if (strncmp(names + sections[i].sh_name, section,
			    strlen(section)))
			continue;
		found = find_string(image + sections[i].sh_offset,
				    sections[i].sh_size, string);
		if (!found)
			continue;
		memcpy(found, other, strlen(other));
		err = syscall(SYS_init_module, image, st.st_size, "");
		if (err)
			err = -errno;
		break;
	}
	munmap(image, st.st_size);
	return err;
}

/* With another last letter. */
static int load_edited(const char *section, const char *string)
{
	char edited[64];

	snprintf(edited, sizeof(edited), "%s", string);
	edited[strlen(edited) - 1] = 'x';
	return load_edited_to(section, string, edited);
}

static void check_missing(struct __test_metadata *_metadata, const char *symbol,
			  const struct hooks *hooks)
{
	char edited[64];
	int log = open_log();

	snprintf(edited, sizeof(edited), "%s", symbol);
	edited[strlen(edited) - 1] = 'x';
	EXPECT_EQ(-ENOENT, load_edited(".rodata", symbol)) {
		TH_LOG("%s", symbol);
	}
	if (log >= 0)
		EXPECT_TRUE(was_logged(log, edited)) {
			TH_LOG("%s", edited);
		}
	close(log);
	check_kernel_as_before(_metadata, hooks);
}

/* What cannot be found is named. */
TEST_F_TIMEOUT(life, symbol_missing, NSP_TIMEOUT)
{
	static const char *const mounts[] = {
		"unmounted", "mount_lock", "__cleanup_mnt", "inc_ucount",
		"delayed_fput_work",
	};
	static const char *const namespaces[] = {
		"switch_task_namespaces", "free_nsproxy", "delayed_fput_work",
	};
	char *symbols = slurp("/proc/kallsyms");
	bool tells_data = !symbols || strstr(symbols, " mount_lock\n");
	size_t i;

	free(symbols);
	NEEDS_REDIRECT();
	if (!tells_data) {
		/* What it asks of the System.map that it was built with is edited there, too. */
		check_missing(_metadata, "__cleanup_mnt", &self->hooks);
	} else if (nsp_defers_mounts()) {
		check_missing(_metadata, nsp_linux(5, 3) ? "namespace_unlock" : "umount_tree",
			      &self->hooks);
		for (i = 0; i < ARRAY_SIZE(mounts); i++)
			check_missing(_metadata, mounts[i], &self->hooks);
	} else {
		for (i = 0; i < ARRAY_SIZE(namespaces); i++)
			check_missing(_metadata, namespaces[i], &self->hooks);
	}
}

/*
 * Where the kernel does not tell how a mount looks, a module that was built in
 * its sources knows, and another one says what it wants.
 */
TEST_F_TIMEOUT(life, layout_missing, NSP_TIMEOUT)
{
	int log = open_log();
	int err;

	NEEDS_REDIRECT();
	if (!nsp_defers_mounts())
		SKIP(return, "up to Linux 3.16 the module looks into no mount");
	err = load_edited(".rodata", "__start_BTF");
	if (!err) {
		check_deferring(_metadata, "safe", &self->hooks);
		ASSERT_EQ(0, unload());
	} else {
		EXPECT_EQ(-EOPNOTSUPP, err);
		if (log >= 0)
			EXPECT_TRUE(was_logged(log, "CONFIG_DEBUG_INFO_BTF"));
	}
	close(log);
	check_kernel_as_before(_metadata, &self->hooks);
}

/*
 * BTF that is not of this kernel, or damaged: what the module asks for is not there,
 * or somewhere else, where it then looks at a mount that it knows.  To have that of
 * good BTF, it is made to ask for another name.
 */
struct lie {
	const char *name;
	const char *other;
	/* What the log says. */
	const char *why;
};

static void check_lie(struct __test_metadata *_metadata, const struct lie *lie,
		      const struct hooks *hooks)
{
	int log = open_log();
	bool said;

	EXPECT_GT(0, load_edited_to(".rodata", lie->name, lie->other)) {
		TH_LOG("%s for %s", lie->other, lie->name);
		unload();
	}
	if (log >= 0) {
		said = was_logged(log, lie->why);
		EXPECT_TRUE(said) {
			TH_LOG("%s for %s: not \"%s\"", lie->other, lie->name, lie->why);
		}
	}
	close(log);
	check_kernel_as_before(_metadata, hooks);
}

TEST_F_TIMEOUT(life, layout_wrong, NSP_TIMEOUT)
{
	static const struct lie lies[] = {
		/* Of no such name, and of no such size. */
		{ "mnt_mounts", "mnt_mountx", "mnt_mountx: there is no such member" },
		{ "mnt_mounts", "mnt_parent", "mnt_parent: not of the size" },
		/* A pointer, but another one. */
		{ "mnt_ns", "mnt_mp", "the mount namespace is not where" },
		{ "mnt_parent", "mnt_master", "the parent is not where" },
		/* A list, but another one. */
		{ "mnt_child", "mnt_share", "the parent is not where" },
		{ "mnt_mounts", "mnt_expire", "the parent is not where" },
	};
	size_t i;

	NEEDS_REDIRECT();
	if (!nsp_defers_mounts())
		SKIP(return, "up to Linux 3.16 the module looks into no mount");
	if (access("/sys/kernel/btf/vmlinux", F_OK))
		SKIP(return, "this kernel carries no BTF");
	for (i = 0; i < ARRAY_SIZE(lies); i++)
		check_lie(_metadata, &lies[i], &self->hooks);
}

FIXTURE(kernel)
{
	struct hooks hooks;
};

FIXTURE_SETUP(kernel)
{
	ASSERT_EQ(0, begin_unloaded(&self->hooks));
}

FIXTURE_TEARDOWN(kernel)
{
	EXPECT_EQ(0, end_unloaded(&self->hooks));
}

/* Without the means the module says which they are, and keeps off. */
TEST_F_TIMEOUT(kernel, function_tracer, NSP_TIMEOUT)
{
	int log = open_log();

	if (can_redirect) {
		ASSERT_EQ(0, load(""));
		ASSERT_EQ(0, unload());
	} else {
		ASSERT_EQ(-EOPNOTSUPP, load(""));
		if (log >= 0)
			EXPECT_TRUE(was_logged(log, "this kernel was built without "));
	}
	close(log);
	check_kernel_as_before(_metadata, &self->hooks);
}

/* Where the folder exists already, on a patched kernel, there is no second. */
TEST_F_TIMEOUT(life, folder_exists, NSP_TIMEOUT)
{
	int log;

	NEEDS_REDIRECT();
	ASSERT_EQ(0, load("mode=all"));
	ASSERT_EQ(-EEXIST, load(""));
	/* By another name, so that it is not the module loader that says no. */
	log = open_log();
	EXPECT_EQ(-EBUSY, load_edited(".gnu.linkonce.this_module", MODULE));
	if (log >= 0)
		EXPECT_TRUE(was_logged(log, NSP_DIR));
	close(log);
	EXPECT_NE(0, access("/sys/module/nsproxy_defex", F_OK));

	/* The first one is none the worse for it. */
	check_deferring(_metadata, "all", &self->hooks);
	EXPECT_EQ(0, nsp_flush());
	ASSERT_EQ(0, unload());
	check_kernel_as_before(_metadata, &self->hooks);
}

static volatile int *prod_over;

/* Use the files while they come and go. */
static int prod(void *arg)
{
	(void)arg;
	while (!*prod_over) {
		nsp_flush();
		nsp_num("pending");
		nsp_num("stats/grace_periods");
		nsp_set("max_pending", "16");
		nsp_set("mode", "safe");
		nsp_num("stats/finished");
		nsp_set("mode", "all");
	}
	return 0;
}

/* What the kernel's own threads have to do comes first, however many walk. */
static int start_walks(struct walks *walks)
{
	scene = nsp_shared(sizeof(*scene));
	CHECK(scene);
	CHECK(nice(10) == 10);
	CHECK(!place_make_dir(&scene->at));
	CHECK(!set_scene());
	return walks_start(walks, LONG_MAX);
}

TEST_F_TIMEOUT(life, cycles_in_a_storm, 60 * NSP_TIMEOUT)
{
	static const char *const parameters[] = {
		"mode=all", "mode=safe", "mode=all max_pending=3", "mode=off",
		"mode=safe max_pending=1", "",
	};
	long cycles = nsp_env("NSPROXY_TEST_CYCLES", 8);
	struct walks walks;
	pid_t prodder;
	long i, until;

	NEEDS_REDIRECT();
	prod_over = nsp_shared(sizeof(*prod_over));
	ASSERT_NE(NULL, prod_over);
	ASSERT_EQ(0, start_walks(&walks));
	prodder = nsp_start(prod, NULL);
	ASSERT_LT(0, prodder);
	for (i = 0; i < cycles; i++) {
		ASSERT_EQ(0, load(parameters[i % ARRAY_SIZE(parameters)]));
		/* Let none to two mounts pass. */
		until = scene->mounts + i % 3;
		while (scene->mounts < until)
			sched_yield();
		ASSERT_EQ(0, unload()) {
			TH_LOG("cycle %ld of %ld", i, cycles);
		}
	}
	*prod_over = 1;
	EXPECT_EQ(0, nsp_wait(prodder));
	scene->over = 1;
	EXPECT_EQ(0, walks_wait(&walks));
	EXPECT_LT(0, scene->mounts);
	place_drop_dir(&scene->at);
	check_kernel_as_before(_metadata, &self->hooks);
}

/*
 * A task in a user namespace of its own makes HELD mount namespaces die, says
 * so, and when the module is gone makes HELD again.  Its limit is HELD, and
 * with the module gone nobody flushes for it.
 */
#define HELD 40

struct user {
	int ready[2];
	int gone[2];
};

static int user_with_limit(void *arg)
{
	struct user *user = arg;
	int i;
	char c;

	CHECK(!nsp_own_user());
	CHECK(!nsp_put("/proc/sys/user/max_mnt_namespaces", "40"));
	for (i = 0; i < HELD; i++)
		CHECK(!nsp_run(nsp_short_life, NULL));
	CHECK(write(user->ready[1], "x", 1) == 1);
	CHECK(read(user->gone[0], &c, 1) == 1);
	i = nsp_hold_many(CLONE_NEWNS, HELD);
	if (i) {
		fprintf(stderr, "# %d of %d refused after unload\n", i, HELD);
		return 1;
	}
	/* If a release had been lost in the counting, this would find a place. */
	CHECK(nsp_hold_many(CLONE_NEWNS, HELD + 1) == 1);
	return 0;
}

TEST_F_TIMEOUT(life, unload_with_pending, NSP_TIMEOUT)
{
	int rounds = 0, with_pending = 0;
	struct user user;
	long pending;
	pid_t pid;
	char c;

	NEEDS_REDIRECT();
	if (access("/proc/sys/user/max_mnt_namespaces", F_OK))
		SKIP(return, "this kernel has no limits for namespaces (they came with 4.9)");
	if (!nsp_supported(CLONE_NEWUSER))
		SKIP(return, "this kernel lacks user namespaces");
	/* With more than one CPU it takes some luck, too. */
	ASSERT_EQ(0, nsp_outrun_workers());
	while (with_pending < 3 && rounds++ < 30) {
		ASSERT_EQ(0, load("mode=all max_pending=1024"));
		ASSERT_EQ(0, pipe(user.ready));
		ASSERT_EQ(0, pipe(user.gone));
		pid = nsp_start(user_with_limit, &user);
		ASSERT_LT(0, pid);
		close(user.ready[1]);
		ASSERT_EQ(1, read(user.ready[0], &c, 1));
		if (nsp_defers_mounts())
			ASSERT_EQ(0, nsp_leave(3));
		pending = nsp_num("pending");
		ASSERT_LE(0, pending);
		with_pending += pending > 0;
		ASSERT_EQ(0, unload());
		ASSERT_EQ(1, write(user.gone[1], "x", 1));
		EXPECT_EQ(0, nsp_wait(pid));
		close(user.ready[0]);
		close(user.gone[0]);
		close(user.gone[1]);
	}
	EXPECT_LE(3, with_pending);
	check_kernel_as_before(_metadata, &self->hooks);
}

static int run_unload(void *arg)
{
	(void)arg;
	return -unload();
}

static void nap(void)
{
	const struct timespec nap = { .tv_nsec = 1000 * 1000 };

	nanosleep(&nap, NULL);
}

/* The log says what an unload waits for, if that takes long. */
static void wait_for_word(int log, const char *what)
{
	if (log >= 0)
		while (!was_logged(log, what))
			nap();
	close(log);
}

#define HUNG_TASK "/proc/sys/kernel/hung_task_"

static const char *const hung_task_knobs[] = { "timeout_secs", "panic", "warnings" };
static const char *const hung_task_values[] = { "1", "0", "0" };

/*
 * Nobody can kill an unload.  So whoever watches the machine has to see that it
 * waits: return when khungtaskd has, by the event, which is told without a word on the
 * console.
 */
static void wait_for_khungtaskd(struct __test_metadata *_metadata, pid_t pid)
{
	char saved[ARRAY_SIZE(hung_task_knobs)][32], path[160], event[160], what[32], line[256];
	FILE *events;
	size_t i;

	snprintf(event, sizeof(event), "%s/events/sched/sched_process_hang/enable",
		 gp_tracing());
	if (access(HUNG_TASK "timeout_secs", F_OK) || access(event, F_OK))
		return;
	/* To read "trace" stops tracing for a while up to Linux 5.8, and most of the time. */
	snprintf(path, sizeof(path), "%s/trace_pipe", gp_tracing());
	events = fopen(path, "re");
	ASSERT_NE(NULL, events);
	ASSERT_EQ(0, nsp_put(event, "1"));
	for (i = 0; i < ARRAY_SIZE(hung_task_knobs); i++) {
		snprintf(path, sizeof(path), HUNG_TASK "%s", hung_task_knobs[i]);
		ASSERT_EQ(0, nsp_get(path, saved[i], sizeof(saved[i])));
	}
	/* The time comes last, and is the first to be as it was. */
	for (i = ARRAY_SIZE(hung_task_knobs); i--;) {
		snprintf(path, sizeof(path), HUNG_TASK "%s", hung_task_knobs[i]);
		ASSERT_EQ(0, nsp_put(path, hung_task_values[i]));
	}
	snprintf(what, sizeof(what), "pid=%d\n", (int)pid);
	do {
		ASSERT_NE(NULL, fgets(line, sizeof(line), events));
	} while (!strstr(line, what));
	fclose(events);
	for (i = 0; i < ARRAY_SIZE(hung_task_knobs); i++) {
		snprintf(path, sizeof(path), HUNG_TASK "%s", hung_task_knobs[i]);
		EXPECT_EQ(0, nsp_put(path, saved[i]));
	}
	EXPECT_EQ(0, nsp_put(event, "0"));
}

/* How often that was seen, until the end or @most times. */
static int watch_hooks(const struct hooks *hooks, int most)
{
	int i;

	for (i = 0; i < most && hooks_are_there(hooks); i++)
		nap();
	return i;
}

/*
 * An unload that meets a release which hangs waits for it, with the hooks still
 * in place; and once it returns, that release is done.
 */
TEST_F_TIMEOUT(life, unload_outlasts_a_release, NSP_TIMEOUT)
{
	struct place at = { .mnt = "" };
	int usual, most, fd, log;
	struct hang hang;
	const char *why;
	pid_t pid;

	NEEDS_REDIRECT();
	ASSERT_EQ(0, load("mode=all"));
	ASSERT_TRUE(hooks_are_there(&self->hooks));
	pid = nsp_start(run_unload, NULL);
	ASSERT_LT(0, pid);
	usual = watch_hooks(&self->hooks, INT_MAX);
	ASSERT_EQ(0, nsp_wait(pid));

	ASSERT_EQ(0, load("mode=all"));
	ASSERT_EQ(0, place_make(&at, "all"));
	why = hang_release(_metadata, &hang, &at);
	if (why) {
		place_drop(&at);
		SKIP(return, "%s", why);
	}
	log = open_log();
	pid = nsp_start(run_unload, NULL);
	ASSERT_LT(0, pid);
	/* One that does not wait would be done long before. */
	most = 3 * usual + 3;
	EXPECT_EQ(most, watch_hooks(&self->hooks, most));
	EXPECT_EQ(0, waitpid(pid, NULL, WNOHANG));
	EXPECT_NE(0, access(NSP_DIR, F_OK));
	wait_for_word(log, "unloading waits for releases that were left to a worker");

	ASSERT_EQ(0, nsp_put(hang.abort, "1"));
	EXPECT_EQ(0, nsp_wait(pid));
	fd = open(hang.disk.dev, O_RDWR | O_EXCL | O_CLOEXEC);
	EXPECT_LE(0, fd);
	close(fd);
	hang_drop(&hang);
	check_kernel_as_before(_metadata, &self->hooks);

	ASSERT_EQ(0, load(""));
	EXPECT_EQ(0, place_drop(&at));
}

/*
 * Where a task shuts down a file system itself, which does not answer, it does so
 * with nothing of the module on its stack.
 */
static int mount_and_umount(void *arg)
{
	const struct mounter *mounter = arg;

	CHECK(!mount_and_exit(arg));
	return umount(mounter->mnt);
}

/* It is put at the end of his exit, so its mount is held until then. */
static int mount_and_exit_with_file(void *arg)
{
	CHECK(!mount_and_exit(arg));
	CHECK(open("/", O_PATH | O_CLOEXEC) >= 0);
	return 0;
}

static int mount_and_detach(void *arg)
{
	const struct mounter *mounter = arg;

	CHECK(!mount_and_exit(arg));
	return umount2(mounter->mnt, MNT_DETACH);
}

FIXTURE(left_alone)
{
	struct hooks hooks;
};

FIXTURE_VARIANT(left_alone)
{
	int (*task)(void *arg);
};

FIXTURE_VARIANT_ADD(left_alone, exit) { .task = mount_and_exit };
FIXTURE_VARIANT_ADD(left_alone, exit_with_file) { .task = mount_and_exit_with_file };
FIXTURE_VARIANT_ADD(left_alone, umount) { .task = mount_and_umount };
FIXTURE_VARIANT_ADD(left_alone, detach) { .task = mount_and_detach };

FIXTURE_SETUP(left_alone)
{
	ASSERT_EQ(0, begin_unloaded(&self->hooks));
}

FIXTURE_TEARDOWN(left_alone)
{
	EXPECT_EQ(0, end_unloaded(&self->hooks));
}

TEST_F_TIMEOUT(left_alone, by_unload, NSP_TIMEOUT)
{
	struct place at = { .mnt = "" };
	struct hang hang;
	const char *why;
	int fd;

	NEEDS_REDIRECT();
	if (!nsp_defers_mounts())
		SKIP(return, "up to Linux 3.16 it is the module that shuts it down");
	ASSERT_EQ(0, load("mode=safe"));
	ASSERT_EQ(0, place_make(&at, "safe"));
	why = hang_prepare(_metadata, &hang, at.dir);
	if (why) {
		place_drop(&at);
		SKIP(return, "%s", why);
	}
	hang_begin(_metadata, &hang, at.mnt, variant->task, false);
	EXPECT_EQ(0, unload());
	check_kernel_as_before(_metadata, &self->hooks);
	EXPECT_EQ(0, waitpid(hang.task, NULL, WNOHANG));
	ASSERT_EQ(0, nsp_put(hang.abort, "1"));
	EXPECT_EQ(0, nsp_wait(hang.task));
	hang.task = 0;
	fd = open(hang.disk.dev, O_RDWR | O_EXCL | O_CLOEXEC);
	EXPECT_LE(0, fd);
	close(fd);
	hang_drop(&hang);

	ASSERT_EQ(0, load(""));
	EXPECT_EQ(0, place_drop(&at));
}

/*
 * A mount that is taken off in the middle of a system call: its mountpoint is in a
 * FUSE file system, which says that there is none any more when somebody walks
 * there.  So the kernel unmounts what is on it, asks once more, and is kept waiting.
 * What it unmounted is to be looked at on the way to user space.
 */
struct walk {
	struct place at;
	char mountpoint[96];
	int fuse;
	int mounted[2];
	int go[2];
};

static int mount_and_walk(void *arg)
{
	struct walk *walk = arg;
	char c;

	CHECK(!mount("none", walk->mountpoint, "tmpfs", 0, NULL));
	CHECK(write(walk->mounted[1], "x", 1) == 1);
	CHECK(read(walk->go[0], &c, 1) == 1);
	CHECK(access(walk->mountpoint, F_OK) && errno == ENOENT);
	return 0;
}

static int mount_fuse(struct walk *walk)
{
	struct fuse_in_header header;
	char options[128];

	snprintf(walk->mountpoint, sizeof(walk->mountpoint), "%s/mountpoint",
		 walk->at.mnt);
	walk->fuse = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	CHECK(walk->fuse >= 0);
	snprintf(options, sizeof(options),
		 "fd=%d,rootmode=40000,user_id=0,group_id=0", walk->fuse);
	CHECK(!mount("none", walk->at.mnt, "fuse", 0, options));
	CHECK(!fuse_read_request(walk->fuse, &header));
	CHECK(header.opcode == FUSE_INIT);
	return fuse_answer_init(walk->fuse, &header, 0);
}

/* The next question for a name in it. */
static int next_lookup(struct walk *walk, struct fuse_in_header *header)
{
	do {
		CHECK(!fuse_read_request(walk->fuse, header));
	} while (header->opcode != FUSE_LOOKUP);
	return 0;
}

/* Until the tmpfs is mounted there is a folder of that name. */
static int serve_mount(struct walk *walk)
{
	const struct fuse_entry_out entry = {
		.nodeid = 2,
		.attr.ino = 2,
		.attr.mode = S_IFDIR | 0700,
		.attr.nlink = 2,
	};
	struct pollfd fds[] = {
		{ .fd = walk->mounted[0], .events = POLLIN },
		{ .fd = walk->fuse, .events = POLLIN },
	};
	struct fuse_in_header header;

	for (;;) {
		CHECK(poll(fds, ARRAY_SIZE(fds), -1) > 0);
		if (fds[0].revents)
			return 0;
		CHECK(!next_lookup(walk, &header));
		CHECK(!fuse_answer(walk->fuse, &header, 0, &entry, sizeof(entry)));
	}
}

static int watch_task(pid_t pid, int most)
{
	siginfo_t info = { .si_pid = 0 };
	int i;

	for (i = 0; i < most; i++) {
		if (waitid(P_PID, pid, &info, WEXITED | WNOHANG | WNOWAIT) ||
		    info.si_pid)
			break;
		nap();
	}
	return i;
}

TEST_F_TIMEOUT(life, unload_outlasts_a_look, NSP_TIMEOUT)
{
	struct walk walk = { .at.mnt = "" };
	struct fuse_in_header header;
	pid_t walker, unloader;
	int usual, most, log;

	NEEDS_REDIRECT();
	if (!nsp_defers_mounts())
		SKIP(return, "up to Linux 3.16 no task has anything to look at");
	if (access("/dev/fuse", F_OK))
		SKIP(return, "no /dev/fuse: this kernel has no FUSE");
	ASSERT_EQ(0, load("mode=safe"));
	unloader = nsp_start(run_unload, NULL);
	ASSERT_LT(0, unloader);
	usual = watch_task(unloader, INT_MAX);
	ASSERT_EQ(0, nsp_wait(unloader));

	ASSERT_EQ(0, load("mode=safe"));
	ASSERT_EQ(0, place_make(&walk.at, "safe"));
	ASSERT_EQ(0, pipe(walk.mounted));
	ASSERT_EQ(0, pipe(walk.go));
	ASSERT_EQ(0, mount_fuse(&walk));
	walker = nsp_start(mount_and_walk, &walk);
	ASSERT_LT(0, walker);
	ASSERT_EQ(0, serve_mount(&walk));
	ASSERT_EQ(1, write(walk.go[1], "x", 1));
	ASSERT_EQ(0, next_lookup(&walk, &header));
	ASSERT_EQ(0, fuse_answer(walk.fuse, &header, ENOENT, NULL, 0));
	ASSERT_EQ(0, next_lookup(&walk, &header));

	log = open_log();
	unloader = nsp_start(run_unload, NULL);
	ASSERT_LT(0, unloader);
	most = 3 * usual + 3;
	EXPECT_EQ(most, watch_task(unloader, most));
	wait_for_word(log, "unloading waits for tasks that have unmounted something");
	wait_for_khungtaskd(_metadata, unloader);
	/* Others do not wait for that one. */
	EXPECT_EQ(0, nsp_run(nsp_short_life, NULL));

	ASSERT_EQ(0, fuse_answer(walk.fuse, &header, ENOENT, NULL, 0));
	EXPECT_EQ(0, nsp_wait(walker));
	EXPECT_EQ(0, nsp_wait(unloader));
	check_kernel_as_before(_metadata, &self->hooks);
	EXPECT_EQ(0, umount2(walk.at.mnt, MNT_DETACH));
	close(walk.fuse);

	ASSERT_EQ(0, load(""));
	EXPECT_EQ(0, place_drop(&walk.at));
}

NSP_TEST_MAIN(prepare_life)
