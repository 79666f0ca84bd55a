// gather: rows of x by index, as floats.

inline void gather_task(const RowsJob<GatherArgs>& job, int index, std::byte*) {
  const GatherArgs& a = job.args;
  const Decode decode = decoder_of(a.dtype);
  const size_t n_bytes = row_bytes(a.dtype, a.dim);
  for (int64_t i = job.begin(index); i < job.end(index); ++i) {
    decode(static_cast<const uint8_t*>(a.x) + static_cast<size_t>(a.rows[i]) * n_bytes, a.dim, a.out + i * a.dim);
  }
}

inline void gather(Stream& stream, const GatherArgs& args) { run_rows<GatherArgs, gather_task>(stream, args, args.n_rows, args.dim); }
