#include "app/builtin.h"

static const struct app *const apps[] = { &hello_app, &people_app };

const struct app *app_builtin_at(size_t index)
{
	return index < sizeof(apps) / sizeof(apps[0]) ? apps[index] : NULL;
}
