/* [route HOST/PATH] to = ready: 200 while this daemon should be sent work, 503 with the reason otherwise. For balancers in front. */
#ifndef TANDEM_WEB_READY_H
#define TANDEM_WEB_READY_H

#include "web/exchange.h"

extern const struct responder ready_responder;

#endif
