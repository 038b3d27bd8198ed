#include "app/multipart.h"

#include <string.h>
#include <strings.h>

/* ---- Parameters of a field: ; name="value" ---- */

static const char *skip_blanks(const char *at)
{
	return at + strspn(at, " \t");
}

/* Reads a value, quoted or not, into `out`; returns what follows, NULL when it is malformed or too long. */
static const char *read_value(const char *at, char *out, size_t size)
{
	size_t len = 0;

	if (*at != '"') {
		len = strcspn(at, "; \t");
		if (len >= size)
			return NULL;
		memcpy(out, at, len);
		out[len] = '\0';
		return at + len;
	}
	for (at++; *at && *at != '"'; at++) {
		/* Browsers send %22 for a quote; others a backslash. One in a Windows path stands for itself. */
		if (*at == '\\' && (at[1] == '"' || at[1] == '\\'))
			at++;
		if (len + 1 >= size)
			return NULL;
		out[len++] = *at;
	}
	out[len] = '\0';
	return *at ? at + 1 : NULL;
}

/* The parameter of that name; 1 found, 0 not there, -1 malformed. */
static int parameter(const char *value, const char *name, char *out, size_t size)
{
	char other[MULTIPART_NAME_MAX] = "";

	value += strcspn(value, ";");
	while (*value == ';') {
		bool wanted;
		size_t len;

		value = skip_blanks(value + 1);
		len = strcspn(value, "=; \t");
		wanted = len == strlen(name) && !strncasecmp(value, name, len);
		value = skip_blanks(value + len);
		if (*value == '=') {
			value = read_value(skip_blanks(value + 1), wanted ? out : other, wanted ? size : sizeof(other));
			if (!value)
				return -1;
			if (wanted)
				return 1;
		}
		value = skip_blanks(value);
	}
	return *value ? -1 : 0;
}

