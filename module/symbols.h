/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef NSD_SYMBOLS_H
#define NSD_SYMBOLS_H

int nsd_symbols_init(void);
unsigned long nsd_symbol(const char *name);
int nsd_symbols_need(const char * const *names, unsigned long *found, int nr);

#endif /* NSD_SYMBOLS_H */
