#define PCRE2_CODE_UNIT_WIDTH 8
#include "base/pattern.h"

#include <pcre2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Steps of one match. A nested repetition may want any number, while a worker waits. */
enum { MATCH_LIMIT = 100000 };

struct pattern {
	char *text;
	pcre2_code *code;
	pcre2_match_context *context;
};

static void explain(int error, size_t at, char *why, size_t why_size)
{
	PCRE2_UCHAR message[160];

	pcre2_get_error_message(error, message, sizeof(message));
	snprintf(why, why_size, "%s, at character %zu", (const char *)message, at + 1);
}

struct pattern *pattern_new(const char *text, char *why, size_t why_size)
{
	struct pattern *p = calloc(1, sizeof(*p));
	PCRE2_SIZE at = 0;
	int error = PCRE2_ERROR_NOMEMORY;

	if (p) {
		p->text = strdup(text);
		p->context = pcre2_match_context_create(NULL);
		p->code = pcre2_compile((PCRE2_SPTR)text, PCRE2_ZERO_TERMINATED, PCRE2_CASELESS | PCRE2_DOTALL, &error, &at, NULL);
	}
	if (!p || !p->text || !p->context || !p->code) {
		explain(error, at, why, why_size);
		pattern_free(p);
		return NULL;
	}
	pcre2_set_match_limit(p->context, MATCH_LIMIT);
	pcre2_jit_compile(p->code, PCRE2_JIT_COMPLETE); /* where there is no JIT it is interpreted */
	return p;
}

void pattern_free(struct pattern *pattern)
{
	if (!pattern)
		return;
	pcre2_code_free(pattern->code);
	pcre2_match_context_free(pattern->context);
	free(pattern->text);
	free(pattern);
}

const char *pattern_text(const struct pattern *pattern)
{
	return pattern->text;
}

bool pattern_matches(const struct pattern *pattern, const char *bytes, size_t len)
{
	pcre2_match_data *data = pcre2_match_data_create(1, NULL);
	bool matches = data && pcre2_match(pattern->code, (PCRE2_SPTR)bytes, len, 0, 0, data, pattern->context) >= 0;

	pcre2_match_data_free(data);
	return matches;
}
