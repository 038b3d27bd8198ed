#include "web/http1.h"

#include <string.h>
#include <strings.h>

#define REFUSE(status, why) ((struct http_verdict){ (status), (why) })
#define FINE ((struct http_verdict){ 0, NULL })

/* ---- Characters ---- */

/* tchar of RFC 9110 section 5.6.2 */
static bool is_token_char(unsigned char c)
{
	static const char others[] = "!#$%&'*+-.^_`|~";

	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c && strchr(others, c));
}

static bool is_token(struct http_text text)
{
	for (size_t i = 0; i < text.len; i++)
		if (!is_token_char((unsigned char)text.at[i]))
			return false;
	return text.len > 0;
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

/* Visible characters; bytes above ASCII belong percent-encoded into a target, and '#' never travels. */
static bool is_target_char(unsigned char c)
{
	return c > ' ' && c < 0x7f && c != '#' && c != '"' && c != '<' && c != '>' && c != '\\' && c != '^' && c != '`';
}

static bool is_value_char(unsigned char c)
{
	return c == '\t' || (c >= ' ' && c != 0x7f);
}

/* reg-name, IPv4 or what stands in the brackets of an IPv6 literal */
static bool is_host_char(unsigned char c)
{
	return is_token_char(c) && !strchr("#^`|", c);
}

bool http_text_is(struct http_text text, const char *word)
{
	return strlen(word) == text.len && !strncasecmp(text.at, word, text.len);
}

static struct http_text trim(struct http_text text)
{
	while (text.len && is_blank(text.at[0]))
		text = (struct http_text){ text.at + 1, text.len - 1 };
	while (text.len && is_blank(text.at[text.len - 1]))
		text.len--;
	return text;
}

/* Takes the next element off a comma-separated list; false at its end. Empty elements are passed over. */
static bool next_element(struct http_text *list, struct http_text *out)
{
	while (list->len) {
		const char *comma = memchr(list->at, ',', list->len);
		size_t len = comma ? (size_t)(comma - list->at) : list->len;
		size_t used = comma ? len + 1 : len;

		*out = trim((struct http_text){ list->at, len });
		*list = (struct http_text){ list->at + used, list->len - used };
		if (out->len)
			return true;
	}
	return false;
}

bool http_list_has(struct http_text list, const char *word)
{
	struct http_text element;

	while (next_element(&list, &element))
		if (http_text_is(element, word))
			return true;
	return false;
}

/* ---- The end of a head ---- */

static size_t skip_empty_lines(const char *bytes, size_t len)
{
	size_t at = 0;

	while (len - at >= 2 && bytes[at] == '\r' && bytes[at + 1] == '\n')
		at += 2;
	return at;
}

enum http_scan http1_scan(const char *bytes, size_t len, size_t *seen, const struct http_limits *limits)
{
	size_t start = skip_empty_lines(bytes, len);
	/* The end may have been cut within its four bytes. */
	size_t from = *seen > start + 3 ? *seen - 3 : start;
	const char *end = len > from ? memmem(bytes + from, len - from, "\r\n\r\n", 4) : NULL;

	*seen = end ? (size_t)(end - bytes) + 4 : len;
	if (*seen > limits->head_bytes)
		return HTTP_SCAN_TOO_LONG;
	return end ? HTTP_SCAN_WHOLE : HTTP_SCAN_MORE;
}

/* ---- Lines ---- */

/* Takes a line off `rest`, which ends in CRLF as a whole head does. A CR or LF elsewhere stays in the line and is refused as a character. */
struct http_text http_take_line(struct http_text *rest)
{
	const char *end = memmem(rest->at, rest->len, "\r\n", 2);
	struct http_text line = { rest->at, end ? (size_t)(end - rest->at) : rest->len };
	size_t used = end ? line.len + 2 : line.len;

	*rest = (struct http_text){ rest->at + used, rest->len - used };
	return line;
}

static bool take_until(struct http_text *rest, char stop, struct http_text *out)
{
	const char *at = memchr(rest->at, stop, rest->len);

	if (!at)
		return false;
	*out = (struct http_text){ rest->at, (size_t)(at - rest->at) };
	*rest = (struct http_text){ at + 1, rest->len - out->len - 1 };
	return true;
}

/* ---- The request line ---- */

static const char *const method_names[HTTP_METHODS] = {
	[HTTP_GET] = "GET",	    [HTTP_HEAD] = "HEAD",	[HTTP_POST] = "POST",	[HTTP_PUT] = "PUT",
	[HTTP_DELETE] = "DELETE",   [HTTP_OPTIONS] = "OPTIONS", [HTTP_PATCH] = "PATCH",
};

const char *http_method_name(enum http_method method)
{
	return method_names[method];
}

bool http_method_is_safe(enum http_method method)
{
	return method == HTTP_GET || method == HTTP_HEAD || method == HTTP_OPTIONS;
}

static struct http_verdict parse_method(struct http_text text, struct http_head *out)
{
	if (!is_token(text))
		return REFUSE(400, "the method is no token");
	for (int i = 0; i < HTTP_METHODS; i++)
		/* Methods have case. */
		if (strlen(method_names[i]) == text.len && !memcmp(text.at, method_names[i], text.len)) {
			out->method = (enum http_method)i;
			return FINE;
		}
	return REFUSE(501, "the method is not known");
}

static struct http_verdict parse_version(struct http_text text, struct http_head *out)
{
	if (text.len != 8 || memcmp(text.at, "HTTP/", 5) || !is_digit(text.at[5]) || text.at[6] != '.' || !is_digit(text.at[7]))
		return REFUSE(400, "no HTTP version at the end of the request line");
	if (text.at[5] != '1')
		return REFUSE(505, "an HTTP version other than 1.x");
	/* A higher minor version is understood as the highest known one (RFC 9110 section 2.5). */
	out->minor = text.at[7] == '0' ? 0 : 1;
	return FINE;
}

static bool is_port(struct http_text text)
{
	for (size_t i = 0; i < text.len; i++)
		if (!is_digit(text.at[i]))
			return false;
	return text.len <= 5;
}

static bool is_host_name(struct http_text text)
{
	for (size_t i = 0; i < text.len; i++)
		if (!is_host_char((unsigned char)text.at[i]))
			return false;
	return text.len > 0;
}

static bool is_ipv6_literal(struct http_text text)
{
	for (size_t i = 0; i < text.len; i++)
		if (!strchr("0123456789abcdefABCDEF:.", text.at[i]) || !text.at[i])
			return false;
	return text.len >= 2;
}

/* host[:port] of an absolute target or of the Host field */
static bool parse_authority(struct http_text text, struct http_head *out)
{
	struct http_text name = text;

	out->port = (struct http_text){ text.at + text.len, 0 };
	if (text.len && text.at[0] == '[') {
		const char *end = memchr(text.at, ']', text.len);
		struct http_text inside = { text.at + 1, end ? (size_t)(end - text.at) - 1 : 0 };

		if (!end || !is_ipv6_literal(inside))
			return false;
		name.len = inside.len + 2;
	} else {
		const char *colon = memchr(text.at, ':', text.len);

		name.len = colon ? (size_t)(colon - text.at) : text.len;
		if (!is_host_name(name))
			return false;
	}
	out->host = name;
	if (name.len == text.len)
		return true;
	if (text.at[name.len] != ':')
		return false;
	out->port = (struct http_text){ text.at + name.len + 1, text.len - name.len - 1 };
	return is_port(out->port);
}

static void split_query(struct http_text text, struct http_head *out)
{
	const char *mark = memchr(text.at, '?', text.len);

	out->path = (struct http_text){ text.at, mark ? (size_t)(mark - text.at) : text.len };
	if (mark)
		out->query = (struct http_text){ mark + 1, text.len - out->path.len - 1 };
}

static size_t scheme_len(struct http_text target)
{
	if (target.len >= 7 && !strncasecmp(target.at, "http://", 7))
		return 7;
	if (target.len >= 8 && !strncasecmp(target.at, "https://", 8))
		return 8;
	return 0;
}

static struct http_verdict parse_absolute(struct http_text target, size_t scheme, struct http_head *out)
{
	struct http_text rest = { target.at + scheme, target.len - scheme };
	size_t len = 0;

	while (len < rest.len && rest.at[len] != '/' && rest.at[len] != '?')
		len++;
	if (!parse_authority((struct http_text){ rest.at, len }, out))
		return REFUSE(400, "no valid host in the absolute target");
	split_query((struct http_text){ rest.at + len, rest.len - len }, out);
	if (!out->path.len)
		out->path = (struct http_text){ "/", 1 };
	return FINE;
}

static struct http_verdict parse_target(struct http_text target, const struct http_limits *limits, struct http_head *out)
{
	size_t scheme;

	if (target.len > limits->target_bytes)
		return REFUSE(414, "the target is too long");
	for (size_t i = 0; i < target.len; i++)
		if (!is_target_char((unsigned char)target.at[i]))
			return REFUSE(400, "a character in the target that is none of a URL");
	if (target.len && target.at[0] == '/') {
		split_query(target, out);
		return FINE;
	}
	scheme = scheme_len(target);
	if (scheme)
		return parse_absolute(target, scheme, out);
	if (out->method == HTTP_OPTIONS && http_text_is(target, "*")) {
		out->path = target;
		return FINE;
	}
	return REFUSE(400, "the target is neither a path nor a URL");
}

static struct http_verdict parse_request_line(struct http_text line, const struct http_limits *limits, struct http_head *out)
{
	struct http_text rest = line, method;
	struct http_verdict verdict;

	if (!take_until(&rest, ' ', &method) || !take_until(&rest, ' ', &out->target))
		return REFUSE(400, "the request line has not three parts");
	verdict = parse_version(rest, out);
	if (!verdict.status)
		verdict = parse_method(method, out);
	if (!verdict.status)
		verdict = parse_target(out->target, limits, out);
	return verdict;
}

/* ---- Fields ---- */

/* What has been seen of the fields that decide where the request ends and for whom it is. */
struct framing {
	unsigned hosts;
	unsigned lengths;
	unsigned codings;
	bool closes;
	bool stays;
};

static struct http_verdict take_host(struct http_text value, struct framing *seen, struct http_head *out)
{
	if (seen->hosts++)
		return REFUSE(400, "more than one Host");
	/* An absolute target has the last word, but what stands beside it must make sense. */
	if (out->host.len) {
		struct http_head other = { 0 };

		return parse_authority(value, &other) ? FINE : REFUSE(400, "no valid Host");
	}
	/* An empty Host is valid for a URL without authority, which these are not. */
	return parse_authority(value, out) ? FINE : REFUSE(400, "no valid Host");
}

static struct http_verdict take_length(struct http_text value, struct framing *seen, struct http_head *out)
{
	uint64_t length = 0;

	if (seen->lengths++)
		return REFUSE(400, "more than one Content-Length");
	if (!value.len)
		return REFUSE(400, "an empty Content-Length");
	for (size_t i = 0; i < value.len; i++) {
		if (!is_digit(value.at[i]))
			return REFUSE(400, "a Content-Length that is no number");
		if (length > (UINT64_MAX >> 1) / 10 - 1)
			return REFUSE(413, "a Content-Length beyond all bounds");
		length = length * 10 + (uint64_t)(value.at[i] - '0');
	}
	out->content_length = length;
	return FINE;
}

static struct http_verdict take_coding(struct http_text value, struct framing *seen)
{
	if (seen->codings++)
		return REFUSE(400, "more than one Transfer-Encoding");
	/* Clients code nothing but chunked; a list is somebody trying. */
	return http_text_is(value, "chunked") ? FINE : REFUSE(501, "a Transfer-Encoding other than chunked");
}

static struct http_verdict take_connection(struct http_text value, struct framing *seen)
{
	seen->closes |= http_list_has(value, "close");
	seen->stays |= http_list_has(value, "keep-alive");
	return FINE;
}

static struct http_verdict take_expect(struct http_text value, struct http_head *out)
{
	if (!http_text_is(value, "100-continue"))
		return REFUSE(417, "an expectation other than 100-continue");
	out->expects_continue = true;
	return FINE;
}

static struct http_verdict note_field(const struct http_field *field, struct framing *seen, struct http_head *out)
{
	if (http_text_is(field->name, "host"))
		return take_host(field->value, seen, out);
	if (http_text_is(field->name, "content-length"))
		return take_length(field->value, seen, out);
	if (http_text_is(field->name, "transfer-encoding"))
		return take_coding(field->value, seen);
	if (http_text_is(field->name, "connection"))
		return take_connection(field->value, seen);
	if (http_text_is(field->name, "expect"))
		return take_expect(field->value, out);
	return FINE;
}

struct http_verdict http_parse_field(struct http_text line, struct http_field *out)
{
	struct http_text rest = line;

	if (is_blank(line.at[0]))
		return REFUSE(400, "a folded field line");
	if (!take_until(&rest, ':', &out->name) || !is_token(out->name))
		return REFUSE(400, "a field line without a valid name");
	out->value = trim(rest);
	for (size_t i = 0; i < out->value.len; i++)
		if (!is_value_char((unsigned char)out->value.at[i]))
			return REFUSE(400, "a control character in a field value");
	return FINE;
}

static struct http_verdict parse_fields(struct http_text rest, struct framing *seen, struct http_head *out)
{
	struct http_text line;

	while ((line = http_take_line(&rest)).len) {
		struct http_field *field = &out->fields[out->field_count];
		struct http_verdict verdict;

		if (out->field_count == HTTP_MAX_FIELDS)
			return REFUSE(431, "too many fields");
		verdict = http_parse_field(line, field);
		if (!verdict.status)
			verdict = note_field(field, seen, out);
		if (verdict.status)
			return verdict;
		out->field_count++;
	}
	return rest.len ? REFUSE(400, "an empty line within the head") : FINE;
}

/* RFC 9112 section 6.3: where the body ends, or why that cannot be said with certainty. */
static struct http_verdict settle_framing(const struct framing *seen, struct http_head *out)
{
	if (out->minor >= 1 && !seen->hosts)
		return REFUSE(400, "no Host");
	if (seen->codings && seen->lengths)
		return REFUSE(400, "Content-Length beside Transfer-Encoding");
	if (seen->codings && out->minor == 0)
		return REFUSE(400, "Transfer-Encoding in HTTP/1.0");
	out->framing = seen->codings ? HTTP_CHUNKED : seen->lengths ? HTTP_LENGTH : HTTP_NO_BODY;
	out->keep_alive = !seen->closes && (out->minor >= 1 || seen->stays);
	/* HTTP/1.0 knows no 100 (RFC 9110 section 10.1.1). */
	out->expects_continue &= out->minor >= 1 && out->framing != HTTP_NO_BODY;
	return FINE;
}

struct http_verdict http1_parse(const char *bytes, size_t len, const struct http_limits *limits, struct http_head *out)
{
	size_t start = skip_empty_lines(bytes, len);
	struct http_text rest = { bytes + start, len - start };
	struct framing seen = { 0 };
	struct http_verdict verdict;

	/* The array of fields needs no zeroing. */
	memset(out, 0, offsetof(struct http_head, fields));
	out->major = 1;
	if (len > limits->head_bytes)
		return REFUSE(431, "the head is too long");
	verdict = parse_request_line(http_take_line(&rest), limits, out);
	if (!verdict.status)
		verdict = parse_fields(rest, &seen, out);
	if (!verdict.status)
		verdict = settle_framing(&seen, out);
	return verdict;
}

const struct http_text *http_head_field(const struct http_head *head, const char *name)
{
	for (size_t i = 0; i < head->field_count; i++)
		if (http_text_is(head->fields[i].name, name))
			return &head->fields[i].value;
	return NULL;
}
