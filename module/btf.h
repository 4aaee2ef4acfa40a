/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef NSD_BTF_H
#define NSD_BTF_H

/* qemu/btf-test.c runs the very same reader as a program. */
#ifdef __KERNEL__
#include <linux/string.h>
#include <linux/types.h>
#include <uapi/linux/btf.h>
#else
#include <linux/btf.h>
#include <linux/types.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

typedef __u8 u8;
typedef __u32 u32;
typedef __u64 u64;
#endif

/* Every so many types there is a mark, and room for as many as the kernel takes. */
#define NSD_BTF_STEP	8192
#define NSD_BTF_MARKS	128

/**
 * struct nsd_btf - BTF, found to be in order
 * @reason: why the last call failed, a text that lasts; NULL if it did not
 * @types: the records of all types, one after the other
 * @strings: the names
 * @types_len: how many bytes of records there are
 * @strings_len: how many bytes of names there are
 * @nr_types: how many records there are
 * @marks: where in @types the first record is, and every NSD_BTF_STEP-th after it
 *
 * Half a kilobyte, which is much for a stack.
 */
struct nsd_btf {
	const char *reason;
	const u8 *types;
	const char *strings;
	u32 types_len;
	u32 strings_len;
	u32 nr_types;
	u32 marks[NSD_BTF_MARKS];
};

/**
 * struct nsd_btf_struct - a struct that was found
 * @at: where in the records it is
 * @size: its size in bytes
 */
struct nsd_btf_struct {
	u32 at;
	u32 size;
};

int nsd_btf_open(struct nsd_btf *btf, const void *data, size_t size);
int nsd_btf_struct(struct nsd_btf *btf, const char *name, struct nsd_btf_struct *found);
int nsd_btf_member(struct nsd_btf *btf, const struct nsd_btf_struct *of, const char *name,
		   u32 *offset, u32 *size);

#endif /* NSD_BTF_H */
