#include "proxy/session/oneshot.h"

#include <stdlib.h>
#include <string.h>

#include "sql/sql.h"

enum { TEXT_MAX = 256 };

/* The last one counts: what was said before another must not be taken for said. */
static bool is_repeated(const struct oneshot *o, const char *text, size_t len)
{
	const char *last = NULL;

	for (int i = 0; i < ONESHOT_TEXTS && o->texts[i]; i++)
		last = o->texts[i];
	return last && strlen(last) == len && !memcmp(last, text, len);
}

/* False when it cannot be said again from its text alone, or there is no room. */
static bool keep(struct oneshot *o, uint64_t facts, const char *text, size_t len)
{
	if (facts & ~(SQL_F_ONESHOT | SQL_F_ONESHOT_READ_ONLY) || len > TEXT_MAX || memchr(text, 0, len))
		return false;
	for (int i = 0; i < ONESHOT_TEXTS; i++)
		if (!o->texts[i])
			return (o->texts[i] = strndup(text, len)) != NULL;
	return false;
}

void oneshot_note(struct oneshot *oneshot, uint64_t facts, const char *text, size_t len)
{
	oneshot->set = true;
	if (!is_repeated(oneshot, text, len) && !keep(oneshot, facts, text, len))
		oneshot->fixed = true;
}

void oneshot_clear(struct oneshot *oneshot)
{
	for (int i = 0; i < ONESHOT_TEXTS; i++)
		free(oneshot->texts[i]);
	*oneshot = (struct oneshot){ .set = false };
}

void oneshot_copy(struct oneshot *to, const struct oneshot *from)
{
	to->set = from->set;
	to->fixed = from->fixed;
	for (int i = 0; i < ONESHOT_TEXTS && from->texts[i]; i++) {
		to->texts[i] = strdup(from->texts[i]);
		to->fixed |= !to->texts[i];
	}
}
