// What the users of the engine share: Kokkos' default host instance serves one caller at a time, whichever object it
// comes from. Internal.
// SPDX-License-Identifier: MIT
#pragma once

#include <mutex>
#include <string>

#include "../model/model.hpp"

namespace equipot {

std::mutex& engine_mutex();

/// Index of a head by name; empty means the only one. @throws Error listing those the model has.
int find_head(const Model& model, const std::string& name);

}  // namespace equipot
