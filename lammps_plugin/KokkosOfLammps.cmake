# The Kokkos of the LAMMPS that will load the plugin: its headers and compiler flags, without its libraries. There must be one
# Kokkos in the process, and that LAMMPS brings it. Kokkos_ROOT is the one it was built with: an installation, or, with the
# copy that comes with LAMMPS, the folder lib/kokkos of LAMMPS's build.
# SPDX-License-Identifier: GPL-2.0-only
find_package(Kokkos 4.5 CONFIG QUIET)
if(NOT Kokkos_FOUND)
    message(FATAL_ERROR "EQUIPOT_LAMMPS_KOKKOS needs the Kokkos that this LAMMPS was built with: give its folder as Kokkos_ROOT "
                        "(for LAMMPS's own copy: lib/kokkos in the folder where LAMMPS was built)")
endif()

add_library(equipot_kokkos_headers INTERFACE)
foreach(part kokkoscore kokkoscontainers kokkosalgorithms kokkossimd)
    foreach(property INCLUDE_DIRECTORIES SYSTEM_INCLUDE_DIRECTORIES COMPILE_OPTIONS COMPILE_DEFINITIONS COMPILE_FEATURES
                     LINK_LIBRARIES)
        get_target_property(values Kokkos::${part} INTERFACE_${property})
        list(FILTER values EXCLUDE REGEX "Kokkos::kokkos")  # OpenMP's flags are wanted
        if(values)
            set_property(TARGET equipot_kokkos_headers APPEND PROPERTY INTERFACE_${property} "${values}")
        endif()
    endforeach()
endforeach()
set_target_properties(Kokkos::kokkos PROPERTIES INTERFACE_LINK_LIBRARIES equipot_kokkos_headers)
