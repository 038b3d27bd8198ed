#include "proxy/session/statement.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

/* ---- A client's ---- */

static bool grow(struct statement_table *t)
{
	uint32_t size = t->size ? t->size * 2 : 4;
	struct statement **slots = realloc(t->slots, size * sizeof(*slots));

	if (!slots)
		return false;
	t->slots = slots;
	t->size = size;
	return true;
}

/* Each part's length is part of what is hashed, so that parts cannot run into each other. */
static XXH128_hash_t mix(XXH128_hash_t h, const char *text)
{
	XXH128_hash_t part = XXH3_128bits_withSeed(text, strlen(text) + 1, h.low64);

	part.high64 ^= h.high64 * 31;
	return part;
}

static void make_key(const char *text, size_t len, const struct state *state, const struct snapshot *snapshot, uint64_t key[2])
{
	XXH128_hash_t h = XXH3_128bits(text, len);

	h = mix(h, state->schema ? state->schema : "");
	h = mix(h, state_get(state, snapshot, "sql_mode"));
	h = mix(h, state_get(state, snapshot, "character_set_client"));
	h = mix(h, state_get(state, snapshot, "collation_connection"));
	key[0] = h.low64;
	key[1] = h.high64;
}

static struct statement *new_statement(void)
{
	struct statement *s = aligned_alloc(STATEMENT_ALIGN, (sizeof(*s) + STATEMENT_ALIGN - 1) / STATEMENT_ALIGN * STATEMENT_ALIGN);

	if (s)
		memset(s, 0, sizeof(*s));
	return s;
}

struct statement *statement_add(struct statement_table *table, const char *text, size_t len, const struct sql_meaning *meaning,
				struct state *value, const struct snapshot *snapshot)
{
	struct statement *s;

	if (table->count == table->size && !grow(table))
		return NULL;
	s = new_statement();
	if (!s)
		return NULL;
	s->refs = 1;
	s->text = malloc(len + 1);
	if (!s->text) {
		free(s);
		return NULL;
	}
	memcpy(s->text, text, len);
	s->text[len] = '\0';
	s->len = (uint32_t)len;
	s->meaning = *meaning;
	if (meaning->verb == SQL_SELECT) /* worked out once for all executions */
		s->meaning.found = (uint8_t)sql_found_after(meaning, text, len);
	s->value = state_ref(value);
	s->servers_own = value->schema && sql_is_server_schema(value->schema, strlen(value->schema));
	make_key(text, len, value, snapshot, s->key);
	s->id = ++table->next_id;
	table->last_id = s->id;
	table->slots[table->count++] = s;
	return s;
}

/* Ids grow, so the table is sorted by them. What was closed is most often older than what is in use: then each stands as far from the end
 * as its id from the last. */
