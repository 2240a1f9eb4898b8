#include "parallel/comm/self.h"

#include "core/error.h"
#include "tests/parallel/comm/collective_cases.h"

namespace cadre::parallel {
namespace {

TEST(Self, IsTheIdentity) {
  const auto comm = make_self_communicator();
  EXPECT_EQ(comm->rank(), 0);
  EXPECT_EQ(comm->size(), 1);
  testing::check_all(*comm, {0, 1, 7, 1000});
}

TEST(Self, RefusesBuffersThatDoNotFit) {
  const auto comm = make_self_communicator();
  std::vector<float> three(3);
  std::vector<float> four(4);
  std::vector<double> wide(3);
  std::vector<uint8_t> bytes(3);
  EXPECT_THROW(comm->all_gather(testing::view_of(three), testing::view_of(four), {"x"}), InternalError);
  EXPECT_THROW(comm->all_gather(testing::view_of(three), testing::view_of(wide), {"x"}), InternalError);
  EXPECT_THROW(comm->all_reduce(testing::view_of(bytes), Reduction::kSum, {"x"}), InternalError);
  EXPECT_THROW(comm->all_to_all(testing::view_of(three), {4}, testing::view_of(four), {4}, {"x"}), InternalError);
  EXPECT_THROW(comm->all_to_all(testing::view_of(three), {2}, testing::view_of(four), {3}, {"x"}), CommunicationError);
  TensorView gaps = testing::matrix_of(four, 1);
  gaps.row_stride = 2;
  gaps.shape = Shape{2, 1};
  EXPECT_THROW(comm->all_reduce(gaps, Reduction::kSum, {"x"}), InternalError);
}

TEST(Self, AbortCarriesTheExitCode) {
  const auto comm = make_self_communicator();
  try {
    comm->abort(3);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kData);
  }
}

}  // namespace
}  // namespace cadre::parallel
