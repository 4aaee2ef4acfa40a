// SPDX-License-Identifier: GPL-2.0-only
/*
 * Does the module's reader of BTF find what is there, and refuse what cannot be?
 *
 *	btf-test			on BTF that is made here, whole and damaged
 *	btf-test NAME FILE		on that of the kernel NAME, whole and damaged
 *
 * To be built with the address sanitizer: whatever it is given lies in memory of
 * just its size. Says what is wrong, one line each.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "../module/btf.c"

#define KFLAG		0x80
#define PLACES		2000

static int failed;

#define wrong(...) do {			\
	failed = 1;			\
	printf(__VA_ARGS__);		\
	putchar('\n');			\
} while (0)

/* What is being made. The names come first in it, so that nothing is behind the types. */
static u32 types[4 << 20], nr_words;
static char strings[4096];
static u32 strings_len, nr_types;

static void word(u32 value)
{
	types[nr_words++] = value;
}

static u32 text(const char *name)
{
	u32 at = strings_len;

	if (!*name)
		return 0;
	strcpy(strings + at, name);
	strings_len += strlen(name) + 1;
	return at;
}

static u32 type(const char *name, u32 kind, u32 elements, u32 value)
{
	word(text(name));
	word(kind << 24 | elements);
	word(value);
	return ++nr_types;
}

static void member(const char *name, u32 of, u32 bit)
{
	word(text(name));
	word(of);
	word(bit);
}

static u32 array(u32 of, u32 n)
{
	u32 id = type("", BTF_KIND_ARRAY, 0, 0);

	word(of);
	word(1);
	word(n);
	return id;
}

static u8 *copy(const void *data, size_t size)
{
	u8 *own = malloc(size);

	if (!own && size)
		abort();
	return size ? memcpy(own, data, size) : own;
}

static u8 *finish(size_t *size)
{
	struct btf_header h = {
		.magic = BTF_MAGIC, .version = BTF_VERSION, .hdr_len = HEADER_LEN,
		.type_off = strings_len, .type_len = 4 * nr_words, .str_len = strings_len,
	};
	u8 *data = malloc(HEADER_LEN + strings_len + 4 * nr_words);

	if (!data)
		abort();
	memcpy(data, &h, HEADER_LEN);
	memcpy(data + HEADER_LEN, strings, strings_len);
	memcpy(data + HEADER_LEN + strings_len, types, 4 * nr_words);
	*size = HEADER_LEN + strings_len + 4 * nr_words;
	return data;
}

/* Types 1 to 4, which the others are made of. */
enum { INT = 1, PTR, PAIR, WORD };

static void start(void)
{
	nr_words = 0;
	nr_types = 0;
	strings_len = 1;
	type("int", BTF_KIND_INT, 0, 4);
	word(1 << 24 | 32);
	type("", BTF_KIND_PTR, 0, PAIR);
	type("pair", BTF_KIND_STRUCT, 2, 16);
	member("first", PTR, 0);
	member("second", PTR, 64);
	type("word_t", BTF_KIND_TYPEDEF, 0, INT);
}

/* What there is to be found in "s" of whole(). */
static const struct want {
	const char *name;
	u32 offset;
	u32 size;
} wanted[] = {
	{ "pair", 0, 16 }, { "ptr", 16, 8 }, { "after", 28, 4 }, { "in_union", 32, 16 },
	{ "deep", 40, 8 }, { "qualified", 48, 4 }, { "matrix", 52, 24 }, { "enum", 76, 4 },
	{ "enum64", 80, 8 }, { "float", 88, 8 }, { "union", 96, 16 }, { "tail", 112, 0 },
};

