/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the tests of the rules around namespaces share.
 *
 * The rules are those of every kernel, whether it defers or not.  So these
 * tests run on a kernel without the deferral too, where mode=off is all there
 * is, and each of them runs with releases pending and being flushed.
 */
#ifndef NSPROXY_NAMESPACES_H
#define NSPROXY_NAMESPACES_H

#include "nsproxy_test.h"

/* In a child: @call fails, and fails with @err. */
#define CHECK_ERRNO(err, call) do {					\
	errno = 0;							\
	CHECK((call) == -1 && errno == (err));				\
} while (0)

#define NSP_LACKING "this kernel lacks this kind of namespace"

/* A reason to skip, or NULL. */
static inline const char *nsp_needs(int flags)
{
	return nsp_supported(flags) == flags ? NULL : NSP_LACKING;
}

static inline const char *nsp_needs_setns_pidfd(void)
{
	return nsp_linux(5, 8) ? NULL
			       : "setns() takes no pidfd before Linux 5.8";
}

/* Every kind of namespace that this kernel has. */
static inline int nsp_all_flags(void)
{
	int flags = 0;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(nsp_kinds); i++)
		flags |= nsp_kinds[i].flag;
	return nsp_supported(flags);
}

/* A file of @pid's folder ns, or of the caller's own if @pid is 0. */
static inline const char *nsp_ns_path(pid_t pid, const char *name)
{
	static __thread char path[64];

	if (pid)
		snprintf(path, sizeof(path), "/proc/%d/ns/%s", (int)pid, name);
	else
		snprintf(path, sizeof(path), "/proc/self/ns/%s", name);
	return path;
}

static inline int nsp_ns_open(pid_t pid, const char *name)
{
	return open(nsp_ns_path(pid, name), O_RDONLY | O_CLOEXEC);
}

/* What tells one namespace from another, or 0 with errno set. */
static inline ino_t nsp_ns_id(pid_t pid, const char *name)
{
	struct stat st;

	return stat(nsp_ns_path(pid, name), &st) ? 0 : st.st_ino;
}

/* The namespaces of a task, in the order of nsp_kinds. */
struct nsp_ids {
	ino_t id[ARRAY_SIZE(nsp_kinds)];
};

static inline struct nsp_ids nsp_ids(pid_t pid)
{
	struct nsp_ids ids;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(nsp_kinds); i++)
		ids.id[i] = nsp_ns_id(pid, nsp_kinds[i].name);
	return ids;
}

/* Do @a and @b differ in the kinds @flags, and in no other one? */
static inline bool nsp_differ_in(const struct nsp_ids *a,
				 const struct nsp_ids *b, int flags)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(nsp_kinds); i++) {
		bool same = a->id[i] == b->id[i];

		if (same == !!(flags & nsp_kinds[i].flag))
			return false;
	}
	return true;
}

/* A fork() with chosen pids, those of the innermost level first. */
static inline pid_t nsp_clone_tids(int flags, const pid_t *tids, size_t size)
{
	struct nsp_clone_args args = {
		.flags = flags,
		.exit_signal = SIGCHLD,
		.set_tid = (uintptr_t)tids,
		.set_tid_size = size,
	};

	fflush(stdout);
	fflush(stderr);
	return nsp_clone3(&args);
}

static inline const char *nsp_needs_set_tid(void)
{
	return nsp_linux(5, 5) ? nsp_needs(CLONE_NEWPID)
			       : "clone3() chooses no pids before Linux 5.5";
}

/*
 * Pids that nobody else is given: once a pid namespace has handed out its
 * 300th, it goes round above that.  The lower ones are left to who asks.
 */
#define NSP_RESERVED_PIDS 300

static inline int nsp_free_pids(pid_t *pids, int n)
{
	pid_t pid = 1, got;

	do {
		got = fork();
		CHECK(got >= 0);
		if (!got)
			_exit(0);
		CHECK(!nsp_wait(got));
	} while (got <= NSP_RESERVED_PIDS);
	while (n) {
		CHECK(++pid < NSP_RESERVED_PIDS);
		got = nsp_clone_tids(0, &pid, 1);
		if (!got)
			_exit(0);
		if (got < 0) {
			CHECK(errno == EEXIST);
			continue;
		}
		CHECK(got == pid && !nsp_wait(got));
		pids[--n] = pid;
	}
	return 0;
}

/* A task that stays in new namespaces until nsp_end(). */
static inline int nsp_stay(void *arg)
{
	(void)arg;
	while (pause())
		;
	return 0;
}

static inline pid_t nsp_start_target(int flags)
{
	return nsp_start_in(flags, nsp_stay, NULL);
}

static inline int nsp_end(pid_t pid)
{
	if (kill(pid, SIGKILL))
		return -1;
	return nsp_wait(pid) == 128 + SIGKILL ? 0 : -1;
}

/* Hand over a word about the state of things; a reader waits for it. */
static inline int nsp_tell(int fd, long word)
{
	return write(fd, &word, sizeof(word)) == sizeof(word) ? 0 : -1;
}

static inline long nsp_hear(int fd)
{
	long word;

	return read(fd, &word, sizeof(word)) == sizeof(word) ? word : -1;
}

/*
 * The background: one task makes namespaces and lets them die, all the time,
 * and another one flushes.  Both are nice to the test.
 */
struct nsp_background {
	struct nsp_knobs knobs;
	const char *mode;
	long unwaited;
	volatile long *produced;
	volatile int *stop;
	int ready[2];
	int flush[2];
	pid_t producer;
	pid_t flusher;
};

