/*
 *              PROXY header                ready                   connection_finish()              all sent
 *   ANNOUNCED -------------> SHAKING ------------------> OPEN -------------------------> FLUSHING -----------> LINGERING
 *     |      (else at once)    |        (at once in clear) |                                |                     |
 *     +------------------------+---------------------------+---> CLOSED <-------------------+--- hung up, timed out, connection_close()
 */
#include "web/connection.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/proxy_header.h"
#include "web/guard.h"
#include "web/limit.h"

static const struct io_handler io_handler;

/* ---- State ---- */

#define BIT(n) (1u << (n))

static const struct {
	const char *name;
	unsigned next;
} states[] = {
	[CONNECTION_ANNOUNCED] = { "announced", BIT(CONNECTION_SHAKING) | BIT(CONNECTION_CLOSED) },
	[CONNECTION_SHAKING] = { "shaking hands", BIT(CONNECTION_OPEN) | BIT(CONNECTION_CLOSED) },
	[CONNECTION_OPEN] = { "open", BIT(CONNECTION_FLUSHING) | BIT(CONNECTION_LINGERING) | BIT(CONNECTION_CLOSED) },
	[CONNECTION_FLUSHING] = { "flushing", BIT(CONNECTION_LINGERING) | BIT(CONNECTION_CLOSED) },
	[CONNECTION_LINGERING] = { "lingering", BIT(CONNECTION_CLOSED) },
	[CONNECTION_CLOSED] = { "closed", 0 },
};

static void set_state(struct connection *c, enum connection_state to)
{
	assert(states[c->state].next & BIT(to));
	log_debug(&c->subject, "%s -> %s", states[c->state].name, states[to].name);
	c->state = to;
}

void connection_wait(struct connection *c, enum web_wait wait)
{
	web_timer_set(c->worker, &c->timer, wait);
}

/* Before anything can be answered: a line in the log is all that is left to say. */
static void refuse(struct connection *c, const char *why)
{
	log_info(&c->subject, "refused: %s", why);
	connection_close(c, why);
}

static void on_time_out(struct web_timer *timer)
{
	struct connection *c = (struct connection *)((char *)timer - offsetof(struct connection, timer));

	if (c->state == CONNECTION_OPEN)
		c->carrier->timed_out(c);
	else if (c->state == CONNECTION_ANNOUNCED)
		refuse(c, "no PROXY header came, and its address is one of proxy_protocol_from");
	else
		connection_close(c, "timed out");
}

static void describe(const struct log_subject *subject, char *out, size_t size)
{
	const struct connection *c = (const struct connection *)((const char *)subject - offsetof(struct connection, subject));

	snprintf(out, size, "web client %s", c->host);
}

/* ---- Life ---- */

static void open_carrier(struct connection *c)
{
	c->carrier = io_speaks(&c->io, "h2") ? &http2_carrier : &http1_carrier;
	set_state(c, CONNECTION_OPEN);
	if (!c->carrier->begin(c))
		connection_close(c, "out of memory");
}

/* Whose it is is known, and `len` bytes of his may have come. */
static void admit(struct connection *c, const uint8_t *bytes, size_t len)
{
	const char *why;

	address_put(&c->address, c->host);
	set_state(c, CONNECTION_SHAKING);
	why = guard_connection(c);
	if (why) {
		refuse(c, why);
		return;
	}
	if (!c->tls) {
		open_carrier(c);
		if (len && c->state == CONNECTION_OPEN)
			c->carrier->bytes(c, bytes, len);
		return;
	}
	c->certificates = web_config_ref(c->worker->config);
	if (!io_start_tls(&c->io, c->worker->config->tls, true, NULL, false, bytes, len))
		connection_close(c, "out of memory");
}

/* The PROXY header is whole: what follows it is the client's. */
static void take_header(struct connection *c, const struct proxy_header *header)
{
	struct buf early = c->early;

	c->early = (struct buf){ 0 };
	if (header->from.known)
		c->address = header->from;
	c->is_secure |= header->tls;
	admit(c, buf_head(&early) + header->len, buf_len(&early) - header->len);
	buf_fini(&early);
}

