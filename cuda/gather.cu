// gather: rows of x by index, as floats.
#include "cuda/backend.h"
#include "cuda/decode_rows.cuh"
#include "cuda/ops.h"

namespace banyan::cuda {

void gather(Stream& stream, const GatherArgs& a) {
  if (stream.cancelled()) return;
  decode_rows(backend_of(stream).stream, a.out, a.x, a.dtype, a.rows, a.n_rows, a.dim);
}

}  // namespace banyan::cuda
