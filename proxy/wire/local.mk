noinst_LIBRARIES += libwire.a
libwire_a_SOURCES = \
	proxy/wire/auth.h \
	proxy/wire/handshake.h \
	proxy/wire/packet.h \
	proxy/wire/protocol.h \
	proxy/wire/reply.h
