#include "addon/outbox.h"

#include <utility>

namespace banyan::addon {
namespace {

// True if `next` was merged into `last`.
bool merge(Message& last, Message& next) {
  if (auto* tokens = std::get_if<Tokens>(&last.body)) {
    auto* more = std::get_if<Tokens>(&next.body);
    if (more == nullptr) return false;
    tokens->ids.insert(tokens->ids.end(), more->ids.begin(), more->ids.end());
    return true;
  }
  if (auto* progress = std::get_if<Progress>(&last.body)) {
    auto* newer = std::get_if<Progress>(&next.body);
    if (newer == nullptr || newer->phase != progress->phase) return false;
    *progress = std::move(*newer);
    return true;
  }
  return false;
}

}  // namespace

void Outbox::post(Message message, Place& place) {
  std::lock_guard lock(mutex_);
  if (wake_ == nullptr) return;
  if (place.batch == batch_ && merge(queue_[place.index], message)) return;
  place = {batch_, queue_.size()};
  queue_.push_back(std::move(message));
  if (queue_.size() == 1) napi_call_threadsafe_function(wake_, nullptr, napi_tsfn_nonblocking);
}

std::vector<Message> Outbox::take() {
  std::lock_guard lock(mutex_);
  ++batch_;
  return std::exchange(queue_, {});
}

std::vector<Message> Outbox::close() {
  std::lock_guard lock(mutex_);
  wake_ = nullptr;
  ++batch_;
  return std::exchange(queue_, {});
}

}  // namespace banyan::addon
