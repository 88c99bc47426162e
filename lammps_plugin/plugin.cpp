// What LAMMPS calls after "plugin load": announces pair_style equipot, or refuses a LAMMPS it was not built for.
// SPDX-License-Identifier: GPL-2.0-only
#include <string>

#include "library.h"
#include "lmptype.h"
#include "pair_equipot.h"
#ifdef LMP_KOKKOS
#include "pair_equipot_kokkos.h"
#endif

#ifndef EQUIPOT_LAMMPS_VERSION
#error "define EQUIPOT_LAMMPS_VERSION, the yyyymmdd of the LAMMPS whose headers are used"
#endif

namespace {

// The registration record of LAMMPS's lammpsplugin.h, which binary packages of LAMMPS leave out.
struct Registration {
    const char *version;
    const char *style;
    const char *name;
    const char *info;
    const char *author;
    union {
        void *(*with_lammps)(void *);
        void *(*with_arguments)(void *, int, char **);
    } creator;
    void *handle;
};

// As LAMMPS calls it: cast to what its map of pair styles holds, which is not where every derived object begins.
template <class Style>
void *create(void *lmp) {
    return static_cast<LAMMPS_NS::Pair *>(new Style(static_cast<LAMMPS_NS::LAMMPS *>(lmp)));
}

struct Style {
    const char *name, *info;
    void *(*create)(void *);
};
constexpr Style STYLES[] = {
    {"equipot", "pair style equipot: equivariant interatomic potentials", &create<LAMMPS_NS::PairEquipot>},
#ifdef LMP_KOKKOS
    {"equipot/kk", "pair style equipot/kk", &create<LAMMPS_NS::PairEquipotKokkosDevice>},
    {"equipot/kk/device", "pair style equipot/kk/device", &create<LAMMPS_NS::PairEquipotKokkosDevice>},
    {"equipot/kk/host", "pair style equipot/kk/host", &create<LAMMPS_NS::PairEquipotKokkosHost>},
#endif
};

// LAMMPS checks nothing: with other headers a call lands in another function. So ask through the C interface alone.
std::string reason_to_refuse(void *lmp) {
    const int version = lammps_version(lmp);
    if (version != EQUIPOT_LAMMPS_VERSION) {
        return "the equipot plugin was built for LAMMPS " + std::to_string(EQUIPOT_LAMMPS_VERSION) +
               " and this is LAMMPS " + std::to_string(version) +
               ": build it with this LAMMPS's headers (-DLAMMPS_SOURCE=...)";
    }
    const int bytes = lammps_extract_setting(lmp, "tagint");
    if (bytes != static_cast<int>(sizeof(LAMMPS_NS::tagint))) {
        const char *sizes = bytes == 8 ? "bigbig" : "smallbig";
        return std::string(
                   "the equipot plugin was built for other LAMMPS_SIZES than this LAMMPS has: build it with "
                   "-DLAMMPS_SIZES=") +
               sizes;
    }
    return {};
}

}  // namespace

extern "C" __attribute__((visibility("default"))) void lammpsplugin_init(void *lmp, void *handle,
                                                                         void *register_plugin) {
    const std::string reason = reason_to_refuse(lmp);
    if (!reason.empty()) {
        if (lammps_extract_setting(lmp, "world_rank") == 0) lammps_error(lmp, LMP_ERROR_WARNING, reason.c_str());
        return;
    }
    for (const Style &style : STYLES) {
        // No version text: LAMMPS would print a note about every stable update, and the check above is stricter.
        Registration plugin{};
        plugin.style = "pair";
        plugin.name = style.name;
        plugin.info = style.info;
        plugin.author = "the equipot developers";
        plugin.creator.with_lammps = style.create;
        plugin.handle = handle;
        reinterpret_cast<void (*)(Registration *, void *)>(register_plugin)(&plugin, lmp);
    }
}
