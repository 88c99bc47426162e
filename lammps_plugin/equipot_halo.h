// Which atoms of this rank are rows of the engine's graph, and how rows travel between ranks.
// SPDX-License-Identifier: GPL-2.0-only
//
// Every ghost is an image of an atom that some rank owns. Images of this rank's own atoms use the row of that atom, and
// all images of one atom of another rank share one halo row. So one rank alone has no halo, and a halo row is sent once
// however many images LAMMPS keeps. Ghosts that no edge needs (another pair style may ask for many more) are not sent.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <unordered_map>
#include <vector>

#include "potential/graph.hpp"

namespace LAMMPS_NS {

class EquipotHalo : public equipot::Exchange {
public:
    /// `pair` is the style whose pack and unpack calls are handed to this object.
    EquipotHalo(class LAMMPS *lmp, class Pair *pair);

    /// Sets received[first_image[j]] for every neighbour j within reach of an owned atom where first_image[j] >= 0.
    using FindReceived = std::function<void(const std::vector<int> &first_image, std::vector<char> &received)>;

    /// Gives rows to atoms: first to the owned ones `of_list`, a full neighbour list, then to the halo.
    /// Collective; to be repeated when the list is rebuilt. `takes_part[type]` is zero for types that are invisible.
    virtual void layout(std::span<const int> of_list, const std::vector<int> &takes_part,
                        const FindReceived &find_received);

    [[nodiscard]] int owned() const { return owned_; }
    [[nodiscard]] int total() const { return static_cast<int>(atoms_.size()); }
    [[nodiscard]] int row(int atom) const { return row_[atom]; }            ///< -1: not in the graph
    [[nodiscard]] const std::vector<int> &atoms() const { return atoms_; }  ///< the atom of a row; halo: one image

    void forward(double *rows, int width) override;
    void reverse(double *rows, int width) override;
    void forward(float *rows, int width) override;
    void reverse(float *rows, int width) override;
    [[nodiscard]] bool moves_rows() const override;

    virtual int pack_forward(int n, const int *list, double *buffer);
    virtual void unpack_forward(int n, int first, const double *buffer);
    virtual int pack_reverse(int n, int first, double *buffer);
    virtual void unpack_reverse(int n, const int *list, const double *buffer);

    /// Numbers per atom that LAMMPS must make room for, when the engine's rows are at most `width` wide.
    [[nodiscard]] int buffer_width(int width) const { return width > 2 && moves_rows() ? width : 2; }
    [[nodiscard]] virtual double memory_usage() const;

protected:
    enum class Message { Owners, Wanted, Doubles, Floats };

    [[nodiscard]] bool carries_rows() const { return message_ == Message::Doubles || message_ == Message::Floats; }
    /// The entry of a list or a range of ghosts; stops the run when LAMMPS has moved it since the layout.
    template <class Map>
    const typename Map::mapped_type &find(const Map &map, const typename Map::key_type &key) const {
        const auto found = map.find(key);
        if (found == map.end()) stop_for_moved_lists();
        return found->second;
    }

    // Rows in the order of the wire, by send list, and by the first of the ghosts that a message fills. LAMMPS keeps a
    // list where it is until the next rebuild. A row comes up twice where two images of one atom pass through.
    std::unordered_map<const int *, std::vector<int>> sent_;
    std::unordered_map<int, std::vector<int>> received_rows_;
    std::vector<int> row_;    // by atom, ghosts included
    std::vector<int> atoms_;  // by row

    Message message_ = Message::Owners;
    void *rows_ = nullptr;  // during forward and reverse
    int width_ = 0;
    int slots_ = 0;  // doubles per row on the wire

private:
    template <class Real>
    void send(Real *rows, int width, bool forward);
    [[nodiscard]] bool remote(int atom) const { return owner_rank_[atom] != me_; }
    [[noreturn]] void stop_for_moved_lists() const;

    class LAMMPS *lmp_;
    class Pair *pair_;
    int me_ = 0;
    int owned_ = 0;
    std::vector<int> owner_rank_;  // by atom
    std::vector<int> owner_row_;   // by atom: its row on the rank that owns it
    std::vector<char> received_;   // by atom: whether rows come in through this ghost
};

}  // namespace LAMMPS_NS
