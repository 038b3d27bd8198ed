#include "sql/words.h"

#include <string.h>

#include "sql/sql.h"

#include "sql/words.inc"

const struct word word_none = {.text = ""};

static unsigned char lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (unsigned char)(c | 0x20) : (unsigned char)c;
}

bool word_equals(const char *text, uint32_t len, const char *word)
{
	uint32_t i;

	for (i = 0; i < len; i++)
		if (lower(text[i]) != (unsigned char)word[i])
			return false;
	return word[len] == '\0';
}

const struct word *word_find(uint64_t hash, const char *text, uint32_t len)
{
	uint32_t at = (uint32_t)(hash >> 40) % WORD_SLOTS;

	for (; slots[at]; at = (at + 1) % WORD_SLOTS) {
		const struct word *w = &words[slots[at]];

		if (w->hash == hash && w->len == len && (len <= 8 || word_equals(text, len, w->text)))
			return w;
	}
	return &word_none;
}

static int compare(const char *text, uint32_t len, const char *word)
{
	uint32_t i;

	for (i = 0; i < len; i++)
		if (lower(text[i]) != (unsigned char)word[i])
			return lower(text[i]) - (unsigned char)word[i];
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
