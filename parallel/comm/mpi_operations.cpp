#include "parallel/comm/mpi_operations.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "core/runtime/thread_pool.h"
#include "parallel/comm/reduction.h"

namespace cadre::parallel {
namespace {

constexpr int64_t kGrain = 16;                    // elements
constexpr size_t kPieceBytes = size_t{16} << 20;  // larger messages fall out of the caches
constexpr size_t kSmallBytes = size_t{32} << 10;  // one round instead of two
constexpr int64_t kSequences = kFirstFreeTag / 2;

int tag_of(const Call& call, int stage) { return static_cast<int>(call.sequence % kSequences) * 2 + stage; }

// The i-th of the other ranks, starting behind `rank`, so that not all send to rank 0 first.
int neighbour(int rank, int i, int size) { return (rank + i) % size; }

char* at(void* data, int64_t element, Dtype dtype) {
  return static_cast<char*>(data) + static_cast<size_t>(element) * size_of(dtype);
}
const char* at(const void* data, int64_t element, Dtype dtype) {
  return static_cast<const char*>(data) + static_cast<size_t>(element) * size_of(dtype);
}

// A sequence of stages, each ended by the completion of its messages.
class MessageOperation : public StagedOperation {
 public:
  MessageOperation(std::shared_ptr<MpiGroup> group, const Call& call)
      : StagedOperation(call), group_(std::move(group)), rank_(group_->rank()), size_(group_->size()) {}

  bool advance() override {
    while (!messages_ || messages_->done()) {
      messages_ = std::make_unique<Messages>(group_);
      if (!next_stage(*messages_)) return true;
    }
    return false;
  }
  std::vector<int> missing() const override { return messages_ ? messages_->missing() : std::vector<int>{}; }
  void cancel() override {
    if (messages_) messages_->cancel();
  }
  bool uses_buffers() const override { return messages_ && messages_->under_way(); }

 protected:
  // Called when the previous stage's messages are complete; posts the next ones, or returns false at the end.
  virtual bool next_stage(Messages& messages) = 0;

  std::shared_ptr<MpiGroup> group_;
  const int rank_;
  const int size_;
  int stage_ = 0;

 private:
  std::unique_ptr<Messages> messages_;
};

// all_reduce of a small buffer: everyone's whole buffer to everyone.
class SmallAllReduce : public MessageOperation {
 public:
  SmallAllReduce(std::shared_ptr<MpiGroup> group, const Call& call, void* data)
      : MessageOperation(std::move(group), call),
        data_(data),
        bytes_(static_cast<size_t>(call.count) * size_of(call.dtype)) {}

  // All messages are of its own memory.
  bool uses_buffers() const override { return false; }

 protected:
  bool next_stage(Messages& messages) override {
    if (stage_++ == 0) {
      // The own part is copied too: `data` is overwritten only when all have what they need, but sends read it until
      // then.
      scratch_.resize(bytes_ * static_cast<size_t>(size_));
      if (bytes_ > 0) std::memcpy(slot(rank_), data_, bytes_);
      for (int i = 1; i < size_; ++i) {
        const int from = neighbour(rank_, size_ - i, size_);
        messages.receive(slot(from), bytes_, from, tag_of(call_, 0));
      }
      for (int i = 1; i < size_; ++i) messages.send(slot(rank_), bytes_, neighbour(rank_, i, size_), tag_of(call_, 0));
      return true;
    }
    std::vector<const void*> sources;
    for (int rank = 0; rank < size_; ++rank) sources.push_back(slot(rank));
    reduce_in_order(call_.dtype, call_.reduction, sources, call_.count, data_);
    return false;
  }

