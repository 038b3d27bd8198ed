/* Requests that an application in this process answers: struct app_call's carrier on the web's side. */
#ifndef TANDEM_WEB_APP_RESPONDER_H
#define TANDEM_WEB_APP_RESPONDER_H

#include "web/exchange.h"

extern const struct responder app_responder;

#endif
