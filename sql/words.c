#include "sql/words.h"

#include <string.h>

#include "sql/sql.h"

#include "sql/words.inc"

static unsigned char lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (unsigned char)(c | 0x20) : (unsigned char)c;
}

bool word_equals(const char *text, uint32_t len, const char *word)
{
	uint32_t i;

	/* The text may hold zeros: the word's own ends it. */
	for (i = 0; i < len; i++)
		if (!word[i] || lower(text[i]) != (unsigned char)word[i])
			return false;
	return word[len] == '\0';
}

static int compare(const char *text, uint32_t len, const char *word)
{
	uint32_t i;

	for (i = 0; i < len; i++) {
		if (!word[i])
			return 1;
		if (lower(text[i]) != (unsigned char)word[i])
			return lower(text[i]) - (unsigned char)word[i];
	}
	return word[len] ? -1 : 0;
}

int word_search(const char *const *sorted, int count, const char *text, uint32_t len)
{
	int low = 0, high = count;

	while (low < high) {
		int middle = low + (high - low) / 2;
		int order = compare(text, len, sorted[middle]);

		if (order == 0)
			return middle;
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return -1;
}
