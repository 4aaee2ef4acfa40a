/* SPDX-License-Identifier: GPL-2.0-only */
/* Allocations that fail when a test says so. */
#ifndef NSPROXY_FAIL_H
#define NSPROXY_FAIL_H

#include "nsproxy_test.h"

#define FAIL_NTH "/proc/self/fail-nth"

/* More allocations than that and something else is wrong. */
#define MANY 1000000

/*
 * By default only such allocations are made to fail as may not sleep, which
 * is none of those here; and each failure is told in the log with a backtrace.
 *
 * The kernel complains about whole pages that it does not get, and about the
 * sysctls of an IPC namespace that it cannot make, in words and backtraces
 * that are meant to alarm who watches the console.  So those are left alone
 * unless NSPROXY_TEST_NOISY asks for them.
 */
static const struct {
	const char *path;
	const char *value;
} fail_attributes[] = {
	{ "/sys/kernel/debug/failslab/ignore-gfp-wait", "0" },
	{ "/sys/kernel/debug/failslab/verbose", "0" },
	{ "/sys/kernel/debug/fail_page_alloc/ignore-gfp-wait", "0" },
	{ "/sys/kernel/debug/fail_page_alloc/min-order", NULL },
	{ "/sys/kernel/debug/fail_page_alloc/verbose", "0" },
};

struct fail_saved {
	char value[ARRAY_SIZE(fail_attributes)][32];
};

/* A reason to skip, or NULL. */
static inline const char *fail_needs(void)
{
	if (access("/proc/self/make-it-fail", F_OK) || access(FAIL_NTH, F_OK))
		return "no " FAIL_NTH ": it takes CONFIG_FAULT_INJECTION and Linux 4.13";
	if (access(fail_attributes[0].path, F_OK))
		return "no /sys/kernel/debug/failslab: this kernel has no CONFIG_FAILSLAB";
	return NULL;
}

static inline int fail_prepare(struct fail_saved *saved)
{
	const char *value;
	size_t i;
	int err;

	memset(saved, 0, sizeof(*saved));
	for (i = 0; i < ARRAY_SIZE(fail_attributes); i++) {
		if (nsp_get(fail_attributes[i].path, saved->value[i],
			    sizeof(saved->value[i])))
			continue;
		value = fail_attributes[i].value;
		if (!value)
			value = getenv("NSPROXY_TEST_NOISY") ? "0" : "20";
		err = nsp_put(fail_attributes[i].path, value);
		if (err)
			return err;
	}
	return 0;
}

static inline int fail_restore(const struct fail_saved *saved)
{
	size_t i;
	int err;

	for (i = 0; i < ARRAY_SIZE(fail_attributes); i++) {
		if (!saved->value[i][0])
			continue;
		err = nsp_put(fail_attributes[i].path, saved->value[i]);
		if (err)
			return err;
	}
	return 0;
}

/*
 * Opening the file allocates too, so that is done before.  Writing and reading
 * it does not.
 */
static inline int fail_arm(long nth)
{
	char text[32];
	int fd, len;

	fd = open(FAIL_NTH, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -1;
	len = snprintf(text, sizeof(text), "%ld", nth);
	if (write(fd, text, len) == len)
		return fd;
	close(fd);
	return -1;
}

/* How many were left to go: 0 if the failure has happened. */
static inline long fail_disarm(int fd)
{
	char text[32] = "";
	bool read_it, wrote_it;

	read_it = pread(fd, text, sizeof(text) - 1, 0) > 0;
	wrote_it = pwrite(fd, "0", 1, 0) == 1;
	close(fd);
	return read_it && wrote_it ? atol(text) : -1;
}

#endif /* NSPROXY_FAIL_H */
