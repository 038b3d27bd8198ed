#include "app/form.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "app/multipart.h"
#include "app/request.h"
#include "app/thread.h"
#include "proxy/settings.h"

enum { TEXT_BYTES = 256 * 1024, FIELDS = 200, QUERY_PAIRS = 200, READ_BYTES = 16 * 1024 };

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

/* ---- Forms ---- */

struct app_form {
	enum app_form_result result;
	struct app_form_limits limits;
	struct app_variable *fields; /* room for limits.fields of each */
	size_t field_count;
	struct app_file *files;
	size_t file_count;
	/* While it is read. */
	struct app_request *request;
	struct buf value;  /* of the field being read */
	size_t text_bytes; /* so far */
	uint64_t file_bytes;
	bool in_file;
};

static bool too_large(struct app_form *form)
{
	form->result = APP_FORM_TOO_LARGE;
	return false;
}

static bool out_of_memory(struct app_form *form)
{
	form->result = APP_FORM_BAD;
	form->request->failed = true;
	return false;
}

/* Reads all of the body that fits; false with the result when it does not. */
static bool read_text(struct app_form *form, struct buf *out)
{
	char bytes[READ_BYTES];
	ssize_t n;

	while ((n = app_read(form->request, bytes, sizeof(bytes))) > 0) {
		if (buf_len(out) + (size_t)n > form->limits.text_bytes)
			return too_large(form);
		if (!buf_append(out, bytes, (size_t)n))
			return out_of_memory(form);
	}
	if (n < 0)
		form->result = APP_FORM_BAD;
	return n == 0;
}

static void read_urlencoded(struct app_form *form)
{
	struct buf text = { 0 };

	if (read_text(form, &text) &&
	    !app_pairs_parse(form->request, (const char *)buf_head(&text), buf_len(&text), form->limits.fields, &form->fields,
			     &form->field_count)) {
		form->field_count = 0;
		form->result = APP_FORM_BAD;
	}
	buf_fini(&text);
}

/* A file without a name: it is gone when it is closed. */
static int spool(const struct app_request *r)
{
	const char *folder = r->thread->settings->state_dir;
	int fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	char path[4096];

	if (fd >= 0)
		return fd;
	/* Not every file system has such files. */
	snprintf(path, sizeof(path), "%s/upload-XXXXXX", folder);
	fd = mkostemp(path, O_CLOEXEC);
	if (fd >= 0)
		unlink(path);
	return fd;
}

static bool begin_file(struct app_form *form, const struct multipart_part *part)
{
	struct app_request *r = form->request;
	struct app_file *file = &form->files[form->file_count];

	if (!form->limits.file_bytes)
		return too_large(form);
	file->field = app_copy(r, part->name, strlen(part->name));
	file->name = app_copy(r, part->file_name, strlen(part->file_name));
	file->type = app_copy(r, part->type, strlen(part->type));
	file->fd = spool(r);
	if (!file->field || !file->name || !file->type || file->fd < 0) {
		if (file->fd >= 0)
			close(file->fd);
		return out_of_memory(form);
	}
	form->file_count++;
	return true;
}

static bool on_part(void *owner, const struct multipart_part *part)
{
	struct app_form *form = owner;
	struct app_variable *field;

	if (form->field_count + form->file_count >= form->limits.fields)
		return too_large(form);
	/* A browser sends a file without a name where none was chosen. */
	form->in_file = part->file_name && *part->file_name;
	if (form->in_file)
		return begin_file(form, part);
	field = &form->fields[form->field_count];
	field->name = app_copy(form->request, part->name, strlen(part->name));
	return field->name || out_of_memory(form);
}

static bool write_file(struct app_form *form, const char *bytes, size_t len)
{
	struct app_file *file = &form->files[form->file_count - 1];

	form->file_bytes += len;
	if (form->file_bytes > form->limits.file_bytes)
		return too_large(form);
	file->size += len;
	while (len) {
		ssize_t n = write(file->fd, bytes, len);

		if (n <= 0)
			return out_of_memory(form);
		bytes += n;
		len -= (size_t)n;
	}
	return true;
}

static bool on_data(void *owner, const void *bytes, size_t len)
{
	struct app_form *form = owner;

	if (form->in_file)
		return write_file(form, bytes, len);
	form->text_bytes += len;
	if (form->text_bytes > form->limits.text_bytes)
		return too_large(form);
	return buf_append(&form->value, bytes, len) || out_of_memory(form);
}

static bool on_end(void *owner)
{
	struct app_form *form = owner;
	const char *value = (const char *)buf_head(&form->value);
	struct app_variable *field;

	if (form->in_file)
		return lseek(form->files[form->file_count - 1].fd, 0, SEEK_SET) == 0;
	if (value && memchr(value, '\0', buf_len(&form->value))) {
		form->result = APP_FORM_BAD;
		return false;
	}
	field = &form->fields[form->field_count++];
	field->value = app_copy(form->request, value ? value : "", buf_len(&form->value));
	buf_fini(&form->value);
	return field->value || out_of_memory(form);
}

