noinst_LIBRARIES += libweb.a
libweb_a_SOURCES = \
	web/access_log.c \
	web/access_log.h \
	web/cgi.c \
	web/cgi.h \
	web/chunked.c \
	web/chunked.h \
	web/condition.c \
	web/condition.h \
	web/connection.c \
	web/connection.h \
	web/exchange.c \
	web/exchange.h \
	web/files.c \
	web/files.h \
	web/gateway.c \
	web/gateway.h \
	web/http1.c \
	web/http1.h \
	web/mime.c \
	web/mime.h \
	web/path.c \
	web/path.h \
	web/settings.c \
	web/settings.h \
	web/status.c \
	web/status.h \
	web/upstream.c \
	web/upstream.h \
	web/web.c \
	web/web.h \
	web/worker.c \
	web/worker.h
