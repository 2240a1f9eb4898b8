#pragma once
// Who sends what to whom so that the holders' contributions to some segments meet at the owners: pure arithmetic. The
// same exchange backwards takes results from the owners to the holders.

#include <cstdint>
#include <vector>

#include "parallel/data/ownership.h"

namespace cadre::parallel {

// A segment as every rank of a communicator sees it, but for its places, which are those of this rank.
struct HeldSegment {
  int64_t elements = 0;
  int64_t first_piece = 0;   // ownership.h
  std::vector<int> holders;  // ranks of the communicator, ascending
  int64_t offset = 0;        // elements from its parameter's start, where this rank holds it
  int64_t shard_offset = 0;  // of what this rank owns of it, in what is kept of owned parts only
};

// A segment's places in this rank's storage.
struct SegmentPlace {
  const HeldSegment* segment = nullptr;
  int64_t value = 0;     // elements into the flat values, and
  int64_t gradient = 0;  // into the gradients
};

struct ExchangePlan {
  // A part of a segment that another rank owns.
  struct Sent {
    int64_t value = 0, gradient = 0;
    int64_t elements = 0;
  };
  // A part that this rank owns.
  struct Owned {
    int64_t value = 0, gradient = 0, shard = 0;
    int64_t elements = 0;
    std::vector<int64_t> received;  // by holder: where its contribution arrives, in elements; -1: it is this rank's own
  };
  std::vector<Sent> sent;  // in the order of the buffer: by destination, then by segment
  std::vector<Owned> owned;
  std::vector<int64_t> send_elements, receive_elements;  // to and from each rank

  int64_t sent_elements() const;
  int64_t received_elements() const;
};

// Every rank of the communicator passes the same segments in the same order.
ExchangePlan plan_exchange(const std::vector<SegmentPlace>& segments, int rank, int ranks);

}  // namespace cadre::parallel
