#include "parallel/expert/dispatcher.h"

#include <algorithm>
#include <span>

#include "autograd/ops/permute.h"
#include "core/error.h"
#include "parallel/expert/exchange.h"

namespace cadre::parallel {
namespace {

using autograd::Tape;
using autograd::Variable;

class LocalDispatcher final : public Dispatcher {
 public:
  int lanes() const override { return 1; }
  Variable run(Tape& tape, Variable rows, Variable offsets, int, const ExpertFunction& experts,
               const std::function<void()>& meanwhile) const override {
    meanwhile();
    const LocalExperts all{0, offsets.shape()[0] - 1};
    return experts(tape, {std::move(rows), std::move(offsets), all});
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

// One dispatch: the rows of one layer and micro-batch, part by part. On the tape, the exchange of a part starts before
// the part before it is computed, and its results are awaited after the part behind it is; the backward, which goes the
// other way, has the same overlap.
class Passage {
 public:
  Passage(Tape& tape, const ExpertFunction& experts, std::shared_ptr<WholeExchange> whole, Variable sorted, int lanes)
      : tape_(tape), experts_(experts), whole_(std::move(whole)), sorted_(std::move(sorted)), lanes_(lanes) {}

  // Parts of one round; `sent`: rows of all rounds.
  void run(std::span<const RoutePart> parts, int64_t sent, const std::function<void()>& meanwhile) {
    std::vector<Flight> flights(parts.size());
    for (size_t i = 0; i < parts.size(); ++i) {
      if (i == 0) start(parts[0], flights[0]);
      if (i == 0 && meanwhile) meanwhile();
      if (i + 1 < parts.size()) start(parts[i + 1], flights[i + 1]);
      Variable y = compute(parts[i], flights[i]);
      results_ = tape_.apply<StartCombine>({std::move(y), std::move(results_)}, flights[i].exchange, sent);
      if (i > 0) results_ = tape_.apply<AwaitCombine>({std::move(results_)}, flights[i - 1].exchange);
    }
    results_ = tape_.apply<AwaitCombine>({std::move(results_)}, flights.back().exchange);
  }
  const Variable& results() const { return results_; }

 private:
  struct Flight {
    PartExchangePtr exchange;
    Variable rows;  // under way
  };

  void start(const RoutePart& part, Flight& flight) {
    flight.exchange = std::make_shared<PartExchange>(whole_, part.traffic, first_row_);
    first_row_ += flight.exchange->sent();
    flight.rows = tape_.apply<StartDispatch>({sorted_}, flight.exchange);
  }

  Variable compute(const RoutePart& part, Flight& flight) {
    Allocator& allocator = tape_.context().allocator;
    const Reordering order(allocator, part.compute_order);
    Variable x = tape_.apply<AwaitDispatch>({std::move(flight.rows)}, flight.exchange);
    if (part.experts.count == 0) return tape_.apply<PassRows>({std::move(x)});
    const auto leaf = [&](const std::vector<int64_t>& bounds) {
      return Variable::leaf(tensor_of(allocator, Dtype::kI64, bounds));
    };
    ExpertRows rows{order.there(tape_, std::move(x)), leaf(part.offsets), part.experts, lanes_};
    if (lanes_ > 1) rows.cells = leaf(part.cells);
    return order.back(tape_, experts_(tape_, std::move(rows)));
  }

  Tape& tape_;
  const ExpertFunction& experts_;
  std::shared_ptr<WholeExchange> whole_;
  Variable sorted_;
  int lanes_;
  Variable results_;
  int64_t first_row_ = 0;  // of the next part
};

std::unique_ptr<RowTransport> make_transport(DispatcherKind kind, Communicator& communicator) {
  return kind == DispatcherKind::kAllToAll ? make_all_to_all_transport(communicator)
                                           : make_all_gather_transport(communicator);
}

class GroupDispatcher final : public Dispatcher {
 public:
  GroupDispatcher(Communicator& communicator, Placement placement, DispatchOptions options)
      : communicator_(communicator),
        placement_(std::move(placement)),
        options_(options),
        transport_(make_transport(options.kind, communicator)) {
    if (options.reproducible && placement_.has_replicas()) {
      throw ConfigError(
          "reproducible: an expert is held by several ranks of its group; wanted one, as sums over "
          "replicas follow the layout");
    }
  }

  int lanes() const override { return options_.reproducible ? communicator_.size() : 1; }

  Variable run(Tape& tape, Variable rows, Variable offsets, int layer, const ExpertFunction& experts,
               const std::function<void()>& meanwhile) const override {
    Allocator& allocator = tape.context().allocator;
    // A bound on rows is one on memory: no round holds its rows for a later part of the backward. Whether there are
    // rounds or not, so that parameters of all micro-batches are ready in their order.
    const autograd::WholeBackwardScope whole_backward(tape, options_.max_rows > 0);
    const auto beside = [&] {
      const autograd::WholeBackwardScope as_others(tape, false);
      meanwhile();
    };
    const std::vector<int64_t> counts = share_counts(allocator, offsets, layer);
    const bool whole_cells = options_.reproducible;
    const int64_t most = options_.max_rows, chunks = options_.chunks;
    const int64_t rounds = most > 0 ? rounds_needed(placement_, counts, most, whole_cells) : 1;
    const Routes routes = plan_routes(placement_, counts, communicator_.rank(), {rounds, chunks, whole_cells, most});
    const std::span<const RoutePart> parts = routes.parts;
    count_rows(parts);
    const int64_t sent = offsets.tensor().data<int64_t>()[placement_.experts()];
    const Reordering sending(allocator, routes.send_order);
    Variable sorted = sending.there(tape, std::move(rows));
    auto whole = std::make_shared<WholeExchange>(
        WholeExchange{*transport_, communicator_.rank(), layer, sorted.shape(), rounds * chunks, options_.exposed});
    Passage passage(tape, experts, std::move(whole), std::move(sorted), lanes());
    if (rounds == 1) {
      passage.run(parts, sent, beside);
      return sending.back(tape, passage.results());
    }
    beside();  // not to be computed again with a round
    for (int64_t round = 0; round < rounds; ++round) {
      const size_t mark = tape.recomputable();
      const autograd::RecomputeScope scope(tape, true);
      passage.run(parts.subspan(static_cast<size_t>(round * chunks), static_cast<size_t>(chunks)), sent, {});
      tape.pin(passage.results());
      tape.discard_recomputable(mark);
    }
    return sending.back(tape, passage.results());
  }

 private:
  // Once for each dispatch, however often its exchanges are done again.
  void count_rows(std::span<const RoutePart> parts) const {
    if (options_.rows_to == nullptr) return;
    options_.rows_to->resize(static_cast<size_t>(communicator_.size()), 0);
    for (const RoutePart& part : parts) {
      for (int to = 0; to < communicator_.size(); ++to) {
        (*options_.rows_to)[static_cast<size_t>(to)] += part.traffic.rows(communicator_.rank(), to);
      }
    }
  }

  // [source * experts + expert], on every rank.
  std::vector<int64_t> share_counts(Allocator& allocator, const Variable& offsets, int layer) const {
    const int64_t experts = placement_.experts();
    const int64_t* bounds = offsets.tensor().data<int64_t>();
    Tensor mine = Tensor::empty(allocator, Dtype::kI64, Shape{experts});
    for (int64_t expert = 0; expert < experts; ++expert)
      mine.data<int64_t>()[expert] = bounds[expert + 1] - bounds[expert];
    const Tensor all = Tensor::empty(allocator, Dtype::kI64, Shape{communicator_.size() * experts});
    wait_for(*communicator_.all_gather(mine, all, {"expert counts", layer}), options_.exposed);
    return {all.data<int64_t>(), all.data<int64_t>() + all.elements()};
  }

  Communicator& communicator_;
  Placement placement_;
  DispatchOptions options_;
  std::unique_ptr<RowTransport> transport_;
};

}  // namespace

std::unique_ptr<Dispatcher> make_local_dispatcher() { return std::make_unique<LocalDispatcher>(); }

std::unique_ptr<Dispatcher> make_group_dispatcher(Communicator& communicator, Placement placement,
                                                  DispatchOptions options) {
  return std::make_unique<GroupDispatcher>(communicator, std::move(placement), options);
}

}  // namespace cadre::parallel
