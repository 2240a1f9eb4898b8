#include "parallel/data/reducer.h"

#include <cstring>
#include <map>

#include "autograd/parameter_store.h"
#include "core/error.h"
#include "parallel/comm/self.h"
#include "parallel/comm/thread.h"
#include "tests/parallel/comm/collective_cases.h"

namespace cadre::parallel {
namespace {

using testing::in_tree;
using testing::value_at;

struct SegmentCase {
  std::vector<int> holders;
  int64_t elements;
};
struct ParameterCase {
  std::vector<SegmentCase> segments;
  bool experts = false;
  int chunk = 0;
};
using Model = std::vector<ParameterCase>;

std::vector<int> everyone(int ranks) {
  std::vector<int> all(static_cast<size_t>(ranks));
  std::iota(all.begin(), all.end(), 0);
  return all;
}

// Long and short ones; a padding that no bucket of one run may stumble over.
Model dense_model(int ranks) {
  Model model;
  for (const int64_t elements : {10, 70'001, 1, 17, 40'000}) model.push_back({{{everyone(ranks), elements}}});
  return model;
}

// On three ranks: one expert everywhere, one on two ranks, one on one; rank 1 has nothing of the last parameter.
Model uneven_model() {
  const std::vector<SegmentCase> experts = {{{0, 1, 2}, 33'000}, {{0, 2}, 50'000}, {{2}, 20}};
  return {{{{{0, 1, 2}, 20'000}}}, {experts, true}, {{{{0, 1, 2}, 5}}}, {{{{0, 2}, 16'385}}, true}};
}

// One rank's part of a model, with gradients that are known from rank, micro-batch, segment and place.
class RankPart {
 public:
  RankPart(Communicator& comm, const Model& model, ReducerOptions options) : comm_(comm), model_(model) {
    for (size_t p = 0; p < model.size(); ++p) declare(p);
    store_.materialise(context_, 1, options.zero < 2);
    std::vector<ReducedParameter> parameters;
    int64_t piece = 0, shard = 0;
    for (size_t p = 0; p < model.size(); ++p) {
      autograd::Parameter* parameter = store_.find(name_of(p));
      parameters.push_back({parameter, {}, model[p].experts, model[p].chunk});
      for (size_t s = 0; s < model[p].segments.size(); ++s) {
        const SegmentCase& segment = model[p].segments[s];
        const int64_t offset = offsets_.contains({p, s}) ? offsets_.at({p, s}) : 0;
        parameters.back().segments.push_back({segment.elements, piece, segment.holders, offset, shard});
        owned_[{p, s}] = {owned(segment, piece), shard};
        shard += owned_[{p, s}].range.count();
        piece += pieces_of(segment.elements);
      }
    }
    shard_ = Tensor::zeros(*allocator_, Dtype::kF32, Shape{shard});
    ReducedStorage storage{store_.values(), {}, {}};
    (options.zero == 2 ? storage.shard : storage.gradients) = options.zero == 2 ? shard_ : store_.gradients();
    std::reverse(parameters.begin(), parameters.end());
    reducer_ = std::make_unique<Reducer>(comm, *allocator_, storage, std::move(parameters), options);
    zero_ = options.zero;
  }

  Reducer& reducer() { return *reducer_; }
  Allocator& allocator() { return *allocator_; }
  bool has(size_t p) const { return store_.find(name_of(p)) != nullptr; }

  void start_step() {
    store_.clear_gradients();
    reducer_->start_step();
  }

  // As a backward would. Returns the index in the reducer's order.
  int64_t add_gradient(size_t p, int micro_batch) {
    autograd::Parameter& parameter = *store_.find(name_of(p));
    parameter.borrow_gradient();
    const bool empty = parameter.claim(0, parameter.groups(), 0).empty;
    for (size_t s = 0; s < model_[p].segments.size(); ++s) {
      if (!offsets_.contains({p, s})) continue;
      float* to = parameter.gradient.data<float>() + offsets_.at({p, s});
      for (int64_t i = 0; i < model_[p].segments[s].elements; ++i) {
        const float value = gradient_of(comm_.rank(), micro_batch, p, s, i);
        to[i] = empty ? value : to[i] + value;
      }
    }
    return static_cast<int64_t>(model_.size() - 1 - p);
  }

  void backward(int micro_batch, bool last) {
    for (size_t p = model_.size(); p-- > 0;) {
      if (has(p)) reducer_->ready(add_gradient(p, micro_batch), last);
    }
  }

  // Every element that must be summed here is, in the tree over holders.
  void expect_sums(int micro_batches) const {
    for (const auto& [key, offset] : offsets_) {
      const auto& [p, s] = key;
      const SegmentCase& segment = model_[p].segments[s];
      const Owned& mine = owned_.at(key);
      const ElementRange checked = zero_ == 0 ? ElementRange{0, segment.elements} : mine.range;
      const float* sums = zero_ == 2 ? shard_.data<float>() + mine.shard - mine.range.begin
                                     : store_.find(name_of(p))->gradient.data<float>() + offset;
      for (int64_t i = checked.begin; i < checked.end; ++i) {
        ASSERT_EQ(sums[i], wanted(segment, micro_batches, p, s, i)) << p << " " << s << " " << i;
      }
    }
  }