 private:
  char* slot(int rank) { return scratch_.data() + static_cast<size_t>(rank) * bytes_; }
  void* data_;
  size_t bytes_;
  std::vector<char> scratch_;
};

// Scratch that is not written before the messages arrive (a vector would zero it).
struct Scratch {
  std::unique_ptr<char[]> data;
  size_t bytes = 0;
  char* reserve(size_t wanted) {
    if (wanted > bytes) {
      data.reset(new char[wanted]);
      bytes = wanted;
    }
    return data.get();
  }
};

// Receives the others' shares of this rank's part and sums them, own share in its place.
class PartSum {
 public:
  void receive(Messages& messages, int rank, int size, int64_t elements, Dtype dtype, int tag) {
    stride_ = static_cast<size_t>(elements) * size_of(dtype);
    scratch_.reserve(stride_ * static_cast<size_t>(size));
    for (int i = 1; i < size; ++i) {
      const int from = neighbour(rank, size - i, size);
      messages.receive(slot(from), stride_, from, tag);
    }
  }
  void sum(const Call& call, const void* own, int rank, int size, int64_t elements, void* out) {
    std::vector<const void*> sources;
    for (int from = 0; from < size; ++from) sources.push_back(from == rank ? own : slot(from));
    reduce_in_order(call.dtype, call.reduction, sources, elements, out);
  }

 private:
  char* slot(int rank) { return scratch_.data.get() + static_cast<size_t>(rank) * stride_; }
  Scratch scratch_;
  size_t stride_ = 0;
};

class LargeAllReduce : public MessageOperation {
 public:
  LargeAllReduce(std::shared_ptr<MpiGroup> group, const Call& call, void* data)
      : MessageOperation(std::move(group), call),
        data_(data),
        piece_(static_cast<int64_t>(kPieceBytes / size_of(call.dtype))) {}

 protected:
  // Stages: 2k scatters the shares of piece k, 2k + 1 sums and gathers it.
  bool next_stage(Messages& messages) override {
    const int64_t begin = stage_ / 2 * piece_;
    if (begin >= call_.count) return false;
    const int64_t elements = std::min(piece_, call_.count - begin);
    char* piece = at(data_, begin, call_.dtype);
    const Part own = part_of(elements, rank_, size_);
    char* own_data = at(piece, own.begin, call_.dtype);
    const size_t own_bytes = static_cast<size_t>(own.size()) * size_of(call_.dtype);
    const bool scatters = stage_ % 2 == 0;
    const int tag = tag_of(call_, stage_++ % 2);
    if (scatters) {
      sum_.receive(messages, rank_, size_, own.size(), call_.dtype, tag);
    } else {
      sum_.sum(call_, own_data, rank_, size_, own.size(), own_data);
    }
    for (int i = 1; i < size_; ++i) {
      const int to = neighbour(rank_, i, size_);
      const Part part = part_of(elements, to, size_);
      char* data = at(piece, part.begin, call_.dtype);
      const size_t bytes = static_cast<size_t>(part.size()) * size_of(call_.dtype);
      if (scatters) {
        messages.send(data, bytes, to, tag);
      } else {
        messages.receive(data, bytes, to, tag);
        messages.send(own_data, own_bytes, to, tag);
      }
    }
    return true;
  }

 private:
  void* data_;
  int64_t piece_;
  PartSum sum_;
};

class ReduceScatter : public MessageOperation {
 public:
  ReduceScatter(std::shared_ptr<MpiGroup> group, const Call& call, const void* send, void* receive)
      : MessageOperation(std::move(group), call), send_(send), receive_(receive) {
    piece_ = std::max<int64_t>(kGrain, static_cast<int64_t>(kPieceBytes / size_of(call.dtype)) / size_);
  }

 protected:
  bool next_stage(Messages& messages) override {
    if (stage_ > 0) {
      const int64_t begin = (stage_ - 1) * piece_;
      const int64_t elements = std::min(piece_, call_.count - begin);
      sum_.sum(call_, at(send_, rank_ * call_.count + begin, call_.dtype), rank_, size_, elements,
               at(receive_, begin, call_.dtype));
    }
    const int64_t begin = stage_++ * piece_;
    if (begin >= call_.count) return false;
    const int64_t elements = std::min(piece_, call_.count - begin);
    sum_.receive(messages, rank_, size_, elements, call_.dtype, tag_of(call_, 0));
    for (int i = 1; i < size_; ++i) {
      const int to = neighbour(rank_, i, size_);
      messages.send(at(send_, to * call_.count + begin, call_.dtype),
                    static_cast<size_t>(elements) * size_of(call_.dtype), to, tag_of(call_, 0));
    }
    return true;
  }

