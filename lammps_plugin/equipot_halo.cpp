// SPDX-License-Identifier: GPL-2.0-only
#include "equipot_halo.h"

#include <cstring>

#include "atom.h"
#include "comm.h"
#include "error.h"
#include "lammps.h"
#include "pair.h"

namespace LAMMPS_NS {

EquipotHalo::EquipotHalo(LAMMPS *lmp, Pair *pair) : lmp_(lmp), pair_(pair) {}

void EquipotHalo::layout(std::span<const int> of_list, const std::vector<int> &takes_part,
                         const FindReceived &find_received) {
    const Atom *atom = lmp_->atom;
    Comm *comm = lmp_->comm;
    const int nlocal = atom->nlocal;
    const int nall = nlocal + atom->nghost;
    me_ = comm->me;
    row_.assign(nall, -1);
    owner_rank_.assign(nall, me_);
    owner_row_.assign(nall, -1);
    received_.assign(nall, 0);
    atoms_.clear();

    // An atom that is not in the list belongs to other pair styles alone (hybrid), like one of an invisible type.
    for (const int i : of_list) {
        if (!takes_part[atom->type[i]]) continue;
        row_[i] = owner_row_[i] = static_cast<int>(atoms_.size());
        atoms_.push_back(i);
    }
    owned_ = static_cast<int>(atoms_.size());

    message_ = Message::Owners;
    comm->forward_comm(pair_, 2);

    // The first image of a remote atom stands for all of them.
    std::vector<int> first_image(nall, -1);
    std::unordered_map<std::uint64_t, int> images;
    for (int g = nlocal; g < nall; ++g) {
        if (owner_row_[g] < 0) continue;
        if (!remote(g)) {
            row_[g] = owner_row_[g];
            continue;
        }
        const auto key = (static_cast<std::uint64_t>(owner_rank_[g]) << 32) | static_cast<std::uint32_t>(owner_row_[g]);
        first_image[g] = images.try_emplace(key, g).first->second;
    }

    if (!images.empty()) find_received(first_image, received_);

    // Tells the senders. A ghost that only passes rows on, from a rank to the next but one, is marked on the way.
    sent_.clear();
    received_rows_.clear();
    message_ = Message::Wanted;
    if (comm->nprocs > 1) comm->reverse_comm(pair_, 1);

    for (int g = nlocal; g < nall; ++g) {
        if (!received_[g]) continue;
        int &row = row_[first_image[g]];
        if (row < 0) {
            row = static_cast<int>(atoms_.size());
            atoms_.push_back(g);
        }
    }
    for (int g = nlocal; g < nall; ++g) {
        if (first_image[g] >= 0) row_[g] = row_[first_image[g]];
    }

    // What the message above left there are atoms.
    for (auto &entry : sent_) {
        for (int &k : entry.second) k = row_[k];
    }
    for (auto &entry : received_rows_) {
        for (int &k : entry.second) k = row_[k];
    }
}

template <class Real>
void EquipotHalo::send(Real *rows, int width, bool forward) {
    if (!moves_rows()) return;
    Comm *comm = lmp_->comm;
    message_ = sizeof(Real) == sizeof(double) ? Message::Doubles : Message::Floats;
    rows_ = rows;
    width_ = width;
    slots_ = static_cast<int>((width * sizeof(Real) + sizeof(double) - 1) / sizeof(double));
    if (forward)
        comm->forward_comm(pair_, slots_);
    else
        comm->reverse_comm(pair_, slots_);
    rows_ = nullptr;
}

bool EquipotHalo::moves_rows() const { return lmp_->comm->nprocs > 1; }
void EquipotHalo::forward(double *rows, int width) { send(rows, width, true); }
void EquipotHalo::reverse(double *rows, int width) { send(rows, width, false); }
void EquipotHalo::forward(float *rows, int width) { send(rows, width, true); }
void EquipotHalo::reverse(float *rows, int width) { send(rows, width, false); }

void EquipotHalo::stop_for_moved_lists() const {
    lmp_->error->one(FLERR, "pair equipot: LAMMPS moved its send lists without a new neighbor list");
}

namespace {

template <class Real>
void copy_row(const void *rows, int row, int width, double *to) {
    std::memcpy(to, static_cast<const Real *>(rows) + static_cast<std::int64_t>(row) * width, width * sizeof(Real));
}

template <class Real>
void set_row(void *rows, int row, int width, const double *from) {
    std::memcpy(static_cast<Real *>(rows) + static_cast<std::int64_t>(row) * width, from, width * sizeof(Real));
}

// What leaves a halo row is zeroed behind it: several images share the row, and each amount must travel once.
template <class Real>
void take_row(void *rows, int row, int width, double *to) {
    copy_row<Real>(rows, row, width, to);
    std::memset(static_cast<Real *>(rows) + static_cast<std::int64_t>(row) * width, 0, width * sizeof(Real));
}

template <class Real>
void add_row(void *rows, int row, int width, const double *from) {
    Real *to = static_cast<Real *>(rows) + static_cast<std::int64_t>(row) * width;
    const char *bytes = reinterpret_cast<const char *>(from);
    for (int k = 0; k < width; ++k) {
        Real value;
        std::memcpy(&value, bytes + k * sizeof(Real), sizeof(Real));
        to[k] += value;
    }
}

}  // namespace

int EquipotHalo::pack_forward(int n, const int *list, double *buffer) {
    if (message_ == Message::Owners) {
        for (int k = 0; k < n; ++k) {
            buffer[2 * k] = owner_rank_[list[k]];
            buffer[2 * k + 1] = owner_row_[list[k]];
        }
        return 2 * n;
    }
    if (n == 0) return 0;
    double *to = buffer;
    for (const int row : find(sent_, list)) {
        if (message_ == Message::Doubles)
            copy_row<double>(rows_, row, width_, to);
        else
            copy_row<float>(rows_, row, width_, to);
        to += slots_;
    }
    return static_cast<int>(to - buffer);
}

void EquipotHalo::unpack_forward(int n, int first, const double *buffer) {
    if (message_ == Message::Owners) {
        for (int k = 0; k < n; ++k) {
            owner_rank_[first + k] = static_cast<int>(buffer[2 * k]);
            owner_row_[first + k] = static_cast<int>(buffer[2 * k + 1]);
        }
        return;
    }
    if (n == 0) return;
    for (const int row : find(received_rows_, first)) {
        if (message_ == Message::Doubles)
            set_row<double>(rows_, row, width_, buffer);
        else
            set_row<float>(rows_, row, width_, buffer);
        buffer += slots_;
    }
}

int EquipotHalo::pack_reverse(int n, int first, double *buffer) {
    if (n == 0) return 0;
    if (message_ == Message::Wanted) {
        std::vector<int> &ghosts = received_rows_[first];
        for (int k = 0; k < n; ++k) {
            buffer[k] = received_[first + k];
            if (received_[first + k]) ghosts.push_back(first + k);
        }
        return n;
    }
    double *to = buffer;
    for (const int row : find(received_rows_, first)) {
        if (message_ == Message::Doubles)
            take_row<double>(rows_, row, width_, to);
        else
            take_row<float>(rows_, row, width_, to);
        to += slots_;
    }
    return static_cast<int>(to - buffer);
}

void EquipotHalo::unpack_reverse(int n, const int *list, const double *buffer) {
    if (n == 0) return;
    if (message_ == Message::Wanted) {
        std::vector<int> &atoms = sent_[list];
        for (int k = 0; k < n; ++k) {
            if (buffer[k] == 0.0) continue;
            atoms.push_back(list[k]);
            if (remote(list[k])) received_[list[k]] = 1;
        }
        return;
    }
    for (const int row : find(sent_, list)) {
        if (message_ == Message::Doubles)
            add_row<double>(rows_, row, width_, buffer);
        else
            add_row<float>(rows_, row, width_, buffer);
        buffer += slots_;
    }
}

double EquipotHalo::memory_usage() const {
    double bytes =
        static_cast<double>(row_.capacity() + atoms_.capacity() + owner_rank_.capacity() + owner_row_.capacity()) *
        sizeof(int);
    bytes += static_cast<double>(received_.capacity());
    for (const auto &entry : sent_) bytes += static_cast<double>(entry.second.capacity()) * sizeof(int);
    for (const auto &entry : received_rows_) bytes += static_cast<double>(entry.second.capacity()) * sizeof(int);
    return bytes;
}

}  // namespace LAMMPS_NS
