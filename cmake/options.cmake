# Flags for our own code: warnings are errors; contraction to FMA is on, so that vector code needs no intrinsics for it.
add_library(cadre_flags INTERFACE)
target_include_directories(cadre_flags INTERFACE ${CMAKE_SOURCE_DIR})
target_compile_options(cadre_flags INTERFACE -Wall -Wextra -Werror -Wshadow -Wno-psabi -fno-math-errno -fno-trapping-math)
set(CMAKE_CXX_FLAGS_RELEASE "-O2")  # debug information would cost a seventh of the build; CMAKE_BUILD_TYPE=RelWithDebInfo has it
if(CADRE_SANITIZE)
  target_compile_options(cadre_flags INTERFACE -g1 -fsanitize=${CADRE_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=undefined)
  target_link_options(cadre_flags INTERFACE -fsanitize=${CADRE_SANITIZE})
endif()
find_program(LLD ld.lld)
if(LLD)
  target_link_options(cadre_flags INTERFACE -fuse-ld=lld)
endif()