/* Has all kinds, and other things than structs that are called "s". */
static void whole(void)
{
	u32 anonymous, deep, id, row, none, e, e64, f, u;

	start();
	type("s", BTF_KIND_FWD, 0, 0);
	type("s", BTF_KIND_TYPEDEF, 0, INT);
	id = type("", BTF_KIND_FUNC_PROTO, 2, INT);
	word(text("argument"));
	word(INT);
	word(0);
	word(0);
	type("s", BTF_KIND_FUNC, 2, id);
	id = type("s", BTF_KIND_VAR, 0, INT);
	word(1);
	type(".data", BTF_KIND_DATASEC, 2, 8);
	/* No name is as far away as these numbers. */
	member("", 0, 4);
	types[nr_words - 3] = id | 1 << 20;
	member("", 4, 4);
	types[nr_words - 3] = id | 1 << 20;
	type("tag", KIND_DECL_TAG, 0, PAIR);
	word(-1);
	e = type("enum", BTF_KIND_ENUM, 1, 4);
	word(text("RED"));
	word(-1);
	e64 = type("enum64", KIND_ENUM64 | KFLAG, 1, 8);
	member("BLUE", -1, -1);
	f = type("double", KIND_FLOAT, 0, 8);
	u = type("s", BTF_KIND_UNION, 2, 16);
	member("number", INT, 0);
	member("pair", PAIR, 0);
	deep = type("", BTF_KIND_STRUCT, 2, 16);
	member("shallow", PTR, 0);
	member("deep", PTR, 64);
	anonymous = type("", BTF_KIND_UNION, 2, 16);
	member("in_union", PAIR, 0);
	member("", deep, 0);
	row = array(array(WORD, 3), 2);
	none = array(PTR, 0);
	id = type("tag", KIND_TYPE_TAG, 0, WORD);
	id = type("", BTF_KIND_RESTRICT, 0, id);
	id = type("", BTF_KIND_VOLATILE, 0, id);
	id = type("", BTF_KIND_CONST, 0, id);
	type("s", BTF_KIND_STRUCT | KFLAG, 15, 120);
	member("pair", PAIR, 0);
	member("ptr", PTR, 128);
	member("bits", INT, 192 | 3 << 24);
	member("", INT, 195 | 5 << 24);
	member("bit", INT, 200 | 8 << 24);
	member("after", INT, 224);
	member("", anonymous, 256);
	member("qualified", id, 384);
	member("matrix", row, 416);
	member("enum", e, 608);
	member("enum64", e64, 640);
	member("float", f, 704);
	member("union", u, 768);
	member("tail", none, 896);
	member("last", PTR, 896);
}

static int look(struct nsd_btf *btf, const u8 *data, size_t size, const char *of,
		const char *name, u32 *offset, u32 *bytes)
{
	struct nsd_btf_struct s;
	int err = nsd_btf_open(btf, data, size);

	err = err ?: nsd_btf_struct(btf, of, &s);
	err = err ?: nsd_btf_member(btf, &s, name, offset, bytes);
	if (!err != !btf->reason)
		wrong("%s.%s: it returns %d and says: %s", of, name, err, btf->reason ?: "nothing");
	if (!err && (u64)*offset + *bytes > s.size)
		wrong("%s.%s: not in the struct", of, name);
	return err;
}

static void expect(const char *what, int err, const char *reason)
{
	struct nsd_btf btf;
	u32 offset, bytes;
	size_t size;
	u8 *data = finish(&size);
	int result = look(&btf, data, size, "s", "m", &offset, &bytes);

	if (result != err)
		wrong("%s: it returns %d and not %d", what, result, err);
	else if (err && !strstr(btf.reason, reason))
		wrong("%s: it says \"%s\" and not \"%s\"", what, btf.reason, reason);
	free(data);
}

static void find_whole(const u8 *data, size_t size, const char *what)
{
	struct nsd_btf btf;
	u32 offset, bytes;
	unsigned int i;

	for (i = 0; i < sizeof(wanted) / sizeof(*wanted); i++) {
		if (look(&btf, data, size, "s", wanted[i].name, &offset, &bytes))
			wrong("%s: %s: %s", what, wanted[i].name, btf.reason);
		else if (offset != wanted[i].offset || bytes != wanted[i].size)
			wrong("%s: %s is at %u and has %u bytes", what, wanted[i].name, offset,
			      bytes);
	}
}

