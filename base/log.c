#include "base/log.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"

enum {
	LOG_MESSAGE_BYTES = 2048, /* longer messages are cut */
	LOG_SUBJECT_BYTES = 256,
	LOG_LINE_BYTES =
		6 * (LOG_MESSAGE_BYTES + LOG_SUBJECT_BYTES) + 128, /* all of it as \u00xx */
};

static const char *const level_names[] = { "error", "warning", "info", "debug" };

/* As log_chosen_level. */
static _Atomic int chosen_format = LOG_FORMAT_TEXT;
_Atomic int log_chosen_level = LOG_LEVEL_INFO;

/* A line being put together. It is sized for the worst case, so that adding never has to fail. */
struct line {
	char bytes[LOG_LINE_BYTES];
	size_t len;
};

static void add_text(struct line *line, const char *text)
{
	size_t len = strlen(text);

	memcpy(line->bytes + line->len, text, len);
	line->len += len;
}

/* Length of the well-formed printable UTF-8 character at `s`, or 0. Bytes behind the terminating 0 are not read. */
static size_t printable_length(const unsigned char *s)
{
	static const uint32_t smallest[] = { 0, 0, 0x80, 0x800, 0x10000 };
	size_t len = s[0] < 0x80 ? 1 : s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2;
	uint32_t code;

	if (len == 1)
		return s[0] >= 0x20 && s[0] != 0x7f ? 1 : 0;
	if (s[0] < 0xc2 || s[0] > 0xf4)
		return 0;
	code = s[0] & (0x7f >> len);
	for (size_t i = 1; i < len; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
		code = code << 6 | (s[i] & 0x3f);
	}
	/* 0x80 to 0x9f are control characters too: terminals obey them. */
	if (code < smallest[len] || code < 0xa0 || code > 0x10ffff ||
	    (code >= 0xd800 && code <= 0xdfff))
		return 0;
	return len;
}

static void add_escaped(struct line *line, const char *text, bool json)
{
	const unsigned char *s = (const unsigned char *)text;

	while (*s) {
		size_t len = printable_length(s);

		if (len == 0) {
			line->len += (size_t)sprintf(line->bytes + line->len,
						     json ? "\\u%04x" : "\\x%02x", *s++);
			continue;
		}
		if (json && (*s == '"' || *s == '\\'))
			line->bytes[line->len++] = '\\';
		memcpy(line->bytes + line->len, s, len);
		line->len += len;
		s += len;
	}
}

static void add_time(struct line *line, bool json)
{
	struct timespec now;
	struct tm utc;

	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &utc);
	line->len += strftime(line->bytes + line->len, 32, "%Y-%m-%dT%H:%M:%S", &utc);
	line->len += (size_t)sprintf(line->bytes + line->len, json ? ".%03uZ" : ".%03uZ ",
				     (unsigned)(now.tv_nsec / 1000000));
}

static void add_text_line(struct line *line, enum log_level level, const char *subject,
			  const char *message)
{
	add_time(line, false);
	add_text(line, level_names[level]);
	add_text(line, " ");
	if (*subject) {
		add_escaped(line, subject, false);
		add_text(line, ": ");
	}
	add_escaped(line, message, false);
}

static void add_json_line(struct line *line, enum log_level level, const char *subject,
			  const char *message)
{
	add_text(line, "{\"time\":\"");
	add_time(line, true);
	add_text(line, "\",\"level\":\"");
	add_text(line, level_names[level]);
	if (*subject) {
		add_text(line, "\",\"subject\":\"");
		add_escaped(line, subject, true);
	}
	add_text(line, "\",\"message\":\"");
	add_escaped(line, message, true);
	add_text(line, "\"}");
}

static void write_line(enum log_level level, const char *subject, const char *message)
{
	struct line line; /* not cleared: it is large, and only what is written goes out */

	line.len = 0;
	if (chosen_format == LOG_FORMAT_JSON)
		add_json_line(&line, level, subject, message);
	else
		add_text_line(&line, level, subject, message);
	line.bytes[line.len++] = '\n';
	/* Nothing sensible can be done when standard error does not take it. */
	if (write(STDERR_FILENO, line.bytes, line.len) < 0)
		return;
}

/* --- lines that somebody else can provoke --- */

enum { PLACES = 64, PLACE_MS = 1000, SAMPLE_BYTES = 100 };

/* A place in the source that has written lines lately. */
struct place {
	const char *format; /* told apart by address; NULL: free */
	uint64_t until_ms;  /* its second ends */
	enum log_level level;
	unsigned written;
	unsigned left_out;
	char sample[SAMPLE_BYTES]; /* the last message that was written */
};

static pthread_mutex_t places_lock = PTHREAD_MUTEX_INITIALIZER;
static struct place places[PLACES];

/* Its second is over. */
static void end_second(struct place *place)
{
	char message[SAMPLE_BYTES + 64];

	if (place->left_out) {
		snprintf(message, sizeof(message), "%u more lines were left out like \"%s\"",
			 place->left_out, place->sample);
		write_line(place->level, "", message);
	}
	place->format = NULL;
}

static void end_seconds(uint64_t now_ms)
{
	for (size_t i = 0; i < PLACES; i++)
		if (places[i].format && now_ms >= places[i].until_ms)
			end_second(&places[i]);
}

/* NULL when there are more than can be watched: then nothing is left out. */
static struct place *find_place(const char *format)
{
	struct place *free_place = NULL;

	for (size_t i = 0; i < PLACES; i++) {
		if (places[i].format == format)
			return &places[i];
		if (!places[i].format && !free_place)
			free_place = &places[i];
	}
	if (free_place)
		*free_place = (struct place){ .format = format, .until_ms = clock_ms() + PLACE_MS };
	return free_place;
}

/* False: it is one too many. */
static bool admit(enum log_level level, const char *format, const char *message)
{
	struct place *place;
	bool ok = true;

	pthread_mutex_lock(&places_lock);
	end_seconds(clock_ms());
	place = find_place(format);
	if (place && place->written >= LOG_BURST) {
		place->left_out++;
		ok = false;
	} else if (place) {
		place->written++;
		place->level = level;
		snprintf(place->sample, sizeof(place->sample), "%.*s", SAMPLE_BYTES - 1, message);
	}
	pthread_mutex_unlock(&places_lock);
	return ok;
}

void log_flush(void)
{
	pthread_mutex_lock(&places_lock);
	end_seconds(clock_ms());
	pthread_mutex_unlock(&places_lock);
}

/* --- all lines --- */

void log_init(enum log_format format, enum log_level level)
{
	chosen_format = format;
	log_chosen_level = level;
}

void log_write(enum log_level level, const struct log_subject *subject, const char *format, ...)
{
	char message[LOG_MESSAGE_BYTES], prefix[LOG_SUBJECT_BYTES] = "";
	va_list args;
	int len;

	if (!log_enabled(level))
		return;
	va_start(args, format);
	len = vsnprintf(message, sizeof(message), format, args);
	va_end(args);
	if (len < 0)
		return;
	if ((size_t)len >= sizeof(message))
		memcpy(message + sizeof(message) - 4, "...", 4);
	if (subject && level < LOG_LEVEL_DEBUG && !admit(level, format, message))
		return;
	if (subject)
		subject->describe(subject, prefix, sizeof(prefix));
	write_line(level, prefix, message);
}
