// inject: attention of every token over all slots of a document's memory; no mask, keys already rotated to their chunk.
//   out[T, H, C] = softmax(scale q[T, H, C] . k[N, G, C]) v[N, G, C]
// Source: SharedLLM (arXiv 2410.19318) cross attention. The tiles are attend's; no slots give zeros, as an empty range does.

inline AttendArgs as_attention(const InjectArgs& a) {
  return {a.out, a.q, a.kv, nullptr, nullptr, a.n_tokens, a.n_heads, a.n_kv_heads, a.head_dim, a.scale};
}

template <class Few, class Many> void inject_slots(Stream& stream, const InjectArgs& args) {
  attend_keys<Few, Many>(stream, as_attention(args), args.n_slots);
}

inline void inject(Stream& stream, const InjectArgs& args) { inject_slots<FewFloats, ManyFloats>(stream, args); }
