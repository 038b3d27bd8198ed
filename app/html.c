/* Text for other places: HTML by templates, parts of URLs. */
#include <stdio.h>
#include <string.h>

#include "app/app.h"

static const char *entity(char c)
{
	switch (c) {
	case '&': return "&amp;";
	case '<': return "&lt;";
	case '>': return "&gt;";
	case '"': return "&quot;";
	case '\'': return "&#39;";
	default: return NULL;
	}
}

size_t app_utf8(const char *text)
{
	const unsigned char *at = (const unsigned char *)text;
	size_t len = *at < 0x80 ? *at != 0 : *at >= 0xc2 && *at < 0xe0 ? 2 : (*at & 0xf0) == 0xe0 ? 3 : *at >= 0xf0 && *at < 0xf5 ? 4 : 0;

	for (size_t i = 1; i < len; i++)
		if ((at[i] & 0xc0) != 0x80)
			return 0;
	/* Too long for what they say, surrogates, and beyond the last one (RFC 3629). */
	if ((*at == 0xe0 && at[1] < 0xa0) || (*at == 0xed && at[1] >= 0xa0) || (*at == 0xf0 && at[1] < 0x90) || (*at == 0xf4 && at[1] >= 0x90))
		return 0;
	return len;
}

static bool put_escaped(struct app_request *r, const char *text, size_t len)
{
	size_t from = 0, step;

	for (size_t i = 0; i < len; i += step) {
		const char *word = entity(text[i]);

		step = app_utf8(text + i);
		if (!step || step > len - i) {
			word = "\xef\xbf\xbd"; /* U+FFFD */
			step = 1;
		}
		if (!word)
			continue;
		if (!app_write(r, text + from, i - from) || !app_puts(r, word))
			return false;
		from = i + step;
	}
	return app_write(r, text + from, len - from);
}

/* One conversion of a template, taken apart. */
struct conversion {
	char spec[32]; /* as printf wants it */
	int longs;     /* how many l; z counts as one */
	int precision; /* -1: none */
	char kind;
};

/* Reads it behind its %; returns what follows. `args` gives the precision of %.*s. */
static const char *read_conversion(const char *at, struct conversion *c, va_list *args)
{
	const char *from = at;
	size_t len;

	*c = (struct conversion){ .precision = -1 };
	at += strspn(at, "-+ #0123456789");
	if (at[0] == '.' && at[1] == '*') {
		c->precision = va_arg(*args, int);
		at += 2;
	} else if (*at == '.') {
		c->precision = 0;
		for (at++; *at >= '0' && *at <= '9'; at++)
			c->precision = c->precision < 100000 ? c->precision * 10 + (*at - '0') : c->precision;
	}
	for (; *at == 'l' || *at == 'z'; at++)
		c->longs++;
	c->kind = *at ? *at++ : '%';
	len = (size_t)(at - from);
	if (len < sizeof(c->spec) - 1)
		snprintf(c->spec, sizeof(c->spec), "%%%.*s", (int)len, from);
	return at;
}

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
#pragma GCC diagnostic ignored "-Wformat-security"

static bool put_number(struct app_request *r, const struct conversion *c, va_list *args)
{
	char text[128];

	if (strchr("fFgGeE", c->kind))
		snprintf(text, sizeof(text), c->spec, va_arg(*args, double));
	else if (c->longs > 1)
		snprintf(text, sizeof(text), c->spec, va_arg(*args, long long));
	else if (c->longs)
		snprintf(text, sizeof(text), c->spec, va_arg(*args, long));
	else
		snprintf(text, sizeof(text), c->spec, va_arg(*args, int));
	return put_escaped(r, text, strlen(text));
}

#pragma GCC diagnostic pop

static bool put_text(struct app_request *r, const struct conversion *c, va_list *args)
{
	const char *text = va_arg(*args, const char *);

	if (!text)
		text = "";
	return put_escaped(r, text, c->precision >= 0 ? strnlen(text, (size_t)c->precision) : strlen(text));
}

static bool put_all(struct app_request *r, const char *format, va_list *args)
{
	struct conversion c;

	for (;;) {
		size_t plain = strcspn(format, "%");

		if (!app_write(r, format, plain))
			return false;
		format += plain;
		if (!*format)
			return true;
		format = read_conversion(format + 1, &c, args);
		if (c.kind == '%' ? !app_write(r, "%", 1) : c.kind == 's' ? !put_text(r, &c, args) : !put_number(r, &c, args))
			return false;
	}
}

bool app_html(struct app_request *r, const char *format, ...)
{
	va_list args;
	bool fine;

	va_start(args, format);
	fine = put_all(r, format, &args);
	va_end(args);
	return fine;
}

/* ---- URLs ---- */

static bool is_plain(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || (c && strchr("-._~", c));
}

const char *app_url(struct app_request *r, const char *text)
{
	static const char digits[] = "0123456789ABCDEF";
	char *out = app_alloc(r, strlen(text) * 3 + 1), *at = out;

	if (!out)
		return "";
	for (; *text; text++) {
		if (is_plain(*text)) {
			*at++ = *text;
			continue;
		}
		*at++ = '%';
		*at++ = digits[(unsigned char)*text >> 4];
		*at++ = digits[*text & 15];
	}
	*at = '\0';
	return out;
}

static int hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

char *app_url_decode(struct app_request *r, const char *text, size_t len, bool plus)
{
	char *out = app_alloc(r, len + 1), *at = out;

	if (!out)
		return NULL;
	for (size_t i = 0; i < len; i++) {
		char c = text[i];

		if (c == '%') {
			if (len - i < 3 || hex(text[i + 1]) < 0 || hex(text[i + 2]) < 0)
				return NULL;
			c = (char)(hex(text[i + 1]) << 4 | hex(text[i + 2]));
			i += 2;
		} else if (c == '+' && plus) {
			c = ' ';
		}
		if (!c)
			return NULL;
		*at++ = c;
	}
	*at = '\0';
	return out;
}
