{
  "variables": {
    "base_sources": [
      "cpp/base/aligned.cc", "cpp/base/error.cc", "cpp/base/mapped_file.cc", "cpp/base/json.cc", "cpp/base/hash.cc",
      "cpp/base/huge_pages.cc", "cpp/base/output_file.cc",
      "cpp/base/memory_info.cc", "cpp/base/scratch_file.cc"
    ],
    "cpu_sources": [
      "cpp/cpu/threads.cc", "cpp/cpu/features.cc", "cpp/cpu/dispatch.cc", "cpp/cpu/device.cc",
      "cpp/cpu/kernels_scalar.cc", "cpp/cpu/kernels_avx2.cc", "cpp/cpu/kernels_avx2int8.cc", "cpp/cpu/kernels_avxvnni.cc", "cpp/cpu/kernels_avx512.cc", "cpp/cpu/kernels_avx512vnni.cc", "cpp/cpu/kernels_amx.cc",
      "cpp/cpu/kernels_neon.cc", "cpp/cpu/kernels_neondot.cc", "cpp/cpu/kernels_neoni8mm.cc"
    ],
    "no_cuda_sources": ["cpp/device/no_cuda.cc"],
    "cuda_sources": [
      "cuda/attend.cu", "cuda/attend_exact.cu", "cuda/attend_join.cu", "cuda/attend_mma.cu", "cuda/attend_split.cu", "cuda/backend.cu",
      "cuda/compress.cu", "cuda/cosine.cu", "cuda/device.cu", "cuda/embed.cu", "cuda/gather.cu", "cuda/gemm.cu", "cuda/gemm_f32.cu", "cuda/gemm_few.cu", "cuda/gemm_mma.cu",
      "cuda/gemm_operands.cu", "cuda/gemm_wgmma.cu", "cuda/highest.cu", "cuda/inject.cu", "cuda/merge.cu", "cuda/norm.cu", "cuda/place.cu", "cuda/replay.cu",
      "cuda/rope.cu", "cuda/sample.cu", "cuda/staging.cu", "cuda/standardize.cu", "cuda/store.cu", "cuda/swiglu.cu"
    ],
    "emulate_sources": [
      "cuda/emulate/block.cc", "cuda/emulate/collective.cc", "cuda/emulate/fiber.cc", "cuda/emulate/runtime.cc"
    ],
    "model_sources": [
      "cpp/model/adapter.cc", "cpp/model/config.cc", "cpp/model/fingerprint.cc", "cpp/model/focus_adapter.cc", "cpp/model/gguf.cc", "cpp/model/gguf_config.cc",
      "cpp/model/huggingface.cc", "cpp/model/lora.cc", "cpp/model/requantize.cc", "cpp/model/safetensors.cc", "cpp/model/weights.cc"
    ],
    "engine_sources": [
      "cpp/engine/budget.cc", "cpp/engine/cache.cc", "cpp/engine/compress.cc", "cpp/engine/compress_nested.cc", "cpp/engine/document.cc", "cpp/engine/document_file.cc",
      "cpp/engine/focus_reader.cc", "cpp/engine/full_reader.cc", "cpp/engine/kv_pool.cc", "cpp/engine/layer.cc", "cpp/engine/memory.cc",
      "cpp/engine/model.cc", "cpp/engine/node_batch.cc", "cpp/engine/parallel_reader.cc", "cpp/engine/pass.cc", "cpp/engine/place_weights.cc", "cpp/engine/reader.cc", "cpp/engine/retrieve.cc",
      "cpp/engine/sample_table.cc", "cpp/engine/sampler.cc", "cpp/engine/scheduler.cc", "cpp/engine/score.cc", "cpp/engine/selection.cc", "cpp/engine/session.cc", "cpp/engine/shared_reader.cc",
      "cpp/engine/streaming_reader.cc", "cpp/engine/token_scores.cc", "cpp/engine/tree.cc", "cpp/engine/upper.cc", "cpp/engine/vector_scores.cc",
      "cpp/engine/whole_chunks.cc"
    ],
    "addon_sources": [
      "cpp/addon/addon.cc", "cpp/addon/args.cc", "cpp/addon/cancel.cc", "cpp/addon/convert.cc", "cpp/addon/document.cc",
      "cpp/addon/env.cc", "cpp/addon/js.cc", "cpp/addon/model.cc", "cpp/addon/outbox.cc", "cpp/addon/requests.cc", "cpp/addon/session.cc"
    ]
  }
}
