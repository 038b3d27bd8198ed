/*
 * The fields by which browsers are made careful (a site's settings, web/settings.h), and those by which applications tell attackers what they
 * are. A field that an application sets itself is left as it is and not said twice.
 */
#ifndef TANDEM_WEB_SECURITY_H
#define TANDEM_WEB_SECURITY_H

#include <stdbool.h>

struct exchange;

/* Notes a field of the answer. False: it is not to be passed on. */
bool security_note_field(struct exchange *x, const char *name, const char *value);
/* Adds the site's fields that were not noted to x->worker->fields, as its last ones. False: memory. */
bool security_put_fields(struct exchange *x) __attribute__((warn_unused_result));

#endif
