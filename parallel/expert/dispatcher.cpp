#include "parallel/expert/dispatcher.h"

#include <algorithm>

#include "autograd/ops/permute.h"
#include "parallel/expert/exchange.h"
#include "parallel/expert/routes.h"

namespace cadre::parallel {
namespace {

using autograd::Tape;
using autograd::Variable;

class LocalDispatcher final : public Dispatcher {
 public:
  Variable run(Tape& tape, Variable rows, Variable offsets, int, const ExpertFunction& experts) const override {
    return experts(tape, std::move(rows), std::move(offsets));
  }
};

template <class T>
Tensor tensor_of(Allocator& allocator, Dtype dtype, const std::vector<T>& values) {
  Tensor tensor = Tensor::empty(allocator, dtype, Shape{static_cast<int64_t>(values.size())});
  std::copy(values.begin(), values.end(), tensor.data<T>());
  return tensor;
}

// An order of rows and its inverse, for going there and coming back.
class Reordering {
 public:
  Reordering(Allocator& allocator, const RowOrder& order) {
    if (order.empty()) return;
    there_ = Variable::leaf(tensor_of(allocator, Dtype::kI32, order));
    back_ = Variable::leaf(tensor_of(allocator, Dtype::kI32, inverse_of(order)));
  }
  Variable there(Tape& tape, Variable rows) const { return apply(tape, std::move(rows), there_, back_); }
  Variable back(Tape& tape, Variable rows) const { return apply(tape, std::move(rows), back_, there_); }

 private:
  static Variable apply(Tape& tape, Variable rows, const Variable& order, const Variable& inverse) {
    if (!order) return rows;
    return tape.apply<autograd::PermuteRows>({std::move(rows), order, inverse});
  }
  Variable there_, back_;
};

// Parts of a tensor become one, in as many steps as their number needs.
Variable concat(Tape& tape, std::vector<Variable> parts) {
  while (parts.size() > 1) {
    std::vector<Variable> joined;
    for (size_t begin = 0; begin < parts.size(); begin += autograd::ConcatRows::kMostParts) {
      const size_t end = std::min(parts.size(), begin + autograd::ConcatRows::kMostParts);
      std::vector<Variable> some(parts.begin() + static_cast<int64_t>(begin),
                                 parts.begin() + static_cast<int64_t>(end));
      std::vector<int64_t> rows;
      for (const Variable& part : some) rows.push_back(part.shape()[0]);
      joined.push_back(tape.apply<autograd::ConcatRows>(std::move(some), std::move(rows)));
    }
    parts = std::move(joined);
  }
  return std::move(parts.front());
}

class AllToAllDispatcher final : public Dispatcher {
 public:
  AllToAllDispatcher(Communicator& communicator, Placement placement, DispatchOptions options)
      : communicator_(communicator), placement_(std::move(placement)), options_(options) {}

  Variable run(Tape& tape, Variable rows, Variable offsets, int layer, const ExpertFunction& experts) const override {
    Allocator& allocator = tape.context().allocator;
    const std::vector<int64_t> counts = share_counts(allocator, offsets, layer);
    const int64_t rounds = options_.max_rows > 0 ? rounds_needed(placement_, counts, options_.max_rows) : 1;
    const Routes routes = plan_routes(placement_, counts, communicator_.rank(), rounds);
    const Reordering sending(allocator, routes.send_order);
    const Variable sorted = sending.there(tape, std::move(rows));
    std::vector<Variable> results;
    int64_t first = 0;
    for (const Round& round : routes.rounds) {
      const size_t mark = tape.recomputable();
      results.push_back(run_round(tape, sorted, first, round, layer, experts, rounds > 1));
      if (rounds > 1) {
        tape.pin(results.back());
        tape.discard_recomputable(mark);
      }
      first += round.sent();
    }
    return sending.back(tape, concat(tape, std::move(results)));
  }

 private:
  Variable run_round(Tape& tape, const Variable& sorted, int64_t first, const Round& round, int layer,
                     const ExpertFunction& experts, bool recompute) const {
    Allocator& allocator = tape.context().allocator;
    const autograd::RecomputeScope scope(tape, recompute);
    const Reordering computing(allocator, round.compute_order);
    Variable x = exchange(tape, sorted, round.send_rows, round.receive_rows, {"expert dispatch", layer}, first);
    const Variable local = Variable::leaf(tensor_of(allocator, Dtype::kI64, round.offsets));
    Variable y = experts(tape, computing.there(tape, std::move(x)), local);
    y = computing.back(tape, std::move(y));
    return exchange(tape, std::move(y), round.receive_rows, round.send_rows, {"expert combine", layer}, 0);
  }

  Variable exchange(Tape& tape, Variable rows, const std::vector<int64_t>& send, const std::vector<int64_t>& receive,
                    CollectiveLabel label, int64_t first) const {
    return tape.apply<ExchangeRows>({std::move(rows)}, communicator_, send, receive, label, first);
  }

  // [source * experts + expert], on every rank.
  std::vector<int64_t> share_counts(Allocator& allocator, const Variable& offsets, int layer) const {
    const int64_t experts = placement_.experts();
    const int64_t* bounds = offsets.tensor().data<int64_t>();
    Tensor mine = Tensor::empty(allocator, Dtype::kI64, Shape{experts});
    for (int64_t expert = 0; expert < experts; ++expert)
      mine.data<int64_t>()[expert] = bounds[expert + 1] - bounds[expert];
    const Tensor all = Tensor::empty(allocator, Dtype::kI64, Shape{communicator_.size() * experts});
    communicator_.all_gather(mine, all, {"expert counts", layer})->wait();
    return {all.data<int64_t>(), all.data<int64_t>() + all.elements()};
  }

  Communicator& communicator_;
  Placement placement_;
  DispatchOptions options_;
};

}  // namespace

std::unique_ptr<Dispatcher> make_local_dispatcher() { return std::make_unique<LocalDispatcher>(); }

std::unique_ptr<Dispatcher> make_all_to_all_dispatcher(Communicator& communicator, Placement placement,
                                                       DispatchOptions options) {
  return std::make_unique<AllToAllDispatcher>(communicator, std::move(placement), options);
}

}  // namespace cadre::parallel
