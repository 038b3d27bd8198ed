#include "base/nearest.h"

#include <ctype.h>
#include <stddef.h>
#include <string.h>
#include <strings.h>

enum { LONGEST = 40 };

static unsigned smallest(unsigned a, unsigned b, unsigned c)
{
	unsigned least = a < b ? a : b;

	return least < c ? least : c;
}

static unsigned differ(char a, char b)
{
	return tolower((unsigned char)a) != tolower((unsigned char)b);
}

/* Letters to insert, drop or change to get from one to the other; too long ones are just far. */
static unsigned distance(const char *from, const char *to)
{
	unsigned row[LONGEST];
	size_t from_len = strlen(from), to_len = strlen(to);

	if (from_len >= LONGEST || to_len >= LONGEST)
		return LONGEST;
	for (unsigned i = 0; i <= to_len; i++)
		row[i] = i;
	for (unsigned i = 1; i <= from_len; i++) {
		unsigned diagonal = row[0];

		row[0] = i;
		for (size_t j = 1; j <= to_len; j++) {
			unsigned change = diagonal + differ(from[i - 1], to[j - 1]);

			diagonal = row[j];
			row[j] = smallest(change, row[j] + 1, row[j - 1] + 1);
		}
	}
	return row[to_len];
}

void nearest_consider(struct nearest *best, const char *candidate, const char *name)
{
	size_t len = strlen(name);
	unsigned far = distance(name, candidate);

	if (len >= 3 && strncasecmp(candidate, name, len) == 0)
		far = 1;
	if (far > 1 + len / 4 || (best->name && far >= best->distance))
		return;
	best->name = candidate;
	best->distance = far;
}
