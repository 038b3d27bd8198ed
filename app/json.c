#include "app/json.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "app/request.h"

enum { LIMIT_BYTES = 256 * 1024, READ_BYTES = 16 * 1024 };

void app_json_send(struct app_request *r, unsigned status, json_t *value)
{
	char *text = value ? json_dumps(value, JSON_COMPACT) : NULL;

	json_decref(value);
	if (!text) {
		r->failed = true;
		return;
	}
	app_status(r, status);
	app_header(r, "Content-Type", "application/json");
	app_puts(r, text);
	app_puts(r, "\n");
	free(text);
}

void app_json_fail(struct app_request *r, unsigned status, const char *text)
{
	app_json_send(r, status, json_pack("{s:s}", "error", text));
}

/* NULL: answered. */
static json_t *parse(struct app_request *r, const struct buf *text)
{
	json_error_t error;
	json_t *value = json_loadb(buf_len(text) ? (const char *)buf_head(text) : "", buf_len(text), JSON_REJECT_DUPLICATES, &error);

	if (!value)
		app_json_fail(r, 400, app_text(r, "not JSON: line %d: %s", error.line, error.text));
	return value;
}

static bool read_all(struct app_request *r, size_t limit, struct buf *out)
{
	char bytes[READ_BYTES];
	ssize_t n;

	while ((n = app_read(r, bytes, sizeof(bytes))) > 0) {
		if (buf_len(out) + (size_t)n > limit) {
			app_json_fail(r, 413, "the body is too large");
			return false;
		}
		if (!buf_append(out, bytes, (size_t)n)) {
			r->failed = true;
			return false;
		}
	}
	if (n < 0)
		app_json_fail(r, 400, "the body is not whole");
	return n == 0;
}

json_t *app_json_read(struct app_request *r, size_t limit)
{
	static const char wanted[] = "application/json";
	const char *type = app_param(r, "CONTENT_TYPE");
	struct buf text = { 0 };
	json_t *value = NULL;

	if (!type || strncasecmp(type, wanted, strlen(wanted)) || !strchr("; \t", type[strlen(wanted)])) {
		app_json_fail(r, 415, "Content-Type must be application/json");
		return NULL;
	}
	if (read_all(r, limit ? limit : LIMIT_BYTES, &text))
		value = parse(r, &text);
	buf_fini(&text);
	return value;
}
