// SPDX-License-Identifier: GPL-2.0-only
/*
 * A reader of BTF: find a struct, find a member of it, nothing more
 *
 * What it answers is where in the kernel's memory the module will write. So it
 * checks whatever can be checked, and where BTF contradicts itself there is no
 * answer, but a reason.
 *
 * The records of types have no fixed length, and nothing tells where the n-th is:
 * that takes a walk, which the marks keep short. Nothing aligns BTF in the kernel's
 * image either, so records are copied before they are looked at.
 */
#include <linux/errno.h>

#include "btf.h"

/* The header up to str_len; since 7.2 there is more of it. */
#define HEADER_LEN	24
/* Typedefs, qualifiers and dimensions between a member and the type that has a size. */
#define MAX_STEPS	32
/* A struct and what is anonymous in it, however deep; struct mount has three such. */
#define MAX_PARTS	16

/* A linux/btf.h as old as 5.10 lacks these kinds, or the names of all. */
#define KIND_FLOAT	16
#define KIND_DECL_TAG	17
#define KIND_TYPE_TAG	18
#define KIND_ENUM64	19

/*
 * What follows struct btf_type: @once bytes, and @each for every element. And
 * whether elements begin with a name, what kind stands for another type, and what
 * kind tells its size.
 */
enum { NAMED = 1, ALIAS = 2, SIZED = 4 };

static const struct {
	u8 once;
	u8 each;
	u8 is;
} kinds[128] = {
	[BTF_KIND_INT]		= { 4, 0, SIZED },
	[BTF_KIND_ARRAY]	= { sizeof(struct btf_array), 0, 0 },
	[BTF_KIND_STRUCT]	= { 0, sizeof(struct btf_member), NAMED | SIZED },
	[BTF_KIND_UNION]	= { 0, sizeof(struct btf_member), NAMED | SIZED },
	[BTF_KIND_ENUM]		= { 0, 8, NAMED | SIZED },
	[BTF_KIND_TYPEDEF]	= { 0, 0, ALIAS },
	[BTF_KIND_VOLATILE]	= { 0, 0, ALIAS },
	[BTF_KIND_CONST]	= { 0, 0, ALIAS },
	[BTF_KIND_RESTRICT]	= { 0, 0, ALIAS },
	[BTF_KIND_FUNC_PROTO]	= { 0, 8, NAMED },
	[BTF_KIND_VAR]		= { 4, 0, 0 },
	[BTF_KIND_DATASEC]	= { 0, 12, 0 },
	[KIND_FLOAT]		= { 0, 0, SIZED },
	[KIND_DECL_TAG]		= { 4, 0, 0 },
	[KIND_TYPE_TAG]		= { 0, 0, ALIAS },
	[KIND_ENUM64]		= { 0, 12, NAMED | SIZED },
};

static int refuse(struct nsd_btf *btf, int err, const char *reason)
{
	btf->reason = reason;
	return err;
}

/* Up to 7.1 a kind has five bits and the number 16; those that came later are 0. */
static u32 kind_of(const struct btf_type *t)
{
	return t->info >> 24 & 0x7f;
}

static u32 elements_of(const struct btf_type *t)
{
	return t->info & 0xffffff;
}

static bool has_members(const struct btf_type *t)
{
	return kind_of(t) == BTF_KIND_STRUCT || kind_of(t) == BTF_KIND_UNION;
}

/* The bits of a bitfield, or 0. A struct without any has longer offsets. */
static u32 field_bits(const struct btf_type *t, const struct btf_member *m)
{
	return t->info >> 31 ? m->offset >> 24 : 0;
}

static u32 first_bit(const struct btf_type *t, const struct btf_member *m)
{
	return t->info >> 31 ? m->offset & 0xffffff : m->offset;
}

/* Returns the length of the record, which only nsd_btf_open() has to check. */
static u32 read_type(const struct nsd_btf *btf, u32 at, struct btf_type *t)
{
	memcpy(t, btf->types + at, sizeof(*t));
	return sizeof(*t) + kinds[kind_of(t)].once + kinds[kind_of(t)].each * elements_of(t);
}

static void read_member(const struct nsd_btf *btf, u32 at, u32 i, struct btf_member *m)
{
	memcpy(m, btf->types + at + sizeof(struct btf_type) + i * sizeof(*m), sizeof(*m));
}

