// score: log-probabilities of given tokens behind a prompt, as if the session had generated them.
#pragma once

#include <memory>

#include "engine/session.h"

namespace banyan {

// The prompt and the targets must have been checked.
std::unique_ptr<Job> make_score_job(std::shared_ptr<SessionState> session, ScoreRequest request, ScoreHooks hooks);

}  // namespace banyan
