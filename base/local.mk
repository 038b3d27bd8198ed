noinst_LIBRARIES += libbase.a
libbase_a_SOURCES = \
	base/address.c \
	base/address.h \
	base/buf.c \
	base/buf.h \
	base/clock.c \
	base/clock.h \
	base/fastcgi.c \
	base/fastcgi.h \
	base/inbox.c \
	base/inbox.h \
	base/io.c \
	base/io.h \
	base/io_tls.c \
	base/io_tls.h \
	base/listen.c \
	base/listen.h \
	base/log.c \
	base/log.h \
	base/nearest.c \
	base/nearest.h \
	base/pattern.c \
	base/pattern.h \
	base/proxy_header.c \
	base/proxy_header.h \
	base/readiness.c \
	base/readiness.h \
	base/tls.c \
	base/tls.h \
	base/tls_staple.c \
	base/tls_staple.h \
	base/tls_tickets.c \
	base/tls_tickets.h \
	base/watch.c \
	base/watch.h
