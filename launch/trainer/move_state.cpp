#include "launch/trainer/move_state.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>

namespace cadre::launch {
namespace {

using parallel::ElementRange;

ElementRange intersection(const ElementRange& a, const ElementRange& b) {
  const int64_t begin = std::max(a.begin, b.begin);
  return {begin, std::max(begin, std::min(a.end, b.end))};
}

// Of one side: where a rank's part of a segment is, and the bytes of it.
class Side {
 public:
  explicit Side(TrainState& state) : state_(state), moments_(state.optimizer().state_tensors()) {
    for (const optim::SegmentState& segment : state.optimizer().segments()) here_[segment.name] = &segment;
  }

  // What a rank of the data axis owns, as every rank knows it.
  ElementRange owned_by(const GlobalSegment& segment, int rank) const {
    const std::vector<int> holders = state_.shard().data_ranks_of(segment);
    const auto found = std::find(holders.begin(), holders.end(), rank);
    if (found == holders.end()) return {};
    return parallel::owned_range(segment.elements, segment.first_piece, static_cast<int>(found - holders.begin()),
                                 static_cast<int>(holders.size()));
  }
  bool held_by(const GlobalSegment& segment, int rank) const {
    const std::vector<int> holders = state_.shard().data_ranks_of(segment);
    return std::binary_search(holders.begin(), holders.end(), rank);
  }
  // Of the values (0) a holder has everything, of moments (from 1 on) what it updates, and of what isolated experts
  // alone have nothing where the segment is another's.
  ElementRange needed_by(const GlobalSegment& segment, int rank, size_t kind) const {
    if (!held_by(segment, rank) || !has(kind, segment.layer, segment.expert)) return {};
    return kind == 0 || state_.shard().zero() == 0 ? ElementRange{0, segment.elements} : owned_by(segment, rank);
  }
  size_t kinds() const { return 1 + moments_.size(); }
  bool has(size_t kind, int layer, int expert) const {
    if (kind == 0) return true;
    const optim::MomentTensor& moment = moments_[kind - 1];
    if (moment.kind && *moment.kind != state_.optimizer().kind_of(layer, expert)) return false;
    if (!moment.isolated) return true;
    return expert >= 0 && state_.optimizer().isolated()->isolation().index_of(layer, expert) >= 0;
  }
  char* data(const std::string& name, size_t kind, int64_t element) const {
    const optim::SegmentState& segment = *here_.at(name);
    const Tensor& tensor = kind == 0 ? state_.store().values() : moments_[kind - 1].tensor;
    const int64_t at =
        kind == 0 ? segment.offset + element : segment.offset_in(moments_[kind - 1]) + element - segment.kept.begin;
    return static_cast<char*>(tensor.raw()) + static_cast<size_t>(at) * size_of(tensor.dtype());
  }
  const std::map<std::string, const optim::SegmentState*>& here() const { return here_; }

 private:
  TrainState& state_;
  std::vector<optim::MomentTensor> moments_;
  std::map<std::string, const optim::SegmentState*> here_;
};

class Mover {
 public:
  Mover(TrainState& from, TrainState& to)
      : from_(from),
        to_(to),
        shard_(to.shard()),
        data_(shard_.mesh().along(parallel::Axis::kData)),
        dtype_(to.store().values().dtype()) {}

  void dense() {
    for (const auto& [name, segment] : to_.here()) {
      if (shard_.is_placed(shard_.segment(name))) continue;
      for (size_t kind = 0; kind < to_.kinds(); ++kind) {
        const ElementRange range = kind == 0 ? ElementRange{0, segment->count()} : segment->kept;
        if (range.count() == 0 || !to_.has(kind, segment->layer, segment->expert)) continue;
        std::memcpy(to_.data(name, kind, range.begin), from_.data(name, kind, range.begin), bytes(range.count()));
      }
    }
  }

  // All experts' segments of a layer.
  void layer(const std::vector<const GlobalSegment*>& segments) {
    std::vector<int64_t> sent, received;
    for (int rank = 0; rank < data_.size(); ++rank) {
      sent.push_back(count(segments, data_.rank(), rank));
      received.push_back(count(segments, rank, data_.rank()));
    }
    Allocator& allocator = *allocator_;
    const auto sum = [](const std::vector<int64_t>& rows) {
      int64_t total = 0;
      for (const int64_t row : rows) total += row;
      return total;
    };
    const Tensor out = Tensor::empty(allocator, dtype_, Shape{sum(sent)});
    const Tensor in = Tensor::empty(allocator, dtype_, Shape{sum(received)});
    char* position = static_cast<char*>(out.raw());
    for (int rank = 0; rank < data_.size(); ++rank) {
      each(segments, data_.rank(), rank, [&](const GlobalSegment& segment, size_t kind, const ElementRange& range) {
        std::memcpy(position, from_.data(segment.name, kind, range.begin), bytes(range.count()));
        position += bytes(range.count());
      });
    }
    data_.all_to_all(out, sent, in, received, {"moving experts", segments.front()->layer})->wait();
    position = static_cast<char*>(in.raw());
    for (int rank = 0; rank < data_.size(); ++rank) {
      each(segments, rank, data_.rank(), [&](const GlobalSegment& segment, size_t kind, const ElementRange& range) {
        std::memcpy(to_.data(segment.name, kind, range.begin), position, bytes(range.count()));
        position += bytes(range.count());
      });
    }
  }

 private:
  size_t bytes(int64_t elements) const { return static_cast<size_t>(elements) * size_of(dtype_); }

  // What `source` sends to `target`, in the order in which both go through it.
  template <class Visit>
  void each(const std::vector<const GlobalSegment*>& segments, int source, int target, const Visit& visit) const {
    for (const GlobalSegment* segment : segments) {
      const ElementRange owned = from_.owned_by(*segment, source);
      for (size_t kind = 0; kind < to_.kinds() && owned.count() > 0; ++kind) {
        const ElementRange range = intersection(owned, to_.needed_by(*segment, target, kind));
        if (range.count() > 0) visit(*segment, kind, range);
      }
    }
  }
  int64_t count(const std::vector<const GlobalSegment*>& segments, int source, int target) const {
    int64_t elements = 0;
    each(segments, source, target,
         [&](const GlobalSegment&, size_t, const ElementRange& range) { elements += range.count(); });
    return elements;
  }

  Side from_, to_;
  const ModelShard& shard_;
  parallel::Communicator& data_;
  Dtype dtype_;
  std::shared_ptr<Allocator> allocator_ = make_host_allocator();
};

}  // namespace

void move_state(TrainState& from, TrainState& to) {
  to.restore_scalars(from.scalars(), "moving experts");
  Mover mover(from, to);
  mover.dense();
  std::map<int, std::vector<const GlobalSegment*>> layers;  // of this stage
  for (const GlobalSegment& segment : to.shard().segments()) {
    if (to.shard().is_placed(segment) && to.shard().stage_of(segment) >= 0) layers[segment.layer].push_back(&segment);
  }
  for (const auto& [layer, segments] : layers) mover.layer(segments);
  to.store().touch();
}

}  // namespace cadre::launch