 private:
  const void* send_;
  void* receive_;
  int64_t piece_;
  PartSum sum_;
};

class Exchange : public MessageOperation {
 public:
  Exchange(std::shared_ptr<MpiGroup> group, const Call& call, const void* send, std::vector<size_t> send_bytes,
           void* receive, std::vector<size_t> receive_bytes, bool same_to_all)
      : MessageOperation(std::move(group), call),
        send_(static_cast<const char*>(send)),
        receive_(static_cast<char*>(receive)),
        send_bytes_(std::move(send_bytes)),
        receive_bytes_(std::move(receive_bytes)),
        send_begin_(send_bytes_.size(), 0),
        receive_begin_(receive_bytes_.size(), 0) {
    if (!same_to_all) std::exclusive_scan(send_bytes_.begin(), send_bytes_.end(), send_begin_.begin(), size_t{0});
    std::exclusive_scan(receive_bytes_.begin(), receive_bytes_.end(), receive_begin_.begin(), size_t{0});
  }

 protected:
  bool next_stage(Messages& messages) override {
    if (stage_++ > 0) return false;
    for (int i = 1; i < size_; ++i) {
      const auto from = static_cast<size_t>(neighbour(rank_, size_ - i, size_));
      messages.receive(receive_ + receive_begin_[from], receive_bytes_[from], static_cast<int>(from), tag_of(call_, 0));
    }
    for (int i = 1; i < size_; ++i) {
      const auto to = static_cast<size_t>(neighbour(rank_, i, size_));
      messages.send(send_ + send_begin_[to], send_bytes_[to], static_cast<int>(to), tag_of(call_, 0));
    }
    const auto own = static_cast<size_t>(rank_);
    const char* from = send_ + send_begin_[own];
    char* to = receive_ + receive_begin_[own];
    if (send_bytes_[own] > 0 && from != to) std::memmove(to, from, send_bytes_[own]);
    return true;
  }

 private:
  const char* send_;
  char* receive_;
  std::vector<size_t> send_bytes_;
  std::vector<size_t> receive_bytes_;
  std::vector<size_t> send_begin_;
  std::vector<size_t> receive_begin_;
};

class Broadcast : public MessageOperation {
 public:
  Broadcast(std::shared_ptr<MpiGroup> group, const Call& call, void* data)
      : MessageOperation(std::move(group), call),
        data_(data),
        bytes_(static_cast<size_t>(call.count) * size_of(call.dtype)) {}

 protected:
  bool next_stage(Messages& messages) override {
    const int place = (rank_ - call_.peer + size_) % size_;  // the root has place 0
    int parent_bit = 1;
    while (parent_bit < size_ && (place & parent_bit) == 0) parent_bit *= 2;
    if (stage_ == 0 && place == 0) ++stage_;
    if (stage_ == 0) messages.receive(data_, bytes_, (place - parent_bit + call_.peer) % size_, tag_of(call_, 0));
    if (stage_ == 1) {
      for (int bit = parent_bit / 2; bit > 0; bit /= 2) {
        if (place + bit < size_) messages.send(data_, bytes_, (place + bit + call_.peer) % size_, tag_of(call_, 0));
      }
    }
    return stage_++ < 2;
  }

 private:
  void* data_;
  size_t bytes_;
};

class CallCheck : public MessageOperation {
 public:
  CallCheck(std::shared_ptr<MpiGroup> group, const Call& call, std::function<void(const std::string&)> different)
      : MessageOperation(std::move(group), call), different_(std::move(different)), own_(record_of(call)) {}

  // All messages are of its own memory.
  bool uses_buffers() const override { return false; }

