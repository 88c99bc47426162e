// SPDX-License-Identifier: GPL-2.0-only
/*
pair_style equipot/kk, equipot/kk/device, equipot/kk/host: pair_style equipot (see pair_equipot.h, also for its
commands) in a LAMMPS with KOKKOS. Positions, neighbours and forces stay where that LAMMPS has them; graph, results and
messages between ranks are made there in parallel.

Example, with 4 threads; "pair_style equipot" becomes equipot/kk

    lmp -k on t 4 -sf kk -in in.melt

Restrictions
  KOKKOS switched on (-k on), and newton on: with a GPU that takes "-pk kokkos newton on neigh half".
*/

#ifdef PAIR_CLASS
// clang-format off
PairStyle(equipot/kk,PairEquipotKokkosDevice);
PairStyle(equipot/kk/device,PairEquipotKokkosDevice);
PairStyle(equipot/kk/host,PairEquipotKokkosHost);
// clang-format on
#else

// clang-format off
#ifndef LMP_PAIR_EQUIPOT_KOKKOS_H
#define LMP_PAIR_EQUIPOT_KOKKOS_H
// clang-format on

#include <Kokkos_DualView.hpp>
#include <cstdint>
#include <string>
#include <type_traits>

#include "kokkos_base.h"
#include "kokkos_type.h"
#include "pair_equipot.h"

namespace LAMMPS_NS {

template <class DeviceType>
class EquipotHaloKokkos;

template <class DeviceType>
class PairEquipotKokkos : public PairEquipot, public KokkosBase {
public:
    using device_type = DeviceType;

    ~PairEquipotKokkos() override;

    void init_style() override;
    void *extract_peratom(const char *, int &) override;
    double memory_usage() override;

    int pack_forward_comm_kokkos(int, DAT::tdual_int_1d, DAT::tdual_xfloat_1d &, int, int *) override;
    void unpack_forward_comm_kokkos(int, int, DAT::tdual_xfloat_1d &) override;
    int pack_reverse_comm_kokkos(int, int, DAT::tdual_xfloat_1d &) override;
    void unpack_reverse_comm_kokkos(int, DAT::tdual_int_1d, DAT::tdual_xfloat_1d &) override;

    // Public because lambdas that run on a device must be.
    void begin(int eflag, int vflag) override;
    void forget_model() override;
    void lay_out() override;
    std::string build_graph() override;
    void run_model() override;
    [[nodiscard]] std::int64_t edges_of_graph() const override { return edges; }
    [[nodiscard]] double device_bytes_of_graph() const override;
    std::string find_nonfinite() override;
    void add_results() override;
    template <class Real>
    void run_on_device();

protected:
    PairEquipotKokkos(class LAMMPS *lmp, ExecutionSpace space);

private:
    template <class T>
    using Array = Kokkos::View<T *, DeviceType>;
    template <class T>
    using Readable = Kokkos::View<const T *, DeviceType, Kokkos::MemoryUnmanaged>;

    static constexpr bool in_host_memory = std::is_same_v<typename DeviceType::memory_space, Kokkos::HostSpace>;

    [[nodiscard]] std::string usual_device() const override { return in_host_memory ? "cpu" : "gpu"; }
    [[nodiscard]] bool on_device() const;
    void read_atoms_on_host();
    void sort_neighbors();

    EquipotHaloKokkos<DeviceType> *halo;  // the engine's

    Array<std::int32_t> numbers_of_types;
    // The graph, as in equipot::Graph; arrays may be longer than what is in use.
    Array<std::int32_t> graph_numbers;
    Array<std::int64_t> graph_first;
    Array<std::int32_t> graph_neighbor;
    Array<double> graph_displacement;
    std::int64_t edges = 0;

    // What the model gave, as in equipot::Result.
    Readable<double> energies, forces, virials, centroid_virials;

    Kokkos::DualView<double *, Kokkos::LayoutRight, LMPDeviceType> k_eatom;
    Kokkos::DualView<double *[6], Kokkos::LayoutRight, LMPDeviceType> k_vatom;
    Kokkos::DualView<double *[9], Kokkos::LayoutRight, LMPDeviceType> k_cvatom;
};

class PairEquipotKokkosDevice : public PairEquipotKokkos<LMPDeviceType> {
public:
    // A LAMMPS without GPU calls its threads the device here: only so does "comm device" do what it says.
    PairEquipotKokkosDevice(class LAMMPS *lmp) : PairEquipotKokkos(lmp, Device) {}
};

class PairEquipotKokkosHost : public PairEquipotKokkos<LMPHostType> {
public:
    PairEquipotKokkosHost(class LAMMPS *lmp) : PairEquipotKokkos(lmp, Host) {}
};

}  // namespace LAMMPS_NS

#endif
#endif
