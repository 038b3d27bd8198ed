#include "daemon/setting.h"

#include <string.h>

/* In the order of the manual. */
static const struct setting_room *const rooms[] = {
	&setting_room_proxy,
	&setting_room_rule,
	&setting_room_cluster,
	&setting_room_admin,
	&setting_room_web,
};

enum { ROOM_COUNT = sizeof(rooms) / sizeof(rooms[0]) };

_Static_assert(sizeof(int) == sizeof(uint32_t) && sizeof(enum tls_mode) == sizeof(uint32_t),
	       "numbers and choices are stored as 32 bits");

const struct setting_room *setting_room_at(size_t index)
{
	return index < ROOM_COUNT ? rooms[index] : NULL;
}

const struct section *section_at(size_t index)
{
	for (size_t i = 0; i < ROOM_COUNT; i++)
		for (const struct section *section = rooms[i]->sections; section->name; section++)
			if (index-- == 0)
				return section;
	return NULL;
}

const struct section *section_find(const char *name)
{
	const struct section *section;

	for (size_t i = 0; (section = section_at(i)); i++)
		if (strcmp(section->name, name) == 0)
			return section;
	return NULL;
}

const struct setting *setting_find(const struct section *section, const char *name)
{
	for (const struct setting *row = section->rows; row && row->name; row++)
		if (strcmp(row->name, name) == 0)
			return row;
	return NULL;
}

/* --- names that were meant --- */

static unsigned smallest(unsigned a, unsigned b, unsigned c)
{
	unsigned least = a < b ? a : b;

	return least < c ? least : c;
}

/* Letters to insert, drop or change to get from one to the other; too long ones are just far. */
static unsigned distance(const char *from, const char *to)
{
	unsigned row[40];
	size_t from_len = strlen(from), to_len = strlen(to);

	if (from_len >= 40 || to_len >= 40)
		return 40;
	for (unsigned i = 0; i <= to_len; i++)
		row[i] = i;
	for (unsigned i = 1; i <= from_len; i++) {
		unsigned diagonal = row[0];

		row[0] = i;
		for (size_t j = 1; j <= to_len; j++) {
			unsigned change = diagonal + (from[i - 1] != to[j - 1]);

			diagonal = row[j];
			row[j] = smallest(change, row[j] + 1, row[j - 1] + 1);
		}
	}
	return row[to_len];
}

struct nearest {
	const char *name;
	unsigned distance;
};

/* A third of the letters may differ, or one is the beginning of the other. */
static void consider(struct nearest *best, const char *candidate, const char *name)
{
	size_t len = strlen(name);
	unsigned far = distance(name, candidate);

	if (len >= 3 && strncmp(candidate, name, len) == 0)
		far = 1;
	if (far <= 1 + len / 4 && far < best->distance)
		*best = (struct nearest){ candidate, far };
}

const char *setting_nearest(const struct section *section, const char *name)
{
	struct nearest best = { NULL, 40 };

	for (const struct setting *row = section->rows; row && row->name; row++)
		consider(&best, row->name, name);
	return best.name;
}

const char *section_nearest(const char *name)
{
	struct nearest best = { NULL, 40 };
	const struct section *section;

	for (size_t i = 0; (section = section_at(i)); i++)
		consider(&best, section->name, name);
	return best.name;
}
