// Which atoms of this rank are rows of the engine's graph, and how rows travel between ranks.
// SPDX-License-Identifier: GPL-2.0-only
//
// Every ghost is an image of an atom that some rank owns. Images of this rank's own atoms use the row of that atom, and
// all images of one atom of another rank share one halo row. So one rank alone has no halo, and a halo row is sent once
// however many images LAMMPS keeps. Ghosts that no edge needs (another pair style may ask for many more) are not sent.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "potential/graph.hpp"

namespace LAMMPS_NS {

class EquipotHalo final : public equipot::Exchange {
public:
    /// `pair` is the style whose pack and unpack calls are handed to this object.
    EquipotHalo(class LAMMPS *lmp, class Pair *pair);

    /// Gives rows to the atoms of a full neighbour list: to the owned ones first, then to the halo.
    /// Collective; to be repeated when the list is rebuilt. `takes_part[type]` is zero for types that are invisible,
    /// `reach` is the cutoff and the skin.
    void layout(const class NeighList &list, const std::vector<int> &takes_part, double reach);

    [[nodiscard]] int owned() const { return owned_; }
    [[nodiscard]] int total() const { return static_cast<int>(atoms_.size()); }
    [[nodiscard]] int row(int atom) const { return row_[atom]; }            ///< -1: not in the graph
    [[nodiscard]] const std::vector<int> &atoms() const { return atoms_; }  ///< the atom of a row; halo: one image

    void forward(double *rows, int width) override;
    void reverse(double *rows, int width) override;
    void forward(float *rows, int width) override;
    void reverse(float *rows, int width) override;

    int pack_forward(int n, const int *list, double *buffer);
    void unpack_forward(int n, int first, const double *buffer);
    int pack_reverse(int n, int first, double *buffer);
    void unpack_reverse(int n, const int *list, const double *buffer);

    /// Numbers per atom that LAMMPS must make room for, when the engine's rows are at most `width` wide.
    static int buffer_width(int width) { return width > 2 ? width : 2; }
    [[nodiscard]] double memory_usage() const;

private:
    enum class Message { Owners, Wanted, Doubles, Floats };

    template <class Real>
    void send(Real *rows, int width, bool forward);
    [[nodiscard]] bool remote(int atom) const { return owner_rank_[atom] != me_; }
    const std::vector<char> &wanted(const int *list) const;

    class LAMMPS *lmp_;
    class Pair *pair_;
    int me_ = 0;
    int owned_ = 0;
    std::vector<int> row_;         // by atom, ghosts included
    std::vector<int> atoms_;       // by row
    std::vector<int> owner_rank_;  // by atom
    std::vector<int> owner_row_;   // by atom: its row on the rank that owns it
    std::vector<char> received_;   // by atom: whether rows come in through this ghost

    // Which entries of a send list the receiver wants. LAMMPS keeps a list where it is until the next rebuild.
    std::unordered_map<const int *, std::vector<char>> wanted_;

    Message message_ = Message::Owners;
    void *rows_ = nullptr;  // during forward and reverse
    int width_ = 0;
    int slots_ = 0;  // doubles per row on the wire
};

}  // namespace LAMMPS_NS
