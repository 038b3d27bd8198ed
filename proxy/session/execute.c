#include "proxy/session/execute.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "proxy/session/worker.h"

/* header 4, command 1, id 4, cursor flags 1, iterations 4, then the NULL bitmap, the "types follow" byte, types */
enum { AT_ID = 5, AT_BITMAP = 14 };

static size_t at_types_flag(const struct statement *s)
{
	return AT_BITMAP + (s->params + 7u) / 8u;
}

bool execute_note_types(struct turn *turn)
{
	struct statement *s = turn->statement;
	size_t at = at_types_flag(s), len = 2u * s->params;

	if (turn->command != COM_STMT_EXECUTE)
		return turn->packet_len >= AT_ID + 4;
	if (turn->packet_len < AT_BITMAP)
		return false;
	if (!s->params)
		return true;
	if (turn->packet_len <= at)
		return false;
	if (!turn->packet[at])
		return true;
	if (turn->packet_len < at + 1 + len)
		return false;
	if (!s->types)
		s->types = malloc(len);
	if (!s->types)
		return false;
	memcpy(s->types, turn->packet + at + 1, len);
	s->types_hash = XXH3_64bits(s->types, len) | 1;
	return true;
}

static bool insert_types(struct turn *t)
{
	struct statement *s = t->statement;
	size_t at = at_types_flag(s), len = 2u * s->params;
	uint32_t payload = wire_header_len(t->packet);

	if (payload + len >= WIRE_MAX_PAYLOAD || !turn_grow(t, t->packet_len + len))
		return false;
	memmove(t->packet + at + 1 + len, t->packet + at + 1, t->packet_len - at - 1);
	t->packet[at] = 1;
	memcpy(t->packet + at + 1, s->types, len);
	t->packet_len += len;
	wire_put_header(t->packet, (uint32_t)(payload + len), t->packet[3]);
	return true;
}

/* Types not sent along must be the ones that this server saw last for this statement. */
static bool repeat_types(struct turn *t, struct prepared *p)
{
	struct statement *s = t->statement;

	if (t->command != COM_STMT_EXECUTE || !s->params || !s->types)
		return true;
	if (t->packet[at_types_flag(s)] || p->types_hash == s->types_hash) {
		p->types_hash = s->types_hash;
		return true;
	}
	p->types_hash = s->types_hash;
	return insert_types(t);
}

bool execute_complete(struct turn *turn)
{
	struct statement *s = turn->statement;

	if (turn->command != COM_STMT_EXECUTE || !s->params || !s->types || turn->packet[at_types_flag(s)])
		return true;
	return insert_types(turn);
}

bool execute_rewrite(struct turn *turn)
{
	struct prepared *p = &turn->backend->statements.slots[turn->slot];
	uint32_t id = p->id ? p->id : UINT32_MAX;

	if (turn->command == COM_STMT_BULK_EXECUTE)
		p->types_hash = 0;
	turn->packet[AT_ID] = (uint8_t)id;
	turn->packet[AT_ID + 1] = (uint8_t)(id >> 8);
	turn->packet[AT_ID + 2] = (uint8_t)(id >> 16);
	turn->packet[AT_ID + 3] = (uint8_t)(id >> 24);
	return repeat_types(turn, p);
}
