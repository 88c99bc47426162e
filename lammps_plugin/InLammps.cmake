# Makes pair_style equipot part of a LAMMPS that is built from source, whose tree stays as it is:
#   cmake -S lammps/cmake -B build -DCMAKE_PROJECT_lammps_INCLUDE=/path/to/equipot/lammps_plugin/InLammps.cmake ...
# CMake reads this file right after LAMMPS's project(); what concerns the target `lammps` waits until that exists.
# Not together with PKG_KOKKOS: two copies of Kokkos would meet in one library. Load the plugin there.
# SPDX-License-Identifier: GPL-2.0-only
if(PKG_KOKKOS)
    message(FATAL_ERROR "InLammps.cmake cannot be used with PKG_KOKKOS: build equipot as a plugin for this LAMMPS")
endif()

set(equipot_plugin_folder "${CMAKE_CURRENT_LIST_DIR}")
set(CMAKE_FIND_PACKAGE_TARGETS_GLOBAL ON)
set(EQUIPOT_LAMMPS OFF)
add_subdirectory("${equipot_plugin_folder}/.." equipot EXCLUDE_FROM_ALL)

set_property(GLOBAL APPEND PROPERTY PAIR "${equipot_plugin_folder}/pair_equipot.h")  # LAMMPS's list of styles
cmake_language(DEFER CALL target_sources lammps PRIVATE
    "${equipot_plugin_folder}/pair_equipot.cpp" "${equipot_plugin_folder}/equipot_halo.cpp")
cmake_language(DEFER CALL target_include_directories lammps PRIVATE "${equipot_plugin_folder}")
cmake_language(DEFER CALL target_link_libraries lammps PRIVATE "$<BUILD_INTERFACE:equipot>")
cmake_language(DEFER CALL target_compile_features lammps PRIVATE cxx_std_20)
