# Makes pair_style equipot, and with PKG_KOKKOS equipot/kk, part of a LAMMPS that is built from source; its tree stays as it is:
#   cmake -S lammps/cmake -B build -DCMAKE_PROJECT_lammps_INCLUDE=/path/to/equipot/lammps_plugin/InLammps.cmake ...
# CMake reads this file right after LAMMPS's project(); what concerns the target `lammps` waits until that exists.
# SPDX-License-Identifier: GPL-2.0-only
set(equipot_plugin_folder "${CMAKE_CURRENT_LIST_DIR}")
set(CMAKE_FIND_PACKAGE_TARGETS_GLOBAL ON)
set(EQUIPOT_LAMMPS OFF)

set(equipot_styles pair_equipot)
if(PKG_KOKKOS)
    set(EQUIPOT_KOKKOS_FOLLOWS ON)  # the one that LAMMPS finds or builds: there can be only one in a library
    list(APPEND equipot_styles pair_equipot_kokkos)
endif()
set(equipot_sources "${equipot_plugin_folder}/equipot_halo.cpp")
foreach(style IN LISTS equipot_styles)
    set_property(GLOBAL APPEND PROPERTY PAIR "${equipot_plugin_folder}/${style}.h")  # LAMMPS's list of styles
    list(APPEND equipot_sources "${equipot_plugin_folder}/${style}.cpp")
endforeach()

# LAMMPS prints the file in error messages.
set_source_files_properties(${equipot_sources} PROPERTIES COMPILE_OPTIONS "-fmacro-prefix-map=${equipot_plugin_folder}/=")

add_subdirectory("${equipot_plugin_folder}/.." equipot EXCLUDE_FROM_ALL)

cmake_language(DEFER CALL target_sources lammps PRIVATE ${equipot_sources})
cmake_language(DEFER CALL target_include_directories lammps PRIVATE
    "${equipot_plugin_folder}" "${equipot_plugin_folder}/.." "${equipot_plugin_folder}/../src")
cmake_language(DEFER CALL target_link_libraries lammps PRIVATE "$<BUILD_INTERFACE:equipot>")
cmake_language(DEFER CALL target_compile_features lammps PRIVATE cxx_std_20)
