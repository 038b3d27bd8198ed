# Programs of the benchmark: `make tests/bench/NAME` builds one; none is part of `make all`.
EXTRA_PROGRAMS += tests/bench/relay
tests_bench_relay_SOURCES = tests/bench/relay.c
EXTRA_PROGRAMS += tests/bench/walker_bench
tests_bench_walker_bench_SOURCES = tests/bench/walker_bench.c
tests_bench_walker_bench_LDADD = libwire.a $(TANDEM_LIBS)
EXTRA_PROGRAMS += tests/bench/sql_bench
tests_bench_sql_bench_SOURCES = tests/bench/sql_bench.c
tests_bench_sql_bench_LDADD = libsql.a
