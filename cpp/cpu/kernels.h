// kernels: everything the shared kernel sources use from outside. It comes before a variant's target pragma, so that no inline function of the
// standard library is compiled for instructions that other variants' machines lack.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <new>
#include <type_traits>
#include <utility>

#include "cpu/dispatch.h"
#include "cpu/inline.h"
#include "cpu/threads.h"
#include "device/ops.h"
