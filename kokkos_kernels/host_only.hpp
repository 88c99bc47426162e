// Include this first in files that run stages over SIMD packs: nvcc lets no vector type into functions that could also
// run on a device, so what Kokkos marks as such is for the host alone there. Other compilers see no difference.
// SPDX-License-Identifier: MIT
#pragma once

#include <Kokkos_Core.hpp>

#if defined(__CUDACC__)
#undef KOKKOS_FUNCTION
#undef KOKKOS_INLINE_FUNCTION
#undef KOKKOS_FORCEINLINE_FUNCTION
#define KOKKOS_FUNCTION
#define KOKKOS_INLINE_FUNCTION inline
#define KOKKOS_FORCEINLINE_FUNCTION inline __attribute__((always_inline))
#endif
