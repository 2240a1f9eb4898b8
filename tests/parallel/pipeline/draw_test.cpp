#include "parallel/pipeline/draw.h"

#include <gtest/gtest.h>

#include <sstream>

#include "tests/parallel/pipeline/shapes.h"

namespace cadre::parallel {
namespace {

std::string drawing(const ScheduleShape& shape, int columns = 160) {
  const Schedule schedule = make_schedule(shape);
  return draw(schedule, simulate(schedule, Costs::uniform(shape.stages(), 1, 1, 1)), columns);
}

TEST(PipelineDraw, OneForwardOneBackward) {
  EXPECT_EQ(drawing({ScheduleKind::k1F1B, 3, 1, 4}),
            "rank 0 |F0 F1 F2 ............B0    F3 B1    ...B2    ...B3    |\n"
            "rank 1 |...F0 F1 ......B0    F2 B1    F3 B2    ...B3    ......|\n"
            "rank 2 |......F0 B0    F1 B1    F2 B2    F3 B3    ............|\n");
}

TEST(PipelineDraw, ZeroBubble) {
  EXPECT_EQ(drawing({ScheduleKind::kZeroBubble, 3, 1, 4}),
            "rank 0 |F0 F1 F2 ......I0 W0 F3 I1 W1 I2 W2 I3 W3 |\n"
            "rank 1 |...F0 F1 ...I0 F2 I1 W0 F3 I2 W1 I3 W2 W3 |\n"
            "rank 2 |......F0 I0 F1 I1 F2 I2 W0 F3 I3 W1 W2 W3 |\n");
}

TEST(PipelineDraw, ChunksAreLetters) {
  EXPECT_EQ(drawing({ScheduleKind::kInterleaved, 1, 2, 1}), "rank 0 |F0a F0b B0b     B0a     |\n");
}

TEST(PipelineDraw, NarrowActionsKeepTheirLetter) {
  EXPECT_EQ(drawing({ScheduleKind::kGPipe, 2, 1, 2}, 9), "rank 0 |FF...B0B1|\nrank 1 |.FFB0B1..|\n");
}

// A number is shown whole or not at all.
TEST(PipelineDraw, NumbersAreNotCut) {
  EXPECT_EQ(drawing({ScheduleKind::kGPipe, 1, 1, 12}, 36), "rank 0 |FFFFFFFFFFFFB0B1B2B3B4B5B6B7B8B9B B |\n");
}

// However little room there is, lines are equally long and no longer than asked.
TEST(PipelineDraw, FitsIntoItsColumns) {
  Rng rng(13, RngPurpose::kTest);
  const std::vector<ScheduleShape> shapes = all_shapes();
  for (int i = 0; i < 200; ++i) {
    const Schedule schedule = make_schedule(shapes[rng.below(shapes.size())]);
    const int columns = 1 + static_cast<int>(rng.below(200));
    std::istringstream text(draw(schedule, simulate(schedule, random_costs(schedule.shape.stages(), rng)), columns));
    size_t first = 0, lines = 0;
    for (std::string line; std::getline(text, line); ++lines) {
      const size_t begin = line.find('|');
      if (lines == 0) first = line.size();
      EXPECT_EQ(line.size(), first);
      EXPECT_LE(line.size() - begin - 2, static_cast<size_t>(columns));
    }
    EXPECT_EQ(lines, static_cast<size_t>(schedule.shape.ranks));
  }
}

}  // namespace
}  // namespace cadre::parallel
