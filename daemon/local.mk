# Settings are a library of their own, so that the unit tests can link them.
noinst_LIBRARIES += libdaemon.a
libdaemon_a_SOURCES = \
	daemon/config.c \
	daemon/config.h \
	daemon/setting.c \
	daemon/setting.h \
	daemon/setting_table.c

bin_PROGRAMS += tandem
tandem_SOURCES = daemon/main.c
tandem_LDADD = libdaemon.a $(TANDEM_ARCHIVES) $(TANDEM_LIBS)
