/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef NSD_COMPAT_GP_H
#define NSD_COMPAT_GP_H

void nsd_gp_init(void);
unsigned long nsd_gp_seq(void);

#endif /* NSD_COMPAT_GP_H */
