/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef NSD_SYMBOLS_H
#define NSD_SYMBOLS_H

int nsd_symbols_init(void);
unsigned long nsd_symbol(const char *name);

#endif /* NSD_SYMBOLS_H */
