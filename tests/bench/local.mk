# Programs of the benchmark: `make tests/bench/NAME` builds one; none is part of `make all`.
EXTRA_PROGRAMS += tests/bench/relay
tests_bench_relay_SOURCES = tests/bench/relay.c
