// inject: attention of every token over all slots of a document's memory; no mask, keys already rotated to their chunk.
//   out[T, H, C] = softmax(scale q[T, H, C] . k[N, G, C]) v[N, G, C]
// Source: SharedLLM (arXiv 2410.19318) cross attention. The tiles are attend's; no slots give zeros, as an empty range does.

template <class Few, class Many> void inject_slots(Stream& stream, const InjectArgs& args) {
  const AttendArgs all{args.out, args.q, args.kv, nullptr, nullptr, args.n_tokens, args.n_heads, args.n_kv_heads, args.head_dim, args.scale};
  attend_keys<Few, Many>(stream, all, args.n_slots);
}

inline void inject(Stream& stream, const InjectArgs& args) { inject_slots<FewFloats, ManyFloats>(stream, args); }
