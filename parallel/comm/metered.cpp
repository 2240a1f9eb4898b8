#include "parallel/comm/metered.h"

#include "parallel/comm/collective.h"

namespace cadre::parallel {
namespace {

double size_in_bytes(const TensorView& view) {
  return static_cast<double>(view.shape.elements()) * static_cast<double>(size_of(view.dtype));
}

class Metered final : public Communicator {
 public:
  Metered(std::unique_ptr<Communicator> owned, Communicator& inner, Traffic& traffic)
      : owned_(std::move(owned)), inner_(inner), traffic_(traffic) {}
  int rank() const override { return inner_.rank(); }
  int size() const override { return inner_.size(); }
  const Group& group() const override { return inner_.group(); }
  std::unique_ptr<Communicator> split(int color, int key, const std::string& name) override {
    std::unique_ptr<Communicator> part = inner_.split(color, key, name);
    return part ? make_metered_communicator(std::move(part), traffic_) : nullptr;
  }

  WorkPtr all_reduce(TensorView data, Reduction reduction, CollectiveLabel label) override {
    count(label, 2 * size_in_bytes(data) * others() / size());
    return inner_.all_reduce(data, reduction, label);
  }
  WorkPtr all_gather(TensorView send, TensorView receive, CollectiveLabel label) override {
    count(label, size_in_bytes(send) * others());
    return inner_.all_gather(send, receive, label);
  }
  WorkPtr reduce_scatter(TensorView send, TensorView receive, CollectiveLabel label) override {
    count(label, size_in_bytes(receive) * others());
    return inner_.reduce_scatter(send, receive, label);
  }
  WorkPtr all_to_all(TensorView send, const std::vector<int64_t>& send_rows, TensorView receive,
                     const std::vector<int64_t>& receive_rows, CollectiveLabel label) override {
    int64_t rows = 0;
    for (int to = 0; to < size(); ++to) rows += to == rank() ? 0 : send_rows[static_cast<size_t>(to)];
    count(label, static_cast<double>(rows * row_elements(send)) * static_cast<double>(size_of(send.dtype)));
    return inner_.all_to_all(send, send_rows, receive, receive_rows, label);
  }
  WorkPtr broadcast(TensorView data, int root, CollectiveLabel label) override {
    count(label, root == rank() ? size_in_bytes(data) : 0);
    return inner_.broadcast(data, root, label);
  }
  WorkPtr send(TensorView data, int to, CollectiveLabel label) override {
    count(label, size_in_bytes(data));
    return inner_.send(data, to, label);
  }
  WorkPtr receive(TensorView data, int from, CollectiveLabel label) override {
    return inner_.receive(data, from, label);
  }
  void barrier(CollectiveLabel label) override { inner_.barrier(label); }
  std::vector<std::string> gather_text(const std::string& text, CollectiveLabel label) override {
    return inner_.gather_text(text, label);
  }
  bool moves_data() const override { return inner_.moves_data(); }
  void poll() override { inner_.poll(); }
  [[noreturn]] void abort(int exit_code) override {
    inner_.abort(exit_code);
    __builtin_unreachable();
  }

 private:
  double others() const { return size() - 1; }
  void count(CollectiveLabel label, double bytes) {
    if (size() == 1) return;
    TrafficCount& entry = traffic_[{group().name, label.name}];
    ++entry.calls;
    entry.bytes += bytes;
  }

  std::unique_ptr<Communicator> owned_;  // or null
  Communicator& inner_;
  Traffic& traffic_;
};

}  // namespace

std::unique_ptr<Communicator> make_metered_communicator(std::unique_ptr<Communicator> inner, Traffic& traffic) {
  Communicator& reference = *inner;
  return std::make_unique<Metered>(std::move(inner), reference, traffic);
}

std::unique_ptr<Communicator> make_metered_communicator(Communicator& inner, Traffic& traffic) {
  return std::make_unique<Metered>(nullptr, inner, traffic);
}

}  // namespace cadre::parallel
