// A number that is known when a model is loaded, as one that is known when the code is compiled.
// SPDX-License-Identifier: MIT
#pragma once

#include <Kokkos_Macros.hpp>
#include <utility>

namespace equipot::kernels {

namespace detail {

template <class F, int... K>
KOKKOS_FORCEINLINE_FUNCTION void with_index(int index, const F& f, std::integer_sequence<int, K...>) {
    ((index == K ? f.template operator()<K>() : void()), ...);
}

}  // namespace detail

/// Calls f.template operator()<K>() for K = index, one of 0 … Count - 1.
template <int Count, class F>
KOKKOS_FORCEINLINE_FUNCTION void with_index(int index, const F& f) {
    detail::with_index(index, f, std::make_integer_sequence<int, Count>{});
}

}  // namespace equipot::kernels
