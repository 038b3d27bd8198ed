#include "web/cgi.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/fastcgi.h"

/* ---- The request ---- */

static bool put(struct buf *out, const char *name, size_t name_len, struct http_text value)
{
	size_t len = fcgi_pair_bytes(name_len, value.len);
	uint8_t *at = buf_reserve(out, len);

	if (!at)
		return false;
	buf_commit(out, fcgi_put_pair(at, name, name_len, value.at, value.len));
	return true;
}

static bool put_text(struct buf *out, const char *name, const char *value)
{
	return put(out, name, strlen(name), (struct http_text){ value, strlen(value) });
}

static char upper(char c)
{
	return c >= 'a' && c <= 'z' ? (char)(c - 'a' + 'A') : c == '-' ? '_' : c;
}

/* What has a variable of its own, or is between the client and this server. */
static bool is_passed(struct http_text name)
{
	static const char *const kept_back[] = { "Content-Length", "Content-Type", "Proxy",	       "Connection",
						 "Keep-Alive",	   "Upgrade",	   "Transfer-Encoding", "TE" };

	for (size_t i = 0; i < sizeof(kept_back) / sizeof(kept_back[0]); i++)
		if (http_text_is(name, kept_back[i]))
			return false;
	return !memchr(name.at, '_', name.len) && name.len <= 128;
}

static bool put_field(struct buf *out, const struct http_field *field)
{
	char name[5 + 128] = "HTTP_";

	if (!is_passed(field->name))
		return true;
	for (size_t i = 0; i < field->name.len; i++)
		name[5 + i] = upper(field->name.at[i]);
	return put(out, name, 5 + field->name.len, field->value);
}

static bool put_fields(struct buf *out, const struct http_head *head)
{
	for (size_t i = 0; i < head->field_count; i++)
		if (!put_field(out, &head->fields[i]))
			return false;
	return true;
}

static bool put_script(struct buf *out, const struct cgi_request *r)
{
	char file[8192], translated[8192];

	snprintf(file, sizeof(file), "%s%s", r->root, r->script_name);
	snprintf(translated, sizeof(translated), "%s%s", r->root, r->path_info);
	return put_text(out, "SCRIPT_NAME", r->script_name) && put_text(out, "SCRIPT_FILENAME", file) &&
	       put_text(out, "DOCUMENT_ROOT", r->root) && put_text(out, "DOCUMENT_URI", r->path) &&
	       (!*r->path_info || (put_text(out, "PATH_INFO", r->path_info) && put_text(out, "PATH_TRANSLATED", translated)));
}

static bool put_target(struct buf *out, const struct http_head *head)
{
	const struct http_text none = { "", 0 };
	/* Of an absolute target only what a path would have said. */
	struct http_text uri = { head->path.at, head->path.len + (head->query.at ? head->query.len + 1 : 0) };

	return put(out, "REQUEST_URI", 11, uri) && put(out, "QUERY_STRING", 12, head->query.at ? head->query : none) &&
	       put_text(out, "REQUEST_METHOD", http_method_name(head->method));
}

static bool put_body(struct buf *out, const struct http_head *head)
{
	const struct http_text *type = http_head_field(head, "Content-Type");
	char length[24] = "";

	if (head->framing == HTTP_LENGTH)
		snprintf(length, sizeof(length), "%llu", (unsigned long long)head->content_length);
	return put_text(out, "CONTENT_LENGTH", length) && put(out, "CONTENT_TYPE", 12, type ? *type : (struct http_text){ "", 0 });
}

static bool put_server(struct buf *out, const struct cgi_request *r)
{
	const struct http_text name = { r->server_name, strlen(r->server_name) };

	return put(out, "SERVER_NAME", 11, r->head->host.len ? r->head->host : name) && put_text(out, "SERVER_PORT", r->server_port) &&
	       put_text(out, "SERVER_PROTOCOL", r->head->major == 2 ? "HTTP/2.0" : r->head->minor ? "HTTP/1.1" : "HTTP/1.0") &&
	       put_text(out, "SERVER_SOFTWARE", "Tandem") && put_text(out, "GATEWAY_INTERFACE", "CGI/1.1") &&
	       put_text(out, "REMOTE_ADDR", r->client) && (!r->request_id || put_text(out, "REQUEST_ID", r->request_id)) && (!r->tls || put_text(out, "HTTPS", "on")) &&
	       put_text(out, "REQUEST_SCHEME", r->tls ? "https" : "http") &&
	       /* PHP as a CGI program insists on it. */
	       put_text(out, "REDIRECT_STATUS", "200");
}

