// attend: which kernels compute it, and into how many splits keys are cut. The host knows the counts; the ranges lie on the device.
#include "cuda/attend.h"

#include <algorithm>

#include "cuda/attend_job.cuh"
#include "cuda/ops.h"

namespace banyan::cuda {
namespace {

constexpr int kFewRows = 16;      // two tiles of attend_split: so few queries are never worth a tile of attend_mma
constexpr int kFewTokens = 1024;  // up to so many tokens may be rows over pools, with keys of their own; the device decides then
constexpr int kMaxSplits = 64;
constexpr int kBlocksPerSm = 2;  // of attend_mma, at least; attend_split has one more

// What attend_mma and attend_split can read: halves in pieces of 16 bytes, queries and outs too.
bool can_use_tensor_cores(const AttendJob& job, DType dtype) {
  const auto is_aligned = [](const void* address) { return reinterpret_cast<uintptr_t>(address) % 16 == 0; };
  if (dtype == DType::kF32 || job.head_dim % 8 != 0 || job.head_dim > 256 || !is_aligned(job.q) || !is_aligned(job.out)) return false;
  return dtype == DType::kQ8_0 || (is_aligned(job.k) && is_aligned(job.v) && job.row_bytes % 16 == 0 && job.head_bytes % 16 == 0);
}

AttendPath choose(const Backend& backend, const AttendJob& job, DType dtype, AttendPath wanted) {
  if (backend.is_exact || wanted == AttendPath::kExact || !can_use_tensor_cores(job, dtype)) return AttendPath::kExact;
  if (wanted != AttendPath::kAuto) return wanted;
  return static_cast<int64_t>(job.n_tokens) * job.group <= kFewRows ? AttendPath::kSplit : AttendPath::kAuto;
}

}  // namespace

void attend_by(Stream& stream, const AttendArgs& a, int n_slots, const AttendChoice& choice) {
  if (a.n_tokens <= 0 || a.n_heads <= 0 || stream.cancelled()) return;
  Backend& backend = backend_of(stream);
  const DType dtype = a.kv.dtype;
  AttendJob job{};
  job.out = a.out;
  job.lse = a.lse;
  job.q = a.q;
  job.k = static_cast<const uint8_t*>(a.kv.k);
  job.v = static_cast<const uint8_t*>(a.kv.v);
  job.row_bytes = static_cast<int64_t>(row_bytes(dtype, a.kv.row_stride));
  job.head_bytes = static_cast<int64_t>(row_bytes(dtype, a.kv.head_stride));
  job.kv_begin = a.kv_begin;
  job.kv_end = a.kv_end;
  job.n_slots = n_slots;
  job.n_tokens = a.n_tokens;
  job.n_heads = a.n_heads;
  job.n_kv_heads = a.n_kv_heads;
  job.head_dim = a.head_dim;
  job.group = a.n_heads / a.n_kv_heads;
  job.scale = a.scale;
  job.n_splits = 1;

  const AttendPath path = choose(backend, job, dtype, choice.path);
  if (path == AttendPath::kExact) plan_attend_exact(job);
  else if (path == AttendPath::kSplit) plan_attend_split(job);
  else plan_attend_mma(job);
  job.window_tokens = job.tile_tokens;
  const bool is_by_range = path == AttendPath::kAuto && a.kv_begin != nullptr && a.n_tokens <= kFewTokens;
  if (is_by_range) job.takes = Takes::kTogether;

  if (choice.n_splits > 0) job.split_keys = 1;

  // As many splits as fill the device once; with more, some blocks would wait for the others.
  const int n_wanted = backend.sm_count * (kBlocksPerSm + (path == AttendPath::kSplit ? 1 : 0));
  const int n_useful = a.kv_begin == nullptr ? (n_slots + job.split_keys - 1) / job.split_keys : kMaxSplits;
  job.n_splits = choice.n_splits > 0 ? choice.n_splits : std::clamp(std::min(n_wanted / count_blocks(job), n_useful), 1, kMaxSplits);
  if (job.n_splits > 1) {
    const size_t n_parts = static_cast<size_t>(a.n_tokens) * static_cast<size_t>(a.n_heads) * static_cast<size_t>(job.n_splits);
    const size_t state_bytes = (n_parts * sizeof(float2) + 15) / 16 * 16;
    auto* memory = static_cast<unsigned char*>(backend.scratch.take(state_bytes + n_parts * static_cast<size_t>(a.head_dim) * sizeof(float)));
    if (memory == nullptr) return;
    job.states = reinterpret_cast<float2*>(memory);
    job.parts = reinterpret_cast<float*>(memory + state_bytes);
  }

  if (path == AttendPath::kExact) launch_attend_exact(backend, job, dtype);
  else if (path == AttendPath::kSplit) launch_attend_split(backend, job, dtype);
  else launch_attend_mma(backend, job, dtype);
  if (is_by_range) {
    AttendJob ragged = job;
    plan_attend_split(ragged);
    ragged.split_keys = job.split_keys;
    ragged.takes = Takes::kRagged;
    launch_attend_split(backend, ragged, dtype);
  }
  if (job.n_splits > 1) launch_attend_join(backend, job);
}

void attend(Stream& stream, const AttendArgs& args) { attend_by(stream, args, 0, {}); }

}  // namespace banyan::cuda
