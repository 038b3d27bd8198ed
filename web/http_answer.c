#include "web/http_answer.h"

#include <string.h>

/* What has been seen of the fields that decide where the answer ends and what may follow it. */
struct seen {
	unsigned lengths;
	unsigned codings;
	bool closes;
	bool stays;
	struct http_text upgrade;
};

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* "HTTP/1.1 200 OK": the reason may be missing, and is not looked at beyond its characters. */
static const char *parse_status_line(struct http_text line, struct http_answer *out)
{
	const char *at = line.at;

	if (line.len < 12 || memcmp(at, "HTTP/1.", 7) || !is_digit(at[7]) || at[8] != ' ')
		return "no HTTP/1.x status line";
	if (at[9] < '1' || at[9] > '5' || !is_digit(at[10]) || !is_digit(at[11]) || (line.len > 12 && at[12] != ' '))
		return "no valid status";
	for (size_t i = 12; i < line.len; i++)
		if ((unsigned char)at[i] < ' ' && at[i] != '\t')
			return "a control character in the status line";
	out->minor = at[7] == '0' ? 0 : 1;
	out->status = (uint16_t)((at[9] - '0') * 100 + (at[10] - '0') * 10 + (at[11] - '0'));
	return NULL;
}

static const char *take_length(struct http_text value, struct seen *seen, struct http_answer *out)
{
	uint64_t length = 0;

	if (seen->lengths++)
		return "more than one Content-Length";
	if (!value.len || value.len > 18)
		return "a Content-Length that is no number";
	for (size_t i = 0; i < value.len; i++) {
		if (!is_digit(value.at[i]))
			return "a Content-Length that is no number";
		length = length * 10 + (uint64_t)(value.at[i] - '0');
	}
	out->length = length;
	return NULL;
}

static const char *take_coding(struct http_text value, struct seen *seen)
{
	if (seen->codings++)
		return "more than one Transfer-Encoding";
	return http_text_is(value, "chunked") ? NULL : "a Transfer-Encoding other than chunked";
}

static const char *note_field(const struct http_field *field, struct seen *seen, struct http_answer *out)
{
	if (http_text_is(field->name, "Content-Length"))
		return take_length(field->value, seen, out);
	if (http_text_is(field->name, "Transfer-Encoding"))
		return take_coding(field->value, seen);
	if (http_text_is(field->name, "Upgrade"))
		seen->upgrade = field->value;
	if (http_text_is(field->name, "Connection")) {
		seen->closes |= http_list_has(field->value, "close");
		seen->stays |= http_list_has(field->value, "keep-alive");
	}
	return NULL;
}

static const char *parse_fields(struct http_text rest, struct seen *seen, struct http_answer *out)
{
	struct http_text line;

	while ((line = http_take_line(&rest)).len) {
		struct http_field *field = &out->fields[out->field_count];
		struct http_verdict verdict;
		const char *why;

		if (out->field_count == HTTP_MAX_FIELDS)
			return "too many fields";
		verdict = http_parse_field(line, field);
		if (verdict.status)
			return verdict.why;
		why = note_field(field, seen, out);
		if (why)
			return why;
		out->field_count++;
	}
	return rest.len ? "an empty line within the head" : NULL;
}

/* RFC 9112 section 6.3, in its order. */
static const char *settle_framing(const struct seen *seen, bool to_head, struct http_answer *out)
{
	if (seen->codings && seen->lengths)
		return "Content-Length beside Transfer-Encoding";
	if (seen->codings && out->minor == 0)
		return "Transfer-Encoding in HTTP/1.0";
	if (to_head || out->status < 200 || out->status == 204 || out->status == 304)
		out->framing = HTTP_ANSWER_EMPTY;
	else if (seen->codings)
		out->framing = HTTP_ANSWER_CHUNKED;
	else
		out->framing = seen->lengths ? HTTP_ANSWER_LENGTH : HTTP_ANSWER_UNTIL_CLOSE;
	out->keep_alive = !seen->closes && (out->minor >= 1 || seen->stays) && out->framing != HTTP_ANSWER_UNTIL_CLOSE;
	if (out->status == 101)
		out->upgrade = seen->upgrade;
	return NULL;
}

/* ---- What is passed on ---- */

static bool is_kept_back(struct http_text name)
{
	static const char *const own[] = { "Connection", "Keep-Alive", "Proxy-Connection", "TE",	  "Trailer",
					   "Upgrade",	 "Date",       "Server",	   "Content-Length", "Transfer-Encoding" };

	for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++)
		if (http_text_is(name, own[i]))
			return true;
	return false;
}

/* Named by a Connection field: between that server and us. */
static bool is_named(const struct http_answer *answer, size_t count, struct http_text name)
{
	char word[64];

	if (name.len >= sizeof(word))
		return false;
	memcpy(word, name.at, name.len);
	word[name.len] = '\0';
	for (size_t i = 0; i < count; i++)
		if (http_text_is(answer->fields[i].name, "Connection") && http_list_has(answer->fields[i].value, word))
			return true;
	return false;
}

static void drop_kept_back(struct http_answer *answer)
{
	size_t count = answer->field_count, kept = 0;
	bool drop[HTTP_MAX_FIELDS];

	for (size_t i = 0; i < count; i++)
		drop[i] = is_kept_back(answer->fields[i].name) || is_named(answer, count, answer->fields[i].name);
	for (size_t i = 0; i < count; i++)
		if (!drop[i])
			answer->fields[kept++] = answer->fields[i];
	answer->field_count = kept;
}

const char *http_answer_parse(const char *bytes, size_t len, bool to_head, struct http_answer *out)
{
	struct http_text rest = { bytes, len };
	struct seen seen = { 0 };
	const char *why;

	memset(out, 0, offsetof(struct http_answer, fields));
	out->length = UINT64_MAX;
	why = parse_status_line(http_take_line(&rest), out);
	if (!why)
		why = parse_fields(rest, &seen, out);
	if (!why)
		why = settle_framing(&seen, to_head, out);
	if (!why)
		drop_kept_back(out);
	return why;
}
