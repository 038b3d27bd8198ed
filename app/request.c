#include "app/request.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "app/module.h"
#include "app/thread.h"
#include "base/fastcgi.h"

enum { PENDING_MAX = 32 * 1024, TEXT_MAX = 1024 * 1024 };

/* ---- Memory ---- */

void *app_alloc(struct app_request *r, size_t size)
{
	return arena_alloc(&r->arena, size);
}

char *app_copy(struct app_request *r, const char *text, size_t len)
{
	char *copy = arena_alloc(&r->arena, len + 1);

	if (!copy)
		return NULL;
	memcpy(copy, text, len);
	copy[len] = '\0';
	return copy;
}

const char *app_text(struct app_request *r, const char *format, ...)
{
	va_list args, again;
	char *text;
	int len;

	va_start(args, format);
	va_copy(again, args);
	len = vsnprintf(NULL, 0, format, args);
	text = len >= 0 && len < TEXT_MAX ? arena_alloc(&r->arena, (size_t)len + 1) : NULL;
	if (text)
		vsnprintf(text, (size_t)len + 1, format, again);
	va_end(again);
	va_end(args);
	return text ? text : "";
}

/* ---- The request ---- */

static size_t count_pairs(const struct buf *params)
{
	size_t count = 0, used;
	struct fcgi_pair pair;

	for (size_t at = 0; at < buf_len(params); at += used, count++)
		if (fcgi_take_pair(buf_head(params) + at, buf_len(params) - at, buf_len(params), &used, &pair) != FCGI_PAIR)
			break;
	return count;
}

/* Names and values are terminated copies: a NUL in the midst cuts a value off. */
static bool take_params(struct app_request *r)
{
	const struct buf *params = &r->call->params;
	size_t count = count_pairs(params), used;
	struct fcgi_pair pair;

	r->variables = arena_alloc(&r->arena, (count + 1) * sizeof(*r->variables));
	if (!r->variables)
		return false;
	for (size_t at = 0; r->variable_count < count; at += used) {
		struct app_variable *v = &r->variables[r->variable_count++];

		if (fcgi_take_pair(buf_head(params) + at, buf_len(params) - at, buf_len(params), &used, &pair) != FCGI_PAIR)
			return false;
		v->name = app_copy(r, pair.name, pair.name_len);
		v->value = app_copy(r, pair.value, pair.value_len);
		if (!v->name || !v->value)
			return false;
	}
	return true;
}

const char *app_param(struct app_request *r, const char *name)
{
	for (size_t i = 0; i < r->variable_count; i++)
		if (!strcmp(r->variables[i].name, name))
			return r->variables[i].value;
	return NULL;
}

bool app_param_at(struct app_request *r, size_t index, const char **name, const char **value)
{
	if (index >= r->variable_count)
		return false;
	*name = r->variables[index].name;
	*value = r->variables[index].value;
	return true;
}

bool app_method_is(struct app_request *r, const char *method)
{
	const char *is = app_param(r, "REQUEST_METHOD");

	return is && (!strcmp(is, method) || (!strcmp(is, "HEAD") && !strcmp(method, "GET")));
}

const char *app_path(struct app_request *r)
{
	static const char *const names[] = { "PATH_INFO", "DOCUMENT_URI", "SCRIPT_NAME" };
	size_t len = strlen(r->call->prefix);

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		const char *path = app_param(r, names[i]);

		if (!path || !*path)
			continue;
		/* Other web servers give the whole path as that of the script. */
		if (i && len && !strncmp(path, r->call->prefix, len) && (!path[len] || path[len] == '/'))
			path += len;
		return *path ? path : "/";
	}
	return "/";
}

const char *app_link(struct app_request *r, const char *path)
{
	return app_text(r, "%s%s", r->call->prefix, path);
}

ssize_t app_read(struct app_request *r, void *bytes, size_t size)
{
	return app_call_read(r->call, bytes, size);
}

bool app_is_gone(struct app_request *r)
{
	r->gone = r->gone || app_call_is_gone(r->call);
	return r->gone;
}

/* ---- The head of the answer ---- */

void app_status(struct app_request *r, unsigned status)
{
	if (status >= 200 && status <= 599)
		r->status = status;
}

