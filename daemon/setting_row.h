/*
 * What a file of rows needs. Each part of Tandem has its rows in a file daemon/setting_NAME.c, which ends with its
 * setting_room; daemon/setting_table.c lists them. Included by such files only: the short names are for rows.
 */
#ifndef TANDEM_DAEMON_SETTING_ROW_H
#define TANDEM_DAEMON_SETTING_ROW_H

#include "daemon/setting.h"

#define COUNT(place, fallback, min, max)    &setting_count, place, fallback, min, max, NULL
#define DURATION(place, fallback, min, max) &setting_duration, place, fallback, min, max, NULL
#define CHOICE(place, fallback, choices)    &setting_choice, place, fallback, NULL, NULL, choices
#define OTHER(type, place, fallback)	    &setting_##type, place, fallback, NULL, NULL, NULL

#endif
