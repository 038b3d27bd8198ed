/*
 * Any bytes as a reply: the walker ends, stays inside, and says the same however the bytes are cut. Inputs have the form of
 * tests/corpus/walker: reply kind, flags, sequence number after a file, shift, seed of the cuts, stream.
 */
#include "tests/unit/wire_trace.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool fine)
{
	if (!fine)
		abort();
}

/* The fuzzer's memory must not be written to, and trace_piece() copies: what is compared is always the same input. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct trace_input in;
	struct trace whole, cut;
	size_t taken;

	if (size < TRACE_HEAD)
		return 0;
	in = (struct trace_input){
		.kind = (enum reply_kind)(data[0] % (REPLY_STREAM + 1)),
		.deprecate_eof = data[1] & 1,
		.any_start = data[1] & 2,
		.resume_seq = data[2],
		.seq_shift = data[3],
		.stream = data + TRACE_HEAD,
		.len = size - TRACE_HEAD,
	};
	taken = trace_run(&whole, &in, 0, 0);
	check(whole.consumed <= taken && taken <= in.len);
	check(whole.is_broken || !whole.over || whole.consumed == taken);
	/* even seeds: one cut; odd ones: many */
	trace_run(&cut, &in, in.len ? data[4] * in.len / 256 : 0, data[4] & 1 ? 1 + data[4] / 8 : 0);
	check(trace_same(&whole, &cut));
	trace_fini(&cut);
	trace_fini(&whole);
	return 0;
}
