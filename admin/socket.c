/* The Unix socket: protocol.h. Who may connect may command; that is what the socket's mode and group are for. */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "admin/protocol.h"
#include "admin/render.h"
#include "admin/room.h"
#include "base/log.h"

struct talk {
	struct visitor *visitor;
	const struct answer *answer;
	bool json;
	unsigned shown; /* tables whose rows have been sent as they came, one bit each */
};

static bool send_json(struct visitor *visitor, json_t *message)
{
	char *text = message ? json_dumps(message, JSON_COMPACT) : NULL;
	bool ok = text && channel_write(&visitor->channel, text, strlen(text)) && channel_write(&visitor->channel, "\n", 1);

	json_decref(message);
	free(text);
	return ok;
}

static bool send_text(struct visitor *visitor, const char *where, const char *text)
{
	json_t *value;

	if (!text || !*text)
		return true;
	value = json_string(text);
	return send_json(visitor, json_pack("{s:o}", where, value ? value : json_string("(bytes that are no UTF-8)\n")));
}

static void send_exit(struct visitor *visitor, int code)
{
	send_json(visitor, json_pack("{s:i}", "exit", code));
}

/* ---- Answers ---- */

/* What is written to a stream ends up in a string. */
struct page {
	FILE *stream;
	char *text;
	size_t len;
};

static bool page_open(struct page *page)
{
	*page = (struct page){ 0 };
	page->stream = open_memstream(&page->text, &page->len);
	return page->stream != NULL;
}

static void page_send(struct page *page, struct visitor *visitor, const char *where)
{
	fclose(page->stream);
	send_text(visitor, where, page->text);
	free(page->text);
}

static bool send_row_json(struct visitor *visitor, const struct table *table)
{
	json_t *row = render_json_last_row(table);
	char *text = json_dumps(row, JSON_COMPACT);
	char *line = NULL;

	if (text && asprintf(&line, "%s\n", text) > 0)
		send_text(visitor, "out", line);
	json_decref(row);
	free(text);
	free(line);
	return !visitor->channel.broken;
}

/* A row that people want to see when it comes. */
static bool on_row(void *owner, const struct table *table)
{
	struct talk *talk = owner;
	struct page page;

	if (table != &talk->answer->tables[0])
		return true;
	if (talk->json)
		return send_row_json(talk->visitor, table);
	if (!page_open(&page))
		return false;
	render_last_row(table, page.stream);
	page_send(&page, talk->visitor, "out");
	return !talk->visitor->channel.broken;
}

static void send_answer_json(struct talk *talk, const struct answer *answer)
{
	json_t *whole = render_json(answer);
	char *text = whole ? json_dumps(whole, JSON_INDENT(2)) : NULL;
	char *line = NULL;

	if (text && asprintf(&line, "%s\n", text) > 0)
		send_text(talk->visitor, "out", line);
	json_decref(whole);
	free(text);
	free(line);
}

static void send_answer_text(struct talk *talk, const struct answer *answer)
{
	struct page out, err;

	if (!page_open(&out))
		return;
	if (!page_open(&err)) {
		fclose(out.stream);
		free(out.text);
		return;
	}
	render_text(answer, talk->shown, out.stream, err.stream);
	page_send(&out, talk->visitor, "out");
	page_send(&err, talk->visitor, "err");
}

static int exit_code(const struct answer *answer)
{
	switch (answer->result) {
	case ANSWER_DONE:
		return EXIT_CODE_DONE;
	case ANSWER_USAGE:
		return EXIT_CODE_USAGE;
	default:
		return EXIT_CODE_FAILED;
	}
}

/* Rows are sent as they come where that is what one asks for (--follow), and to people while an operation runs. */
static bool is_streamed(const struct request *request, bool json)
{
	if (request_has(request, "follow"))
		return true;
	return !json && (request->id == COMMAND_PROMOTE || request->id == COMMAND_FAILOVER || request->id == COMMAND_REJOIN);
}

static void carry_out(struct visitor *visitor, const struct request *request, bool json)
{
	struct talk talk = { .visitor = visitor, .json = json };
	struct answer answer = { .result = ANSWER_DONE };
	struct call call = {
		.admin = visitor->admin, .request = request, .answer = &answer, .from = visitor->from, .channel = &visitor->channel
	};
	bool streamed = is_streamed(request, json);

	if (streamed) {
		talk.answer = &answer;
		answer.on_row = on_row;
		answer.owner = &talk;
		talk.shown = 1; /* the first table */
	}
	call_run(&call);
	if (json && !(streamed && answer.result == ANSWER_DONE))
		send_answer_json(&talk, &answer);
	else if (!json)
		send_answer_text(&talk, &answer);
	send_exit(visitor, exit_code(&answer));
	answer_fini(&answer);
}

/* ---- Requests ---- */

static void refuse_usage(struct visitor *visitor, const char *why)
{
	char line[700];

	snprintf(line, sizeof(line), "tandemctl: %s\n", why);
	send_text(visitor, "err", line);
	send_exit(visitor, EXIT_CODE_USAGE);
}

/* The request's words; NULL when it is none. They live as long as `message`. */
static char **words_of(json_t *message, size_t *count)
{
	json_t *list = json_object_get(message, "words");
	char **words;

	*count = json_array_size(list);
	if (!*count || *count > PROTOCOL_WORDS)
		return NULL;
	words = calloc(*count, sizeof(*words));
	for (size_t i = 0; words && i < *count; i++) {
		json_t *word = json_array_get(list, i);

		if (!json_is_string(word)) {
			free(words);
			return NULL;
		}
		words[i] = (char *)json_string_value(word); /* only read */
	}
	return words;
}

static void obey(struct visitor *visitor, json_t *message)
{
	const char *format = json_string_value(json_object_get(message, "format"));
	bool json = format && strcmp(format, "json") == 0;
	struct request request;
	char why[512];
	size_t count;
	char **words = words_of(message, &count);

	if (!words) {
		refuse_usage(visitor, "the request is not understood: it needs a list \"words\" of texts");
		return;
	}
	if (command_parse_words(words, count, &request, why, sizeof(why)))
		carry_out(visitor, &request, json);
	else
		refuse_usage(visitor, why);
	request_fini(&request);
	free(words);
}

static void say_who(struct visitor *visitor)
{
	struct ucred peer = { .uid = (uid_t)-1 };
	socklen_t len = sizeof(peer);

	getsockopt(visitor->channel.fd, SOL_SOCKET, SO_PEERCRED, &peer, &len);
	snprintf(visitor->from, sizeof(visitor->from), "uid %d (process %d) over the socket", (int)peer.uid, (int)peer.pid);
}

static void serve(struct visitor *visitor)
{
	char *line = malloc(PROTOCOL_REQUEST_BYTES);
	json_error_t error;
	json_t *message;

	say_who(visitor);
	if (line && channel_read_line(&visitor->channel, line, PROTOCOL_REQUEST_BYTES, ADMIN_LOGIN_MS)) {
		message = json_loads(line, JSON_REJECT_DUPLICATES, &error);
		if (json_is_object(message))
			obey(visitor, message);
		else
			refuse_usage(visitor, "the request is not understood: it is no JSON object in one line");
		json_decref(message);
	} else if (line && !visitor->channel.broken) {
		refuse_usage(visitor, "the request is not understood: too long, or it has a zero byte");
	}
	free(line);
}

static void refuse(struct visitor *visitor)
{
	send_text(visitor, "err", "tandemctl: too many admin clients at the same time; try again\n");
	send_exit(visitor, EXIT_CODE_FAILED);
}

const struct face face_socket = { serve, refuse };
