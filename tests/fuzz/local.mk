# Built only with --enable-fuzz and CC=clang; each target is fuzz_NAME.c and links the pure libraries.
if FUZZ
FUZZ_FLAGS = $(AM_LDFLAGS) -fsanitize=fuzzer
FUZZ_LIBS = libwire.a libsql.a libbase.a $(TANDEM_LIBS)
endif
