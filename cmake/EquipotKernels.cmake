# The hot code, compiled once per instruction set and chosen among at run time.
# SPDX-License-Identifier: MIT

if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$")
    # For builds that need not be fast: `v2` alone is done in a third of the time.
    set(EQUIPOT_ISAS v2 v3 v4 CACHE STRING "Levels of x86-64 to compile the hot code for: v2, which serves any machine, v3, v4")
    if(NOT "v2" IN_LIST EQUIPOT_ISAS)
        message(FATAL_ERROR "EQUIPOT_ISAS must have v2, which serves the machines that the others do not")
    endif()
else()
    set(EQUIPOT_ISAS base)
endif()
list(TRANSFORM EQUIPOT_ISAS REPLACE "(.+)" "EQUIPOT_HAS_\\1" OUTPUT_VARIABLE isa_definitions)
set_source_files_properties(kokkos_kernels/dispatch.cpp PROPERTIES COMPILE_DEFINITIONS "${isa_definitions}")
set(EQUIPOT_ISA_FLAGS_v2 -march=x86-64-v2)
set(EQUIPOT_ISA_FLAGS_v3 -march=x86-64-v3)
set(EQUIPOT_ISA_FLAGS_v4 -march=x86-64-v4 -mprefer-vector-width=512)

# A root that may set errno is not vectorised; nothing reads errno there.
set_source_files_properties(kokkos_kernels/optimizer.cpp PROPERTIES COMPILE_OPTIONS -fno-math-errno)

# These objects go into the library after all others and with the oldest instruction set first. The order matters: functions
# of Kokkos and the standard library that are not inlined are in every object, the linker keeps the first copy it meets, and
# that one must run on any machine. tools/check_isa.py looks at the outcome.
set(EQUIPOT_KERNEL_OBJECTS)
foreach(isa IN LISTS EQUIPOT_ISAS)
    set(kernels equipot_kernels_${isa})
    add_library(${kernels} OBJECT
        kokkos_kernels/instance.cpp kokkos_kernels/trainer_instance.cpp kokkos_kernels/design.cpp
        kokkos_kernels/optimizer.cpp)
    target_compile_definitions(${kernels} PRIVATE EQUIPOT_ISA=${isa})
    target_compile_options(${kernels} PRIVATE ${EQUIPOT_ISA_FLAGS_${isa}})
    target_link_libraries(${kernels} PRIVATE Kokkos::kokkos)
    equipot_own_target(${kernels})
    list(APPEND EQUIPOT_KERNEL_OBJECTS $<TARGET_OBJECTS:${kernels}>)
endforeach()
