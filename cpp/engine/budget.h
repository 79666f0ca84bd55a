// budget: what of a selection joins a memory that may hold only so many slots. Host arithmetic.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/selection.h"
#include "engine/token_scores.h"

namespace banyan {

// Ranks the chunks by the best score among their selected nodes (ties: the earlier one; without a score last) and leaves out, by is_taken, every chunk from
// the first on whose slots do not fit `budget`. What stays keeps its place and its rotation.
void keep_best_chunks(const std::vector<ChunkRef>& chunks, Selection& selection, int64_t budget);

// Nested: the `budget` fine groups of all chunks with the best tokens (ties: the earlier one), neighbours of one chunk as one run; no node is opened. `scores` are those of groups.
Selection select_groups(const std::vector<ChunkRef>& chunks, const TokenScores& scores, int64_t budget);

}  // namespace banyan
