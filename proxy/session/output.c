#include "proxy/session/output.h"

#include <string.h>

void output_begin(struct output *out, struct io *to)
{
	if (out->to && out->to != to)
		output_flush(out);
	out->to = to;
}

static void add_piece(struct output *out, void *at, size_t len)
{
	struct iovec *last = out->count ? &out->pieces[out->count - 1] : NULL;

	if (last && (uint8_t *)last->iov_base + last->iov_len == (uint8_t *)at) {
		last->iov_len += len;
		return;
	}
	out->pieces[out->count++] = (struct iovec){ at, len };
}

static bool has_room(struct output *out, size_t staged)
{
	return out->count < OUTPUT_PIECES && out->staged + staged <= OUTPUT_STAGE_BYTES;
}

void output_bytes(struct output *out, const uint8_t *bytes, size_t len)
{
	bool copy = len < OUTPUT_COPY_BELOW;

	if (!has_room(out, copy ? len : 0)) {
		struct io *to = out->to;

		output_flush(out);
		out->to = to;
	}
	if (copy) {
		uint8_t *at = out->stage + out->staged;

		memcpy(at, bytes, len);
		out->staged += len;
		add_piece(out, at, len);
	} else {
		add_piece(out, (void *)bytes, len);
	}
}

struct wire_writer output_packet(struct output *out, size_t len)
{
	if (!has_room(out, len)) {
		struct io *to = out->to;

		output_flush(out);
		out->to = to;
	}
	return wire_writer(out->stage + out->staged, OUTPUT_STAGE_BYTES - out->staged);
}

void output_packet_end(struct output *out, const struct wire_writer *w)
{
	add_piece(out, w->data, w->len);
	out->staged += w->len;
}

bool output_flush(struct output *out)
{
	struct io *to = out->to;
	bool ok = true;

	if (out->count == 1)
		ok = io_send(to, out->pieces[0].iov_base, out->pieces[0].iov_len);
	else if (out->count > 1)
		ok = io_sendv(to, out->pieces, out->count);
	out->count = 0;
	out->staged = 0;
	out->to = NULL;
	return ok;
}
