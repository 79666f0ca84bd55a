// size: what engine_bench runs: a model's shape, the adapter's tree, and how much is read, asked and decoded. Lengths are tokens.
#pragma once

#include <cstdint>
#include <string>

namespace banyan::bench {

struct Shape {
  int n_layers, dim, n_heads, n_kv_heads, head_dim, ffn_dim, vocab_size;
  bool is_tied;
  int n_injected_layers, chunk_size, depth, n_slots;  // of the adapter: the tree's nodes keep n_slots each

  int q_dim() const { return n_heads * head_dim; }
  int kv_dim() const { return n_kv_heads * head_dim; }
  // BF16 bytes of the matrices that every generated token multiplies with; those of the adapter only where there is a memory.
  uint64_t token_bytes() const;
  uint64_t adapter_bytes() const;
};

struct Size {
  std::string name;
  Shape shape;
  int document, long_document, question, n_tokens;  // n_tokens are decoded behind the first one
  int n_small_documents, small_document;
  int n_repeats, n_questions;
};

// "8b" and "1b" are Llama 3.1 8B and 3.2 1B; "small" is a toy that the CPU and the emulated device run. Throws kInvalidArgument for any other name.
Size size_of(const std::string& name);

}  // namespace banyan::bench
