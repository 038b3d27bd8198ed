/* A connection is made for each request, unless told otherwise: FastCGI programs with few processes starve when front ends keep idle ones. */
#include "web/gateway.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "web/cgi.h"
#include "web/files.h"

enum { REQUEST_ID = 1, ERRORS_MAX = 2048 };

/* ---- The request ---- */

/* The script of a path that names none: the index of its directory where there is one, else the route's front. */
static void choose_script(const struct exchange *x, char *script, size_t room)
{
	const char *front = x->route->front;
	bool directory = x->path[strlen(x->path) - 1] == '/';

	snprintf(script, room, "%s%s", x->path, directory ? "index.php" : "");
	if (front && !(directory && x->route->files && files_has_script(x, script)))
		snprintf(script, room, "%s", front);
}

static bool put_params(const struct exchange *x, struct buf *out)
{
	char script[4096], port[8];
	const char *info = "";
	struct cgi_request request = {
		.head = &x->head,
		.path = x->path,
		.script_name = script,
		.root = x->site->root ? x->site->root : "",
		.client = x->client_text,
		.request_id = x->id,
		.server_name = x->site->host,
		.server_port = x->tls ? "443" : "80",
		.tls = x->tls,
	};

	if (x->head.port.len) {
		snprintf(port, sizeof(port), "%.*s", (int)x->head.port.len, x->head.port.at);
		request.server_port = port;
	}
	if (!cgi_split_script(x->path, script, sizeof(script), &info))
		choose_script(x, script, sizeof(script));
	request.path_info = info;
	return cgi_put_params(out, &request);
}

static bool send_records(struct gateway *g, enum fcgi_type type, const uint8_t *bytes, size_t len)
{
	bool ok = true;

	while (ok && len) {
		size_t take = len < FCGI_CONTENT_MAX ? len : FCGI_CONTENT_MAX;
		uint8_t header[FCGI_HEADER_BYTES];
		const struct iovec pieces[] = { { header, sizeof(header) }, { (void *)bytes, take } };

		fcgi_put_header(header, type, REQUEST_ID, take);
		ok = io_sendv(&g->link->io, pieces, 2);
		bytes += take;
		len -= take;
	}
	return ok;
}

/* All of it in one go where there is no body: small requests are one packet and one system call. */
static bool ask(struct gateway *g)
{
	const struct exchange *x = g->exchange;
	uint8_t begin[FCGI_BEGIN_BYTES], header[FCGI_HEADER_BYTES], end[FCGI_HEADER_BYTES];
	struct buf params = { 0 };
	bool ok = put_params(x, &params);
	size_t first = buf_len(&params) < FCGI_CONTENT_MAX ? buf_len(&params) : FCGI_CONTENT_MAX;
	const struct iovec pieces[] = { { begin, sizeof(begin) }, { header, sizeof(header) }, { buf_head(&params), first } };

	fcgi_put_begin(begin, REQUEST_ID, FCGI_RESPONDER, g->settings->keepalive && g->settings->keepalive != WEB_KEEPALIVE_AUTO);
	fcgi_put_header(header, FCGI_PARAMS, REQUEST_ID, first);
	fcgi_put_header(end, FCGI_PARAMS, REQUEST_ID, 0);
	ok = ok && io_sendv(&g->link->io, pieces, 3) && send_records(g, FCGI_PARAMS, buf_head(&params) + first, buf_len(&params) - first) &&
	     io_send(&g->link->io, end, sizeof(end));
	buf_fini(&params);
	return ok;
}

static void send_body(struct gateway *g, const uint8_t *bytes, size_t len)
{
	send_records(g, FCGI_STDIN, bytes, len); /* a failure is told by `ended` */
}

static void send_end(struct gateway *g)
{
	uint8_t header[FCGI_HEADER_BYTES];

	fcgi_put_header(header, FCGI_STDIN, REQUEST_ID, 0);
	io_send(&g->link->io, header, sizeof(header));
}

/* ---- The answer ---- */

static void begin_answer(struct gateway *g, const struct cgi_answer *answer)
{
	gateway_begin_answer(g, answer->status);
	for (size_t i = 0; i < answer->field_count; i++) {
		char name[128];

		snprintf(name, sizeof(name), "%.*s", (int)answer->fields[i].name.len, answer->fields[i].name.at);
		response_field(g->exchange, name, "%.*s", (int)answer->fields[i].value.len, answer->fields[i].value.at);
	}
	gateway_send_head(g, answer->length);
}

