noinst_LIBRARIES += libcluster.a
libcluster_a_SOURCES = \
	proxy/cluster/accounts.c \
	proxy/cluster/accounts.h \
	proxy/cluster/accounts_read.c \
	proxy/cluster/catalog.c \
	proxy/cluster/catalog.h \
	proxy/cluster/cluster.c \
	proxy/cluster/cluster.h \
	proxy/cluster/control.c \
	proxy/cluster/control.h \
	proxy/cluster/flavour.c \
	proxy/cluster/flavour.h \
	proxy/cluster/gtid.c \
	proxy/cluster/gtid.h \
	proxy/cluster/judge.c \
	proxy/cluster/lag.c \
	proxy/cluster/lag.h \
	proxy/cluster/line.c \
	proxy/cluster/line.h \
	proxy/cluster/member.h \
	proxy/cluster/monitor.c \
	proxy/cluster/observation.h \
	proxy/cluster/operation.h \
	proxy/cluster/publish.c \
	proxy/cluster/replication.c \
	proxy/cluster/replication.h \
	proxy/cluster/roles.c \
	proxy/cluster/roles.h \
	proxy/cluster/snapshot.c \
	proxy/cluster/snapshot.h \
	proxy/cluster/variables.c \
	proxy/cluster/variables.h \
	proxy/cluster/watcher.c \
	proxy/cluster/watcher.h \
	proxy/settings.c \
	proxy/settings.h
