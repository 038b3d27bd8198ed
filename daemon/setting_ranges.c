/* The type of settings that list ranges of addresses. */
#include "daemon/setting.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/address.h"

static bool append(struct address_list *list, const struct address_range *range)
{
	struct address_range *ranges = realloc(list->ranges, (list->count + 1) * sizeof(*ranges));

	if (!ranges)
		return false;
	list->ranges = ranges;
	ranges[list->count++] = *range;
	return true;
}

static bool parse_one(const char *text, struct address_list *list, struct setting_fault *fault)
{
	struct address_range range;
	const char *why = address_range_parse(text, &range);

	if (!why && !append(list, &range))
		why = "out of memory";
	if (why)
		snprintf(fault->text, sizeof(fault->text), "%.60s %s", text, why);
	return !why;
}

static bool parse(const struct setting *setting, const char *text, void *place, struct setting_fault *fault)
{
	char *copy = strdup(text), *rest = copy, *word;
	bool ok = copy != NULL;

	(void)setting;
	if (copy && strspn(copy, " \t,") == strlen(copy)) {
		snprintf(fault->text, sizeof(fault->text), "is empty");
		ok = false;
	}
	while (ok && (word = strsep(&rest, ", \t")))
		if (*word)
			ok = parse_one(word, place, fault);
	free(copy);
	return ok;
}

static bool equal(const void *a, const void *b)
{
	const struct address_list *x = a, *y = b;

	/* Ranges are made from zeros: no byte of them is left to chance. */
	return x->count == y->count && (!x->count || !memcmp(x->ranges, y->ranges, x->count * sizeof(*x->ranges)));
}

const struct setting_type setting_ranges = { "ADDRESS[/BITS] | unix, ...", parse, equal, true, false };
