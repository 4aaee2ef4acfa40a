/* SPDX-License-Identifier: GPL-2.0-only */
/* Counting objects of the kernel's caches. */
#ifndef NSPROXY_SLAB_H
#define NSPROXY_SLAB_H

#include "nsproxy_test.h"

#define SLAB_MERGED "slabs are merged: boot with slab_nomerge for a cache of its own"

static inline bool slab_is_own(const char *name)
{
	char path[128], text[64];

	snprintf(path, sizeof(path), "/sys/kernel/slab/%s/aliases", name);
	return !nsp_get(path, text, sizeof(text)) && !strcmp(text, "0");
}

/*
 * Objects in use.  SLUB counts what lies free in a slab that a CPU holds as
 * in use; shrinking the cache takes those slabs from the CPUs.
 */
static inline long slab_objects(const char *name)
{
	char path[128], line[512], found[64];
	long objects = -1, n;
	FILE *file;

	snprintf(path, sizeof(path), "/sys/kernel/slab/%s/shrink", name);
	nsp_put(path, "1");
	file = fopen("/proc/slabinfo", "r");
	if (!file)
		return -1;
	while (fgets(line, sizeof(line), file))
		if (sscanf(line, "%63s %ld", found, &n) == 2 &&
		    !strcmp(found, name))
			objects = n;
	fclose(file);
	return objects;
}

/*
 * The memory itself goes back after the release, by RCU, which is nothing a
 * flush promises: so look until the number is at most @most, or if it stays
 * above until it has not changed for a while.
 */
static inline long slab_settles(const char *name, long most)
{
	const struct timespec nap = { .tv_nsec = 10 * 1000 * 1000 };
	long n, last = -1;
	int same = 0;

	while (same < 30) {
		n = slab_objects(name);
		if (n <= most)
			return n;
		same = n == last ? same + 1 : 0;
		last = n;
		nanosleep(&nap, NULL);
	}
	return last;
}

#endif /* NSPROXY_SLAB_H */
