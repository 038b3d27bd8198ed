# Programs of the benchmark: `make tests/bench/NAME` builds one; none is part of `make all`.
