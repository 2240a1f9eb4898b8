#include "parallel/comm/shared_reduce.h"

#include <fmt/core.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <new>

#include "core/error.h"
#include "parallel/comm/mpi_operations.h"
#include "parallel/comm/reduction.h"
#include "parallel/comm/shared_segment.h"

namespace cadre::parallel {
namespace {

constexpr size_t kLargestPiece = size_t{256} << 10;  // stays in the second-level cache
constexpr size_t kSmallestPiece = size_t{64} << 10;
constexpr int64_t kFewestSlots = 4;

// Pieces are numbered through the life of the arena; a counter is the number of pieces that have passed its step.
struct alignas(64) Counter {
  std::atomic<int64_t> pieces;
};
static_assert(std::atomic<int64_t>::is_always_lock_free);

// The call to which a slot's contents belong.
struct alignas(64) Stamp {
  CallRecord call;
};

struct Counters {
  Counter in;    // copied into the slot
  Counter out;   // own part summed
  Counter left;  // others' parts copied out
};

class Arena : public SharedArena {
 public:
  Arena(std::unique_ptr<SharedSegment> segment, int rank, int size, int64_t slots, size_t piece_bytes)
      : segment_(std::move(segment)), rank_(rank), size_(size), slots_(slots), piece_bytes_(piece_bytes) {}

  static size_t bytes_per_rank(int64_t slots, size_t piece_bytes) {
    return sizeof(Counters) + static_cast<size_t>(slots) * (sizeof(Stamp) + piece_bytes);
  }

  std::unique_ptr<StagedOperation> all_reduce(const Call& call, void* data) override;

  int rank() const { return rank_; }
  int size() const { return size_; }
  int64_t slots() const { return slots_; }
  size_t piece_bytes() const { return piece_bytes_; }
  Counters& counters(int rank) const { return *reinterpret_cast<Counters*>(base(rank)); }
  Stamp& stamp(int rank, int64_t piece) const {
    return reinterpret_cast<Stamp*>(base(rank) + sizeof(Counters))[piece % slots_];
  }
  char* slot(int rank, int64_t piece) const {
    return base(rank) + sizeof(Counters) + static_cast<size_t>(slots_) * sizeof(Stamp) +
           static_cast<size_t>(piece % slots_) * piece_bytes_;
  }
  int64_t reserve(int64_t pieces) {
    const int64_t first = next_piece_;
    next_piece_ += pieces;
    return first;
  }

 private:
  char* base(int rank) const {
    return segment_->data() + static_cast<size_t>(rank) * bytes_per_rank(slots_, piece_bytes_);
  }

  std::unique_ptr<SharedSegment> segment_;
  const int rank_;
  const int size_;
  const int64_t slots_;
  const size_t piece_bytes_;
  int64_t next_piece_ = 0;
};

class SharedAllReduce : public StagedOperation {
 public:
  SharedAllReduce(std::shared_ptr<Arena> arena, const Call& call, void* data)
      : StagedOperation(call),
        arena_(std::move(arena)),
        data_(static_cast<char*>(data)),
        element_(size_of(call.dtype)),
        piece_elements_(static_cast<int64_t>(arena_->piece_bytes() / element_)),
        end_(std::max<int64_t>(1, (call.count + piece_elements_ - 1) / piece_elements_)),
        first_(arena_->reserve(end_)) {}

  bool advance() override {
    Counters& own = arena_->counters(arena_->rank());
    while (in_ < end_ && turn(own.in, in_) && all_passed(&Counters::left, in_ - arena_->slots())) copy_in(own);
    while (summed_ < in_ && turn(own.out, summed_) && all_passed(&Counters::in, summed_)) sum(own);
    while (left_ < summed_ && turn(own.left, left_) && all_passed(&Counters::out, left_)) copy_out(own);
    return left_ == end_;
  }

  std::vector<int> missing() const override {
    const auto [step, piece] = in_ == summed_ && in_ < end_ ? std::pair(&Counters::left, in_ - arena_->slots())
                               : summed_ < in_              ? std::pair(&Counters::in, summed_)
                                                            : std::pair(&Counters::out, left_);
    std::vector<int> ranks;
    for (int rank = 0; rank < arena_->size(); ++rank) {
      if (!passed(arena_->counters(rank).*step, piece)) ranks.push_back(rank);
    }
    return ranks;
  }

