/* The settings of the places where Tandem is watched and told what to do. */
#include "daemon/setting_row.h"

static const struct section sections[] = {
	{ .name = "admin", .kind = SECTION_LATER },
	{ 0 },
};

const struct setting_room setting_room_admin = { sections, NULL, NULL };
