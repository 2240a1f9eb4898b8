#pragma once
// A pseudo-random permutation of [0, size) in constant memory: a Feistel network over the next even number of bits,
// with Philox as its round function, walked along its cycle until the value falls below `size` (Black and Rogaway,
// "Ciphers with arbitrary finite domains", CT-RSA 2002).

#include <cstdint>

namespace cadre::data {

class Permutation {
 public:
  // A pure function of (size, seed, stream); size > 0.
  Permutation(uint64_t size, uint64_t seed, uint64_t stream);
  uint64_t operator()(uint64_t index) const;  // index < size
  uint64_t size() const { return size_; }

 private:
  uint64_t encipher(uint64_t value) const;

  uint64_t size_, seed_, stream_;
  int half_bits_;
};

}  // namespace cadre::data
