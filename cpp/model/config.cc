#include "model/config.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <numbers>
#include <optional>
#include <string_view>

#include "base/decimal.h"
#include "device/ops.h"

namespace banyan {
namespace {

constexpr int kMaxLayers = 1024;
constexpr int kMaxWidth = 1 << 20;  // of any dimension but the vocabulary: products of two fit 2^40
constexpr int kMaxHeadDim = 1024;
constexpr int kMaxDepth = 16;
constexpr int kMaxChunk = 1 << 24;

double plain_frequency(const RopeConfig& rope, int m, int head_dim) { return std::pow(rope.theta, -2.0 * m / head_dim); }

// NTK-aware scaling (bloc97): a larger base, so that the slowest pair turns `factor` times slower and the fastest not at all.
double ntk_theta(const RopeConfig& rope, int head_dim) {
  return head_dim > 2 ? rope.theta * std::pow(rope.factor, static_cast<double>(head_dim) / (head_dim - 2)) : rope.theta;
}

// Llama 3.1; transformers, modeling_rope_utils.py, _compute_llama3_parameters: long waves are slowed down, short ones kept, those between blended.
double llama3_frequency(const RopeConfig& rope, double frequency) {
  const double n_turns = static_cast<double>(rope.original_window) * frequency / (2.0 * std::numbers::pi);  // within the original window
  const double kept = std::clamp((n_turns - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor), 0.0, 1.0);
  return kept * frequency + (1.0 - kept) * frequency / rope.factor;
}

// YaRN (arXiv 2309.00071, section 3.2); the pair that makes `n_turns` turns within the original window.
double yarn_pair(const RopeConfig& rope, int head_dim, double n_turns) {
  return head_dim * std::log(static_cast<double>(rope.original_window) / (n_turns * 2.0 * std::numbers::pi)) / (2.0 * std::log(rope.theta));
}

bool is_positive(double value) { return std::isfinite(value) && value > 0.0; }

}  // namespace

std::vector<float> rope_frequencies(const RopeConfig& rope, int head_dim, float* magnitude) {
  const int n_pairs = head_dim / 2;
  RopeConfig base = rope;
  if (rope.scaling == RopeScaling::kNtk) base.theta = ntk_theta(rope, head_dim);  // kDynamicNtk: within the window nothing changes
  double low = 0.0, high = 0.0;
  if (rope.scaling == RopeScaling::kYarn) {
    low = std::max(std::floor(yarn_pair(rope, head_dim, rope.beta_fast)), 0.0);
    high = std::min(std::ceil(yarn_pair(rope, head_dim, rope.beta_slow)), head_dim - 1.0);
    if (low == high) high += 0.001;  // as the reference does, against a division by zero
  }
  std::vector<float> frequencies;
  for (int m = 0; m < n_pairs; ++m) {
    double frequency = plain_frequency(base, m, head_dim);
    if (rope.scaling == RopeScaling::kLinear) frequency /= rope.factor;
    if (rope.scaling == RopeScaling::kLlama3) frequency = llama3_frequency(rope, frequency);
    if (rope.scaling == RopeScaling::kYarn) {
      const double interpolated = std::clamp((m - low) / (high - low), 0.0, 1.0);
      frequency = interpolated * frequency / rope.factor + (1.0 - interpolated) * frequency;
    }
    if (!rope.freq_factors.empty()) frequency /= static_cast<double>(rope.freq_factors[static_cast<size_t>(m)]);
    frequencies.push_back(static_cast<float>(frequency));
  }
  if (magnitude != nullptr) {
    const bool is_default = rope.attention_factor == 0.0;
    *magnitude = rope.scaling != RopeScaling::kYarn ? 1.0f
                 : is_default                       ? static_cast<float>(rope.factor <= 1.0 ? 1.0 : 0.1 * std::log(rope.factor) + 1.0)
                                                    : static_cast<float>(rope.attention_factor);
  }
  return frequencies;
}

void check_config(const ModelConfig& config, const std::string& where, Code code) {
  const auto require = [&](bool is_true, const std::string& what) {
    if (!is_true) throw Error(code, where + ": " + what);
  };
  const auto in_range = [&](int64_t value, int64_t high, const char* name) {
    require(value >= 1 && value <= high, std::string(name) + " must be from 1 to " + std::to_string(high) + " but is " + std::to_string(value));
  };
  in_range(config.n_layers, kMaxLayers, "the number of layers");
  in_range(config.dim, kMaxWidth, "the model width");
  in_range(config.ffn_dim, kMaxWidth, "the feed-forward width");
  in_range(config.n_heads, kMaxWidth, "the number of heads");
  in_range(config.n_kv_heads, kMaxWidth, "the number of key/value heads");
  in_range(config.head_dim, kMaxHeadDim, "the head size");
  in_range(config.vocab_size, kMaxVocabulary, "the vocabulary size");
  in_range(config.window, int64_t{1} << 40, "the context window");
  require(config.head_dim % 2 == 0, "the head size " + std::to_string(config.head_dim) + " is odd");
  require(int64_t{config.n_heads} * config.head_dim <= kMaxWidth, "heads times head size is too large");
  require(config.n_heads % config.n_kv_heads == 0, "the number of heads, " + std::to_string(config.n_heads) +
                                                       ", is no multiple of the number of key/value heads, " + std::to_string(config.n_kv_heads));
  require(config.norm_eps >= 0.0f && config.norm_eps < 1.0f, "the norm epsilon is not between 0 and 1");
  require(config.sliding_window >= 0, "the sliding window is negative");

  const RopeConfig& rope = config.rope;
  require(std::isfinite(rope.theta) && rope.theta > 1.0, "the rope base must be more than 1");
  require(is_positive(rope.factor), "the rope scaling factor must be positive");
  if (rope.scaling == RopeScaling::kYarn || rope.scaling == RopeScaling::kLlama3) {
    require(rope.original_window > 0, "rope scaling needs the original window");
    require(is_positive(rope.low_freq_factor) && std::isfinite(rope.high_freq_factor) && rope.high_freq_factor > rope.low_freq_factor,
        "the rope frequency factors must be positive and rising");
    require(is_positive(rope.beta_slow) && std::isfinite(rope.beta_fast) && rope.beta_fast > rope.beta_slow,
        "the rope betas must be positive, the fast one larger");
    require(std::isfinite(rope.attention_factor) && rope.attention_factor >= 0.0, "the rope attention factor must not be negative");
  }
  require(
      rope.freq_factors.empty() || rope.freq_factors.size() == static_cast<size_t>(config.head_dim / 2), "the rope factors do not fit the head size");
  for (const float factor : rope.freq_factors) require(is_positive(factor), "the rope factors must be positive");
}

Keep parse_keep(const std::string& last_p) {
  const auto fail = [&](const char* what) -> Error { return {Code::kBadAdapter, "last_p \"" + last_p.substr(0, 100) + "\" " + what}; };
  constexpr std::string_view kSpace = " \t\r\n";
  const auto trimmed = [&](std::string_view text) {
    const size_t begin = text.find_first_not_of(kSpace);
    return begin == std::string_view::npos ? std::string_view() : text.substr(begin, text.find_last_not_of(kSpace) - begin + 1);
  };
  std::string_view text = trimmed(last_p);
  if (text.size() >= 2 && (text.front() == '"' || text.front() == '\'') && text.front() == text.back())
    text = trimmed(text.substr(1, text.size() - 2));

  std::optional<Keep> first;  // of the comma list; the rest must be numbers too but does not count
  for (;;) {
    const size_t comma = text.find(',');
    const std::string_view entry = trimmed(text.substr(0, comma));
    Keep keep;
    int64_t count = 0;
    const std::string_view digits = entry.starts_with('+') && !entry.starts_with("+-") ? entry.substr(1) : entry;
    const auto [end, status] = std::from_chars(digits.data(), digits.data() + digits.size(), count);
    if (status == std::errc() && end == digits.data() + digits.size()) {
      keep.count = count;
    } else {
      const std::optional<double> fraction = parse_decimal(entry);
      if (!fraction) throw fail("is neither an integer, a fraction nor a list of such");
      if (!(*fraction > 0.0 && *fraction <= 1.0)) throw fail("is a fraction that is not above 0 and at most 1");
      keep.is_fraction = true;
      keep.fraction = *fraction;
    }
    if (!first) first = keep;
    if (comma == std::string_view::npos) return *first;
    text.remove_prefix(comma + 1);
    if (trimmed(text).empty()) return *first;  // "32," is a list of one
  }
}

std::string find_conflict(const TreeConfig& tree) {
  const bool is_nested = tree.semantics == Semantics::kNested, is_by_tokens = tree.selection == SelectionRule::kTokenKeys;
  if (tree.positions == Positions::kBanded && !is_nested) return "positions \"banded\" need the semantics nested";
  if (tree.slot_budget < 0) return "slot_budget is negative";
  // the cosine rule compares halves of halves: below depth 2 there are none
  if (tree.slot_budget > 0 && !(tree.do_retrieval && (is_by_tokens || tree.depth >= 2)))
    return "slot_budget needs scores: do_retrieval, and with the cosine rule a segment_tree_depth of at least 2";
  if (tree.budget_unit == BudgetUnit::kGroup && !(is_nested && is_by_tokens && tree.do_retrieval))
    return "budget_unit \"group\" needs the semantics nested, selection token_keys and do_retrieval";
  return "";
}

void check_tree(const TreeConfig& tree, const std::string& where) {
  const auto require = [&](bool is_true, const std::string& what) {
    if (!is_true) throw Error(Code::kBadAdapter, where + ": " + what);
  };
  require(tree.depth >= 1 && tree.depth <= kMaxDepth,
      "segment_tree_depth must be from 1 to " + std::to_string(kMaxDepth) + " but is " + std::to_string(tree.depth));
  require(tree.chunk_size >= 1 && tree.chunk_size <= kMaxChunk,
      "chunk_size must be from 1 to " + std::to_string(kMaxChunk) + " but is " + std::to_string(tree.chunk_size));
  // The authors' code needs exact halves above the leaves; the other semantics split odd spans and give short chunks a smaller depth.
  require(!is_authors(tree.semantics) || (tree.chunk_size % (1 << (tree.depth - 1)) == 0 && tree.chunk_size >= (1 << tree.depth)),
      "chunk_size " + std::to_string(tree.chunk_size) + " cannot be halved for segment_tree_depth " + std::to_string(tree.depth));
  const std::string conflict = find_conflict(tree);
  require(conflict.empty(), conflict);
}

}  // namespace banyan
