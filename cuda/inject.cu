// inject: attention of every token over all slots of a document's memory, no mask: attend without ranges (attend.cu). One token goes the way of few
// queries over many keys, a prefill the way of tiles; no slots give zeros, as an empty range does.
// Source: SharedLLM (arXiv 2410.19318), cross attention.
#include "cuda/attend.h"
#include "cuda/ops.h"

namespace banyan::cuda {

void inject(Stream& stream, const InjectArgs& a) {
  attend_by(stream, {a.out, a.q, a.kv, nullptr, nullptr, a.n_tokens, a.n_heads, a.n_kv_heads, a.head_dim, a.scale}, a.n_slots, {});
}

}  // namespace banyan::cuda
