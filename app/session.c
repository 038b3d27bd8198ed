/*
 * The cookie is TEXT.SIGNATURE, both in the alphabet of base64 for URLs. TEXT is a list of pairs like a query's: e, the second at which it
 * ends, n, a number that nobody can guess, and what the application has set, whose names begin with a dot.
 */
#include "app/session.h"

#include <openssl/evp.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "app/form.h"
#include "app/key.h"
#include "app/request.h"
#include "app/settings.h"
#include "app/thread.h"
#include "base/tls.h"
#include "proxy/settings.h"

#define COOKIE "tandem_session"

enum { VALUES_MAX = 32, TEXT_MAX = 2800, NONCE_BYTES = 16 };

struct app_session {
	char nonce[2 * NONCE_BYTES + 1];
	long long ends; /* wall clock, seconds */
	struct app_variable values[VALUES_MAX];
	size_t count;
	bool changed; /* the answer carries it */
	bool is_new;  /* the browser does not have it */
};

/* ---- Base64 for URLs, without padding ---- */

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static size_t encode(const uint8_t *bytes, size_t len, char *out)
{
	char *at = out;

	for (size_t i = 0; i < len; i += 3) {
		size_t left = len - i < 3 ? len - i : 3;
		uint32_t v = (uint32_t)bytes[i] << 16 | (left > 1 ? (uint32_t)bytes[i + 1] << 8 : 0) | (left > 2 ? bytes[i + 2] : 0);

		for (size_t k = 0; k <= left; k++)
			*at++ = alphabet[v >> (18 - 6 * k) & 63];
	}
	*at = '\0';
	return (size_t)(at - out);
}

/* Returns the length; SIZE_MAX: it is none. `out` has room for len bytes. */
static size_t decode(const char *text, size_t len, uint8_t *out)
{
	uint32_t v = 0;
	unsigned bits = 0;
	size_t n = 0;

	for (size_t i = 0; i < len; i++) {
		const char *sign = text[i] ? strchr(alphabet, text[i]) : NULL;

		if (!sign)
			return SIZE_MAX;
		v = v << 6 | (uint32_t)(sign - alphabet);
		bits += 6;
		if (bits >= 8) {
			bits -= 8;
			out[n++] = (uint8_t)(v >> bits);
		}
	}
	return n;
}

/* ---- Reading ---- */

static uint32_t lifetime_ms(const struct app_request *r)
{
	return app_settings_of(r->thread->settings)->session_ms;
}

static bool sign(const struct app_request *r, unsigned age, const char *text, size_t len, uint8_t out[APP_MAC_BYTES])
{
	return app_key_sign(r->thread->settings->state_dir, lifetime_ms(r), age, text, len, out);
}

static bool is_signed(const struct app_request *r, const char *text, size_t len, const char *signature)
{
	uint8_t given[64], mac[APP_MAC_BYTES];
	size_t sign_len = strlen(signature);

	if (sign_len > sizeof(given) || decode(signature, sign_len, given) != APP_MAC_BYTES)
		return false;
	for (unsigned age = 0; age < 2; age++)
		if (sign(r, age, text, len, mac) && secret_equal(given, mac, APP_MAC_BYTES))
			return true;
	return false;
}

static void take_pair(struct app_session *s, const struct app_variable *pair)
{
	if (!strcmp(pair->name, "e"))
		s->ends = strtoll(pair->value, NULL, 10);
	else if (!strcmp(pair->name, "n"))
		snprintf(s->nonce, sizeof(s->nonce), "%s", pair->value);
	else if (pair->name[0] == '.' && s->count < VALUES_MAX)
		s->values[s->count++] = (struct app_variable){ pair->name + 1, pair->value };
}

static bool take_cookie(struct app_request *r, struct app_session *s, const char *cookie)
{
	const char *dot = strchr(cookie, '.');
	struct app_variable *pairs;
	size_t count, len;
	uint8_t *text;

	if (!dot || !is_signed(r, cookie, (size_t)(dot - cookie), dot + 1))
		return false;
	text = app_alloc(r, (size_t)(dot - cookie) + 1);
	len = text ? decode(cookie, (size_t)(dot - cookie), text) : SIZE_MAX;
	if (len == SIZE_MAX || !app_pairs_parse(r, (const char *)text, len, VALUES_MAX + 2, &pairs, &count))
		return false;
	for (size_t i = 0; i < count; i++)
		take_pair(s, &pairs[i]);
	return s->ends > (long long)time(NULL) && strlen(s->nonce) == sizeof(s->nonce) - 1;
}

static void begin_anew(struct app_session *s)
{
	uint8_t bytes[NONCE_BYTES];

	*s = (struct app_session){ .changed = true, .is_new = true };
	if (RAND_bytes(bytes, sizeof(bytes)) != 1)
		abort(); /* without chance there is no safety */
	for (int i = 0; i < NONCE_BYTES; i++)
		snprintf(s->nonce + (size_t)i * 2, 3, "%02x", bytes[i]);
}

