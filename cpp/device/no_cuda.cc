// no_cuda: linked when CUDA is off; the engine asks and gets "none".
#include "device/device.h"

namespace banyan {

std::unique_ptr<Device> make_cuda_device(int) { return nullptr; }

std::string cuda_obstacle(int) { return "this build has no CUDA"; }

}  // namespace banyan