static uint32_t position(const struct statement_table *t, uint32_t id)
{
	uint32_t low = 0, high = t->count, guess = t->count - (t->next_id - id) - 1;

	if (guess < t->count && t->slots[guess]->id == id)
		return guess;
	while (low < high) {
		uint32_t mid = (low + high) / 2;

		if (t->slots[mid]->id < id)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

struct statement *statement_find(const struct statement_table *table, uint32_t id)
{
	uint32_t at = position(table, id == UINT32_MAX ? table->last_id : id);
	uint32_t want = id == UINT32_MAX ? table->last_id : id;

	return at < table->count && table->slots[at]->id == want ? table->slots[at] : NULL;
}

struct statement *statement_ref(struct statement *statement)
{
	statement->refs++;
	return statement;
}

void statement_unref(struct statement *statement)
{
	struct statement *s = statement;

	if (--s->refs)
		return;
	state_unref(s->value);
	free(s->types);
	free(s->text);
	free(s);
}

void statement_remove(struct statement_table *table, struct statement *statement)
{
	uint32_t at = position(table, statement->id);

	memmove(&table->slots[at], &table->slots[at + 1], (table->count - at - 1) * sizeof(*table->slots));
	table->count--;
	statement_unref(statement);
}

void statement_table_fini(struct statement_table *table)
{
	for (uint32_t i = 0; i < table->count; i++)
		statement_unref(table->slots[i]);
	free(table->slots);
	memset(table, 0, sizeof(*table));
}

/* ---- A backend's ---- */

static bool is_for(const struct prepared *p, const struct statement *s)
{
	return p->used && p->key[0] == s->key[0] && p->key[1] == s->key[1];
}

static uint32_t search(const struct statement_cache *cache, const struct statement *statement)
{
	uint32_t free_one = PREPARED_NONE;

	for (uint32_t i = 0; i < cache->size; i++) {
		const struct prepared *p = &cache->slots[i];

		if (!is_for(p, statement))
			continue;
		if (p->holder == statement)
			return i;
		if (!p->holder)
			free_one = i;
	}
	return free_one;
}

/* Without a cursor or long data of its own, none of the slots is held by it, and any that nobody holds will do. */
static bool is_there_still(const struct statement_cache *cache, const struct statement *s)
{
	const struct prepared *p;

	if (s->opened || s->found_at >= cache->size)
		return false;
	p = &cache->slots[s->found_at];
	return is_for(p, s) && !p->holder;
}

uint32_t prepared_find(struct statement_cache *cache, struct statement *statement)
{
	uint32_t slot = is_there_still(cache, statement) ? statement->found_at : search(cache, statement);

	if (slot == PREPARED_NONE)
		return slot;
	statement->found_at = slot;
	if (!cache->slots[slot].holder)
		cache->slots[slot].last_use = ++cache->clock;
	return slot;
}

uint32_t prepared_oldest(const struct statement_cache *cache)
{
	uint32_t best = PREPARED_NONE;

	for (uint32_t i = 0; i < cache->size; i++) {
		const struct prepared *p = &cache->slots[i];

		if (p->used && !p->holder && p->id && (best == PREPARED_NONE || p->last_use < cache->slots[best].last_use))
			best = i;
	}
	return best;
}

static uint32_t free_slot(struct statement_cache *cache)
{
	uint32_t old = cache->size;
	struct prepared *slots;

	for (uint32_t i = 0; i < cache->size; i++)
		if (!cache->slots[i].used)
			return i;
	slots = realloc(cache->slots, (old ? old * 2 : 4) * sizeof(*slots));
	if (!slots)
		return PREPARED_NONE;
	cache->slots = slots;
	cache->size = old ? old * 2 : 4;
	memset(&slots[old], 0, (cache->size - old) * sizeof(*slots));
	return old;
}

uint32_t prepared_add(struct statement_cache *cache, const uint64_t key[2], uint32_t budget, uint32_t *evicted)
{
	uint32_t slot = PREPARED_NONE;

	*evicted = 0;
	if (cache->count >= budget) {
		slot = prepared_oldest(cache);
		if (slot != PREPARED_NONE) {
			*evicted = cache->slots[slot].id;
			prepared_drop(cache, slot);
		}
	}
	if (slot == PREPARED_NONE)
		slot = free_slot(cache);
	if (slot == PREPARED_NONE)
		return slot;
	cache->slots[slot] = (struct prepared){ .key = { key[0], key[1] }, .used = true, .last_use = ++cache->clock };
	cache->count++;
	return slot;
}

void prepared_drop(struct statement_cache *cache, uint32_t slot)
{
	if (!cache->slots[slot].used)
		return;
	memset(&cache->slots[slot], 0, sizeof(cache->slots[slot]));
	cache->count--;
}

void prepared_clear(struct statement_cache *cache)
{
	if (cache->size)
		memset(cache->slots, 0, cache->size * sizeof(*cache->slots));
	cache->count = 0;
}

void prepared_fini(struct statement_cache *cache)
{
	free(cache->slots);
	memset(cache, 0, sizeof(*cache));
}
