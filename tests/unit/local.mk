# A suite is one file test_NAME.c here, defining suite_NAME(), and one line in tests/unit/suites.h.
if CUNIT
check_PROGRAMS += tests/unit/unit
TESTS += tests/unit/unit
endif
tests_unit_unit_SOURCES = \
	tests/unit/main.c \
	tests/unit/suites.h \
	tests/unit/test_address.c \
	tests/unit/test_admin.c \
	tests/unit/test_app_call.c \
	tests/unit/test_app_request.c \
	tests/unit/test_base.c \
	tests/unit/test_base_io.c \
	tests/unit/test_balance.c \
	tests/unit/test_cluster.c \
	tests/unit/test_config.c \
	tests/unit/test_diagnose.c \
	tests/unit/test_failover.c \
	tests/unit/test_fastcgi.c \
	tests/unit/test_gtid.c \
	tests/unit/test_http.c \
	tests/unit/test_http_answer.c \
	tests/unit/test_lease.c \
	tests/unit/test_memory.c \
	tests/unit/test_pins.c \
	tests/unit/test_placement.c \
	tests/unit/test_promotion.c \
	tests/unit/test_record.c \
	tests/unit/test_snapshot.c \
	tests/unit/test_sql.c \
	tests/unit/test_state.c \
	tests/unit/test_statement.c \
	tests/unit/test_tls_tickets.c \
	tests/unit/test_tracking.c \
	tests/unit/test_web_limits.c \
	tests/unit/test_wire.c \
	tests/unit/test_wire_auth.c \
	tests/unit/test_wire_walker.c \
	tests/unit/wire_trace.h
tests_unit_unit_CPPFLAGS = $(AM_CPPFLAGS) -DTESTS_DIR='"$(abs_top_srcdir)/tests"'
tests_unit_unit_CFLAGS = $(AM_CFLAGS) $(CUNIT_CFLAGS)
# test_memory.c stands in front of these, so that it can let them fail.
tests_unit_unit_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=malloc -Wl,--wrap=calloc -Wl,--wrap=realloc -Wl,--wrap=aligned_alloc \
	-Wl,--wrap=strdup -Wl,--wrap=strndup -Wl,--wrap=asprintf
tests_unit_unit_LDADD = libdaemon.a $(TANDEM_ARCHIVES) $(TANDEM_LIBS) $(CUNIT_LIBS)