static void test_whole(void)
{
	struct nsd_btf_struct s;
	struct btf_header h;
	struct nsd_btf btf;
	u32 offset, bytes;
	size_t size, n;
	u8 *data, *other;

	whole();
	data = finish(&size);
	find_whole(data, size, "whole");
	if (look(&btf, data, size, "s", "bit", &offset, &bytes) != -EINVAL)
		wrong("whole: it takes a bitfield for a number");
	if (look(&btf, data, size, "s", "none", &offset, &bytes) != -ENOENT)
		wrong("whole: it finds a member that is not there");
	if (look(&btf, data, size, "s", "", &offset, &bytes) != -ENOENT)
		wrong("whole: it finds a member without a name");
	if (look(&btf, data, size, "enum", "RED", &offset, &bytes) != -ENOENT)
		wrong("whole: it takes an enum for a struct");
	if (nsd_btf_struct(&btf, "s", &s) || btf.reason || s.size != 120)
		wrong("whole: the reason outlasts the struct");
	if (!nsd_btf_member(&btf, &s, "none", &offset, &bytes) || !btf.reason)
		wrong("whole: it has no reason");
	if (nsd_btf_member(&btf, &s, "ptr", &offset, &bytes) || btf.reason)
		wrong("whole: the reason outlasts the member");

	/* A header as long as that of 7.2, and the types first, at an odd address. */
	n = size + 9;
	other = calloc(1, n);
	if (!other)
		abort();
	memcpy(&h, data, HEADER_LEN);
	h.hdr_len = HEADER_LEN + 8;
	h.type_off = 1;
	h.str_off = 1 + h.type_len;
	memcpy(other, &h, HEADER_LEN);
	memcpy(other + HEADER_LEN + 9, data + HEADER_LEN + h.str_len, h.type_len);
	memcpy(other + HEADER_LEN + 9 + h.type_len, data + HEADER_LEN, h.str_len);
	find_whole(other, n, "a long header");
	free(other);
	free(data);
}

/* Any result will do that is no lie about itself, see look(). */
static void look_at(const u8 *data, size_t size)
{
	struct nsd_btf_struct s;
	struct nsd_btf btf;
	u32 offset, bytes;
	unsigned int i;

	if (look(&btf, data, size, "s", "deep", &offset, &bytes) == -EINVAL)
		return;
	if (nsd_btf_struct(&btf, "s", &s))
		return;
	for (i = 0; i < sizeof(wanted) / sizeof(*wanted); i++) {
		if (!nsd_btf_member(&btf, &s, wanted[i].name, &offset, &bytes) &&
		    (u64)offset + bytes > s.size)
			wrong("damaged: %s: not in the struct", wanted[i].name);
	}
}

static void test_damaged(void)
{
	struct btf_header h;
	size_t size, i;
	u8 *data, *cut;
	int bit;

	whole();
	data = finish(&size);
	for (i = 0; i < size; i++) {
		for (bit = 0; bit < 8; bit++) {
			data[i] ^= 1 << bit;
			look_at(data, size);
			data[i] ^= 1 << bit;
		}
		for (bit = 0; bit < 256; bit += 15) {
			u8 was = data[i];

			data[i] = bit;
			look_at(data, size);
			data[i] = was;
		}
	}
	memcpy(&h, data, HEADER_LEN);
	for (i = 0; i < size; i++) {
		struct nsd_btf btf;

		cut = copy(data, i);
		if (nsd_btf_open(&btf, cut, i) != -EINVAL)
			wrong("cut off at %zu: it is taken for whole", i);
		/* And with a header that does not tell. */
		if (i >= HEADER_LEN + h.str_len) {
			h.type_len = i - HEADER_LEN - h.str_len;
			memcpy(cut, &h, HEADER_LEN);
			look_at(cut, i);
		}
		free(cut);
	}
	free(data);
}

