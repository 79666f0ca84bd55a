// embed: out[T, D] = rows of the token table, decoded.

inline void embed_task(const RowsJob<EmbedArgs>& job, int index, std::byte*) {
  const EmbedArgs& a = job.args;
  const Decode decode = decoder_of(a.table.dtype);
  const size_t n_bytes = row_bytes(a.table.dtype, a.table.cols);
  for (int64_t t = job.begin(index); t < job.end(index); ++t) {
    decode(static_cast<const uint8_t*>(a.table.data) + static_cast<size_t>(a.ids[t]) * n_bytes, a.table.cols, a.out + t * a.table.cols);
  }
}

inline void embed(Stream& stream, const EmbedArgs& args) { run_rows<EmbedArgs, embed_task>(stream, args, args.n_tokens, args.table.cols); }