 private:
  bool passed(const Counter& counter, int64_t piece) const {
    return counter.pieces.load(std::memory_order_acquire) > first_ + piece;
  }
  bool all_passed(Counter Counters::*step, int64_t piece) const {
    for (int rank = 0; rank < arena_->size(); ++rank) {
      if (!passed(arena_->counters(rank).*step, piece)) return false;
    }
    return true;
  }
  // An earlier reduction of this rank has finished this step.
  bool turn(const Counter& counter, int64_t piece) const {
    return counter.pieces.load(std::memory_order_relaxed) == first_ + piece;
  }
  void pass(Counter& counter, int64_t& piece) {
    ++piece;
    counter.pieces.store(first_ + piece, std::memory_order_release);
  }
  int64_t elements(int64_t piece) const {
    return std::clamp<int64_t>(call_.count - piece * piece_elements_, 0, piece_elements_);
  }
  char* data(int64_t piece, int64_t element) const {
    return data_ + static_cast<size_t>(piece * piece_elements_ + element) * element_;
  }
  char* slot(int rank, int64_t piece, int64_t element) const {
    return arena_->slot(rank, first_ + piece) + static_cast<size_t>(element) * element_;
  }
  Part part(int64_t piece, int rank) const { return part_of(elements(piece), rank, arena_->size()); }

  void copy_in(Counters& own) {
    arena_->stamp(arena_->rank(), first_ + in_) = {record_of(call_)};
    for (int rank = 0; rank < arena_->size(); ++rank) {
      const Part part_of_rank = part(in_, rank);
      if (rank == arena_->rank() || part_of_rank.size() == 0) continue;
      std::memcpy(slot(arena_->rank(), in_, part_of_rank.begin), data(in_, part_of_rank.begin),
                  static_cast<size_t>(part_of_rank.size()) * element_);
    }
    pass(own.in, in_);
  }

  void sum(Counters& own) {
    check_stamps();
    const Part own_part = part(summed_, arena_->rank());
    if (own_part.size() > 0) {
      sources_.clear();
      for (int rank = 0; rank < arena_->size(); ++rank) {
        const bool is_own = rank == arena_->rank();
        sources_.push_back(is_own ? data(summed_, own_part.begin) : slot(rank, summed_, own_part.begin));
      }
      reduce_in_order(call_.dtype, call_.reduction, sources_, own_part.size(), data(summed_, own_part.begin),
                      slot(arena_->rank(), summed_, own_part.begin));
    }
    pass(own.out, summed_);
  }

  void copy_out(Counters& own) {
    for (int rank = 0; rank < arena_->size(); ++rank) {
      const Part part_of_rank = part(left_, rank);
      if (rank == arena_->rank() || part_of_rank.size() == 0) continue;
      std::memcpy(data(left_, part_of_rank.begin), slot(rank, left_, part_of_rank.begin),
                  static_cast<size_t>(part_of_rank.size()) * element_);
    }
    pass(own.left, left_);
  }

  void check_stamps() const {
    const CallRecord own = arena_->stamp(arena_->rank(), first_ + summed_).call;
    for (int rank = 0; rank < arena_->size(); ++rank) {
      const CallRecord other = arena_->stamp(rank, first_ + summed_).call;
      if (same_call(own, other)) continue;
      throw CommunicationError(
          disagreement(call_.group->world_rank(arena_->rank()), own, call_.group->world_rank(rank), other));
    }
  }

  std::shared_ptr<Arena> arena_;
  char* data_;
  const size_t element_;  // bytes
  const int64_t piece_elements_;
  const int64_t end_;    // pieces of this reduction
  const int64_t first_;  // number of its first piece in the arena
  int64_t in_ = 0;       // pieces past each step
  int64_t summed_ = 0;
  int64_t left_ = 0;
  std::vector<const void*> sources_;
};

std::unique_ptr<StagedOperation> Arena::all_reduce(const Call& call, void* data) {
  return std::make_unique<SharedAllReduce>(std::static_pointer_cast<Arena>(shared_from_this()), call, data);
}

}  // namespace

std::shared_ptr<SharedArena> SharedArena::create(Communicator& communicator, size_t bytes) {
  const size_t share = bytes / static_cast<size_t>(communicator.size());
  const size_t piece =
      std::clamp(share / static_cast<size_t>(kFewestSlots) / 4096 * 4096, kSmallestPiece, kLargestPiece);
  const int64_t slots = std::max<int64_t>(kFewestSlots, static_cast<int64_t>(share / piece));
  const size_t per_rank = Arena::bytes_per_rank(slots, piece);
  auto segment = SharedSegment::create(communicator, per_rank * static_cast<size_t>(communicator.size()));
  if (!segment) return nullptr;
  return std::make_shared<Arena>(std::move(segment), communicator.rank(), communicator.size(), slots, piece);
}

}  // namespace cadre::parallel
