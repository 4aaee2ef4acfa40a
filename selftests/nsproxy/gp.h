/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef NSPROXY_GP_H
#define NSPROXY_GP_H

#include <stdbool.h>
#include <sys/types.h>

#ifndef ARRAY_SIZE
#define ARRAY_SIZE(array) (sizeof(array) / sizeof((array)[0]))
#endif

/*
 * Count the waits for an RCU grace period that a task and its children make.
 *
 *	if (gp_open())
 *		fail(gp_error());
 *	gp_begin();
 *	operation();
 *	n = gp_end();
 *	gp_close();
 *
 * A count is exact on any machine, where a time is not.  All calls return a
 * negative value when the count could not be trusted, and gp_error() says why;
 * a 0 from gp_end() means that tracing was seen to work and saw nothing.
 */
int gp_open(void);
int gp_begin(void);
long gp_end(void);
void gp_close(void);

/* Count for @tid too, a task that was there before gp_begin(). */
void gp_follow(pid_t tid);

/* Say what gp_end() counted, one "function <- caller" a line. */
const char *gp_calls(void);

const char *gp_error(void);

/*
 * Count the grace periods of the whole machine, normal and expedited, whoever
 * asked for them: gp_all_count() says how many have ended since gp_all_open().
 * A kernel that does not show all of them to ftrace fails to open.
 */
int gp_all_open(void);
long gp_all_count(void);
void gp_all_close(void);

/* Has this kernel what counting takes, dynamic ftrace? */
bool gp_possible(void);

/* Where tracefs is, or NULL; then gp_error() says why. */
const char *gp_tracing(void);

#endif /* NSPROXY_GP_H */