static void read_multipart(struct app_form *form, const char *boundary)
{
	static const struct multipart_handler handler = { on_part, on_data, on_end };
	enum multipart_result result = MULTIPART_MORE;
	struct multipart parts;
	char bytes[READ_BYTES];
	ssize_t n = 0;

	multipart_init(&parts, boundary, &handler, form);
	while (result == MULTIPART_MORE && (n = app_read(form->request, bytes, sizeof(bytes))) > 0)
		result = multipart_feed(&parts, bytes, (size_t)n);
	multipart_fini(&parts);
	buf_fini(&form->value);
	if (result != MULTIPART_END && form->result == APP_FORM_FINE)
		form->result = APP_FORM_BAD;
}

static void read_form(struct app_form *form)
{
	const char *type = app_param(form->request, "CONTENT_TYPE");
	static const char urlencoded[] = "application/x-www-form-urlencoded";
	char boundary[MULTIPART_BOUNDARY_MAX + 1];

	if (!type || !*type)
		return;
	form->fields = app_alloc(form->request, form->limits.fields * sizeof(*form->fields));
	form->files = app_alloc(form->request, form->limits.fields * sizeof(*form->files));
	if (!form->fields || !form->files) {
		out_of_memory(form);
		return;
	}
	memset(form->files, 0, form->limits.fields * sizeof(*form->files));
	if (!strncasecmp(type, urlencoded, strlen(urlencoded)) && strchr("; \t", type[strlen(urlencoded)]))
		read_urlencoded(form);
	else if (multipart_boundary(type, boundary))
		read_multipart(form, boundary);
	else
		form->result = strncasecmp(type, "multipart/form-data", 19) ? APP_FORM_UNKNOWN : APP_FORM_BAD;
}

enum app_form_result app_form_read(struct app_request *r, const struct app_form_limits *limits)
{
	if (r->form)
		return r->form->result;
	r->form = app_alloc(r, sizeof(*r->form));
	if (!r->form) {
		r->failed = true;
		return APP_FORM_BAD;
	}
	*r->form = (struct app_form){ .request = r, .limits = limits ? *limits : (struct app_form_limits){ 0 } };
	if (!r->form->limits.text_bytes)
		r->form->limits.text_bytes = TEXT_BYTES;
	if (!r->form->limits.fields)
		r->form->limits.fields = FIELDS;
	read_form(r->form);
	return r->form->result;
}

bool app_form(struct app_request *r)
{
	switch (app_form_read(r, NULL)) {
	case APP_FORM_FINE: return true;
	case APP_FORM_BAD: app_fail(r, 400, "The form that was sent is malformed or not whole."); break;
	case APP_FORM_TOO_LARGE: app_fail(r, 413, "The form that was sent is larger than allowed here."); break;
	case APP_FORM_UNKNOWN: app_fail(r, 415, "What was sent is not a form."); break;
	}
	return false;
}

bool app_field_at(struct app_request *r, size_t index, const char **name, const char **value)
{
	if (app_form_read(r, NULL) != APP_FORM_FINE || index >= r->form->field_count)
		return false;
	*name = r->form->fields[index].name;
	*value = r->form->fields[index].value;
	return true;
}

const char *app_field(struct app_request *r, const char *name)
{
	const char *n, *value;

	for (size_t i = 0; app_field_at(r, i, &n, &value); i++)
		if (!strcmp(n, name))
			return value;
	return "";
}

const struct app_file *app_file(struct app_request *r, const char *field)
{
	if (app_form_read(r, NULL) != APP_FORM_FINE)
		return NULL;
	for (size_t i = 0; i < r->form->file_count; i++)
		if (!strcmp(r->form->files[i].field, field))
			return &r->form->files[i];
	return NULL;
}

void app_form_close(struct app_request *r)
{
	for (size_t i = 0; r->form && i < r->form->file_count; i++)
		close(r->form->files[i].fd);
}

/* ---- Cookies ---- */

const char *app_cookie(struct app_request *r, const char *name)
{
	const char *at = app_param(r, "HTTP_COOKIE");
	size_t len = strlen(name);

	while (at && *at) {
		at += strspn(at, " ;");
		if (!strncmp(at, name, len) && at[len] == '=')
			return app_copy(r, at + len + 1, strcspn(at + len + 1, "; "));
		at += strcspn(at, ";");
	}
	return NULL;
}

/* RFC 6265 section 4.1.1. */
static bool is_cookie_text(const char *text)
{
	for (const unsigned char *c = (const unsigned char *)text; *c; c++)
		if (*c <= ' ' || *c >= 0x7f || strchr("\",;\\", *c))
			return false;
	return strlen(text) <= 4000;
}

bool app_set_cookie(struct app_request *r, const char *name, const char *value, long seconds)
{
	const char *https = app_param(r, "HTTPS");
	char age[48] = "";

	if (!*name || !is_cookie_text(name) || strchr(name, '=') || !is_cookie_text(value))
		return false;
	if (seconds)
		snprintf(age, sizeof(age), "; Max-Age=%ld", seconds > 0 ? seconds : 0);
	return app_header(r, "Set-Cookie",
			  app_text(r, "%s=%s; Path=/%s; HttpOnly; SameSite=Lax%s", name, value, age,
				   https && !strcmp(https, "on") ? "; Secure" : ""));
}
