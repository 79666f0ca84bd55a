// store: x[T, G, C] into rows of a cache, as F32, F16 or Q8_0.

inline void store_halves(uint16_t* out, const float* x, int n) {
  int i = 0;
  for (; i + kLanes <= n; i += kLanes) store_f16(out + i, load(x + i));
  if (i < n) store_f16_n(out + i, load_n(x + i, n - i), n - i);
}

// One block of Q8_0 (dequant.inl). Divided by the half that is stored, not by the float it was rounded from, every q is the nearest there is.
inline void store_block_q8_0(uint8_t* block, const float* x) {
  Vec highest = zero();
  BANYAN_UNROLL
  for (int i = 0; i < 32; i += kLanes) highest = max(highest, max(load(x + i), sub(zero(), load(x + i))));
  uint16_t halves[kLanes];
  store_f16(halves, broadcast(std::min(65504.0f, reduce_max(highest) / 127.0f)));  // the largest half: beyond it x saturates
  std::memcpy(block, halves, sizeof halves[0]);
  const float d = half(block);
  if (d == 0.0f) {
    std::memset(block + 2, 0, 32);
    return;
  }
  float q[32];
  BANYAN_UNROLL
  for (int i = 0; i < 32; i += kLanes) {  // the bounds matter where d is subnormal, and so was rounded coarsely
    store(q + i, round_to_even(max(min(div(load(x + i), broadcast(d)), broadcast(127.0f)), broadcast(-127.0f))));
  }
  for (int i = 0; i < 32; ++i) block[2 + i] = static_cast<uint8_t>(static_cast<int8_t>(q[i]));
}

// n elements, in Q8_0 whole blocks.
inline void store_row(DType dtype, uint8_t* out, const float* x, int n) {
  switch (dtype) {
    case DType::kQ8_0:
      for (int i = 0; i < n; i += 32) store_block_q8_0(out + row_bytes(DType::kQ8_0, i), x + i);
      break;
    case DType::kF16: store_halves(reinterpret_cast<uint16_t*>(out), x, n); break;
    default: std::memcpy(out, x, static_cast<size_t>(n) * sizeof(float));
  }
}

inline void store_task(const RowsJob<StoreArgs>& job, int index, std::byte*) {
  const StoreArgs& a = job.args;
  for (int64_t t = job.begin(index); t < job.end(index); ++t) {
    for (int g = 0; g < a.n_heads; ++g) {
      uint8_t* out = static_cast<uint8_t*>(a.out) + row_bytes(a.dtype, a.rows[t] * a.row_stride + g * a.head_stride);
      store_row(a.dtype, out, a.x + (t * a.n_heads + g) * a.head_dim, a.head_dim);
    }
  }
}

inline void store(Stream& stream, const StoreArgs& args) {
  run_rows<StoreArgs, store_task>(stream, args, args.n_tokens, int64_t{args.n_heads} * args.head_dim);
}
