#pragma once
// Every op. Each line here needs cases in tests/autograd/ops (an op without cases does not link there).

#include "autograd/ops/activation.h"
#include "autograd/ops/attention.h"
#include "autograd/ops/balance.h"
#include "autograd/ops/cross_entropy.h"
#include "autograd/ops/embedding.h"
#include "autograd/ops/expert_choice.h"
#include "autograd/ops/guard.h"
#include "autograd/ops/linear.h"
#include "autograd/ops/noise.h"
#include "autograd/ops/norm.h"
#include "autograd/ops/permute.h"
#include "autograd/ops/router.h"
#include "autograd/ops/simple_experts.h"

namespace cadre::autograd {

template <class... Ops>
struct OpList {};

using AllOps = OpList<Embedding, RmsNorm, AddRmsNorm, Add, GroupedLinear, Rotary, Attention, CachedAttention,
                      ExpertActivation, RouterScores, TwoLevelScores, UnitRows, Jitter, AddNoise, NoisyLoad,
                      ChooseExperts, ExpertChoice, GateWeights, SpreadWeights, ScopeSums, ChoiceCounts, SwitchLoss,
                      LoadLoss, ZLoss, EntropyLoss, RowShares, GuardInputs, GuardOutputs, GuardGates, PlanRows,
                      GatherRows, PermuteRows, CombineRows, SimpleExperts, CrossEntropy>;

}  // namespace cadre::autograd
