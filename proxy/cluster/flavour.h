/*
 * What to ask a server, by kind. MariaDB and MySQL say the same things in different words; the differences live here.
 */
#ifndef TANDEM_CLUSTER_FLAVOUR_H
#define TANDEM_CLUSTER_FLAVOUR_H

#include "proxy/cluster/line.h"
#include "proxy/cluster/observation.h"

struct flavour {
	/* server_id, read_only, position, max_connections, skip_name_resolve, semi-sync as a primary asked for */
	const char *look;
	/* host part of USER(), CONNECTION_ID(), what this start of the server was given at random (hexadecimal) */
	const char *hello;
	const char *uptime;
	/* replication links; the older spelling where a server does not know the first */
	const char *links;
	const char *links_before;
	/* Received heartbeats and their period in seconds of each link, where `links` does not tell; NULL: it does */
	const char *heartbeats;
	/* 'ON' in its second column while commits wait for a replica */
	const char *semi_sync;
	/* Takes the position's text and seconds; answers the position reached in its second column. */
	const char *wait;
	size_t (*format_position)(const struct gtid_set *set, char *out, size_t size);
	/* name, type, session value, global value of every variable a session has */
	const char *variables;
	const char *accounts;
	const char *accounts_before; /* older servers */
	const char *routines;	     /* schema-less name, type, body, sql_mode */
	const char *loadable;	     /* names of loadable functions */
	const char *views;	     /* schema-less name, query; '' where it is not to be seen. Within a second or an error */
	const char *catalog_stamp;   /* one row that differs when a routine was changed */
};

const struct flavour *flavour_of(enum sql_flavour flavour);
enum sql_flavour flavour_from_version(const char *version_text);
/* 101108 from "10.11.8-MariaDB", also from "5.5.5-10.11.8-MariaDB". */
uint32_t flavour_version_number(const char *version_text);

/* Fills what a connection shows once: flavour, version, capabilities, own address, boot time. */
bool observe_greeting(struct line *line, struct observation *out)
	__attribute__((warn_unused_result));
/* Fills what changes. False with the line's error set. */
bool observe_state(struct line *line, struct observation *out) __attribute__((warn_unused_result));

#endif
