/* Requests answered by a FastCGI program: one connection per request, bodies streamed both ways, one side paused while the other is slow. */
#ifndef TANDEM_WEB_GATEWAY_H
#define TANDEM_WEB_GATEWAY_H

#include "web/exchange.h"

extern const struct responder gateway_responder;

#endif
