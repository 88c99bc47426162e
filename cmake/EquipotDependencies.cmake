# Kokkos, nlohmann/json and vesin: an installed one first, else fetched once into the cache folder by tools/get_*.sh.
# SPDX-License-Identifier: MIT

if(DEFINED ENV{EQUIPOT_CACHE})
    set(equipot_cache "$ENV{EQUIPOT_CACHE}")
elseif(DEFINED ENV{XDG_CACHE_HOME})
    set(equipot_cache "$ENV{XDG_CACHE_HOME}/equipot")
else()
    set(equipot_cache "$ENV{HOME}/.cache/equipot")
endif()
set(EQUIPOT_CACHE "${equipot_cache}" CACHE PATH "Folder for what is fetched or built once")

# Runs tools/get_`what`.sh, which puts its result into `folder` (and does nothing when it is there already).
function(equipot_get what folder)
    if(NOT EXISTS "${folder}")
        message(STATUS "${what}: none found, getting it once into ${folder}")
    endif()
    find_package(Python 3.9 REQUIRED COMPONENTS Interpreter)
    execute_process(
        COMMAND ${CMAKE_COMMAND} -E env "CXX=${CMAKE_CXX_COMPILER}" "CMAKE=${CMAKE_COMMAND}" "PYTHON=${Python_EXECUTABLE}"
                "EQUIPOT_CACHE=${EQUIPOT_CACHE}" bash "${PROJECT_SOURCE_DIR}/tools/get_${what}.sh" "${folder}"
        RESULT_VARIABLE failed)
    if(failed)
        message(FATAL_ERROR "tools/get_${what}.sh failed (its messages are above). With ${what} installed elsewhere, "
                            "name its folder in CMAKE_PREFIX_PATH.")
    endif()
endfunction()

# ---- Kokkos: OpenMP + Serial, static, position independent ------------------------------------------------------------
# The name holds what decides whether a built copy fits.
string(REGEX MATCH "^[0-9]+" compiler_major "${CMAKE_CXX_COMPILER_VERSION}")
set(kokkos_cached "${EQUIPOT_CACHE}/kokkos-4.7.0-${CMAKE_SYSTEM_PROCESSOR}-${CMAKE_CXX_COMPILER_ID}${compiler_major}")
if(NOT EQUIPOT_KOKKOS_FOLLOWS)  # set by those of whose build we are a part, and who define Kokkos::kokkos
    find_package(Kokkos 4.5 CONFIG QUIET HINTS "${kokkos_cached}")
    if(NOT Kokkos_FOUND)
        if(NOT EQUIPOT_FETCH_KOKKOS)
            message(FATAL_ERROR "Kokkos 4.5 or newer not found: set Kokkos_ROOT to its folder, or EQUIPOT_FETCH_KOKKOS=ON")
        endif()
        equipot_get(kokkos "${kokkos_cached}")
        find_package(Kokkos 4.5 CONFIG REQUIRED PATHS "${kokkos_cached}" NO_DEFAULT_PATH)
    endif()
    message(STATUS "Kokkos ${Kokkos_VERSION} (${Kokkos_DEVICES}): ${Kokkos_DIR}")
endif()

# ---- nlohmann/json ------------------------------------------------------------------------------------------------------
add_library(equipot_json INTERFACE)
find_package(nlohmann_json 3.10 CONFIG QUIET)
if(nlohmann_json_FOUND)
    target_link_libraries(equipot_json INTERFACE nlohmann_json::nlohmann_json)
else()
    set(json_cached "${EQUIPOT_CACHE}/json-3.11.3")
    equipot_get(json "${json_cached}")
    target_include_directories(equipot_json SYSTEM INTERFACE "${json_cached}/include")
endif()

# ---- vesin: neighbour lists -----------------------------------------------------------------------------------------------
# vesin installs no CMake package; an installed one is found by its header and library.
add_library(equipot_vesin INTERFACE)
find_path(VESIN_INCLUDE_DIR vesin.h)
find_library(VESIN_LIBRARY vesin)
mark_as_advanced(VESIN_INCLUDE_DIR VESIN_LIBRARY)
find_package(Threads REQUIRED)
if(VESIN_INCLUDE_DIR AND VESIN_LIBRARY)
    target_include_directories(equipot_vesin SYSTEM INTERFACE "${VESIN_INCLUDE_DIR}")
    target_link_libraries(equipot_vesin INTERFACE "${VESIN_LIBRARY}" Threads::Threads)
else()
    set(vesin_cached "${EQUIPOT_CACHE}/vesin-0.6.2")
    equipot_get(vesin "${vesin_cached}")
    # Five small files, the CPU part: their objects become part of our own library.
    add_library(equipot_vesin_objects OBJECT
        "${vesin_cached}/src/vesin.cpp"
        "${vesin_cached}/src/threadpool.cpp"
        "${vesin_cached}/src/cpu_cell_list.cpp"
        "${vesin_cached}/src/verlet.cpp"
        "${vesin_cached}/src/vesin_cuda_stub.cpp")
    target_include_directories(equipot_vesin_objects PRIVATE "${vesin_cached}/include")
    target_compile_features(equipot_vesin_objects PRIVATE cxx_std_20)
    target_compile_options(equipot_vesin_objects PRIVATE -w)
    set_target_properties(equipot_vesin_objects PROPERTIES
        POSITION_INDEPENDENT_CODE ON CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON)
    set(EQUIPOT_VESIN_OBJECTS $<TARGET_OBJECTS:equipot_vesin_objects>)
    target_include_directories(equipot_vesin SYSTEM INTERFACE "${vesin_cached}/include")
    target_link_libraries(equipot_vesin INTERFACE Threads::Threads)
endif()
