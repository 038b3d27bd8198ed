# Settings are a library of their own, so that the unit tests can link them.
noinst_LIBRARIES += libdaemon.a
libdaemon_a_SOURCES = \
	daemon/config.c \
	daemon/config.h \
	daemon/setting.c \
	daemon/setting.h \
	daemon/setting_admin.c \
	daemon/setting_app.c \
	daemon/setting_cluster.c \
	daemon/setting_proxy.c \
	daemon/setting_ranges.c \
	daemon/setting_row.h \
	daemon/setting_rule.c \
	daemon/setting_table.c \
	daemon/setting_web.c

bin_PROGRAMS += tandem
tandem_SOURCES = daemon/main.c daemon/wish.c daemon/wish.h
tandem_LDFLAGS = $(AM_LDFLAGS) -Wl,--dynamic-list=$(top_srcdir)/app/exports
tandem_LDADD = libdaemon.a $(TANDEM_ARCHIVES) $(TANDEM_LIBS)