/* The names of a record, and where its members begin: the kernel's own rules. */
static int check_type(struct nsd_btf *btf, u32 at, const struct btf_type *t)
{
	u32 name, bit, last = 0, i;
	struct btf_member m;

	if (t->name_off >= btf->strings_len)
		return refuse(btf, -EINVAL, "the name of a type is not among the names");
	for (i = 0; kinds[kind_of(t)].is & NAMED && i < elements_of(t); i++) {
		memcpy(&name, btf->types + at + sizeof(*t) + i * kinds[kind_of(t)].each,
		       sizeof(name));
		if (name >= btf->strings_len)
			return refuse(btf, -EINVAL, "the name of a member is not among the names");
		if (!has_members(t))
			continue;
		read_member(btf, at, i, &m);
		bit = first_bit(t, &m);
		if (bit < last || (bit && kind_of(t) == BTF_KIND_UNION))
			return refuse(btf, -EINVAL, "members are not in their order");
		if (bit > 8ULL * t->size)
			return refuse(btf, -EINVAL, "a member begins behind its struct");
		last = bit;
	}
	return 0;
}

static int check_types(struct nsd_btf *btf)
{
	struct btf_type t;
	u32 at, len, left;
	int err;

	for (at = 0; at < btf->types_len; at += len) {
		if (btf->nr_types == NSD_BTF_STEP * NSD_BTF_MARKS)
			return refuse(btf, -EINVAL, "there are too many types");
		if (btf->nr_types % NSD_BTF_STEP == 0)
			btf->marks[btf->nr_types / NSD_BTF_STEP] = at;
		btf->nr_types++;
		left = btf->types_len - at;
		len = left < sizeof(t) ? sizeof(t) : read_type(btf, at, &t);
		if (left < len)
			return refuse(btf, -EINVAL, "the last type is cut off");
		if (!kind_of(&t) || kind_of(&t) > KIND_ENUM64)
			return refuse(btf, -EINVAL, "a type is of an unknown kind");
		err = check_type(btf, at, &t);
		if (err)
			return err;
	}
	return 0;
}

/**
 * nsd_btf_open - see whether it is BTF, and complete
 * @btf: what to read it by from then on; after a failure, good for the reason only
 * @data: where it is; it must stay there, and not change
 * @size: how many bytes it has
 *
 * Context: any, takes some milliseconds for a whole kernel.
 * Return: 0; -EINVAL, and @btf->reason says why.
 */
int nsd_btf_open(struct nsd_btf *btf, const void *data, size_t size)
{
	struct btf_header header;

	memset(btf, 0, sizeof(*btf));
	if (size < HEADER_LEN)
		return refuse(btf, -EINVAL, "the header is cut off");
	memcpy(&header, data, HEADER_LEN);
	if (header.magic != BTF_MAGIC || header.version != BTF_VERSION || header.flags)
		return refuse(btf, -EINVAL, "it is not BTF, or of an unknown version");
	if (header.hdr_len < HEADER_LEN || header.hdr_len > size)
		return refuse(btf, -EINVAL, "the header is of no possible length");
	data += header.hdr_len;
	size -= header.hdr_len;
	if (header.type_off > size || header.type_len > size - header.type_off)
		return refuse(btf, -EINVAL, "the types are cut off");
	if (header.str_off > size || header.str_len > size - header.str_off)
		return refuse(btf, -EINVAL, "the names are cut off");
	btf->types = data + header.type_off;
	btf->types_len = header.type_len;
	btf->strings = data + header.str_off;
	btf->strings_len = header.str_len;
	if (!btf->strings_len || btf->strings[0] || btf->strings[btf->strings_len - 1])
		return refuse(btf, -EINVAL, "the names do not begin and end as names do");
	return check_types(btf);
}

/* Type @id without typedefs and qualifiers. They count from 1; 0 is void. */
static int find_type(struct nsd_btf *btf, u32 id, u32 *at, struct btf_type *t)
{
	u32 len, n;
	int i;

	for (i = 0; i < MAX_STEPS; i++) {
		if (!id || id > btf->nr_types)
			return refuse(btf, -EINVAL, "a member is of a type that is not there");
		*at = btf->marks[(id - 1) / NSD_BTF_STEP];
		len = read_type(btf, *at, t);
		for (n = (id - 1) % NSD_BTF_STEP; n; n--) {
			*at += len;
			len = read_type(btf, *at, t);
		}
		if (!(kinds[kind_of(t)].is & ALIAS))
			return 0;
		id = t->type;
	}
	return refuse(btf, -EINVAL, "a typedef leads nowhere");
}

static int size_of(struct nsd_btf *btf, u32 id, u32 *size)
{
	struct btf_array array = { .nelems = 1, .type = id };
	struct btf_type t;
	u64 bytes = 1;
	u32 at;
	int err, i;

	*size = 0;
	for (i = 0; i < MAX_STEPS && bytes >> 32 == 0; i++) {
		err = find_type(btf, array.type, &at, &t);
		if (err)
			return err;
		if (kind_of(&t) == BTF_KIND_ARRAY) {
			memcpy(&array, btf->types + at + sizeof(t), sizeof(array));
			bytes *= array.nelems;
			continue;
		}
		if (kind_of(&t) != BTF_KIND_PTR && !(kinds[kind_of(&t)].is & SIZED))
			return refuse(btf, -EINVAL, "a member is of a type without a size");
		bytes *= kind_of(&t) == BTF_KIND_PTR ? sizeof(long) : t.size;
		*size = bytes;
		if (bytes == *size)
			return 0;
	}
	return refuse(btf, -EINVAL, "an array is larger than can be");
}

