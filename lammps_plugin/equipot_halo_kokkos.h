// The halo of pair_style equipot/kk: rows are packed and unpacked in parallel, in the memory of DeviceType.
// SPDX-License-Identifier: GPL-2.0-only
//
// The row pointers that forward and reverse are given belong to that memory, too. LAMMPS asks for a message in its own
// buffer there (comm device) or in one on the host (comm no, comm host: any MPI will do); both run the same kernels.
#pragma once

#include <Kokkos_Core.hpp>
#include <cstring>

#include "equipot_halo.h"

namespace LAMMPS_NS {

template <class DeviceType>
class EquipotHaloKokkos final : public EquipotHalo {
public:
    using Ints = Kokkos::View<int *, DeviceType>;

    using EquipotHalo::EquipotHalo;

    [[nodiscard]] Ints rows_of_atoms() const { return rows_of_atoms_; }  ///< by atom, -1: not in the graph
    [[nodiscard]] Ints atoms_of_rows() const { return atoms_of_rows_; }  ///< by row

    void layout(std::span<const int> of_list, const std::vector<int> &takes_part, const FindReceived &find) override {
        EquipotHalo::layout(of_list, takes_part, find);
        rows_of_atoms_ = upload(row_);
        atoms_of_rows_ = upload(atoms_);
        sent_there_.clear();
        received_there_.clear();
        for (const auto &entry : sent_) sent_there_[entry.first] = sort(entry.second);
        for (const auto &entry : received_rows_) received_there_[entry.first] = sort(entry.second);
    }

    int pack_forward(int n, const int *list, double *buffer) override {
        if (!carries_rows()) return EquipotHalo::pack_forward(n, list, buffer);
        return n == 0 ? 0 : to_host(this->find(sent_there_, list), &EquipotHaloKokkos::pack, buffer);
    }
    void unpack_forward(int n, int first, const double *buffer) override {
        if (!carries_rows()) return EquipotHalo::unpack_forward(n, first, buffer);
        if (n > 0) from_host(this->find(received_there_, first), &EquipotHaloKokkos::unpack, buffer);
    }
    int pack_reverse(int n, int first, double *buffer) override {
        if (!carries_rows()) return EquipotHalo::pack_reverse(n, first, buffer);
        return n == 0 ? 0 : to_host(this->find(received_there_, first), &EquipotHaloKokkos::take, buffer);
    }
    void unpack_reverse(int n, const int *list, const double *buffer) override {
        if (!carries_rows()) return EquipotHalo::unpack_reverse(n, list, buffer);
        if (n > 0) from_host(this->find(sent_there_, list), &EquipotHaloKokkos::add, buffer);
    }

    // The same with buffers in the memory of DeviceType; never for the messages of the layout itself.
    int pack_forward_there(int n, const int *list, double *buffer) {
        return n == 0 ? 0 : pack(this->find(sent_there_, list), buffer);
    }
    void unpack_forward_there(int n, int first, const double *buffer) {
        if (n > 0) unpack(this->find(received_there_, first), buffer);
    }
    int pack_reverse_there(int n, int first, double *buffer) {
        return n == 0 ? 0 : take(this->find(received_there_, first), buffer);
    }
    void unpack_reverse_there(int n, const int *list, const double *buffer) {
        if (n > 0) add(this->find(sent_there_, list), buffer);
    }

    /// A copy of `from` in the memory of DeviceType.
    template <class T>
    static Kokkos::View<T *, DeviceType> upload(const std::vector<T> &from) {
        Kokkos::View<T *, DeviceType> to(Kokkos::view_alloc("equipot:upload", Kokkos::WithoutInitializing),
                                         from.size());
        Kokkos::deep_copy(
            to, Kokkos::View<const T *, Kokkos::HostSpace, Kokkos::MemoryUnmanaged>(from.data(), from.size()));
        return to;
    }

    [[nodiscard]] double memory_usage() const override {
        double ints = static_cast<double>(rows_of_atoms_.extent(0) + atoms_of_rows_.extent(0));
        for (const auto &entry : sent_there_) ints += static_cast<double>(3 * entry.second.slot.extent(0));
        for (const auto &entry : received_there_) ints += static_cast<double>(3 * entry.second.slot.extent(0));
        return EquipotHalo::memory_usage() + ints * sizeof(int) + static_cast<double>(staging_.size()) * sizeof(double);
    }

    // Public because lambdas that run on a device must be.

    // The rows of a message: each once, with its places on the wire. So no two threads ever meet at a row, and what is
    // added to it comes in the order of the wire.
    struct Wire {
        Ints row, first, slot;
        int slots = 0;
        [[nodiscard]] int rows() const { return static_cast<int>(row.extent(0)); }
    };

    int pack(const Wire &wire, double *buffer) { return move<false>(wire, buffer); }
    int take(const Wire &wire, double *buffer) { return move<true>(wire, buffer); }
    int unpack(const Wire &wire, const double *buffer) { return put<false>(wire, buffer); }
    int add(const Wire &wire, const double *buffer) { return put<true>(wire, buffer); }

    template <bool CLEAR>
    int move(const Wire &wire, double *buffer) {
        return this->message_ == Message::Doubles ? move_reals<CLEAR, double>(wire, buffer)
                                                  : move_reals<CLEAR, float>(wire, buffer);
    }
    template <bool ADD>
    int put(const Wire &wire, const double *buffer) {
        return this->message_ == Message::Doubles ? put_reals<ADD, double>(wire, buffer)
                                                  : put_reals<ADD, float>(wire, buffer);
    }

