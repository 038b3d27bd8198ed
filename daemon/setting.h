/*
 * What a setting is: one row says its section, name, type, place, default, bounds and help. Reading the file, comparing at a
 * reload and the manual all come from these rows.
 */
#ifndef TANDEM_DAEMON_SETTING_H
#define TANDEM_DAEMON_SETTING_H

#include <stdbool.h>
#include <stddef.h>

#include "proxy/settings.h"

struct setting;

/* Why a value was refused: a few words that follow "name = value: ". */
struct setting_fault {
	char text[256];
};

struct setting_type {
	const char *syntax; /* for the manual; NULL: the row's choices */
	/* Stores the value at `place`; false with a fault when it is none. What `place` held before is not freed,
	 * except that a list grows. */
	bool (*parse)(const struct setting *setting, const char *text, void *place,
		      struct setting_fault *fault);
	bool (*equal)(const void *a, const void *b);
	bool is_list;	/* may be given several times */
	bool is_secret; /* never shown */
};

extern const struct setting_type setting_count;	   /* unsigned, between min and max */
extern const struct setting_type setting_duration; /* uint32_t milliseconds, between min and max */
extern const struct setting_type setting_choice;   /* an enum: the index into `choices` */
extern const struct setting_type setting_text;	   /* char *, not empty */
extern const struct setting_type setting_file;	   /* char *, a file that can be read now */
extern const struct setting_type setting_secret;   /* char *, may be empty */
extern const struct setting_type
	setting_address; /* char *, host:port or unix:/path; port 3306 when left out */
extern const struct setting_type setting_listen; /* char **, its count in the size_t behind it */
extern const struct setting_type setting_ranges; /* struct address_list */

enum setting_flags {
	SETTING_REQUIRED = 1, /* has no default */
	SETTING_RESTART = 2,  /* a reload cannot change it */
	SETTING_LATER = 4,    /* checked, but this version does not act on it; stored nowhere */
};

struct setting {
	const char *name;
	const struct setting_type *type;
	size_t place;	       /* offset in the section's struct */
	const char *fallback;  /* the default, spelt as in the file; NULL: none */
	const char *min, *max; /* of counts and durations, spelt as in the file; at most 32 bits */
	const char *const *choices; /* NULL-terminated */
	unsigned flags;
	const char *help;
};

enum section_kind {
	SECTION_ONE,  /* [name] */
	SECTION_MANY, /* [name NAME], one element of an array each */
	SECTION_LATER /* documented, but this version does not act on it; its lines are not looked at */
};

enum { SETTING_ROWS_MAX = 64 }; /* of one section */

struct section {
	const char *name;
	enum section_kind kind;
	const struct setting *rows; /* end with one whose name is NULL */
	/* SECTION_ONE: its struct; SECTION_MANY: the element `index`. */
	void *(*at)(struct settings *settings, size_t index);
	/* SECTION_MANY: appends an element called `name`. False when memory ran out. */
	bool (*add)(struct settings *settings, const char *name);
	const char *help;
};

struct config_load;

/* A part of Tandem and the sections it reads. Its struct is a member of struct settings or, above the proxy, a guest there. */
struct setting_room {
	const struct section *sections; /* end with one whose name is NULL */
	/* Makes the room's guest in fresh settings; false when memory ran out. NULL: there is none. */
	bool (*init)(struct settings *settings);
	/* What no single value can tell, when all lines are read. What was refused is 0 or NULL. NULL: nothing. */
	void (*check)(struct config_load *load, const struct settings *settings);
};

extern const struct setting_room setting_room_proxy;
extern const struct setting_room setting_room_rule;
extern const struct setting_room setting_room_cluster;
extern const struct setting_room setting_room_admin;
extern const struct setting_room setting_room_web;
extern const struct setting_room setting_room_app;

/*
 * For `check`: a fault or a warning, told with the line of `setting`, or of the section's header when that is NULL or was not
 * given, or without a line when there is no such section. `name` is that of a [section NAME], else NULL.
 */
void config_add_fault(struct config_load *load, const char *section, const char *name,
		      const char *setting, const char *format, ...)
	__attribute__((format(printf, 5, 6)));
void config_add_warning(struct config_load *load, const char *section, const char *name,
			const char *setting, const char *format, ...)
	__attribute__((format(printf, 5, 6)));
/* Whether the file has such a section, good or not. */
bool config_has_section(const struct config_load *load, const char *section);

/* All rooms, and all their sections, in the order of the manual; NULL behind the last. */
const struct setting_room *setting_room_at(size_t index);
const struct section *section_at(size_t index);
const struct section *section_find(const char *name);
/* The same where [name] and [name NAME] are two sections: the one that takes a name, or the one that does not. */
const struct section *section_find_kind(const char *name, bool has_name);
const struct setting *setting_find(const struct section *section, const char *name);
/* The name in the section that looks most like `name`; NULL when none does. */
const char *setting_nearest(const struct section *section, const char *name);
const char *section_nearest(const char *name);

#endif
