#include "web/security.h"

#include <string.h>
#include <strings.h>

#include "web/exchange.h"

enum { TELLS_SOFTWARE = SECURITY_FIELDS, NOTHING };

static const struct {
	const char *name;
	unsigned what; /* enum security_field or one of the above */
} names[] = {
	{ "Referrer-Policy", SECURITY_REFERRER },
	{ "Server", TELLS_SOFTWARE },
	{ "Strict-Transport-Security", SECURITY_HSTS },
	{ "X-Content-Type-Options", SECURITY_SNIFF },
	{ "X-Frame-Options", SECURITY_FRAMES },
	{ "X-Powered-By", TELLS_SOFTWARE },
};

static unsigned meaning(const char *name, const char *value)
{
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (!strcasecmp(name, names[i].name))
			return names[i].what;
	/* The newer word for the same: a browser that knows only the old one would hear something else from us. */
	if (!strcasecmp(name, "Content-Security-Policy") && strcasestr(value, "frame-ancestors"))
		return SECURITY_FRAMES;
	return NOTHING;
}

bool security_note_field(struct exchange *x, const char *name, const char *value)
{
	unsigned what = meaning(name, value);

	if (what == TELLS_SOFTWARE)
		return x->site && x->site->tell_software;
	if (what < SECURITY_FIELDS)
		x->security_set |= 1u << what;
	return true;
}

bool security_put_fields(struct exchange *x)
{
	for (unsigned i = 0; x->site && i < SECURITY_FIELDS; i++) {
		const char *line = x->site->security[i];

		/* What is said in clear of TLS is to be ignored (RFC 6797 section 7.2), so it is not said. */
		if (!line || x->security_set & 1u << i || (i == SECURITY_HSTS && !x->tls))
			continue;
		if (!buf_append(&x->worker->fields, line, strlen(line)))
			return false;
	}
	return true;
}
