// tma: barriers in shared memory that count bytes, and the engine that copies boxes of a matrix to shared memory (compute capability 9.0). Not
// emulated. PTX ISA, "mbarrier" and "cp.async.bulk.tensor".
#pragma once

#include <cuda.h>
#include <cudaTypedefs.h>

#include <cstdint>

#include "cuda/prim/memory.cuh"

namespace banyan::cuda {

// ---- host ----

// Describes rows[n_rows, n_cols] of 16-bit numbers, row_bytes apart, to be copied in boxes of box_rows x 64 into tiles swizzled by 128 bytes; what lies
// outside the matrix becomes zero. `rows` and row_bytes are multiples of 16. False if the driver has no such engine or refuses.
inline bool make_tensor_map(CUtensorMap& map, bool is_bf16, const void* rows, int64_t n_rows, int64_t n_cols, int64_t row_bytes, int box_rows) {
  // From the driver that is loaded: linking with it would tie the program to machines that have one.
  static const auto encode = [] {
    void* function = nullptr;
    cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
#if CUDART_VERSION >= 12050
    const cudaError_t error = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000, cudaEnableDefault, &found);
#else
    const cudaError_t error = cudaGetDriverEntryPoint("cuTensorMapEncodeTiled", &function, cudaEnableDefault, &found);
#endif
    if (error != cudaSuccess) cudaGetLastError();
    return error == cudaSuccess && found == cudaDriverEntryPointSuccess ? reinterpret_cast<PFN_cuTensorMapEncodeTiled_v12000>(function) : nullptr;
  }();
  if (encode == nullptr) return false;
  const cuuint64_t shape[2] = {static_cast<cuuint64_t>(n_cols), static_cast<cuuint64_t>(n_rows)}, strides[1] = {static_cast<cuuint64_t>(row_bytes)};
  const cuuint32_t box[2] = {64, static_cast<cuuint32_t>(box_rows)}, steps[2] = {1, 1};
  return encode(&map, is_bf16 ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 : CU_TENSOR_MAP_DATA_TYPE_FLOAT16, 2, const_cast<void*>(rows), shape, strides, box,
             steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
             CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}

// ---- device ----

using Barrier = uint64_t;

__device__ __forceinline__ void barrier_init(Barrier& barrier, int n_arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(&barrier)), "r"(n_arrivals) : "memory");
}
// After all of them, by the thread that made them, before the barrier of the block.
__device__ __forceinline__ void barrier_init_fence() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }
__device__ __forceinline__ void barrier_arrive(Barrier& barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(&barrier)) : "memory");
}
// Arrives, and lets the phase wait for that many bytes of copies too.
__device__ __forceinline__ void barrier_arrive_expect(Barrier& barrier, int n_bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(&barrier)), "r"(n_bytes) : "memory");
}
// Waits until the phase of this parity is over: 0 for the first, 1 for the second, ... A fresh barrier counts as past phase 1.
__device__ __forceinline__ void barrier_wait(Barrier& barrier, int parity) {
  uint32_t is_over = 0;
  do {
    asm volatile(
        "{\n.reg .pred over;\n"
        "mbarrier.try_wait.parity.shared::cta.b64 over, [%1], %2;\n"
        "selp.b32 %0, 1, 0, over;\n}\n"
        : "=r"(is_over)
        : "r"(shared_address(&barrier)), "r"(parity)
        : "memory");
  } while (is_over == 0);
}

__device__ __forceinline__ void prefetch_tensor_map(const CUtensorMap& map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(reinterpret_cast<uint64_t>(&map)) : "memory");
}
// Starts the copy of the box whose first element is (row, column); its bytes count at the barrier.
__device__ __forceinline__ void copy_box(unsigned char* to, const CUtensorMap& map, Barrier& barrier, int column, int row) {
  asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4}], [%2];" ::"r"(shared_address(to)),
               "l"(reinterpret_cast<uint64_t>(&map)), "r"(shared_address(&barrier)), "r"(column), "r"(row)
               : "memory");
}

}  // namespace banyan::cuda
