/* Character sets and collations by the number that a login carries. */
#ifndef TANDEM_SESSION_CHARSET_H
#define TANDEM_SESSION_CHARSET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct charset {
	const char *name;
	const char *collation;
	bool is_default; /* the character set's default collation */
};

/* NULL when no such number is known. */
const struct charset *charset_by_id(uint8_t id);
/* The default collation of a character set by name; NULL when unknown. */
const struct charset *charset_default(const char *name, size_t len);

#endif