static bool is_boundary(const char *text)
{
	static const char signs[] = "'()+_,-./:=? ";
	size_t len = strlen(text);

	for (const char *c = text; *c; c++)
		if (!((*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') || (*c >= '0' && *c <= '9') || strchr(signs, *c)))
			return false;
	return len && text[len - 1] != ' ';
}

bool multipart_boundary(const char *content_type, char out[MULTIPART_BOUNDARY_MAX + 1])
{
	static const char type[] = "multipart/form-data";

	if (strncasecmp(content_type, type, strlen(type)) || !strchr("; \t", content_type[strlen(type)]))
		return false;
	return parameter(content_type, "boundary", out, MULTIPART_BOUNDARY_MAX + 1) == 1 && is_boundary(out);
}

/* ---- Parts ---- */

/* The value of a field in a head of lines; NULL: none. The line's end is cut in place. */
static char *find_field(char *head, const char *name)
{
	size_t len = strlen(name);

	for (char *line = head; line && *line; line = strchr(line, '\0') + 2) {
		if (!strncasecmp(line, name, len) && line[len] == ':')
			return (char *)skip_blanks(line + len + 1);
	}
	return NULL;
}

/* Lines become texts, one behind the other with two NULs between them. */
static bool split_lines(char *head, size_t len)
{
	if (memchr(head, '\0', len))
		return false;
	for (size_t i = 0; i + 1 < len; i++)
		if (head[i] == '\r' && head[i + 1] == '\n')
			head[i] = head[i + 1] = '\0';
	return true;
}

static enum multipart_result begin_part(struct multipart *m, const char *bytes, size_t len)
{
	char head[MULTIPART_HEAD_MAX + 3] = "", name[MULTIPART_NAME_MAX], file[MULTIPART_NAME_MAX];
	struct multipart_part part = { .name = name, .type = "" };
	char *disposition, *type;
	int has_file;

	memcpy(head, bytes, len);
	if (!split_lines(head, len))
		return MULTIPART_BAD;
	disposition = find_field(head, "Content-Disposition");
	type = find_field(head, "Content-Type");
	if (!disposition || strncasecmp(disposition, "form-data", 9) || parameter(disposition, "name", name, sizeof(name)) != 1)
		return MULTIPART_BAD;
	has_file = parameter(disposition, "filename", file, sizeof(file));
	if (has_file < 0)
		return MULTIPART_BAD;
	part.file_name = has_file ? file : NULL;
	part.type = type ? type : "";
	return m->handler->begin(m->owner, &part) ? MULTIPART_MORE : MULTIPART_STOPPED;
}

/* ---- States: each takes from the window what it can; false: it needs more, or `result` says that it is over ---- */

static bool take_before(struct multipart *m, enum multipart_result *result)
{
	/* The first boundary may stand at the very start, without the line end in front. */
	const char *bytes = (const char *)buf_head(&m->window);
	size_t len = buf_len(&m->window), bare = m->delimiter_len - 2;

	if (len < bare)
		return false;
	if (memcmp(bytes, m->delimiter + 2, bare)) {
		*result = MULTIPART_BAD; /* no browser writes anything in front of it */
		return false;
	}
	buf_consume(&m->window, bare);
	m->state = MULTIPART_BEHIND;
	return true;
}

static bool take_behind(struct multipart *m, enum multipart_result *result)
{
	const char *bytes = (const char *)buf_head(&m->window);

	if (buf_len(&m->window) < 2)
		return false;
	if (!memcmp(bytes, "--", 2)) {
		m->state = MULTIPART_OVER;
		*result = MULTIPART_END;
		return false;
	}
	if (memcmp(bytes, "\r\n", 2)) {
		*result = MULTIPART_BAD;
		return false;
	}
	buf_consume(&m->window, 2);
	m->state = MULTIPART_HEAD;
	return true;
}

static bool take_head(struct multipart *m, enum multipart_result *result)
{
	const char *bytes = (const char *)buf_head(&m->window);
	size_t len = buf_len(&m->window);
	const char *end = len ? memmem(bytes, len < MULTIPART_HEAD_MAX ? len : MULTIPART_HEAD_MAX, "\r\n\r\n", 4) : NULL;

	if (!end) {
		if (len >= MULTIPART_HEAD_MAX)
			*result = MULTIPART_BAD;
		return false;
	}
	*result = begin_part(m, bytes, (size_t)(end - bytes) + 2);
	buf_consume(&m->window, (size_t)(end - bytes) + 4);
	m->state = MULTIPART_DATA;
	return *result == MULTIPART_MORE;
}

static bool give(struct multipart *m, size_t len, enum multipart_result *result)
{
	if (len && !m->handler->data(m->owner, buf_head(&m->window), len))
		*result = MULTIPART_STOPPED;
	buf_consume(&m->window, len);
	return *result == MULTIPART_MORE;
}

static bool take_data(struct multipart *m, enum multipart_result *result)
{
	const char *bytes = (const char *)buf_head(&m->window);
	size_t len = buf_len(&m->window);
	const char *end = len ? memmem(bytes, len, m->delimiter, m->delimiter_len) : NULL;

	if (!end) {
		/* What may be the begin of a delimiter waits. */
		if (len >= m->delimiter_len)
			give(m, len - m->delimiter_len + 1, result);
		return false;
	}
	if (!give(m, (size_t)(end - bytes), result))
		return false;
	buf_consume(&m->window, m->delimiter_len);
	m->state = MULTIPART_BEHIND;
	if (!m->handler->end(m->owner))
		*result = MULTIPART_STOPPED;
	return *result == MULTIPART_MORE;
}

static bool take(struct multipart *m, enum multipart_result *result)
{
	switch (m->state) {
	case MULTIPART_BEFORE: return take_before(m, result);
	case MULTIPART_BEHIND: return take_behind(m, result);
	case MULTIPART_HEAD: return take_head(m, result);
	case MULTIPART_DATA: return take_data(m, result);
	case MULTIPART_OVER: break;
	}
	*result = MULTIPART_END;
	return false;
}

void multipart_init(struct multipart *m, const char *boundary, const struct multipart_handler *handler, void *owner)
{
	*m = (struct multipart){ .handler = handler, .owner = owner };
	memcpy(m->delimiter, "\r\n--", 4);
	m->delimiter_len = 4 + strnlen(boundary, MULTIPART_BOUNDARY_MAX);
	memcpy(m->delimiter + 4, boundary, m->delimiter_len - 4);
}

void multipart_fini(struct multipart *m)
{
	buf_fini(&m->window);
}

enum multipart_result multipart_feed(struct multipart *m, const void *bytes, size_t len)
{
	enum multipart_result result = MULTIPART_MORE;

	if (m->state == MULTIPART_OVER)
		return MULTIPART_END;
	if (!buf_append(&m->window, bytes, len))
		return MULTIPART_STOPPED;
	while (take(m, &result))
		;
	return result;
}
