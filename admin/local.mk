noinst_LIBRARIES += libadmin.a
libadmin_a_SOURCES = \
	admin/admin.c \
	admin/admin.h \
	admin/answer.c \
	admin/answer.h \
	admin/channel.c \
	admin/channel.h \
	admin/command.c \
	admin/command.h \
	admin/console.c \
	admin/console.h \
	admin/console_query.c \
	admin/console_small.c \
	admin/handlers.c \
	admin/handlers.h \
	admin/handlers_cluster.c \
	admin/handlers_daemon.c \
	admin/handlers_operation.c \
	admin/handlers_session.c \
	admin/handlers_upstream.c \
	admin/protocol.h \
	admin/render.c \
	admin/render.h \
	admin/room.h \
	admin/settings.c \
	admin/settings.h \
	admin/socket.c

dist_man_MANS = docs/tandemctl.1
bin_PROGRAMS += tandemctl
tandemctl_SOURCES = admin/tandemctl.c
tandemctl_LDADD = libadmin.a libbase.a $(JANSSON_LIBS) $(INIH_LIBS)