static inline int nsp_produce_one(void *arg)
{
	(void)arg;
	CHECK(!unshare(nsp_supported(CLONE_NEWNS | CLONE_NEWUTS)));
	return 0;
}

/* Those are over at once, but where a release is that of a whole namespace. */
static inline int nsp_produce_pending(void)
{
	CHECK(!nsp_run(nsp_produce_one, NULL));
	if (nsp_defers_mounts())
		CHECK(!nsp_leave(2));
	return 0;
}

static inline int nsp_produce(void *arg)
{
	struct nsp_background *bg = arg;

	CHECK(nice(19) != -1);
	while (!*bg->stop) {
		CHECK(!nsp_produce_pending());
		if (!(*bg->produced)++)
			CHECK(!nsp_tell(bg->ready[1], 1));
		/* A flusher that is behind has been told often enough. */
		CHECK(write(bg->flush[1], "x", 1) == 1 || errno == EAGAIN);
	}
	return 0;
}

static inline int nsp_keep_flushing(void *arg)
{
	struct nsp_background *bg = arg;
	char told[4096];

	CHECK(nice(19) != -1);
	close(bg->flush[1]);
	while (read(bg->flush[0], told, sizeof(told)) > 0)
		CHECK(!nsp_flush());
	return 0;
}

/* Returns when the first release may be pending. */
static inline int nsp_background_start(struct nsp_background *bg,
				       const char *mode)
{
	bg->mode = mode;
	bg->stop = nsp_shared(sizeof(*bg->stop));
	bg->produced = nsp_shared(sizeof(*bg->produced));
	CHECK(bg->stop && bg->produced);
	CHECK(!pipe(bg->ready) && !pipe2(bg->flush, O_CLOEXEC));
	CHECK(!fcntl(bg->flush[1], F_SETFL, O_NONBLOCK));
	if (nsp_present()) {
		CHECK(!nsp_save(&bg->knobs));
		CHECK(!nsp_set("mode", mode));
		CHECK(!nsp_flush());
		bg->unwaited = nsp_unwaited();
		bg->flusher = nsp_start(nsp_keep_flushing, bg);
		CHECK(bg->flusher > 0);
	}
	bg->producer = nsp_start(nsp_produce, bg);
	CHECK(bg->producer > 0);
	close(bg->flush[1]);
	CHECK(nsp_hear(bg->ready[0]) == 1);
	return 0;
}

/* 0 if there was a background, and nothing of it was lost. */
static inline int nsp_background_stop(struct nsp_background *bg)
{
	*bg->stop = 1;
	CHECK(!nsp_wait(bg->producer));
	CHECK(*bg->produced > 0);
	if (!nsp_present())
		return 0;
	CHECK(!nsp_wait(bg->flusher));
	CHECK(!nsp_flush());
	CHECK(nsp_all_released());
	if (!strcmp(bg->mode, "off"))
		CHECK(nsp_unwaited() == bg->unwaited);
	else if (nsp_defers_mounts() || !strcmp(bg->mode, "all"))
		CHECK(nsp_unwaited() > bg->unwaited);
	CHECK(!nsp_restore(&bg->knobs));
	return 0;
}

/* Why a variant cannot be had here, or NULL. */
static inline const char *nsp_needs_mode(const char *mode)
{
	const char *only = getenv("NSPROXY_TEST_MODE");

	if (only && strcmp(mode, only))
		return "NSPROXY_TEST_MODE names another mode";
	return nsp_present() || !strcmp(mode, "off")
		? NULL : "no " NSP_DIR ": this kernel has no modes";
}

/*
 * A fixture of that: FIXTURE, its variants, set-up and tear-down.  The harness
 * runs a test even if its set-up says that it is to be skipped.
 */
#define NSP_FIXTURE(name)						\
	FIXTURE(name)							\
	{								\
		struct nsp_background background;			\
	};								\
	FIXTURE_VARIANT(name)						\
	{								\
		const char *mode;					\
	};								\
	NSP_MODE_VARIANTS(name);						\
	FIXTURE_SETUP(name)						\
	{								\
		if (nsp_needs_mode(variant->mode))			\
			return;						\
		ASSERT_EQ(0, nsp_background_start(&self->background,	\
						  variant->mode));	\
	}								\
	FIXTURE_TEARDOWN(name)						\
	{								\
		if (self->background.producer)				\
			EXPECT_EQ(0, nsp_background_stop(&self->background)); \
	}								\
	struct nsp_fixture_##name

/*
 * One test, the body of which runs in a child of its own and returns 0 or,
 * by CHECK(), something else.  @why is NULL or the reason to skip it.
 */
#define NSP_RULE(fixture, name, why)					\
	static int fixture##_##name##_rule(void);			\
	static int fixture##_##name##_child(void *arg)			\
	{								\
		(void)arg;						\
		return fixture##_##name##_rule();			\
	}								\
	TEST_F_TIMEOUT(fixture, name, NSP_TIMEOUT)			\
	{								\
		const char *reason = nsp_needs_mode(variant->mode);	\
									\
		if (!reason)						\
			reason = (why);					\
		if (reason)						\
			SKIP(return, "%s", reason);			\
		EXPECT_EQ(0, nsp_run(fixture##_##name##_child, NULL));	\
	}								\
	static int fixture##_##name##_rule(void)

/* The deferral may be there or not. */
static inline void nsp_prepare_any(void)
{
	nsp_prepare();
	if (nsp_present() && nsp_save(&nsp_at_start))
		nsp_fail_all("cannot read the knobs", NSP_DIR);
}

#endif /* NSPROXY_NAMESPACES_H */
