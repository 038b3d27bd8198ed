noinst_LIBRARIES += libcluster.a
libcluster_a_SOURCES = \
	proxy/cluster/cluster.h \
	proxy/cluster/gtid.h \
	proxy/cluster/snapshot.h \
	proxy/settings.c \
	proxy/settings.h