/* Collects the head; what follows it in the same piece is body. */
static void take_head(struct gateway *g, const uint8_t *bytes, size_t len)
{
	static __thread struct cgi_answer answer; /* too large for the stack of a callback */
	struct buf head;
	size_t whole;

	if (buf_len(&g->head) + len > GATEWAY_HEAD_MAX || !buf_append(&g->head, bytes, len)) {
		gateway_fail(g, 502, "the head of its answer is too long");
		return;
	}
	whole = cgi_head_length((const char *)buf_head(&g->head), buf_len(&g->head));
	if (!whole)
		return;
	if (!cgi_parse_head((const char *)buf_head(&g->head), whole, &answer)) {
		gateway_fail(g, 502, "the head of its answer is malformed");
		return;
	}
	begin_answer(g, &answer);
	head = g->head;
	if (g->ends)
		return; /* and so is what `head` points at */
	g->head = (struct buf){ 0 };
	if (buf_len(&head) > whole)
		gateway_pass_on(g, buf_head(&head) + whole, buf_len(&head) - whole);
	buf_fini(&head);
}

static void take_output(struct gateway *g, const uint8_t *bytes, size_t len)
{
	if (g->state == GATEWAY_ASKED)
		take_head(g, bytes, len);
	else
		gateway_pass_on(g, bytes, len);
}

static void take_errors(struct gateway *g, const uint8_t *bytes, size_t len)
{
	size_t room = ERRORS_MAX - buf_len(&g->errors);

	if (!buf_append(&g->errors, bytes, len < room ? len : room))
		buf_fini(&g->errors);
}

static void tell_errors(struct gateway *g)
{
	if (buf_len(&g->errors))
		log_warning(&g->exchange->subject, "%s: upstream %s %s says: %.*s", g->exchange->path, upstream_name(g->upstream),
			    g->server->name, (int)buf_len(&g->errors), (const char *)buf_head(&g->errors));
	buf_fini(&g->errors);
}

/* END_REQUEST: how the program ended is told by its answer; here the server says whether it ran it at all. */
static void take_end(struct gateway *g, const uint8_t *bytes, size_t len)
{
	for (size_t i = 0; i < len && g->end_have < sizeof(g->end_content); i++)
		g->end_content[g->end_have++] = bytes[i];
	g->overloaded = g->end_have > 4 && g->end_content[4] != FCGI_REQUEST_COMPLETE;
}

static void take_content(struct gateway *g, const uint8_t *piece, size_t len)
{
	if (g->reader.record.type == FCGI_STDOUT)
		take_output(g, piece, len);
	else if (g->reader.record.type == FCGI_STDERR)
		take_errors(g, piece, len);
	else if (g->reader.record.type == FCGI_END_REQUEST)
		take_end(g, piece, len);
}

static bool keeps(const struct gateway *g)
{
	return g->settings->keepalive && g->settings->keepalive != WEB_KEEPALIVE_AUTO;
}

/* `left`: bytes behind END_REQUEST, which answer nothing. */
static void finish(struct gateway *g, size_t left)
{
	tell_errors(g);
	if (g->overloaded && g->state == GATEWAY_ASKED)
		gateway_refused(g, "it has no room for the request, or is no responder");
	else if (g->state != GATEWAY_ANSWERING)
		gateway_fail(g, 502, "it ended without an answer");
	else if (g->left && g->left != LENGTH_UNKNOWN && !exchange_has_no_body(g->exchange))
		gateway_fail(g, 502, "its answer is shorter than it said");
	else
		gateway_finish(g, keeps(g) && !left, g->settings->keepalive);
}

/* True when the record is one of this request, or of none. */
static bool is_ours(const struct fcgi_record *record)
{
	return record->id == REQUEST_ID || (record->id == 0 && record->type > FCGI_DATA);
}

static void take(struct gateway *g, const uint8_t *bytes, size_t len)
{
	struct upstream_link *l = g->link;

	/* A failure may have led to another server, whose bytes these are not. */
	while (len && !g->ends && g->link == l) {
		const uint8_t *piece;
		size_t used, piece_len;

		switch (fcgi_read(&g->reader, bytes, len, &used, &piece, &piece_len)) {
		case FCGI_RECORD:
			if (!is_ours(&g->reader.record))
				gateway_fail(g, 502, "it answers a request that was not asked");
			break;
		case FCGI_CONTENT:
			take_content(g, piece, piece_len);
			break;
		case FCGI_DONE:
			if (g->reader.record.type == FCGI_END_REQUEST)
				finish(g, len - used);
			break;
		case FCGI_BAD:
			gateway_fail(g, 502, "what it sends is not FastCGI");
			break;
		case FCGI_MORE:
			break;
		}
		bytes += used;
		len -= used;
	}
	/* A record without padding is over with its last byte, without another one to say so. */
	if (!g->ends && g->link == l && g->reader.inside && !g->reader.left && !g->reader.padding &&
	    g->reader.record.type == FCGI_END_REQUEST)
		finish(g, 0);
}

/* Without END_REQUEST an answer of unknown length may be cut; one whose length came is whole. */
static bool hung_up(struct gateway *g)
{
	tell_errors(g);
	if (g->state != GATEWAY_ANSWERING || g->left)
		return false;
	gateway_finish(g, false, 0);
	return true;
}

const struct gateway_protocol gateway_fastcgi = {
	.name = "FastCGI",
	.ask = ask,
	.send_body = send_body,
	.send_end = send_end,
	.take = take,
	.hung_up = hung_up,
};
