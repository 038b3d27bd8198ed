#include "daemon/setting.h"

#include <string.h>

#include "base/nearest.h"

/* In the order of the manual. */
static const struct setting_room *const rooms[] = {
	&setting_room_proxy, &setting_room_rule, &setting_room_cluster,
	&setting_room_admin, &setting_room_web, &setting_room_app,
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

const struct section *section_find_kind(const char *name, bool has_name)
{
	const struct section *section;

	for (size_t i = 0; (section = section_at(i)); i++)
		if (strcmp(section->name, name) == 0 && (section->kind == SECTION_MANY) == has_name)
			return section;
	return section_find(name);
}

const struct setting *setting_find(const struct section *section, const char *name)
{
	for (const struct setting *row = section->rows; row && row->name; row++)
		if (strcmp(row->name, name) == 0)
			return row;
	return NULL;
}

const char *setting_nearest(const struct section *section, const char *name)
{
	struct nearest best = { NULL, 0 };

	for (const struct setting *row = section->rows; row && row->name; row++)
		nearest_consider(&best, row->name, name);
	return best.name;
}

const char *section_nearest(const char *name)
{
	struct nearest best = { NULL, 0 };
	const struct section *section;

	for (size_t i = 0; (section = section_at(i)); i++)
		nearest_consider(&best, section->name, name);
	return best.name;
}
