#include "proxy/session/parts.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/session/turn.h"
#include "proxy/session/worker.h"

struct parts {
	size_t len;
	size_t at;	 /* of what has not been started */
	uint8_t seq;	 /* of the last packet that the client was sent */
	bool running;	 /* parts_next() is at work: what ends a turn must not start the next inside of it */
	bool again;	 /* ... but have it do so */
	bool over;
	uint8_t packet[]; /* header and command, in front of each statement in turn; then the text */
};

enum { AT_TEXT = WIRE_HEADER_BYTES + 1 };

/* Statements go to a replica, be they writes: the transaction there, or the next one, is READ ONLY. */
static bool in_read_only_block(const struct client *c)
{
	return (c->trx && c->trx->is_replica) || (!c->trx && c->is_read_only && !(c->status & SERVER_STATUS_AUTOCOMMIT));
}

static bool must_part(const struct turn *t)
{
	const struct sql_meaning *m = t->meaning;

	return t->task == TASK_COMMAND && !t->is_long && m->target != SQL_TO_REPLICA && in_read_only_block(t->client);
}

/* A server looks at the text without the semicolons and blanks at its end. */
static size_t without_end(const char *text, size_t len)
{
	while (len && (text[len - 1] == ';' || isspace((unsigned char)text[len - 1])))
		len--;
	return len;
}

static struct parts *new_parts(const struct turn *t, size_t len)
{
	struct parts *p = malloc(sizeof(*p) + AT_TEXT + len);

	if (!p)
		return NULL;
	*p = (struct parts){ .len = len };
	memcpy(p->packet + AT_TEXT, t->text, len);
	return p;
}

static enum parts_cut cut(struct turn *t)
{
	struct client *c = t->client;
	size_t len = without_end(t->text, t->text_len), first = sql_first_part(&c->sql, t->text, len);

	if (first >= len)
		return PARTS_KEPT;
	c->parts = new_parts(t, len);
	if (!c->parts) {
		client_close(c, "out of memory");
		return PARTS_LOST;
	}
	c->parts->at = first + 1;
	wire_put_header(t->packet, (uint32_t)first + 1, 0);
	t->packet_len = AT_TEXT + first;
	t->more_parts = true;
	return PARTS_CUT;
}

enum parts_cut parts_judge(struct turn *turn)
{
	const struct parts *p = turn->client->parts;

	if (!p)
		return must_part(turn) ? cut(turn) : PARTS_KEPT;
	turn->seq_before = p->seq;
	turn->more_parts = p->at < p->len;
	return PARTS_KEPT;
}

void parts_note_end(struct client *client, uint8_t seq)
{
	if (client->parts)
		client->parts->seq = seq;
}

/* Outside of the block all that is left goes as it is. */
static size_t next_length(const struct client *c, const char *text, size_t len)
{
	return in_read_only_block(c) ? sql_first_part(&c->sql, text, len) : len;
}

static void start_next(struct client *c)
{
	struct parts *p = c->parts;
	uint8_t *packet = p->packet + p->at; /* over what was in front of it */
	size_t len = p->len - p->at;

	/* As a server does. */
	for (; len && isspace(packet[AT_TEXT]); packet++, len--)
		p->at++;
	len = next_length(c, (const char *)packet + AT_TEXT, len);
	p->at += len + 1;
	wire_put_header(packet, (uint32_t)len + 1, 0);
	packet[WIRE_HEADER_BYTES] = COM_QUERY;
	turn_start(c, packet, AT_TEXT + len);
}

void parts_next(struct client *client)
{
	struct parts *p = client->parts;

	p->again = true;
	if (p->running)
		return;
	p->running = true;
	while (p->again && !p->over && client->state == CLIENT_READY) {
		p->again = false;
		start_next(client);
	}
	p->running = false;
	if (p->over)
		parts_free(client);
}

void parts_end(struct client *client)
{
	client->parts->over = true;
	if (!client->parts->running)
		parts_free(client);
}

void parts_free(struct client *client)
{
	free(client->parts);
	client->parts = NULL;
}