static void expect_header(const char *what, size_t at, u32 width, u32 value, const char *reason)
{
	struct nsd_btf btf;
	size_t size;
	u8 *data;

	whole();
	data = finish(&size);
	memcpy(data + at, &value, width);
	if (nsd_btf_open(&btf, data, size) != -EINVAL)
		wrong("%s: it is taken", what);
	else if (!strstr(btf.reason, reason))
		wrong("%s: it says \"%s\" and not \"%s\"", what, btf.reason, reason);
	free(data);
}

#define HEADER(field, value, reason)						\
	expect_header("header." #field " " #value, offsetof(struct btf_header, field),	\
		      sizeof(((struct btf_header *)0)->field), value, reason)

static void test_header(void)
{
	HEADER(magic, 0x9feb, "not BTF");
	HEADER(version, 2, "version");
	HEADER(flags, 1, "version");
	HEADER(hdr_len, 23, "possible length");
	HEADER(hdr_len, 4096, "possible length");
	HEADER(hdr_len, UINT32_MAX, "possible length");
	HEADER(type_off, 8192, "types are cut off");
	HEADER(type_off, UINT32_MAX, "types are cut off");
	HEADER(type_len, 8192, "types are cut off");
	HEADER(type_len, UINT32_MAX, "types are cut off");
	HEADER(str_off, 8192, "names are cut off");
	HEADER(str_off, UINT32_MAX, "names are cut off");
	HEADER(str_len, 8192, "names are cut off");
	HEADER(str_len, UINT32_MAX, "names are cut off");
	HEADER(str_len, 0, "begin and end");
	/* The last letter of "int" is then the last of all. */
	HEADER(str_len, 4, "begin and end");
	expect_header("a first name", HEADER_LEN, 1, 'x', "begin and end");
}

/* A struct "s" with members, each a NAME, TYPE and BIT, whatever is before it. */
#define STRUCT(size, n)		type("s", BTF_KIND_STRUCT, n, size)

static void test_structs(void)
{
	start();
	expect("no struct", -ENOENT, "no such struct");
	start();
	type("s", BTF_KIND_FWD, 0, 0);
	expect("a declaration only", -ENOENT, "no such struct");
	start();
	type("s", BTF_KIND_UNION, 1, 4);
	member("m", INT, 0);
	expect("a union", -ENOENT, "no such struct");
	start();
	STRUCT(4, 1);
	member("m", INT, 0);
	expect("a struct", 0, NULL);
	STRUCT(4, 1);
	member("m", INT, 0);
	expect("the struct twice", -EEXIST, "struct is there twice");
	start();
	STRUCT(0, 0);
	expect("an empty struct", -ENOENT, "no such member");
	start();
	STRUCT(4, 1);
	member("m", INT, 0);
	word(0);
	expect("four bytes more", -EINVAL, "last type is cut off");
	start();
	STRUCT(8, 2);
	member("m", INT, 0);
	expect("a member less", -EINVAL, "last type is cut off");
	start();
	STRUCT(4, 0xffffff);
	member("m", INT, 0);
	expect("very many members", -EINVAL, "last type is cut off");
	start();
	STRUCT(4, 0x10001);
	member("m", INT, 0);
	expect("more members than 16 bits hold", -EINVAL, "last type is cut off");
	start();
	type("", 0, 0, 0);
	expect("kind 0", -EINVAL, "unknown kind");
	start();
	type("", KIND_ENUM64 + 1, 0, 0);
	expect("kind 20", -EINVAL, "unknown kind");
	start();
	type("", 0x20 | BTF_KIND_INT, 0, 0);
	word(0);
	expect("kind 33", -EINVAL, "unknown kind");
	start();
	type("", 0x7f, 0, 0);
	expect("kind 127", -EINVAL, "unknown kind");
	start();
	STRUCT(4, 0);
	types[nr_words - 3] = strings_len;
	expect("a name behind the names", -EINVAL, "name of a type");
	start();
	STRUCT(4, 1);
	member("m", INT, 0);
	types[nr_words - 3] = strings_len;
	expect("a member's name behind the names", -EINVAL, "name of a member");
	start();
	type("", BTF_KIND_ENUM, 1, 4);
	word(-1);
	word(0);
	expect("an enumerator's name behind the names", -EINVAL, "name of a member");
	start();
	type("", BTF_KIND_FUNC_PROTO, 1, INT);
	word(-1);
	word(INT);
	expect("an argument's name behind the names", -EINVAL, "name of a member");
	start();
	type("", KIND_ENUM64, 1, 8);
	member("", 0, 0);
	types[nr_words - 3] = strings_len;
	expect("a long enumerator's name behind the names", -EINVAL, "name of a member");
}

