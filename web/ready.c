#include "web/ready.h"

#include <stdio.h>

#include "base/readiness.h"

static void begin(struct exchange *x)
{
	const char *why = readiness_why_not();
	char line[128];
	int len = snprintf(line, sizeof(line), "%s\n", why ? why : "ready");

	response_begin(x, why ? 503 : 200);
	response_field(x, "Content-Type", "text/plain");
	response_field(x, "Cache-Control", "no-store");
	response_send(x, (uint64_t)len, line, (size_t)len);
	response_end(x);
}

const struct responder ready_responder = { .name = "ready", .begin = begin };
