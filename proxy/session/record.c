#include "proxy/session/record.h"

#include <stdlib.h>
#include <string.h>

enum { FIRST_BYTES = 2048 };

/* Entries begin at multiples of what their first member wants. */
static size_t room_for(size_t len)
{
	size_t align = _Alignof(struct record_entry);

	return (sizeof(struct record_entry) + len + align - 1) / align * align;
}

static bool grow(struct record *r, size_t need)
{
	size_t size = r->size ? r->size : FIRST_BYTES;
	uint8_t *grown;

	while (size < need)
		size *= 2;
	if (size == r->size)
		return true;
	grown = realloc(r->bytes, size);
	if (!grown)
		return false;
	r->bytes = grown;
	r->size = size;
	return true;
}

bool record_add(struct record *record, struct statement *statement, const uint8_t *packet, size_t len, uint64_t hash, size_t limit)
{
	size_t room = room_for(len);
	struct record_entry *entry;

	if (len > UINT32_MAX || room > limit || record->len > limit - room || !grow(record, record->len + room))
		return false;
	entry = (struct record_entry *)(void *)(record->bytes + record->len);
	entry->statement = statement ? statement_ref(statement) : NULL;
	entry->hash = hash;
	entry->len = (uint32_t)len;
	memcpy(entry->packet, packet, len);
	record->len += room;
	record->count++;
	return true;
}

const struct record_entry *record_at(const struct record *record, size_t at, size_t *next)
{
	const struct record_entry *entry;

	if (at >= record->len)
		return NULL;
	entry = (const struct record_entry *)(const void *)(record->bytes + at);
	*next = at + room_for(entry->len);
	return entry;
}

void record_clear(struct record *record, size_t keep)
{
	const struct record_entry *entry;

	for (size_t at = 0; (entry = record_at(record, at, &at));)
		if (entry->statement)
			statement_unref(entry->statement);
	record->len = 0;
	record->count = 0;
	if (record->size <= keep)
		return;
	free(record->bytes);
	record->bytes = NULL;
	record->size = 0;
}