static void test_members(void)
{
	u32 id, i;

	start();
	STRUCT(8, 2);
	member("m", INT, 0);
	member("m", INT, 32);
	expect("a member twice", -EEXIST, "member is there twice");
	start();
	id = type("", BTF_KIND_STRUCT, 1, 4);
	member("m", INT, 0);
	STRUCT(8, 2);
	member("", id, 0);
	member("m", INT, 32);
	expect("a member twice, once deeper", -EEXIST, "member is there twice");
	start();
	type("s", BTF_KIND_STRUCT | KFLAG, 1, 4);
	member("m", INT, 32 << 24);
	expect("a bitfield", -EINVAL, "bitfield");
	start();
	STRUCT(8, 1);
	member("m", INT, 4);
	expect("no multiple of 8", -EINVAL, "bitfield");
	start();
	id = array(INT, 0);
	STRUCT(8, 3);
	member("a", INT, 0);
	member("m", INT, 32);
	member("c", id, 64);
	expect("what fits", 0, NULL);
	start();
	id = array(INT, 1 << 20);
	STRUCT((1 << 22) + 4, 2);
	member("a", id, 0);
	member("m", INT, 1 << 25);
	expect("an offset of more than 24 bits", 0, NULL);
	start();
	STRUCT((1 << 29) + 1, 2);
	member("a", INT, 0);
	member("m", INT, 64);
	expect("a size of more than 32 bits", 0, NULL);
	start();
	STRUCT(8, 2);
	member("a", INT, 0);
	member("m", INT, 64);
	expect("an offset at the end", -EINVAL, "does not end where");
	start();
	STRUCT(8, 2);
	member("a", INT, 0);
	member("m", INT, 40);
	expect("an offset too high", -EINVAL, "does not end where");
	start();
	STRUCT(8, 2);
	member("a", INT, 0);
	member("m", INT, 24);
	expect("an offset too low", -EINVAL, "begins before");
	start();
	STRUCT(12, 3);
	member("a", INT, 0);
	member("m", INT, 40);
	member("c", INT, 64);
	expect("an offset into the next", -EINVAL, "does not end where");
	start();
	STRUCT(8, 2);
	member("a", INT, 0);
	member("m", INT, 65);
	expect("an offset beyond", -EINVAL, "begins behind its struct");
	start();
	STRUCT(8, 2);
	member("a", INT, 0);
	member("m", INT, -8);
	expect("an offset of -1", -EINVAL, "begins behind its struct");
	start();
	STRUCT(8, 2);
	member("a", INT, 32);
	member("m", INT, 0);
	expect("another order", -EINVAL, "not in their order");
	start();
	id = type("", BTF_KIND_UNION, 1, 8);
	member("m", INT, 32);
	STRUCT(8, 1);
	member("", id, 0);
	expect("an offset in a union", -EINVAL, "not in their order");
	start();
	id = type("", BTF_KIND_UNION, 1, 4);
	member("m", PTR, 0);
	STRUCT(8, 1);
	member("", id, 0);
	expect("too large for the union", -EINVAL, "does not end where");
	start();
	id = type("", BTF_KIND_STRUCT, 1, 8);
	member("m", INT, 0);
	STRUCT(8, 2);
	member("a", INT, 0);
	member("", id, 32);
	expect("too large within", -EINVAL, "does not end where");
	start();
	type("s", BTF_KIND_STRUCT | KFLAG, 2, 8);
	member("a", INT, 9 << 24);
	member("m", INT, 8);
	expect("behind a bitfield that is too long", -EINVAL, "begins before");
	start();
	STRUCT(8, 1);
	member("m", 0, 0);
	expect("void", -EINVAL, "type that is not there");
	start();
	STRUCT(8, 1);
	member("m", nr_types + 1, 0);
	expect("no such type", -EINVAL, "type that is not there");
	start();
	STRUCT(8, 1);
	member("m", -1, 0);
	expect("type -1", -EINVAL, "type that is not there");
	start();
	id = type("other", BTF_KIND_FWD, 0, 0);
	STRUCT(8, 1);
	member("m", id, 0);
	expect("a type without a size", -EINVAL, "without a size");
	start();
	id = type("other", BTF_KIND_FWD, 0, 0);
	STRUCT(8, 2);
	member("a", id, 0);
	member("m", INT, 32);
	expect("behind a type without a size", -EINVAL, "without a size");
	start();
	STRUCT(8, 1);
	member("", 77, 0);
	expect("an anonymous member of no type", -EINVAL, "type that is not there");

	start();
	type("loop", BTF_KIND_TYPEDEF, 0, nr_types + 1);
	STRUCT(8, 1);
	member("m", nr_types - 1, 0);
	expect("a typedef of itself", -EINVAL, "leads nowhere");
	start();
	type("loop", BTF_KIND_TYPEDEF, 0, nr_types + 2);
	type("", BTF_KIND_CONST, 0, nr_types);
	STRUCT(8, 1);
	member("m", nr_types - 1, 0);
	expect("a const typedef of itself", -EINVAL, "leads nowhere");
	start();
	array(nr_types + 1, 1);
	STRUCT(8, 1);
	member("m", nr_types - 1, 0);
	expect("an array of itself", -EINVAL, "larger than can be");
	start();
	id = array(array(INT, 1 << 16), 1 << 16);
	STRUCT(8, 1);
	member("m", id, 0);
	expect("an array of 2^34 bytes", -EINVAL, "larger than can be");
	start();
	id = array(INT, 1 << 30);
	STRUCT(8, 1);
	member("m", id, 0);
	expect("an array of 2^32 bytes", -EINVAL, "larger than can be");
	start();
	id = array(array(array(INT, -1), -1), -1);
	STRUCT(8, 1);
	member("m", id, 0);
	expect("an array of 2^98 bytes", -EINVAL, "larger than can be");
	start();
	id = array(INT, (1 << 30) - 1);
	STRUCT(-1, 1);
	member("m", id, 0);
	expect("an array of not quite 2^32 bytes", 0, NULL);

	start();
	id = type("", BTF_KIND_STRUCT, 1, 8);
	member("", nr_types, 0);
	STRUCT(8, 1);
	member("", id, 0);
	expect("anonymous in itself", -EINVAL, "too much is anonymous");
	start();
	id = type("", BTF_KIND_UNION, 50, 8);
	for (i = 0; i < 50; i++)
		member("", id, 0);
	STRUCT(8, 1);
	member("", id, 0);
	expect("fifty times in itself", -EINVAL, "too much is anonymous");
}

