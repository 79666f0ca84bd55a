// memory_info: how much memory this process could still take. A promise of the system, not a reservation.
#pragma once

#include <cstdint>
#include <string>

namespace banyan {

// Bytes: what the system calls available, and no more than the process's control group allows (Linux); physical memory where nothing better is known.
uint64_t available_memory();

// Throws Error{kOutOfMemory} that says both numbers if n_bytes are more than n_available; `what` begins the message. `advice` may be empty.
void require_memory(uint64_t n_bytes, uint64_t n_available, const std::string& what, const std::string& advice = "");

}  // namespace banyan
