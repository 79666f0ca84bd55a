// swiglu: out = gate / (1 + e^-gate) * up.

BANYAN_INLINE Vec swiglu_vec(Vec gate, Vec up) { return mul(div(gate, add(broadcast(1.0f), exp(sub(zero(), gate)))), up); }

inline void swiglu_task(const RowsJob<SwigluArgs>& job, int index, std::byte*) {
  const SwigluArgs& a = job.args;
  const int64_t end = job.end(index);
  int64_t i = job.begin(index);
  for (; i + kLanes <= end; i += kLanes) store(a.out + i, swiglu_vec(load(a.gate + i), load(a.up + i)));
  if (const int n = static_cast<int>(end - i); n > 0) store_n(a.out + i, swiglu_vec(load_n(a.gate + i, n), load_n(a.up + i, n)), n);
}

inline void swiglu(Stream& stream, const SwigluArgs& args) { run_rows<SwigluArgs, swiglu_task>(stream, args, args.n, 1); }
