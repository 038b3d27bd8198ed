/* The settings of the web: listeners, sites, their routes and where those lead. */
#include "daemon/setting_row.h"

static const struct section sections[] = {
	{ .name = "web", .kind = SECTION_LATER },
	{ .name = "site", .kind = SECTION_LATER },
	{ .name = "route", .kind = SECTION_LATER },
	{ .name = "upstream", .kind = SECTION_LATER },
	{ 0 },
};

const struct setting_room setting_room_web = { sections, NULL, NULL };
