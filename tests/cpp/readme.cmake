# Installs the C++ library, builds the example of the README against it, and runs that. From cmake -P, with BUILD, SOURCE,
# COMPILER and CONFIG.
# SPDX-License-Identifier: MIT
set(folder "${BUILD}/readme")
file(REMOVE_RECURSE "${folder}")

function(run)
    execute_process(COMMAND ${ARGN} WORKING_DIRECTORY "${SOURCE}" RESULT_VARIABLE failed OUTPUT_VARIABLE output
        ERROR_VARIABLE output)
    if(failed)
        message(FATAL_ERROR "${ARGN} failed:\n${output}")
    endif()
    set(output "${output}" PARENT_SCOPE)
endfunction()

file(READ "${SOURCE}/README.md" readme)
foreach(language IN ITEMS cpp cmake)
    string(REGEX MATCH "```${language}\n([^`]*)```" found "${readme}")
    set(${language} "${CMAKE_MATCH_1}")
endforeach()
file(WRITE "${folder}/source/main.cpp" "${cpp}")
file(WRITE "${folder}/source/CMakeLists.txt" "cmake_minimum_required(VERSION 3.20)\nproject(yours CXX)\n"
    "add_executable(yours main.cpp)\n${cmake}")

run(${CMAKE_COMMAND} --install "${BUILD}" --prefix "${folder}/installed" --component cpp)
run(${CMAKE_COMMAND} -S "${folder}/source" -B "${folder}/build" -D "equipot_ROOT=${folder}/installed"
    -D "CMAKE_CXX_COMPILER=${COMPILER}" -D "CMAKE_BUILD_TYPE=${CONFIG}")
run(${CMAKE_COMMAND} --build "${folder}/build")
run("${folder}/build/yours")
if(NOT output MATCHES "-[0-9.]+ eV, force on the first atom")
    message(FATAL_ERROR "The example printed:\n${output}")
endif()
file(REMOVE_RECURSE "${folder}")