static void test_many(void)
{
	u32 i, max = NSD_BTF_STEP * NSD_BTF_MARKS;
	u32 at[] = { 8191, 8192, 8193, 16384, 16385, 20000, max - 1 };

	/* Type I has I bytes, wherever the marks are. */
	for (i = 0; i < sizeof(at) / sizeof(*at); i++) {
		start();
		while (nr_types < at[i])
			type("", KIND_FLOAT, 0, nr_types + 1);
		STRUCT(at[i], 1);
		member("m", at[i], 0);
		expect("many types", 0, NULL);
		types[nr_words - 4] = at[i] - 1;
		expect("many types, one byte less", -EINVAL, "does not end where");
	}
	type("", KIND_FLOAT, 0, 0);
	expect("too many types", -EINVAL, "too many types");
}

/* struct mount of 6.1, as far as it has to be known. */
struct two {
	void *pointer[2];
};

struct mount_6_1 {
	struct two mnt_hash;
	void *mnt_parent;
	void *mnt_mountpoint;
	struct {
		void *mnt_root, *mnt_sb;
		int mnt_flags;
		void *mnt_userns;
	} mnt;
	struct two mnt_rcu;
	void *mnt_pcp;
	struct two mnt_mounts, mnt_child, mnt_instance;
	const char *mnt_devname;
	struct two mnt_list, mnt_expire, mnt_share, mnt_slave_list, mnt_slave;
	void *mnt_master;
	void *mnt_ns;
	void *mnt_mp;
	struct two mnt_umount;
};

