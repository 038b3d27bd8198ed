/*
 * A regular expression (PCRE2), compiled once and matched by any thread.
 */
#ifndef TANDEM_BASE_PATTERN_H
#define TANDEM_BASE_PATTERN_H

#include <stdbool.h>
#include <stddef.h>

struct pattern;

/* Compiles `text`: letters match in any case, a dot matches line ends. NULL with the reason in `why` when it is no expression. */
struct pattern *pattern_new(const char *text, char *why, size_t why_size) __attribute__((warn_unused_result));
/* NULL is allowed. */
void pattern_free(struct pattern *pattern);
/* As it was written. */
const char *pattern_text(const struct pattern *pattern);
/* Does it match anywhere in these bytes? An expression that would need too long does not. */
bool pattern_matches(const struct pattern *pattern, const char *bytes, size_t len);

#endif
