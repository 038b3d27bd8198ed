#include "web/guard.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "web/limit.h"

static const struct http_verdict fine = { 0, NULL };

/* ---- Connections ---- */

const char *guard_connection(struct connection *c)
{
	const struct web_settings *web = c->worker->config->web;

	if (!web->max_clients_per_address || address_list_has(&web->trusted_proxies, &c->address))
		return NULL;
	if (limit_enter(c->worker->limits, &c->address, web->max_clients_per_address, &c->place))
		return NULL;
	return "its address has max_clients_per_address connections already";
}

/* ---- Whose request ---- */

/* Only what can stand in logs, fields and variables as it is. */
static bool is_id(const struct http_text *text)
{
	if (!text->len || text->len >= EXCHANGE_ID_BYTES)
		return false;
	for (size_t i = 0; i < text->len; i++) {
		char c = text->at[i];

		if (!((c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '-' || c == '_' || c == '.'))
			return false;
	}
	return true;
}

static void name_request(struct exchange *x, bool trusted)
{
	const struct http_text *given = trusted ? http_head_field(&x->head, "X-Request-Id") : NULL;

	if (given && is_id(given))
		snprintf(x->id, sizeof(x->id), "%.*s", (int)given->len, given->at);
	else
		snprintf(x->id, sizeof(x->id), "%016llx", (unsigned long long)x->worker->next_id++);
}

void guard_identify(struct exchange *x)
{
	const struct web_settings *web = x->config->web;
	struct forwarded f = { x->client, x->tls };
	bool trusted = address_list_has(&web->trusted_proxies, &x->client);

	name_request(x, trusted);
	if (!trusted)
		return;
	forwarded_read(&x->head, (enum forwarded_by)web->forwarded_by, &web->trusted_proxies, &f);
	x->client = f.client;
	x->tls = f.tls;
	address_put(&x->client, x->client_text);
}

/* ---- Whether it may ---- */

struct http_verdict guard_request(struct exchange *x, unsigned *retry_s)
{
	const struct web_settings *web = x->config->web;
	uint64_t wait_us;

	*retry_s = 0;
	if (!web_address_may(&web->allow, &web->deny, &x->client))
		return (struct http_verdict){ 403, "the lists of [web] do not let its address in" };
	if (!web->request_rate || address_list_has(&web->trusted_proxies, &x->client))
		return fine;
	wait_us = limit_take_request(x->worker->limits, &x->client, web->request_rate, web->request_burst, x->started_us);
	if (!wait_us)
		return fine;
	*retry_s = (unsigned)((wait_us + 999999) / 1000000);
	return (struct http_verdict){ 429, "its address sends more than request_rate and request_burst allow" };
}

struct http_verdict guard_site(const struct exchange *x)
{
	const struct web_site *site = x->site;

	if (!web_address_may(&site->allow, &site->deny, &x->client))
		return (struct http_verdict){ 403, "the lists of its site do not let its address in" };
	if (site->max_body_bytes && x->head.framing == HTTP_LENGTH && x->head.content_length > site->max_body_bytes)
		return (struct http_verdict){ 413, "its body is longer than max_body" };
	return fine;
}

/* ---- Bodies ---- */

void guard_body_wanted(struct exchange *x, bool wanted)
{
	uint64_t now = clock_us();

	if (x->body_since_us)
		x->body_waited_us += now - x->body_since_us;
	x->body_since_us = wanted ? now : 0;
}

/* A drop now and then keeps the time-out between pieces away: on average there must be more. */
static bool is_too_slow(const struct exchange *x)
{
	const struct web_settings *web = x->config->web;

	return web->min_body_rate && x->body_waited_us > (uint64_t)web->body_timeout_ms * 1000 &&
	       x->body_came < x->body_waited_us / 1000 * web->min_body_rate / 1000;
}

struct http_verdict guard_body(struct exchange *x)
{
	if (x->body_since_us)
		guard_body_wanted(x, true);
	if (x->site && x->site->max_body_bytes && x->body_came > x->site->max_body_bytes)
		return (struct http_verdict){ 413, "its body is longer than max_body" };
	if (is_too_slow(x))
		return (struct http_verdict){ 408, "its body comes slower than min_body_rate" };
	return fine;
}
