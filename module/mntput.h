/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef NSD_MNTPUT_H
#define NSD_MNTPUT_H

#include <linux/types.h>

int nsd_mntput_init(void);
bool nsd_mntput_finish(void);
void nsd_delayed_mntput(void);

#endif /* NSD_MNTPUT_H */