static void await_header(struct connection *c, const uint8_t *bytes, size_t len)
{
	struct proxy_header header;

	if (!buf_append(&c->early, bytes, len)) {
		connection_close(c, "out of memory");
		return;
	}
	switch (proxy_header_read(buf_head(&c->early), buf_len(&c->early), &header)) {
	case PROXY_HEADER_MORE:
		break;
	case PROXY_HEADER_WHOLE:
		take_header(c, &header);
		break;
	case PROXY_HEADER_BAD:
		refuse(c, header.why);
		break;
	}
}

bool connection_new(struct web_worker *worker, int fd, const struct address *peer, bool tls)
{
	struct connection *c = calloc(1, sizeof(*c));

	if (!c) {
		close(fd);
		return false;
	}
	c->subject.describe = describe;
	c->worker = worker;
	c->tls = c->is_secure = tls;
	c->address = *peer;
	web_timer_init(&c->timer, on_time_out);
	address_put(peer, c->host);
	if (!io_init(&c->io, &worker->loop, fd, &io_handler, c)) {
		free(c);
		return false;
	}
	TAILQ_INSERT_TAIL(&worker->connections, c, link);
	atomic_fetch_add_explicit(&worker->client_count, 1, memory_order_relaxed);
	/* The first request is due as soon as a handshake is. */
	connection_wait(c, WAIT_HEAD);
	if (!address_list_has(&worker->config->web->proxy_protocol_from, peer))
		admit(c, NULL, 0);
	return true;
}

void connection_close(struct connection *c, const char *why)
{
	if (c->state == CONNECTION_CLOSED)
		return;
	log_debug(&c->subject, "closed: %s", why);
	set_state(c, CONNECTION_CLOSED);
	if (c->carrier)
		c->carrier->end(c);
	io_close(&c->io);
	web_config_unref(c->certificates);
	buf_fini(&c->early);
	limit_leave(c->place);
	connection_wait(c, WAIT_NOTHING);
	TAILQ_REMOVE(&c->worker->connections, c, link);
	atomic_fetch_sub_explicit(&c->worker->client_count, 1, memory_order_relaxed);
	atomic_fetch_sub_explicit(c->worker->clients, 1, memory_order_relaxed);
	web_worker_bury(c->worker, c);
}

/* Closing with bytes unread would reset the connection and destroy the answer on its way. */
static void linger(struct connection *c)
{
	set_state(c, CONNECTION_LINGERING);
	io_finish_sending(&c->io);
	io_resume(&c->io);
	connection_wait(c, WAIT_LINGER);
}

void connection_finish(struct connection *c)
{
	if (!io_unsent(&c->io)) {
		linger(c);
		return;
	}
	set_state(c, CONNECTION_FLUSHING);
	connection_wait(c, WAIT_SEND);
}

void connection_drain(struct connection *c)
{
	if (c->state == CONNECTION_OPEN)
		c->carrier->drain(c);
}

/* ---- From the io ---- */

static void on_bytes(void *owner, uint8_t *bytes, size_t len)
{
	struct connection *c = owner;

	/* Later on nobody listens any more. */
	if (c->state == CONNECTION_OPEN)
		c->carrier->bytes(c, bytes, len);
	else if (c->state == CONNECTION_ANNOUNCED)
		await_header(c, bytes, len);
}

static void on_drained(void *owner)
{
	struct connection *c = owner;

	if (c->state == CONNECTION_FLUSHING)
		linger(c);
	else if (c->state == CONNECTION_OPEN)
		c->carrier->drained(c);
}

static void on_ready(void *owner)
{
	open_carrier(owner);
}

static void on_ended(void *owner, enum io_end why)
{
	struct connection *c = owner;

	connection_close(c, io_error_text(&c->io, why));
}

static const struct io_handler io_handler = { on_bytes, on_drained, on_ready, on_ended };
