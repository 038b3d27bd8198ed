noinst_LIBRARIES += libbase.a
libbase_a_SOURCES = \
	base/buf.h \
	base/clock.h \
	base/inbox.h \
	base/io.h \
	base/log.h \
	base/tls.h
