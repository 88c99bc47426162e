# What every target of ours has in common: C++20, position independent, nothing visible by default, warnings.
# The optimisation level is CMake's own (-O3 in Release), but for RelWithDebInfo, LAMMPS's default, whose -O2 is too little
# for the hot code, and for projects that ask for none and would get -O0. No -march=native and no -ffast-math: what is built
# on one machine must run, and give the same numbers, on another.
# SPDX-License-Identifier: MIT

function(equipot_own_target target)
    target_compile_features(${target} PRIVATE cxx_std_20)
    target_include_directories(${target} PRIVATE "${CMAKE_CURRENT_FUNCTION_LIST_DIR}/.." "${CMAKE_CURRENT_FUNCTION_LIST_DIR}/../src")
    set_target_properties(${target} PROPERTIES
        CXX_EXTENSIONS OFF
        POSITION_INDEPENDENT_CODE ON
        CXX_VISIBILITY_PRESET hidden
        VISIBILITY_INLINES_HIDDEN ON)
    target_compile_options(${target} PRIVATE
        $<$<OR:$<CONFIG:RelWithDebInfo>,$<STREQUAL:$<CONFIG>,>>:-O3>
        -Wall -Wextra -Wshadow -Wconversion
        $<$<CXX_COMPILER_ID:GNU>:-Wno-restrict>  # g++ 12 and 13 see overlaps in std::string's operator+ that are not there
        -Wno-psabi                               # packs of lanes never cross a library boundary
        $<$<BOOL:${EQUIPOT_WERROR}>:-Werror>)
    if(EQUIPOT_SANITIZE)
        target_compile_options(${target} PRIVATE -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer)
    endif()
endfunction()
