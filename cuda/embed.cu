// embed: rows of the token table, decoded.
#include "cuda/backend.h"
#include "cuda/decode_rows.cuh"
#include "cuda/ops.h"

namespace banyan::cuda {

void embed(Stream& stream, const EmbedArgs& a) {
  if (stream.cancelled()) return;
  decode_rows(backend_of(stream).stream, a.out, a.table.data, a.table.dtype, a.ids, a.n_tokens, a.table.cols);
}

}  // namespace banyan::cuda
