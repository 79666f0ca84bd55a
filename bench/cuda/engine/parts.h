// parts: what engine_bench measures of a loaded model. Each part stands alone, reports what it knows as soon as it knows it, and repeats itself only while
// there is time. All of them throw Error{kAborted} where the time is up in the middle of a job.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "banyan.h"
#include "meter.h"
#include "report.h"
#include "size.h"

namespace banyan::bench {

struct Subject {
  Model& model;
  const Size& size;
  const std::string folder;  // for a saved document
  Meter& meter;
  Report& report;
  double read_rate;         // of the device, bytes a second; 0: unknown
  uint64_t used, reserved;  // memory with the weights there and nothing done
};

struct Part {
  const char* name;
  void (*measure)(Subject&);
};

// The order is that of importance:
//   decode    tokens without a document, beside the rate at which the device reads
//   document  a document is read and asked about at once: first token, memory until then, later questions, decoding
//   full      the same ids read by full attention
//   rates     tokens a second of compressing the document, and a much longer one
//   many      small documents compressed, asked about and released: what stays of them
//   opened    a saved document: opening it, and its first question
const std::vector<Part>& all_parts();

}  // namespace banyan::bench