static bool is_name(const char *name)
{
	static const char marks[] = "!#$%&'*+-.^_`|~";

	for (const char *c = name; *c; c++)
		if (!((*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') || (*c >= '0' && *c <= '9') || strchr(marks, *c)))
			return false;
	return *name && strlen(name) <= 100;
}

static bool is_value(const char *value)
{
	for (const unsigned char *c = (const unsigned char *)value; *c; c++)
		if ((*c < ' ' && *c != '\t') || *c == 0x7f)
			return false;
	return strlen(value) <= 8000;
}

/* How the answer gets there is the carrier's. */
static bool is_carriers(const char *name)
{
	static const char *const names[] = { "Connection", "Content-Length", "Date", "Keep-Alive", "Server", "Status",
					     "Transfer-Encoding", "Upgrade" };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (!strcasecmp(name, names[i]))
			return true;
	return false;
}

/* Cookies and links may come several times, nothing else may. */
static bool may_repeat(const char *name)
{
	return !strcasecmp(name, "Set-Cookie") || !strcasecmp(name, "Link") || !strcasecmp(name, "Vary");
}

/* Takes a field out of the head. */
static void remove_field(struct buf *head, const char *name)
{
	struct buf kept = { 0 };
	const char *n, *v;
	size_t at = 0, from = 0;
	bool fine = true;

	for (; app_head_next(head, &at, &n, &v); from = at)
		if (strcasecmp(n, name))
			fine = fine && buf_append(&kept, buf_head(head) + from, at - from);
	if (fine) {
		buf_fini(head);
		*head = kept;
	} else {
		buf_fini(&kept);
	}
}

static bool has_field(const struct buf *head, const char *name)
{
	const char *n, *v;

	for (size_t at = 0; app_head_next(head, &at, &n, &v);)
		if (!strcasecmp(n, name))
			return true;
	return false;
}

static bool put_field(struct app_request *r, const char *name, const char *value)
{
	if (buf_append(&r->head, name, strlen(name) + 1) && buf_append(&r->head, value, strlen(value) + 1))
		return true;
	r->failed = true;
	return false;
}

bool app_header(struct app_request *r, const char *name, const char *value)
{
	if (r->head_gone || !is_name(name) || !is_value(value) || is_carriers(name))
		return false;
	if (!may_repeat(name))
		remove_field(&r->head, name);
	return put_field(r, name, value);
}

/* ---- Its body ---- */

static struct app_piece next_piece(struct app_request *r)
{
	bool first = !r->head_gone;

	if (first)
		app_session_save(r);
	if (first && buf_len(&r->pending) && !has_field(&r->head, "Content-Type"))
		put_field(r, "Content-Type", "text/html; charset=utf-8");
	r->head_gone = true;
	return (struct app_piece){ first ? r->status : 0, &r->head, &r->pending };
}

static bool hand_over(struct app_request *r)
{
	const struct app_piece piece = next_piece(r);

	r->gone = !app_call_write(r->call, &piece);
	return !r->gone;
}

bool app_flush(struct app_request *r)
{
	return !r->gone && hand_over(r);
}

bool app_write(struct app_request *r, const void *bytes, size_t len)
{
	const char *from = bytes;

	while (len && !r->gone) {
		size_t take = len < PENDING_MAX ? len : PENDING_MAX;

		if (!buf_append(&r->pending, from, take)) {
			r->failed = true;
			return false;
		}
		from += take;
		len -= take;
		if (buf_len(&r->pending) >= PENDING_MAX && !hand_over(r))
			return false;
	}
	return !r->gone;
}

bool app_puts(struct app_request *r, const char *text)
{
	return app_write(r, text, strlen(text));
}

bool app_printf(struct app_request *r, const char *format, ...)
{
	char small[1024], *large = NULL;
	va_list args;
	bool fine;
	int len;

	va_start(args, format);
	len = vsnprintf(small, sizeof(small), format, args);
	va_end(args);
	if (len < 0)
		return false;
	if ((size_t)len >= sizeof(small)) {
		va_start(args, format);
		len = vasprintf(&large, format, args);
		va_end(args);
		if (len < 0) {
			r->failed = true;
			return false;
		}
	}
	fine = app_write(r, large ? large : small, (size_t)len);
	free(large);
	return fine;
}

void app_redirect(struct app_request *r, const char *location)
{
	buf_fini(&r->pending);
	app_status(r, 303);
	if (!app_header(r, "Location", location))
		app_fail(r, 500, "The application wanted to redirect to what is no address.");
}

void app_fail(struct app_request *r, unsigned status, const char *text)
{
	buf_fini(&r->pending);
	app_status(r, status);
	app_header(r, "Content-Type", "text/html; charset=utf-8");
	app_html(r, "<!DOCTYPE html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\">"
		    "<title>%u</title><style>body{font:1.1rem system-ui,sans-serif;margin:15vh auto;max-width:32rem;padding:0 1rem}</style>"
		    "<h1>%u</h1><p>%s</p>\n", status, status, text);
}

void app_log(struct app_request *r, const char *format, ...)
{
	char text[1024];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	log_warning(&r->call->subject, "%s", text);
}

/* ---- Life ---- */

void app_request_serve(struct app_call *call, struct app_thread *thread)
{
	struct app_request r = { .call = call, .thread = thread, .status = 200 };

	struct app_piece last;

	if (take_params(&r))
		call->module->app->handle(&r);
	else
		r.failed = true;
	app_db_end_request(thread->db);
	last = next_piece(&r);
	app_call_finish(call, &last, r.failed, r.sql_us);
	buf_fini(&r.head);
	buf_fini(&r.pending);
	app_form_close(&r);
	arena_fini(&r.arena);
}
