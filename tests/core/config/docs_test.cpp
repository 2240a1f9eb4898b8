#include <gtest/gtest.h>

#include <string>

#include "core/config/config.h"
#include "tests/core/config/settings.h"

namespace cadre::config::test {
namespace {

TEST(DocsTest, OneStruct) {
  EXPECT_EQ(docs<Optimizer>("Optimizer"), R"(## Optimizer

How parameters are updated.

Short form: a value in place of the mapping sets `kind`.

| key | type | default | range | meaning |
|---|---|---|---|---|
| `kind` | one of adamw, sgd, 1f1b | `adamw` |  | Update rule |
| `lr` | number | `3e-4` | > 0 | Peak learning rate |
| `clip_norm` | number, or null | `1` | > 0 | Largest global gradient norm, a \| b |
| `betas` | list of: number | `[0.9, 0.95]` | >= 0, < 1 | Decay of the moments |
| `schedule` | mapping, or warmup_steps alone | below |  | Learning rate over time |

## `schedule`

Short form: a value in place of the mapping sets `warmup_steps`.

| key | type | default | range | meaning |
|---|---|---|---|---|
| `schedule.warmup_steps` | integer | `100` | >= 0 | Steps of linear warmup |
| `schedule.final_fraction` | number | `0.1` | >= 0, <= 1 | Last rate over peak rate |
)");
}

TEST(DocsTest, SectionsForStructsInListsMapsAndOptionals) {
  const std::string text = docs<Settings>("Config");
  for (const char* part :
       {"## `data`\n", "## `data.train[]`\n", "| `data.train[].path` | string | required | not empty |",
        "## `data.train[].schedule`\n", "## `data.named.*`\n", "| `data.named.*.weight` |",
        "| `workers` | integer, or auto | `auto` | >= 1 |", "## `optimizer.schedule`\n",
        "| `note` | string, or null | `null` |", "| `seq_length` | integer | `256` | >= 8, a multiple of 8 |"}) {
    EXPECT_NE(text.find(part), std::string::npos) << part << "\n" << text;
  }
}

}  // namespace
}  // namespace cadre::config::test
