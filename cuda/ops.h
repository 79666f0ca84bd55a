// ops: the backend's functions, one file each; device.cu makes the table of them. Arguments: device/ops.h.
#pragma once

#include "device/ops.h"

namespace banyan::cuda {

void embed(Stream& stream, const EmbedArgs& args);
void norm(Stream& stream, const NormArgs& args);
void gemm(Stream& stream, const GemmArgs& args);
void rope(Stream& stream, const RopeArgs& args);
void store(Stream& stream, const StoreArgs& args);
void place(Stream& stream, const PlaceArgs& args);
void attend(Stream& stream, const AttendArgs& args);
void inject(Stream& stream, const InjectArgs& args);
void merge(Stream& stream, const MergeArgs& args);
void gather(Stream& stream, const GatherArgs& args);
void compress(Stream& stream, const CompressArgs& args);
void cosine(Stream& stream, const CosineArgs& args);
void standardize(Stream& stream, const StandardizeArgs& args);
void highest(Stream& stream, const HighestArgs& args);
void swiglu(Stream& stream, const SwigluArgs& args);
void sample(Stream& stream, const SampleArgs& args);

}  // namespace banyan::cuda