#define OFFSET_6_1(member)	{ #member, offsetof(struct mount_6_1, member),	\
				  sizeof(((struct mount_6_1 *)0)->member) }

static const struct want wanted_6_1[] = {
	OFFSET_6_1(mnt), OFFSET_6_1(mnt_rcu), OFFSET_6_1(mnt_pcp), OFFSET_6_1(mnt_mounts),
	OFFSET_6_1(mnt_instance), OFFSET_6_1(mnt_ns), OFFSET_6_1(mnt_umount),
	OFFSET_6_1(mnt_expire),
};

/* What the module asks for. The first are in every kernel. */
static const char * const of_mount[] = {
	"mnt", "mnt_rcu", "mnt_pcp", "mnt_mounts", "mnt_ns", "mnt_umount", "mnt_expire",
	"mnt_pins", "mnt_fsnotify_marks", "mnt_instance", "mnt_next_for_sb",
	"mnt_pprev_for_sb", "mnt_covers",
};

#define ALWAYS	7

static const char * const of_pcp[] = { "mnt_count", "mnt_gets", "mnt_puts" };
static const char * const of_ns[] = { "user_ns", "ucounts", "passive" };

/* How many of the members are there? Those behind the first @always may be missing. */
static int find_members(struct nsd_btf *btf, const char *of, const char * const *names,
			int nr, int always, bool say)
{
	struct nsd_btf_struct s;
	int i, found = 0, err = nsd_btf_struct(btf, of, &s);
	u32 offset, bytes;

	for (i = 0; !err && i < nr; i++) {
		err = nsd_btf_member(btf, &s, names[i], &offset, &bytes);
		if (!err) {
			found++;
			if ((u64)offset + bytes > s.size)
				wrong("%s.%s: not in the struct", of, names[i]);
			if (say)
				printf("%s.%s: offset %u, %u bytes\n", of, names[i], offset, bytes);
		} else if (err == -ENOENT && i >= always) {
			err = 0;
		}
	}
	if (err && !btf->reason)
		wrong("%s: it returns %d without a reason", of, err);
	return err ?: found;
}

static void find_all(const u8 *data, size_t size, bool say)
{
	struct nsd_btf btf;
	int mount, pcp, ns;

	if (nsd_btf_open(&btf, data, size)) {
		if (say)
			wrong("it is refused: %s", btf.reason);
		return;
	}
	mount = find_members(&btf, "mount", of_mount, sizeof(of_mount) / sizeof(*of_mount),
			     ALWAYS, say);
	if (say && mount <= ALWAYS)
		wrong("struct mount has not all its members: %s", btf.reason ?: "");
	pcp = find_members(&btf, "mnt_pcp", of_pcp, sizeof(of_pcp) / sizeof(*of_pcp), 0, say);
	if (say && pcp <= 0)
		wrong("struct mnt_pcp has no counter: %s", btf.reason ?: "");
	ns = find_members(&btf, "mnt_namespace", of_ns, sizeof(of_ns) / sizeof(*of_ns), 2, say);
	if (say && ns < 2)
		wrong("struct mnt_namespace has not all its members: %s", btf.reason ?: "");
}