  // Of the only segment, one micro-batch.
  void expect_block_sums(size_t block) const {
    for (int64_t i = 0; i < model_[0].segments[0].elements; ++i) {
      std::vector<float> blocks;
      for (size_t begin = 0; begin < static_cast<size_t>(comm_.size()); begin += block) {
        std::vector<float> members;
        for (size_t r = begin; r < begin + block; ++r) members.push_back(gradient_of(static_cast<int>(r), 0, 0, 0, i));
        blocks.push_back(in_tree(members));
      }
      ASSERT_EQ(store_.gradients().data<float>()[i], in_tree(blocks)) << i;
    }
  }

  // Owners change values; afterwards all holders have what the owner has.
  void expect_published() {
    for (const auto& [key, offset] : offsets_) {
      float* values = store_.find(name_of(key.first))->value.data<float>() + offset;
      const ElementRange mine = owned_.at(key).range;
      for (int64_t i = mine.begin; i < mine.end; ++i) values[i] = gradient_of(0, 9, key.first, key.second, i);
    }
    EXPECT_EQ(reducer_->publish() > 0, comm_.size() > 1 && zero_ > 0);
    for (const auto& [key, offset] : offsets_) {
      const float* values = store_.find(name_of(key.first))->value.data<float>() + offset;
      for (int64_t i = 0; i < model_[key.first].segments[key.second].elements; ++i) {
        if (zero_ > 0) {
          ASSERT_EQ(values[i], gradient_of(0, 9, key.first, key.second, i));
        }
      }
    }
  }

 private:
  using Key = std::pair<size_t, size_t>;  // parameter, segment
  struct Owned {
    ElementRange range;
    int64_t shard = 0;
  };

  static std::string name_of(size_t p) { return "p" + std::to_string(p); }

  static float gradient_of(int rank, int micro_batch, size_t p, size_t s, int64_t i) {
    return static_cast<float>(value_at(rank, i, micro_batch * 100 + static_cast<int>(10 * p + s)));
  }

  // With zero = 2 micro-batches are summed over ranks first.
  float wanted(const SegmentCase& segment, int micro_batches, size_t p, size_t s, int64_t i) const {
    std::vector<float> of_rank(segment.holders.size(), 0);
    float total = 0;
    for (int m = 0; m < micro_batches; ++m) {
      std::vector<float> now;
      for (size_t h = 0; h < segment.holders.size(); ++h) {
        now.push_back(gradient_of(segment.holders[h], m, p, s, i));
        of_rank[h] = m == 0 ? now[h] : of_rank[h] + now[h];
      }
      total = m == 0 ? in_tree(now) : total + in_tree(now);
    }
    return zero_ == 2 ? total : in_tree(of_rank);
  }

  void declare(size_t p) {
    std::vector<autograd::Segment> segments;
    int64_t elements = 0;
    for (size_t s = 0; s < model_[p].segments.size(); ++s) {
      const SegmentCase& segment = model_[p].segments[s];
      if (std::find(segment.holders.begin(), segment.holders.end(), comm_.rank()) == segment.holders.end()) continue;
      offsets_[{p, s}] = elements;
      segments.push_back({name_of(p) + "." + std::to_string(s), Shape{segment.elements}, elements, -1});
      elements += segment.elements;
    }
    if (elements > 0) store_.declare(name_of(p), Shape{elements}, 1, true, std::move(segments));
  }

  ElementRange owned(const SegmentCase& segment, int64_t piece) const {
    const auto found = std::find(segment.holders.begin(), segment.holders.end(), comm_.rank());
    if (found == segment.holders.end()) return {};
    return owned_range(segment.elements, piece, static_cast<int>(found - segment.holders.begin()),
                       static_cast<int>(segment.holders.size()));
  }

