#include "parallel/mesh/mesh.h"

#include <gtest/gtest.h>

#include <numeric>

#include "core/error.h"
#include "parallel/comm/thread.h"

namespace cadre::parallel {
namespace {

// The sum of the world's rank numbers along an axis says who is there.
double sum_along(Communicator& group, double value) {
  double sum = value;
  group.all_reduce(TensorView{&sum, Dtype::kF64, Shape{1}, 1}, Reduction::kSum, {"mesh"})->wait();
  return sum;
}

TEST(Mesh, EveryAxisJoinsItsGroup) {
  for (const Layout& layout : all_layouts(8)) {
    ThreadWorld(layout.ranks()).run([&](Communicator& world) {
      const Mesh mesh(world, layout);
      EXPECT_EQ(mesh.here(), coordinates_of(layout, world.rank()));
      for (const Axis axis : {Axis::kWorld, Axis::kData, Axis::kPipeline, Axis::kExpert, Axis::kExpertData}) {
        const std::vector<int> group = group_of(layout, axis, world.rank());
        Communicator& along = mesh.along(axis);
        ASSERT_EQ(along.size(), static_cast<int>(group.size())) << layout.to_string() << " " << name_of(axis);
        EXPECT_EQ(group[static_cast<size_t>(along.rank())], world.rank());
        EXPECT_EQ(sum_along(along, world.rank()), std::accumulate(group.begin(), group.end(), 0.0));
      }
    });
  }
}

TEST(Mesh, RefusesALayoutOfOtherRanks) {
  ThreadWorld(2).run([](Communicator& world) { EXPECT_THROW(Mesh(world, Layout{3, 1, 1}), InternalError); });
}

}  // namespace
}  // namespace cadre::parallel
