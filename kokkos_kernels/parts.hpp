// Loops over parts of host work that take different times: each part goes to the next thread that is free.
// SPDX-License-Identifier: MIT
#pragma once

#include <Kokkos_Core.hpp>

namespace equipot::kernels {

/// Calls f(i) for i = 0 … count - 1 on all threads; the parts must be independent of one another.
template <class Index, class F>
void for_parts(const char* label, Index count, const F& f) {
    Kokkos::parallel_for(
        label, Kokkos::RangePolicy<Kokkos::DefaultHostExecutionSpace, Kokkos::Schedule<Kokkos::Dynamic>>(0, count), f);
}

}  // namespace equipot::kernels
