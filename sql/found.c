#include <ctype.h>
#include <string.h>
#include <strings.h>

#include "sql/sql.h"

static bool starts_with(const char *at, const char *end, const char *word)
{
	while (at < end && isspace((unsigned char)*at))
		at++;
	return (size_t)(end - at) >= strlen(word) && !strncasecmp(at, word, strlen(word));
}

static bool has(const char *at, const char *end, const char *word)
{
	size_t len = strlen(word);

	for (; (size_t)(end - at) >= len; at++)
		if ((*at | 0x20) == *word && !strncasecmp(at, word, len))
			return true;
	return false;
}

/* LIMIT 2,1 or LIMIT 1 OFFSET 2: what was skipped may have been found, too. */
static bool has_offset(const char *text, const char *end)
{
	const char *at = text;

	/* Two letters by hand: a SELECT has an L, too. */
	while (at + 5 < end && ((at[0] | 0x20) != 'l' || (at[1] | 0x20) != 'i' || strncasecmp(at, "limit", 5)))
		at++;
	return at + 5 < end && (memchr(at, ',', (size_t)(end - at)) || has(text, end, "offset"));
}

/* Of a UNION all rows count, whatever its LIMIT or sql_select_limit has left of them. It jumps from one letter that is rare to the next. */
static bool counts_more(const char *text, const char *end)
{
	static const char rare[] = { 'U', 'u', 'X', 'x' };

	for (size_t i = 0; i < sizeof(rare); i++) {
		bool union_ = rare[i] == 'U' || rare[i] == 'u';

		for (const char *at = text; (at = memchr(at, rare[i], (size_t)(end - at))); at++)
			if (union_ ? end - at >= 5 && !strncasecmp(at, "union", 5) :
				     at > text && end - at >= 5 && !strncasecmp(at - 1, "except", 6))
				return true;
	}
	return false;
}

enum sql_found sql_found_after(const struct sql_meaning *meaning, const char *text, size_t len)
{
	const char *end = text + len;

	if (meaning->facts & SQL_F_CALC_FOUND_ROWS || has_offset(text, end) || counts_more(text, end))
		return SQL_FOUND_OTHER;
	return starts_with(text, end, "values") ? SQL_FOUND_KEPT : SQL_FOUND_SENT;
}