/* Where is member @i, if that is believable: inside, and clear of its neighbours? */
static int place(struct nsd_btf *btf, u32 at, const struct btf_type *t, u32 i,
		 u32 *offset, u32 *size)
{
	u64 begin, end, limit = 8ULL * t->size;
	struct btf_member m;
	u32 before;
	int err;

	read_member(btf, at, i, &m);
	begin = first_bit(t, &m);
	if (field_bits(t, &m) || begin % 8)
		return refuse(btf, -EINVAL, "the member is a bitfield");
	err = size_of(btf, m.type, size);
	if (err)
		return err;
	*offset = begin / 8;
	end = begin + 8ULL * *size;
	if (kind_of(t) == BTF_KIND_STRUCT && i + 1 < elements_of(t)) {
		read_member(btf, at, i + 1, &m);
		limit = first_bit(t, &m);
	}
	if (end > limit)
		return refuse(btf, -EINVAL, "the member does not end where it should");
	if (kind_of(t) == BTF_KIND_UNION || !i)
		return 0;
	read_member(btf, at, i - 1, &m);
	err = size_of(btf, m.type, &before);
	if (err)
		return err;
	limit = first_bit(t, &m) + (field_bits(t, &m) ?: 8ULL * before);
	if (limit > begin)
		return refuse(btf, -EINVAL, "the member begins before it should");
	return 0;
}

/**
 * nsd_btf_struct - find a struct
 * @btf: where
 * @name: what it is called
 * @found: becomes the struct
 *
 * Context: any, takes a millisecond for a whole kernel.
 * Return: 0; -ENOENT if there is none, or only declared; -EEXIST if there are two,
 * since nothing tells which is meant. @btf->reason says why.
 */
int nsd_btf_struct(struct nsd_btf *btf, const char *name, struct nsd_btf_struct *found)
{
	struct btf_type t;
	bool any = false;
	u32 at, len;

	btf->reason = NULL;
	for (at = 0; at < btf->types_len; at += len) {
		len = read_type(btf, at, &t);
		if (kind_of(&t) != BTF_KIND_STRUCT || strcmp(btf->strings + t.name_off, name))
			continue;
		if (any)
			return refuse(btf, -EEXIST, "the struct is there twice");
		any = true;
		found->at = at;
		found->size = t.size;
	}
	return any ? 0 : refuse(btf, -ENOENT, "there is no such struct");
}

/**
 * nsd_btf_member - find a member of a struct, or of what is anonymous in it
 * @btf: where
 * @of: the struct
 * @name: what the member is called
 * @offset: becomes its offset in the struct, in bytes
 * @size: becomes its size, in bytes
 *
 * Context: any.
 * Return: 0; -ENOENT if there is none; -EEXIST if there are two; -EINVAL if what BTF
 * says of it cannot be. @btf->reason says why.
 */
int nsd_btf_member(struct nsd_btf *btf, const struct nsd_btf_struct *of, const char *name,
		   u32 *offset, u32 *size)
{
	struct nsd_btf_part {
		u32 at;
		u32 offset;
	} parts[MAX_PARTS] = { { .at = of->at } };
	u32 p, i, at, where, bytes, nr = 1;
	struct btf_type t, type;
	struct btf_member m;
	bool any = false;
	const char *its;
	int err;

	btf->reason = NULL;
	for (p = 0; p < nr; p++) {
		read_type(btf, parts[p].at, &t);
		for (i = 0; i < elements_of(&t); i++) {
			read_member(btf, parts[p].at, i, &m);
			its = btf->strings + m.name_off;
			if (*its && strcmp(its, name))
				continue;
			err = find_type(btf, m.type, &at, &type);
			if (err)
				return err;
			if (!*its && !has_members(&type))
				continue;
			err = place(btf, parts[p].at, &t, i, &where, &bytes);
			if (err)
				return err;
			where += parts[p].offset;
			if (!*its) {
				if (nr == MAX_PARTS)
					return refuse(btf, -EINVAL, "too much is anonymous");
				parts[nr++] = (struct nsd_btf_part){ at, where };
				continue;
			}
			if (any)
				return refuse(btf, -EEXIST, "the member is there twice");
			any = true;
			*offset = where;
			*size = bytes;
		}
	}
	return any ? 0 : refuse(btf, -ENOENT, "there is no such member");
}
