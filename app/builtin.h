/* The applications that are part of the program. */
#ifndef TANDEM_APP_BUILTIN_H
#define TANDEM_APP_BUILTIN_H

#include "app/app.h"

extern const struct app hello_app;
extern const struct app people_app;

/* By number; NULL behind the last. */
const struct app *app_builtin_at(size_t index);

#endif
