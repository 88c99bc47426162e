// Threads of this process: how many, since when, and whether a fork has left them behind.
// SPDX-License-Identifier: MIT
#pragma once

namespace equipot::python {

/// Sets how many threads the first potential will start. @throws Error when they run already.
void set_threads(int threads);

/// OMP_NUM_THREADS, or the cores this process may use, unless set_threads said otherwise.
int threads();

/// Starts Kokkos at the first call. @throws Error in a process forked from one whose threads were running: threads do
/// not survive a fork, and waiting for them would never end.
void require_runtime();

}  // namespace equipot::python