static void compare_6_1(const u8 *data, size_t size)
{
	struct nsd_btf btf;
	u32 offset, bytes;
	unsigned int i;

	for (i = 0; i < sizeof(wanted_6_1) / sizeof(*wanted_6_1); i++) {
		const struct want *want = &wanted_6_1[i];

		if (look(&btf, data, size, "mount", want->name, &offset, &bytes) ||
		    offset != want->offset || bytes != want->size)
			wrong("%s is at %u and has %u bytes, in C %u and %u", want->name, offset,
			      bytes, want->offset, want->size);
	}
	if (look(&btf, data, size, "mnt_pcp", "mnt_count", &offset, &bytes) || offset || bytes != 4)
		wrong("mnt_count is at %u and has %u bytes", offset, bytes);
}

/* The same places in every run. */
static u32 any_of(u32 n)
{
	static u64 state = 1;

	state = state * 6364136223846793005 + 1442695040888963407;
	return (state >> 32) % n;
}

/* Of @places damages half are anywhere, and half in what is asked for. */
static void damage_kernel(u8 *data, size_t size, u32 places)
{
	struct nsd_btf_struct mount, pcp;
	struct btf_header h;
	struct nsd_btf btf, other;
	u32 i, at, n;
	u8 *cut, was;

	if (nsd_btf_open(&btf, data, size) || nsd_btf_struct(&btf, "mount", &mount) ||
	    nsd_btf_struct(&btf, "mnt_pcp", &pcp)) {
		wrong("it is not there to be damaged: %s", btf.reason);
		return;
	}
	for (i = 0; i < places; i++) {
		at = any_of(size);
		if (i % 8 == 1)
			at = btf.types - data + pcp.at + any_of(4 * 12);
		else if (i % 2)
			at = btf.types - data + mount.at + any_of(30 * 12);
		was = data[at];
		data[at] = any_of(4) ? was ^ 1U << any_of(8) : any_of(256);
		find_all(data, size, false);
		data[at] = was;
	}
	for (i = 0; i < places / 10; i++) {
		n = any_of(size);
		cut = copy(data, n);
		if (!nsd_btf_open(&other, cut, n))
			wrong("cut off at %u: it is taken for whole", n);
		free(cut);
		/* And with a header that does not tell: the names, then some of the types. */
		memcpy(&h, data, HEADER_LEN);
		h.hdr_len = HEADER_LEN;
		h.str_off = 0;
		h.type_off = h.str_len;
		h.type_len = any_of(h.type_len);
		n = HEADER_LEN + h.str_len + h.type_len;
		cut = malloc(n);
		if (!cut)
			abort();
		memcpy(cut, &h, HEADER_LEN);
		memcpy(cut + HEADER_LEN, btf.strings, h.str_len);
		memcpy(cut + h.type_off + HEADER_LEN, btf.types, h.type_len);
		find_all(cut, n, false);
		free(cut);
	}
}

static u8 *read_file(const char *path, size_t *size)
{
	FILE *file = fopen(path, "r");
	u8 *data;
	long n;

	if (!file || fseek(file, 0, SEEK_END))
		return NULL;
	n = ftell(file);
	rewind(file);
	data = n > 0 ? malloc(n) : NULL;
	if (!data || fread(data, 1, n, file) != (size_t)n)
		return NULL;
	fclose(file);
	*size = n;
	return data;
}

int main(int argc, char **argv)
{
	size_t size;
	u8 *data;

	if (argc < 3) {
		test_header();
		test_structs();
		test_members();
		test_whole();
		test_many();
		test_damaged();
		return failed;
	}
	data = read_file(argv[2], &size);
	if (!data) {
		wrong("%s cannot be read", argv[2]);
		return 1;
	}
	printf("%s, %zu bytes\n", argv[1], size);
	find_all(data, size, true);
	if (!strncmp(argv[1], "6.1-", 4))
		compare_6_1(data, size);
	damage_kernel(data, size, PLACES);
	free(data);
	return failed;
}
