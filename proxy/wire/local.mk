noinst_LIBRARIES += libwire.a
libwire_a_SOURCES = \
	proxy/wire/auth.c \
	proxy/wire/auth.h \
	proxy/wire/auth_ed25519.c \
	proxy/wire/handshake.c \
	proxy/wire/handshake.h \
	proxy/wire/packet.c \
	proxy/wire/packet.h \
	proxy/wire/protocol.h \
	proxy/wire/reply.c \
	proxy/wire/reply.h \
	proxy/wire/walker.c
