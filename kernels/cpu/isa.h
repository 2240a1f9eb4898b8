#pragma once
// How a dispatching file reaches the code of one instruction set.
//
// kernels/cpu/NAME.simd.cpp defines `const NameTable kNameTable`, plain function pointers, in cadre::cpu::CADRE_ISA.
// kernels/cpu/NAME.h declares the struct and, in namespace cadre::cpu, CADRE_SIMD_TABLE(NameTable, kNameTable);
// kernels/NAME.cpp picks: `const cpu::NameTable& table = CADRE_SIMD_SELECT(exec.isa, kNameTable);`

#include "kernels/exec.h"

#if defined(CADRE_X86)
// Declares `Table name` in the namespace of every instruction set of this build; stands in namespace cadre::cpu.
#define CADRE_SIMD_TABLE(Table, name) \
  namespace portable {                \
  extern const Table name;            \
  }                                   \
  namespace avx2 {                    \
  extern const Table name;            \
  }                                   \
  namespace avx512 {                  \
  extern const Table name;            \
  }
#define CADRE_SIMD_SELECT(isa, name) \
  ::cadre::cpu::select(isa, ::cadre::cpu::portable::name, ::cadre::cpu::avx2::name, ::cadre::cpu::avx512::name)
#else
#define CADRE_SIMD_TABLE(Table, name) \
  namespace portable {                \
  extern const Table name;            \
  }
#define CADRE_SIMD_SELECT(isa, name) (static_cast<void>(isa), ::cadre::cpu::portable::name)
#endif

namespace cadre::cpu {

// The caller has made sure (isa_available) that the machine runs `isa`.
template <class Table>
const Table& select(kernels::Isa isa, const Table& portable, const Table& avx2, const Table& avx512) {
  switch (isa) {
    case kernels::Isa::kPortable: return portable;
    case kernels::Isa::kAvx2: return avx2;
    case kernels::Isa::kAvx512: return avx512;
  }
  return portable;
}

}  // namespace cadre::cpu
