#pragma once
// How rows get from the ranks of an expert group to each other.

#include <memory>
#include <vector>

#include "core/memory/allocator.h"
#include "parallel/comm/communicator.h"

namespace cadre::parallel {

// How many rows each rank sends to each, known to all ranks.
class RowTraffic {
 public:
  explicit RowTraffic(int ranks) : ranks_(ranks), rows_(static_cast<size_t>(ranks) * static_cast<size_t>(ranks), 0) {}
  int ranks() const { return ranks_; }
  int64_t& rows(int from, int to) { return rows_[static_cast<size_t>(from * ranks_ + to)]; }
  int64_t rows(int from, int to) const { return rows_[static_cast<size_t>(from * ranks_ + to)]; }
  std::vector<int64_t> sent_by(int rank) const;      // to each rank
  std::vector<int64_t> received_by(int rank) const;  // from each rank
  RowTraffic reversed() const;

 private:
  int ranks_;
  std::vector<int64_t> rows_;
};

class RowTransport {
 public:
  virtual ~RowTransport() = default;
  // send: this rank's rows sorted by receiver; receive: those of all ranks for it, sorted by sender. Collective, with
  // rows or without. Buffers must stay alive and untouched until the work is done.
  virtual WorkPtr start(Allocator& allocator, TensorView send, TensorView receive, const RowTraffic& traffic,
                        CollectiveLabel label) const = 0;
};

// Rows go where they are wanted.
std::unique_ptr<RowTransport> make_all_to_all_transport(Communicator& communicator);
// All rows go everywhere, padded to the most that one rank sends, and each rank takes what is for it: more traffic and
// memory, and nothing that could go astray.
std::unique_ptr<RowTransport> make_all_gather_transport(Communicator& communicator);

}  // namespace cadre::parallel
