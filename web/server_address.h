/* A server of an upstream as the settings say it: "ADDRESS [weight=N] [max_connections=N] [backup]". */
#ifndef TANDEM_WEB_SERVER_ADDRESS_H
#define TANDEM_WEB_SERVER_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

struct server_address {
	char name[256]; /* as written: unix:/path or host:port */
	struct sockaddr_storage address;
	socklen_t address_len;
	unsigned weight;	  /* 1 */
	unsigned max_connections; /* 0: no limit */
	bool backup;
};

/* False with a reason. Names are resolved, which may take a while. */
bool server_address_read(const char *text, struct server_address *out, char *why, size_t why_size);

#endif
