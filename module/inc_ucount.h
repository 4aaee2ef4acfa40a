/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef NSD_INC_UCOUNT_H
#define NSD_INC_UCOUNT_H

#include <linux/types.h>
#include <linux/uidgid.h>
#include <linux/user_namespace.h>

#include "compat/compat.h"

int nsd_inc_ucount_init(void);
void nsd_inc_ucount_exit(void);

/* For the table of hooks. */
struct ucounts *nsd_replace_inc_ucount(struct user_namespace *ns, kuid_t uid,
				       enum ucount_type type);
bool nsd_wants_inc_ucount(struct nsd_ftrace_regs *fregs);
void nsd_set_inc_ucount(unsigned long address);

#endif /* NSD_INC_UCOUNT_H */
