// kernels: all ops of one variant. A kernels_<variant>.cc includes this inside its namespace, after its vec_<variant>.h.
// Order matters: what the ops share comes first.
#include "cpu/vec_math.inl"
#include "cpu/tasks.inl"
#include "cpu/dequant.inl"
#include "cpu/multiply.inl"

#include "cpu/embed.inl"
#include "cpu/norm.inl"
#include "cpu/gemm_few.inl"
#include "cpu/gemm_few_plain.inl"
#include "cpu/gemm.inl"
#include "cpu/rope.inl"
#include "cpu/store.inl"
#include "cpu/slot_row.inl"
#include "cpu/place.inl"
#include "cpu/attend.inl"
#include "cpu/attend_few.inl"
#include "cpu/attend_keys.inl"
#include "cpu/inject.inl"
#include "cpu/merge.inl"
#include "cpu/gather.inl"
#include "cpu/compress.inl"
#include "cpu/cosine.inl"
#include "cpu/standardize.inl"
#include "cpu/highest.inl"
#include "cpu/swiglu.inl"
#include "cpu/sample.inl"

constexpr Ops kOps = {
    kVariant, embed, norm, gemm, rope, store, place, attend, inject, merge, gather, compress, cosine, standardize, highest, swiglu, sample};
