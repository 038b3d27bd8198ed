/* JSON bodies, by jansson. */
#ifndef TANDEM_APP_JSON_H
#define TANDEM_APP_JSON_H

#include <jansson.h>

#include "app/app.h"

/*
 * The body as JSON; its Content-Type must be application/json (a page of another site cannot send that unasked). At most `limit` bytes, 0: 256
 * KiB. NULL when the answer was given: 400, 413 or 415 with {"error": "..."}. The caller calls json_decref().
 */
json_t *app_json_read(struct app_request *r, size_t limit);
/* Answers with it; takes over the reference. NULL counts as no memory. */
void app_json_send(struct app_request *r, unsigned status, json_t *value);
/* {"error": "text"} */
void app_json_fail(struct app_request *r, unsigned status, const char *text);

#endif
