// Subnormal numbers, which x86 processors work on in microcode, a hundred times slower than on others. Training leaves
// weights of 1e-30 behind; in single precision their products would be subnormal.
// SPDX-License-Identifier: MIT
#pragma once

namespace equipot::kernels {

/// While it lives, this thread takes subnormal numbers for zero. Elsewhere than on x86 they cost nothing, and stay.
class FlushSubnormals {
#if defined(__SSE2__)
public:
    FlushSubnormals() : before_(__builtin_ia32_stmxcsr()) { __builtin_ia32_ldmxcsr(before_ | results | operands); }
    ~FlushSubnormals() { __builtin_ia32_ldmxcsr(before_); }
    FlushSubnormals(const FlushSubnormals&) = delete;
    FlushSubnormals& operator=(const FlushSubnormals&) = delete;

private:
    static constexpr unsigned results = 0x8000, operands = 0x0040;  // bits of the control register
    unsigned before_;
#endif
};

}  // namespace equipot::kernels