  Communicator& comm_;
  const Model& model_;
  ThreadPool threads_{1};
  std::shared_ptr<Allocator> allocator_ = make_host_allocator();
  autograd::Context context_{{threads_, kernels::best_isa()}, *allocator_, Dtype::kF32};
  autograd::ParameterStore store_;
  std::map<Key, int64_t> offsets_;  // from the parameter's start, of what is held here
  std::map<Key, Owned> owned_;
  Tensor shard_;
  std::unique_ptr<Reducer> reducer_;
  int zero_ = 0;
};

void expect_steps(Communicator& comm, const Model& model, ReducerOptions options) {
  RankPart part(comm, model, options);
  for (int step = 0; step < 2; ++step) {
    part.start_step();
    const int micro_batches = 1 + 2 * step;
    for (int m = 0; m < micro_batches; ++m) part.backward(m, m + 1 == micro_batches);
    const ReducerReport report = part.reducer().finish();
    EXPECT_GE(report.started_before_finish, comm.size() == 1 && options.zero < 2 ? 0 : report.buckets);
    part.expect_sums(micro_batches);
    part.expect_published();
  }
}

TEST(Reducer, SumsOverHoldersWhateverTheBucketAndTheZeroStage) {
  for (const int zero : {0, 1, 2}) {
    for (const int64_t bucket_bytes : {1, 300'000, 1 << 30}) {
      const ReducerOptions options{bucket_bytes, zero};
      for (const int ranks : {1, 2, 4}) {
        const Model dense = dense_model(ranks);
        ThreadWorld(ranks).run([&](Communicator& comm) { expect_steps(comm, dense, options); });
      }
      ThreadWorld(3).run([&](Communicator& comm) { expect_steps(comm, uneven_model(), options); });
    }
  }
}

TEST(Reducer, ReadinessInAnotherOrderOnEachRankIsSafe) {
  for (const int zero : {0, 1}) {
    const Model model = dense_model(3);
    ThreadWorld(3).run([&](Communicator& comm) {
      RankPart part(comm, model, {.bucket_bytes = 1, .zero = zero});
      EXPECT_EQ(part.reducer().bucket_count(), 5);
      for (size_t i = 0; i < 5; ++i) {
        const size_t p = (i * (static_cast<size_t>(comm.rank()) + 1) + static_cast<size_t>(comm.rank())) % 5;
        part.reducer().ready(part.add_gradient(p, 0), true);
      }
      EXPECT_EQ(part.reducer().finish().started_before_finish, 5);
      part.expect_sums(1);
    });
  }
}

TEST(Reducer, BucketsStartInOrderAndWhatIsNeverReadyIsReducedToo) {
  for (const int zero : {0, 1}) {
    const Model model = dense_model(2);
    ThreadWorld(2).run([&](Communicator& comm) {
      RankPart part(comm, model, {.bucket_bytes = 1, .zero = zero});
      for (size_t p = 0; p < 5; ++p) part.add_gradient(p, 0);
      if (comm.rank() == 0) {
        for (const int64_t index : {0, 1, 4}) part.reducer().ready(index, true);
      }
      EXPECT_EQ(part.reducer().finish().started_before_finish, comm.rank() == 0 ? 2 : 0);
      part.expect_sums(1);
    });
  }
}

// The gradients of a chunk's micro-batches may all come before those of another chunk's first.
TEST(Reducer, ChunksStartApart) {
  Model model = dense_model(3);
  for (size_t p = 0; p < 2; ++p) model[p].chunk = 1;
  for (const int zero : {0, 2}) {
    ThreadWorld(3).run([&](Communicator& comm) {
      RankPart part(comm, model, {.bucket_bytes = 1 << 30, .zero = zero});
      EXPECT_EQ(part.reducer().bucket_count(), 2);
      for (const size_t chunk : {0, 1}) {
        for (int m = 0; m < 3; ++m) {
          for (size_t p = 5; p-- > 0;) {
            if ((p < 2) == (chunk == 0)) part.reducer().ready(part.add_gradient(p, m), m == 2);
          }
        }
      }
      EXPECT_EQ(part.reducer().finish().started_before_finish, zero == 2 ? 6 : 2);
      part.expect_sums(3);
    });
  }
}

TEST(Reducer, WithZeroTwoGradientsLiveInBucketsOnly) {
  const Model model = dense_model(2);
  ThreadWorld(2).run([&](Communicator& comm) {
    RankPart part(comm, model, {.bucket_bytes = 1, .zero = 2});
    const size_t before = part.allocator().stats().in_use;
    for (int m = 0; m < 3; ++m) part.backward(m, m == 2);
    part.reducer().finish();
    EXPECT_EQ(part.allocator().stats().in_use, before);
    part.expect_sums(3);
  });
}

TEST(Reducer, BlocksOfHoldersHaveATreeOfTheirOwn) {
  ThreadWorld(6).run([](Communicator& comm) {
    const Model model{{{{everyone(6), 40'000}}}};
    RankPart part(comm, model, {.zero = 0, .block = 3});
    part.backward(0, true);
    part.reducer().finish();
    part.expect_block_sums(3);
  });
}

TEST(Reducer, RefusesMisuse) {
  const auto self = make_self_communicator();
  const Model model = dense_model(1);
  RankPart part(*self, model, {});
  part.reducer().ready(part.add_gradient(1, 0), false);
  part.reducer().ready(part.add_gradient(1, 1), true);
  EXPECT_THROW(part.reducer().ready(3, true), InternalError);
  EXPECT_THROW(part.reducer().ready(5, true), InternalError);
  EXPECT_THROW(part.reducer().ready(-1, true), InternalError);
}

}  // namespace
}  // namespace cadre::parallel
