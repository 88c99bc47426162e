// SPDX-License-Identifier: GPL-2.0-only
/*
pair_style equipot: potentials from *.equipot files (equivariant message-passing models and their kin)

Syntax

    pair_style equipot [head NAME] [precision double|float|mixed] [radial splined|exact] [device cpu|gpu]
    pair_coeff * * FILE ELEMENT1 ELEMENT2 ...

  head       which head of the model; needed only when the model has several        default: the only head
  precision  arithmetic of the model: double, or mixed: float with sums of           default: double
             energies, forces and virials in double (float means the same)
  radial     splined: radial functions from tables made at start, their error is    default: splined
             printed; exact: evaluated for every pair of atoms, slow, for checks
  device     gpu: the model runs on the GPU that this build is for; its first step      default: cpu
             says what memory that takes
  FILE       the model; also looked for in the folders of LAMMPS_POTENTIALS
  ELEMENTn   the element of atom type n, one for each type; NULL for types that
             other pair styles treat (only with hybrid styles)

Examples

    units         metal
    newton        on
    pair_style    equipot
    pair_coeff    * * Si.equipot Si

    pair_style    equipot head pbe radial exact
    pair_coeff    * * water.equipot O H

    pair_style    hybrid/overlay equipot dispersion/d3 bj pbe 30.0 20.0
    pair_coeff    * * equipot SiO2.equipot Si O
    pair_coeff    * * dispersion/d3 Si O

    pair_style    hybrid equipot lj/cut 8.0
    pair_coeff    * * equipot Si.equipot Si NULL
    pair_coeff    1*2 2 lj/cut 0.01 3.4

Units: metal or real. The model's eV are turned into kcal/mol by the exact SI factor in real.

What it offers to the rest of LAMMPS
  compute pe/atom, stress/atom, centroid/stress/atom, and heat/flux with centroid/stress/atom (exact for models of one
  layer; with more, one attribution of several); minimize, rerun, fix box/relax, fix npt, triclinic boxes
  fix ID all pair N equipot energy 0      energy of each atom
  fix ID all pair N equipot features 1    the last features of every layer, computed only on the steps of the fix
  Pair::extract("cutoff")                 the cutoff, in Angstrom

Several models may be used at once in hybrid styles. Atoms of NULL types are invisible to the model: they neither feel
it nor appear as neighbours. Message passing needs no larger ghost cutoff than the model's own: features travel between
ranks during the step.

Threads: those of LAMMPS, that is OMP_NUM_THREADS or "package omp". The first pair_coeff of a process fixes the number.

Restrictions
  newton on; units metal or real; a periodic box at least a tenth of the cutoff thick.
  With bonds in the data file: special_bonds lj/coul 1 1 1, or LAMMPS hides bonded neighbours from the model.
  neigh_modify exclude hides the excluded pairs from the model, too.
  No pair_write and no compute that needs Pair::single: the energy is not a sum over pairs.
  Restart files hold no model: repeat pair_style and pair_coeff after read_restart.
  The run stops, with one sentence, when an atom's position, energy or force is not a finite number and when two atoms
  are at the same place.
*/

#ifdef PAIR_CLASS
// clang-format off
PairStyle(equipot,PairEquipot);
// clang-format on
#else

#ifndef LMP_PAIR_EQUIPOT_H
#define LMP_PAIR_EQUIPOT_H

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "pair.h"

namespace LAMMPS_NS {

class PairEquipot : public Pair {
public:
    PairEquipot(class LAMMPS *);
    ~PairEquipot() override;

    void settings(int, char **) override;
    void coeff(int, char **) override;
    void init_style() override;
    double init_one(int, int) override;
    void compute(int, int) override;

    void *extract(const char *, int &) override;
    void *extract_peratom(const char *, int &) override;
    double memory_usage() override;

    int pack_forward_comm(int, int *, double *, int, int *) override;
    void unpack_forward_comm(int, int, double *) override;
    int pack_reverse_comm(int, int, double *) override;
    void unpack_reverse_comm(int, int *, double *) override;

protected:
    struct Engine;  // the model, its graph and its results: see equipot_engine.h

    // The steps of compute; pair_style equipot/kk does them its own way.
    virtual void begin(int eflag, int vflag);
    virtual void lay_out();
    virtual std::string build_graph();
    virtual void run_model();
    [[nodiscard]] virtual std::int64_t edges_of_graph() const;
    [[nodiscard]] virtual double device_bytes_of_graph() const { return 0.0; }  // those that are there before a step
    [[nodiscard]] virtual std::string usual_device() const { return "cpu"; }
    virtual std::string find_nonfinite();
    virtual void add_results();

    virtual void forget_model();

    void allocate();
    void print_summary(const std::string &file, double spline_error);
    void warn_of_crowding();
    void tell_device_memory();
    void check_box() const;
    void warn_of_hidden_pairs() const;
    void store_features();
    std::string trouble_with_position(int atom) const;
    std::string trouble_with_places(int atom, int other) const;
    std::string trouble_with_force(int atom) const;
    std::string describe(int atom) const;
    void stop_together(const std::string &trouble);

    std::unique_ptr<Engine> engine;
    std::vector<int> numbers;  // atomic number by atom type, 0 for NULL
    double cutoff = 0.0;
    double energy_unit = 1.0;  // an eV in LAMMPS units
    bool ready = false;        // LAMMPS has set up communication and neighbor lists for this model
    bool layout_is_stale = true;
    bool memory_is_told = false;

    std::vector<double> atom_energies;  // by atom, nmax long
    double **features = nullptr;
    int features_rows = 0;
    int features_told = 0;  // how wide fix pair takes them to be
    int features_flag = 0;  // set by fix pair on the steps when it wants features
};

}  // namespace LAMMPS_NS

#endif
#endif
