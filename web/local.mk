noinst_LIBRARIES += libweb.a
libweb_a_SOURCES = \
	web/chunked.c \
	web/chunked.h \
	web/fastcgi.c \
	web/fastcgi.h \
	web/http1.c \
	web/http1.h \
	web/path.c \
	web/path.h
