#include "sql/recall.h"

#include <stdlib.h>
#include <string.h>

#include "sql/lexer.h"

/* SHAPE_BYTES is a multiple of eight: hashing and comparing go by words. */
enum { SLOTS = 256, TEXT_MAX = 256, SHAPE_BYTES = 256 };

struct shape {
	uint64_t hash;	  /* of all below */
	uint64_t context; /* what the judgement depends on besides the text */
	uint64_t len;	  /* 0 only of an empty slot: an empty text is not kept */
	uint64_t words[SHAPE_BYTES / 8]; /* zeros behind the end, to the end of that word */
};

struct slot {
	struct sql_meaning meaning; /* its `functions` are not set: there are none */
	struct shape shape;
};

struct sql_recall {
	uint64_t found;
	struct slot slots[SLOTS];
};

struct sql_recall *sql_recall_new(void)
{
	return calloc(1, sizeof(struct sql_recall));
}

void sql_recall_free(struct sql_recall *recall)
{
	free(recall);
}

uint64_t sql_recall_found(const struct sql_recall *recall)
{
	return recall->found;
}

/* ---- Shapes ---- */

enum byte_class {
	BYTE_STOP,  /* may be a comment, a variable, an escape, another statement: not for this road */
	BYTE_PLAIN,
	BYTE_NAME,  /* of names and words */
	BYTE_DIGIT, /* of a number, or of a name when it stands behind one */
	BYTE_MINUS,
	BYTE_QUOTE,
	BYTE_BACKQUOTE,
};

static const uint8_t classes[256] = {
	['\t'] = BYTE_PLAIN, ['\n'] = BYTE_PLAIN, ['\r'] = BYTE_PLAIN, [' '] = BYTE_PLAIN, ['!'] = BYTE_PLAIN, ['%'] = BYTE_PLAIN,
	['('] = BYTE_PLAIN, [')'] = BYTE_PLAIN, ['*'] = BYTE_PLAIN, ['+'] = BYTE_PLAIN, [','] = BYTE_PLAIN, ['.'] = BYTE_PLAIN,
	['<'] = BYTE_PLAIN, ['='] = BYTE_PLAIN, ['>'] = BYTE_PLAIN, ['A' ... 'Z'] = BYTE_NAME, ['a' ... 'z'] = BYTE_NAME,
	['_'] = BYTE_NAME, ['0' ... '9'] = BYTE_DIGIT, ['-'] = BYTE_MINUS, ['\''] = BYTE_QUOTE, ['`'] = BYTE_BACKQUOTE,
};

/* Behind the digits at `at`; NULL when they are the beginning of something else: 1e5, 0x1f, 2nd, 3$. */
static const unsigned char *number_end(const unsigned char *at, const unsigned char *end)
{
	while (at < end && classes[*at] == BYTE_DIGIT)
		at++;
	return at < end && (classes[*at] == BYTE_NAME || classes[*at] == BYTE_STOP) ? NULL : at;
}

/* Behind the string at `at`; NULL when there is an escape or a doubled quote in it, or no end. */
static const unsigned char *string_end(const unsigned char *at, const unsigned char *end)
{
	for (at = bytes_find_quote(at + 1, end, '\''); at < end && *at != '\''; at++)
		if (*at == '\\')
			return NULL;
	if (at == end || (at + 1 < end && at[1] == '\''))
		return NULL;
	return at + 1;
}

/* Names in backquotes stay as they are. */
static const unsigned char *name_end(const unsigned char *at, const unsigned char *end)
{
	const unsigned char *close = memchr(at + 1, '`', (size_t)(end - at) - 1);

	return close ? close + 1 : NULL;
}

static const unsigned char *special_end(const unsigned char *at, const unsigned char *end, bool behind_name)
{
	switch (classes[*at]) {
	case BYTE_DIGIT:
		return number_end(at, end);
	case BYTE_QUOTE:
		return behind_name ? NULL : string_end(at, end); /* x'1f' and _utf8'a' are one thing */
	case BYTE_BACKQUOTE:
		return name_end(at, end);
	case BYTE_MINUS:
		return at + 1 < end && at[1] == '-' ? NULL : at + 1;
	default:
		return NULL;
	}
}

/* The shape of a text; false when this road is not for it. One sign for each number and each string: neither is in a shape otherwise,
 * except inside of names, so that two texts of the same shape consist of the same tokens. */
