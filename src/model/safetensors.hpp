// The safetensors container: an 8-byte header length, a JSON header, raw little-endian arrays.
// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "model.hpp"

namespace equipot {

struct IntegerArray {
    std::vector<std::int64_t> shape;
    std::vector<std::int32_t> data;
};

/// The arrays of one file by name: F64 and F32 are read as float64, I32 as int32; other types are left out.
struct Container {
    std::map<std::string, std::string> metadata;
    std::map<std::string, Array> arrays;
    std::map<std::string, IntegerArray> integers;
};

/// @throws Error naming `name` and what is wrong; never allocates more than a small multiple of the bytes given.
Container parse_container(const std::vector<char>& bytes, const std::string& name);

std::vector<char> serialise_container(const Container& container);

}  // namespace equipot