bool cgi_put_params(struct buf *out, const struct cgi_request *request)
{
	return put_script(out, request) && put_target(out, request->head) && put_body(out, request->head) &&
	       put_server(out, request) && put_fields(out, request->head);
}

bool cgi_split_script(const char *path, char *script, size_t script_size, const char **path_info)
{
	for (const char *end = strstr(path, ".php"); end; end = strstr(end + 1, ".php")) {
		if (end[4] && end[4] != '/')
			continue;
		*path_info = end + 4;
		return snprintf(script, script_size, "%.*s", (int)(end + 4 - path), path) < (int)script_size;
	}
	return false;
}

/* ---- The answer ---- */

size_t cgi_head_length(const char *bytes, size_t len)
{
	for (const char *lf = memchr(bytes, '\n', len); lf; lf = memchr(lf + 1, '\n', len - (size_t)(lf + 1 - bytes))) {
		size_t at = (size_t)(lf - bytes) + 1;

		if (at < len && bytes[at] == '\n')
			return at + 1;
		if (at + 1 < len && bytes[at] == '\r' && bytes[at + 1] == '\n')
			return at + 2;
	}
	return 0;
}

static bool is_name_char(unsigned char c)
{
	return c > ' ' && c < 0x7f && !strchr("\"(),/:;<=>?@[\\]{}", c);
}

static bool split_line(const char *line, size_t len, struct http_field *out)
{
	const char *colon = memchr(line, ':', len);
	const char *end = line + len;

	if (!colon || colon == line)
		return false;
	out->name = (struct http_text){ line, (size_t)(colon - line) };
	for (const char *c = line; c < colon; c++)
		if (!is_name_char((unsigned char)*c))
			return false;
	while (++colon < end && (*colon == ' ' || *colon == '\t'))
		;
	while (end > colon && (end[-1] == ' ' || end[-1] == '\t'))
		end--;
	out->value = (struct http_text){ colon, (size_t)(end - colon) };
	for (const char *c = colon; c < end; c++)
		if ((unsigned char)*c < ' ' && *c != '\t')
			return false;
	return true;
}

static bool take_status(struct http_text value, struct cgi_answer *out)
{
	unsigned status = 0;

	for (size_t i = 0; i < 3; i++) {
		if (i >= value.len || value.at[i] < '0' || value.at[i] > '9')
			return false;
		status = status * 10 + (unsigned)(value.at[i] - '0');
	}
	out->status = (uint16_t)status;
	return status >= 200 && status <= 599 && (value.len == 3 || value.at[3] == ' ');
}

static bool take_length(struct http_text value, struct cgi_answer *out)
{
	uint64_t length = 0;

	if (!value.len || value.len > 18 || out->length != UINT64_MAX)
		return false;
	for (size_t i = 0; i < value.len; i++) {
		if (value.at[i] < '0' || value.at[i] > '9')
			return false;
		length = length * 10 + (uint64_t)(value.at[i] - '0');
	}
	out->length = length;
	return true;
}

/* What this server says itself. */
static bool is_own(struct http_text name)
{
	return http_text_is(name, "Connection") || http_text_is(name, "Transfer-Encoding") || http_text_is(name, "Keep-Alive") ||
	       http_text_is(name, "Date") || http_text_is(name, "Upgrade");
}

static bool take_field(const struct http_field *field, struct cgi_answer *out, bool *redirects)
{
	if (http_text_is(field->name, "Status"))
		return take_status(field->value, out);
	if (http_text_is(field->name, "Content-Length"))
		return take_length(field->value, out);
	if (is_own(field->name))
		return true;
	*redirects |= http_text_is(field->name, "Location");
	if (out->field_count == HTTP_MAX_FIELDS)
		return false;
	out->fields[out->field_count++] = *field;
	return true;
}

bool cgi_parse_head(const char *bytes, size_t len, struct cgi_answer *out)
{
	bool redirects = false;

	out->status = 0;
	out->length = UINT64_MAX;
	out->field_count = 0;
	while (len) {
		const char *lf = memchr(bytes, '\n', len);
		size_t line = lf ? (size_t)(lf - bytes) : len, used = lf ? line + 1 : len;
		struct http_field field;

		if (line && bytes[line - 1] == '\r')
			line--;
		if (!line)
			break;
		if (!split_line(bytes, line, &field) || !take_field(&field, out, &redirects))
			return false;
		bytes += used;
		len -= used;
	}
	if (!out->status)
		out->status = redirects ? 302 : 200;
	return true;
}