static bool shape_of(const unsigned char *text, size_t len, struct shape *shape)
{
	const unsigned char *at = text, *const end = text + len;
	unsigned char *out = (unsigned char *)shape->words, *const full = out + SHAPE_BYTES - 8;
	bool behind_name = false;

	while (at < end && out < full) {
		unsigned class = classes[*at];
		const unsigned char *next;

		if (class == BYTE_PLAIN || class == BYTE_NAME || (class == BYTE_DIGIT && behind_name)) {
			behind_name = class != BYTE_PLAIN;
			*out++ = *at++;
			continue;
		}
		next = special_end(at, end, behind_name);
		if (!next || (class == BYTE_BACKQUOTE && next - at > full - out))
			return false;
		if (class == BYTE_BACKQUOTE) {
			memcpy(out, at, (size_t)(next - at));
			out += next - at;
		} else {
			*out++ = class == BYTE_DIGIT ? '0' : *at;
		}
		/* A number is not followed by a name. */
		behind_name = false;
		at = next;
	}
	shape->len = (size_t)(out - (unsigned char *)shape->words);
	memset(out, 0, 8);
	return at == end;
}

static uint64_t context_key(const struct sql_context *c)
{
	return (uint64_t)c->version << 8 | (unsigned)c->utf8 << 5 | (unsigned)c->flavour << 4 | (unsigned)c->ansi_quotes << 3 |
	       (unsigned)c->no_backslash_escapes << 2 | (unsigned)c->oracle << 1 | (unsigned)c->multi_statements;
}

static uint64_t mix(uint64_t hash, uint64_t word)
{
	hash = (hash ^ word) * UINT64_C(0x9e3779b97f4a7c15);
	return hash ^ hash >> 32;
}

static uint64_t hash_of(const struct shape *shape)
{
	uint64_t hash = mix(shape->context, shape->len);

	for (size_t i = 0; i < shape->len; i += 8)
		hash = mix(hash, shape->words[i / 8]);
	return hash;
}

static bool same(const struct shape *a, const struct shape *b)
{
	return a->hash == b->hash && a->context == b->context && a->len == b->len && !memcmp(a->words, b->words, a->len);
}

/* ---- The memory ---- */

/* The ordinary kind: no value in the text changes what is said of it, and nothing that is said points into the text. */
static bool is_ordinary(const struct sql_meaning *m)
{
	const uint64_t ordinary = SQL_F_LOCKING_READ | SQL_F_OPENS_TRX | SQL_F_ENDS_TRX;

	if (m->facts & ~ordinary || m->parts != 1 || m->hint != SQL_HINT_NONE || m->function_count)
		return false;
	switch (m->verb) {
	case SQL_SELECT:
	case SQL_INSERT:
	case SQL_REPLACE:
	case SQL_UPDATE:
	case SQL_DELETE:
	case SQL_BEGIN:
	case SQL_COMMIT:
	case SQL_ROLLBACK:
		return true;
	default:
		return false;
	}
}

static void copy_ordinary(struct sql_meaning *to, const struct sql_meaning *from)
{
	const size_t behind = offsetof(struct sql_meaning, functions) + sizeof(to->functions);

	memcpy(to, from, offsetof(struct sql_meaning, functions));
	memset((char *)to + behind, 0, sizeof(*to) - behind);
}

/* False: not to be recalled. */
static bool describe(struct shape *shape, const struct sql_context *context, const char *text, size_t len)
{
	/* Wide characters may hide quotes. */
	if (!len || len > TEXT_MAX || context->charset != SQL_CHARSET_SAFE || !shape_of((const unsigned char *)text, len, shape))
		return false;
	shape->context = context_key(context);
	shape->hash = hash_of(shape);
	return true;
}

void sql_recall_classify(struct sql_recall *recall, const struct sql_context *context, const char *text, size_t len,
			 struct sql_meaning *out)
{
	struct shape shape;
	bool described = describe(&shape, context, text, len);
	struct slot *slot = described ? &recall->slots[shape.hash >> 32 & (SLOTS - 1)] : NULL;

	if (slot && same(&slot->shape, &shape)) {
		copy_ordinary(out, &slot->meaning);
		recall->found++;
		return;
	}
	sql_classify(context, text, len, out);
	if (!slot || !is_ordinary(out))
		return;
	if (out->verb == SQL_SELECT)
		out->found = (uint8_t)sql_found_after(out, text, len);
	copy_ordinary(&slot->meaning, out);
	memcpy(&slot->shape, &shape, offsetof(struct shape, words) + shape.len);
}
