// Scratch: memory that one thread works in.
// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <memory>
#include <new>

namespace equipot::kernels {

/// Uninitialised memory of one thread, aligned for packs and made by the thread that uses it (a View cannot be: Kokkos
/// fences when it allocates, which inside a parallel region waits for itself).
template <class Real>
class Scratch {
public:
    void reserve(std::size_t size) {
        if (size <= size_) return;
        const std::size_t room = size + size / 16;
        size_ = 0;
        data_.reset();  // gives back first what is too small
        data_.reset(static_cast<Real*>(::operator new (room * sizeof(Real), std::align_val_t{64})));
        size_ = room;
    }
    [[nodiscard]] Real* data() const { return data_.get(); }
    [[nodiscard]] double bytes() const { return static_cast<double>(size_) * sizeof(Real); }
    [[nodiscard]] Real& operator[](std::size_t i) const { return data_.get()[i]; }

private:
    struct Delete {
        void operator()(Real* p) const { ::operator delete (p, std::align_val_t{64}); }
    };
    std::unique_ptr<Real, Delete> data_;
    std::size_t size_ = 0;
};

}  // namespace equipot::kernels
