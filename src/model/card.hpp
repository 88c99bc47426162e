// What the card of a model says about it.
// SPDX-License-Identifier: MIT
#pragma once

#include <string>

#include "model.hpp"

namespace equipot {

/// The title on the model's card; empty when there is none.
std::string card_title(const Model& model);

}  // namespace equipot
