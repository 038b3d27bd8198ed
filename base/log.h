/*
 * Log lines: who, doing what, what happened. Text or JSON, to standard error.
 * Any thread may log; a line is written with one write(2), so lines never mix.
 */
#ifndef TANDEM_BASE_LOG_H
#define TANDEM_BASE_LOG_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };
enum log_format { LOG_FORMAT_TEXT, LOG_FORMAT_JSON };

/*
 * What a line is about. Embed one in a client, a backend or a server; `describe` writes a short prefix such as
 * "client 2147483651 app@10.0.0.7:4711" (never more than size - 1 characters) and never a secret.
 */
struct log_subject {
	void (*describe)(const struct log_subject *subject, char *out, size_t size);
};

/* Before log_init() lines go out as text at level info. */
void log_init(enum log_format format, enum log_level level);

/* Written by log_init() before threads start, and again at a reload: one word, read without order. Asked on every road, so it is
 * looked at in place. */
extern _Atomic int log_chosen_level;
static inline bool log_enabled(enum log_level level)
{
	return (int)level <= atomic_load_explicit(&log_chosen_level, memory_order_relaxed);
}

/* Writes one line; `subject` may be NULL. The message is given without prefix, newline or secrets; control
 * characters and invalid bytes in it are escaped on the way out. Who has a subject can often make Tandem say the same again and
 * again, so of one `format` there are at most LOG_BURST lines a second with a subject, debug apart; a line later on tells how many
 * were left out. */
enum { LOG_BURST = 20 };
void log_write(enum log_level level, const struct log_subject *subject, const char *format, ...)
	__attribute__((format(printf, 3, 4), cold));

/* Tells what was left out in seconds that are over; log_write() does it too. To be called every second or so. */
void log_flush(void);

#define log_error(subject, ...) log_write(LOG_LEVEL_ERROR, subject, __VA_ARGS__)
#define log_warning(subject, ...) log_write(LOG_LEVEL_WARNING, subject, __VA_ARGS__)
#define log_info(subject, ...) log_write(LOG_LEVEL_INFO, subject, __VA_ARGS__)
#define log_debug(subject, ...)                                                                    \
	do {                                                                                       \
		if (log_enabled(LOG_LEVEL_DEBUG))                                                  \
			log_write(LOG_LEVEL_DEBUG, subject, __VA_ARGS__);                          \
	} while (0)

#endif
