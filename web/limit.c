/*
 * The rate is a token bucket told by one number, the time at which the bucket will be full again ("GCRA"): a request puts it further into the
 * future by its share, and is refused when that would be further than a burst. An entry whose time is past and that has no connection says nothing
 * that an empty one does not: it is the first to be given to another address.
 */
#include "web/limit.h"

#include <openssl/rand.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

enum {
	WAYS = 4,	       /* entries of a line: one cache line */
	USUAL_LINES = 16384,   /* 65,536 addresses in 1 MiB, of which the untouched part is never had */
	COUNT_BITS = 16,
	COUNT_MASK = (1 << COUNT_BITS) - 1,
};

struct limit_entry {
	/* The upper 48 bits say whose it is, the lower 16 how many connections it has: it changes hands only while there are none. */
	_Atomic uint64_t owner;
	_Atomic uint64_t full_us;
};

struct line {
	_Alignas(64) struct limit_entry entries[WAYS];
};

struct limit_table {
	uint64_t secret;
	unsigned mask;
	struct line lines[];
};

struct limit_table *limit_table_new(unsigned lines)
{
	unsigned count = lines ? lines : USUAL_LINES;
	size_t size = sizeof(struct limit_table) + count * sizeof(struct line);
	struct limit_table *table;
	uint64_t secret;

	if (RAND_bytes((unsigned char *)&secret, sizeof(secret)) != 1)
		return NULL;
	/* Fresh pages are zero and are had when they are first written: a table that is not used costs nothing. */
	table = aligned_alloc(64, (size + 63) / 64 * 64);
	if (!table)
		return NULL;
	memset(table, 0, size);
	table->secret = secret;
	table->mask = count - 1;
	return table;
}

void limit_table_free(struct limit_table *table)
{
	free(table);
}

/* ---- Whose entry ---- */

static uint64_t hash(const struct limit_table *table, const struct address *address)
{
	return XXH3_64bits_withSeed(address->bytes, address_is_v4(address) ? ADDRESS_BYTES : ADDRESS_BYTES / 2, table->secret);
}

/* Never 0: that is nobody's. */
static uint64_t tag_of(uint64_t hash)
{
	uint64_t tag = hash & ~(uint64_t)COUNT_MASK;

	return tag ? tag : (uint64_t)1 << COUNT_BITS;
}

static bool is_tag(uint64_t owner, uint64_t tag)
{
	return (owner & ~(uint64_t)COUNT_MASK) == tag;
}

static struct limit_entry *find(struct line *line, uint64_t tag)
{
	for (int i = 0; i < WAYS; i++)
		if (is_tag(atomic_load_explicit(&line->entries[i].owner, memory_order_relaxed), tag))
			return &line->entries[i];
	return NULL;
}

/* The one that is missed least: without connections, and full the longest. */
static struct limit_entry *find_victim(struct line *line, uint64_t *owner)
{
	struct limit_entry *best = NULL;
	uint64_t best_us = UINT64_MAX;

	for (int i = 0; i < WAYS; i++) {
		struct limit_entry *e = &line->entries[i];
		uint64_t now = atomic_load_explicit(&e->owner, memory_order_relaxed);
		uint64_t full_us = now ? atomic_load_explicit(&e->full_us, memory_order_relaxed) : 0;

		if (!(now & COUNT_MASK) && (!best || full_us < best_us)) {
			best = e;
			best_us = full_us;
			*owner = now;
		}
	}
	return best;
}

/* Two threads may take two entries for the same address at once: the second is found by nobody afterwards and ages. */
static struct limit_entry *entry_of(struct limit_table *table, const struct address *address, uint64_t *tag)
{
	uint64_t h = hash(table, address);
	struct line *line = &table->lines[h & table->mask];

	*tag = tag_of(h);
	for (;;) {
		struct limit_entry *e = find(line, *tag);
		uint64_t owner = 0;

		if (e)
			return e;
		e = find_victim(line, &owner);
		if (!e)
			return NULL;
		if (!atomic_compare_exchange_strong_explicit(&e->owner, &owner, *tag, memory_order_relaxed, memory_order_relaxed))
			continue;
		atomic_store_explicit(&e->full_us, 0, memory_order_relaxed);
		return e;
	}
}

/* ---- Requests ---- */

uint64_t limit_take_request(struct limit_table *table, const struct address *address, unsigned per_second, unsigned burst, uint64_t now_us)
{
	uint64_t share = 1000000 / per_second ? 1000000 / per_second : 1;
	uint64_t room = share * (burst ? burst : 1), full, tag;
	struct limit_entry *e;

	if (!address->known)
		return 0;
	e = entry_of(table, address, &tag);
	if (!e)
		return 0;
	full = atomic_load_explicit(&e->full_us, memory_order_relaxed);
	for (;;) {
		uint64_t next = (full > now_us ? full : now_us) + share;

		if (next > now_us + room)
			return next - now_us - room;
		if (atomic_compare_exchange_weak_explicit(&e->full_us, &full, next, memory_order_relaxed, memory_order_relaxed))
			return 0;
	}
}

/* ---- Connections ---- */

/* Counts one more if there is room. False: the entry is somebody else's by now. */
static bool count(struct limit_entry *e, uint64_t tag, unsigned max, bool *has_room)
{
	uint64_t owner = atomic_load_explicit(&e->owner, memory_order_relaxed);

	for (;;) {
		if (!is_tag(owner, tag))
			return false;
		*has_room = (owner & COUNT_MASK) < max && (owner & COUNT_MASK) < COUNT_MASK;
		if (!*has_room)
			return true;
		if (atomic_compare_exchange_weak_explicit(&e->owner, &owner, owner + 1, memory_order_relaxed, memory_order_relaxed))
			return true;
	}
}

bool limit_enter(struct limit_table *table, const struct address *address, unsigned max, struct limit_entry **out)
{
	bool has_room = true;
	uint64_t tag;

	*out = NULL;
	if (!address->known)
		return true;
	for (;;) {
		struct limit_entry *e = entry_of(table, address, &tag);

		if (!e)
			return true;
		if (!count(e, tag, max, &has_room))
			continue;
		*out = has_room ? e : NULL;
		return has_room;
	}
}

void limit_leave(struct limit_entry *entry)
{
	if (entry)
		atomic_fetch_sub_explicit(&entry->owner, 1, memory_order_relaxed);
}