    // With CLEAR, what leaves a halo row is zeroed behind it, so that each amount travels once: by its first place.
    template <bool CLEAR, class Real>
    int move_reals(const Wire &wire, double *buffer) {
        Real *rows = static_cast<Real *>(this->rows_);
        const auto row = wire.row, first = wire.first, slot = wire.slot;
        const int width = this->width_, stride = this->slots_;
        Kokkos::parallel_for(
            "equipot:pack", over(wire), KOKKOS_LAMBDA(const int u, const int k) {
                Real &value = rows[static_cast<std::int64_t>(row(u)) * width + k];
                for (int s = first(u); s < first(u + 1); ++s) {
                    const Real sent = CLEAR && s > first(u) ? Real(0) : value;
                    char *to = reinterpret_cast<char *>(buffer + static_cast<std::int64_t>(slot(s)) * stride);
                    memcpy(to + k * sizeof(Real), &sent, sizeof(Real));
                }
                if (CLEAR) value = Real(0);
            });
        Kokkos::fence("equipot:pack");
        return wire.slots * stride;
    }

    template <bool ADD, class Real>
    int put_reals(const Wire &wire, const double *buffer) {
        Real *rows = static_cast<Real *>(this->rows_);
        const auto row = wire.row, first = wire.first, slot = wire.slot;
        const int width = this->width_, stride = this->slots_;
        Kokkos::parallel_for(
            "equipot:unpack", over(wire), KOKKOS_LAMBDA(const int u, const int k) {
                Real &value = rows[static_cast<std::int64_t>(row(u)) * width + k];
                for (int s = first(u); s < first(u + 1); ++s) {
                    const char *from =
                        reinterpret_cast<const char *>(buffer + static_cast<std::int64_t>(slot(s)) * stride);
                    Real received;
                    memcpy(&received, from + k * sizeof(Real), sizeof(Real));
                    value = ADD ? value + received : received;
                }
            });
        Kokkos::fence("equipot:unpack");
        return wire.slots * stride;
    }

private:
    using Message = typename EquipotHalo::Message;
    using Order = Kokkos::Rank<2, Kokkos::Iterate::Right, Kokkos::Iterate::Right>;  // neighbouring threads along a row
    static constexpr bool host_sees_it =
        Kokkos::SpaceAccessibility<Kokkos::HostSpace, typename DeviceType::memory_space>::accessible;

    [[nodiscard]] auto over(const Wire &wire) const {
        return Kokkos::MDRangePolicy<DeviceType, Order, Kokkos::IndexType<int>>({0, 0}, {wire.rows(), this->width_});
    }

    static Wire sort(const std::vector<int> &rows) {
        std::unordered_map<int, int> index;
        std::vector<int> unique, first, slot(rows.size());
        for (const int row : rows) {
            if (index.try_emplace(row, static_cast<int>(unique.size())).second) unique.push_back(row);
        }
        first.assign(unique.size() + 1, 0);
        for (const int row : rows) ++first[index[row] + 1];
        for (std::size_t u = 0; u < unique.size(); ++u) first[u + 1] += first[u];
        std::vector<int> next(first.begin(), first.end() - 1);
        for (std::size_t k = 0; k < rows.size(); ++k) slot[next[index[rows[k]]]++] = static_cast<int>(k);
        return {upload(unique), upload(first), upload(slot), static_cast<int>(rows.size())};
    }

    using There = Kokkos::View<double *, DeviceType, Kokkos::MemoryUnmanaged>;
    using Here = Kokkos::View<double *, Kokkos::HostSpace, Kokkos::MemoryUnmanaged>;
    using ConstHere = Kokkos::View<const double *, Kokkos::HostSpace, Kokkos::MemoryUnmanaged>;

    There staging(std::size_t doubles) {
        if (staging_.size() < doubles)
            staging_ = Kokkos::View<double *, DeviceType>(
                Kokkos::view_alloc("equipot:staging", Kokkos::WithoutInitializing), doubles);
        return There(staging_.data(), doubles);
    }

    int to_host(const Wire &wire, int (EquipotHaloKokkos::*fill)(const Wire &, double *), double *buffer) {
        if constexpr (host_sees_it) {
            return (this->*fill)(wire, buffer);
        } else {
            const There there = staging(static_cast<std::size_t>(wire.slots) * this->slots_);
            const int doubles = (this->*fill)(wire, there.data());
            Kokkos::deep_copy(Here(buffer, there.size()), there);
            return doubles;
        }
    }

    void from_host(const Wire &wire, int (EquipotHaloKokkos::*use)(const Wire &, const double *),
                   const double *buffer) {
        if constexpr (host_sees_it) {
            (this->*use)(wire, buffer);
        } else {
            const There there = staging(static_cast<std::size_t>(wire.slots) * this->slots_);
            Kokkos::deep_copy(there, ConstHere(buffer, there.size()));
            (this->*use)(wire, there.data());
        }
    }

    Ints rows_of_atoms_, atoms_of_rows_;
    std::unordered_map<const int *, Wire> sent_there_;
    std::unordered_map<int, Wire> received_there_;
    Kokkos::View<double *, DeviceType> staging_;
};

}  // namespace LAMMPS_NS
