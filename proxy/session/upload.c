#include "proxy/session/upload.h"

#include <string.h>

#include "proxy/session/turn.h"
#include "proxy/session/worker.h"

enum { HIGH_MARK = 256 * 1024 };

/* Finds where in its packets the beginning breaks off. */
void upload_begin_long(struct client *client, const uint8_t *bytes, size_t len)
{
	struct upload *u = &client->upload;
	size_t at = 0;

	*u = (struct upload){ .active = true };
	while (at + WIRE_HEADER_BYTES <= len) {
		uint32_t payload = wire_header_len(bytes + at);

		u->full = payload == WIRE_MAX_PAYLOAD;
		u->last_seq = bytes[at + 3];
		at += WIRE_HEADER_BYTES;
		if (payload > len - at) {
			u->left = payload - (uint32_t)(len - at);
			return;
		}
		at += payload;
	}
	u->have = (uint8_t)(len - at);
	memcpy(u->header, bytes + at, u->have);
}

bool upload_can_flow(const struct client *client)
{
	const struct turn *t = client->turn;

	return client->upload.skip || (t && t->wait == WAIT_REPLY && t->backend);
}

static void end_upload(struct client *c)
{
	struct turn *t = c->turn;

	c->upload.active = false;
	if (c->upload.infile && t && t->backend && !c->upload.skip)
		wire_walk_resume(&t->backend->walker, (uint8_t)(c->upload.last_seq + 1));
}

static void send_on(struct client *c, const void *bytes, size_t len)
{
	struct turn *t = c->turn;

	if (!c->upload.skip && t && t->backend && len)
		io_send(&t->backend->io, bytes, len);
}

/* One header byte at a time is rare enough not to care. Returns false when the upload has ended. */
static bool header_complete(struct client *c)
{
	struct upload *u = &c->upload;
	bool was_full = u->full;

	u->left = wire_header_len(u->header);
	u->header[3] = (uint8_t)(u->header[3] - u->seq_shift);
	u->last_seq = u->header[3];
	u->have = 0;
	u->full = u->left == WIRE_MAX_PAYLOAD;
	send_on(c, u->header, WIRE_HEADER_BYTES);
	(void)was_full;
	if (u->left)
		return true;
	end_upload(c); /* the empty packet ends a file, and a command of a multiple of 16 MiB - 1 */
	return false;
}

static bool packet_ended(struct client *c)
{
	if (c->upload.infile || c->upload.full)
		return false; /* another packet follows */
	end_upload(c);
	return true;
}

size_t upload_bytes(struct client *client, uint8_t *bytes, size_t len)
{
	struct upload *u = &client->upload;
	size_t at = 0;

	while (at < len && u->active) {
		if (u->left) {
			size_t n = len - at < u->left ? len - at : u->left;

			send_on(client, bytes + at, n);
			at += n;
			u->left -= (uint32_t)n;
			if (!u->left && packet_ended(client))
				break;
			continue;
		}
		u->header[u->have++] = bytes[at++];
		if (u->have == WIRE_HEADER_BYTES && !header_complete(client))
			break;
	}
	if (client->turn && client->turn->backend && io_unsent(&client->turn->backend->io) > HIGH_MARK)
		client_pause(client);
	return at;
}

void upload_flow(struct client *client)
{
	struct buf held = client->in;
	size_t used;

	if (!client->upload.active || !upload_can_flow(client) || !buf_len(&held))
		return;
	memset(&client->in, 0, sizeof(client->in));
	used = upload_bytes(client, buf_head(&held), buf_len(&held));
	buf_consume(&held, used);
	if (buf_len(&client->in) && !buf_move(&held, &client->in)) {
		buf_fini(&held);
		client_close(client, "out of memory");
		return;
	}
	client->in = held;
	/* Paused while its connection was made ready; when bytes are still on their way, the drained connection resumes it. */
	if (!client->turn || !client->turn->backend || !io_unsent(&client->turn->backend->io))
		client_resume(client);
}

void upload_skip(struct client *client)
{
	if (!client->upload.active)
		return;
	client->upload.skip = true;
	client_resume(client);
	upload_flow(client);
}
