#include "web/http2_head.h"

#include <stdio.h>
#include <string.h>

#define REFUSE(status, why) ((struct http_verdict){ (status), (why) })
#define FINE ((struct http_verdict){ 0, NULL })

static void refuse(struct http2_head *head, uint16_t status, const char *why)
{
	if (!head->verdict.status)
		head->verdict = REFUSE(status, why);
}

void http2_head_fini(struct http2_head *head)
{
	buf_fini(&head->values);
	buf_fini(&head->fields);
	buf_fini(&head->cookies);
}

/* ---- Fields as they come ---- */

static bool is(struct http_text text, const char *word)
{
	return strlen(word) == text.len && !memcmp(text.at, word, text.len);
}

static void append(struct http2_head *head, struct buf *to, const char *bytes, size_t len)
{
	if (!buf_append(to, bytes, len))
		refuse(head, 503, "out of memory");
}

/* What stands in the request line or Host must not end it. The rest of the rules are http1_parse()'s. */
static bool is_word(struct http_text text)
{
	for (size_t i = 0; i < text.len; i++)
		if ((unsigned char)text.at[i] <= ' ' || text.at[i] == 0x7f)
			return false;
	return text.len > 0;
}

static void note_part(struct http2_head *head, struct http2_part *part, struct http_text value)
{
	if (part->is_there)
		refuse(head, 400, "a pseudo-field or Host twice");
	if (!is_word(value))
		refuse(head, 400, "a pseudo-field or Host that is empty or holds a blank");
	*part = (struct http2_part){ (uint32_t)buf_len(&head->values), (uint32_t)value.len, true };
	append(head, &head->values, value.at, value.len);
}

static void add_pseudo(struct http2_head *head, struct http_text name, struct http_text value)
{
	if (head->count)
		refuse(head, 400, "a pseudo-field behind another field");
	if (is(name, ":method"))
		note_part(head, &head->method, value);
	else if (is(name, ":scheme"))
		note_part(head, &head->scheme, value);
	else if (is(name, ":authority"))
		note_part(head, &head->authority, value);
	else if (is(name, ":path"))
		note_part(head, &head->path, value);
	else
		refuse(head, 400, "an unknown pseudo-field");
}

static bool is_name(struct http_text name)
{
	for (size_t i = 0; i < name.len; i++)
		if (name.at[i] <= ' ' || name.at[i] >= 0x7f || name.at[i] == ':' || (name.at[i] >= 'A' && name.at[i] <= 'Z'))
			return false;
	return name.len > 0;
}

static bool is_value(struct http_text value)
{
	for (size_t i = 0; i < value.len; i++)
		if (value.at[i] == '\r' || value.at[i] == '\n' || value.at[i] == '\0')
			return false;
	return true;
}

/* Fields that speak of a connection of HTTP/1.1, of which there is none. */
static bool is_of_connection(struct http_text name, struct http_text value)
{
	static const char *const names[] = { "connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade" };

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		if (is(name, names[i]))
			return true;
	return is(name, "te") && !http_text_is(value, "trailers");
}

static void add_line(struct http2_head *head, struct http_text name, struct http_text value)
{
	append(head, &head->fields, name.at, name.len);
	append(head, &head->fields, ": ", 2);
	append(head, &head->fields, value.at, value.len);
	append(head, &head->fields, "\r\n", 2);
}

static void add_cookie(struct http2_head *head, struct http_text value)
{
	if (buf_len(&head->cookies))
		append(head, &head->cookies, "; ", 2);
	append(head, &head->cookies, value.at, value.len);
}

static void add_field(struct http2_head *head, struct http_text name, struct http_text value)
{
	head->count++;
	if (!is_name(name))
		refuse(head, 400, "a field name with a character that is none of a lower-case token");
	else if (!is_value(value))
		refuse(head, 400, "a control character in a field value");
	else if (is_of_connection(name, value))
		refuse(head, 400, "a field of an HTTP/1.1 connection");
	else if (is(name, "host"))
		note_part(head, &head->host, value);
	else if (is(name, "cookie"))
		add_cookie(head, value);
	else
		add_line(head, name, value);
}

