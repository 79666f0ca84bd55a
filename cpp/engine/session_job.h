// session_job: what every run of a session begins with: exclusive use, and what its method prepares.
#pragma once

#include <memory>
#include <utility>

#include "engine/session.h"

namespace banyan {

class SessionJob : public Job {
 public:
  SessionJob(std::shared_ptr<SessionState> session, CancelFlag cancel) : Job(std::move(cancel)), session_(std::move(session)) {}
  ~SessionJob() override {
    if (has_begun_) session_->is_busy = false;
  }

 protected:
  Engine& engine() const { return *session_->engine; }
  Reader& reader() const { return *session_->reader; }

  // One slice; true when the local tokens can be read.
  bool prepare(Stream& s, Question question) {
    if (!has_begun_) {
      if (session_->is_busy) throw Error(Code::kInvalidArgument, "another run of this session is still going on");
      session_->is_busy = has_begun_ = true;
      question.documents = session_->documents();
      reader().begin(std::move(question));
    }
    return reader().prepare(s);
  }

  const std::shared_ptr<SessionState> session_;

 private:
  bool has_begun_ = false;
};

}  // namespace banyan
