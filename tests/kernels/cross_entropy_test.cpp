#include "kernels/cross_entropy.h"

#include <limits>

#include "core/error.h"
#include "tests/kernels/elementwise_test.h"

namespace cadre::kernels {
namespace {

TEST(CrossEntropy, HandCheckedToken) {
  ThreadPool pool(1);
  const Exec exec{pool, Isa::kPortable};
  const Tensor logits = tensor_of<double>({1, 2}, {std::log(3.0), 0});
  Tensor losses = zeros(Dtype::kF64, {1}), lse = zeros(Dtype::kF64, {1});
  cross_entropy_forward(exec, logits, tensor_of<int32_t>({1}, {1}), losses, lse);
  EXPECT_NEAR(losses.data<double>()[0], std::log(4.0), 1e-15);
  EXPECT_NEAR(lse.data<double>()[0], std::log(4.0), 1e-15);
}

TEST(CrossEntropy, MatchesTheReference) {
  for (int64_t vocabulary : {1, 2, 17, 256, 2047, 2049, 50257}) {
    for (int64_t tokens : {0, 1, 5}) {
      compare_with_reference(
          [&](const Exec& exec, Dtype dtype) {
            const Tensor logits = random_tensor(dtype, {tokens, vocabulary}, 1, 3);
            Tensor targets = random_ids({tokens}, vocabulary, 2);
            if (tokens > 2) targets.data<int32_t>()[1] = -1;
            const Tensor dlosses = random_tensor(dtype, {tokens}, 3);
            Tensor losses = zeros(dtype, {tokens}), lse = zeros(dtype, {tokens}),
                   dlogits = zeros(dtype, logits.shape());
            cross_entropy_forward(exec, logits, targets, losses, lse);
            cross_entropy_backward(exec, logits, targets, lse, dlosses, dlogits);
            cross_entropy_backward(exec, logits, targets, lse, dlosses, logits);  // in place
            return std::vector<Tensor>{losses, lse, dlogits, logits};
          },
          2e-6, std::to_string(tokens) + " tokens, vocabulary " + std::to_string(vocabulary));
    }
  }
}

TEST(CrossEntropy, ThePaddingOfTheVocabularyIsLeftOut) {
  for_each_isa([](const Exec& exec) {
    const Tensor logits = random_tensor(Dtype::kF32, {3, 50}, 1);
    const Tensor targets = tensor_of<int32_t>({3}, {0, 49, 7});
    Tensor losses = zeros(Dtype::kF32, {3}), same = zeros(Dtype::kF32, {3}), lse = zeros(Dtype::kF32, {3}), storage;
    const TensorView view = with_padded_rows(exec, logits, 14, storage);
    fill(exec, storage.view().columns(50, 64), 1000);
    cross_entropy_forward(exec, logits, targets, losses, lse);
    cross_entropy_forward(exec, view, targets, same, lse);
    expect_same_bits(losses, same, "losses");
    cross_entropy_backward(exec, view, targets, lse, losses, view);
    for (int64_t i = 50; i < 64; ++i) EXPECT_EQ(storage.data<float>()[i], 1000);
  });
}

TEST(CrossEntropy, ExtremeLogits) {
  const float infinity = std::numeric_limits<float>::infinity();
  for_each_isa([&](const Exec& exec) {
    for (int64_t vocabulary : {3, 5000}) {
      Tensor logits = zeros(Dtype::kF32, {4, vocabulary});
      Tensor losses = zeros(Dtype::kF32, {4}), lse = zeros(Dtype::kF32, {4});
      float* x = logits.data<float>();
      std::fill_n(x, vocabulary, -infinity);  // all but the last are impossible
      x[vocabulary - 1] = 2;
      x[vocabulary] = 1e30f;  // one is certain
      x[2 * vocabulary + 1] = std::nanf("");
      x[3 * vocabulary + 2] = infinity;
      const int32_t last = static_cast<int32_t>(vocabulary - 1);
      cross_entropy_forward(exec, logits, tensor_of<int32_t>({4}, {last, 0, 0, 0}), losses, lse);
      EXPECT_EQ(losses.data<float>()[0], 0);
      EXPECT_EQ(lse.data<float>()[0], 2);
      EXPECT_EQ(losses.data<float>()[1], 0);
      EXPECT_TRUE(std::isnan(losses.data<float>()[2]));
      EXPECT_FALSE(std::isfinite(losses.data<float>()[3]));
    }
  });
}

TEST(CrossEntropy, GradientAgreesWithFiniteDifferences) {
  ThreadPool pool(1);
  const Exec exec{pool, Isa::kPortable};
  const Tensor logits = random_tensor(Dtype::kF64, {4, 6}, 1);
  const Tensor targets = tensor_of<int32_t>({4}, {0, 5, -1, 3});
  const Tensor dlosses = random_tensor(Dtype::kF64, {4}, 2);
  Tensor losses = zeros(Dtype::kF64, {4}), lse = zeros(Dtype::kF64, {4}), dlogits = zeros(Dtype::kF64, {4, 6});
  const auto value = [&] {
    cross_entropy_forward(exec, logits, targets, losses, lse);
    return dot(losses, dlosses);
  };
  value();
  cross_entropy_backward(exec, logits, targets, lse, dlosses, dlogits);
  expect_gradient(logits, dlogits, value, 1e-8, "logits");
}

TEST(CrossEntropy, RefusesATargetPastTheVocabulary) {
  for_each_isa([](const Exec& exec) {
    Tensor losses = zeros(Dtype::kF32, {1}), lse = zeros(Dtype::kF32, {1});
    EXPECT_THROW(cross_entropy_forward(exec, zeros(Dtype::kF32, {1, 4}), tensor_of<int32_t>({1}, {4}), losses, lse),
                 InternalError);
  });
}

}  // namespace
}  // namespace cadre::kernels