static size_t length(const struct http2_head *head)
{
	return buf_len(&head->values) + buf_len(&head->fields) + buf_len(&head->cookies);
}

void http2_head_add(struct http2_head *head, struct http_text name, struct http_text value, const struct http_limits *limits)
{
	if (head->verdict.status)
		return;
	if (length(head) + name.len + value.len + 4 > limits->head_bytes || head->count > HTTP_MAX_FIELDS)
		refuse(head, 431, "the head is too long");
	else if (name.len && name.at[0] == ':')
		add_pseudo(head, name, value);
	else
		add_field(head, name, value);
}

/* ---- The whole ---- */

static const char *at(const struct http2_head *head, struct http2_part part)
{
	return (const char *)buf_head(&head->values) + part.at;
}

static bool is_same(const struct http2_head *head, struct http2_part a, struct http2_part b)
{
	return a.len == b.len && !strncasecmp(at(head, a), at(head, b), a.len);
}

/* RFC 9113 section 8.3.1; CONNECT, which has neither, is refused as an unknown method before. */
static struct http_verdict judge(const struct http2_head *head)
{
	char first;

	if (head->verdict.status)
		return head->verdict;
	if (!head->method.is_there)
		return REFUSE(400, "no :method");
	if (head->method.len == 7 && !memcmp(at(head, head->method), "CONNECT", 7))
		return REFUSE(501, "the method is not known");
	if (!head->scheme.is_there || !head->path.is_there)
		return REFUSE(400, "no :scheme or no :path");
	first = *at(head, head->path);
	if (first != '/' && (first != '*' || head->path.len > 1))
		return REFUSE(400, "a :path that is none");
	if (head->authority.is_there && head->host.is_there && !is_same(head, head->authority, head->host))
		return REFUSE(400, "a Host that is not the :authority");
	return FINE;
}

static const char version[] = " HTTP/1.1\r\n";

size_t http2_head_finish(struct http2_head *head)
{
	struct http2_part host = head->authority.is_there ? head->authority : head->host;

	head->verdict = judge(head);
	if (head->verdict.status)
		return 0;
	head->host = host;
	return head->method.len + 1 + head->path.len + sizeof(version) - 1 + (host.is_there ? 8 + host.len : 0) +
	       (buf_len(&head->cookies) ? 10 + buf_len(&head->cookies) : 0) + buf_len(&head->fields) + 2;
}

static char *put(char *out, const void *bytes, size_t len)
{
	if (len)
		memcpy(out, bytes, len);
	return out + len;
}

void http2_head_write(const struct http2_head *head, char *out)
{
	out = put(out, at(head, head->method), head->method.len);
	out = put(out, " ", 1);
	out = put(out, at(head, head->path), head->path.len);
	out = put(out, version, sizeof(version) - 1);
	if (head->host.is_there) {
		out = put(out, "host: ", 6);
		out = put(out, at(head, head->host), head->host.len);
		out = put(out, "\r\n", 2);
	}
	if (buf_len(&head->cookies)) {
		out = put(out, "cookie: ", 8);
		out = put(out, buf_head(&head->cookies), buf_len(&head->cookies));
		out = put(out, "\r\n", 2);
	}
	out = put(out, buf_head(&head->fields), buf_len(&head->fields));
	put(out, "\r\n", 2);
}

struct http_verdict http2_parse(const char *bytes, size_t len, const struct http_limits *limits, bool ended, struct http_head *out)
{
	/* The limit was measured on what the client sent. */
	const struct http_limits ours = { .head_bytes = len, .target_bytes = limits->target_bytes };
	struct http_verdict verdict = http1_parse(bytes, len, &ours, out);

	out->major = 2;
	out->minor = 0;
	out->keep_alive = true;
	if (verdict.status)
		return verdict;
	if (ended) {
		if (out->framing == HTTP_LENGTH && out->content_length)
			return REFUSE(400, "a Content-Length and no body");
		out->expects_continue = false;
	} else if (out->framing == HTTP_NO_BODY) {
		out->framing = HTTP_CHUNKED;
		out->expects_continue = http_head_field(out, "expect") != NULL;
	}
	return FINE;
}
