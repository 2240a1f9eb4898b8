#include "kernels/embedding.h"

#include "core/error.h"
#include "tests/kernels/elementwise_test.h"

namespace cadre::kernels {
namespace {

TEST(Embedding, MatchesTheReference) {
  for (int64_t tokens : {0, 1, 7, 300}) {
    for (int64_t width : {1, 15, 16, 100, 257}) {
      compare_with_reference(
          [&](const Exec& exec, Dtype dtype) {
            const int64_t vocabulary = 23;
            const Tensor ids = random_ids({tokens}, vocabulary, 1);
            const Tensor table = random_tensor(dtype, {vocabulary, width}, 2);
            const Tensor dout = random_tensor(dtype, {tokens, width}, 3);
            Tensor out = zeros(dtype, {tokens, width});
            Tensor dtable = random_tensor(dtype, table.shape(), 4), added = random_tensor(dtype, table.shape(), 4);
            embedding_forward(exec, ids, table, out);
            embedding_backward(exec, ids, dout, dtable, Write::kOverwrite);
            embedding_backward(exec, ids, dout, added, Write::kAccumulate);
            return std::vector<Tensor>{out, dtable, added};
          },
          1e-5, std::to_string(tokens) + " tokens, width " + std::to_string(width));
    }
  }
}

TEST(Embedding, AddsRepeatedTokensInOrder) {
  for_each_isa([](const Exec& exec) {
    // In token order (1e8 + 1) - 1e8 loses the 1; in another order it would not.
    const Tensor dout = tensor_of<float>({3, 1}, {1e8f, 1, -1e8f});
    Tensor dtable = zeros(Dtype::kF32, {2, 1});
    fill(exec, dtable, 5);
    embedding_backward(exec, tensor_of<int32_t>({3}, {1, 1, 1}), dout, dtable, Write::kOverwrite);
    EXPECT_EQ(values_of<float>(dtable), (std::vector<float>{0, 0}));
  });
}

TEST(Embedding, RefusesAnIdOutsideTheVocabulary) {
  for (Dtype dtype : {Dtype::kF32, Dtype::kF64}) {
    for_each_isa([&](const Exec& exec) {
      const Tensor table = zeros(dtype, {4, 2}), out = zeros(dtype, {2, 2});
      for (int32_t bad : {-1, 4}) {
        const Tensor ids = tensor_of<int32_t>({2}, {3, bad});
        EXPECT_THROW(embedding_forward(exec, ids, table, out), InternalError);
        EXPECT_THROW(embedding_backward(exec, ids, out, table, Write::kOverwrite), InternalError);
      }
    });
  }
}

}  // namespace
}  // namespace cadre::kernels
