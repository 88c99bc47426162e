// SPDX-License-Identifier: MIT
#include "model/safetensors.hpp"

#include <array>
#include <bit>
#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>

namespace equipot {

namespace {

static_assert(std::endian::native == std::endian::little, "model files are little-endian; add byte swapping to port");

using nlohmann::json;

[[noreturn]] void damaged(const std::string& name, const std::string& what) {
    throw Error("model file '" + name + "' is damaged or not an equipot model: " + what);
}

std::int64_t element_bytes(const std::string& dtype) {
    if (dtype == "F64") return 8;
    if (dtype == "F32" || dtype == "I32") return 4;
    return 0;
}

// The number of elements of a shape, or -1 where it does not fit `limit`: products of hostile shapes overflow.
std::int64_t checked_count(const std::vector<std::int64_t>& shape, std::int64_t limit) {
    std::int64_t count = 1;
    for (const auto extent : shape) {
        if (extent < 0) return -1;
        if (extent != 0 && count > limit / extent) return -1;
        count *= extent;
    }
    return count;
}

// CRC-32 as of zlib and PNG (ISO 3309) of the description and the data, in hexadecimal.
std::string checksum(const Container& container, const char* data, std::size_t size) {
    std::array<std::uint32_t, 256> table{};
    for (std::uint32_t byte = 0; byte < 256; ++byte) {
        std::uint32_t rest = byte;
        for (int bit = 0; bit < 8; ++bit) rest = rest & 1U ? 0xedb88320U ^ (rest >> 1) : rest >> 1;
        table[byte] = rest;
    }
    std::uint32_t crc = 0xffffffffU;
    const auto add = [&](const char* bytes, std::size_t count) {
        for (std::size_t k = 0; k < count; ++k)
            crc = table[(crc ^ static_cast<unsigned char>(bytes[k])) & 0xffU] ^ (crc >> 8);
    };
    const auto description = container.metadata.find("equipot");
    if (description != container.metadata.end()) add(description->second.data(), description->second.size());
    add(data, size);
    char text[9];
    std::snprintf(text, sizeof(text), "%08x", crc ^ 0xffffffffU);
    return text;
}

}  // namespace

Container parse_container(const std::vector<char>& bytes, const std::string& name) {
    if (bytes.size() < 8) damaged(name, "it has " + std::to_string(bytes.size()) + " bytes, fewer than a header needs");
    std::uint64_t header_length = 0;
    std::memcpy(&header_length, bytes.data(), 8);
    if (header_length > bytes.size() - 8)
        damaged(name, "its header claims " + std::to_string(header_length) + " bytes, the file has " +
                          std::to_string(bytes.size()) + " (truncated?)");
    const auto header_size = static_cast<std::ptrdiff_t>(header_length);
    json header;
    try {
        header = json::parse(bytes.begin() + 8, bytes.begin() + 8 + header_size);
    } catch (const json::exception&) {
        damaged(name, "its header is not JSON");
    }
    if (!header.is_object()) damaged(name, "its header is not a JSON object");

    const auto data_size = static_cast<std::int64_t>(bytes.size()) - 8 - header_size;
    const char* data = bytes.data() + 8 + header_size;
    std::int64_t covered = 0;
    Container container;
    for (const auto& [key, entry] : header.items()) {
        if (key == "__metadata__") {
            if (!entry.is_object()) damaged(name, "its metadata is not a JSON object");
            for (const auto& [meta_key, value] : entry.items())
                if (value.is_string()) container.metadata[meta_key] = value.get<std::string>();
            continue;
        }
        std::string dtype;
        std::vector<std::int64_t> shape;
        std::vector<std::int64_t> offsets;
        try {
            dtype = entry.at("dtype").get<std::string>();
            shape = entry.at("shape").get<std::vector<std::int64_t>>();
            offsets = entry.at("data_offsets").get<std::vector<std::int64_t>>();
        } catch (const json::exception&) {
            damaged(name, "the entry of array '" + key + "' is incomplete");
        }
        if (offsets.size() != 2 || offsets[0] < 0 || offsets[1] < offsets[0])
            damaged(name, "array '" + key + "' has no valid place in the file");
        if (offsets[1] > data_size) damaged(name, "array '" + key + "' lies beyond the end of the file (truncated?)");
        // Arrays that shared bytes would take more memory than the file has.
        covered += offsets[1] - offsets[0];
        if (covered > data_size) damaged(name, "array '" + key + "' shares its place with others");
        const std::int64_t width = element_bytes(dtype);
        if (width == 0) continue;
        const std::int64_t count = checked_count(shape, data_size);
        if (count < 0 || count * width != offsets[1] - offsets[0])
            damaged(name, "the shape of array '" + key + "' does not match its size");
        const char* source = data + offsets[0];
        const auto n = static_cast<std::size_t>(count);
        if (dtype == "I32") {
            IntegerArray array{shape, std::vector<std::int32_t>(n)};
            if (n > 0) std::memcpy(array.data.data(), source, n * sizeof(std::int32_t));
            container.integers.emplace(key, std::move(array));
        } else if (dtype == "F64") {
            Array array{shape, std::vector<double>(n)};
            if (n > 0) std::memcpy(array.data.data(), source, n * sizeof(double));
            container.arrays.emplace(key, std::move(array));
        } else {
            std::vector<float> single(n);
            if (n > 0) std::memcpy(single.data(), source, n * sizeof(float));
            container.arrays.emplace(key, Array{shape, std::vector<double>(single.begin(), single.end())});
        }
    }
    if (covered != data_size)
        damaged(name, "it holds " + std::to_string(data_size) + " bytes of data, its header describes " +
                          std::to_string(covered));
    const auto crc = container.metadata.find("crc32");
    if (crc != container.metadata.end() &&
        crc->second != checksum(container, data, static_cast<std::size_t>(data_size)))
        damaged(name, "its checksum is not that of what it holds");
    return container;
}

std::vector<char> serialise_container(const Container& container) {
    json header = json::object();
    std::vector<char> data;
    const auto append = [&](const std::string& key, const char* dtype, const auto& array) {
        const std::size_t from = data.size(), size = array.data.size() * sizeof(array.data[0]);
        data.resize(from + size);
        if (size > 0) std::memcpy(data.data() + from, array.data.data(), size);
        header[key] = {{"dtype", dtype}, {"shape", array.shape}, {"data_offsets", {from, from + size}}};
    };
    for (const auto& [key, array] : container.arrays) append(key, "F64", array);
    for (const auto& [key, array] : container.integers) append(key, "I32", array);
    for (const auto& [key, value] : container.metadata) header["__metadata__"][key] = value;
    header["__metadata__"]["crc32"] = checksum(container, data.data(), data.size());
    std::string text = header.dump();
    // The data must start at a multiple of 8 so that readers can map float64 arrays in place.
    text.append((8 - text.size() % 8) % 8, ' ');

    std::vector<char> bytes(8 + text.size() + data.size());
    const auto header_length = static_cast<std::uint64_t>(text.size());
    std::memcpy(bytes.data(), &header_length, 8);
    std::memcpy(bytes.data() + 8, text.data(), text.size());
    if (!data.empty()) std::memcpy(bytes.data() + 8 + text.size(), data.data(), data.size());
    return bytes;
}

}  // namespace equipot