 protected:
  bool next_stage(Messages& messages) override {
    const int previous = neighbour(rank_, size_ - 1, size_);
    if (stage_++ == 0) {
      messages.receive(&other_, sizeof(other_), previous, kCallCheckTag);
      messages.send(&own_, sizeof(own_), neighbour(rank_, 1, size_), kCallCheckTag);
      return true;
    }
    const std::vector<int>& world = group_->world_ranks();
    if (!same_call(own_, other_)) {
      different_(disagreement(world[static_cast<size_t>(rank_)], own_, world[static_cast<size_t>(previous)], other_));
    }
    return false;
  }

 private:
  std::function<void(const std::string&)> different_;
  CallRecord own_;
  CallRecord other_;
};

class GatherText : public MessageOperation {
 public:
  GatherText(std::shared_ptr<MpiGroup> group, const Call& call, std::shared_ptr<std::vector<std::string>> texts)
      : MessageOperation(std::move(group), call), texts_(std::move(texts)), lengths_(static_cast<size_t>(size_)) {
    lengths_[static_cast<size_t>(rank_)] = (*texts_)[static_cast<size_t>(rank_)].size();
  }

  // All messages are of its own memory.
  bool uses_buffers() const override { return false; }

 protected:
  bool next_stage(Messages& messages) override {
    if (stage_ == 2) return false;
    std::string& own = (*texts_)[static_cast<size_t>(rank_)];
    uint64_t& own_length = lengths_[static_cast<size_t>(rank_)];
    for (int i = 1; i < size_; ++i) {
      const int peer = neighbour(rank_, i, size_);
      uint64_t& length = lengths_[static_cast<size_t>(peer)];
      std::string& text = (*texts_)[static_cast<size_t>(peer)];
      if (stage_ == 0) {
        messages.receive(&length, sizeof(length), peer, tag_of(call_, 0));
        messages.send(&own_length, sizeof(own_length), peer, tag_of(call_, 0));
      } else {
        text.resize(length);
        messages.receive(text.data(), length, peer, tag_of(call_, 1));
        messages.send(own.data(), own.size(), peer, tag_of(call_, 1));
      }
    }
    ++stage_;
    return true;
  }

 private:
  std::shared_ptr<std::vector<std::string>> texts_;
  std::vector<uint64_t> lengths_;
};

}  // namespace

Part part_of(int64_t elements, int rank, int ranks) {
  const Range range = split(elements, rank, ranks, kGrain);
  return {range.begin, range.end};
}

std::unique_ptr<StagedOperation> make_message_all_reduce(std::shared_ptr<MpiGroup> group, const Call& call,
                                                         void* data) {
  if (static_cast<size_t>(call.count) * size_of(call.dtype) <= kSmallBytes) {
    return std::make_unique<SmallAllReduce>(std::move(group), call, data);
  }
  return std::make_unique<LargeAllReduce>(std::move(group), call, data);
}

std::unique_ptr<StagedOperation> make_message_reduce_scatter(std::shared_ptr<MpiGroup> group, const Call& call,
                                                             const void* send, void* receive) {
  return std::make_unique<ReduceScatter>(std::move(group), call, send, receive);
}

std::unique_ptr<StagedOperation> make_message_exchange(std::shared_ptr<MpiGroup> group, const Call& call,
                                                       const void* send, std::vector<size_t> send_bytes, void* receive,
                                                       std::vector<size_t> receive_bytes, bool same_to_all) {
  return std::make_unique<Exchange>(std::move(group), call, send, std::move(send_bytes), receive,
                                    std::move(receive_bytes), same_to_all);
}

std::unique_ptr<StagedOperation> make_message_broadcast(std::shared_ptr<MpiGroup> group, const Call& call, void* data) {
  return std::make_unique<Broadcast>(std::move(group), call, data);
}

std::unique_ptr<StagedOperation> make_message_call_check(std::shared_ptr<MpiGroup> group, const Call& call,
                                                         std::function<void(const std::string&)> different) {
  return std::make_unique<CallCheck>(std::move(group), call, std::move(different));
}

std::unique_ptr<StagedOperation> make_message_gather_text(std::shared_ptr<MpiGroup> group, const Call& call,
                                                          std::shared_ptr<std::vector<std::string>> texts) {
  return std::make_unique<GatherText>(std::move(group), call, std::move(texts));
}

}  // namespace cadre::parallel
