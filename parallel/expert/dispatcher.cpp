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

class AllToAllDispatcher final : public Dispatcher {
 public:
  AllToAllDispatcher(Communicator& communicator, Placement placement)
      : communicator_(communicator), placement_(std::move(placement)) {}

  Variable run(Tape& tape, Variable rows, Variable offsets, int layer, const ExpertFunction& experts) const override {
    Allocator& allocator = tape.context().allocator;
    const Routes routes = plan_routes(placement_, share_counts(allocator, offsets, layer), communicator_.rank());
    const Reordering sending(allocator, routes.send_order), computing(allocator, routes.compute_order);
    Variable x = exchange(tape, sending.there(tape, std::move(rows)), routes.send_rows, routes.receive_rows,
                          {"expert dispatch", layer});
    const Variable local = Variable::leaf(tensor_of(allocator, Dtype::kI64, routes.offsets));
    Variable y = experts(tape, computing.there(tape, std::move(x)), local);
    y = exchange(tape, computing.back(tape, std::move(y)), routes.receive_rows, routes.send_rows,
                 {"expert combine", layer});
    return sending.back(tape, std::move(y));
  }

 private:
  Variable exchange(Tape& tape, Variable rows, const std::vector<int64_t>& send, const std::vector<int64_t>& receive,
                    CollectiveLabel label) const {
    return tape.apply<ExchangeRows>({std::move(rows)}, communicator_, send, receive, label);
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
};

}  // namespace

std::unique_ptr<Dispatcher> make_local_dispatcher() { return std::make_unique<LocalDispatcher>(); }

std::unique_ptr<Dispatcher> make_all_to_all_dispatcher(Communicator& communicator, Placement placement) {
  return std::make_unique<AllToAllDispatcher>(communicator, std::move(placement));
}

}  // namespace cadre::parallel
