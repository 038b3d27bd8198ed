#include "app/form.h"

#include <string.h>

#include "app/request.h"

/* ---- Names and values ---- */

static bool add_pair(struct app_request *r, struct app_variable *v, const char *text, size_t len)
{
	const char *equals = memchr(text, '=', len);
	size_t name_len = equals ? (size_t)(equals - text) : len;

	v->name = app_url_decode(r, text, name_len, true);
	v->value = equals ? app_url_decode(r, equals + 1, len - name_len - 1, true) : "";
	return v->name && v->value;
}

bool app_pairs_parse(struct app_request *r, const char *text, size_t len, size_t limit, struct app_variable **out, size_t *count)
{
	const char *end = text + len;
	size_t room = 1;

	for (size_t i = 0; i < len; i++)
		room += text[i] == '&';
	*count = 0;
	if (room > limit)
		return false;
	*out = app_alloc(r, room * sizeof(**out));
	if (!*out)
		return false;
	while (text < end) {
		const char *and = memchr(text, '&', (size_t)(end - text));
		size_t pair = (size_t)((and ? and : end) - text);

		if (pair && !add_pair(r, &(*out)[(*count)++], text, pair))
			return false;
		text += pair + 1;
	}
	return true;
}

static void parse_query(struct app_request *r)
{
	enum { QUERY_PAIRS = 200 };
	const char *text = app_param(r, "QUERY_STRING");

	r->query_made = true;
	/* One that is malformed counts as none. */
	if (text && !app_pairs_parse(r, text, strlen(text), QUERY_PAIRS, &r->query, &r->query_count))
		r->query_count = 0;
}

bool app_query_at(struct app_request *r, size_t index, const char **name, const char **value)
{
	if (!r->query_made)
		parse_query(r);
	if (index >= r->query_count)
		return false;
	*name = r->query[index].name;
	*value = r->query[index].value;
	return true;
}

const char *app_query(struct app_request *r, const char *name)
{
	const char *n, *value;

	for (size_t i = 0; app_query_at(r, i, &n, &value); i++)
		if (!strcmp(n, name))
			return value;
	return NULL;
}