/* The session of the request, read when it is first asked for. NULL: memory. A visitor without one gets it when something is set. */
static struct app_session *session_of(struct app_request *r)
{
	const char *cookie = r->session ? NULL : app_cookie(r, COOKIE);
	struct app_session *s = r->session;

	if (s)
		return s;
	s = r->session = app_alloc(r, sizeof(*s));
	if (!s) {
		r->failed = true;
		return NULL;
	}
	*s = (struct app_session){ 0 };
	if (!cookie || !take_cookie(r, s, cookie)) {
		begin_anew(s);
		s->changed = false;
	} else {
		/* It lives on while it is used; told when half of its time is over. */
		s->changed = s->ends - (long long)time(NULL) < (long long)lifetime_ms(r) / 2000;
	}
	return s;
}

/* ---- Values ---- */

static struct app_variable *find(struct app_session *s, const char *name)
{
	for (size_t i = 0; s && i < s->count; i++)
		if (!strcmp(s->values[i].name, name))
			return &s->values[i];
	return NULL;
}

const char *app_session_get(struct app_request *r, const char *name)
{
	const struct app_variable *v = find(session_of(r), name);

	return v ? v->value : NULL;
}

static const char *write_text(struct app_request *r, const struct app_session *s)
{
	const char *text = app_text(r, "e=%lld&n=%s", (long long)time(NULL) + lifetime_ms(r) / 1000, s->nonce);

	for (size_t i = 0; i < s->count; i++)
		text = app_text(r, "%s&.%s=%s", text, app_url(r, s->values[i].name), app_url(r, s->values[i].value));
	return text;
}

/* What does not fit leaves all as it was. */
static bool put_value(struct app_request *r, struct app_session *s, const char *name, const char *value)
{
	struct app_variable *v = find(s, name), before;
	bool is_new = !v;

	if (is_new && s->count == VALUES_MAX)
		return false;
	if (is_new)
		v = &s->values[s->count++];
	before = *v;
	v->name = app_copy(r, name, strlen(name));
	v->value = app_copy(r, value, strlen(value));
	if (v->name && v->value && strlen(write_text(r, s)) <= TEXT_MAX)
		return true;
	if (is_new)
		s->count--;
	else
		*v = before;
	return false;
}

bool app_session_set(struct app_request *r, const char *name, const char *value)
{
	struct app_session *s = session_of(r);
	struct app_variable *v = find(s, name);

	if (!s || r->head_gone || (value && !put_value(r, s, name, value)))
		return false;
	if (!value && v)
		*v = s->values[--s->count];
	s->changed = true;
	return true;
}

void app_session_clear(struct app_request *r)
{
	struct app_session *s = session_of(r);

	if (s)
		begin_anew(s);
}

/* Before the head goes. */
void app_session_save(struct app_request *r)
{
	uint8_t mac[APP_MAC_BYTES];
	const char *text;
	char *cookie;
	size_t len;

	if (!r->session || !r->session->changed)
		return;
	text = write_text(r, r->session);
	cookie = app_alloc(r, strlen(text) * 2 + 2 * APP_MAC_BYTES + 8);
	if (!cookie)
		return;
	len = encode((const uint8_t *)text, strlen(text), cookie);
	if (!sign(r, 0, cookie, len, mac))
		return;
	cookie[len++] = '.';
	encode(mac, sizeof(mac), cookie + len);
	app_set_cookie(r, COOKIE, cookie, (long)(lifetime_ms(r) / 1000));
	/* What a session is in is nobody else's: no cache keeps it. */
	app_header(r, "Cache-Control", "no-store");
}

/* ---- Tokens ---- */

static const char *token(struct app_request *r, struct app_session *s, unsigned age)
{
	const char *text = app_text(r, "csrf %s", s->nonce);
	char *out = app_alloc(r, 2 * APP_MAC_BYTES);
	uint8_t mac[APP_MAC_BYTES];

	if (!out || !sign(r, age, text, strlen(text), mac))
		return NULL;
	encode(mac, sizeof(mac), out);
	return out;
}

const char *app_csrf_token(struct app_request *r)
{
	struct app_session *s = session_of(r);
	const char *made = s ? token(r, s, 0) : NULL;

	/* What it is a token of must reach the browser. */
	if (s && s->is_new)
		s->changed = true;
	return made ? made : "";
}

bool app_csrf_check(struct app_request *r)
{
	const char *given = app_param(r, "HTTP_X_CSRF_TOKEN");
	struct app_session *s = session_of(r);

	if (!given)
		given = app_field(r, "csrf");
	for (unsigned age = 0; s && age < 2; age++) {
		const char *mine = token(r, s, age);

		if (mine && strlen(mine) == strlen(given) && secret_equal(mine, given, strlen(mine)))
			return true;
	}
	return false;
}

/* ---- Messages ---- */

void app_flash(struct app_request *r, const char *text)
{
	app_session_set(r, "_flash", text);
}

const char *app_flash_take(struct app_request *r)
{
	const char *text = app_session_get(r, "_flash");

	if (text)
		app_session_set(r, "_flash", NULL);
	return text;
}
